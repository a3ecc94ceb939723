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
        let control = control()?;
        for _ in 0..TRIES {
            let number = ioctl::free_loop(&control).context("looking for a free loop device")?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let device = open(&path).with_context(|| format!("opening {}", path.display()))?;
            match ioctl::set_up_loop(&device, &file, range, sector) {
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

fn control() -> anyhow::Result<File> {
    const CONTROL: &str = "/dev/loop-control";
    open(Path::new(CONTROL)).with_context(|| format!("opening {CONTROL}, which needs root"))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}
