//! The layout of the disk that a tree was captured from, for a disk of another size or with other sectors. Pure.

use anyhow::Context;
use pitstop_imaging::layout::stack::On;
use pitstop_imaging::layout::{Entry, Layout};
use pitstop_imaging::table::TableKind;
use pitstop_imaging::units;

/// Partitions begin and end at multiples of this, whatever the sectors are.
const ALIGN: u64 = 1 << 20;
const FILL: &str = "fill";
/// As layouts write the types of extended partitions.
const EXTENDED: [&str; 3] = ["extended", "0x05", "0x85"];

/// The same partitions, one behind the other. The largest one with files takes what the others leave: it grows on a larger disk
/// and shrinks on a smaller one. So does the largest volume with files of a group.
///
/// # Errors
/// When a size is none.
pub fn fit(layout: &Layout) -> anyhow::Result<Layout> {
    let mut fitted = layout.clone();
    fitted.alignment = None;
    let stacked = stacked(layout)?;
    let mut largest: Option<(u64, usize)> = None;
    for (index, entry) in fitted.partitions.iter_mut().enumerate() {
        entry.start = None;
        let Ok(bytes) = units::parse_bytes(&entry.size) else {
            // A share of the disk, or the rest of it, fits by itself.
            continue;
        };
        let bytes = bytes.checked_next_multiple_of(ALIGN).with_context(|| {
            format!("partition {} of the layout has no possible size", index + 1)
        })?;
        entry.size = bytes.to_string();
        if (holds_files(entry) || stacked.contains(&index))
            && largest.is_none_or(|(most, _)| bytes >= most)
        {
            largest = Some((bytes, index));
        }
    }
    let filled = fitted
        .partitions
        .iter()
        .any(|entry| entry.size == FILL && !entry.logical);
    if let Some((_, index)) = largest
        && !filled
    {
        FILL.clone_into(&mut fitted.partitions[index].size);
    }
    if fitted.table == TableKind::Mbr {
        fit_extended(&mut fitted);
    }
    fit_groups(&mut fitted);
    Ok(fitted)
}

/// The partitions that something stands on, by their places in the layout.
fn stacked(layout: &Layout) -> anyhow::Result<Vec<usize>> {
    let groups = layout.lvm.iter().flat_map(|group| &group.on);
    let on = groups.chain(layout.luks.iter().map(|luks| &luks.on));
    let plain = on.filter_map(|on| match on {
        On::Partition(number) => Some(*number),
        On::Name(_) => None,
    });
    let used: Vec<u32> = plain
        .chain(layout.raid.iter().map(|raid| raid.on))
        .collect();
    let numbers = layout.numbers()?;
    let is_used = |entry: &Entry| {
        let mut all = numbers.iter();
        all.any(|(number, other)| std::ptr::eq(*other, entry) && used.contains(number))
    };
    let entries = layout.partitions.iter().enumerate();
    Ok(entries
        .filter(|(_, entry)| is_used(entry))
        .map(|(index, _)| index)
        .collect())
}

/// A group has not exactly the room on another disk that it had.
fn fit_groups(layout: &mut Layout) {
    for group in &mut layout.lvm {
        if group.volumes.iter().any(|volume| volume.entry.size == FILL) {
            continue;
        }
        let files = group
            .volumes
            .iter_mut()
            .filter(|volume| holds_files(&volume.entry));
        let largest = files.max_by_key(|volume| units::parse_bytes(&volume.entry.size).ok());
        if let Some(largest) = largest {
            FILL.clone_into(&mut largest.entry.size);
        }
    }
}

/// Swap and what has no filesystem keep their size, as does what the firmware reads.
fn holds_files(entry: &Entry) -> bool {
    !matches!(entry.filesystem.as_deref(), None | Some("swap" | "vfat"))
}

