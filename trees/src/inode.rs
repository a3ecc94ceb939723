//! Attributes of what is open: read for an image, and set from one.

use crate::entry::{Attributes, Time, Xattrs};
use crate::flags::Flags;
use rustix::fs::{AtFlags, Statx, StatxFlags, ioctl_getflags, statx};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

/// Names of extended attributes that a copy is not to have: how NFS, XFS and others show what they keep otherwise.
const NOT_COPIED: [&[u8]; 5] = [
    b"trusted.SGI_ACL_FILE",
    b"trusted.SGI_ACL_DEFAULT",
    b"system.nfs4_acl",
    b"system.cifs_acl",
    b"security.evm",
];
/// How Btrfs compresses a file, and what is made in a folder. As with flags that say how data is stored, other filesystems pass over it.
pub const COMPRESSION: &[u8] = b"btrfs.compression";
/// The largest list and the largest value (linux/limits.h).
const MOST: usize = 64 << 10;
const FEW: usize = 1024;

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub size: u64,
    mtime: Time,
    ctime: Time,
}

/// # Errors
/// As the kernel has them.
pub fn stat(fd: impl AsFd) -> io::Result<Statx> {
    Ok(statx(
        fd,
        c"",
        AtFlags::EMPTY_PATH,
        StatxFlags::BASIC_STATS,
    )?)
}

pub fn stamp(found: &Statx) -> Stamp {
    Stamp {
        size: found.stx_size,
        mtime: time(found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
        ctime: time(found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
    }
}

fn time(seconds: i64, nanos: u32) -> Time {
    Time { seconds, nanos }
}

/// Those of an inode, without what only an open file tells.
pub fn attributes(found: &Statx) -> Attributes {
    Attributes {
        mode: u32::from(found.stx_mode) & 0o7777,
        uid: found.stx_uid,
        gid: found.stx_gid,
        mtime: time(found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
        xattrs: Arc::default(),
        flags: Flags::default(),
    }
}

/// Flags of an open file or folder; none where its filesystem has none.
///
/// # Errors
/// As the kernel has them.
pub fn flags(fd: impl AsFd) -> io::Result<Flags> {
    match ioctl_getflags(fd) {
        Ok(flags) => Ok(Flags::from_kernel(flags.bits())),
        Err(Errno::NOTTY | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => Ok(Flags::default()),
        Err(error) => Err(error.into()),
    }
}

/// The way to what is open for calls that take paths only: what was opened with `O_PATH` has no other.
pub fn proc_path(fd: impl AsFd) -> CString {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    // Digits hold no zero byte.
    CString::new(path).unwrap_or_default()
}

/// Extended attributes of what is open, also of a symlink by `O_PATH`.
///
/// # Errors
/// As the kernel has them.
pub fn xattrs(fd: impl AsFd) -> io::Result<Arc<Xattrs>> {
    // Most have none, or one.
    let mut few = [0; FEW];
    let mut many = Vec::new();
    let names = match list(&fd, &mut few) {
        Err(Errno::RANGE) => {
            many.resize(MOST, 0);
            let length = list(&fd, &mut many)?;
            &many[..length]
        }
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => &[],
        other => &few[..other?],
    };
    if names.is_empty() {
        return Ok(Arc::default());
    }
    let mut pairs = Vec::new();
    let mut value = vec![0; MOST];
    for name in names.split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(io::Error::other)?;
        if NOT_COPIED.contains(&name.to_bytes()) {
            continue;
        }
        match get(&fd, name, &mut value) {
            Ok(length) => pairs.push((name.to_bytes().to_vec(), value[..length].to_vec())),
            // It is gone already, or a label of a security module that is not there.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Arc::new(Xattrs::new(pairs)))
}

/// By the handle, or by its path where it was opened with `O_PATH`.
fn list(fd: &impl AsFd, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    match rustix::fs::flistxattr(fd, &mut *buffer) {
        Err(Errno::BADF) => rustix::fs::listxattr(proc_path(fd), buffer),
        other => other,
    }
}

fn get(fd: &impl AsFd, name: &CStr, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    match rustix::fs::fgetxattr(fd, name, &mut *buffer) {
        Err(Errno::BADF) => rustix::fs::getxattr(proc_path(fd), name, buffer),
        other => other,
    }
}
