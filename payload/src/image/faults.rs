//! Disks that fail on purpose, under the engine's own code.

use super::capture::capture_from;
use super::feed::load;
use super::restore::restore_ours;
use super::workers::Meter;
use super::{CaptureOptions, Delta, ImageMeta, ImageSource, RestoreOptions, Restored, verify};
use crate::disk::{Input, Output};
use crate::event::Silent;
use crate::extents::Extents;
use crate::inventory::DiskIdentity;
use nix::errno::Errno;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const MIB: usize = 1 << 20;

pub(super) fn at(place: u64) -> usize {
    usize::try_from(place).unwrap()
}

/// A disk with bad sectors, some for ever, some for one try; never gives more than `most` bytes.
struct BadDisk {
    bytes: Vec<u8>,
    dead: Range<u64>,
    weak: Range<u64>,
    tries: AtomicU64,
    most: usize,
}

impl Input for BadDisk {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, buffer: &mut [u8], place: u64) -> io::Result<usize> {
        let length = buffer.len().min(self.most);
        let end = place + length as u64;
        let meets = |range: &Range<u64>| place < range.end && end > range.start;
        let tried = self.tries.fetch_add(1, Ordering::Relaxed);
        if tried % 7 == 3 {
            return Err(Errno::EINTR.into());
        }
        if meets(&self.dead) || (meets(&self.weak) && tried.is_multiple_of(2)) {
            return Err(Errno::EIO.into());
        }
        buffer[..length].copy_from_slice(&self.bytes[at(place)..at(end)]);
        Ok(length)
    }
}

/// An image in memory.
pub(super) struct Memory(Vec<u8>);

impl ImageSource for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }
    fn size(&self) -> u64 {
        self.0.len() as u64
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        buf.copy_from_slice(&self.0[at(offset)..at(offset) + buf.len()]);
        Ok(())
    }
    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(io::Cursor::new(self.0[at(offset)..].to_vec())))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
    Write(u64),
    Flush,
}

/// A target that keeps what was done to it, and may not keep what is written at `forgets`.
struct Disk {
    bytes: Mutex<Vec<u8>>,
    acts: Mutex<Vec<Act>>,
    forgets: u64,
    times: AtomicU64,
    full_from: u64,
}

impl Disk {
    fn new(size: usize) -> Self {
        Self {
            bytes: Mutex::new(vec![9; size]),
            acts: Mutex::default(),
            forgets: u64::MAX,
            times: AtomicU64::new(0),
            full_from: u64::MAX,
        }
    }
}

impl Output for Disk {
    fn name(&self) -> &'static str {
        "/dev/fake"
    }
    fn limit(&self) -> Option<u64> {
        Some(self.bytes.lock().unwrap().len() as u64)
    }
    fn is_blank(&self) -> bool {
        false
    }
    fn set_size(&self, _size: u64) -> anyhow::Result<()> {
        Ok(())
    }
    fn zeroes_freely(&self) -> bool {
        false
    }
    fn write_at(&self, bytes: &[u8], place: u64) -> io::Result<()> {
        if place >= self.full_from {
            return Err(Errno::EIO.into());
        }
        self.acts.lock().unwrap().push(Act::Write(place));
        let mut held = self.bytes.lock().unwrap();
        held[at(place)..at(place) + bytes.len()].copy_from_slice(bytes);
        let left = self.times.load(Ordering::Relaxed);
        if place == self.forgets && left > 0 {
            self.times.store(left - 1, Ordering::Relaxed);
            held[at(place)] ^= 1;
        }
        Ok(())
    }
    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        self.bytes.lock().unwrap()[at(range.start)..at(range.end)].fill(0);
        Ok(())
    }
    fn read_at(&self, buffer: &mut [u8], place: u64) -> io::Result<()> {
        let held = self.bytes.lock().unwrap();
        buffer.copy_from_slice(&held[at(place)..at(place) + buffer.len()]);
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        self.acts.lock().unwrap().push(Act::Flush);
        Ok(())
    }
    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }
}

fn raw() -> Vec<u8> {
    (0..6 * MIB + 512)
        .map(|place| u8::try_from(place / 777 % 251).unwrap())
        .collect()
}

fn image_of(input: &dyn Input, kept: &Extents) -> (Memory, ImageMeta) {
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
    let meter = Meter::new("backing up", "fake", None, &Silent);
    let options = CaptureOptions::default();
    capture_from(input, kept, &mut meta, &options, &mut out, &meter).unwrap();
    (Memory(out), meta)
}

