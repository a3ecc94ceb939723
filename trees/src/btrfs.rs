//! Subvolumes of Btrfs, by the kernel's own calls (linux/btrfs.h).

mod raw;
mod shelf;

pub use shelf::{SNAPSHOTS, Shelf};

use crate::beneath;
use raw::{Info, Named, NamedV2, References};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstatfs, openat, statat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// `BTRFS_SUPER_MAGIC` (linux/magic.h).
const MAGIC: u64 = 0x9123_683e;
/// `BTRFS_FIRST_FREE_OBJECTID`: the folder that is the top of a subvolume.
const TOP: u64 = 256;
/// `BTRFS_FS_TREE_OBJECTID`: the subvolume that all others are in.
pub const OUTERMOST: u64 = 5;

/// What the kernel says of a subvolume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subvolume {
    pub id: u64,
    /// The transaction that changed it last.
    pub changed: u64,
    /// Nothing in it can be changed (`btrfs property set … ro true`).
    pub is_read_only: bool,
    uuid: [u8; 16],
    /// Of the one that it is a snapshot of; else zeros.
    parent: [u8; 16],
}

impl Subvolume {
    /// Whether one of the two is a snapshot of the other.
    #[must_use]
    pub fn is_kin(&self, other: &Self) -> bool {
        self.parent == other.uuid || other.parent == self.uuid
    }
}

/// Whether an open folder is the top of a subvolume.
///
/// # Errors
/// As the kernel has them.
pub fn is_subvolume(folder: impl AsFd) -> io::Result<bool> {
    let found = statat(&folder, c"", AtFlags::EMPTY_PATH)?;
    Ok(found.st_ino == TOP && is_btrfs(folder)?)
}

fn is_btrfs(folder: impl AsFd) -> io::Result<bool> {
    // Some architectures have a signed number there.
    let kind = fstatfs(folder)?.f_type;
    Ok(u64::try_from(kind).is_ok_and(|kind| kind == MAGIC))
}

/// Asks of the subvolume whose top is `folder`, which is open for reading.
///
/// # Errors
/// As the kernel has them; before Linux 4.18 it does not tell.
pub fn about(folder: impl AsFd) -> io::Result<Subvolume> {
    let mut info = Info::default();
    // SAFETY: the descriptor is open, and the kernel writes one btrfs_ioctl_get_subvol_info_args of its size.
    unsafe { raw::subvolume_info(folder.as_fd().as_raw_fd(), &raw mut info) }?;
    let [uuid, parent, _] = info.uuids;
    Ok(Subvolume {
        id: info.tree,
        changed: info.changed,
        is_read_only: info.flags & raw::IS_READ_ONLY != 0,
        uuid,
        parent,
    })
}

/// Makes an empty subvolume.
///
/// # Errors
/// When the name cannot be one, or the kernel refuses.
pub fn create(folder: impl AsFd, name: &[u8]) -> io::Result<()> {
    let argument = Named::new(name)?;
    // SAFETY: the descriptor is open, and the kernel reads one btrfs_ioctl_vol_args from a live one.
    unsafe { raw::create(folder.as_fd().as_raw_fd(), &raw const argument) }?;
    Ok(())
}

/// Makes a snapshot of the subvolume whose top is `of`. What is in it then is on the disk.
///
/// # Errors
/// When the name is taken, or the kernel refuses: a file in it is swapped to.
pub fn snapshot(of: impl AsFd, folder: impl AsFd, name: &[u8], access: Access) -> io::Result<()> {
    let argument = NamedV2::new(of.as_fd().as_raw_fd(), name, access == Access::Read)?;
    // SAFETY: the descriptors are open, and the kernel reads one btrfs_ioctl_vol_args_v2 from a live one.
    unsafe { raw::snapshot(folder.as_fd().as_raw_fd(), &raw const argument) }?;
    Ok(())
}

