//! A share that is a folder: a mounted NFS export, or a local disk.

mod pending;
mod place;

use self::pending::DirectoryPending;
use self::place::{Keeper, Place, explain};
use super::nfs::Mounted;
use super::{Pending, Share, Stat};
use anyhow::{Context as _, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use pitstop_imaging::image::ImageSource;
use pitstop_imaging::source::ReadAt;
use pitstop_protocol::job::check_folder;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How often a lock that another machine holds is asked for before the line is written without.
const LOCK_TRIES: u32 = 20;

/// A folder whose files are the share's. Paths cannot leave it, except by links that are in it already.
#[derive(Debug)]
pub struct DirectoryShare {
    root: PathBuf,
    place: Place,
    /// Unmounts when the share is dropped.
    _mounted: Option<Mounted>,
}

impl DirectoryShare {
    /// # Errors
    /// When there is no such folder.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        let place = Place::new(root.display().to_string(), Keeper::Here);
        Self::new(root.to_owned(), place, None)
    }

    /// A mounted export under the name that people know it by.
    pub(super) fn mounted(mounted: Mounted, name: String) -> anyhow::Result<Self> {
        let place = Place::new(name, Keeper::Server);
        Self::new(mounted.path().to_owned(), place, Some(mounted))
    }

    /// A folder of a stick.
    pub(super) fn on_stick(root: &Path) -> anyhow::Result<Self> {
        let place = Place::new(root.display().to_string(), Keeper::Stick);
        Self::new(root.to_owned(), place, None)
    }

    fn new(root: PathBuf, place: Place, mounted: Option<Mounted>) -> anyhow::Result<Self> {
        let metadata = fs::metadata(&root).map_err(|error| explain("opening", &place, &error))?;
        if !metadata.is_dir() {
            bail!("{place} is not a folder");
        }
        Ok(Self {
            root,
            place,
            _mounted: mounted,
        })
    }

    fn path(&self, path: &str) -> anyhow::Result<PathBuf> {
        check_folder(path).map_err(|why| anyhow!(why))?;
        Ok(self.root.join(path))
    }

    /// For messages: the share's name and the path on it.
    fn shown(&self, path: &str) -> Place {
        self.place.file(path)
    }

    fn file(&self, path: &str) -> anyhow::Result<Opened> {
        let name = self.shown(path);
        let file = File::open(self.path(path)?).map_err(|e| explain("opening", &name, &e))?;
        let metadata = file.metadata().map_err(|e| explain("reading", &name, &e))?;
        if !metadata.is_file() {
            bail!("{name} is not a file");
        }
        Ok(Opened {
            file: Arc::new(file),
            size: metadata.len(),
            name,
        })
    }

    fn make_parent(&self, target: &Path, name: &Place) -> anyhow::Result<()> {
        match target.parent() {
            Some(parent) if parent != self.root => {
                fs::create_dir_all(parent).map_err(|e| explain("making the folder of", name, &e))
            }
            _ => Ok(()),
        }
    }
}

impl Share for DirectoryShare {
    fn name(&self) -> &str {
        self.place.name()
    }

    fn stat(&self, path: &str) -> anyhow::Result<Option<Stat>> {
        match fs::metadata(self.path(path)?) {
            Ok(metadata) => Ok(Some(Stat {
                size: metadata.len(),
            })),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(explain("looking at", &self.shown(path), &error)),
        }
    }

