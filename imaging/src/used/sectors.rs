//! Whether what is on a volume can be used on a disk with other logical sectors than it was made for.

use super::Contents;
use super::claims::Filesystem;
use crate::source::ReadAt;
use std::io;

/// Why what `volume` was recognised to hold cannot be used where logical sectors are `sector` bytes, and were others
/// before. `None` if it can.
///
/// # Errors
/// When `volume` cannot be read.
pub fn misfit(volume: &dyn ReadAt, contents: &Contents, sector: u32) -> io::Result<Option<String>> {
    let field = |at, length| -> io::Result<u64> {
        let bytes = volume.bytes_at(at, length)?.into_iter();
        Ok(bytes.rev().fold(0, |all, byte| all << 8 | u64::from(byte)))
    };
    // The smallest pieces that each is read in: Linux mounts none of them where sectors are larger.
    let filesystem = match (
        Filesystem::of_name(&contents.filesystem),
        contents.filesystem.as_str(),
    ) {
        (Some(filesystem), _) => filesystem,
        (None, "") => return Ok(Some("its contents are not recognised".into())),
        (None, _) => {
            return Ok(Some("it is not known to work on other sectors".into()));
        }
    };
    let unit = match filesystem {
        // `s_log_block_size` (fs/ext4/super.c: "bad block size").
        Filesystem::Ext => 1024 << field(1024 + 24, 4)?.min(6),
        // `sb_sectsize`, big-endian (fs/xfs/xfs_mount.c: "device supports %u byte sectors").
        Filesystem::Xfs => field(102, 2)?.swap_bytes() >> 48,
        // `sectorsize` (fs/btrfs/disk-io.c: `btrfs_validate_super`).
        Filesystem::Btrfs => field((64 << 10) + 144, 4)?,
        // `BPB_BytsPerSec` (fs/fat/inode.c: "logical sector size too small for device").
        Filesystem::Fat => field(11, 2)?,
        // A page.
        Filesystem::Swap => 4096,
        Filesystem::Ntfs | Filesystem::Exfat => {
            let why = "its boot sector names the disk's sector size, and Windows accepts no other";
            return Ok(Some(why.into()));
        }
        Filesystem::F2fs => {
            return Ok(Some("it is not known to work on other sectors".into()));
        }
    };
    let misfit = unit < u64::from(sector);
    Ok(misfit.then(|| format!("it counts in units of {unit} bytes, less than a sector there")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Disk;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn judged(filesystem: &str, field: (usize, &[u8]), sector: u32) -> Option<String> {
        let mut bytes = vec![0; 128 << 10];
        bytes[field.0..field.0 + field.1.len()].copy_from_slice(field.1);
        let size = bytes.len() as u64;
        let contents = Contents {
            filesystem: filesystem.into(),
            ..Contents::default()
        };
        misfit(&Disk::new(&mut Cursor::new(bytes), size), &contents, sector).unwrap()
    }

    #[test]
    fn blocks_must_be_whole_sectors() {
        let small = |unit| {
            Some(format!(
                "it counts in units of {unit} bytes, less than a sector there"
            ))
        };
        for (filesystem, at, fits, fails, unit) in [
            ("ext4", 1048, &[2u8, 0][..], &[0u8, 0][..], 1024),
            ("xfs", 102, &[0x10, 0], &[2, 0], 512),
            ("btrfs", 65680, &[0, 0x10], &[0, 8], 2048),
            ("vfat", 11, &[0, 0x10], &[0, 2], 512),
        ] {
            assert_eq!(judged(filesystem, (at, fits), 4096), None, "{filesystem}");
            assert_eq!(
                judged(filesystem, (at, fails), 4096),
                small(unit),
                "{filesystem}"
            );
            assert_eq!(judged(filesystem, (at, fails), 512), None, "{filesystem}");
        }
        assert_eq!(judged("swap", (0, &[]), 4096), None);
    }

    #[test]
    fn what_is_not_known_to_work_does_not() {
        for (filesystem, why) in [
            ("ntfs", "Windows"),
            ("exfat", "Windows"),
            ("", "not recognised"),
            ("LVM2_member", "not known"),
            ("ext4 or xfs", "not known"),
        ] {
            for sector in [512, 4096] {
                let judged = judged(filesystem, (0, &[]), sector).unwrap();
                assert!(judged.contains(why), "{filesystem}: {judged}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_volume_is_too_short_or_too_odd(
            bytes in proptest::collection::vec(any::<u8>(), 0..2048),
            filesystem in prop::sample::select(vec!["ext4", "xfs", "btrfs", "vfat", "swap"]),
        ) {
            let size = bytes.len() as u64;
            let contents = Contents { filesystem: filesystem.into(), ..Contents::default() };
            let _ = misfit(&Disk::new(&mut Cursor::new(bytes), size), &contents, 4096);
        }
    }
}
