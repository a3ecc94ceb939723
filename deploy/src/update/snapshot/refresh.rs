//! What is mounted at a root is the old one after a swap: the new one is mounted there in its place, where nobody uses the old one.

use anyhow::{Context, bail};
use pitstop_imaging::unmount::unmount;
use pitstop_trees::btrfs::{self, Access, SNAPSHOTS, Which};
use pitstop_trees::{MountInfo, mount_table};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Mounts the subvolume `path` at `root` in the place of the old one, with all that is mounted below it. Returns what of that could not
/// be, for people: the one may have no folder for what the other had.
///
/// # Errors
/// When something there is in use: all is mounted as it was then.
pub fn refresh(root: &Path, path: &str) -> anyhow::Result<Vec<String>> {
    let table = mount_table()?;
    let on_top = table.iter().rev().find(|mount| mount.point == root);
    let Some(own) = on_top.filter(|own| own.root.starts_with(format!("/{SNAPSHOTS}/").as_bytes()))
    else {
        return Ok(Vec::new());
    };
    let new = btrfs::mount(&own.source, Which::Path(path), Access::Write)
        .with_context(|| format!("mounting {path} of {}", own.source.display()))?;
    let below = |mount: &&MountInfo| mount.point.starts_with(root) && mount.point != root;
    let mut below: Vec<PathBuf> = table
        .iter()
        .filter(below)
        .map(|it| it.point.clone())
        .collect();
    // The table has the younger mount later, and of those that were put back before the inner one is the older.
    below.sort_by_key(|point| point.components().count());
    let mut kept = Vec::new();
    let unmounted =
        take_all(&below, &mut kept).and_then(|()| unmount(root).map_err(anyhow::Error::from));
    if unmounted.is_ok() {
        attach(&new, root)?;
    }
    let mut lost = Vec::new();
    for (mount, point) in kept.iter().rev() {
        if let Err(error) = attach(mount, point) {
            lost.push(format!("{error:#}"));
        }
    }
    match unmounted {
        Ok(()) => Ok(lost),
        Err(error) => Err(lost
            .into_iter()
            .fold(error, anyhow::Error::context)
            .context(format!("unmounting {}", root.display()))),
    }
}

/// Unmounts all, the innermost first, and keeps each.
fn take_all(points: &[PathBuf], kept: &mut Vec<(OwnedFd, PathBuf)>) -> anyhow::Result<()> {
    for point in points.iter().rev() {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let clone = match open_tree(CWD, point, flags) {
            Ok(clone) => clone,
            Err(Errno::NOENT) => bail!("{} cannot be reached", point.display()),
            Err(error) => {
                return Err(error).with_context(|| format!("keeping {}", point.display()));
            }
        };
        unmount(point).with_context(|| format!("unmounting {}", point.display()))?;
        kept.push((clone, point.clone()));
    }
    Ok(())
}

fn attach(mount: &OwnedFd, point: &Path) -> anyhow::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(mount, c"", CWD, point, flags)
        .with_context(|| format!("mounting at {}", point.display()))
}
