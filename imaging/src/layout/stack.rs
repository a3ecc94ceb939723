//! What stands on partitions: arrays of RAID1 and volumes of LVM. Pure: which tools make them, and how, is their maker's.

mod written;

use super::{Entry, Layout, Size, filesystems};
use crate::units;
use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use written::{WrittenRaid, WrittenVolume};

/// What LVM counts in, bytes.
pub const EXTENT: u64 = 4 << 20;
/// Where the extents of a physical volume begin, and the data of an array: what is in front is its metadata.
pub const METADATA: u64 = 1 << 20;
/// What an array is made of counts in these.
const ARRAY_UNIT: u64 = 64 << 10;
/// md keeps this many bytes of a name, with a zero byte behind it.
const ARRAY_NAME_MAX: usize = 31;
/// LVM joins group and volume to one name of 127 bytes, and writes each dash twice.
const VOLUME_NAME_MAX: usize = 31;
/// What LVM names its own volumes by (lvm(8), "VALID NAMES").
const RESERVED: [&str; 16] = [
    "_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_iorig", "_mimage", "_mlog", "_pmspare",
    "_rimage", "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig",
];
const RESERVED_STARTS: [&str; 2] = ["snapshot", "pvmove"];
/// As layouts write the type of the partition that GRUB writes itself into.
const BIOS_BOOT: &str = "bios-boot";
/// What can be on an array or a volume: the firmware reads neither.
const FILESYSTEMS: [&str; 6] = ["ext2", "ext3", "ext4", "xfs", "btrfs", "swap"];

/// What something is made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum On {
    /// A partition, by its number.
    Partition(u32),
    /// An array, by its name.
    Array(String),
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
    Volume(&'a Group, &'a Logical),
}

/// For messages: `array boot`, `volume vg0/root`.
impl std::fmt::Display for Slot<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Partition => f.write_str("a partition"),
            Self::Array(raid) => write!(f, "array {}", raid.name),
            Self::Volume(group, volume) => write!(f, "volume {}/{}", group.name, volume.name),
        }
    }
}

impl Layout {
    /// Whether it has more than partitions.
    pub fn is_stacked(&self) -> bool {
        !self.raid.is_empty() || !self.lvm.is_empty()
    }

    /// What filesystems can be on: the partitions, then arrays, then volumes.
    pub fn slots(&self) -> Vec<(Slot<'_>, &Entry)> {
        let partitions = self.partitions.iter();
        let arrays = self.raid.iter();
        let volumes = self.lvm.iter().flat_map(|group| {
            let volumes = group.volumes.iter();
            volumes.map(move |volume| (Slot::Volume(group, volume), &volume.entry))
        });
        partitions
            .map(|entry| (Slot::Partition, entry))
            .chain(arrays.map(|raid| (Slot::Array(raid), &raid.entry)))
            .chain(volumes)
            .collect()
    }