/// Whether a snapshot, or a mount, can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// Removes a subvolume with all that is in it. Empty ones within it go too.
///
/// # Errors
/// When one within it has something, or the kernel refuses: it is the one that is mounted by default.
pub fn delete(folder: impl AsFd, name: &[u8]) -> io::Result<()> {
    let opened = open(&folder, name)?;
    // One that is a snapshot for reading alone has none of its own.
    for within in nested(&opened)? {
        let (above, last) = split(&within);
        let above = beneath::open(opened.as_fd(), above, OFlags::RDONLY | OFlags::DIRECTORY)?;
        match rustix::fs::unlinkat(&above, last, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    drop(opened);
    let argument = Named::new(name)?;
    // SAFETY: the descriptor is open, and the kernel reads one btrfs_ioctl_vol_args from a live one.
    unsafe { raw::delete(folder.as_fd().as_raw_fd(), &raw const argument) }?;
    Ok(())
}

/// Has the subvolume mounted where none is named.
///
/// # Errors
/// As the kernel has them.
pub fn make_default(subvolume: impl AsFd) -> io::Result<()> {
    let id = about(&subvolume)?.id;
    // SAFETY: the descriptor is open, and the kernel reads one u64 from a live one.
    unsafe { raw::make_default(subvolume.as_fd().as_raw_fd(), &raw const id) }?;
    Ok(())
}

/// Opens a subvolume, or a folder, for reading.
///
/// # Errors
/// As the kernel has them.
pub fn open(folder: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(folder, name, how, Mode::empty())?)
}

/// Where in a subvolume others are, as paths from its top, sorted.
///
/// # Errors
/// As the kernel has them; before Linux 4.18 it does not tell.
pub fn nested(subvolume: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let own = about(&subvolume)?.id;
    let mut folders = Vec::new();
    let mut references = References::default();
    loop {
        // SAFETY: the descriptor is open, and the kernel reads and writes one btrfs_ioctl_get_subvol_rootref_args of its size.
        let asked = unsafe { raw::references(subvolume.as_fd().as_raw_fd(), &raw mut references) };
        folders.extend(references.folders());
        match asked {
            Ok(_) => break,
            // There are more than it has room for, and it says from where on.
            Err(nix::errno::Errno::EOVERFLOW) if references.count() > 0 => {}
            Err(error) => return Err(error.into()),
        }
    }
    folders.sort_unstable();
    folders.dedup();
    let mut found = Vec::new();
    for folder in folders {
        let path = raw::path_of(subvolume.as_fd(), own, folder)?;
        within(subvolume.as_fd(), &path, &mut found)?;
    }
    found.sort();
    Ok(found)
}

/// Adds the subvolumes that lie right in the folder `path`.
fn within(subvolume: BorrowedFd, path: &[u8], found: &mut Vec<Vec<u8>>) -> io::Result<()> {
    let folder = beneath::open(subvolume, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let told = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if told.st_ino == TOP && FileType::from_raw_mode(told.st_mode) == FileType::Directory {
            let above = if path.is_empty() {
                Vec::new()
            } else {
                [path, b"/"].concat()
            };
            found.push([&above[..], name.to_bytes()].concat());
        }
    }
    Ok(())
}

/// The folder that a path is in, and its name there.
#[must_use]
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// What is mounted of a Btrfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which<'a> {
    /// All of it.
    Outermost,
    /// What is mounted where none is named.
    Default,
    /// By its path from the outermost.
    Path(&'a str),
}

/// Mounts a Btrfs where nobody sees it: it is unmounted when the handle is closed. One that others have mounted for reading alone
/// stays so where it is only read.
///
/// # Errors
/// As the kernel has them; before Linux 5.2 it has no such mounts.
pub fn mount(source: &Path, which: Which, access: Access) -> io::Result<OwnedFd> {
    let context = fsopen("btrfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", source)?;
    match which {
        Which::Outermost => fsconfig_set_string(&context, "subvolid", OUTERMOST.to_string())?,
        Which::Default => {}
        Which::Path(path) => fsconfig_set_string(&context, "subvol", path)?,
    }
    let mut flags = MountAttrFlags::MOUNT_ATTR_NOATIME;
    if access == Access::Read {
        fsconfig_set_flag(&context, "ro")?;
        flags |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)?)
}

/// Makes a handle of a mount one that can be read and asked.
///
/// # Errors
/// As the kernel has them.
pub fn top_of(mount: impl AsFd) -> io::Result<OwnedFd> {
    open(mount, b".")
}
