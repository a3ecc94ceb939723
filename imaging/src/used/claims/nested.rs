//! A table of partitions within a partition: the disk of a virtual machine, or a disk image as it was written.
//!
//! Boot sectors of filesystems end in the same two bytes as an MBR does. What tells them apart is what the kernel looks
//! at: flags that no code has at these places, and entries that lie on the volume and apart.

use super::edges::Edges;
use super::{Claim, Owner};
use crate::source::ReadAt;
use std::ops::Range;

/// What is found. `wipefs` clears both by where their signatures are.
pub fn tables(edges: &mut Edges<'_>) -> Vec<Claim> {
    let mut list = Vec::new();
    let claim = |name, at| Claim {
        owner: Owner::Table,
        name,
        at,
    };
    if let Some(sector) = edges.get::<512>(0)
        && is_mbr(&sector, edges.size())
    {
        list.push(claim("MBR", 510));
    }
    for sector in [512, 4096] {
        if is_gpt(edges, sector) {
            list.push(claim("GPT", sector));
        }
    }
    list
}

/// UEFI 2.10 5.3.2: signature, a size of the header, and its own place.
fn is_gpt(edges: &mut Edges<'_>, sector: u64) -> bool {
    let Some(header) = edges.get::<32>(sector) else {
        return false;
    };
    let length = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
    header.starts_with(b"EFI PART")
        && (92..=4096).contains(&length)
        && header[24..32] == [1, 0, 0, 0, 0, 0, 0, 0]
}

/// Whether `sector`, which begins a volume of `size` bytes, is a table with entries in use.
fn is_mbr(sector: &[u8; 512], size: u64) -> bool {
    if sector[510..] != [0x55, 0xaa] {
        return false;
    }
    let entries: Vec<&[u8]> = sector[446..510].chunks(16).collect();
    if entries.iter().any(|entry| !matches!(entry[0], 0 | 0x80)) {
        return false;
    }
    let word = |entry: &[u8], at: usize| {
        u64::from(u32::from_le_bytes([
            entry[at],
            entry[at + 1],
            entry[at + 2],
            entry[at + 3],
        ]))
    };
    let used: Vec<Range<u64>> = entries
        .iter()
        .filter(|entry| entry[4] != 0)
        .map(|entry| word(entry, 8)..word(entry, 8) + word(entry, 12))
        .collect();
    let apart =
        |one: &Range<u64>, other: &Range<u64>| one.end <= other.start || other.end <= one.start;
    let fits = used
        .iter()
        .all(|range| range.start > 0 && !range.is_empty() && range.start < size.div_ceil(512));
    let all_apart = used
        .iter()
        .enumerate()
        .all(|(at, one)| used[at + 1..].iter().all(|other| apart(one, other)));
    !used.is_empty() && fits && all_apart
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Disk;
    use proptest::prelude::*;
    use std::io::Cursor;

    const SIZE: u64 = 1 << 20;

    fn mbr(entries: &[(u8, u8, u32, u32)]) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        for (at, (flag, kind, start, length)) in (446..).step_by(16).zip(entries) {
            bytes[at] = *flag;
            bytes[at + 4] = *kind;
            bytes[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
            bytes[at + 12..at + 16].copy_from_slice(&length.to_le_bytes());
        }
        bytes
    }

    fn found(mut bytes: Vec<u8>) -> Vec<(&'static str, u64)> {
        let size = bytes.len() as u64;
        let mut cursor = Cursor::new(&mut bytes);
        let disk = Disk::new(&mut cursor, size);
        let list = tables(&mut Edges::new(&disk));
        list.iter().map(|claim| (claim.name, claim.at)).collect()
    }

    #[test]
    fn entries_in_use_make_a_table() {
        assert_eq!(found(mbr(&[(0x80, 7, 63, 1000)])), [("MBR", 510)]);
        assert_eq!(found(mbr(&[(0, 0xee, 1, u32::MAX)])), [("MBR", 510)]);
        assert_eq!(
            found(mbr(&[(0, 7, 63, 100), (0, 5, 200, 1000)])),
            [("MBR", 510)]
        );
    }

    #[test]
    fn no_entry_code_or_what_lies_elsewhere_makes_none() {
        for entries in [
            &[][..],
            &[(0xf4, 7, 63, 1000)],
            &[(0, 7, 0, 1000)],
            &[(0, 7, 63, 0)],
            &[(0, 7, 4096, 10)],
            &[(0, 7, 63, 100), (0, 7, 70, 10)],
        ] {
            assert_eq!(found(mbr(entries)), [], "{entries:?}");
        }
    }

    #[test]
    fn a_gpt_is_one_without_its_guard_too() {
        for sector in [512, 4096] {
            let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
            bytes[sector..sector + 8].copy_from_slice(b"EFI PART");
            bytes[sector + 12] = 92;
            bytes[sector + 24] = 1;
            assert_eq!(found(bytes), [("GPT", sector as u64)]);
        }
    }

    proptest! {
        #[test]
        fn noise_is_no_table(bytes in prop::collection::vec(1u8..0x80, 512)) {
            prop_assert_eq!(found(bytes), []);
        }
    }
}
