//! One deploy at a time onto a disk. The disk itself is locked for moments only: its parts are opened one after the other, by other
//! programs, too.

use anyhow::{Context, bail};
use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

/// Keeps other deploys away until what it returns is dropped, or this process ends: names that only one has (unix(7), "abstract").
///
/// # Errors
/// When another deploy has one of them.
pub fn take(disks: &[&Path]) -> anyhow::Result<Vec<UnixListener>> {
    disks.iter().map(|disk| take_one(disk)).collect()
}

fn take_one(disk: &Path) -> anyhow::Result<UnixListener> {
    let locking = || format!("keeping other deploys from {}", disk.display());
    let found = fs::metadata(disk).with_context(locking)?;
    let name = if found.file_type().is_block_device() {
        format!("pitstop-deploy-device-{:x}", found.rdev())
    } else {
        format!("pitstop-deploy-file-{:x}-{:x}", found.dev(), found.ino())
    };
    let address = SocketAddr::from_abstract_name(name).with_context(locking)?;
    match UnixListener::bind_addr(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => bail!(
            "another deploy is at work on {}: wait until it is done",
            disk.display()
        ),
        other => other.with_context(locking),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_refused_until_the_first_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        fs::write(&one, "").unwrap();
        fs::write(&other, "").unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("one", &link).unwrap();
        let held = take(&[&one]).unwrap();
        let error = take(&[&other, &link]).unwrap_err().to_string();
        assert!(error.contains("another deploy is at work"), "{error}");
        drop(held);
        take(&[&other, &link]).unwrap();
    }
}
