//! Subvolumes of Btrfs that a running system writes to, held still for a capture by snapshots that nobody can write to.

use super::mounts::Mount;
use crate::beneath;
use crate::btrfs::{self, Access, SNAPSHOTS, Shelf};
use crate::path::TreePath;
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use rustix::fs::OFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How the snapshots of a capture are called: one that was killed leaves them, and the next one knows them by it.
const PREFIX: &str = "capture-";

/// Snapshots, removed when it is dropped.
#[derive(Default)]
pub struct Snapshots<'a> {
    shelves: Vec<(PathBuf, Shelf)>,
    made: Vec<(usize, String)>,
    reporter: Option<&'a dyn Reporter>,
}

impl<'a> Snapshots<'a> {
    /// Has every subvolume among `mounts` be read from a snapshot, and those within it as well. What is on other filesystems is
    /// read as before. Returns whether the root is held still.
    pub fn hold(mounts: &mut Vec<Mount>, reporter: &'a dyn Reporter) -> (Self, bool) {
        let mut held = Self::default();
        held.reporter = Some(reporter);
        let mut still = false;
        let mut within = Vec::new();
        for mount in mounts.iter_mut() {
            let Some(info) = mount
                .info
                .clone()
                .filter(|info| info.kind == "btrfs" && !info.is_read_only())
            else {
                continue;
            };
            match held.of(mount, &info.source) {
                Ok(found) => {
                    within.extend(found);
                    still |= mount.path.is_root();
                }
                Err(error) => reporter.warn(format!(
                    "{} is read while it is written to, not from a snapshot: {error:#}",
                    mount.path
                )),
            }
        }
        // What is mounted over a subvolume within another one hides it.
        within.retain(|found: &Mount| !mounts.iter().any(|mount| mount.path == found.path));
        mounts.extend(within);
        mounts.sort_by(|a, b| a.path.cmp(&b.path));
        (held, still)
    }

    /// Reads one from a snapshot. Returns those within it, all of which were made.
    fn of(&mut self, mount: &mut Mount, source: &Path) -> anyhow::Result<Vec<Mount>> {
        let top = btrfs::top_of(&mount.folder).context("opening it")?;
        if !btrfs::is_subvolume(&top).context("looking at it")? {
            bail!("it is a folder within a subvolume");
        }
        let at = self.shelf(source)?;
        let (mut own, mut found) = (None, Vec::new());
        let mut rest = vec![(mount.path.clone(), top)];
        while let Some((path, subvolume)) = rest.pop() {
            let asking = || format!("asking which subvolumes are in {path}");
            for below in btrfs::nested(&subvolume).with_context(asking)? {
                if btrfs::split(&below).0 == SNAPSHOTS.as_bytes() {
                    continue;
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                let opened = beneath::open(subvolume.as_fd(), &below, flags);
                rest.push((joined(&path, &below)?, opened.with_context(asking)?));
            }
            let folder = self.add(at, &subvolume)?;
            if path == mount.path {
                own = Some(folder);
            } else {
                found.push(Mount {
                    path,
                    folder,
                    detached: true,
                    info: None,
                });
            }
        }
        // With none of them missing.
        mount.folder = own.context("making a snapshot of it")?;
        mount.detached = true;
        Ok(found)
    }

    fn shelf(&mut self, source: &Path) -> anyhow::Result<usize> {
        let known = self.shelves.iter().position(|(it, _)| it == source);
        if let Some(known) = known {
            return Ok(known);
        }
        let opened = Shelf::open(source)?;
        opened.clear(PREFIX)?;
        self.shelves.push((source.to_owned(), opened));
        Ok(self.shelves.len() - 1)
    }

    fn add(&mut self, at: usize, subvolume: &OwnedFd) -> anyhow::Result<OwnedFd> {
        let name = format!("{PREFIX}{}", self.made.len());
        let made = self.shelves[at].1.add(subvolume, &name, Access::Read)?;
        self.made.push((at, name));
        Ok(made)
    }
}

fn joined(path: &TreePath, below: &[u8]) -> anyhow::Result<TreePath> {
    let names = below.split(|byte| *byte == b'/');
    let mut path = path.clone();
    for name in names {
        path = path.join(name)?;
    }
    Ok(path)
}

impl Drop for Snapshots<'_> {
    fn drop(&mut self) {
        for (at, name) in self.made.drain(..) {
            if let Err(error) = self.shelves[at].1.delete(&name)
                && let Some(reporter) = self.reporter
            {
                reporter.warn(format!("{error:#}; the next capture removes it"));
            }
        }
        for (_, opened) in self.shelves.drain(..) {
            opened.close();
        }
    }
}
