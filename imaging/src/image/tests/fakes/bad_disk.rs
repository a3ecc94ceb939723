//! A disk that is read, with bad sectors.

use super::at;
use crate::disk::Input;
use nix::errno::Errno;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// A disk with bad sectors, some for ever, some for one try; never gives more than `most` bytes.
pub struct BadDisk {
    pub bytes: Vec<u8>,
    pub dead: Range<u64>,
    pub weak: Range<u64>,
    pub tries: AtomicU64,
    pub most: usize,
}

impl Input for BadDisk {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], place: u64) -> io::Result<usize> {
        let length = buffer.len().min(self.most);
        let end = place + length as u64;
        let meets = |range: &Range<u64>| place < range.end && end > range.start;
        let tried = self.tries.fetch_add(1, Ordering::Relaxed);
        if tried % 7 == 3 {
            return Err(Errno::EINTR.into());
        }
        if meets(&self.dead) || (meets(&self.weak) && tried.is_multiple_of(2)) {
            return Err(Errno::EIO.into());
        }
        buffer[..length].copy_from_slice(&self.bytes[at(place)..at(end)]);
        Ok(length)
    }
}
