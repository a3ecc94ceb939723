//! What will be done, judged before anything is written.

use super::configuration::{configuration, names, part_id};
use super::disks::{check_core, check_disks, check_nodes, disks, mirrors, placed, refuse_unused};
use super::drivers::check_initramfs;
use super::fit::fit;
use super::fstab::{Fstab, Part};
use super::mounts::{self, place_of};
use super::stack::{self, Stack};
use super::volumes::{Volume, Volumes, assign};
use super::{Deployment, fat_names, fat_room, limits, mount_points, room};
use crate::boot::files;
use crate::boot::judge::{Bios, Case, Ways, judge, runs_here};
use crate::identity;
use crate::new_ids::{self, Changed};
use crate::update::record;
use crate::{hooks, wishes};
use anyhow::{Context, bail, ensure};
use pitstop_imaging::disk::LoopDevice;
use pitstop_imaging::image::Feed;
use pitstop_imaging::layout::apply::{Changes, anew, check_free};
use pitstop_imaging::layout::stack::{EXTENT, On, sizes};
use pitstop_imaging::layout::{Entry, Layout, Place};
use pitstop_imaging::units;
use std::fmt;
use std::path::{Path, PathBuf};

/// What will be done, all of it checked. Its text is the dry run.
pub struct Plan<'a> {
    pub(super) deployment: Deployment<'a>,
    /// Who brings the image's members, if not the image alone.
    pub(super) feed: Option<&'a dyn Feed>,
    pub(super) changes: Changes,
    /// The other disks of the arrays, and what they get.
    pub(super) mirrors: Vec<(PathBuf, Changes)>,
    pub(super) volumes: Volumes,
    /// Arrays, LUKS and volumes on the partitions.
    pub(super) stack: Stack,
    pub(super) ways: Ways,
    /// The tree's own, as it is.
    pub(super) fstab: Fstab,
    /// Identifiers of the tree's filesystems that are others on this disk.
    pub(super) renamed: Vec<Changed>,
    /// What the boot configuration says, and is made anew for.
    pub(super) wrong: Vec<String>,
    /// What may be wrong on another machine.
    pub(super) notes: Vec<String>,
}

/// Judges everything that can be judged. Writes nothing.
///
/// # Errors
/// When it cannot be done, with the reason: the layout does not fit, a program is missing, there is no room, nothing would
/// boot.
pub fn plan(deployment: Deployment<'_>) -> anyhow::Result<Plan<'_>> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "deploying a tree needs root: filesystems are mounted, and files get their owners"
    );
    let image = deployment.image;
    let fstab = Fstab::parse(&files::fstab(image)?);
    record::check_place(image)?;
    let own = own_layout(&deployment)?;
    let layout = match (&deployment.layout, &own) {
        (Some(layout), _) => layout.clone(),
        (None, Some(own)) => fit(own)?,
        (None, None) => bail!(no_layout(image.name(), &fstab)),
    };
    refuse_unused(&layout)?;
    check_disks(&deployment, &layout)?;
    let volumes = assign(layout, &image.meta, &fstab, deployment.new_ids)?;
    mount_points::check(&image.index, &volumes)?;
    let hooks_want = check_wishes(&deployment)?;
    stack::check_luks(&deployment, &volumes)?;
    check_kernel(&volumes, deployment.disk)?;
    mounts::check_compression(&volumes, &fstab)?;
    let changes = anew(&volumes.layout, deployment.disk)?;
    let mirrors = mirrors(&deployment, &volumes.layout)?;
    let disks = disks(deployment.disk, &changes, &mirrors);
    let sizes = sizes(&volumes.layout, &placed(&disks))?;
    stack::check_tree(&deployment, &volumes)?;
    let stack = stack::plan(&volumes.layout, &disks)?;
    let is_file = !mounts::is_device(deployment.disk)?;
    let shapes = room::shapes(&volumes, &sizes, changes.placed.sector)?;
    room::check(&image.index, &volumes, &sizes, &shapes)?;
    limits::check(&image.index, &volumes, &shapes)?;
    if is_file && !mounts::compresses(&volumes, &fstab) {
        room::check_file(deployment.disk, &image.index)?;
    }
    // They may take away what is in the way.
    let is_alone = deployment.overrides.is_empty() && deployment.hooks.is_empty();
    if is_alone {
        fat_names::check(&image.index, &volumes)?;
    }
    let case = Case {
        image,
        own: own.as_ref(),
        volumes: &volumes,
        placed: &changes.placed,
        firmware: deployment.firmware,
        wish: deployment.boot,
        is_file,
    };
    let ways = judge(&case)?;
    if is_alone {
        let sector = changes.placed.sector;
        fat_room::check(&image.index, &volumes, &sizes, &ways, sector)?;
    }
    check_core(&ways, &mirrors)?;
    let renamed = renamed(&deployment, own.as_ref(), &volumes)?;
    let (wrong, mut notes) = configuration(&case, &ways, &deployment, &renamed)?;
    notes.extend(hooks_want);
    check_programs(&deployment, &volumes, &ways, &renamed)?;
    let is_anew = !renamed.is_empty() || !wrong.is_empty();
    check_initramfs(&deployment, &volumes, is_anew)?;
    for (disk, changes) in &disks {
        check_free(changes, disk)?;
        check_nodes(disk)?;
    }
    Ok(Plan {
        deployment,
        feed: None,
        changes,
        mirrors,
        volumes,
        stack,
        ways,
        fstab,
        renamed,
        wrong,
        notes,
    })
}

