//! Folders of a FAT as the library makes them, mended. It gives `.` and `..` long names as well, which no folder has, and has `..`
//! in a folder of a FAT32's root name the root's cluster, where 0 stands for it: `fsck` takes that for damage, and so may a firmware.

use std::io;
use std::ops::Range;

/// An entry of a folder.
const ENTRY: usize = 32;
/// What the library writes at the beginning of a folder: a long name and a short one, twice.
pub const WRITTEN: usize = 4 * ENTRY;
const DOTS: [&[u8; 11]; 2] = [b".          ", b"..         "];
/// Where the attributes are, those of a long name, and of a folder.
const ATTRIBUTES: usize = 11;
const LONG: u8 = 0x0f;
const FOLDER: u8 = 0x10;
/// The two halves of the number of its first cluster.
const CLUSTER: [Range<usize>; 2] = [26..28, 20..22];
/// The only entry of a long name; and of what is no entry any more.
const ONLY: u8 = 0x41;
const DELETED: u8 = 0xe5;

/// The beginning of a folder, as it is to be; `None` of what is none that the library has made. `root` is the cluster of a FAT32's
/// root.
fn mended(written: &[u8; WRITTEN], root: Option<u32>) -> Option<[u8; WRITTEN]> {
    let mut right = *written;
    for (number, name) in DOTS.into_iter().enumerate() {
        let at = 2 * number * ENTRY;
        let (long, short) = written[at..at + 2 * ENTRY].split_at(ENTRY);
        let is_long = long[0] == ONLY && long[ATTRIBUTES] == LONG;
        if !is_long || !short.starts_with(name) || short[ATTRIBUTES] != FOLDER {
            return None;
        }
        right[number * ENTRY..(number + 1) * ENTRY].copy_from_slice(short);
        right[(number + 2) * ENTRY] = DELETED;
    }
    let above = &mut right[ENTRY..2 * ENTRY];
    let [low, high] =
        CLUSTER.map(|half| u32::from(above[half.start]) | u32::from(above[half.start + 1]) << 8);
    if root == Some(low | high << 16) {
        for half in CLUSTER {
            above[half].fill(0);
        }
    }
    Some(right)
}

/// What the first sector of a FAT tells.
struct Shape {
    /// Where the first cluster begins.
    start: u64,
    cluster: u64,
    /// The cluster of the root, of FAT32.
    root: Option<u32>,
}

impl Shape {
    fn of(first: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_le_bytes(first.get(at..at + 2)?.try_into().ok()?));
        let long = |at: usize| Some(u32::from_le_bytes(first.get(at..at + 4)?.try_into().ok()?));
        let sector = u64::from(word(11)?);
        let (of_table, root) = match word(22)? {
            0 => (long(36)?, Some(long(44)?)),
            sectors => (sectors.into(), None),
        };
        let tables = u64::from(*first.get(16)?) * u64::from(of_table);
        let start = (u64::from(word(14)?) + tables) * sector + u64::from(word(17)?) * ENTRY as u64;
        let cluster = u64::from(*first.get(13)?) * sector;
        (cluster >= WRITTEN as u64).then_some(Self {
            start,
            cluster,
            root,
        })
    }
}

/// Mends the folders among the first `used` clusters of a FAT. `read` and `write` are about bytes of it.
///
/// # Errors
/// Those of `read` and `write`, or when the first sector is no FAT's.
pub fn mend(
    first: &[u8],
    used: u64,
    size: u64,
    read: impl Fn(&mut [u8], u64) -> io::Result<()>,
    write: impl Fn(&[u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    let shape = Shape::of(first).ok_or(io::ErrorKind::InvalidData)?;
    let Shape {
        start,
        cluster,
        root,
    } = shape;
    let all: Range<u64> = 0..used.min(size.saturating_sub(start) / cluster);
    for number in all {
        let at = start + number * cluster;
        let mut written = [0; WRITTEN];
        read(&mut written, at)?;
        if let Some(right) = mended(&written, root) {
            write(&right, at)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_what_the_library_writes_is_mended() {
        let mut folder = [0; WRITTEN];
        for (number, name) in DOTS.into_iter().enumerate() {
            let at = 2 * number * ENTRY;
            folder[at] = ONLY;
            folder[at + ATTRIBUTES] = LONG;
            folder[at + ENTRY..at + ENTRY + 11].copy_from_slice(name);
            folder[at + ENTRY + ATTRIBUTES] = FOLDER;
        }
        folder[3 * ENTRY + 26] = 2;
        let right = mended(&folder, None).unwrap();
        assert!(right.starts_with(DOTS[0]) && right[ENTRY..].starts_with(DOTS[1]));
        assert_eq!((right[2 * ENTRY], right[3 * ENTRY]), (DELETED, DELETED));
        assert_eq!(right[ENTRY + 26], 2);
        assert_eq!(mended(&folder, Some(2)).unwrap()[ENTRY + 26], 0);
        assert_eq!(mended(&right, None), None);
    }

    proptest! {
        #[test]
        fn any_first_sector_makes_no_panic(first in prop::collection::vec(any::<u8>(), 0..600), used in 0u64..8) {
            let _ = mend(&first, used, u64::MAX, |_, _| Ok(()), |_, _| Ok(()));
        }
    }
}
