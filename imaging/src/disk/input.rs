//! A disk that is read: past the page cache where it is a device, by holes where it is a file.

use super::buffer::is_aligned;
use super::ioctl;
use crate::extents::Extents;
use crate::source::Disk;
use crate::table;
use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc::O_DIRECT;
use nix::unistd::{Whence, lseek64};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// A disk that may be failing, read by several threads at once. Unlike [`ReadAt`](crate::source::ReadAt), a read may end
/// early: where it ends is the only hint of where a bad sector begins.
pub trait Input: Send + Sync {
    /// Bytes.
    fn size(&self) -> u64;

    /// Some bytes from `at` on, at least one unless `buffer` is empty.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
}

/// A block device or a plain file, open for reading.
#[derive(Debug)]
pub struct DiskInput {
    file: File,
    direct: Option<File>,
    size: u64,
    sectors: (u32, u32),
}

impl DiskInput {
    /// # Errors
    /// When it cannot be opened or sized, or is neither a block device nor a plain file.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        let file = super::open_to_read(path)?;
        let size = super::size_of(&file).with_context(|| format!("sizing {name}"))?;
        let block = file
            .metadata()
            .with_context(|| format!("sizing {name}"))?
            .file_type()
            .is_block_device();
        let (mut sectors, mut direct) = ((512, 512), None);
        if block {
            let sizes = ioctl::logical_sector_size(&file)
                .and_then(|logical| Ok((logical, ioctl::physical_sector_size(&file)?)));
            sectors = sizes.with_context(|| format!("asking {name} for its sector size"))?;
            // A device without direct I/O is read through the cache.
            direct = OpenOptions::new()
                .read(true)
                .custom_flags(O_DIRECT)
                .open(path)
                .ok();
        } else {
            let told = table::sector_size_of(&Disk::new(&mut &file, size));
            let sector = told.with_context(|| format!("looking for a table in {name}"))?;
            sectors = sector.map_or(sectors, |sector| (sector, sector));
        }
        // Only advice: nothing depends on it.
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL);
        Ok(Self {
            file,
            direct,
            size,
            sectors,
        })
    }

    /// Logical and physical sector size, bytes; of a plain file what its GPT counts in, 512 where it has none.
    pub fn sector_sizes(&self) -> (u32, u32) {
        self.sectors
    }

    /// The open file, for readers that seek.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where a plain file has data; the rest are holes, which read as zeros. All of a device.
    ///
    /// # Errors
    /// The kernel's, but for a filesystem that cannot tell: that has data everywhere.
    pub fn data(&self) -> io::Result<Extents> {
        let mut data = Extents::new();
        let mut at = 0;
        while self.direct.is_none() && at < self.size {
            let offset = i64::try_from(at).map_err(|_| io::Error::from(Errno::EOVERFLOW))?;
            let start = match lseek64(&self.file, offset, Whence::SeekData) {
                Ok(start) => start.unsigned_abs(),
                Err(Errno::ENXIO) => return Ok(data),
                Err(Errno::EINVAL) => return Ok(Extents::single(0..self.size)),
                Err(errno) => return Err(errno.into()),
            };
            let end = lseek64(&self.file, start.cast_signed(), Whence::SeekHole)?;
            at = end.unsigned_abs().min(self.size);
            data.insert(start..at);
        }
        if self.direct.is_some() {
            data.insert(0..self.size);
        }
        Ok(data)
    }
}

impl Input for DiskInput {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        match &self.direct {
            Some(direct) if is_aligned(buffer, at) => direct.read_at(buffer, at),
            _ => self.file.read_at(buffer, at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with a GPT of sectors of `sector` bytes, as sgdisk would write it.
    fn with_gpt(path: &Path, sector: u64) -> File {
        const SIZE: u64 = 64 << 20;
        let file = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        file.set_len(SIZE).unwrap();
        let block = gpt::disk::LogicalBlockSize::try_from(sector).unwrap();
        let last = u32::try_from(SIZE / sector - 1).unwrap();
        let mbr = gpt::mbr::ProtectiveMBR::with_lb_size(last);
        mbr.overwrite_lba0(&mut &file).unwrap();
        let mut table = gpt::GptConfig::new()
            .writable(true)
            .logical_block_size(block)
            .create_from_device(file.try_clone().unwrap(), None)
            .unwrap();
        table.write_inplace().unwrap();
        file
    }

    #[test]
    fn a_file_of_a_disk_has_the_sectors_that_its_gpt_counts_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let sectors = || DiskInput::open(&path).unwrap().sector_sizes();
        for sector in [512u32, 4096] {
            let file = with_gpt(&path, sector.into());
            assert_eq!(sectors(), (sector, sector));
            // The first copy is gone, then only its sum is wrong, then there is none at all.
            file.write_all_at(&[0; 512], sector.into()).unwrap();
            assert_eq!(sectors(), (sector, sector));
            let end = (64 << 20) - u64::from(sector);
            file.write_all_at(b"EFI PART", sector.into()).unwrap();
            file.write_all_at(&[0; 512], end).unwrap();
            assert_eq!(sectors(), (sector, sector));
            file.write_all_at(&[0; 512], sector.into()).unwrap();
            assert_eq!(sectors(), (512, 512));
        }
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(sectors(), (512, 512));
    }

    #[test]
    fn holes_of_a_file_are_not_data() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let file = File::create(&path).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&[1; 4096], 32 << 20).unwrap();
        let input = DiskInput::open(&path).unwrap();
        let data = input.data().unwrap();
        assert!(data.touches(32 << 20..(32 << 20) + 4096));
        assert!(data.total() < 16 << 20, "{data:?}");
        assert_eq!(input.size(), 64 << 20);
    }
}