    fn open(&self, path: &str) -> anyhow::Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.file(path)?.reader(0)))
    }

    fn folder(&self, path: &str) -> anyhow::Result<Option<PathBuf>> {
        let folder = self.path(path)?;
        Ok(Some(folder).filter(|folder| folder.is_dir()))
    }

    fn image(&self, path: &str) -> anyhow::Result<Box<dyn ImageSource>> {
        Ok(Box::new(self.file(path)?))
    }

    fn create(&self, path: &str) -> anyhow::Result<Box<dyn Pending>> {
        let target = self.path(path)?;
        let part = self.path(&format!("{path}.part"))?;
        let name = self.shown(path);
        self.make_parent(&target, &name)?;
        Ok(Box::new(DirectoryPending::begin(part, target, name)?))
    }

    fn rename(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let (source, target) = (self.path(from)?, self.path(to)?);
        let name = self.shown(from);
        self.make_parent(&target, &self.shown(to))?;
        fs::rename(source, &target).map_err(|e| explain("renaming", &name, &e))?;
        sync_folder(&target, &name)
    }

    fn remove(&self, path: &str) -> anyhow::Result<()> {
        let target = self.path(path)?;
        let name = self.shown(path);
        match fs::remove_file(&target) {
            Ok(()) => sync_folder(&target, &name),
            Err(error) if is_absence(&error) => Ok(()),
            Err(error) => Err(explain("removing", &name, &error)),
        }
    }

    fn append(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let target = self.path(path)?;
        let name = self.shown(path);
        self.make_parent(&target, &name)?;
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&target)
            .map_err(|e| explain("opening", &name, &e))?;
        let mut file = locked(file);
        file.get_mut()
            .write_all(text.as_bytes())
            .and_then(|()| file.get_mut().sync_data())
            .map_err(|e| explain("adding to", &name, &e))
    }
}

/// A file to add to, locked where that can be had: NFS appends where it believes the end to be.
enum MaybeLocked {
    Locked(Flock<File>),
    Free(File),
}

impl MaybeLocked {
    fn get_mut(&mut self) -> &mut File {
        match self {
            MaybeLocked::Locked(file) => file,
            MaybeLocked::Free(file) => file,
        }
    }
}

/// Locks only if others do not hold it for long: a log line matters less than the job.
fn locked(mut file: File) -> MaybeLocked {
    for _ in 0..LOCK_TRIES {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return MaybeLocked::Locked(locked),
            Err((back, Errno::EWOULDBLOCK)) => {
                file = back;
                thread::sleep(Duration::from_millis(50));
            }
            Err((back, _unsupported)) => return MaybeLocked::Free(back),
        }
    }
    MaybeLocked::Free(file)
}

/// A file of the share, open for reading. What replaces it under its name meanwhile does not change it.
#[derive(Debug)]
struct Opened {
    file: Arc<File>,
    size: u64,
    name: Place,
}

impl Opened {
    fn reader(&self, offset: u64) -> Reader {
        Reader {
            file: Arc::clone(&self.file),
            at: offset,
            size: self.size,
            name: self.name.clone(),
        }
    }
}

impl ReadAt for Opened {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, offset).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!(
                    "reading {} at {offset}: {}",
                    self.name,
                    self.name.meaning(&error)
                ),
            )
        })
    }
}

impl ImageSource for Opened {
    fn name(&self) -> &str {
        self.name.name()
    }

    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(self.reader(offset)))
    }
}

struct Reader {
    file: Arc<File>,
    at: u64,
    size: u64,
    name: Place,
}

impl Read for Reader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buf.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        match self.file.read_at(&mut buf[..wanted], self.at) {
            Ok(0) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!(
                    "{} ended at {} instead of {}",
                    self.name, self.at, self.size
                ),
            )),
            Ok(count) => {
                self.at += count as u64;
                Ok(count)
            }
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!(
                    "reading {} at {}: {}",
                    self.name,
                    self.at,
                    self.name.meaning(&error)
                ),
            )),
        }
    }
}

/// Without this a power cut could undo a rename that was reported as done.
fn sync_folder(target: &Path, name: &Place) -> anyhow::Result<()> {
    let folder = target.parent().context("a file without a folder")?;
    let outcome = File::open(folder).and_then(|folder| folder.sync_all());
    match outcome {
        // Filesystems that cannot sync a folder do not need to.
        Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => Ok(()),
        outcome => outcome.map_err(|e| explain("syncing the folder of", name, &e)),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests;
