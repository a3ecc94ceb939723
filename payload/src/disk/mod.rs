//! Block devices and the plain files that stand in for them: size, direct I/O, zeroing, flush.

mod buffer;
mod input;
mod ioctl;
mod kernel_view;
pub mod leftovers;
pub(crate) mod passthrough;
pub mod signatures;
mod target;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;

pub use buffer::Buffer;
pub use input::{DiskInput, Input};
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
