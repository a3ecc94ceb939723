//! The system that is installed on this machine: found on its disks, and mounted whole.

mod asleep;
#[cfg(test)]
pub(crate) mod fake;
mod fstab;
mod layers;
mod mounted;
mod volumes;

pub use asleep::{check_awake, check_files_awake};
pub use mounted::{Access, Mounts};
pub use volumes::{Volume, volumes};

use anyhow::{Context, bail};
use fstab::{Entry, Source};
use layers::Layers;
use pitstop_deploy::passphrase::Passphrase;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::inventory::{Disk, Machine};
use pitstop_imaging::layout::Layout;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What tells that a filesystem is the root of a system. Either will do.
const SIGNS: [&str; 3] = ["etc/os-release", "usr/lib/os-release", "etc/fstab"];

/// Filesystems that a root may be on. Others are not mounted to look.
const ROOTS: [&str; 6] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs"];

/// Where distributions keep their root on Btrfs, where the default subvolume has none: Ubuntu's and SUSE's, Debian's, Fedora's.
const SUBVOLUMES: [&str; 3] = ["@", "@rootfs", "root"];

/// Far more than an fstab or an os-release file has.
const MOST_BYTES: u64 = 1 << 20;

/// A system, mounted.
#[derive(Debug)]
pub struct System {
    /// `Debian GNU/Linux 12 (bookworm)`, or what else it says of itself.
    pub name: String,
    /// The disks that its filesystems are on.
    pub disks: Vec<Disk>,
    /// `/ is sda2 (ext4)`, a filesystem a line.
    pub places: Vec<String>,
    root_on: Volume,
    mounts: Mounts,
    /// What the mounts are on: let go after them.
    layers: Layers,
}

impl System {
    /// Where its root is mounted.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.mounts.root()
    }

    /// The layout that makes its disk anew, where its root stands on layers; that of partitions alone is its capture's.
    ///
    /// # Errors
    /// When no layout says it, with the reason.
    pub fn layout(&self, machine: &Machine) -> anyhow::Result<Option<Layout>> {
        let mut disks = self.disks.iter();
        let disk = disks.find(|disk| disk.identity.device == self.root_on.disk);
        disk.map_or(Ok(None), |disk| {
            self.layers.layout(&self.root_on, &disk.node(&machine.dev))
        })
    }

    /// Unmounts it: what was written is on the disks then.
    ///
    /// # Errors
    /// When something in it is in use.
    pub fn unmount(self) -> anyhow::Result<()> {
        self.mounts.unmount()
    }
}

/// A filesystem with the root of a system.
struct Found {
    volume: Volume,
    subvolume: Option<String>,
    name: String,
}

/// Finds the system on partitions of `disks` and mounts all its filesystems, wherever on `all` disks they are.
///
/// # Errors
/// There is none, or several; one of its filesystems is not here, or cannot be mounted.
pub fn mount(
    machine: &Machine,
    disks: &[Disk],
    all: &[Disk],
    access: Access,
    reporter: &dyn Reporter,
) -> anyhow::Result<System> {
    let everywhere = volumes(machine, all);
    let layers = Layers::closed(&volumes(machine, disks));
    mount_with(disks, all, everywhere, layers, access, reporter)
}

/// The same of a system that is only read, whose filesystems may be on arrays and volumes, and on LUKS that `passphrase` opens.
///
/// # Errors
/// As [`mount`].
pub fn mount_to_read(
    machine: &Machine,
    disks: &[Disk],
    all: &[Disk],
    passphrase: Option<&Passphrase>,
    reporter: &dyn Reporter,
) -> anyhow::Result<System> {
    let mut everywhere = volumes(machine, all);
    let layers = Layers::open(&everywhere, passphrase, reporter);
    everywhere.extend(layers.volumes.iter().cloned());
    mount_with(disks, all, everywhere, layers, Access::Read, reporter)
}

