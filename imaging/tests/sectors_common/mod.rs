//! Disks of both sector sizes, with tables and filesystems by other people's tools.

#![allow(
    dead_code,
    reason = "each test file that includes this uses a part of it"
)]

use crate::used_common::{Loop, MIB, Tree, run, sparse, tree};
use pitstop_testing::mounts::Mounted;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A disk of `size` bytes with a table by `sfdisk`, which says its places in MiB.
pub fn disk(dir: &TempDir, name: &str, sector: u32, size: u64, script: &str) -> PathBuf {
    let disk = sparse(dir, name, size);
    let made = dir.path().join("script");
    fs::write(&made, script).unwrap();
    on(&disk, sector, |device| {
        let shell = format!("sfdisk -q {} < {}", device.display(), made.display());
        run("sh", &["-c", &shell])
    });
    disk
}

/// Does something with a disk as a device with sectors of that size.
pub fn on<T>(disk: &Path, sector: u32, act: impl FnOnce(&Path) -> T) -> T {
    let device = Loop::with_sectors(disk, sector);
    act(&device.device)
}

/// A part of a disk as a device of its own.
pub fn part(disk: &Path, sector: u32, place: &Range<u64>) -> Loop {
    let arguments = [
        "--find".into(),
        "--show".into(),
        format!("--sector-size={sector}"),
        format!("--offset={}", place.start),
        format!("--sizelimit={}", place.end - place.start),
        disk.display().to_string(),
    ];
    let device = PathBuf::from(run("losetup", &arguments).trim());
    Loop { device }
}

/// A filesystem in a file: `command` is what makes it, and gets the file as its last argument.
pub fn made(dir: &TempDir, size: u64, command: &[&str]) -> PathBuf {
    let path = sparse(dir, "filesystem", size);
    let (program, arguments) = command.split_first().unwrap();
    let arguments: Vec<&str> = arguments.iter().copied().chain(path.to_str()).collect();
    run(program, &arguments);
    path
}

/// Copies a file to a place on a disk.
pub fn put(disk: &Path, at: u64, file: &Path) {
    let arguments = [
        format!("if={}", file.display()),
        format!("of={}", disk.display()),
        "bs=1M".into(),
        "conv=sparse,notrunc".into(),
        format!("seek={}", at / MIB),
    ];
    run("dd", &arguments);
}

/// What is in the filesystem on `device`, mounted by the kernel.
pub fn mounted(device: &Path) -> Tree {
    with_mounted(device, "ro", tree)
}

pub fn with_mounted<T>(device: &Path, options: &str, act: impl FnOnce(&Path) -> T) -> T {
    let dir = TempDir::new().unwrap();
    let arguments = ["-o", options, device.to_str().unwrap()];
    let mounted = Mounted::new(&arguments, dir.path());
    act(mounted.path())
}

/// What `sfdisk` says of a disk's partitions, with bytes in place of sectors.
pub fn says(disk: &Path, sector: u32) -> Vec<String> {
    on(disk, sector, |device| {
        let text = run("sfdisk", &["--dump", device.to_str().unwrap()]);
        let text = text.replace(device.to_str().unwrap(), "DISK");
        let lines = text
            .lines()
            .filter(|line| line.contains("start=") || line.starts_with("label"));
        lines.map(|line| in_bytes(line, sector)).collect()
    })
}

fn in_bytes(line: &str, sector: u32) -> String {
    let fields = line.split(", ").map(|field| {
        let Some((key, value)) = field.rsplit_once('=') else {
            return field.to_owned();
        };
        match value.trim().parse::<u64>() {
            Ok(count) if key.ends_with("start") || key.ends_with("size") => {
                format!("{key}={}", count * u64::from(sector))
            }
            _ => field.to_owned(),
        }
    });
    fields.collect::<Vec<_>>().join(", ")
}
