//! Which ways to boot a disk will have, and why not others.

use super::{extlinux, files, grub, uefi};
use crate::disk::volumes::{Volume, Volumes, is_within};
use crate::disk::{Firmware, stack};
use crate::wishes::BootWish;
use anyhow::{Context, bail};
use pitstop_imaging::efi::Loader;
use pitstop_imaging::layout::{Layout, Placed};
use pitstop_imaging::table::TableKind;
use pitstop_imaging::tools;
use pitstop_trees::TreeImage;
use std::fmt;
use std::ops::Range;

/// What the BIOS is to start.
pub enum Bios {
    /// The tree's own GRUB, as it is.
    Grub(grub::Images),
    /// GRUB, whose `core.img` is made anew by the tree's own programs.
    GrubMade { grub: Grub, maker: Maker },
    /// By its own program, into the folder of its configuration; and the code that starts its partition.
    Extlinux { folder: String, code: Vec<u8> },
}

/// A GRUB of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grub {
    /// `/boot/grub`
    pub folder: String,
    /// The filesystem that the folder is on, and its partition.
    pub filesystem: String,
    pub uuid: String,
    /// Of its partition, where it is on one.
    pub number: Option<u32>,
    /// For messages: `partition 2`, `volume vg0/root`.
    pub place: String,
    /// What it takes to read that beside the filesystem.
    pub modules: Vec<&'static str>,
    /// Where the folder is on that filesystem: `/grub` if that is mounted at `/boot`.
    pub within: String,
}

/// What makes a `core.img`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maker {
    /// A path in the tree.
    pub program: &'static str,
    /// What it needs to read the disk, the table and the filesystem.
    pub modules: Vec<&'static str>,
}

/// What UEFI is to start from one EFI system partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uefi {
    /// Where the tree has it: `/boot/efi`.
    pub mount: String,
    pub partition: u32,
    pub found: uefi::Found,
    pub entry: Option<Loader>,
}

/// All ways to boot.
#[derive(Default)]
pub struct Ways {
    pub bios: Option<Bios>,
    pub uefi: Vec<Uefi>,
    /// Why the others are none, a sentence each.
    pub why_not: Vec<String>,
}

/// What is judged.
pub struct Case<'a> {
    pub image: &'a TreeImage<'a>,
    /// The layout of the disk that the tree was captured from.
    pub own: Option<&'a Layout>,
    pub volumes: &'a Volumes,
    pub placed: &'a Placed,
    pub firmware: Firmware,
    pub wish: BootWish,
    /// Whether the disk is a file: GRUB's own programs make no entries for what is on a loop device.
    pub is_file: bool,
}

/// Where distributions have GRUB's folder.
const GRUB: [&str; 2] = ["/boot/grub", "/boot/grub2"];
pub const BIOS_GRUB: &str = "i386-pc";
/// Where packages have what `core.img` is made of.
pub const MODULES: &str = "/usr/lib/grub/i386-pc";
const MAKERS: [&str; 2] = ["/usr/bin/grub-mkimage", "/usr/bin/grub2-mkimage"];
/// Where extlinux has its configuration.
const EXTLINUX: [&str; 4] = ["/boot/extlinux", "/extlinux", "/boot/syslinux", "/syslinux"];

/// Finds the ways in which the disk will boot.
///
/// # Errors
/// When there is none for the firmware, with the reasons.
pub fn judge(case: &Case) -> anyhow::Result<Ways> {
    let mut ways = Ways::default();
    if case.wish == BootWish::None {
        return Ok(ways);
    }
    if case.firmware != Firmware::Uefi {
        match bios(case)? {
            Ok(bios) => ways.bios = Some(bios),
            Err(why) => ways.why_not.push(format!("by BIOS: {why}")),
        }
    }
    if case.firmware != Firmware::Bios {
        match of_uefi(case)? {
            Ok(uefi) => ways.uefi = uefi,
            Err(why) => ways.why_not.push(format!("by UEFI: {why}")),
        }
    }
    if ways.bios.is_none() && ways.uefi.is_empty() {
        bail!(
            "the disk would not boot. {} (boot = \"none\" leaves booting to you)",
            ways.why_not.join(". ")
        );
    }
    Ok(ways)
}