fn mount_with(
    disks: &[Disk],
    all: &[Disk],
    mut everywhere: Vec<Volume>,
    mut layers: Layers,
    access: Access,
    reporter: &dyn Reporter,
) -> anyhow::Result<System> {
    let is_meant = |volume: &&Volume| {
        let mut disks = disks.iter();
        disks.any(|disk| volume.is_on(&disk.identity.device))
    };
    let here: Vec<Volume> = everywhere.iter().filter(is_meant).cloned().collect();
    let found = find(&here, &layers)?;
    let mut mounts = Mounts::new(access)?;
    let root = &found.volume;
    tell_dirty(root, access, reporter);
    mounts.add(Path::new(""), root, found.subvolume.as_deref())?;
    if let Some(folder) = open(mounts.root()) {
        layers.name_encrypted(&read(&folder, "etc/crypttab").unwrap_or_default());
    }
    // Of the other disks, too: an fstab may name what a job does not.
    layers.rename(&mut everywhere);
    tell_asleep(check_awake(&everywhere), access, reporter)?;
    let mut system = System {
        name: found.name,
        disks: Vec::new(),
        places: vec![place("/", root)],
        root_on: root.clone(),
        mounts,
        layers,
    };
    let mut used = vec![root.clone()];
    let (own, entries) = entries(system.root())?;
    for entry in entries {
        let around = Around {
            root,
            names_are_true: own
                .as_ref()
                .is_some_and(|own| matches!(&own.source, Source::Node(_)) && own.source.is(root)),
            here: &everywhere,
            layers: &system.layers,
        };
        let Some(volume) = around.of_entry(&entry, reporter)? else {
            continue;
        };
        tell_dirty(volume, access, reporter);
        let below = entry.below();
        system
            .mounts
            .add(below, volume, entry.subvolume())
            .with_context(|| format!("/{}", below.display()))?;
        system
            .places
            .push(place(&format!("/{}", below.display()), volume));
        used.push(volume.clone());
    }
    tell_asleep(check_files_awake(system.root()), access, reporter)?;
    let is_used = |disk: &&Disk| {
        used.iter()
            .any(|volume| volume.is_on(&disk.identity.device))
    };
    system.disks = all.iter().filter(is_used).cloned().collect();
    Ok(system)
}

/// Of a system that sleeps what is read may be old; written to it is nothing.
fn tell_asleep(
    checked: anyhow::Result<()>,
    access: Access,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    match (checked, access) {
        (Err(error), Access::Write) => return Err(error),
        (Err(error), Access::Read) => reporter.warn(format!(
            "{error:#}; what it had not written yet is not on the disks"
        )),
        (Ok(()), _) => {}
    }
    Ok(())
}

fn place(path: &str, volume: &Volume) -> String {
    format!("{path} is {} ({})", volume.name, volume.filesystem)
}

/// Its last minutes may be in its journal, which is left aside where nothing is written.
fn tell_dirty(volume: &Volume, access: Access, reporter: &dyn Reporter) {
    if volume.journal && access == Access::Read {
        reporter.warn(format!(
            "{} was not unmounted: its journal is not replayed, and the last files that were written there may be older \
             or not whole; start the system once and shut it down",
            volume.name
        ));
    }
}

fn find(here: &[Volume], layers: &Layers) -> anyhow::Result<Found> {
    let mut found = Vec::new();
    let mut unreadable = Vec::new();
    for volume in here {
        if !ROOTS.contains(&volume.filesystem.as_str()) {
            continue;
        }
        match look(volume) {
            Ok(Some(system)) => found.push(system),
            Ok(None) => {}
            Err(error) => unreadable.push(format!("{} ({error:#})", volume.name)),
        }
    }
    if found.len() > 1 {
        let list: Vec<String> = found
            .iter()
            .map(|found| format!("{} on {}", found.name, found.volume.name))
            .collect();
        bail!(
            "there is more than one system: {}; name the disk of the one that is meant in disks",
            list.join(", ")
        );
    }
    let Some(system) = found.pop() else {
        bail!("{}", nothing(layers, &unreadable));
    };
    Ok(system)
}

/// Why there is no system to be found.
fn nothing(layers: &Layers, unreadable: &[String]) -> String {
    let mut text =
        "no system was found: no filesystem here has /etc/os-release or /etc/fstab".to_owned();
    text.push_str(&told_closed(layers));
    if !unreadable.is_empty() {
        text = format!("{text}; not looked into: {}", unreadable.join(", "));
    }
    text
}

/// What is here and not open, each with the reason.
fn told_closed(layers: &Layers) -> String {
    let told = layers.closed.iter().map(|closed| {
        format!(
            "; {} is {}, which is not opened here: {}",
            closed.on.join(", "),
            closed.kind,
            closed.why
        )
    });
    told.collect()
}

