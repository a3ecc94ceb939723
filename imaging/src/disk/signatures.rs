//! What tools know metadata by: partition tables, RAID, volumes, encryption, filesystems, swap.
//!
//! For the decision whether old bytes may be recognised by anybody. The places of signatures within what they belong to
//! are those of util-linux' libblkid, which udev asks; here only their place within a sector counts, because it is not
//! known where what they belonged to began.

const SECTOR: usize = 512;

struct Signature {
    name: &'static str,
    /// Bytes from the beginning of a sector.
    at: usize,
    magic: &'static [u8],
}

const fn signature(name: &'static str, at: usize, magic: &'static [u8]) -> Signature {
    Signature { name, at, magic }
}

const SIGNATURES: &[Signature] = &[
    signature("GPT", 0, b"EFI PART"),
    signature("partition table or boot sector", 510, &[0x55, 0xaa]),
    signature("md RAID", 0, &[0xfc, 0x4e, 0x2b, 0xa9]),
    signature("md RAID", 0, &[0xa9, 0x2b, 0x4e, 0xfc]),
    signature("DDF RAID", 0, &[0xde, 0x11, 0xde, 0x11]),
    signature("DDF RAID", 0, &[0x11, 0xde, 0x11, 0xde]),
    signature("Intel RAID", 0, b"Intel Raid ISM Cfg Sig. "),
    signature("LVM", 0, b"LABELONE"),
    signature("ZFS", 0, &[0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0]),
    signature("ZFS", 0, &[0, 0, 0, 0, 0, 0xba, 0xb1, 0x0c]),
    signature(
        "bcache",
        24,
        &[
            0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba,
            0x6d, 0x81,
        ],
    ),
    signature("Ceph", 0, b"bluestore block device"),
    signature("VDO", 0, b"dmvdo001"),
    signature("Stratis", 4, b"!Stra0tis\x86\xff\x02^\x41rh"),
    signature("dm-integrity", 0, b"integrt\0"),
    signature("LUKS", 0, b"LUKS\xba\xbe"),
    signature("LUKS", 0, b"SKUL\xba\xbe"),
    signature("XFS", 0, b"XFSB"),
    signature("Btrfs", 64, b"_BHRfS_M"),
    signature("F2FS", 0, &[0x10, 0x20, 0xf5, 0xf2]),
    signature("NTFS", 3, b"NTFS    "),
    signature("exFAT", 3, b"EXFAT   "),
    signature("FAT", 54, b"FAT1"),
    signature("FAT", 82, b"FAT32   "),
    signature("swap", 502, b"SWAPSPACE2"),
    signature("swap", 502, b"SWAP-SPACE"),
    signature("ReiserFS", 52, b"ReIsEr"),
    signature("JFS", 0, b"JFS1"),
    signature("GFS2", 0, &[0x01, 0x16, 0x19, 0x70]),
    signature("OCFS2", 0, b"OCFSV2"),
    signature("ISO 9660", 1, b"CD001"),
    signature("UDF", 1, b"NSR0"),
    signature("SquashFS", 0, b"hsqs"),
];

/// The first that is known in `bytes`, which begin with a sector.
pub fn find(bytes: &[u8]) -> Option<&'static str> {
    bytes.chunks(SECTOR).find_map(|sector| {
        let known = SIGNATURES.iter().find(|signature| {
            sector
                .get(signature.at..)
                .is_some_and(|rest| rest.starts_with(signature.magic))
        });
        known
            .map(|signature| signature.name)
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
        for signature in SIGNATURES {
            let mut bytes = vec![0; 3 * SECTOR];
            let at = SECTOR + signature.at;
            bytes[at..at + signature.magic.len()].copy_from_slice(signature.magic);
            assert_eq!(find(&bytes), Some(signature.name));
            assert_eq!(find(&bytes[..SECTOR]), None);
            bytes.remove(0);
            assert_eq!(find(&bytes), None, "{}", signature.name);
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