/// The layout of the disk that the tree was captured from.
fn own_layout(deployment: &Deployment) -> anyhow::Result<Option<Layout>> {
    let Some(table) = &deployment.image.meta.layout else {
        return Ok(None);
    };
    let text = toml::to_string(table).context("the layout in the image")?;
    let layout = Layout::parse(&text)
        .with_context(|| format!("the layout in {}", deployment.image.name()))?;
    Ok(Some(layout))
}

fn no_layout(image: &str, fstab: &Fstab) -> String {
    let root = fstab.at("/").map_or("", |line| line.spec.as_str());
    let stacked = root.starts_with("/dev/mapper/") || root.starts_with("/dev/md");
    let why = if stacked {
        format!(": its root was on {root}")
    } else {
        String::new()
    };
    format!(
        "{image} does not say how its disk was laid out{why}. Say how this one is to be, with a layout"
    )
}

/// Returns what only may be wrong.
fn check_wishes(deployment: &Deployment) -> anyhow::Result<Vec<String>> {
    if let Some(name) = &deployment.hostname {
        identity::check_hostname(name)?;
    }
    deployment.hooks.iter().try_for_each(hooks::check)?;
    let has = |path: &str| files::has_program(deployment.image, path);
    hooks::check_programs(&deployment.hooks, !deployment.overrides.is_empty(), &has)
}

/// Whether the kernel that runs here mounts what is made.
fn check_kernel(volumes: &Volumes, disk: &Path) -> anyhow::Result<()> {
    for volume in &volumes.all {
        let (filesystem, mount) = (volumes.filesystem(volume), &volume.mount);
        if filesystem == "vfat" {
            continue;
        }
        mounts::check_kernel(filesystem)
            .with_context(|| format!("{mount} of the new system is to be {filesystem}"))?;
        let uuid = &volumes.entry(volume).uuid;
        // The kernel takes two of one UUID for two parts of the same filesystem.
        if filesystem == "btrfs" && Path::new("/sys/fs/btrfs").join(uuid).exists() {
            bail!(
                "a Btrfs with the UUID {uuid} is mounted on this computer, and {mount} is to have the same one: unmount it, or \
                 give the new system UUIDs of its own (new-ids)"
            );
        }
    }
    if mounts::is_device(disk)? {
        return Ok(());
    }
    LoopDevice::check().context("a disk in a file needs loop devices")
}