    /// What is on each of the [`slots`](Self::slots).
    pub fn entries_mut(&mut self) -> Vec<&mut Entry> {
        let volumes = self.lvm.iter_mut().flat_map(|group| &mut group.volumes);
        let partitions = self.partitions.iter_mut();
        partitions
            .chain(self.raid.iter_mut().map(|raid| &mut raid.entry))
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
        let mut groups = BTreeSet::new();
        for group in &self.lvm {
            let name = &group.name;
            ensure!(groups.insert(name), "two [[lvm]] have the group {name:?}");
            self.check_group(group, &mut taken)
                .with_context(|| format!("[[lvm]] {name:?}"))?;
        }
        self.check_single(&taken)
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
            On::Array(name) => {
                let Some(raid) = self.raid.iter().find(|raid| raid.name == *name) else {
                    bail!("on = {name:?}: the layout has no [[raid]] with that name");
                };
                ensure!(
                    raid.entry.filesystem.is_none(),
                    "on = {name:?}: that array has a filesystem of its own"
                );
            }
        }
        if !taken.insert(on.clone()) {
            match on {
                On::Partition(number) => bail!("on = {number}: something else uses that partition"),
                On::Array(name) => bail!("on = {name:?}: something else uses that array"),
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
                bail!(
                    "[[lvm]] is on partition {number}, and with [[raid]] each disk has one: put an array on it, and name that in on"
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
        Some(name) if FILESYSTEMS.contains(&name) => {
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

/// What each of the slots has room for, on these disks. Bytes, in the order of [`Layout::slots`].
///
/// # Errors
/// When volumes do not fit, with the numbers.
pub fn sizes(layout: &Layout, disks: &[&super::Placed]) -> anyhow::Result<Vec<u64>> {
    let partition = |number: u32| {
        let found = disks.iter().map(|placed| {
            let mut all = placed.places.iter();
            all.find(|place| place.number == number)
        });
        let sizes: Option<Vec<u64>> = found.map(|place| Some(place?.size)).collect();
        let smallest = sizes.and_then(|sizes| sizes.into_iter().min());
        smallest.with_context(|| format!("the layout has no partition {number}"))
    };
    let array = |raid: &Raid| {
        let size = partition(raid.on)?.saturating_sub(METADATA) / ARRAY_UNIT * ARRAY_UNIT;
        ensure!(
            size > 0,
            "[[raid]] {:?}: its partitions are too small",
            raid.name
        );
        Ok(size)
    };
    let numbers = layout.numbers()?;
    let number_of = |entry: &Entry| {
        let mut all = numbers.iter();
        let found = all.find(|(_, other)| std::ptr::eq(*other, entry));
        found.map(|(number, _)| *number)
    };
    let mut sizes = Vec::new();
    for entry in &layout.partitions {
        let number = number_of(entry).context("a partition without a number")?;
        sizes.push(partition(number)?);
    }
    for raid in &layout.raid {
        sizes.push(array(raid)?);
    }
    for group in &layout.lvm {
        let mut extents = 0;
        for on in &group.on {
            let size = match on {
                On::Partition(number) => partition(*number)?,
                On::Array(name) => {
                    let found = layout.raid.iter().find(|raid| raid.name == *name);
                    array(found.context("an array that is none")?)?
                }
            };
            extents += size.saturating_sub(METADATA) / EXTENT;
        }
        let found = volumes(group, extents).with_context(|| format!("[[lvm]] {:?}", group.name))?;
        sizes.extend(found.into_iter().map(|extents| extents * EXTENT));
    }
    Ok(sizes)
}

/// Extents of each volume in a group that has `all`.
fn volumes(group: &Group, all: u64) -> anyhow::Result<Vec<u64>> {
    let sizes: Result<Vec<Size>, String> = group
        .volumes
        .iter()
        .map(|volume| Size::parse(&volume.entry.size))
        .collect();
    let sizes = sizes.map_err(anyhow::Error::msg)?;
    let fixed = |size: &Size| match size {
        Size::Bytes(bytes) => bytes.div_ceil(EXTENT),
        Size::Percent(percent) => {
            let share = u128::from(all) * u128::from(*percent) / 100;
            u64::try_from(share).unwrap_or(u64::MAX)
        }
        Size::Fill => 0,
    };
    let taken = sizes.iter().map(fixed).fold(0, u64::saturating_add);
    let bytes = |extents: u64| units::bytes(extents.saturating_mul(EXTENT));
    if taken > all {
        bail!(
            "its volumes take {}, and there is room for {}",
            bytes(taken),
            bytes(all)
        );
    }
    let found: Vec<u64> = sizes
        .iter()
        .map(|size| match size {
            Size::Fill => all - taken,
            size => fixed(size),
        })
        .collect();
    if let Some((volume, _)) = group
        .volumes
        .iter()
        .zip(&found)
        .find(|(_, size)| **size == 0)
    {
        bail!(
            "there is no room for volume {:?} ({}): the group has {}",
            volume.name,
            volume.entry.size,
            bytes(all)
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
