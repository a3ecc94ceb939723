//! A snapshot of a root, mounted in a folder of its own with all filesystems that are mounted below the root.

use super::judge::Site;
use super::mount_folder::MountFolder;
use anyhow::Context;
use nix::mount::{MntFlags, umount2};
use pitstop_imaging::unmount::unmount;
use pitstop_trees::btrfs::{self, Access, SNAPSHOTS, Which};
use pitstop_trees::machine::Machine;
use pitstop_trees::path::TreePath;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub struct View {
    root: PathBuf,
    /// Goes when nothing is mounted in it any more.
    _folder: MountFolder,
    /// In the order in which they were mounted.
    points: Vec<PathBuf>,
}

impl View {
    /// Of one of our snapshots.
    ///
    /// # Errors
    /// When something cannot be mounted.
    pub fn new(site: &Site, name: &str, machine: &Machine) -> anyhow::Result<Self> {
        Self::of(site, &format!("{SNAPSHOTS}/{name}"), machine)
    }

    /// Of what is the root now.
    ///
    /// # Errors
    /// When something cannot be mounted.
    pub fn of_root(site: &Site, machine: &Machine) -> anyhow::Result<Self> {
        Self::of(site, &site.path, machine)
    }

    fn of(site: &Site, path: &str, machine: &Machine) -> anyhow::Result<Self> {
        let folder = MountFolder::new()?;
        let mut view = Self {
            root: folder.point(),
            _folder: folder,
            points: Vec::new(),
        };
        let mounted = btrfs::mount(&site.source, Which::Path(path), Access::Write);
        let mounted =
            mounted.with_context(|| format!("mounting {path} of {}", site.source.display()))?;
        view.attach(&mounted, Path::new(""))?;
        let others = machine.others().iter().map(|(point, _)| point);
        let points = machine.points().filter(|point| !point.is_root());
        let mut points: Vec<&TreePath> = points.chain(others).collect();
        points.sort();
        for point in points {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let at = machine.shown(point);
            let attached = open_tree(CWD, &at, flags)
                .with_context(|| format!("mounting {at} once more"))
                .and_then(|clone| view.attach(&clone, &below(point)));
            match attached {
                // The folder came later than the snapshot, or is in a filesystem that is none of the system's.
                Err(error) if is_missing(&error) => {}
                attached => attached?,
            }
        }
        Ok(view)
    }

    fn attach(&mut self, mount: &OwnedFd, below: &Path) -> anyhow::Result<()> {
        let point = self.root.join(below);
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(mount, c"", CWD, &point, flags)
            .with_context(|| format!("mounting at {}", point.display()))?;
        self.points.push(point);
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Writes all of it to the disks.
    ///
    /// # Errors
    /// As the kernel has them.
    pub fn flush(&self) -> anyhow::Result<()> {
        for point in &self.points {
            let flushing = || format!("flushing {}", point.display());
            let opened = File::open(point).with_context(flushing)?;
            rustix::fs::syncfs(&opened).with_context(flushing)?;
        }
        Ok(())
    }

    /// Unmounts it.
    ///
    /// # Errors
    /// When something in it is in use.
    pub fn close(mut self) -> anyhow::Result<()> {
        while let Some(point) = self.points.pop() {
            unmount(&point).with_context(|| format!("unmounting {}", point.display()))?;
        }
        Ok(())
    }
}

fn below(point: &TreePath) -> PathBuf {
    OsStr::from_bytes(point.as_bytes()).into()
}

fn is_missing(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<Errno>();
    matches!(cause, Some(&(Errno::NOENT | Errno::NOTDIR)))
}

impl Drop for View {
    fn drop(&mut self) {
        while let Some(point) = self.points.pop() {
            // On the way out of an error, which is told; what is in use goes when nobody uses it any more.
            if umount2(&point, MntFlags::empty()).is_err() {
                let _ = umount2(&point, MntFlags::MNT_DETACH);
            }
        }
    }
}
