//! Whether old bytes may be recognised by anybody. It is not known where what they belonged to began, so that only the
//! place of a signature within a sector counts.

use super::signatures;
use std::sync::LazyLock;

const SECTOR: usize = 512;

/// Name, magic, and bytes from the beginning of a sector; each once.
static KNOWN: LazyLock<Vec<(&'static str, &'static [u8], usize)>> = LazyLock::new(|| {
    let mut known = Vec::new();
    for signature in signatures::in_any_sector() {
        if !known.contains(&signature) {
            known.push(signature);
        }
    }
    known
});

/// The first that is known in `bytes`, which begin with a sector.
pub fn find(bytes: &[u8]) -> Option<&'static str> {
    bytes.chunks(SECTOR).find_map(|sector| {
        // Most of what is looked at is zeros or data of files: one comparison tells the former.
        if sector.iter().all(|byte| *byte == 0) {
            return None;
        }
        let known = KNOWN.iter().find(|(_, magic, at)| {
            sector
                .get(*at..)
                .is_some_and(|rest| rest.starts_with(magic))
        });
        known
            .map(|(name, _, _)| *name)
            .or_else(|| is_ext(sector).then_some("ext2, ext3 or ext4"))
    })
}

/// The superblock's two bytes alone would be found in noise; its other fields have narrow bounds (Linux `ext4.h`).
fn is_ext(superblock: &[u8]) -> bool {
    let word = |at: usize| superblock.get(at).zip(superblock.get(at + 1));
    let is = |at, allowed: std::ops::RangeInclusive<u16>| {
        word(at).is_some_and(|(low, high)| allowed.contains(&u16::from_le_bytes([*low, *high])))
    };
    // s_magic, s_state, s_errors, s_log_block_size.
    is(0x38, 0xef53..=0xef53) && is(0x3a, 0..=7) && is(0x3c, 0..=3) && is(0x18, 0..=6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_is_found_in_any_sector_and_not_beside_its_place() {
        for (name, magic, at) in KNOWN.iter() {
            let mut bytes = vec![0; 3 * SECTOR];
            let at = SECTOR + at;
            bytes[at..at + magic.len()].copy_from_slice(magic);
            assert_eq!(find(&bytes), Some(*name));
            assert_eq!(find(&bytes[..SECTOR]), None);
            bytes.remove(0);
            assert_ne!(find(&bytes), Some(*name), "{name}");
        }
        assert_eq!(find(&[]), None);
    }

    #[test]
    fn a_superblock_of_ext_is_more_than_two_bytes() {
        let mut sector = [0; SECTOR];
        sector[0x38..0x3a].copy_from_slice(&0xef53u16.to_le_bytes());
        sector[0x3a] = 1;
        sector[0x3c] = 1;
        sector[0x18] = 2;
        assert_eq!(find(&sector), Some("ext2, ext3 or ext4"));
        sector[0x18] = 77;
        assert_eq!(find(&sector), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = find(&bytes);
        }
    }
}
