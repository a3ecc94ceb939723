//! Attributes of what was made, in the order in which none undoes another: owner, mode, extended attributes, times, flags. (An
//! owner that is set later takes capabilities away.)

use super::folder::{Folder, Target};
use crate::entry::{Attributes, Kind, Time};
use crate::flags::Flags;
use crate::inode::{COMPRESSION, proc_path};
use crate::path::shown;
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::members::lock;
use rustix::fs::{
    AtFlags, Gid, IFlags, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat,
    chownat, fchmod, fchown, fsetxattr, futimens, ioctl_getflags, ioctl_setflags, lsetxattr,
    utimensat,
};
use rustix::io::Errno;
use std::ffi::CString;
use std::fmt::Display;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;

/// How many losses are named.
const NAMED: usize = 5;
/// Of `st_mode`: what is no kind of file.
const MODE: u32 = 0o7777;

/// What the target's filesystems cannot keep.
#[derive(Default)]
pub struct Losses {
    lost: Mutex<Vec<String>>,
    /// What says how data is stored, and nothing of what it is.
    advice: Mutex<Vec<String>>,
    /// Whose time is another one.
    times: Mutex<Vec<String>>,
}

impl Losses {
    fn attribute(&self, what: String) {
        lock(&self.lost).push(what);
    }

    fn time(&self, found: &Stat, wanted: Time, name: &dyn Display) {
        if found.st_mtime != wanted.seconds {
            lock(&self.times).push(name.to_string());
        }
    }

    /// Warns of what matters little.
    ///
    /// # Errors
    /// When something is not as in the image.
    pub fn tell(&self, target: &str, reporter: &dyn Reporter) -> anyhow::Result<()> {
        let advice = lock(&self.advice);
        if !advice.is_empty() {
            reporter.warn(format!(
                "the filesystem of {target} has no room for {} flags of how data is stored: {}",
                advice.len(),
                named(&advice)
            ));
        }
        let times = lock(&self.times);
        if !times.is_empty() {
            reporter.warn(format!(
                "the filesystem of {target} has no room for the times of {} files, which got the nearest that it has: {}",
                times.len(),
                named(&times)
            ));
        }
        let lost = lock(&self.lost);
        if lost.is_empty() {
            return Ok(());
        }
        bail!(
            "all files are there, but {} attributes could not be kept on the filesystem of {target}: {}",
            lost.len(),
            named(&lost)
        )
    }
}

fn named(all: &[String]) -> String {
    let mut words: Vec<String> = all.iter().take(NAMED).cloned().collect();
    if all.len() > NAMED {
        words.push(format!("and {} more", all.len() - NAMED));
    }
    words.join("; ")
}

/// Sets what an open file or folder has, but for flags.
pub fn set_open(
    fd: &OwnedFd,
    wanted: &Attributes,
    is_fat: bool,
    name: &dyn Display,
    losses: &Losses,
) -> anyhow::Result<()> {
    if !is_fat {
        let found = rustix::fs::fstat(fd).with_context(|| format!("looking at {name}"))?;
        let is_others = (found.st_uid, found.st_gid) != (wanted.uid, wanted.gid);
        if is_others {
            fchown(fd, Some(uid(wanted)), Some(gid(wanted)))
                .with_context(|| format!("setting the owner of {name}"))?;
        }
        // Another owner may have taken bits of it away.
        if is_others || found.st_mode & MODE != wanted.mode {
            fchmod(fd, Mode::from_raw_mode(wanted.mode))
                .with_context(|| format!("setting the mode of {name}"))?;
        }
        for (key, value) in wanted.xattrs.pairs() {
            let set = fsetxattr(fd, c_string(key)?, value, XattrFlags::empty());
            xattr(set, key, name, losses)?;
        }
    }
    let setting = || format!("setting the time of {name}");
    futimens(fd, &times(wanted.mtime)).with_context(setting)?;
    if !is_fat && is_far(wanted.mtime) {
        let found = rustix::fs::fstat(fd).with_context(setting)?;
        losses.time(&found, wanted.mtime, name);
    }
    Ok(())
}

