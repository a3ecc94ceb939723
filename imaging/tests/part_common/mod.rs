//! Disks with tables by other people's tools, images of them, and restores of parts.

#![allow(
    dead_code,
    reason = "each test file that includes this uses a part of it"
)]

use crate::image_common::{self, noise};
use crate::used_common::{MIB, run, scribble, sparse};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{CaptureOptions, FileSource, Part, RestoreOptions, Restored, restore};
use pitstop_imaging::table::PartitionSelector;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub const SIZE: u64 = 64 * MIB;

pub fn at(place: u64) -> usize {
    usize::try_from(place).unwrap()
}

/// A disk with a table by `sfdisk`, and noise in the given ranges of MiB.
pub fn disk(dir: &TempDir, name: &str, size: u64, script: &str, data: &[(u64, u64)]) -> PathBuf {
    let disk = sparse(dir, name, size);
    let made = dir.path().join("script");
    fs::write(&made, script).unwrap();
    let shell = format!("sfdisk -q {} < {}", disk.display(), made.display());
    run("sh", &["-c", &shell]);
    for (number, (from, to)) in data.iter().enumerate() {
        let seed = number as u64 + name.len() as u64 + 1;
        scribble(&disk, from * MIB, &noise(at((to - from) * MIB), seed));
    }
    disk
}

pub fn image_of(dir: &TempDir, disk: &Path, sector: u32) -> PathBuf {
    let options = CaptureOptions {
        exact: true,
        ..CaptureOptions::default()
    };
    image_common::image_of(dir.path(), disk, sector, &options)
}

pub fn selectors(names: &[&str]) -> Vec<PartitionSelector> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

pub fn keep(names: &[&str]) -> RestoreOptions {
    RestoreOptions {
        part: Part::Keep(selectors(names)),
        verify: true,
        ..RestoreOptions::default()
    }
}

pub fn only(names: &[&str]) -> RestoreOptions {
    RestoreOptions {
        part: Part::Only(selectors(names)),
        verify: true,
        ..RestoreOptions::default()
    }
}

pub fn try_restore(
    image: &Path,
    target: &Path,
    options: &RestoreOptions,
) -> anyhow::Result<Restored> {
    let image = FileSource::open(image).unwrap();
    Ok(restore(&image, target, options, &Silent)?)
}

/// The error of a restore that must leave the target as it is.
pub fn refused(image: &Path, target: &Path, options: &RestoreOptions) -> String {
    let before = fs::read(target).unwrap();
    let error = try_restore(image, target, options).unwrap_err();
    assert!(fs::read(target).unwrap() == before, "{error:#}");
    format!("{error:#}")
}

pub fn bytes(path: &Path, range: std::ops::Range<u64>) -> Vec<u8> {
    let mut bytes = vec![0; at(range.end - range.start)];
    let file = File::open(path).unwrap();
    file.read_exact_at(&mut bytes, range.start).unwrap();
    bytes
}

pub fn assert_accepted(disk: &Path) {
    let disk = disk.to_str().unwrap();
    let text = run("sgdisk", &["-v", disk]);
    assert!(text.contains("No problems found"), "{text}");
    let text = run("sfdisk", &["--verify", disk]);
    assert!(text.contains("No errors detected"), "{text}");
    assert!(!text.contains("mismatch"), "{text}");
}

/// What `sfdisk` says of a partition.
pub fn entry(disk: &Path, number: u32) -> String {
    let text = run("sfdisk", &["-d", disk.to_str().unwrap()]);
    let start = format!("{}{number} :", disk.display());
    let line = text.lines().find(|line| line.starts_with(&start));
    line.unwrap_or_default().replace(&start, "")
}

pub const IMAGE: &str = "label: gpt
start=2048,size=20480,type=U,name=esp
start=22528,size=40960,type=L,name=root
";
/// `home` is where the image has nothing.
pub const TARGET: &str = "label: gpt
/dev/x1 : start=2048,size=30720,type=L,name=old
/dev/x3 : start=81920,size=30720,type=L,name=home,uuid=11111111-2222-4333-8444-555555555555
";
pub const HOME: std::ops::Range<u64> = 40 * MIB..55 * MIB;

pub fn image_and_target(dir: &TempDir) -> (PathBuf, PathBuf, PathBuf) {
    let from = disk(dir, "from", SIZE, IMAGE, &[(1, 4), (11, 20)]);
    let image = image_of(dir, &from, 512);
    let target = disk(dir, "target", SIZE, TARGET, &[(1, 60)]);
    (from, image, target)
}
