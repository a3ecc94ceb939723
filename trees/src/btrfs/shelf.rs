//! The folder at the top of a Btrfs where Pitstop's snapshots are. Whatever is in it is ours, and nothing elsewhere is.

use super::{Access, Which};
use crate::capture::mount_table;
use anyhow::{Context, bail};
use pitstop_imaging::patience::patiently;
use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, RenameFlags, fchmod, flock, fstat, fsync,
    mkdirat, renameat_with, unlinkat,
};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// The name of the folder. Only root enters it: what is in old systems may be set-uid and out of date.
pub const SNAPSHOTS: &str = ".pitstop-snapshots";
/// How long who has just left may hold it still.
const MOMENT: Duration = Duration::from_millis(700);

/// The folder, held against other captures and updates until it is closed.
#[derive(Debug)]
pub struct Shelf {
    /// All of the filesystem.
    top: OwnedFd,
    folder: OwnedFd,
    source: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Make,
    Write,
    Look,
}

impl How {
    fn access(self) -> Access {
        match self {
            Self::Make | Self::Write => Access::Write,
            Self::Look => Access::Read,
        }
    }
}

impl Shelf {
    /// Opens the one of the Btrfs on the device `source`, made where there is none.
    ///
    /// # Errors
    /// When another one holds it, something else has its name, or the filesystem cannot be written.
    pub fn open(source: &Path) -> anyhow::Result<Self> {
        let found = Self::find(source, How::Make)?;
        found.with_context(|| format!("making {SNAPSHOTS} on {}", source.display()))
    }

    /// The same; `None` where there is none.
    ///
    /// # Errors
    /// As [`Shelf::open`].
    pub fn existing(source: &Path) -> anyhow::Result<Option<Self>> {
        Self::find(source, How::Write)
    }

    /// The same, to look at: nothing is written.
    ///
    /// # Errors
    /// As [`Shelf::open`].
    pub fn look(source: &Path) -> anyhow::Result<Option<Self>> {
        Self::find(source, How::Look)
    }

    fn find(source: &Path, how: How) -> anyhow::Result<Option<Self>> {
        let shown = source.display();
        let opening = || format!("opening {SNAPSHOTS} on {shown}");
        let mounted = super::mount(source, Which::Outermost, how.access());
        let mounted = mounted.with_context(|| format!("mounting all of {shown}"))?;
        let top = super::top_of(&mounted).with_context(opening)?;
        if how == How::Make {
            match mkdirat(&top, SNAPSHOTS, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("making {SNAPSHOTS} on {shown}"));
                }
            }
        }
        let folder = match super::open(&top, SNAPSHOTS.as_bytes()) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(opening),
        };
        if fstat(&folder).with_context(opening)?.st_uid != 0 {
            bail!(
                "{SNAPSHOTS} on {shown} is not root's: move it away, Pitstop keeps its snapshots there"
            );
        }
        if how != How::Look {
            fchmod(&folder, Mode::RWXU).with_context(opening)?;
        }
        let lock = || flock(&folder, FlockOperation::NonBlockingLockExclusive);
        match patiently(MOMENT, lock, |done| *done == Err(Errno::WOULDBLOCK)) {
            // The one who left has removed it.
            Ok(()) if fstat(&folder).with_context(opening)?.st_nlink == 0 => {
                return Self::find(source, how);
            }
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                bail!("another capture or update is at work on {shown}: wait until it is done")
            }
            Err(error) => {
                return Err(error).with_context(|| format!("locking {SNAPSHOTS} on {shown}"));
            }
        }
        Ok(Some(Self {
            top,
            folder,
            source: shown.to_string(),
        }))
    }

    /// All of the filesystem.
    pub fn top(&self) -> BorrowedFd<'_> {
        self.top.as_fd()
    }

    pub fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// For messages.
    #[must_use]
    pub fn shown(&self, name: &str) -> String {
        format!("{SNAPSHOTS}/{name} on {}", self.source)
    }

    /// A subvolume in it; `None` where there is none.
    ///
    /// # Errors
    /// As the kernel has them.
    pub fn get(&self, name: &str) -> anyhow::Result<Option<OwnedFd>> {
        match super::open(&self.folder, name.as_bytes()) {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("opening {}", self.shown(name))),
        }
    }

    /// Whether a subvolume in it is mounted somewhere: a system may run from it.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn is_mounted(&self, name: &str) -> anyhow::Result<bool> {
        let root = format!("/{SNAPSHOTS}/{name}");
        let mounted = mount_table()?.into_iter().any(|mount| {
            mount.kind == "btrfs"
                && mount.root == root.as_bytes()
                && mount.source.display().to_string() == self.source
        });
        Ok(mounted)
    }

    /// Makes a snapshot in it.
    ///
    /// # Errors
    /// As the kernel has them.
    pub fn add(&self, of: impl AsFd, name: &str, access: Access) -> anyhow::Result<OwnedFd> {
        super::snapshot(of, &self.folder, name.as_bytes(), access)
            .and_then(|()| super::open(&self.folder, name.as_bytes()))
            .with_context(|| format!("making the snapshot {}", self.shown(name)))
    }

    /// Gives a subvolume in it another name, which is free.
    ///
    /// # Errors
    /// As the kernel has them.
    pub fn rename(&self, from: &str, to: &str) -> anyhow::Result<()> {
        renameat_with(&self.folder, from, &self.folder, to, RenameFlags::NOREPLACE)
            .map_err(io::Error::from)
            .and_then(|()| Ok(fsync(&self.folder)?))
            .with_context(|| format!("renaming {} to {to}", self.shown(from)))
    }

    /// Removes a subvolume in it, if it is there.
    ///
    /// # Errors
    /// As the kernel has them.
    pub fn delete(&self, name: &str) -> anyhow::Result<()> {
        match super::delete(&self.folder, name.as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.shown(name)))
            }
            _ => Ok(()),
        }
    }

    /// Removes the subvolumes whose names begin so: what one that was killed has left.
    ///
    /// # Errors
    /// As the kernel has them.
    pub fn clear(&self, prefix: &str) -> anyhow::Result<()> {
        let listing = Dir::read_from(&self.folder);
        for entry in listing.with_context(|| format!("reading {}", self.shown("")))? {
            let entry = entry.with_context(|| format!("reading {}", self.shown("")))?;
            let is_folder = entry.file_type() == FileType::Directory;
            match entry.file_name().to_str() {
                Ok(name) if is_folder && name.starts_with(prefix) => self.delete(name)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Lets go of it. With nothing in it, it goes.
    pub fn close(self) {
        // What is in use stays, and is used again.
        let _ = unlinkat(&self.top, SNAPSHOTS, AtFlags::REMOVEDIR);
    }
}
