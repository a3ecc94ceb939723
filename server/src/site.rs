//! What is served: three folders, and what all requests share.

use crate::claims::Claims;
use crate::journal::Journal;
use crate::path::RelPath;
use anyhow::Context;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The marker that makes a folder the share.
const MARKERS: [&str; 2] = ["pitstop-share", "testbox-backup"];

/// Whether `path`, below the share, is its marker: without it no machine takes the folder for a share.
pub fn is_marker(path: &RelPath) -> bool {
    MARKERS.contains(&path.as_str())
}

/// The two files that a machine boots.
pub const KERNEL: &str = "vmlinuz";
pub const INITRAMFS: &str = "initramfs.img";

/// Everything the handlers need. The folders are open: nothing below them can lead out.
pub struct Site {
    pub share: Arc<Dir>,
    pub hosts: Arc<Dir>,
    pub boot: Arc<Dir>,
    pub journal: Journal,
    pub claims: Claims,
    /// Kernel parameters beside Pitstop's own.
    pub append: String,
    /// The URL under which machines reach this server, without a slash at its end.
    pub url: String,
    /// `url` was given: it wins over the name that a client used.
    pub url_given: bool,
    /// Held from the check of a condition to the change it allows, so that of two that fit one fails.
    pub changes: Mutex<()>,
}

/// The folders of a root, made and opened.
pub struct Folders {
    pub share: Dir,
    pub hosts: Dir,
    pub boot: Dir,
    pub boot_path: PathBuf,
}

impl Folders {
    /// Makes what is missing of the layout below `root`. `boot` takes the place of `root`'s own.
    pub fn open(root: &Path, boot: Option<&Path>) -> anyhow::Result<Self> {
        let boot_path = boot.map_or_else(|| root.join("boot"), Path::to_path_buf);
        let share = make(&root.join("share"))?;
        if !MARKERS.iter().any(|marker| share.exists(marker)) {
            let marker = root.join("share").join(MARKERS[0]);
            share
                .write(MARKERS[0], "This folder is the share of pitstop.\n")
                .with_context(|| format!("writing {}", marker.display()))?;
        }
        Ok(Self {
            share,
            hosts: make(&root.join("hosts"))?,
            boot: if boot.is_some() {
                open(&boot_path)?
            } else {
                make(&boot_path)?
            },
            boot_path,
        })
    }

    /// The boot files that machines will ask for and not find.
    pub fn missing_boot_files(&self) -> Vec<&'static str> {
        [KERNEL, INITRAMFS]
            .into_iter()
            .filter(|name| !self.boot.is_file(name))
            .collect()
    }
}

fn make(path: &Path) -> anyhow::Result<Dir> {
    std::fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
    open(path)
}

fn open(path: &Path) -> anyhow::Result<Dir> {
    Dir::open_ambient_dir(path, ambient_authority())
        .with_context(|| format!("opening {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_made_once_and_an_old_marker_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders::open(root.path(), None).unwrap();
        assert!(root.path().join("share/pitstop-share").is_file());
        assert_eq!(folders.missing_boot_files(), [KERNEL, INITRAMFS]);

        let old = tempfile::tempdir().unwrap();
        std::fs::create_dir(old.path().join("share")).unwrap();
        std::fs::write(old.path().join("share/testbox-backup"), "").unwrap();
        Folders::open(old.path(), None).unwrap();
        assert!(!old.path().join("share/pitstop-share").exists());

        let error = Folders::open(root.path(), Some(Path::new("/nowhere/out")))
            .err()
            .unwrap();
        assert!(
            format!("{error:#}").starts_with("opening /nowhere/out: "),
            "{error:#}"
        );
    }
}
