//! What can be refused is refused before the first write: every option in its combinations, disks that others use,
//! tables that are damaged or in doubt, filesystems that do not grow.
//!
//! Needs root, and e2fsprogs, fdisk, gdisk, ntfs-3g, gzip, util-linux.

#[path = "../image_common/mod.rs"]
mod image_common;
#[path = "../used_common/mod.rs"]
mod used_common;

mod combinations;
mod growing;
mod in_use;
mod new_ids;

use image_common::noise;
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{FileSource, RestoreOptions, Restored, restore};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use used_common::{run, sparse};

fn bytes(count: u64) -> usize {
    usize::try_from(count).unwrap()
}

/// A disk of `size` bytes with a table by `sfdisk`.
fn disk(dir: &TempDir, name: &str, size: u64, script: &str) -> PathBuf {
    let disk = sparse(dir, name, size);
    sfdisk(&disk, script);
    disk
}

fn sfdisk(disk: &Path, script: &str) {
    if script.is_empty() {
        return;
    }
    let made = disk.with_extension("script");
    fs::write(&made, script).unwrap();
    let shell = format!("sfdisk -q {} < {}", disk.display(), made.display());
    run("sh", &["-c", &shell]);
}

/// What tells whether a file was written to: its bytes, and when the kernel last saw a write.
#[derive(PartialEq, Eq)]
struct State {
    bytes: Vec<u8>,
    written: (i64, i64),
}

impl State {
    fn of(file: &Path) -> Self {
        let found = fs::metadata(file).unwrap();
        let written = (found.mtime(), found.mtime_nsec());
        let bytes = fs::read(file).unwrap();
        Self { bytes, written }
    }
}

/// Restores to `device`, whose bytes are those of `file`: where it fails, nothing may have been written.
fn ok_or_untouched(
    image: &Path,
    device: &Path,
    file: &Path,
    options: &RestoreOptions,
) -> anyhow::Result<Restored> {
    let before = State::of(file);
    // The kernel's clock of files is coarse.
    std::thread::sleep(Duration::from_millis(20));
    let source = FileSource::open(image).unwrap();
    let done = restore(&source, device, options, &Silent);
    if let Err(error) = &done {
        run("sync", &["-d", file.to_str().unwrap()]);
        let after = State::of(file);
        assert!(after.bytes == before.bytes, "bytes were changed: {error:#}");
        assert!(after == before, "it was written to: {error:#}");
    }
    Ok(done?)
}

/// The reason of a restore that has to be refused.
fn refused(image: &Path, target: &Path, options: &RestoreOptions) -> String {
    let error = ok_or_untouched(image, target, target, options).unwrap_err();
    format!("{error:#}")
}

/// A disk full of what somebody had on it.
fn full(dir: &TempDir, name: &str, size: u64) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, noise(bytes(size), size + 1)).unwrap();
    path
}
