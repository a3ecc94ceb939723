//! An image in memory, and one of a disk whose bytes are known.

use super::at;
use super::bad_disk::BadDisk;
use crate::disk::Input;
use crate::event::{Act, Silent};
use crate::extents::Extents;
use crate::image::again::Out;
use crate::image::capture::capture_from;
use crate::image::workers::Meter;
use crate::image::{CaptureOptions, ImageMeta, ImageSource};
use crate::inventory::DiskIdentity;
use crate::source::ReadAt;
use std::io::{self, Read};
use std::sync::atomic::AtomicU64;

pub const MIB: usize = 1 << 20;

/// An image in memory.
pub struct Memory(pub Vec<u8>);

impl ReadAt for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        buf.copy_from_slice(&self.0[at(offset)..at(offset) + buf.len()]);
        Ok(())
    }
}

impl ImageSource for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }
    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.0[at(offset)..].to_vec())))
    }
}

pub fn raw() -> Vec<u8> {
    (0..6 * MIB + 512)
        .map(|place| u8::try_from(place / 777 % 251).unwrap())
        .collect()
}

pub fn image_of(input: &dyn Input, kept: &Extents) -> (Memory, ImageMeta) {
    let disk = DiskIdentity {
        device: "fake".into(),
        model: String::new(),
        serial: String::new(),
        wwn: String::new(),
        transport: String::new(),
        size: input.size(),
        logical_sector_size: 512,
        physical_sector_size: 512,
    };
    let mut meta = ImageMeta::new(disk, 1 << 20, false);
    let mut out = Vec::new();
    let meter = Meter::new(Act::Backup, "fake", None, &Silent);
    let options = CaptureOptions::default();
    capture_from(input, kept, &mut meta, &options, Out::New(&mut out), &meter).unwrap();
    (Memory(out), meta)
}

pub fn good_image() -> (Memory, Vec<u8>) {
    let bytes = raw();
    let disk = BadDisk {
        bytes: bytes.clone(),
        dead: 0..0,
        weak: 0..0,
        tries: AtomicU64::new(0),
        most: 70_001,
    };
    let kept = Extents::single(0..bytes.len() as u64);
    (image_of(&disk, &kept).0, bytes)
}