/// The same of what is not open: a symlink, a device, a FIFO.
pub fn set_named(
    folder: &Folder,
    entry_name: &[u8],
    kind: &Kind,
    wanted: &Attributes,
    target: &Target,
    name: &dyn Display,
    losses: &Losses,
) -> anyhow::Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    if (wanted.uid, wanted.gid) != target.owner {
        chownat(
            &folder.fd,
            entry_name,
            Some(uid(wanted)),
            Some(gid(wanted)),
            flags,
        )
        .with_context(|| format!("setting the owner of {name}"))?;
    }
    // Linux has no modes of symlinks.
    if !matches!(kind, Kind::Symlink(_)) {
        let mode = Mode::from_raw_mode(wanted.mode);
        chmodat(&folder.fd, entry_name, mode, AtFlags::empty())
            .with_context(|| format!("setting the mode of {name}"))?;
    }
    if !wanted.xattrs.is_empty() {
        let mut path = proc_path(&folder.fd).into_bytes();
        path.push(b'/');
        path.extend_from_slice(entry_name);
        for (key, value) in wanted.xattrs.pairs() {
            let set = lsetxattr(&path[..], c_string(key)?, value, XattrFlags::empty());
            xattr(set, key, name, losses)?;
        }
    }
    let setting = || format!("setting the time of {name}");
    utimensat(&folder.fd, entry_name, &times(wanted.mtime), flags).with_context(setting)?;
    if is_far(wanted.mtime) {
        let found = rustix::fs::statat(&folder.fd, entry_name, flags).with_context(setting)?;
        losses.time(&found, wanted.mtime, name);
    }
    Ok(())
}

/// Whether a time is one that some filesystems have no room for: the kernel takes the nearest that they have, and says nothing.
fn is_far(time: Time) -> bool {
    i32::try_from(time.seconds).is_err()
}

fn xattr(
    set: rustix::io::Result<()>,
    key: &[u8],
    name: &dyn Display,
    losses: &Losses,
) -> anyhow::Result<()> {
    match set {
        Ok(()) => Ok(()),
        // What is not copied on write (`chattr +C`, `nodatacow`) is not compressed.
        Err(Errno::OPNOTSUPP | Errno::INVAL) if key == COMPRESSION => Ok(()),
        // A tar may have what no kernel takes: an ACL that is none, or `user.` of a symlink.
        Err(
            Errno::OPNOTSUPP
            | Errno::NOSPC
            | Errno::RANGE
            | Errno::TOOBIG
            | Errno::INVAL
            | Errno::PERM,
        ) => {
            losses.attribute(format!("{} of {name}", shown(key)));
            Ok(())
        }
        Err(error) => Err(error).with_context(|| format!("setting {} of {name}", shown(key))),
    }
}

/// Sets what counts for data that is written from now on. By the flag alone Btrfs would take zlib.
pub fn set_early(
    fd: impl AsFd,
    wanted: &Attributes,
    name: &dyn Display,
    losses: &Losses,
) -> anyhow::Result<()> {
    set_flags(&fd, wanted.flags.early(), name, losses)?;
    let mut pairs = wanted.xattrs.pairs().iter();
    if let Some((key, value)) = pairs.find(|(key, _)| key == COMPRESSION) {
        let set = fsetxattr(&fd, c_string(key)?, value, XattrFlags::empty());
        xattr(set, key, name, losses)?;
    }
    Ok(())
}

/// Adds `flags` to those that the filesystem has set itself.
pub fn set_flags(
    fd: impl AsFd,
    flags: Flags,
    name: &dyn Display,
    losses: &Losses,
) -> anyhow::Result<()> {
    if flags.is_empty() {
        return Ok(());
    }
    let set = |bits: u32| {
        let has = ioctl_getflags(&fd)?;
        let wanted = has | IFlags::from_bits_retain(bits);
        if wanted == has {
            return Ok(());
        }
        ioctl_setflags(&fd, wanted)?;
        // Some filesystems pass over what they do not know.
        if ioctl_getflags(&fd)?.contains(wanted) {
            Ok(())
        } else {
            Err(Errno::OPNOTSUPP)
        }
    };
    let refused = |error| {
        matches!(
            error,
            Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::NOSYS
        )
    };
    let (matter, advice) = flags.by_weight();
    for (some, list) in [(advice, &losses.advice), (matter, &losses.lost)] {
        match set(some.bits()) {
            Ok(()) => {}
            Err(error) if refused(error) => {
                lock(list).push(format!("{} of {name}", some.to_text()));
            }
            Err(error) => {
                return Err(error).with_context(|| format!("setting the flags of {name}"));
            }
        }
    }
    Ok(())
}

fn uid(wanted: &Attributes) -> Uid {
    Uid::from_raw(wanted.uid)
}

fn gid(wanted: &Attributes) -> Gid {
    Gid::from_raw(wanted.gid)
}

fn times(mtime: Time) -> Timestamps {
    let omit = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT,
    };
    Timestamps {
        last_access: omit,
        last_modification: Timespec {
            tv_sec: mtime.seconds,
            tv_nsec: mtime.nanos.into(),
        },
    }
}

fn c_string(key: &[u8]) -> anyhow::Result<CString> {
    CString::new(key).context("the name of an extended attribute")
}
