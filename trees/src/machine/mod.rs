//! A system where it is: what is there, looked at path by path, and changed in place.
//!
//! Each filesystem is behind a handle of its own that shows nothing of what else is mounted on it, as in a capture: what is
//! written goes to the filesystems of the system, and to no other.

mod change;
mod locks;
mod look;

pub use crate::capture::mounts::{Access, NotRead};
pub use crate::capture::walk::{Enter, Node};
pub use change::Changer;
pub use locks::Locks;
pub use look::Looker;

use crate::beneath;
use crate::capture::mounts::{self, Mount, MountInfo};
use crate::capture::{Excludes, walk};
use crate::extract::folder::is_fat;
use crate::path::TreePath;
use crate::resolve::{Lost, resolve};
use anyhow::Context;
use rustix::fs::{OFlags, readlinkat};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A system's filesystems.
pub struct Machine {
    name: String,
    mounts: Vec<Filesystem>,
    others: Vec<NotRead>,
}

struct Filesystem {
    mount: Mount,
    is_fat: bool,
}

impl Machine {
    /// Opens the filesystems of the system at `root`: its own, those below it that its fstab names, and those at `also`.
    ///
    /// # Errors
    /// When one of them cannot be opened.
    pub fn open(root: &Path, access: Access, also: &[TreePath]) -> anyhow::Result<Self> {
        let (mounts, others) = mounts::find(root, access, also)?;
        let mounts = mounts.into_iter().map(|mount| {
            let is_fat = is_fat(&mount.folder)
                .with_context(|| format!("looking at the filesystem of {}", mount.path))?;
            Ok(Filesystem { mount, is_fat })
        });
        Ok(Self {
            name: root.display().to_string(),
            mounts: mounts.collect::<anyhow::Result<_>>()?,
            others,
        })
    }

    /// What else is mounted below the root, and why it is none of the system's: what is written there goes beneath it.
    pub fn others(&self) -> &[NotRead] {
        &self.others
    }

    /// Everything that is there, in the order of the tree; folders that `enter` refuses without their contents.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn nodes(&self, enter: Enter) -> anyhow::Result<Vec<Node>> {
        let mounts: Vec<&Mount> = self.mounts.iter().map(|it| &it.mount).collect();
        let wanted = walk::Wanted {
            excludes: &Excludes::new(&[])?,
            identity: None,
            skipped: &[],
            enter,
            sockets: true,
        };
        Ok(walk::walk(&mounts, &wanted)?.nodes)
    }

    /// Where its filesystems are mounted, `/` first.
    pub fn points(&self) -> impl ExactSizeIterator<Item = &TreePath> {
        self.mounts.iter().map(|it| &it.mount.path)
    }

    /// Whether its root is where a filesystem is mounted, and not a folder in one.
    pub fn is_mounted(&self) -> bool {
        self.mounts
            .first()
            .is_some_and(|it| it.mount.info.is_some())
    }

    /// The number of the filesystem that `path` is on, or is the root of.
    pub fn mount_of(&self, path: &TreePath) -> usize {
        let found = self
            .mounts
            .iter()
            .rposition(|it| path.is_within(it.mount.path.as_bytes()));
        found.unwrap_or_default()
    }

    /// Whether a filesystem keeps neither owners nor modes nor exact times.
    pub fn is_fat(&self, mount: usize) -> bool {
        self.mounts[mount].is_fat
    }

    /// Where the system's own fstab has something mounted.
    ///
    /// # Errors
    /// When there is an fstab that cannot be read.
    pub fn fstab(&self) -> anyhow::Result<Vec<TreePath>> {
        let path = TreePath::parse(b"etc/fstab")?;
        let path = self.follow(&path).with_context(|| self.shown(&path))?;
        let mut text = Vec::new();
        match self.open_path(&path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => {
                fs::File::from(file)
                    .read_to_end(&mut text)
                    .with_context(|| format!("reading {}", self.shown(&path)))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("opening {}", self.shown(&path)));
            }
        }
        Ok(mounts::in_fstab(&text))
    }

    /// The block device of the filesystem that `path` is on, where it has one.
    pub fn source(&self, path: &TreePath) -> Option<&Path> {
        let mount = &self.mounts[self.mount_of(path)].mount;
        mount.info.as_ref().map(|info| info.source.as_path())
    }

    /// What is mounted for the filesystem that `path` is on, where that is a mount.
    pub fn mounted(&self, path: &TreePath) -> Option<&MountInfo> {
        self.mounts[self.mount_of(path)].mount.info.as_ref()
    }

    /// Opens what is at `path`, through no symlink.
    ///
    /// # Errors
    /// As the kernel has them.
    pub fn open_path(&self, path: &TreePath, flags: OFlags) -> io::Result<OwnedFd> {
        let mount = &self.mounts[self.mount_of(path)].mount;
        Ok(mount.open(path, flags)?)
    }

    /// Where `path` is, the system's symlinks followed: all of them lead to places in it.
    ///
    /// # Errors
    /// When they lead in circles, or to what is no path.
    pub fn follow(&self, path: &TreePath) -> Result<TreePath, Lost> {
        resolve(path.as_bytes(), true, |at| self.link(at))
    }

    /// Where a symlink leads; `None` where there is none.
    fn link(&self, path: &TreePath) -> Option<Vec<u8>> {
        let opened = self.open_path(path, OFlags::PATH).ok()?;
        Some(readlinkat(&opened, "", Vec::new()).ok()?.into_bytes())
    }

    /// For messages: where `path` is on this computer.
    pub fn shown(&self, path: &TreePath) -> String {
        format!("{}{path}", self.name.trim_end_matches('/'))
    }

    /// For messages: the root.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder that `path` is in, on the filesystem that `path` is on.
    fn folder_of(&self, path: &TreePath, flags: OFlags) -> io::Result<OwnedFd> {
        let mount = &self.mounts[self.mount_of(path)].mount;
        let point = mount.path.as_bytes();
        let below = path.folder().get(point.len()..).unwrap_or_default();
        let below = below.strip_prefix(b"/").unwrap_or(below);
        let flags = flags | OFlags::DIRECTORY;
        Ok(beneath::open(mount.folder.as_fd(), below, flags)?)
    }

    /// Whether `path` is the root of one of the filesystems.
    pub fn is_point(&self, path: &TreePath) -> bool {
        self.points().any(|point| point == path)
    }
}