pub(super) fn good_image() -> (Memory, Vec<u8>) {
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

fn bring(image: &Memory, disk: &Disk, verify: bool) -> anyhow::Result<Restored> {
    let options = RestoreOptions {
        part: super::Part::Whole,
        delta: Delta::Off,
        verify,
        new_ids: false,
        threads: 2,
    };
    restore_ours(image, load(image).unwrap(), disk, &options, &Silent)
}

#[test]
fn bad_sectors_are_zeros_and_named_weak_ones_are_read() {
    let mut bytes = raw();
    let disk = BadDisk {
        bytes: bytes.clone(),
        dead: (2 << 20) + 5000..(2 << 20) + 9000,
        weak: (4 << 20)..(4 << 20) + 8192,
        tries: AtomicU64::new(0),
        most: usize::MAX,
    };
    let size = bytes.len() as u64;
    let (image, meta) = image_of(&disk, &Extents::single(0..size));
    // Whole pieces of 4096 bytes around what is dead.
    let lost = (2 << 20) + 4096..(2 << 20) + 12288;
    assert_eq!(meta.read_errors, [lost.clone().into()]);
    bytes[at(lost.start)..at(lost.end)].fill(0);
    let target = Disk::new(bytes.len());
    bring(&image, &target, true).unwrap();
    assert!(*target.bytes.lock().unwrap() == bytes);
}

#[test]
fn unused_bytes_read_as_zeros_and_used_ones_stay() {
    let bytes = raw();
    let disk = BadDisk {
        bytes: bytes.clone(),
        dead: (3 << 20)..(3 << 20) + 4096,
        weak: 0..0,
        tries: AtomicU64::new(0),
        most: usize::MAX,
    };
    let mut kept = Extents::single(100..1000);
    kept.insert((1 << 20) - 3..(1 << 20) + 3);
    kept.insert((5 << 20) + 123_456..(5 << 20) + 300_000);
    let (image, meta) = image_of(&disk, &kept);
    assert_eq!(meta.read_errors, [], "what is unused is not read");
    let target = Disk::new(bytes.len());
    bring(&image, &target, false).unwrap();
    let mut expected = vec![0; bytes.len()];
    for range in kept.iter() {
        let range = at(range.start)..at(range.end);
        expected[range.clone()].copy_from_slice(&bytes[range]);
    }
    assert!(*target.bytes.lock().unwrap() == expected);
    assert_eq!(
        verify(&image, 2, &Silent).unwrap().bytes(),
        bytes.len() as u64
    );
}

#[test]
fn the_first_chunk_is_written_last_after_all_else_is_flushed() {
    let (image, bytes) = good_image();
    let target = Disk::new(bytes.len());
    bring(&image, &target, false).unwrap();
    assert!(*target.bytes.lock().unwrap() == bytes);
    let acts = target.acts.lock().unwrap();
    let tail = bytes.len() as u64 - (1 << 20);
    assert_eq!(acts[..3], [Act::Write(0), Act::Write(tail), Act::Flush]);
    let ending = [
        Act::Flush,
        Act::Write(6 << 20),
        Act::Write(5 << 20),
        Act::Flush,
        Act::Write(0),
        Act::Flush,
    ];
    assert_eq!(acts[acts.len() - 6..], ending);
}

#[test]
fn a_target_that_fails_in_the_middle_does_not_boot() {
    let (image, bytes) = good_image();
    let mut target = Disk::new(2 * bytes.len());
    target.full_from = 3 << 20;
    let err = bring(&image, &target, false).unwrap_err();
    // The end of the disk is invalidated first, and fails first.
    assert!(
        format!("{err:#}").contains("writing /dev/fake at "),
        "{err:#}"
    );
    assert!(
        target.bytes.lock().unwrap()[..MIB]
            .iter()
            .all(|byte| *byte == 0)
    );
}

#[test]
fn what_reads_back_wrong_is_written_once_more_and_then_given_up() {
    let (image, bytes) = good_image();
    let mut target = Disk::new(bytes.len());
    target.forgets = 2 << 20;
    target.times = AtomicU64::new(1);
    assert!(bring(&image, &target, true).unwrap().verified);
    assert!(*target.bytes.lock().unwrap() == bytes);
    target.times = AtomicU64::new(100);
    let err = bring(&image, &target, true).unwrap_err();
    assert!(
        format!("{err:#}").contains("1 chunks read back wrong twice (2)"),
        "{err:#}"
    );
}