/// Logical partitions need room for a boot record each, and the one that fills is only as large as the extended one.
fn fit_extended(layout: &mut Layout) {
    let logical = layout.partitions.iter().filter(|entry| entry.logical);
    let sizes: Vec<Option<u64>> = logical
        .map(|entry| units::parse_bytes(&entry.size).ok())
        .collect();
    let all: Option<Vec<u64>> = sizes.into_iter().collect();
    let size = match all {
        Some(sizes) => sizes
            .iter()
            .map(|size| size.saturating_add(ALIGN))
            .fold(ALIGN, u64::saturating_add)
            .to_string(),
        None => FILL.to_owned(),
    };
    if let Some(extended) = layout
        .partitions
        .iter_mut()
        .find(|entry| EXTENDED.contains(&entry.kind.as_str()))
    {
        extended.size = size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::layout::stack::sizes;

    const MIB: u64 = 1 << 20;

    fn entry(kind: &str, filesystem: &str, mib: u64, start: u64) -> Entry {
        Entry {
            kind: kind.into(),
            size: (mib * MIB - 512).to_string(),
            start: Some(start),
            filesystem: (!filesystem.is_empty()).then(|| filesystem.into()),
            ..Entry::default()
        }
    }

    fn layout(table: TableKind, partitions: Vec<Entry>) -> Layout {
        Layout {
            version: 1,
            table,
            id: None,
            alignment: Some("512".into()),
            partitions,
            raid: Vec::new(),
            luks: Vec::new(),
            lvm: Vec::new(),
        }
    }

    fn spans(layout: &Layout, disk: u64, sector: u32) -> Vec<(u32, u64, u64)> {
        let placed = layout.place(disk, sector).unwrap();
        placed
            .places
            .iter()
            .map(|place| (place.number, place.start / MIB, place.size / MIB))
            .collect()
    }

    #[test]
    fn the_largest_filesystem_grows_and_shrinks_with_the_disk() {
        let old = layout(
            TableKind::Gpt,
            vec![
                entry("efi", "vfat", 100, MIB),
                entry("linux", "ext4", 900, 101 * MIB),
                entry("swap", "swap", 200, 1001 * MIB),
            ],
        );
        let fitted = fit(&old).unwrap();
        for sector in [512, 4096] {
            let large = spans(&fitted, 4001 * MIB + 24576, sector);
            assert_eq!(large, [(1, 1, 100), (2, 101, 3700), (3, 3801, 200)]);
        }
        let small = spans(&fitted, 502 * MIB, 512);
        assert_eq!(small[1], (2, 101, 200));
        assert!(fitted.place(200 * MIB, 512).is_err());
    }

    #[test]
    fn what_a_group_stands_on_grows_and_its_largest_volume_with_it() {
        let text = "version = 1\ntable = \"gpt\"\n[[partition]]\ntype = \"raid\"\nsize = \"200MiB\"\n\
                    [[partition]]\ntype = \"raid\"\nsize = \"900MiB\"\n\
                    [[raid]]\nname = \"boot\"\non = 1\nfilesystem = \"ext4\"\n[[raid]]\nname = \"system\"\non = 2\n\
                    [[lvm]]\ngroup = \"vg0\"\non = [\"system\"]\nvolumes = [\n\
                    { name = \"swap\", size = \"600MiB\", filesystem = \"swap\" },\n\
                    { name = \"root\", size = \"280MiB\", filesystem = \"ext4\" } ]\n";
        let fitted = fit(&Layout::parse(text).unwrap()).unwrap();
        let placed = fitted.place(2001 * MIB, 512).unwrap();
        let sizes = sizes(&fitted, &[&placed, &placed]).unwrap();
        let sizes: Vec<u64> = sizes.iter().map(|size| size / MIB).collect();
        // The partitions, the arrays, the volumes.
        assert_eq!(sizes, [200, 1799, 199, 1798, 600, 1196]);
    }

    #[test]
    fn a_logical_partition_grows_with_the_extended_one() {
        let mut old = layout(
            TableKind::Mbr,
            vec![
                entry("linux", "ext4", 100, MIB),
                entry("extended", "", 300, 101 * MIB),
                entry("swap", "swap", 50, 102 * MIB),
                entry("linux", "ext4", 200, 153 * MIB),
            ],
        );
        old.partitions[2].logical = true;
        old.partitions[3].logical = true;
        let fitted = fit(&old).unwrap();
        let found = spans(&fitted, 1000 * MIB, 512);
        assert_eq!(found[0], (1, 1, 100));
        assert_eq!(found[1], (2, 101, 899));
        assert_eq!(found[3], (6, 153, 847));
        // The root is primary: the extended one keeps what its own need.
        old.partitions[0].size = (2000 * MIB).to_string();
        let found = spans(&fit(&old).unwrap(), 1000 * MIB, 512);
        assert_eq!((found[0].2, found[1].2), (1000 - 1 - 253, 253));
        assert_eq!((found[2].2, found[3].2), (50, 200));
    }

    proptest::proptest! {
        #[test]
        fn no_layout_makes_it_panic(sizes in proptest::collection::vec((proptest::bool::ANY, 0u64..=u64::MAX), 0..6), disk: u64) {
            let mut old = layout(TableKind::Mbr, Vec::new());
            for (logical, size) in sizes {
                let mut one = entry("linux", "ext4", 1, 0);
                (one.logical, one.size) = (logical, size.to_string());
                old.partitions.push(one);
            }
            if let Ok(fitted) = fit(&old) {
                let _ = fitted.place(disk, 512);
            }
        }
    }
}