/// Whether a filesystem is the root of a system.
fn look(volume: &Volume) -> anyhow::Result<Option<Found>> {
    let mut subvolumes: Vec<Option<&str>> = vec![None];
    if volume.filesystem == "btrfs" {
        subvolumes.extend(SUBVOLUMES.map(Some));
    }
    for subvolume in subvolumes {
        let mut mounts = Mounts::new(Access::Read)?;
        match mounts.add(Path::new(""), volume, subvolume) {
            Ok(()) => {}
            // It has no such subvolume.
            Err(_) if subvolume.is_some() => continue,
            Err(error) => return Err(error),
        }
        let name = name_of(mounts.root());
        mounts.unmount()?;
        if let Some(name) = name {
            return Ok(Some(Found {
                volume: volume.clone(),
                subvolume: subvolume.map(str::to_owned),
                name,
            }));
        }
    }
    Ok(None)
}

/// What the system below `root` calls itself; `None` where there is none.
fn name_of(root: &Path) -> Option<String> {
    let folder = open(root)?;
    let found = SIGNS.iter().find_map(|sign| read(&folder, sign))?;
    let name = found.lines().find_map(|line| {
        let value = line.strip_prefix("PRETTY_NAME=")?;
        Some(value.trim_matches(['"', '\'']).to_owned())
    });
    Some(name.unwrap_or_else(|| "a system".into()))
}

fn open(root: &Path) -> Option<OwnedFd> {
    File::open(root).ok().map(OwnedFd::from)
}

/// A small text of a system. Its symlinks are its own: none leads out of it.
fn read(root: &OwnedFd, path: &str) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()?;
    let mut bytes = Vec::new();
    File::from(opened)
        .take(MOST_BYTES)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What the system's fstab has for the root, and beside it, the outer ones first.
fn entries(root: &Path) -> anyhow::Result<(Option<Entry>, Vec<Entry>)> {
    let folder = open(root).with_context(|| format!("opening {}", root.display()))?;
    let text = read(&folder, "etc/fstab").unwrap_or_default();
    let is_root = |entry: &Entry| entry.below() == Path::new("");
    let (mut own, mut entries): (Vec<_>, Vec<_>) =
        fstab::parse(&text).into_iter().partition(is_root);
    entries.sort_by_key(|entry| entry.below().components().count());
    Ok((own.pop(), entries))
}

/// Where the filesystems that an fstab names are looked for.
struct Around<'a> {
    root: &'a Volume,
    /// Whether disks have the names here that they had when the fstab was written: its own line for the root tells.
    names_are_true: bool,
    here: &'a [Volume],
    layers: &'a Layers,
}

impl<'a> Around<'a> {
    /// The volume that an entry means; `None` of one that the system starts without, which is told. Of copies of a disk, which
    /// have the same identifiers, the root's own disk is meant.
    fn of_entry(
        &self,
        entry: &Entry,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<Option<&'a Volume>> {
        let named = self.here.iter().filter(|volume| entry.source.is(volume));
        let found: Vec<&Volume> = named.collect();
        let own = found.iter().find(|volume| volume.disk == self.root.disk);
        let what = match (own, &found[..], &entry.source) {
            (Some(own), ..) => return Ok(Some(own)),
            (None, [one], Source::Node(_)) if !self.names_are_true => format!(
                "{}, which is on another disk than the root here, and disks may have had other names when that was written \
                 (a UUID is sure)",
                one.node.display()
            ),
            (None, [one], _) => return Ok(Some(one)),
            (None, [one, other, ..], source) => format!(
                "{source}, and both {} and {} are called so: name the disks that are meant in disks",
                one.name, other.name
            ),
            (None, [], Source::Mapped(name)) => match self.layers.why_closed(name) {
                Some(why) => format!("{name}, which is not opened here: {why}"),
                None => format!(
                    "{name}, which is on LVM, RAID or LUKS and is not open here{}",
                    told_closed(self.layers)
                ),
            },
            (None, [], source) => {
                format!("{source}, which is not here{}", told_closed(self.layers))
            }
        };
        let path = PathBuf::from("/").join(entry.below());
        if entry.is_optional() {
            reporter.warn(format!(
                "{} is left out: /etc/fstab names {what}",
                path.display()
            ));
            return Ok(None);
        }
        bail!("/etc/fstab names {what}, for {}", path.display())
    }
}

#[cfg(test)]
mod tests;
