//! A folder in which somebody works in a tree. What a run that was killed has left there, the next one removes.

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::geteuid;
use pitstop_deploy::remove_in;
use pitstop_imaging::event::Reporter;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// An earlier release called its folders otherwise, and locked none: they are nobody's to remove.
const PREFIX: &str = "pitstop-shell-";
/// The tree, in the folder.
const ROOT: &str = "root";

pub struct WorkFolder {
    folder: TempDir,
    /// As long as it is held, nobody takes the folder for one that was left.
    held: Flock<File>,
}

impl WorkFolder {
    /// Makes one in `within`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(within: &Path, reporter: &dyn Reporter) -> anyhow::Result<Self> {
        sweep(within, reporter)?;
        let folder = tempfile::Builder::new()
            .prefix(PREFIX)
            // Who has a number in the tree that is somebody's here is nobody in it.
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(within)
            .with_context(|| format!("making a folder in {}", within.display()))?;
        match open(folder.path())? {
            Some(held) => Ok(Self { folder, held }),
            None => bail!("another program has locked {}", folder.path().display()),
        }
    }

    /// Where the tree goes, which is not there yet.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join(ROOT)
    }

    /// Removes it with the tree, files that nothing may change (`chattr +i`) among it.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub fn remove(self) -> anyhow::Result<()> {
        let Self { folder, held } = self;
        take_away(folder.path(), &held)?;
        folder
            .close()
            .context("removing the folder of the unpacked tree")
    }
}

fn take_away(folder: &Path, held: &Flock<File>) -> anyhow::Result<()> {
    let removing = || format!("removing the unpacked tree in {}", folder.display());
    let opened = held.try_clone().with_context(removing)?;
    remove_in(&opened.into(), ROOT.as_bytes()).with_context(removing)
}

/// Opens and locks a folder; `None` where somebody works in it.
fn open(folder: &Path) -> anyhow::Result<Option<Flock<File>>> {
    let opening = || format!("opening {}", folder.display());
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
        .open(folder)
        .with_context(opening)?;
    match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Ok(Some(held)),
        Err((_, Errno::EAGAIN)) => Ok(None),
        Err((_, error)) => Err(error).with_context(|| format!("locking {}", folder.display())),
    }
}

/// Removes what nobody works in any more.
fn sweep(within: &Path, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let reading = || format!("reading {}", within.display());
    for entry in fs::read_dir(within).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        let name = path.file_name().unwrap_or_default();
        if !name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) || !is_ours(&path) {
            continue;
        }
        match remove_left(&path) {
            Ok(false) => {}
            Ok(true) => reporter.info(format!(
                "{} is removed: a run that was killed had left it",
                path.display()
            )),
            // What is to be done can be done all the same.
            Err(error) => reporter.warn(format!(
                "{}, which a run that was killed has left, stays: {error:#}",
                path.display()
            )),
        }
    }
    Ok(())
}

/// Others may put what they like into `/var/tmp`. One without a tree is just being made.
fn is_ours(folder: &Path) -> bool {
    let found = fs::symlink_metadata(folder);
    let is_ours = found.is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw());
    is_ours && folder.join(ROOT).is_dir()
}

/// Whether it was left, and is gone now.
fn remove_left(folder: &Path) -> anyhow::Result<bool> {
    let Some(held) = open(folder)? else {
        return Ok(false);
    };
    take_away(folder, &held)?;
    fs::remove_dir(folder).with_context(|| format!("removing {}", folder.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::event::Silent;

    #[test]
    fn what_was_left_goes_and_what_somebody_works_in_stays() {
        let within = tempfile::tempdir().unwrap();
        let one = WorkFolder::new(within.path(), &Silent).unwrap();
        fs::create_dir_all(one.root().join("etc")).unwrap();
        let left = within.path().join(format!("{PREFIX}left"));
        fs::create_dir_all(left.join(ROOT).join("etc")).unwrap();
        let others = within.path().join("others");
        fs::create_dir_all(others.join(ROOT)).unwrap();
        let two = WorkFolder::new(within.path(), &Silent).unwrap();
        assert!(!left.exists());
        assert!(others.exists() && one.root().join("etc").exists());
        one.remove().unwrap();
        two.remove().unwrap();
        assert_eq!(fs::read_dir(within.path()).unwrap().count(), 1);
    }
}
