//! Block devices and the plain files that stand in for them: size, direct I/O, zeroing, flush.

mod backing;
mod buffer;
mod input;
mod ioctl;
mod kernel_view;
pub mod lock;
mod loop_device;
mod mounted;
pub mod nodes;
pub mod signature_places;
mod target;

use anyhow::Context;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

pub use backing::{busy_loop_of, same_bytes};
pub use buffer::Buffer;
pub use input::{DiskInput, Input};
pub use lock::DiskLock;
pub use loop_device::LoopDevice;
pub use mounted::mounted_for_writing;
pub use target::{Output, Target, is_device_path};

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
    if found.is_dir() {
        if is_of_clonezilla(path) {
            anyhow::bail!(
                "{name} is a folder of Clonezilla's, which Pitstop does not read: restore it with Clonezilla, or each \
                 partition with: cat {name}/PARTITION.*-ptcl-img.gz.* | gzip -dc | partclone.restore -s - -o /dev/PARTITION"
            );
        }
        anyhow::bail!("{name} is a folder: this needs a plain file or a block device");
    }
    File::open(path).with_context(|| format!("opening {name}"))
}

/// Clonezilla says in each of its folders what it is, and which partitions are in it.
fn is_of_clonezilla(folder: &Path) -> bool {
    ["clonezilla-img", "parts"]
        .iter()
        .all(|mark| folder.join(mark).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_no_disk_and_clonezillas_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = open_to_read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("is a folder: this needs"), "{error}");
        for mark in ["clonezilla-img", "parts"] {
            fs::write(folder.path().join(mark), "sda1\n").unwrap();
        }
        let error = open_to_read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("a folder of Clonezilla's"), "{error}");
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = DiskInput::open(&pipe).unwrap_err().to_string();
        assert!(error.contains("is a pipe"), "{error}");
    }
}
