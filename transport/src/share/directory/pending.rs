//! A file on its way to a folder: written under another name, renamed when it is whole.

use super::place::{Place, explain};
use super::{is_absence, sync_folder};
use crate::share::{Pending, TakenOver, taken};
use anyhow::bail;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
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
        // Without locks another one may have begun, and half of theirs must not get the name.
        if let Err(error) = fs::symlink_metadata(&self.part)
            && !is_absence(&error)
        {
            return Err(explain("looking at", &self.name, &error));
        }
        if !self.is_at(&self.part) && !self.is_at(&self.target) {
            bail!(TakenOver::new(format!(
                "{}: another backup writes it by now, so this one ends: let one at a time write there",
                self.name
            )));
        }
        Ok(())
    }

    fn settle(mut self) -> anyhow::Result<()> {
        self.renamed = true;
        sync_folder(&self.target, &self.name)
    }

    /// Whether `path` is the file that was written here. An NFS server whose answer was lost is asked once more, and says that what it has
    /// done already cannot be done.
    fn is_at(&self, path: &Path) -> bool {
        self.file
            .get()
            .metadata()
            .is_ok_and(|written| is_named(path, &written))
    }
}

fn is_named(path: &Path, file: &Metadata) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|named| (named.dev(), named.ino()) == (file.dev(), file.ino()))
}

impl Pending for DirectoryPending {
    fn land(&mut self) -> anyhow::Result<()> {
        self.prove()
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        self.prove()?;
        match fs::rename(&self.part, &self.target) {
            Err(error) if !self.is_at(&self.target) => Err(explain("renaming", &self.name, &error)),
            _ => (*self).settle(),
        }
    }

    fn finish_new(self: Box<Self>) -> anyhow::Result<()> {
        self.prove()?;
        // Over NFS a name is never replaced by this alone.
        match fs::hard_link(&self.part, &self.target) {
            Err(_) if self.is_at(&self.target) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(taken(&self.name)),
            // FAT has no second names.
            Err(_) => return self.finish(),
            Ok(()) => {}
        }
        // It has its name. One that stays beside it is the next writer's to remove, who may have a file there by now.
        if self.is_at(&self.part) {
            let _ = fs::remove_file(&self.part);
        }
        (*self).settle()
    }
}

impl Drop for DirectoryPending {
    fn drop(&mut self) {
        // Without locks it may be another's by now.
        if !self.renamed && self.is_at(&self.part) {
            // Best effort: the error that led here is the one to report.
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// New, and locked where the filesystem has locks.
enum PartFile {
    Locked(Flock<File>),
    Free(File),
}

impl PartFile {
    fn open(part: &Path, name: &Place) -> anyhow::Result<Self> {
        let failed = |error: &io::Error| explain("creating", name, error);
        loop {
            // What is found is never written to: it may be another's, or the second name of a file that is whole.
            let mut options = OpenOptions::new();
            // The name is looked at again below, and a link would never be what it leads to.
            options.write(true).custom_flags(OFlag::O_NOFOLLOW.bits());
            let (opened, is_new) = match options.clone().create_new(true).open(part) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    (options.open(part), false)
                }
                opened => (opened, true),
            };
            let file = match opened {
                Err(error) if !is_new && is_absence(&error) => continue,
                opened => opened.map_err(|e| failed(&e))?,
            };
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
            if !is_named(part, &held) {
                continue;
            }
            if is_new {
                return Ok(file);
            }
            // What a run that died has left: its bytes go, unless they have another name by now.
            if let Err(error) = fs::remove_file(part)
                && !is_absence(&error)
            {
                return Err(failed(&error));
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
