//! A stick that carries a share: its filesystem is read-only but while something is written to it. Whoever pulls it out at
//! any other time harms nothing but the run.

use super::{DirectoryShare, Pending, Share, Stat};
use anyhow::{Context as _, anyhow};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::unistd::syncfs;
use pitstop_imaging::image::ImageSource;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a stick is mounted: whose files they are nobody asks, and nothing of it is run.
pub const FLAGS: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC)
    .union(MsFlags::MS_NOATIME);

/// A mounted stick.
#[derive(Debug)]
pub struct Stick {
    root: PathBuf,
    /// Those who write to it now.
    writers: Mutex<u32>,
}

impl Stick {
    /// The one that is mounted at `root`, read-only, if there is any.
    pub fn at(root: &Path) -> Arc<Self> {
        Arc::new(Self {
            root: root.to_owned(),
            writers: Mutex::default(),
        })
    }

    /// Whether `path` is on it.
    pub fn holds(&self, path: &Path) -> bool {
        path.starts_with(&self.root)
    }

    /// Makes it writable until what is returned is finished or dropped.
    ///
    /// # Errors
    /// It is write-protected, damaged or gone.
    pub fn writing(self: &Arc<Self>) -> anyhow::Result<Writing> {
        let mut writers = self.lock();
        if *writers == 0 {
            self.remount(FLAGS)
                .map_err(|errno| anyhow!("writing to the stick: {}", meaning(errno)))?;
        }
        *writers += 1;
        Ok(Writing {
            stick: Arc::clone(self),
            is_open: true,
        })
    }

    fn lock(&self) -> MutexGuard<'_, u32> {
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remount(&self, flags: MsFlags) -> Result<(), Errno> {
        let flags = flags | MsFlags::MS_REMOUNT;
        mount(None::<&str>, &self.root, None::<&str>, flags, None::<&str>)
    }

    /// Writes back what the kernel still holds.
    fn sync(&self) -> anyhow::Result<()> {
        let doing = || "writing the last of it to the stick";
        let root = File::open(&self.root).with_context(doing)?;
        syncfs(root).map_err(|errno| anyhow!("{}: {}", doing(), meaning(errno)))
    }

    fn close(&self) -> anyhow::Result<()> {
        let synced = self.sync();
        let mut writers = self.lock();
        *writers = writers.saturating_sub(1);
        if *writers > 0 {
            return synced;
        }
        synced.and(
            self.remount(FLAGS | MsFlags::MS_RDONLY)
                .map_err(|errno| anyhow!("closing the stick: {}", meaning(errno))),
        )
    }
}

/// While there is one, the stick can be written to.
#[derive(Debug)]
pub struct Writing {
    stick: Arc<Stick>,
    is_open: bool,
}

impl Writing {
    /// Everything is on the stick when this returns, and it is read-only again if nobody else writes.
    ///
    /// # Errors
    /// It could not be written: it is full, damaged or gone.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.is_open = false;
        self.stick.close()
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if self.is_open {
            // On the way out of an error, which is told.
            let _ = self.stick.close();
        }
    }
}

/// What an error means of a stick that is plugged into this machine.
fn meaning(errno: Errno) -> String {
    let meaning = match errno {
        Errno::EROFS | Errno::EACCES => {
            "it is write-protected, or damaged so that the kernel lets nobody write: look for a switch on it, or check it \
             (chkdsk, fsck)"
        }
        Errno::EIO | Errno::ENODEV | Errno::ENXIO => "it does not answer: was it pulled out?",
        Errno::ENOSPC => "it is full: make room on it, or take a larger one",
        Errno::EINVAL | Errno::ENOENT => "no stick is mounted",
        _ => return errno.to_string(),
    };
    format!("{meaning} ({errno})")
}

/// The folder of a stick as a share.
pub(super) struct StickShare {
    inner: DirectoryShare,
    stick: Arc<Stick>,
}

impl StickShare {
    pub(super) fn open(path: &Path, stick: &Arc<Stick>) -> anyhow::Result<Self> {
        Ok(Self {
            inner: DirectoryShare::on_stick(path)?,
            stick: Arc::clone(stick),
        })
    }

    fn written<T>(&self, act: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        let writing = self.stick.writing()?;
        let done = act()?;
        writing.finish()?;
        Ok(done)
    }
}

impl Share for StickShare {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn stat(&self, path: &str) -> anyhow::Result<Option<Stat>> {
        self.inner.stat(path)
    }

    fn open(&self, path: &str) -> anyhow::Result<Box<dyn Read + Send>> {
        self.inner.open(path)
    }

    fn folder(&self, path: &str) -> anyhow::Result<Option<PathBuf>> {
        self.inner.folder(path)
    }

    fn image(&self, path: &str) -> anyhow::Result<Box<dyn ImageSource>> {
        self.inner.image(path)
    }

    fn create(&self, path: &str) -> anyhow::Result<Box<dyn Pending>> {
        let writing = self.stick.writing()?;
        Ok(Box::new(StickPending {
            inner: self.inner.create(path)?,
            writing,
        }))
    }

    fn rename(&self, from: &str, to: &str) -> anyhow::Result<()> {
        self.written(|| self.inner.rename(from, to))
    }

    fn remove(&self, path: &str) -> anyhow::Result<()> {
        if self.inner.stat(path)?.is_none() {
            return Ok(());
        }
        self.written(|| self.inner.remove(path))
    }

    fn append(&self, path: &str, text: &str) -> anyhow::Result<()> {
        self.written(|| self.inner.append(path, text))
    }
}

/// The file goes before the stick is closed: fields are dropped in this order.
struct StickPending {
    inner: Box<dyn Pending>,
    writing: Writing,
}

impl Write for StickPending {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.inner.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Pending for StickPending {
    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        self.inner.finish()?;
        self.writing.finish()
    }

    fn land(&mut self) -> anyhow::Result<()> {
        self.inner.land()
    }

    fn finish_new(self: Box<Self>) -> anyhow::Result<()> {
        self.inner.finish_new()?;
        self.writing.finish()
    }
}

#[cfg(test)]
mod tests;