/// A way, or why it is none, for people.
type Judged<T> = Result<T, String>;

fn bios(case: &Case) -> anyhow::Result<Judged<Bios>> {
    let image = case.image;
    let extlinux = EXTLINUX.iter().find(|folder| {
        files::has(image, &format!("{folder}/ldlinux.sys"))
            || files::has(image, &format!("{folder}/extlinux.conf"))
    });
    let grub = grub_for_bios(case)?;
    match (grub, extlinux) {
        (Ok(bios), _) => Ok(Ok(bios)),
        (Err(why), None) => Ok(Err(why)),
        (Err(_), Some(folder)) => extlinux_from(case, folder),
    }
}

fn grub_for_bios(case: &Case) -> anyhow::Result<Judged<Bios>> {
    let image = case.image;
    let has = |path: &str| files::has(image, path);
    let installed = |folder: &&&str| has(&format!("{folder}/{BIOS_GRUB}/core.img"));
    let found = GRUB.iter().find(installed);
    // A package that was never installed on a disk: its folder is Debian's where it is neither's.
    let packaged = has(&format!("{MODULES}/kernel.img"));
    let of_package = || GRUB.iter().find(|folder| has(folder)).unwrap_or(&GRUB[0]);
    let Some(folder) = found.or_else(|| packaged.then(of_package)) else {
        return Ok(Err(
            "the tree has no GRUB for BIOS in /boot/grub/i386-pc".into()
        ));
    };
    let grub = grub_of(case, folder)?;
    let core = match room_for_core(case.placed) {
        Ok(core) => core,
        Err(why) => return Ok(Err(why)),
    };
    let why = match as_it_is(case, &grub, &core)? {
        Ok(images) if case.wish != BootWish::Chroot => {
            return Ok(Ok(Bios::Grub(images)));
        }
        Ok(_) => String::new(),
        Err(why) => why,
    };
    if case.wish == BootWish::Native {
        return Ok(Err(why));
    }
    let architecture = &image.meta.architecture;
    if !architecture.is_empty() && !runs_here(architecture) {
        return Ok(Err(format!(
            "{why}, and programs for {architecture} do not run here"
        )));
    }
    let program = MAKERS.iter().find(|program| has(program));
    let Some(program) = program.filter(|_| has(&format!("{MODULES}/kernel.img"))) else {
        return Ok(Err(format!(
            "{why}, and the tree has no grub-mkimage and {MODULES} to make it anew"
        )));
    };
    let configured = has(&format!("{}/grub.cfg", grub.folder));
    if case.is_file && !configured {
        return Ok(Err(format!(
            "the tree has no {}/grub.cfg, and grub-mkconfig makes none for a disk in a file",
            grub.folder
        )));
    }
    let maker = maker(program, case.placed.table, &grub);
    Ok(Ok(Bios::GrubMade { grub, maker }))
}

fn maker(program: &'static str, table: TableKind, grub: &Grub) -> Maker {
    let of_table = match table {
        TableKind::Gpt => "part_gpt",
        TableKind::Mbr | TableKind::None => "part_msdos",
    };
    let of_filesystem = match grub.filesystem.as_str() {
        "xfs" => "xfs",
        "btrfs" => "btrfs",
        "vfat" => "fat",
        _ => "ext2",
    };
    let mut modules = vec!["biosdisk", of_table, of_filesystem, "search_fs_uuid"];
    modules.extend(&grub.modules);
    Maker { program, modules }
}

/// Whether this computer runs programs for processors `architecture`.
pub fn runs_here(architecture: &str) -> bool {
    let here = std::env::consts::ARCH;
    here == architecture || (here, architecture) == ("x86_64", "i686")
}

