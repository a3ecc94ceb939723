//! What stands on partitions: arrays of RAID1, LUKS and volumes of LVM. Pure: which tools make them, and how, is their maker's.

mod sizes;
mod written;

pub use sizes::sizes;

use super::{Entry, Layout, Size, filesystems};
use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use written::{WrittenLuks, WrittenRaid, WrittenVolume};

/// What LVM counts in, bytes.
pub const EXTENT: u64 = 4 << 20;
/// Where the extents of a physical volume begin, and the data of an array: what is in front is its metadata.
pub const METADATA: u64 = 1 << 20;
/// Where encrypted data begins: in front of it are the headers of LUKS2 and the room for its keys.
pub const LUKS_HEADER: u64 = 16 << 20;
/// md keeps this many bytes of a name, with a zero byte behind it.
const ARRAY_NAME_MAX: usize = 31;
/// LVM joins group and volume to one name of 127 bytes, and writes each dash twice.
const VOLUME_NAME_MAX: usize = 31;
/// In the folder of device-mapper's nodes, what is none of them.
const MAPPER_CONTROL: &str = "control";
/// What LVM names its own volumes by (lvm(8), "VALID NAMES").
const RESERVED: [&str; 16] = [
    "_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_iorig", "_mimage", "_mlog", "_pmspare",
    "_rimage", "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig",
];
const RESERVED_STARTS: [&str; 2] = ["snapshot", "pvmove"];
/// As layouts write the type of the partition that GRUB writes itself into.
const BIOS_BOOT: &str = "bios-boot";
/// What can be on an array, on LUKS or a volume: the firmware reads neither.
const FILESYSTEMS: [&str; 6] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "swap"];

/// The node of a volume: device-mapper's name has a dash between group and volume, and each of theirs twice.
#[must_use]
pub fn mapped(group: &str, volume: &str) -> String {
    let twice = |name: &str| name.replace('-', "--");
    format!("/dev/mapper/{}-{}", twice(group), twice(volume))
}

/// Whether there can be such a filesystem on an array, on LUKS or a volume.
#[must_use]
pub fn is_filesystem(name: &str) -> bool {
    FILESYSTEMS.contains(&name)
}

/// What something is made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum On {
    /// A partition, by its number.
    Partition(u32),
    /// An array, or what is encrypted, by its name.
    Name(String),
}

/// An array of the same partition of every disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenRaid", into = "WrittenRaid")]
pub struct Raid {
    pub name: String,
    /// The partition's number.
    pub on: u32,
    /// What is on it.
    pub entry: Entry,
}

/// A partition or an array that is encrypted, with one passphrase for all of a layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WrittenLuks", into = "WrittenLuks")]
pub struct Luks {
    /// Of its node: `/dev/mapper/NAME`.
    pub name: String,
    pub on: On,
    /// What is on it.
    pub entry: Entry,
}

/// A group of volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Group {
    #[serde(rename = "group")]
    pub name: String,
    pub on: Vec<On>,
    pub volumes: Vec<Logical>,
}

/// A volume of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "WrittenVolume", into = "WrittenVolume")]
pub struct Logical {
    pub name: String,
    /// What is on it, and its size.
    pub entry: Entry,
}

/// Something that a filesystem can be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot<'a> {
    Partition,
    Array(&'a Raid),
    Luks(&'a Luks),
    Volume(&'a Group, &'a Logical),
}

/// For messages: `array boot`, `LUKS system`, `volume vg0/root`.
impl std::fmt::Display for Slot<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Partition => f.write_str("a partition"),
            Self::Array(raid) => write!(f, "array {}", raid.name),
            Self::Luks(luks) => write!(f, "LUKS {}", luks.name),
            Self::Volume(group, volume) => write!(f, "volume {}/{}", group.name, volume.name),
        }
    }
}

impl Layout {
    /// Whether it has more than partitions.
    pub fn is_stacked(&self) -> bool {
        !self.raid.is_empty() || !self.luks.is_empty() || !self.lvm.is_empty()
    }

    /// Whether what is on `slot` can only be read by who has the passphrase.
    pub fn is_encrypted(&self, slot: Slot) -> bool {
        let of_luks = |on: &On| match on {
            On::Partition(_) => false,
            On::Name(name) => self.luks.iter().any(|luks| luks.name == *name),
        };
        match slot {
            Slot::Partition | Slot::Array(_) => false,
            Slot::Luks(_) => true,
            Slot::Volume(group, _) => group.on.iter().any(of_luks),
        }
    }

