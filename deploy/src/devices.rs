//! Which block devices a system is on, down to its disks, by sysfs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The folder in sysfs of a block device by its node; `None` of what is none.
#[must_use]
pub fn folder_of(sysfs: &Path, node: &Path) -> Option<PathBuf> {
    let found = fs::metadata(node).ok()?;
    if !found.file_type().is_block_device() {
        return None;
    }
    let (major, minor) = (
        rustix::fs::major(found.rdev()),
        rustix::fs::minor(found.rdev()),
    );
    fs::canonicalize(sysfs.join(format!("dev/block/{major}:{minor}"))).ok()
}

/// A device and all that it stands on: volumes, arrays, and the disks at the end. Folders in sysfs.
#[must_use]
pub fn down(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        if !found.insert(folder.clone()) {
            continue;
        }
        if folder.join("partition").exists()
            && let Some(disk) = folder.parent()
        {
            open.push(disk.to_owned());
        }
        let slaves = fs::read_dir(folder.join("slaves")).into_iter().flatten();
        let slaves = slaves.flatten().map(|slave| slave.path());
        open.extend(slaves.filter_map(|slave| fs::canonicalize(slave).ok()));
    }
    found
}

/// The kernel's name of a device; its node is below `/dev`.
#[must_use]
pub fn name(folder: &Path) -> Option<String> {
    let name = folder.file_name()?.to_str()?;
    // The kernel writes the `/` of names such as `cciss/c0d0` as `!` in sysfs.
    Some(name.replace('!', "/"))
}

/// A line of sysfs; empty where there is none.
#[must_use]
pub fn fact(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().to_owned()
}
