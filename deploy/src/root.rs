//! A system's root folder with all its filesystems mounted below it, which may be changed.

use std::path::{Path, PathBuf};

/// Where a deployed or offline system is mounted, whole: `/`, `/boot`, the ESP and what else its fstab has.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
}

impl Root {
    /// `path` is the mounted root. Nothing is checked here.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
