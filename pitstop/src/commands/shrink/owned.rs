//! What of its partition a filesystem owns, by its superblock: behind its end others may keep theirs, such as the hashes
//! of dm-verity.

use super::filesystems::Shrinker;
use anyhow::Context;
use pitstop_imaging::disk::{DiskInput, Input};
use pitstop_imaging::extents::Extents;
use pitstop_imaging::source::{Disk, ReadAt};
use pitstop_imaging::used::claims::{self, Filesystem};
use std::path::Path;

/// `s_log_block_size` (the kernel's `Documentation/filesystems/ext4/super.rst`).
const EXT_BLOCK_SIZE: u64 = 1024 + 0x18;

impl Shrinker {
    /// The bytes of `device` that are the filesystem's on it.
    ///
    /// # Errors
    /// When its superblock cannot be read.
    pub fn owned(self, device: &Path) -> anyhow::Result<Extents> {
        on(device, |volume| {
            let size = volume.size();
            Ok(claims::owned(self.filesystem(), volume)?.clipped(0..size))
        })
    }

    fn filesystem(self) -> Filesystem {
        match self {
            Self::Ext => Filesystem::Ext,
            Self::Btrfs => Filesystem::Btrfs,
            Self::Ntfs => Filesystem::Ntfs,
        }
    }
}

/// Bytes of a block of the ext2-4 on `device`.
///
/// # Errors
/// When its superblock cannot be read, or has an impossible size.
pub fn ext_block(device: &Path) -> anyhow::Result<u64> {
    on(device, |volume| ext_block_of(volume))
}

fn ext_block_of(volume: &dyn ReadAt) -> anyhow::Result<u64> {
    let raw = volume.bytes_at(EXT_BLOCK_SIZE, 4)?;
    let shift = raw
        .iter()
        .rev()
        .fold(0, |all, byte| all << 8 | u32::from(*byte));
    1024_u64
        .checked_shl(shift)
        .filter(|block| (1024..=65536).contains(block))
        .context("its superblock has an impossible block size")
}

fn on<T>(device: &Path, act: impl FnOnce(&dyn ReadAt) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let input = DiskInput::open(device)?;
    let (size, mut file) = (input.size(), input.file());
    act(&mut Disk::new(&mut file, size))
        .with_context(|| format!("reading the superblock of {}", device.display()))
}
