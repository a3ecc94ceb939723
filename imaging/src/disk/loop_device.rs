//! A part of a disk or of a file as a block device of its own, for tools that take nothing else.

use super::ioctl;
use anyhow::{Context, bail};
use nix::errno::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Others may take the device that was free a moment ago.
const TRIES: usize = 20;

/// A loop device; free again when it is dropped and nothing else has it open.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    device: File,
}

impl LoopDevice {
    /// Whether one can be had.
    ///
    /// # Errors
    /// When this is not root, or the kernel has none.
    pub fn check() -> anyhow::Result<()> {
        let control = control()?;
        ioctl::free_loop(&control)
            .map(drop)
            .context("looking for a free loop device")
    }

    /// Shows `range` of the disk or file at `path`, in logical sectors of `sector` bytes.
    ///
    /// # Errors
    /// As [`check`](Self::check); when `path` cannot be opened for writing.
    pub fn new(path: &Path, range: &Range<u64>, sector: u32) -> anyhow::Result<Self> {
        let file = open(path).with_context(|| format!("opening {}", path.display()))?;
        Self::of(&file, range, sector, Access::Write)
    }

    /// The same, so that nobody can write to it, nor through it.
    ///
    /// # Errors
    /// As [`check`](Self::check); when `path` cannot be read.
    pub fn reading(path: &Path, range: &Range<u64>, sector: u32) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        Self::of(&file, range, sector, Access::Read)
    }

    fn of(file: &File, range: &Range<u64>, sector: u32, access: Access) -> anyhow::Result<Self> {
        let control = control()?;
        for _ in 0..TRIES {
            let number = ioctl::free_loop(&control).context("looking for a free loop device")?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = match access {
                Access::Read => File::open(&path),
                Access::Write => open(&path),
            };
            let device = device.with_context(|| format!("opening {}", path.display()))?;
            match ioctl::set_up_loop(&device, file, range, sector) {
                Ok(()) => return Ok(Self { path, device }),
                Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("setting up {}", path.display()));
                }
            }
        }
        bail!("every loop device that was free was taken by others")
    }

    /// Its node.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until all that was written is safe.
    ///
    /// # Errors
    /// When something could not be written; without this call nobody would know.
    pub fn finish(self) -> io::Result<()> {
        self.device.sync_all()
    }
}

/// The kernel lets nobody write to a loop device that was set up by a handle that cannot.
#[derive(Clone, Copy)]
enum Access {
    Read,
    Write,
}

fn control() -> anyhow::Result<File> {
    const CONTROL: &str = "/dev/loop-control";
    open(Path::new(CONTROL)).with_context(|| format!("opening {CONTROL}, which needs root"))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::ioctl::is_write_protected;
    use std::io::{Read as _, Write as _};

    #[test]
    fn one_that_is_read_takes_nothing_that_is_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..16).flat_map(|sector| [sector; 512]).collect();
        std::fs::write(file.path(), &bytes).unwrap();
        let device = LoopDevice::reading(file.path(), &(1024..4096), 512).unwrap();
        assert!(is_write_protected(&device.device).unwrap());
        let mut shown = Vec::new();
        let mut opened = File::open(device.path()).unwrap();
        opened.read_to_end(&mut shown).unwrap();
        assert_eq!(shown, bytes[1024..4096]);
        let written = open(device.path()).and_then(|mut device| device.write_all(b"x"));
        let error = written.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
