//! Room on the disk for an image, before anything of it is given away.

use super::held::with_end;
use super::shelf::HALF;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::fstatvfs;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Makes a file for an image of `size` bytes, with room for all of it: a disk that fills up in the middle would break off answers that
/// have begun.
///
/// # Errors
/// The disk has no room for it, or does not take it. Nothing of it stays.
pub fn reserve(path: &Path, size: u64) -> io::Result<File> {
    let half = with_end(path, HALF);
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(true);
    let file = options.open(&half)?;
    let reserved = file.set_len(size).and_then(|()| take_room(&file, size));
    if reserved.is_err() {
        // Best effort: why there is no room is what matters.
        let _ = std::fs::remove_file(&half);
    }
    reserved.map(|()| file)
}

/// Bytes that the disk does not keep room for yet, of an image at `path` that was begun.
pub fn missing(path: &Path) -> u64 {
    let found = std::fs::metadata(with_end(path, HALF));
    found.map_or(0, |found| {
        let taken = found.blocks().saturating_mul(512);
        found.len().saturating_sub(taken)
    })
}

/// Has the filesystem keep room for the first `size` bytes of a file; of one that cannot, asks whether it has so much.
///
/// # Errors
/// It has not.
pub fn take_room(file: &File, size: u64) -> io::Result<()> {
    let length = i64::try_from(size).map_err(io::Error::other)?;
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        Ok(()) => Ok(()),
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {
            let space = fstatvfs(file)?;
            let free = space
                .blocks_available()
                .saturating_mul(space.fragment_size());
            // What it takes already need not be free as well.
            let taken = file.metadata()?.blocks().saturating_mul(512);
            if free.saturating_add(taken) < size {
                return Err(Errno::ENOSPC.into());
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
