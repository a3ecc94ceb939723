//! Block devices and the plain files that stand in for them: size, direct I/O, zeroing, flush.

mod backing;
mod buffer;
mod input;
mod ioctl;
mod kernel_view;
pub mod leftovers;
mod loop_device;
pub mod nodes;
pub mod signatures;
mod target;

use anyhow::Context;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

pub use backing::{busy_loop_of, same_bytes};
pub use buffer::Buffer;
pub use input::{DiskInput, Input};
pub use loop_device::LoopDevice;
pub use target::{Output, Target};

/// Bytes of an open plain file or block device.
///
/// # Errors
/// The kernel's, or `InvalidInput` for anything else than these two.
pub fn size_of(file: &File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    if kind.is_block_device() {
        ioctl::size(file)
    } else if kind.is_file() {
        Ok(metadata.len())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "this is neither a plain file nor a block device",
        ))
    }
}

/// Opens what is to be read as a disk or an image; never waits.
///
/// # Errors
/// The kernel's, and for a pipe, which would wait for its other end and has no size.
pub(crate) fn open_to_read(path: &Path) -> anyhow::Result<File> {
    let name = path.display();
    let found = fs::metadata(path).with_context(|| format!("opening {name}"))?;
    if found.file_type().is_fifo() {
        anyhow::bail!("{name} is a pipe: this needs a plain file or a block device");
    }
    File::open(path).with_context(|| format!("opening {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = DiskInput::open(&pipe).unwrap_err().to_string();
        assert!(error.contains("is a pipe"), "{error}");
    }
}