fn grub_of(case: &Case, folder: &str) -> anyhow::Result<Grub> {
    let volumes = case.volumes;
    let volume = volumes.of(folder).context("the root is a volume")?;
    Ok(Grub {
        folder: folder.to_owned(),
        within: within(folder, &volume.mount, &volume.subvolume),
        uuid: volumes.entry(volume).uuid.clone(),
        number: volumes.number(volume.index)?,
        place: volumes.shown(volume.index)?,
        modules: stack::grub_modules(volumes.slot(volume.index).0),
        filesystem: volumes.filesystem(volume).to_owned(),
    })
}

/// Where a path of the system is on its own filesystem, as GRUB sees it: with the subvolume.
fn within(path: &str, mount: &str, subvolume: &str) -> String {
    let rest = path.strip_prefix(mount.trim_end_matches('/'));
    let rest = rest.unwrap_or(path);
    match subvolume.trim_matches('/') {
        "" => rest.to_owned(),
        subvolume => format!("/{subvolume}{rest}"),
    }
}

/// Why GRUB's configuration looks for kernels elsewhere than they are: in `/boot` of the root, or of a filesystem of its own.
///
/// # Errors
/// When the layout has no root.
pub fn moved(case: &Case) -> anyhow::Result<Option<String>> {
    let has = |folder: &&&str| files::has(case.image, &format!("{folder}/grub.cfg"));
    let Some(folder) = GRUB.iter().find(has) else {
        return Ok(None);
    };
    let filesystems = case.image.meta.filesystems.iter();
    let holding = filesystems.filter(|filesystem| is_within(folder, &filesystem.mount));
    let Some(holding) = holding.max_by_key(|filesystem| filesystem.mount.len()) else {
        return Ok(None);
    };
    let was = within(folder, &holding.mount, &holding.subvolume);
    let is = grub_of(case, folder)?.within;
    let why = || format!("{folder}/grub.cfg was {was} on its filesystem, and is {is} here");
    Ok((was != is).then(why))
}

/// GRUB's images of the tree, if they find on this disk what they find on their own: `core.img` holds the number of a partition, and
/// what it needs to read the table and the filesystem.
fn as_it_is(case: &Case, grub: &Grub, core: &Range<u64>) -> anyhow::Result<Judged<grub::Images>> {
    let image = case.image;
    if grub.number.is_none() {
        return Ok(Err(format!(
            "{} is on {} here, which its GRUB does not know",
            grub.folder, grub.place
        )));
    }
    let of = |name| files::read(image, &format!("{}/{BIOS_GRUB}/{name}", grub.folder));
    let (Some(boot), Some(program)) = (of("boot.img")?, of("core.img")?) else {
        return Ok(Err("its GRUB was never installed on a disk".into()));
    };
    let images = match grub::Images::new(boot, program) {
        Ok(images) => images,
        Err(why) => return Ok(Err(why.to_string())),
    };
    if images.core_size() > core.end - core.start {
        return Ok(Err(format!(
            "its core.img has {} bytes, and there is room for {}",
            images.core_size(),
            core.end - core.start
        )));
    }
    let Some(own) = case.own else {
        return Ok(Err(
            "the image does not say which disk its GRUB was installed on".into(),
        ));
    };
    if own.table != case.placed.table {
        return Ok(Err(format!(
            "its GRUB was installed on a disk with a {} table, and this one gets {}",
            own.table.name(),
            case.placed.table.name()
        )));
    }
    let filesystems = image.meta.filesystems.iter();
    let holding = filesystems.filter(|filesystem| is_within(&grub.folder, &filesystem.mount));
    let Some(holding) = holding.max_by_key(|filesystem| filesystem.mount.len()) else {
        return Ok(Err("the image does not say what its GRUB was on".into()));
    };
    let numbers = own.numbers().context("the image's layout")?;
    let same = |uuid: &str| !uuid.is_empty() && uuid.eq_ignore_ascii_case(&holding.uuid);
    let before = numbers.iter().find(|(_, entry)| same(&entry.uuid));
    let Some((before, _)) = before else {
        return Ok(Err(format!(
            "{} was on no partition of the disk that its GRUB was installed on",
            grub.folder
        )));
    };
    if Some(*before) != grub.number {
        return Ok(Err(format!(
            "its GRUB looks for {} on partition {before}, and it is on {} here",
            grub.folder, grub.place
        )));
    }
    if holding.kind != grub.filesystem {
        return Ok(Err(format!(
            "its GRUB reads {}, and {} is on {} here",
            holding.kind, grub.folder, grub.filesystem
        )));
    }
    let was = within(&grub.folder, &holding.mount, &holding.subvolume);
    if was != grub.within {
        return Ok(Err(format!(
            "its GRUB looks for {was} on partition {before}, and {} is {} there now",
            grub.folder, grub.within
        )));
    }
    Ok(Ok(images))
}

