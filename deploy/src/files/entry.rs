//! One entry of an open folder: what it has that its successor keeps, and how it is taken away.

use super::FAT;
use super::{LABEL, Place};
use anyhow::{Context, bail};
use pitstop_trees::entry::{Attributes, Xattrs};
use pitstop_trees::inode;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, IFlags, Mode, OFlags, Uid, XattrFlags, fchmod, fchown, fsetxattr,
    fstatfs, openat, statat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;

/// What is replaced.
pub struct Old {
    pub attributes: Attributes,
    flags: IFlags,
}

/// What keeps a file from being replaced.
const HELD: IFlags = IFlags::IMMUTABLE.union(IFlags::APPEND);

impl Old {
    /// # Errors
    /// When it is no file, or cannot be read.
    pub fn of(place: &Place) -> anyhow::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = match openat(&place.folder, &place.name[..], flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other?,
        };
        let found = inode::stat(&opened)?;
        if FileType::from_raw_mode(found.stx_mode.into()) != FileType::RegularFile {
            bail!("it is no file");
        }
        let mut attributes = inode::attributes(&found);
        attributes.xattrs = inode::xattrs(&opened)?;
        let flags = rustix::fs::ioctl_getflags(&opened).unwrap_or(IFlags::empty());
        Ok(Some(Self {
            attributes,
            flags: flags & HELD,
        }))
    }

    /// Takes away what forbids replacing it; returns that.
    ///
    /// # Errors
    /// As the kernel has them.
    pub fn let_go(&self, place: &Place) -> anyhow::Result<IFlags> {
        if !self.flags.is_empty() {
            free(&place.folder, &place.name)?;
        }
        Ok(self.flags)
    }
}

/// Takes `chattr +i` and `+a` away.
///
/// # Errors
/// As the kernel has them.
pub fn free(folder: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = openat(folder, name, flags, Mode::empty())?;
    let has = rustix::fs::ioctl_getflags(&opened)?;
    rustix::fs::ioctl_setflags(&opened, has - HELD)
}

/// The same of an open folder, on filesystems that have such flags.
fn loosen(folder: &OwnedFd) -> rustix::io::Result<()> {
    match rustix::fs::ioctl_getflags(folder) {
        Ok(has) if has.intersects(HELD) => rustix::fs::ioctl_setflags(folder, has - HELD),
        _ => Ok(()),
    }
}

/// Sets them again.
///
/// # Errors
/// As the kernel has them.
pub fn hold(file: &File, flags: IFlags) -> rustix::io::Result<()> {
    let has = rustix::fs::ioctl_getflags(file)?;
    rustix::fs::ioctl_setflags(file, has | flags)
}

/// Gives a new file those of the old one, or root's with `mode`.
///
/// # Errors
/// When the filesystem does not take them.
pub fn attributes(file: &File, old: Option<&Old>, mode: u32) -> anyhow::Result<()> {
    let Some(Old { attributes, .. }) = old else {
        return Ok(fchmod(file, Mode::from_raw_mode(mode))?);
    };
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    fchown(file, Some(uid), Some(gid)).context("setting its owner")?;
    fchmod(file, Mode::from_raw_mode(attributes.mode)).context("setting its mode")?;
    for (key, value) in attributes.xattrs.pairs() {
        fsetxattr(file, CString::new(&key[..])?, value, XattrFlags::empty())
            .context("setting its extended attributes")?;
    }
    Ok(())
}

/// The label of `SELinux` among extended attributes.
#[must_use]
pub fn label(xattrs: &Xattrs) -> Option<Vec<u8>> {
    let found = xattrs.pairs().iter().find(|(key, _)| key == LABEL);
    found.map(|(_, value)| value.clone())
}

/// The label of an entry of an open folder, where it has one. A symlink is not followed.
#[must_use]
pub fn label_in(folder: &OwnedFd, name: &[u8]) -> Option<Vec<u8>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(folder, name, flags, Mode::empty()).ok()?;
    label(&*inode::xattrs(&opened).ok()?)
}

/// Whether a folder is on a filesystem without owners and modes.
///
/// # Errors
/// As the kernel has them.
pub fn is_fat(folder: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(FAT.contains(&fstatfs(folder)?.f_type.cast_unsigned()))
}

/// Removes an entry of an open folder, with all that is in it.
///
/// # Errors
/// As the kernel has them.
pub fn remove_in(folder: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
    let found = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return match unlinkat(folder, name, AtFlags::empty()) {
            Err(Errno::PERM) => {
                free(folder, name)?;
                unlinkat(folder, name, AtFlags::empty())
            }
            other => other,
        };
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(folder, name, flags, Mode::empty())?;
    loosen(&opened)?;
    empty(&opened)?;
    unlinkat(folder, name, AtFlags::REMOVEDIR)
}

/// Removes all that is in an open folder; how many entries that were.
///
/// # Errors
/// As the kernel has them.
pub fn empty(folder: &OwnedFd) -> rustix::io::Result<usize> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    for name in &names {
        remove_in(folder, name)?;
    }
    Ok(names.len())
}
