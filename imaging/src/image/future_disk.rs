//! A disk as it will be when an image is on it. What is to be done to it then is tried on that, before the first write.

use super::ImageSource;
use crate::disk::{Output, Target};
use crate::source::ReadAt;
use crate::table::{TableWrite, lay_over};
use std::io;

/// The bytes of an image, behind its end those that the disk has already, and pieces over both.
pub struct FutureDisk<'a> {
    image: Box<dyn ReadAt + 'a>,
    output: &'a Target,
    pieces: Vec<TableWrite>,
}

impl<'a> FutureDisk<'a> {
    pub fn new(image: Box<dyn ReadAt + 'a>, output: &'a Target) -> Self {
        Self {
            image,
            output,
            pieces: Vec::new(),
        }
    }

    /// Lays pieces over it.
    pub fn put(&mut self, pieces: impl IntoIterator<Item = TableWrite>) {
        self.pieces.extend(pieces);
    }
}

impl ReadAt for FutureDisk<'_> {
    fn size(&self) -> u64 {
        self.output.limit().unwrap_or(self.image.size())
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let there = self.image.size().saturating_sub(at);
        let there = usize::try_from(there).map_or(buffer.len(), |there| there.min(buffer.len()));
        let (own, behind) = buffer.split_at_mut(there);
        self.image.read_exact_at(own, at)?;
        if !behind.is_empty() {
            self.output.read_exact_at(behind, at + there as u64)?;
        }
        lay_over(buffer, at, self.pieces.iter())
    }
}

/// A raw image: its bytes are the disk's.
pub struct Raw<'a>(pub &'a dyn ImageSource);

impl ReadAt for Raw<'_> {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Disk;
    use std::io::Cursor;

    #[test]
    fn image_disk_and_pieces_are_seen_through_one_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, vec![7; 4096]).unwrap();
        let target = Target::open(&path).unwrap();
        let mut bytes = Cursor::new(vec![1; 1024]);
        let mut coming = FutureDisk::new(Box::new(Disk::new(&mut bytes, 1024)), &target);
        coming.put([(1000, vec![2; 48]), (1010, vec![3; 4])]);
        assert_eq!(coming.size(), 4096);
        let mut seen = vec![0; 4096];
        coming.read_exact_at(&mut seen, 0).unwrap();
        let mut wanted = [vec![1; 1000], vec![2; 48], vec![7; 3048]].concat();
        wanted[1010..1014].fill(3);
        assert!(seen == wanted);
        coming.read_exact_at(&mut seen[..100], 1008).unwrap();
        assert!(seen[..100] == wanted[1008..1108]);
    }
}