/// What names of the tree's filesystems are others on this disk.
fn renamed(
    deployment: &Deployment,
    own: Option<&Layout>,
    volumes: &Volumes,
) -> anyhow::Result<Vec<Changed>> {
    let mut renamed = Vec::new();
    let mut add = |from: &str, to: &str| {
        let differs = !from.is_empty() && !to.is_empty() && !from.eq_ignore_ascii_case(to);
        let is_known = |one: &Changed| one.from == from;
        // What is written in another form stands in other places.
        if differs && from.len() == to.len() && !renamed.iter().any(is_known) {
            renamed.push(Changed {
                from: from.to_owned(),
                to: to.to_owned(),
            });
        }
    };
    for filesystem in &deployment.image.meta.filesystems {
        if let Some(volume) = volumes.of(&filesystem.mount) {
            add(&filesystem.uuid, &volumes.entry(volume).uuid);
        }
    }
    let Some(own) = own.filter(|_| deployment.new_ids) else {
        return Ok(renamed);
    };
    let (before, after) = (own.numbers()?, volumes.layout.numbers()?);
    for (number, entry) in &before {
        let Some((_, new)) = after.iter().find(|(other, _)| other == number) else {
            continue;
        };
        add(&entry.uuid, &new.uuid);
        let id = |layout: &Layout, entry: &Entry| part_id(layout, *number, entry.id.as_deref());
        add(&id(own, entry), &id(&volumes.layout, new));
    }
    Ok(renamed)
}

/// Whether the tree's programs run here, where they are needed; whether new identifiers can be written where the old ones are.
fn check_programs(
    deployment: &Deployment,
    volumes: &Volumes,
    ways: &Ways,
    renamed: &[Changed],
) -> anyhow::Result<()> {
    let meta = &deployment.image.meta;
    let why = if !deployment.hooks.is_empty() {
        "hooks run"
    } else if matches!(ways.bios, Some(Bios::GrubMade { .. })) {
        "its GRUB is made anew"
    } else if deployment.initrd == wishes::Initrd::Rebuild {
        "its initramfs is made anew"
    } else if stack::holds_root(volumes) {
        "its initramfs is told of its arrays, LUKS and volumes"
    } else if !renamed.is_empty() {
        "its initramfs and boot configuration are made anew"
    } else {
        ""
    };
    if !why.is_empty() && !meta.architecture.is_empty() && !runs_here(&meta.architecture) {
        bail!(
            "{why} by the tree's own programs, and those for {} do not run here",
            meta.architecture
        );
    }
    let loaders = meta.boot.as_ref().map(|boot| boot.loaders.as_slice());
    for loader in loaders.unwrap_or_default() {
        if renamed.is_empty() {
            break;
        }
        let bytes = files::read(deployment.image, loader)?.unwrap_or_default();
        new_ids::check_program(loader, &bytes, renamed)?;
    }
    Ok(())
}

impl Plan<'_> {
    /// What fstab can name the new system's filesystems and swap space by.
    pub(super) fn parts(&self) -> anyhow::Result<Vec<Part>> {
        let volumes = &self.volumes;
        let mut parts = Vec::new();
        for volume in &volumes.all {
            parts.push(self.part(volume.index, Some(volume))?);
        }
        let given = self.deployment.layout.is_some();
        for (index, (_, entry)) in volumes.layout.slots().into_iter().enumerate() {
            if entry.filesystem.as_deref() == Some("swap") {
                let mut part = self.part(index, None)?;
                part.is_new = given;
                parts.push(part);
            }
        }
        Ok(parts)
    }

    fn part(&self, index: usize, volume: Option<&Volume>) -> anyhow::Result<Part> {
        let volumes = &self.volumes;
        let (_, entry) = volumes.slot(index);
        let mut names = names(volumes, index)?;
        // Of several disks each has its own: the system is to start with any of them.
        if !self.mirrors.is_empty() {
            names.part_id.clear();
        }
        Ok(Part {
            mount: volume
                .map(|volume| volume.mount.clone())
                .unwrap_or_default(),
            filesystem: entry.filesystem.clone().unwrap_or_default(),
            names,
            subvolume: volume
                .map(|volume| volume.subvolume.clone())
                .unwrap_or_default(),
            is_new: volume.is_some_and(|volume| volume.is_new),
        })
    }
}

