//! A stretch of a disk that other crates read as a filesystem, and nothing written. What is read is bounded, whatever a
//! filesystem says of itself: a damaged one may go round in circles.

use crate::source::ReadAt;
use ext4_view::Ext4Read;
use std::cell::Cell;
use std::error::Error;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::rc::Rc;

pub(crate) struct Part<D> {
    disk: D,
    start: u64,
    size: u64,
    at: u64,
    /// Bytes that may still be read.
    left: Rc<Cell<u64>>,
}

impl<D: ReadAt> Part<D> {
    pub(crate) fn new(disk: D, start: u64, size: u64, most: u64) -> Self {
        Self {
            disk,
            start,
            size,
            at: 0,
            left: Rc::new(Cell::new(most)),
        }
    }

    /// What may still be read: to allow more of it once it is known how much is wanted.
    pub(crate) fn left(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.left)
    }
}

impl<D: ReadAt> ReadAt for Part<D> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let length = buffer.len() as u64;
        if at.checked_add(length).is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let left = self.left.get().checked_sub(length);
        self.left
            .set(left.ok_or_else(|| io::Error::other("too much is to be read of it"))?);
        self.disk
            .read_exact_at(buffer, self.start.saturating_add(at))
    }
}

impl<D: ReadAt> Ext4Read for Part<D> {
    fn read(&mut self, at: u64, buffer: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self.read_exact_at(buffer, at)?)
    }
}

impl<D: ReadAt> Read for Part<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        if let Some(part) = buffer.get_mut(..length) {
            self.read_exact_at(part, self.at)?;
        }
        self.at += length as u64;
        Ok(length)
    }
}

impl<D: ReadAt> Seek for Part<D> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

impl<D> Write for Part<D> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
