//! A share that fails where a test wants it to.

use anyhow::bail;
use pitstop_imaging::image::ImageSource;
use pitstop_imaging::source::ReadAt;
use pitstop_protocol::job::{Action, Job, Policy, Terms, Transfer};
use pitstop_transport::share::{DirectoryShare, Pending, Share, Standing, Stat, TakenOver};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A folder as share; what is named fails, the rest works.
pub(crate) struct BrokenShare {
    inner: DirectoryShare,
    /// Bytes that fit into one file: as a full disk or an HTTP 507.
    pub(crate) room: Option<usize>,
    /// A file that cannot be moved.
    pub(crate) rename_from: Option<String>,
    /// A file that is there, and of which nothing can be read.
    pub(crate) unread: Option<String>,
    /// A file that another machine goes on with when it is whole.
    pub(crate) taken_over: Option<String>,
    /// Nothing can be removed or appended any more: the server is gone once the room is used up.
    pub(crate) gone_after: bool,
    gone: Arc<AtomicBool>,
}

impl BrokenShare {
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            inner: DirectoryShare::open(root).unwrap(),
            room: None,
            rename_from: None,
            unread: None,
            taken_over: None,
            gone_after: false,
            gone: Arc::default(),
        }
    }

    fn reachable(&self) -> anyhow::Result<()> {
        if self.gone.load(Ordering::SeqCst) {
            bail!("the server is gone");
        }
        Ok(())
    }
}

struct Unread {
    name: String,
    size: u64,
}

fn in_trouble() -> io::Error {
    io::Error::other("500 Internal Server Error")
}

impl ReadAt for Unread {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, _buf: &mut [u8], _offset: u64) -> io::Result<()> {
        Err(in_trouble())
    }
}

impl ImageSource for Unread {
    fn name(&self) -> &str {
        &self.name
    }

    fn stream_from(&self, _offset: u64) -> io::Result<Box<dyn Read + Send>> {
        Err(in_trouble())
    }
}

struct BrokenPending {
    inner: Box<dyn Pending>,
    room: Option<usize>,
    taken_over: bool,
    gone: Option<Arc<AtomicBool>>,
}

impl Write for BrokenPending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(room) = &mut self.room {
            if *room < bytes.len() {
                if let Some(gone) = &self.gone {
                    gone.store(true, Ordering::SeqCst);
                }
                return Err(io::Error::other("507 Insufficient Storage"));
            }
            *room -= bytes.len();
        }
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Pending for BrokenPending {
    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        if self.taken_over {
            bail!(TakenOver::new("another backup makes the image"));
        }
        self.inner.finish()
    }

    fn standing(&self) -> Standing {
        self.inner.standing()
    }
}

impl Share for BrokenShare {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn stat(&self, path: &str) -> anyhow::Result<Option<Stat>> {
        self.inner.stat(path)
    }

    fn open(&self, path: &str) -> anyhow::Result<Box<dyn Read + Send>> {
        if self.unread.as_deref() == Some(path) {
            return Err(in_trouble().into());
        }
        self.inner.open(path)
    }

    fn image(&self, path: &str) -> anyhow::Result<Box<dyn ImageSource>> {
        let image = self.inner.image(path)?;
        if self.unread.as_deref() == Some(path) {
            return Ok(Box::new(Unread {
                name: path.to_owned(),
                size: image.size(),
            }));
        }
        Ok(image)
    }

    fn create(&self, path: &str) -> anyhow::Result<Box<dyn Pending>> {
        Ok(Box::new(BrokenPending {
            inner: self.inner.create(path)?,
            room: self.room,
            taken_over: self.taken_over.as_deref() == Some(path),
            gone: self.gone_after.then(|| self.gone.clone()),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> anyhow::Result<()> {
        if self.rename_from.as_deref() == Some(from) {
            bail!("403 Forbidden");
        }
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &str) -> anyhow::Result<()> {
        self.reachable()?;
        self.inner.remove(path)
    }

    fn append(&self, path: &str, text: &str) -> anyhow::Result<()> {
        self.reachable()?;
        self.inner.append(path, text)
    }
}

/// A job that asks for nothing special.
pub(crate) fn job(action: Action, folder: &str) -> Job {
    Job {
        action,
        share: None,
        image: folder.into(),
        image_named: true,
        disks: Vec::new(),
        delete: Vec::new(),
        policy: Policy::default(),
        transfer: Transfer::default(),
        check_in: None,
        terms: Terms::default(),
        digest: "d".into(),
        source: "a test".into(),
    }
}
