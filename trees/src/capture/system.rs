//! What the filesystems of a tree tell of themselves, and what its own files tell of the system.

use super::mounts::Mount;
use crate::facts::{self, OS_RELEASE, PROGRAMS};
use crate::meta::{Filesystem, Meta};
use anyhow::Context;
use pitstop_imaging::image::FileSource;
use pitstop_imaging::layout;
use pitstop_imaging::source::ReadAt;
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
    let features = match &device {
        Some(device) if info.kind.starts_with("ext") => ext_features(device),
        _ => Vec::new(),
    };
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

/// Features by the names that `mkfs.ext4 -O` takes: the word of the superblock they are in, and their bit
/// (Documentation/filesystems/ext4/super.rst).
const FEATURES: [(usize, u32, &str); 29] = [
    (0x5c, 0x1, "dir_prealloc"),
    (0x5c, 0x4, "has_journal"),
    (0x5c, 0x8, "ext_attr"),
    (0x5c, 0x10, "resize_inode"),
    (0x5c, 0x20, "dir_index"),
    (0x5c, 0x200, "sparse_super2"),
    (0x5c, 0x400, "fast_commit"),
    (0x5c, 0x800, "stable_inodes"),
    (0x5c, 0x1000, "orphan_file"),
    (0x60, 0x2, "filetype"),
    (0x60, 0x10, "meta_bg"),
    (0x60, 0x40, "extent"),
    (0x60, 0x80, "64bit"),
    (0x60, 0x100, "mmp"),
    (0x60, 0x200, "flex_bg"),
    (0x60, 0x400, "ea_inode"),
    (0x60, 0x2000, "metadata_csum_seed"),
    (0x60, 0x4000, "large_dir"),
    (0x60, 0x8000, "inline_data"),
    (0x60, 0x10000, "encrypt"),
    (0x60, 0x20000, "casefold"),
    (0x64, 0x1, "sparse_super"),
    (0x64, 0x2, "large_file"),
    (0x64, 0x8, "huge_file"),
    (0x64, 0x20, "dir_nlink"),
    (0x64, 0x40, "extra_isize"),
    (0x64, 0x100, "quota"),
    (0x64, 0x400, "metadata_csum"),
    (0x64, 0x2000, "project"),
];

fn ext_features(device: &dyn ReadAt) -> Vec<String> {
    let Ok(superblock) = device.bytes_at(1024, 1024) else {
        return Vec::new();
    };
    let word = |at: usize| {
        let bytes = superblock
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    };
    let set = FEATURES.iter().filter(|(at, bit, _)| word(*at) & bit != 0);
    set.map(|(.., name)| (*name).to_owned()).collect()
}

/// Whether a path on this computer is the root that it runs from.
pub fn is_running_root(root: &Path) -> bool {
    std::fs::canonicalize(root).is_ok_and(|real| real == Path::new("/"))
}
