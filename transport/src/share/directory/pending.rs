//! A file on its way to a folder: written under another name, renamed when it is whole.

use super::place::{Place, explain};
use super::sync_folder;
use crate::share::{Pending, taken};
use anyhow::bail;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A file being written under its temporary name.
pub(super) struct DirectoryPending {
    file: PartFile,
    part: PathBuf,
    target: PathBuf,
    name: Place,
    written: u64,
    renamed: bool,
}

impl DirectoryPending {
    /// Takes over what a run that died left under the name `part`, but not from one that is still writing.
    pub(super) fn begin(part: PathBuf, target: PathBuf, name: Place) -> anyhow::Result<Self> {
        let file = PartFile::open(&part, &name)?;
        Ok(Self {
            file,
            part,
            target,
            name,
            written: 0,
            renamed: false,
        })
    }
}

impl Write for DirectoryPending {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self.file.get().write(data) {
            Ok(count) => {
                self.written += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!(
                    "writing {} at {}: {}",
                    self.name,
                    self.written,
                    self.name.meaning(&error)
                ),
            )),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DirectoryPending {
    /// Over NFS errors of earlier writes, a full disk among them, come to light only at the sync.
    fn prove(&self) -> anyhow::Result<()> {
        self.file
            .get()
            .sync_all()
            .map_err(|e| explain("writing", &self.name, &e))?;
        let size = self
            .file
            .get()
            .metadata()
            .map_err(|e| explain("looking at", &self.name, &e))?
            .len();
        if size != self.written {
            bail!(
                "{}: {} bytes were written, but {size} are there",
                self.name,
                self.written
            );
        }
        Ok(())
    }

    fn settle(mut self) -> anyhow::Result<()> {
        self.renamed = true;
        sync_folder(&self.target, &self.name)
    }
}

impl Pending for DirectoryPending {
    fn land(&mut self) -> anyhow::Result<()> {
        self.prove()
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        self.prove()?;
        fs::rename(&self.part, &self.target).map_err(|e| explain("renaming", &self.name, &e))?;
        (*self).settle()
    }

    fn finish_new(self: Box<Self>) -> anyhow::Result<()> {
        self.prove()?;
        // Over NFS a name is never replaced by this alone.
        match fs::hard_link(&self.part, &self.target) {
            Ok(()) => {
                fs::remove_file(&self.part).map_err(|e| explain("renaming", &self.name, &e))?;
                (*self).settle()
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(taken(&self.name)),
            // FAT has no second names.
            Err(_) => self.finish(),
        }
    }
}

impl Drop for DirectoryPending {
    fn drop(&mut self) {
        if !self.renamed {
            // Best effort: the error that led here is the one to report.
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// Empty, and locked where the filesystem has locks.
enum PartFile {
    Locked(Flock<File>),
    Free(File),
}

impl PartFile {
    fn open(part: &Path, name: &Place) -> anyhow::Result<Self> {
        let failed = |error: &io::Error| explain("creating", name, error);
        loop {
            // Not truncated before the lock is had: it may be another's.
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(part)
                .map_err(|e| failed(&e))?;
            let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => Self::Locked(locked),
                Err((_file, Errno::EWOULDBLOCK)) => bail!(
                    "creating {name}: another backup is writing it now ({})",
                    part.display()
                ),
                Err((file, _unsupported)) => Self::Free(file),
            };
            // Whoever held the lock may have renamed or removed what was opened here.
            let held = file.get().metadata().map_err(|e| failed(&e))?;
            let same = fs::symlink_metadata(part)
                .is_ok_and(|now| (now.dev(), now.ino()) == (held.dev(), held.ino()));
            if same {
                file.get().set_len(0).map_err(|e| failed(&e))?;
                return Ok(file);
            }
        }
    }

    fn get(&self) -> &File {
        match self {
            Self::Locked(file) => file,
            Self::Free(file) => file,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::Keeper;
    use super::*;

    #[test]
    fn who_is_full_is_said() {
        let share = "writing nfs://server/x at 4096: the share is full: make room on the server";
        let here = "writing /backups/lab/x at 4096: /backups/lab is full: make room there";
        for (name, keeper, text) in [
            ("nfs://server/x", Keeper::Server, share),
            ("/backups/lab/x", Keeper::Here, here),
        ] {
            // /dev/full is what a full disk looks like to a writer.
            let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
            let mut pending = DirectoryPending {
                file: PartFile::Free(file),
                part: "/nonexistent/x.part".into(),
                target: "/nonexistent/x".into(),
                name: Place::new(name.to_owned(), keeper),
                written: 4096,
                renamed: false,
            };
            let error = pending.write_all(b"x").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert!(error.to_string().starts_with(text), "{error}");
        }
    }
}