    /// What filesystems can be on: the partitions, then arrays, then LUKS, then volumes.
    pub fn slots(&self) -> Vec<(Slot<'_>, &Entry)> {
        let partitions = self.partitions.iter();
        let arrays = self.raid.iter();
        let encrypted = self.luks.iter();
        let volumes = self.lvm.iter().flat_map(|group| {
            let volumes = group.volumes.iter();
            volumes.map(move |volume| (Slot::Volume(group, volume), &volume.entry))
        });
        partitions
            .map(|entry| (Slot::Partition, entry))
            .chain(arrays.map(|raid| (Slot::Array(raid), &raid.entry)))
            .chain(encrypted.map(|luks| (Slot::Luks(luks), &luks.entry)))
            .chain(volumes)
            .collect()
    }

    /// What is on each of the [`slots`](Self::slots).
    pub fn entries_mut(&mut self) -> Vec<&mut Entry> {
        let volumes = self.lvm.iter_mut().flat_map(|group| &mut group.volumes);
        let partitions = self.partitions.iter_mut();
        partitions
            .chain(self.raid.iter_mut().map(|raid| &mut raid.entry))
            .chain(self.luks.iter_mut().map(|luks| &mut luks.entry))
            .chain(volumes.map(|volume| &mut volume.entry))
            .collect()
    }

    /// Everything that can be judged without a disk.
    pub(super) fn check_stack(&self) -> anyhow::Result<()> {
        let mut taken = BTreeSet::new();
        let mut names = BTreeSet::new();
        for raid in &self.raid {
            let Raid { name, on, entry } = raid;
            let doing = || format!("[[raid]] {name:?}");
            check_name(name, ARRAY_NAME_MAX).with_context(doing)?;
            ensure!(names.insert(name), "two [[raid]] have the name {name:?}");
            self.take(&On::Partition(*on), &mut taken)
                .with_context(doing)?;
            check_contents(entry).with_context(doing)?;
        }
        for luks in &self.luks {
            let Luks { name, on, entry } = luks;
            let doing = || format!("[[luks]] {name:?}");
            check_name(name, VOLUME_NAME_MAX).with_context(doing)?;
            ensure!(
                names.insert(name),
                "[[luks]] {name:?}: another [[luks]] or [[raid]] has the name"
            );
            self.check_mapped(name).with_context(doing)?;
            if let On::Name(on) = on
                && !self.raid.iter().any(|raid| raid.name == *on)
            {
                bail!("[[luks]] {name:?}: on = {on:?}: the layout has no [[raid]] with that name");
            }
            self.take(on, &mut taken).with_context(doing)?;
            check_contents(entry).with_context(doing)?;
        }
        let mut groups = BTreeSet::new();
        for group in &self.lvm {
            let name = &group.name;
            ensure!(groups.insert(name), "two [[lvm]] have the group {name:?}");
            self.check_group(group, &mut taken)
                .with_context(|| format!("[[lvm]] {name:?}"))?;
        }
        self.check_single(&taken)
    }

    /// Whether nothing else of device-mapper's has the name.
    fn check_mapped(&self, name: &str) -> anyhow::Result<()> {
        ensure!(
            name != MAPPER_CONTROL,
            "device-mapper keeps the name {name:?} for itself"
        );
        for group in &self.lvm {
            for volume in &group.volumes {
                ensure!(
                    format!("/dev/mapper/{name}") != mapped(&group.name, &volume.name),
                    "the volume {}/{} has the same name in /dev/mapper",
                    group.name,
                    volume.name
                );
            }
        }
        Ok(())
    }

