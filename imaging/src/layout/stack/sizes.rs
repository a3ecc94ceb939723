//! How large everything of a layout is on given disks. Pure.

use super::{EXTENT, Group, LUKS_HEADER, Luks, METADATA, On, Raid};
use crate::layout::{Entry, Layout, Placed, Size};
use crate::units;
use anyhow::{Context, bail, ensure};

/// What an array is made of counts in these.
const ARRAY_UNIT: u64 = 64 << 10;

/// What each of the slots has room for, on these disks. Bytes, in the order of [`Layout::slots`].
///
/// # Errors
/// When something does not fit, with the numbers.
pub fn sizes(layout: &Layout, disks: &[&Placed]) -> anyhow::Result<Vec<u64>> {
    let room = Room { layout, disks };
    let numbers = layout.numbers()?;
    let number_of = |entry: &Entry| {
        let mut all = numbers.iter();
        let found = all.find(|(_, other)| std::ptr::eq(*other, entry));
        found.map(|(number, _)| *number)
    };
    let mut sizes = Vec::new();
    for entry in &layout.partitions {
        let number = number_of(entry).context("a partition without a number")?;
        sizes.push(room.partition(number)?);
    }
    for raid in &layout.raid {
        sizes.push(room.array(raid)?);
    }
    for luks in &layout.luks {
        sizes.push(room.luks(luks)?);
    }
    for group in &layout.lvm {
        let mut extents = 0;
        for on in &group.on {
            extents += room.of(on)?.saturating_sub(METADATA) / EXTENT;
        }
        let found = volumes(group, extents).with_context(|| format!("[[lvm]] {:?}", group.name))?;
        sizes.extend(found.into_iter().map(|extents| extents * EXTENT));
    }
    Ok(sizes)
}

/// Of disks that all get the same layout, the smallest decides.
struct Room<'a> {
    layout: &'a Layout,
    disks: &'a [&'a Placed],
}

impl Room<'_> {
    fn partition(&self, number: u32) -> anyhow::Result<u64> {
        let found = self.disks.iter().map(|placed| {
            let mut all = placed.places.iter();
            all.find(|place| place.number == number)
        });
        let sizes: Option<Vec<u64>> = found.map(|place| Some(place?.size)).collect();
        let smallest = sizes.and_then(|sizes| sizes.into_iter().min());
        smallest.with_context(|| format!("the layout has no partition {number}"))
    }

    fn array(&self, raid: &Raid) -> anyhow::Result<u64> {
        let size = self.partition(raid.on)?.saturating_sub(METADATA) / ARRAY_UNIT * ARRAY_UNIT;
        ensure!(
            size > 0,
            "[[raid]] {:?}: its partitions are too small",
            raid.name
        );
        Ok(size)
    }

    fn luks(&self, luks: &Luks) -> anyhow::Result<u64> {
        let all = match &luks.on {
            On::Partition(number) => self.partition(*number)?,
            On::Name(name) => {
                let found = self.layout.raid.iter().find(|raid| raid.name == *name);
                self.array(found.context("an array that is none")?)?
            }
        };
        ensure!(
            all > LUKS_HEADER,
            "[[luks]] {:?}: it has {}, and its header alone takes {}",
            luks.name,
            units::bytes(all),
            units::bytes(LUKS_HEADER)
        );
        Ok(all - LUKS_HEADER)
    }

    fn of(&self, on: &On) -> anyhow::Result<u64> {
        let name = match on {
            On::Partition(number) => return self.partition(*number),
            On::Name(name) => name,
        };
        if let Some(luks) = self.layout.luks.iter().find(|luks| luks.name == *name) {
            return self.luks(luks);
        }
        let found = self.layout.raid.iter().find(|raid| raid.name == *name);
        self.array(found.context("an array that is none")?)
    }
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
