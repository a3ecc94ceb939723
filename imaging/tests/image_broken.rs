//! Images that are damaged, servers that go away, shares that fill up.

mod image_common;

use image_common::{Bench, MIB, disk_of, identity, plain, source};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{CaptureOptions, FileSource, ImageSource, capture, restore, verify};
use pitstop_imaging::source::ReadAt;
use proptest::prelude::*;
use std::fs;
use std::io::{self, Read, Write};

/// An image with one thing wrong, and a target that must not boot afterwards.
fn refused(bench: &Bench, image: &[u8], touched: bool) -> String {
    let path = bench.write("bad.raw.gz", image);
    let target = bench.write("target", &vec![9; 12 * MIB]);
    let err = restore(&source(&path), &target, &plain(), &Silent).unwrap_err();
    let found = fs::read(&target).unwrap();
    let head = if touched { 0 } else { 9 };
    assert!(
        found[..MIB].iter().all(|b| *b == head),
        "the first MiB of the target"
    );
    format!("{err:#}")
}

#[test]
fn damage_is_named_and_leaves_no_boot_sector() {
    let bench = Bench::new();
    let disk = bench.write("disk", &disk_of(11, 0));
    let (image, _) = bench.capture(&disk, &CaptureOptions::default());
    let good = fs::read(&image).unwrap();
    let cut = refused(&bench, &good[..good.len() - 1], false);
    assert!(cut.contains("is not whole"), "{cut}");
    let cut = refused(&bench, &good[..good.len() / 2], false);
    assert!(cut.contains("it is cut short"), "{cut}");
    let longer = refused(&bench, &[&good[..], b"garbage"].concat(), false);
    assert!(longer.contains("something follows it"), "{longer}");
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 0x10;
    let wrong = refused(&bench, &flipped, true);
    assert!(
        wrong.contains("chunk ") && wrong.contains("its CRC-32 is wrong"),
        "{wrong}"
    );
}

#[test]
fn every_bit_of_the_first_header_counts() {
    let bench = Bench::new();
    let disk = bench.write("disk", &disk_of(2, 0));
    let (image, _) = bench.capture(&disk, &CaptureOptions::default());
    let mut bytes = fs::read(&image).unwrap();
    for bit in 0..20 * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        // The name says nothing of gzip: any bytes could be a raw image.
        let damaged = bench.write("damaged.img", &bytes);
        let err = verify(&source(&damaged), 1, &Silent).unwrap_err();
        assert!(format!("{err:#}").contains("chunk 0"), "bit {bit}: {err:#}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// An image whose network stops in the middle, or gives a few bytes at a time.
struct Broken {
    inner: FileSource,
    stops_at: u64,
    drip: usize,
}

impl ReadAt for Broken {
    fn size(&self) -> u64 {
        self.inner.size()
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(buf, offset)
    }
}

impl ImageSource for Broken {
    fn name(&self) -> &'static str {
        "http://server/image"
    }
    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(BrokenStream {
            inner: self.inner.stream_from(offset)?,
            left: self.stops_at.saturating_sub(offset),
            drip: self.drip,
        }))
    }
}

struct BrokenStream {
    inner: Box<dyn Read + Send>,
    left: u64,
    drip: usize,
}

impl Read for BrokenStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the server is gone",
            ));
        }
        let now = buf
            .len()
            .min(self.drip)
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.inner.read(&mut buf[..now])?;
        self.left -= read as u64;
        Ok(read)
    }
}

#[test]
fn a_server_that_goes_away_is_named_and_a_slow_one_is_no_matter() {
    let bench = Bench::new();
    let raw = disk_of(11, 0);
    let disk = bench.write("disk", &raw);
    let (image, _) = bench.capture(&disk, &CaptureOptions::default());
    let mut broken = Broken {
        inner: source(&image),
        stops_at: source(&image).size() / 2,
        drip: 1 << 20,
    };
    let target = bench.write("target", &vec![9; 11 * MIB]);
    let err = restore(&broken, &target, &plain(), &Silent).unwrap_err();
    let text = format!("{err:#}");
    assert!(
        text.contains("the server is gone") && text.contains("http://server/image"),
        "{text}"
    );
    assert!(fs::read(&target).unwrap()[..MIB].iter().all(|b| *b == 0));
    broken.stops_at = u64::MAX;
    broken.drip = 1021;
    restore(&broken, &target, &plain(), &Silent).unwrap();
    assert!(fs::read(&target).unwrap() == raw);
}

/// A share that fills up.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let now = buf.len().min(self.0).min(1000);
        self.0 -= now;
        Ok(now)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_share_fails_the_capture() {
    let bench = Bench::new();
    let disk = bench.write("disk", &disk_of(11, 0));
    let mut out = Full(2 * MIB);
    let options = CaptureOptions::default();
    let err = capture(&disk, &identity(&disk), &options, &mut out, &Silent).unwrap_err();
    let text = format!("{err:#}");
    assert!(text.contains("writing the image"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn a_mutated_image_is_never_taken_for_another(
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        cut in any::<prop::sample::Index>(),
        mode in 0u8..3,
    ) {
        let bench = Bench::new();
        let raw = disk_of(4, 512);
        let disk = bench.write("disk", &raw);
        let (image, _) = bench.capture(&disk, &CaptureOptions::default());
        let mut bytes = fs::read(&image).unwrap();
        let at = at.index(bytes.len());
        match mode {
            0 => bytes[at] = with,
            1 => bytes.truncate(at),
            _ => {
                let to = cut.index(bytes.len());
                bytes.drain(at.min(to)..at.max(to));
            }
        }
        let path = bench.write("mutated", &bytes);
        let back = bench.path("back");
        let source = FileSource::open(&path).unwrap();
        if restore(&source, &back, &plain(), &Silent).is_ok() {
            prop_assert!(fs::read(&back).unwrap() == raw);
        }
    }
}
