//! A folder to mount the snapshot of a root in. What a run that was killed has left mounted there, the next one lets go.

use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::unmount::unmount;
use pitstop_trees::mount_table;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::env::temp_dir;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const PREFIX: &str = "pitstop-update-";
/// In the folder: what is mounted hides nothing that is locked.
const MOUNTED: &str = "mounted";

pub struct MountFolder {
    folder: PathBuf,
    /// As long as it is held, nobody takes the folder for one that was left.
    _held: OwnedFd,
}

impl MountFolder {
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        Self::within(&temp_dir())
    }

    fn within(within: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(within);
        let folder = folder.context("making a folder to mount a snapshot in")?;
        let shown = folder.path().display();
        let Some(held) = lock(folder.path())? else {
            bail!("another program has locked {shown}");
        };
        let point = folder.path().join(MOUNTED);
        fs::create_dir(&point).with_context(|| format!("making {}", point.display()))?;
        Ok(Self {
            // Never removed with what is in it: that is the system.
            folder: TempDir::keep(folder),
            _held: held,
        })
    }

    /// Where the snapshot goes.
    pub fn point(&self) -> PathBuf {
        self.folder.join(MOUNTED)
    }
}

impl Drop for MountFolder {
    fn drop(&mut self) {
        // Only if nothing is in it. What stays, the next one removes.
        let _ = remove(&self.folder);
    }
}

fn remove(folder: &Path) -> std::io::Result<()> {
    fs::remove_dir(folder.join(MOUNTED))?;
    fs::remove_dir(folder)
}

/// `None` where somebody works in it.
fn lock(folder: &Path) -> anyhow::Result<Option<OwnedFd>> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = open(folder, how, Mode::empty());
    let opened = opened.with_context(|| format!("opening {}", folder.display()))?;
    match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(opened)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("locking {}", folder.display())),
    }
}

/// Unmounts and removes what nobody works in any more. What cannot be let go is told: the update can be done all the same.
pub fn sweep(reporter: &dyn Reporter) {
    sweep_in(&temp_dir(), reporter);
}

fn sweep_in(within: &Path, reporter: &dyn Reporter) {
    // As the kernel lists mounts.
    let within = &within.canonicalize().unwrap_or_else(|_| within.to_owned());
    // One that cannot be read takes no folder either, and that is told.
    for entry in fs::read_dir(within).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) || !is_ours(&path, within) {
            continue;
        }
        let shown = path.display();
        match remove_left(&path) {
            Ok(false) => {}
            Ok(true) => reporter.info(format!(
                "{shown} is removed: an update that was killed had left it"
            )),
            // Its owner was faster.
            Err(_) if !path.exists() => {}
            Err(error) => reporter.warn(format!(
                "{shown}, which an update that was killed has left, stays: {error:#}"
            )),
        }
    }
}

/// Others may put what they like into `/tmp`. One where nothing can be mounted is just being made.
fn is_ours(folder: &Path, within: &Path) -> bool {
    let (Ok(found), Ok(around)) = (fs::symlink_metadata(folder), fs::metadata(within)) else {
        return false;
    };
    let is_plain = found.is_dir() && found.dev() == around.dev();
    is_plain && found.uid() == geteuid().as_raw() && folder.join(MOUNTED).is_dir()
}

/// Whether it was left, and is gone now.
fn remove_left(folder: &Path) -> anyhow::Result<bool> {
    let Some(_held) = lock(folder)? else {
        return Ok(false);
    };
    // The innermost come last.
    for mount in mount_table()?.iter().rev() {
        if mount.point.starts_with(folder) {
            let point = mount.point.display();
            unmount(&mount.point).with_context(|| format!("unmounting {point}"))?;
        }
    }
    remove(folder).with_context(|| format!("removing {}", folder.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::event::Silent;
    use pitstop_testing::mounts::Mounted;

    #[test]
    fn what_a_killed_update_has_left_is_let_go_and_what_one_is_at_stays() {
        let within = tempfile::tempdir().unwrap();
        let at_work = MountFolder::within(within.path()).unwrap();
        let left = within.path().join(format!("{PREFIX}left"));
        let point = left.join(MOUNTED);
        fs::create_dir_all(&point).unwrap();
        let outer = Mounted::new(&["-t", "tmpfs", "none"], &point);
        fs::create_dir(point.join("srv")).unwrap();
        let inner = Mounted::new(&["-t", "tmpfs", "none"], &point.join("srv"));
        for mounted in [outer, inner] {
            std::mem::forget(mounted);
        }
        // Something of the system may have such a name, and the folder of somebody else too.
        let others = within.path().join(format!("{PREFIX}others"));
        fs::create_dir(&others).unwrap();
        sweep_in(within.path(), &Silent);
        assert!(!left.exists());
        assert!(at_work.point().is_dir() && others.is_dir());
        drop(at_work);
        assert_eq!(fs::read_dir(within.path()).unwrap().count(), 1);
    }
}