/// Where `core.img` goes: a BIOS boot partition of a GPT; of an MBR, what is free before the first partition.
pub fn room_for_core(placed: &Placed) -> Judged<Range<u64>> {
    if placed.sector != grub::SECTOR {
        return Err(no_bios(placed.sector));
    }
    if placed.table == TableKind::Gpt {
        let mut all = placed.places.iter();
        let found = all.find(|place| place.entry.kind == "bios-boot");
        return found.map(pitstop_imaging::layout::Place::range).ok_or(
            "GRUB needs a partition of type bios-boot on a GPT, and the layout has none".into(),
        );
    }
    let first = placed.places.iter().map(|place| place.start).min();
    Ok(grub::SECTOR..first.unwrap_or(placed.disk))
}

fn extlinux_from(case: &Case, folder: &str) -> anyhow::Result<Judged<Bios>> {
    let volume = case.volumes.of(folder).context("the root is a volume")?;
    let filesystem = case.volumes.filesystem(volume);
    if !matches!(filesystem, "ext2" | "ext3" | "ext4" | "btrfs" | "xfs") {
        return Ok(Err(format!("extlinux does not start from {filesystem}")));
    }
    if case.placed.sector != grub::SECTOR {
        return Ok(Err(no_bios(case.placed.sector)));
    }
    if case.volumes.number(volume.index)?.is_none() {
        return Ok(Err(format!(
            "extlinux starts from a partition, and {folder} is on {}",
            case.volumes.shown(volume.index)?
        )));
    }
    let (name, flag) = extlinux::code_and_flag(case.placed.table);
    let entry = case.volumes.entry(volume);
    if !entry.flags.iter().any(|set| set == flag) {
        return Ok(Err(format!(
            "extlinux is started from the partition with the flag {flag:?}, and that of {folder} has it not"
        )));
    }
    if let Err(why) = tools::find(extlinux::PROGRAM) {
        return Ok(Err(why.to_string()));
    }
    for place in extlinux::CODE_FOLDERS {
        if let Some(code) = files::read(case.image, &format!("{place}/{name}"))?
            && code.len() <= extlinux::CODE_MOST
        {
            let folder = folder.to_owned();
            return Ok(Ok(Bios::Extlinux { folder, code }));
        }
    }
    Ok(Err(format!(
        "the tree has no {name} of syslinux in {}",
        extlinux::CODE_FOLDERS.join(", ")
    )))
}

fn no_bios(sector: u64) -> String {
    format!("no BIOS boots a disk with sectors of {sector} bytes")
}

fn of_uefi(case: &Case) -> anyhow::Result<Judged<Vec<Uefi>>> {
    let mut ways = Vec::new();
    let mut why =
        "the layout has no EFI system partition that the tree uses (type efi, vfat)".to_owned();
    for volume in &case.volumes.all {
        if case.volumes.filesystem(volume) != "vfat" || case.volumes.entry(volume).kind != "efi" {
            continue;
        }
        match on_partition(case, volume)? {
            Ok(way) => ways.push(way),
            Err(reason) => why = reason,
        }
    }
    Ok(if ways.is_empty() { Err(why) } else { Ok(ways) })
}

