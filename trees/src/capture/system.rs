//! What the filesystems of a tree tell of themselves, and what its own files tell of the system.

use super::features;
use super::mounts::Mount;
use crate::facts::{self, OS_RELEASE, PROGRAMS};
use crate::meta::{Filesystem, Meta};
use anyhow::Context;
use pitstop_imaging::image::FileSource;
use pitstop_imaging::layout;
use pitstop_imaging::used;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// More than an os-release file has, and than the beginning of a program needs.
const MOST: u64 = 64 << 10;

/// Distribution and architecture, by files below `root`. A tree need not have any of them.
pub fn of_root(meta: &mut Meta, root: &OwnedFd) {
    let text = |path: &&str| String::from_utf8(read(root, path)?).ok();
    meta.os = OS_RELEASE
        .iter()
        .find_map(text)
        .and_then(|text| facts::os_release(&text));
    let program = PROGRAMS.iter().find_map(|path| read(root, path));
    let machine = program.as_deref().and_then(facts::architecture);
    meta.architecture = machine.unwrap_or_default().into();
}

/// The beginning of a file. Symlinks are the tree's, as they are to its own programs.
fn read(root: &OwnedFd, path: &str) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()?;
    let mut bytes = Vec::new();
    File::from(opened).take(MOST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The filesystem of a mount, with what its superblock tells where its device can be read.
pub fn of_mount(mount: &Mount) -> Option<Filesystem> {
    let info = mount.info.as_ref()?;
    let device = FileSource::open(&info.source).ok();
    let found = device.as_ref().map(|device| used::recognise(device));
    let features = device
        .as_ref()
        .map(|device| features::of(&info.kind, device))
        .unwrap_or_default();
    let subvolume = if info.kind == "btrfs" {
        String::from_utf8_lossy(&info.root).into_owned()
    } else {
        String::new()
    };
    Some(Filesystem {
        mount: mount.path.to_string(),
        kind: info.kind.clone(),
        uuid: found
            .as_ref()
            .map(|found| found.uuid.clone())
            .unwrap_or_default(),
        label: found.map(|found| found.label).unwrap_or_default(),
        features,
        options: info.options.clone(),
        subvolume,
    })
}

/// The layout of the disk that the root is on a partition of; `None` where it is on none, as on LVM or RAID.
///
/// # Errors
/// When the disk cannot be read.
pub fn layout(root: &Mount) -> anyhow::Result<Option<toml::Table>> {
    let Some(disk) = root.info.as_ref().and_then(|info| disk_of(&info.source)) else {
        return Ok(None);
    };
    let layout = layout::capture(&disk, true)?.to_toml()?;
    Ok(Some(layout.parse().context("reading the layout again")?))
}

/// The disk of a partition, by its folder in sysfs.
fn disk_of(partition: &Path) -> Option<PathBuf> {
    let found = fs::metadata(partition).ok()?;
    if !found.file_type().is_block_device() {
        return None;
    }
    let (major, minor) = (
        rustix::fs::major(found.rdev()),
        rustix::fs::minor(found.rdev()),
    );
    let folder = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    if !folder.join("partition").exists() {
        return None;
    }
    Some(Path::new("/dev").join(folder.parent()?.file_name()?))
}

/// Whether a path on this computer is the root that it runs from.
pub fn is_running_root(root: &Path) -> bool {
    std::fs::canonicalize(root).is_ok_and(|real| real == Path::new("/"))
}
