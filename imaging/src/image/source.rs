//! An image in a local file.

use super::ImageSource;
use crate::source::ReadAt;
use anyhow::Context;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Reads an image from a local path. The size is taken once, when it is opened.
#[derive(Debug)]
pub struct FileSource {
    name: String,
    file: File,
    size: u64,
}

impl FileSource {
    /// # Errors
    /// When the file cannot be opened, or is a folder.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        Self::of(path.display().to_string(), crate::disk::open_to_read(path)?)
    }

    /// Of a file that is open already; `name` stands for it in messages.
    ///
    /// # Errors
    /// When its size cannot be told.
    pub fn of(name: String, file: File) -> anyhow::Result<Self> {
        let size = crate::disk::size_of(&file).with_context(|| format!("sizing {name}"))?;
        Ok(Self { name, file, size })
    }
}

impl ReadAt for FileSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }
}

impl ImageSource for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Stream {
            file: self.file.try_clone()?,
            at: offset,
            end: self.size,
        }))
    }
}

/// Positioned reads, so that streams of one source do not share a file position.
struct Stream {
    file: File,
    at: u64,
    end: u64,
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buf.len().min(left);
        let read = self.file.read_at(&mut buf[..wanted], self.at)?;
        if read == 0 && wanted > 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the file ends at {}, it had {} bytes", self.at, self.end),
            ));
        }
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_shrinks_while_read_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        std::fs::write(&path, [7; 100]).unwrap();
        let source = FileSource::open(&path).unwrap();
        assert_eq!(source.size(), 100);
        let mut stream = source.stream_from(90).unwrap();
        let mut tail = Vec::new();
        stream.read_to_end(&mut tail).unwrap();
        assert_eq!(tail, [7; 10]);
        std::fs::write(&path, [7; 50]).unwrap();
        let mut stream = source.stream_from(0).unwrap();
        let err = stream.read_to_end(&mut tail).unwrap_err();
        assert_eq!(err.to_string(), "the file ends at 50, it had 100 bytes");
    }
}