impl Plan<'_> {
    /// All disks, the one that the others mirror first.
    pub(super) fn disks(&self) -> Vec<(&Path, &Changes)> {
        disks(self.deployment.disk, &self.changes, &self.mirrors)
    }

    /// What is on a slot, and where it is mounted.
    fn contents(&self, slot: usize) -> String {
        let here = self.volumes.all.iter().filter(|it| it.index == slot);
        let mounts: Vec<String> = here
            .map(|volume| match volume.subvolume.as_str() {
                "" => volume.mount.clone(),
                subvolume => format!("{} (subvolume {subvolume})", volume.mount),
            })
            .collect();
        let filesystem = self.volumes.slot(slot).1.filesystem.as_deref();
        let filesystem = filesystem.map(|it| format!(", {it}")).unwrap_or_default();
        if mounts.is_empty() {
            filesystem
        } else {
            format!("{filesystem}: {}", mounts.join(", "))
        }
    }

    /// A partition of the new table, with what is mounted of it.
    fn partition(&self, place: &Place) -> String {
        let is_it = |slot: &usize| {
            let number = self.volumes.number(*slot);
            number.is_ok_and(|number| number == Some(place.number))
        };
        let slot = (0..self.volumes.layout.partitions.len()).find(is_it);
        format!(
            "{} {}, {}{}",
            place.number,
            place.entry.kind,
            units::bytes(place.size),
            slot.map(|slot| self.contents(slot)).unwrap_or_default()
        )
    }

    /// Arrays, LUKS and volumes, a line each.
    fn made(&self) -> Vec<String> {
        let arrays = self.stack.arrays.iter().map(|array| {
            format!(
                "array {} of partition {} of each disk{}",
                array.name,
                array.partition,
                self.contents(array.slot)
            )
        });
        let volumes = self.stack.groups.iter().flat_map(|group| {
            let volumes = group.volumes.iter();
            volumes.map(|volume| {
                let bytes = volume.extents.saturating_mul(EXTENT);
                format!(
                    "volume {}/{}, {}{}",
                    group.name,
                    volume.name,
                    units::bytes(bytes),
                    self.contents(volume.slot)
                )
            })
        });
        let encrypted = self.stack.luks.iter().map(|luks| {
            let on = match &luks.on {
                On::Partition(number) => format!("partition {number}"),
                On::Name(name) => format!("array {name}"),
            };
            format!("LUKS {} on {on}{}", luks.name, self.contents(luks.slot))
        });
        arrays.chain(encrypted).chain(volumes).collect()
    }
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meta = &self.deployment.image.meta;
        let placed = &self.changes.placed;
        let disks: Vec<String> = self
            .disks()
            .iter()
            .map(|(disk, changes)| {
                let size = units::bytes(changes.placed.disk);
                format!("{} ({size})", disk.display())
            })
            .collect();
        writeln!(
            f,
            "{} onto {}: everything on {} is lost",
            self.deployment.image.name(),
            disks.join(" and "),
            if disks.len() == 1 { "it" } else { "them" }
        )?;
        writeln!(
            f,
            "  {} files and folders, {}",
            meta.entries,
            units::bytes(meta.bytes)
        )?;
        writeln!(f, "  a new {} table:", placed.table.name())?;
        for place in &placed.places {
            writeln!(f, "    {}", self.partition(place))?;
        }
        for line in self.made() {
            writeln!(f, "    {line}")?;
        }
        for mount in &self.volumes.merged {
            writeln!(f, "    {mount} is on the filesystem above it")?;
        }
        writeln!(f, "  boots {}", self.ways)?;
        for why in &self.ways.why_not {
            writeln!(f, "  not {why}")?;
        }
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        for why in &self.wrong {
            writeln!(f, "  made anew: {why}")?;
        }
        if self.deployment.new_ids {
            writeln!(f, "  identifiers are new ones")?;
        }
        let layers = self.deployment.overrides.iter();
        for layer in layers {
            writeln!(f, "  over it: {}", layer.name)?;
        }
        for hook in &self.deployment.hooks {
            writeln!(f, "  then runs {}", hook.name)?;
        }
        Ok(())
    }
}

/// The place of a volume's partition.
pub(super) fn place<'a>(
    changes: &'a Changes,
    volumes: &Volumes,
    volume: &Volume,
) -> anyhow::Result<&'a Place> {
    let number = volumes.number(volume.index)?;
    let number = number.with_context(|| format!("{} is on no partition", volume.mount))?;
    place_of(&changes.placed, number)
}
