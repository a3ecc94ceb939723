//! The share: where images, logs and info files live. One seam, whatever carries it.
//!
//! Paths are relative, `/`-separated, never empty, without `.` or `..`: `10.0.2.15/sda.raw.gz`.

use crate::image::ImageSource;
use std::io::{Read, Write};

/// What is known of a file on the share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
}

/// A file being written under a temporary name. Dropped without [`finish`](Pending::finish), nothing of it stays.
pub trait Pending: Write + Send {
    /// Flushes, proves that the share holds every byte that was written, and only then puts the file
    /// under its name. An error means that the name still has what it had before.
    fn finish(self: Box<Self>) -> anyhow::Result<()>;
}

/// A place that holds images: an HTTP server, a mounted NFS export, a local directory.
pub trait Share: Send + Sync {
    /// The URL or path, without credentials, for messages.
    fn name(&self) -> &str;

    /// `None` when there is no such file.
    fn stat(&self, path: &str) -> anyhow::Result<Option<Stat>>;

    /// The whole file from its beginning. The reader fails if the body ends early.
    fn open(&self, path: &str) -> anyhow::Result<Box<dyn Read + Send>>;

    /// The file for random access: what the image engine reads chunks from.
    fn image(&self, path: &str) -> anyhow::Result<Box<dyn ImageSource>>;

    /// Begins a file that appears under `path` only when [`Pending::finish`] says so. Parent folders are made.
    fn create(&self, path: &str) -> anyhow::Result<Box<dyn Pending>>;

    /// Moves a file within the share, replacing what is there.
    fn rename(&self, from: &str, to: &str) -> anyhow::Result<()>;

    /// Removes a file. One that is not there is no error.
    fn remove(&self, path: &str) -> anyhow::Result<()>;

    /// Adds lines to the end of a file, which is made if missing. Other machines append to the same file.
    fn append(&self, path: &str, text: &str) -> anyhow::Result<()>;
}
