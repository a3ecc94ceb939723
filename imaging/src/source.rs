//! Positioned reads of a disk, and of the parts of it that tables and volume managers cut out.

use std::cell::RefCell;
use std::io::{self, Read, Seek, SeekFrom};

/// Something of a known size, in bytes, that can be read anywhere: a disk, a partition, a stored image, the target of a
/// restore.
pub trait ReadAt {
    /// Bytes in all.
    fn size(&self) -> u64;

    /// Fills `buffer` from byte `at` on. Reading past the end is an error, never a short read.
    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;

    /// `length` bytes from `at` on; the caller bounds `length`.
    fn bytes_at(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        check_bounds(at, length, self.size())?;
        let mut buffer = vec![0; length];
        self.read_exact_at(&mut buffer, at)?;
        Ok(buffer)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        (**self).read_exact_at(buffer, at)
    }
}

/// A whole disk, or a file that holds one.
#[derive(Debug)]
pub struct Disk<'a, R> {
    inner: RefCell<&'a mut R>,
    size: u64,
}

impl<'a, R: Read + Seek> Disk<'a, R> {
    /// `size` in bytes; nothing behind it is ever read.
    pub fn new(inner: &'a mut R, size: u64) -> Self {
        Self {
            inner: RefCell::new(inner),
            size,
        }
    }
}

impl<R: Read + Seek> ReadAt for Disk<'_, R> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        check_bounds(at, buffer.len(), self.size)?;
        let mut inner = self.inner.borrow_mut();
        inner
            .seek(SeekFrom::Start(at))
            .and_then(|_| inner.read_exact(buffer))
            .map_err(|err| {
                let text = format!("reading {} bytes at {at}: {err}", buffer.len());
                io::Error::new(err.kind(), text)
            })
    }
}

/// A stretch of another source: a partition of a disk.
pub struct Window<'a> {
    outer: &'a dyn ReadAt,
    start: u64,
    size: u64,
}

impl<'a> Window<'a> {
    /// The `size` bytes of `outer` from `start` on.
    pub fn new(outer: &'a dyn ReadAt, start: u64, size: u64) -> Self {
        Self { outer, start, size }
    }
}

impl ReadAt for Window<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        check_bounds(at, buffer.len(), self.size)?;
        self.outer
            .read_exact_at(buffer, self.start.saturating_add(at))
    }
}

/// A source as a stream, for crates that read those.
pub struct Stream<'a> {
    source: &'a dyn ReadAt,
    at: u64,
}

impl<'a> Stream<'a> {
    pub fn new(source: &'a dyn ReadAt) -> Self {
        Self { source, at: 0 }
    }

    /// What it reads, for reads elsewhere in between.
    pub fn source(&self) -> &'a dyn ReadAt {
        self.source
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.source.size().saturating_sub(self.at);
        let length = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if let Some(part) = buffer.get_mut(..length) {
            self.source.read_exact_at(part, self.at)?;
        }
        self.at += u64::try_from(length).map_err(io::Error::other)?;
        Ok(length)
    }
}

impl Seek for Stream<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.source.size().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "seeking before the start")
        })?;
        Ok(self.at)
    }
}

pub(crate) fn check_bounds(at: u64, length: usize, size: u64) -> io::Result<()> {
    let end = u64::try_from(length)
        .ok()
        .and_then(|length| at.checked_add(length));
    if end.is_none_or(|end| end > size) {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("reading {length} bytes at {at}: this is past the end at {size}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn a_stream_ends_with_its_source() {
        let mut bytes = Cursor::new((0..100u8).collect::<Vec<_>>());
        let disk = Disk::new(&mut bytes, 100);
        let mut stream = Stream::new(&disk);
        assert_eq!(stream.seek(SeekFrom::End(-3)).unwrap(), 97);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, [97, 98, 99]);
        assert_eq!(stream.seek(SeekFrom::Current(-1)).unwrap(), 99);
        let err = stream.seek(SeekFrom::Current(-100)).unwrap_err();
        assert_eq!(err.to_string(), "seeking before the start");
    }

    #[test]
    fn a_window_sees_its_own_bytes_and_no_others() {
        let mut bytes = Cursor::new((0..100u8).collect::<Vec<_>>());
        let disk = Disk::new(&mut bytes, 100);
        let window = Window::new(&disk, 40, 10);
        assert_eq!(window.bytes_at(2, 3).unwrap(), [42, 43, 44]);
        let err = window.bytes_at(8, 3).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(
            err.to_string(),
            "reading 3 bytes at 8: this is past the end at 10"
        );
    }
}