fn on_partition(case: &Case, volume: &Volume) -> anyhow::Result<Judged<Uefi>> {
    let meta = &case.image.meta;
    let loaders = meta.boot.as_ref().map(|boot| boot.loaders.as_slice());
    let on_it = |loader: &&String| is_within(loader, &volume.mount);
    let files: Vec<String> = loaders
        .unwrap_or_default()
        .iter()
        .filter(on_it)
        .map(|loader| {
            loader[volume.mount.len()..]
                .trim_start_matches('/')
                .to_owned()
        })
        .collect();
    let found = uefi::look(&files, &meta.architecture);
    if found.main.is_none() && !found.has_fallback {
        return Ok(Err(format!(
            "there is no loader for {} in {}/EFI of the tree",
            if meta.architecture.is_empty() {
                "its processors"
            } else {
                &meta.architecture
            },
            volume.mount.trim_end_matches('/')
        )));
    }
    if let Some(why) = lost_grub(case, volume, &files)? {
        return Ok(Err(why));
    }
    let partition = case.volumes.number(volume.index)?;
    let partition = partition.context("an EFI system partition that is none")?;
    let name = match &meta.os {
        Some(os) if !os.id.is_empty() => os.id.clone(),
        _ => "Linux".into(),
    };
    let entry = found
        .main
        .as_deref()
        .map(|main| uefi::entry(main, partition, &name));
    Ok(Ok(Uefi {
        mount: volume.mount.clone(),
        partition,
        found,
        entry,
    }))
}

/// Why a GRUB on the EFI system partition would not find its own files.
fn lost_grub(case: &Case, esp: &Volume, loaders: &[String]) -> anyhow::Result<Option<String>> {
    let folder = GRUB
        .iter()
        .find(|folder| files::has(case.image, &format!("{folder}/grub.cfg")));
    let Some(folder) = folder else {
        return Ok(None);
    };
    let Grub {
        number,
        place,
        modules,
        ..
    } = grub_of(case, folder)?;
    for loader in loaders {
        let name = loader.rsplit('/').next().unwrap_or(loader);
        let is_named = name.to_ascii_lowercase().starts_with("grub");
        // Alone in EFI/BOOT it has another name. Without modules that it needs it finds nothing, signed or not.
        if !is_named && modules.is_empty() {
            continue;
        }
        let path = format!("{}/{loader}", esp.mount.trim_end_matches('/'));
        let program = files::read(case.image, &path)?.unwrap_or_default();
        if !is_named && !grub::is_grub(&program) {
            continue;
        }
        if let Some(why) = uefi::lost(&program, number, &place, &modules) {
            return Ok(Some(format!("{path}: {why}")));
        }
    }
    Ok(None)
}

impl fmt::Display for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        match &self.bios {
            Some(Bios::Grub(_)) => lines.push("by BIOS: the tree's GRUB, as it is".to_owned()),
            Some(Bios::GrubMade { grub, .. }) => lines.push(format!(
                "by BIOS: GRUB, made anew by the tree's own programs to find {} on {}",
                grub.folder, grub.place
            )),
            Some(Bios::Extlinux { folder, .. }) => {
                lines.push(format!("by BIOS: extlinux, with {folder}"));
            }
            None => {}
        }
        for uefi in &self.uefi {
            let main = uefi.found.main.as_deref();
            lines.push(format!(
                "by UEFI: {} on partition {}{}",
                main.unwrap_or("EFI/BOOT"),
                uefi.partition,
                if uefi.found.copies.is_empty() {
                    ""
                } else {
                    ", copied to EFI/BOOT for firmware without an entry"
                }
            ));
        }
        if lines.is_empty() {
            lines.push("left to you".into());
        }
        f.write_str(&lines.join("\n  "))
    }
}
