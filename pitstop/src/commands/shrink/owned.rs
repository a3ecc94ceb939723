//! What of its partition a filesystem owns, by its superblock: behind its end others may keep theirs, such as the hashes
//! of dm-verity.

use super::filesystems::Shrinker;
use anyhow::Context;
use pitstop_imaging::disk::{DiskInput, Input};
use pitstop_imaging::extents::Extents;
use pitstop_imaging::source::{Disk, ReadAt};
use std::io;
use std::path::Path;

/// The kernel's `Documentation/filesystems/ext4/super.rst`.
const EXT_SUPERBLOCK: u64 = 1024;
const EXT_64BIT: u32 = 0x80;
/// `btrfs_super_block`: where it is, and its `dev_item.total_bytes`.
const BTRFS_SUPERBLOCK: u64 = 64 << 10;
const BTRFS_TOTAL_BYTES: u64 = 0xc9 + 8;

impl Shrinker {
    /// The bytes of `device` that are the filesystem's on it.
    ///
    /// # Errors
    /// When its superblock cannot be read.
    pub fn owned(self, device: &Path) -> anyhow::Result<Extents> {
        on(device, |volume| self.owned_of(volume))
    }

    fn owned_of(self, volume: &mut dyn ReadAt) -> anyhow::Result<Extents> {
        let size = volume.size();
        let mut owned = Extents::new();
        let end = match self {
            Self::Ext => ext_blocks(volume)?.saturating_mul(ext_block_of(volume)?),
            Self::Btrfs => number::<8>(volume, BTRFS_SUPERBLOCK + BTRFS_TOTAL_BYTES)?,
            Self::Ntfs => {
                let sector = number::<2>(volume, 0x0b)?;
                // The copy of the boot sector lies behind the last sector that counts, or at the partition's end.
                owned.insert(size.saturating_sub(sector)..size);
                number::<8>(volume, 0x28)?
                    .saturating_add(1)
                    .saturating_mul(sector)
            }
        };
        owned.insert(0..end.min(size));
        Ok(owned)
    }
}

/// Bytes of a block of the ext2-4 on `device`.
///
/// # Errors
/// When its superblock cannot be read, or has an impossible size.
pub fn ext_block(device: &Path) -> anyhow::Result<u64> {
    on(device, |volume| ext_block_of(volume))
}

/// 1024 shifted by `s_log_block_size`.
fn ext_block_of(volume: &mut dyn ReadAt) -> anyhow::Result<u64> {
    let shift = u32::try_from(number::<4>(volume, EXT_SUPERBLOCK + 0x18)?)?;
    1024_u64
        .checked_shl(shift)
        .filter(|block| (1024..=65536).contains(block))
        .context("its superblock has an impossible block size")
}

/// `s_blocks_count_lo`, and `_hi` where the feature `64bit` gives it a meaning.
fn ext_blocks(volume: &mut dyn ReadAt) -> io::Result<u64> {
    let low = number::<4>(volume, EXT_SUPERBLOCK + 4)?;
    let features = number::<4>(volume, EXT_SUPERBLOCK + 0x60)?;
    if features & u64::from(EXT_64BIT) == 0 {
        return Ok(low);
    }
    Ok(number::<4>(volume, EXT_SUPERBLOCK + 0x150)? << 32 | low)
}

/// A little-endian number of `BYTES` bytes, at most 8.
fn number<const BYTES: usize>(volume: &mut dyn ReadAt, at: u64) -> io::Result<u64> {
    let bytes = volume.bytes_at(at, BYTES)?;
    let numbers = bytes.iter().rev();
    Ok(numbers.fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn on<T>(
    device: &Path,
    act: impl FnOnce(&mut dyn ReadAt) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let input = DiskInput::open(device)?;
    let (size, mut file) = (input.size(), input.file());
    act(&mut Disk::new(&mut file, size))
        .with_context(|| format!("reading the superblock of {}", device.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    const SIZE: u64 = 1 << 20;

    fn owned(shrinker: Shrinker, fields: &[(u64, &[u8])]) -> Extents {
        let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
        for (at, field) in fields {
            let at = usize::try_from(*at).unwrap();
            bytes[at..at + field.len()].copy_from_slice(field);
        }
        let mut cursor = Cursor::new(bytes);
        shrinker
            .owned_of(&mut Disk::new(&mut cursor, SIZE))
            .unwrap()
    }

    #[test]
    fn ext_ends_behind_its_last_block() {
        let blocks = (EXT_SUPERBLOCK + 4, &100_u32.to_le_bytes()[..]);
        let block = (EXT_SUPERBLOCK + 0x18, &[2, 0, 0, 0][..]);
        let high = (EXT_SUPERBLOCK + 0x150, &[1, 0, 0, 0][..]);
        let large = (EXT_SUPERBLOCK + 0x60, &[0xc2, 2, 0, 0][..]);
        assert_eq!(
            owned(Shrinker::Ext, &[blocks, block, high]),
            Extents::single(0..409_600)
        );
        assert_eq!(
            owned(Shrinker::Ext, &[blocks, block, high, large]),
            Extents::single(0..SIZE)
        );
    }

    #[test]
    fn btrfs_ends_where_its_device_does() {
        let total = (0x1_00d1, &700_000_u64.to_le_bytes()[..]);
        assert_eq!(
            owned(Shrinker::Btrfs, &[total]),
            Extents::single(0..700_000)
        );
    }

    #[test]
    fn ntfs_has_a_copy_of_its_boot_sector_behind_it() {
        let sector = (0x0b, &512_u16.to_le_bytes()[..]);
        let sectors = (0x28, &999_u64.to_le_bytes()[..]);
        let mut all = Extents::single(0..512_000);
        all.insert(SIZE - 512..SIZE);
        assert_eq!(owned(Shrinker::Ntfs, &[sector, sectors]), all);
    }
}
