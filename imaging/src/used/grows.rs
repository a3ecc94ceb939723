//! Whether a filesystem is in a state from which its own programs let it grow: known features, no errors on record,
//! nothing that they refuse. What is not known to work is refused before anything is written.

use super::{Untrusted, btrfs, ext, ntfs, xfs};
use crate::extents::Extents;
use crate::source::ReadAt;

/// A filesystem that may grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Growable {
    /// Its bytes that are enough to ask its program whether it knows all features; empty where that needs no asking.
    pub head: Extents,
    /// The oldest kernel that mounts it, major and minor, where it grows while it is mounted.
    pub kernel: Option<(u32, u32)>,
}

/// What is known of `filesystem` on `volume`, which is to have `to` bytes.
///
/// # Errors
/// Why it cannot grow, or why that cannot be told.
pub fn growable(volume: &dyn ReadAt, filesystem: &str, to: u64) -> Result<Growable, String> {
    let found = match filesystem {
        "ext2" | "ext3" | "ext4" => {
            ext::check_growth(volume, to).map(|head| Growable { head, kernel: None })
        }
        "xfs" => xfs::check_growth(volume).map(|kernel| Growable {
            head: Extents::new(),
            kernel: Some(kernel),
        }),
        "btrfs" => btrfs::check_growth(volume, to).map(|()| Growable::default()),
        "ntfs" => ntfs::check_growth(volume).map(|()| Growable::default()),
        other => Err(Untrusted::new(format!(
            "no program is known that grows {other}"
        ))),
    };
    found.map_err(|doubt| doubt.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Disk;
    use proptest::prelude::*;
    use std::io::Cursor;

    proptest! {
        #[test]
        fn no_volume_is_too_short_or_too_odd(
            bytes in proptest::collection::vec(any::<u8>(), 0..4096),
            at in 0usize..80 << 10,
            filesystem in prop::sample::select(vec!["ext4", "xfs", "btrfs", "ntfs", "vfat"]),
            to: u64,
        ) {
            let mut disk = vec![0; 96 << 10];
            disk[1080..1082].copy_from_slice(&[0x53, 0xef]);
            disk[at..at + bytes.len()].copy_from_slice(&bytes);
            let size = disk.len() as u64;
            let _ = growable(&Disk::new(&mut Cursor::new(disk), size), filesystem, to);
        }
    }
}
