//! Disks, their images and a folder for both.

#![allow(
    dead_code,
    reason = "each test file that includes this uses a part of it"
)]

use pitstop_imaging::disk::DiskInput;
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{
    CaptureOptions, Delta, FileSource, ImageMeta, RestoreOptions, capture,
};
use pitstop_imaging::inventory::DiskIdentity;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub const MIB: usize = 1 << 20;

pub struct Bench {
    folder: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub fn capture(&self, disk: &Path, options: &CaptureOptions) -> (PathBuf, ImageMeta) {
        let image = self.path("disk.raw.gz");
        let mut out = File::create(&image).unwrap();
        let meta = capture(disk, &identity(disk), options, &mut out, &Silent).unwrap();
        (image, meta)
    }
}

/// An image of `disk`, whose logical sectors are `sector` bytes, in `folder`.
pub fn image_of(folder: &Path, disk: &Path, sector: u32, options: &CaptureOptions) -> PathBuf {
    let identity = DiskIdentity {
        logical_sector_size: sector,
        physical_sector_size: sector,
        ..identity(disk)
    };
    let image = folder.join("disk.raw.gz");
    let mut out = File::create(&image).unwrap();
    capture(disk, &identity, options, &mut out, &Silent).unwrap();
    image
}

pub fn identity(disk: &Path) -> DiskIdentity {
    use pitstop_imaging::disk::Input;
    DiskIdentity {
        device: "disk".into(),
        model: "a file".into(),
        serial: String::new(),
        wwn: String::new(),
        transport: String::new(),
        size: DiskInput::open(disk).unwrap().size(),
        logical_sector_size: 512,
        physical_sector_size: 512,
    }
}

pub fn source(path: &Path) -> FileSource {
    FileSource::open(path).unwrap()
}

/// Bytes that do not compress, others for each `seed`. By a library that is built for speed: a test's own loop is not.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Text, noise, zeros, a bit of each, and an odd end.
pub fn disk_of(chunks: usize, odd: usize) -> Vec<u8> {
    let mut disk = Vec::new();
    for chunk in 0..chunks {
        match chunk % 5 {
            0 => disk.extend(
                format!("line {chunk} of a text\n")
                    .repeat(MIB / 8)
                    .into_bytes(),
            ),
            1 => disk.extend(noise(MIB, chunk as u64 + 1)),
            2 | 3 => disk.extend(vec![0; MIB]),
            _ => disk.extend([noise(MIB / 2, 99), vec![7; MIB / 2]].concat()),
        }
        disk.truncate((chunk + 1) * MIB);
    }
    disk.extend(noise(odd, 5));
    disk
}

pub fn plain() -> RestoreOptions {
    RestoreOptions {
        delta: Delta::Off,
        ..RestoreOptions::default()
    }
}