    fn check_group(&self, group: &Group, taken: &mut BTreeSet<On>) -> anyhow::Result<()> {
        check_name(&group.name, VOLUME_NAME_MAX)?;
        ensure!(
            !group.on.is_empty(),
            "on names nothing that it could be made of"
        );
        ensure!(!group.volumes.is_empty(), "it has no volumes");
        group.on.iter().try_for_each(|on| self.take(on, taken))?;
        let mut names = BTreeSet::new();
        for volume in &group.volumes {
            let name = &volume.name;
            let doing = || format!("volume {name:?}");
            check_name(name, VOLUME_NAME_MAX).with_context(doing)?;
            let reserved = RESERVED.iter().any(|part| name.contains(part))
                || RESERVED_STARTS.iter().any(|start| name.starts_with(start));
            ensure!(!reserved, "LVM keeps the name {name:?} for itself");
            ensure!(names.insert(name), "two volumes have the name {name:?}");
            Size::parse(&volume.entry.size)
                .map_err(anyhow::Error::msg)
                .with_context(doing)?;
            check_contents(&volume.entry).with_context(doing)?;
        }
        let fills = group.volumes.iter();
        let fills = fills.filter(|it| Size::parse(&it.entry.size) == Ok(Size::Fill));
        ensure!(
            fills.count() <= 1,
            "only one volume can fill what the others leave"
        );
        Ok(())
    }

    /// Notes who uses `on`, which is there and nobody else's.
    fn take(&self, on: &On, taken: &mut BTreeSet<On>) -> anyhow::Result<()> {
        match on {
            On::Partition(number) => {
                let numbers = self.numbers()?;
                let found = numbers.iter().find(|(other, _)| other == number);
                let Some((_, entry)) = found else {
                    bail!("on = {number}: the layout has no partition {number}");
                };
                let extended = super::kinds::kind(&entry.kind, self.table);
                ensure!(
                    !extended.is_ok_and(|kind| kind.is_extended()),
                    "on = {number}: that partition is the extended one"
                );
                ensure!(
                    entry.filesystem.is_none(),
                    "on = {number}: that partition has a filesystem of its own"
                );
                ensure!(
                    entry.kind != BIOS_BOOT,
                    "on = {number}: that partition is of type {BIOS_BOOT}, and GRUB writes over what is on it"
                );
            }
            On::Name(name) => {
                let arrays = self.raid.iter().map(|raid| (&raid.name, &raid.entry));
                let encrypted = self.luks.iter().map(|luks| (&luks.name, &luks.entry));
                let found = arrays.chain(encrypted).find(|(other, _)| *other == name);
                let Some((_, entry)) = found else {
                    bail!("on = {name:?}: the layout has no [[raid]] or [[luks]] with that name");
                };
                ensure!(
                    entry.filesystem.is_none(),
                    "on = {name:?}: it has a filesystem of its own"
                );
            }
        }
        if !taken.insert(on.clone()) {
            match on {
                On::Partition(number) => bail!("on = {number}: something else uses that partition"),
                On::Name(name) => bail!("on = {name:?}: something else uses it"),
            }
        }
        Ok(())
    }

    /// With arrays there are several disks, and each gets the same partitions: what is not in an array would be there as often.
    fn check_single(&self, taken: &BTreeSet<On>) -> anyhow::Result<()> {
        if self.raid.is_empty() {
            return Ok(());
        }
        for (number, entry) in self.numbers()? {
            let filesystem = entry.filesystem.as_deref();
            if let Some(filesystem) = filesystem.filter(|name| *name != "vfat") {
                bail!(
                    "partition {number} of the layout has {filesystem}, and with [[raid]] each disk would have it: put it on an \
                     array or a volume"
                );
            }
            let in_array = self.raid.iter().any(|raid| raid.on == number);
            if !in_array && taken.contains(&On::Partition(number)) {
                let by_luks = self
                    .luks
                    .iter()
                    .any(|luks| luks.on == On::Partition(number));
                let key = if by_luks { "luks" } else { "lvm" };
                bail!(
                    "[[{key}]] is on partition {number}, and with [[raid]] each disk has one: put an array on it, and name that in on"
                );
            }
        }
        Ok(())
    }
}

fn check_name(name: &str, most: usize) -> anyhow::Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !first || !name.chars().all(plain) || name.len() > most {
        bail!(
            "the name {name:?} is not one of up to {most} letters, digits, dots, dashes and underscores that begins with a letter or \
             a digit"
        );
    }
    Ok(())
}

fn check_contents(entry: &Entry) -> anyhow::Result<()> {
    match entry.filesystem.as_deref() {
        Some(name) if is_filesystem(name) => {
            super::check_mount(entry)?;
            filesystems::check(name, entry)
        }
        Some(name) => bail!(
            "filesystem = {name:?}: there can be {}",
            FILESYSTEMS.join(", ")
        ),
        None => super::check_bare(entry),
    }
}

#[cfg(test)]
mod tests;
