//! Whether the kernel sees a disk's partitions where its table has them.

use crate::table::{Table, TableKind};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// sysfs counts `start` and `size` in these, whatever the disk's sectors are.
const SYSFS_SECTOR: u64 = 512;
/// Linux shows an extended partition, but no more of it than a boot loader needs: block/partitions/msdos.c.
const EXTENDED_MAX: u64 = 4096;
/// MBR types in which Linux finds partitions of its own: BSD and Solaris.
const NESTED: [u8; 4] = [0xa5, 0xa6, 0xa9, 0xbf];

/// First byte and bytes of a partition.
pub type Place = (u64, u64);

/// How the partitions in `folder`, a disk's in sysfs, differ from `table`: a sentence each. None for a disk without
/// a table, where the kernel may know one of a kind that is not read here.
pub fn differences(folder: &Path, table: &Table) -> Vec<String> {
    if table.kind == TableKind::None {
        return Vec::new();
    }
    let mut seen = partitions(folder);
    let mut found = Vec::new();
    for partition in &table.partitions {
        let wanted = (partition.start, partition.size);
        match seen.remove(&partition.number) {
            Some(place) if place == wanted => {}
            Some(place) => found.push(format!(
                "partition {}: the table says {}, the kernel {}",
                partition.number,
                show(wanted),
                show(place)
            )),
            None => found.push(format!(
                "the kernel does not see partition {}, {}",
                partition.number,
                show(wanted)
            )),
        }
    }
    let nested = table.partitions.iter().any(|partition| {
        partition
            .kind
            .code()
            .is_some_and(|code| NESTED.contains(&code))
    });
    for (number, place) in seen {
        let extended = table.kind == TableKind::Mbr && number <= 4 && place.1 <= EXTENDED_MAX;
        if !extended && !nested {
            found.push(format!(
                "the kernel sees a partition {number}, {}, that is not in the table",
                show(place)
            ));
        }
    }
    found
}

/// Whether the kernel has a partition of this number, just there.
pub fn has(folder: &Path, number: u32, place: Place) -> bool {
    partitions(folder).get(&number) == Some(&place)
}

fn show((start, size): Place) -> String {
    format!("{size} bytes from {start} on")
}

fn partitions(folder: &Path) -> BTreeMap<u32, Place> {
    let number = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let at = entry.path();
        let bytes = |file: &str| number(&at.join(file))?.checked_mul(SYSFS_SECTOR);
        let index = number(&at.join("partition")).and_then(|index| u32::try_from(index).ok());
        if let (Some(index), Some(start), Some(size)) = (index, bytes("start"), bytes("size")) {
            found.insert(index, (start, size));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Partition, PartitionKind};

    fn table(kind: TableKind, places: &[(u32, Place)]) -> Table {
        let partition = |&(number, (start, size)): &(u32, Place)| Partition {
            number,
            start,
            size,
            kind: PartitionKind::Code(0x83),
            name: String::new(),
            id: String::new(),
            attributes: 0,
        };
        Table {
            kind,
            partitions: places.iter().map(partition).collect(),
            ..Table::default()
        }
    }

    fn sysfs(places: &[(u32, u64, u64)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("queue")).unwrap();
        for (number, start, size) in places {
            let at = folder.path().join(format!("sda{number}"));
            fs::create_dir(&at).unwrap();
            fs::write(at.join("partition"), format!("{number}\n")).unwrap();
            fs::write(at.join("start"), format!("{start}\n")).unwrap();
            fs::write(at.join("size"), format!("{size}\n")).unwrap();
        }
        folder
    }

    #[test]
    fn a_view_that_agrees_has_no_differences() {
        let table = table(TableKind::Mbr, &[(1, (1 << 20, 512)), (5, (8 << 20, 1024))]);
        // The extended one, number 2, is not in the model.
        let folder = sysfs(&[(1, 2048, 1), (2, 16382, 2), (5, 16384, 2)]);
        assert!(differences(folder.path(), &table).is_empty());
        assert!(differences(folder.path(), &Table::default()).is_empty());
    }

    #[test]
    fn what_differs_is_told_with_its_numbers() {
        let table = table(TableKind::Gpt, &[(1, (1 << 20, 512)), (2, (2 << 20, 512))]);
        let folder = sysfs(&[(1, 2048, 2), (3, 8192, 1)]);
        assert_eq!(
            differences(folder.path(), &table),
            [
                "partition 1: the table says 512 bytes from 1048576 on, the kernel 1024 bytes from 1048576 on",
                "the kernel does not see partition 2, 512 bytes from 2097152 on",
                "the kernel sees a partition 3, 512 bytes from 4194304 on, that is not in the table",
            ]
        );
    }
}
