//! Folders in which an update works, one at the top of each volume: what is staged can be renamed to its place from there.

use crate::inside::make_folder;
use anyhow::{Context, bail};
use pitstop_trees::machine::Machine;
use pitstop_trees::path::TreePath;
use pitstop_trees::{WORKSHOP, pass_nothing_on};
use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, IFlags, Mode, OFlags, Stat, Timespec, Timestamps,
    UTIME_OMIT, flock, fstat, futimens, ioctl_getflags, ioctl_setflags, mkdirat, openat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// One at the top of a volume.
pub struct Workshop {
    pub folder: OwnedFd,
    top: OwnedFd,
    name: String,
}

/// What is done in `folder` leaves its time as it was: nobody else did anything there.
pub fn keeping_time<T>(folder: BorrowedFd, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = fstat(folder)?;
    let done = act()?;
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: before.st_mtime,
            tv_nsec: i64::try_from(before.st_mtime_nsec).unwrap_or(0),
        },
    };
    futimens(folder, &times)?;
    Ok(done)
}

/// Makes a folder and those above it, where they are not there.
pub fn make_folders(machine: &Machine, path: &TreePath) -> anyhow::Result<OwnedFd> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut at = TreePath::root();
    let mut folder = machine
        .open_path(&at, how)
        .with_context(|| format!("opening {}", machine.name()))?;
    for name in path.as_bytes().split(|byte| *byte == b'/') {
        at = at.join(name)?;
        let shown = || format!("making the folder {}", machine.shown(&at));
        match machine.open_path(&at, how) {
            Ok(opened) => folder = opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                keeping_time(folder.as_fd(), || Ok(make_folder(&folder, name)?))
                    .with_context(shown)?;
                folder = machine.open_path(&at, how).with_context(shown)?;
            }
            Err(error) => return Err(error).with_context(shown),
        }
    }
    Ok(folder)
}

impl Workshop {
    /// Opens the one at the top of a volume; `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(machine: &Machine, top: &TreePath) -> anyhow::Result<Option<Self>> {
        let name = machine.shown(&top.join(WORKSHOP.as_bytes())?);
        let opening = || format!("opening {name}");
        let how = OFlags::RDONLY | OFlags::DIRECTORY;
        let top = machine.open_path(top, how).with_context(opening)?;
        let how = how | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&top, WORKSHOP, how, Mode::empty()) {
            Ok(folder) => Ok(Some(Self { folder, top, name })),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).with_context(opening),
        }
    }

    /// Makes the one at the top of a volume, or opens that which is there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(machine: &Machine, top: &TreePath) -> anyhow::Result<Self> {
        if let Some(there) = Self::open(machine, top)? {
            return Ok(there);
        }
        let making = || format!("making a folder to work in at {}", machine.shown(top));
        let how = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = machine.open_path(top, how).with_context(making)?;
        keeping_time(opened.as_fd(), || {
            Ok(mkdirat(&opened, WORKSHOP, Mode::RWXU)?)
        })
        .with_context(making)?;
        let made = Self::open(machine, top)?.with_context(making)?;
        pass_nothing_on(&made.folder).with_context(making)?;
        Ok(made)
    }

    /// Keeps other updates away until it is closed.
    ///
    /// # Errors
    /// When one is at work.
    pub fn lock(&self) -> anyhow::Result<()> {
        match flock(&self.folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(()),
            Err(Errno::WOULDBLOCK) => {
                bail!(
                    "another update is at work in {}: wait until it is done",
                    self.name
                )
            }
            Err(error) => Err(error).with_context(|| format!("locking {}", self.name)),
        }
    }

    /// What has this name in it; `None` where there is nothing.
    ///
    /// # Errors
    /// As the kernel has them.
    pub fn look(&self, name: &str) -> anyhow::Result<Option<Stat>> {
        match rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(found)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("looking into {}", self.name)),
        }
    }

    /// For messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Removes what is in it; folders that are staged are empty.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn clear(&self) -> anyhow::Result<()> {
        let clearing = || format!("clearing {}", self.name);
        for entry in Dir::read_from(&self.folder).with_context(clearing)? {
            let entry = entry.with_context(clearing)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let found = rustix::fs::statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW);
            let flags = match FileType::from_raw_mode(found.with_context(clearing)?.st_mode) {
                FileType::Directory => AtFlags::REMOVEDIR,
                _ => AtFlags::empty(),
            };
            let removed = match unlinkat(&self.folder, name, flags) {
                Err(Errno::PERM) => self.remove_hard(name),
                other => other,
            };
            removed.with_context(clearing)?;
        }
        Ok(())
    }

    /// Removes a further name of a file that is in its place already, with flags that hinder it: under that name it keeps them.
    fn remove_hard(&self, name: &CStr) -> rustix::io::Result<()> {
        let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(&self.folder, name, how, Mode::empty())?;
        let has = ioctl_getflags(&opened)?;
        ioctl_setflags(&opened, has - (IFlags::IMMUTABLE | IFlags::APPEND))?;
        let removed = unlinkat(&self.folder, name, AtFlags::empty());
        ioctl_setflags(&opened, has).and(removed)
    }

    /// Removes it with all that is in it.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove(self) -> anyhow::Result<()> {
        self.clear()?;
        keeping_time(self.top.as_fd(), || {
            Ok(unlinkat(&self.top, WORKSHOP, AtFlags::REMOVEDIR)?)
        })
        .with_context(|| format!("removing {}", self.name))
    }

    /// Writes all of its filesystem to the disk.
    ///
    /// # Errors
    /// As the kernel has them.
    pub fn flush(&self) -> anyhow::Result<()> {
        rustix::fs::syncfs(&self.folder).with_context(|| format!("flushing {}", self.name))
    }
}
