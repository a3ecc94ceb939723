//! What lies under a path: two names, a hard link or a loop device may be of the same bytes.

use nix::sys::stat::{major, minor};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where bytes are: a file by filesystem and inode, a device by its number.
#[derive(Debug, PartialEq, Eq)]
enum Bytes {
    File(u64, u64),
    Device(u64),
}

/// Whether writing to one of two paths changes the other: the same file or device, or a loop device of the file.
/// What cannot be looked at is not the same.
pub fn same_bytes(one: &Path, other: &Path) -> bool {
    bytes(one).is_some_and(|one| bytes(other) == Some(one))
}

fn bytes(path: &Path) -> Option<Bytes> {
    let found = fs::metadata(path).ok()?;
    if !found.file_type().is_block_device() {
        return Some(Bytes::File(found.dev(), found.ino()));
    }
    let number = found.rdev();
    let device = PathBuf::from(format!(
        "/sys/dev/block/{}:{}",
        major(number),
        minor(number)
    ));
    // Of a partition, the whole device's folder lies above.
    let file = [device.join("loop"), device.join("../loop")]
        .iter()
        .find_map(|folder| fs::read_to_string(folder.join("backing_file")).ok());
    match file.and_then(|file| fs::metadata(file.trim_end_matches('\n')).ok()) {
        Some(file) => Some(Bytes::File(file.dev(), file.ino())),
        None => Some(Bytes::Device(number)),
    }
}

/// A loop device of `file` that is mounted or otherwise in use, if there is one.
///
/// # Errors
/// When the devices cannot be listed.
pub fn busy_loop_of(file: &Path) -> io::Result<Option<String>> {
    for device in fs::read_dir("/sys/block")? {
        let name = device?.file_name().to_string_lossy().into_owned();
        let node = Path::new("/dev").join(&name);
        if !name.starts_with("loop") || !same_bytes(&node, file) {
            continue;
        }
        // Opened exclusively, a device that is in use refuses.
        let exclusive = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_EXCL)
            .open(&node);
        if exclusive.is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_the_same_bytes_and_copies_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("disk"), [1; 512]).unwrap();
        fs::copy(at("disk"), at("copy")).unwrap();
        fs::hard_link(at("disk"), at("hard")).unwrap();
        std::os::unix::fs::symlink("disk", at("soft")).unwrap();
        for same in ["disk", "hard", "soft"] {
            assert!(same_bytes(&at("disk"), &at(same)), "{same}");
        }
        assert!(!same_bytes(&at("disk"), &at("copy")));
        assert!(!same_bytes(&at("disk"), &at("missing")));
        assert!(!same_bytes(&at("missing"), &at("missing")));
    }
}
