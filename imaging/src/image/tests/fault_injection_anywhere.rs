//! Tests of restores that fail anywhere: every call to the disk or the image may fail, the power may go at any moment.

use super::fakes::at;
use super::fakes::disk::{Disk, NAME, OLD};
use super::fakes::image::{Memory, good_image};
use crate::event::Silent;
use crate::extents::Extents;
use crate::image::foreign::{self, Stream};
use crate::image::loaded_index::load;
use crate::image::restore::restore_indexed;
use crate::image::target_writes::TABLES;
use crate::image::{Delta, ImageSource, Kind, RestoreOptions, Restored};
use crate::source::ReadAt;
use nix::errno::Errno;
use proptest::prelude::*;
use std::io::{self, Read};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// An image whose reads give few bytes at a time, and fail from the `fails_at`th on.
struct Unsteady<'a> {
    image: &'a Memory,
    most: usize,
    reads: AtomicU64,
    fails_at: u64,
}

impl Unsteady<'_> {
    fn read(&self) -> io::Result<()> {
        if self.reads.fetch_add(1, Ordering::Relaxed) >= self.fails_at {
            return Err(Errno::ECONNRESET.into());
        }
        Ok(())
    }
}

impl ReadAt for Unsteady<'_> {
    fn size(&self) -> u64 {
        self.image.size()
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.read()?;
        self.image.read_exact_at(buf, offset)
    }
}

impl ImageSource for Unsteady<'_> {
    fn name(&self) -> &'static str {
        "the image"
    }
    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        self.read()?;
        let rest = self.image.size() - offset;
        let left = self
            .fails_at
            .saturating_sub(self.reads.load(Ordering::Relaxed));
        let given = (left.saturating_mul(self.most as u64)).min(rest);
        let sound = self.image.stream_from(offset)?.take(given);
        let most = self.most;
        Ok(Box::new(Pieces {
            sound,
            most,
            breaks: given < rest,
        }))
    }
}

/// A stream in short pieces, which may break off.
struct Pieces<R> {
    sound: R,
    most: usize,
    breaks: bool,
}

impl<R: Read> Read for Pieces<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = buf.len().min(self.most);
        match self.sound.read(&mut buf[..most])? {
            0 if self.breaks && most > 0 => Err(Errno::ECONNRESET.into()),
            read => Ok(read),
        }
    }
}

static GOOD: LazyLock<(Memory, Vec<u8>)> = LazyLock::new(good_image);

#[derive(Debug, Clone, Copy)]
struct Method {
    delta: Delta,
    verify: bool,
    /// As a stream without an index.
    foreign: bool,
}

fn restore_to(image: &dyn ImageSource, disk: &Disk, method: Method) -> anyhow::Result<Restored> {
    let options = RestoreOptions {
        delta: method.delta,
        verify: method.verify,
        new_ids: false,
        threads: 2,
        ..RestoreOptions::default()
    };
    if method.foreign {
        let stream = Stream {
            kind: Kind::Gzip,
            raw_size: None,
            sector: None,
            left_out: Extents::new(),
        };
        return foreign::restore(image, stream, disk, &options, &Silent);
    }
    restore_indexed(image, &load(image)?, disk, &options, None, &Silent)
}

/// An image of which one bit is another in whatever is read first of it as a stream.
struct Flipped<'a>(&'a Memory, AtomicU64);

impl ReadAt for Flipped<'_> {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buf, offset)
    }
}

impl ImageSource for Flipped<'_> {
    fn name(&self) -> &'static str {
        "the image"
    }
    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut bytes = Vec::new();
        self.0.stream_from(offset)?.read_to_end(&mut bytes)?;
        self.1.fetch_add(1, Ordering::Relaxed);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        Ok(Box::new(io::Cursor::new(bytes)))
    }
}

#[test]
fn a_chunk_that_was_changed_on_its_way_is_read_once_more() {
    let image = Flipped(&GOOD.0, AtomicU64::new(0));
    let disk = Disk::new(start(false));
    let method = Method {
        delta: Delta::Off,
        verify: false,
        foreign: false,
    };
    restore_to(&image, &disk, method).unwrap();
    assert_eq!(image.1.into_inner(), 1, "the stream was not read");
    assert!(*disk.held.lock().unwrap() == GOOD.1);
}

fn methods() -> impl Strategy<Value = Method> {
    let delta = prop_oneof![Just(Delta::Off), Just(Delta::On), Just(Delta::Auto)];
    (delta, any::<bool>(), any::<bool>()).prop_map(|(delta, verify, foreign)| Method {
        delta,
        verify,
        foreign,
    })
}

fn errnos() -> impl Strategy<Value = Errno> {
    prop::sample::select(vec![Errno::EIO, Errno::ENOSPC, Errno::EROFS, Errno::ENODEV])
}

/// A disk that holds the old bytes, or the image with one chunk changed, so that a delta has something to find.
fn start(like: bool) -> Vec<u8> {
    let bytes = &GOOD.1;
    if !like {
        return vec![OLD; bytes.len()];
    }
    let mut start = bytes.clone();
    start[3 << 20] ^= 1;
    start[..512].fill(OLD);
    start
}

/// Whether `disk` could boot something that is not whole.
fn boots_half(disk: &[u8]) -> bool {
    let tables = at(TABLES);
    disk != GOOD.1 && disk[..tables] == GOOD.1[..tables]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_disk_that_fails_anywhere_is_named_and_boots_nothing(
        method in methods(), like in any::<bool>(), fails_at in 0u64..60, for_good in any::<bool>(), errno in errnos()
    ) {
        let disk = Disk { fails_at, for_good, errno, ..Disk::new(start(like)) };
        let result = restore_to(&GOOD.0, &disk, method);
        let failed = disk.calls.load(Ordering::Relaxed) > fails_at;
        let held = disk.held.lock().unwrap();
        match result {
            Ok(_) => prop_assert!(*held == GOOD.1, "done, and it is not the image"),
            Err(error) => {
                let told = format!("{error:#}");
                prop_assert!(failed && told.contains(NAME), "{told}");
                prop_assert!(!boots_half(&held));
            }
        }
    }

    #[test]
    fn an_image_that_breaks_off_is_named_and_boots_nothing(
        method in methods(), most in 1usize..200_000, fails_at in 0u64..80
    ) {
        let image = Unsteady { image: &GOOD.0, most, reads: AtomicU64::new(0), fails_at };
        let disk = Disk::new(start(false));
        let result = restore_to(&image, &disk, method);
        let held = disk.held.lock().unwrap();
        match result {
            Ok(_) => prop_assert!(*held == GOOD.1, "done, and it is not the image"),
            Err(error) => {
                let told = format!("{error:#}");
                prop_assert!(told.contains("the image"), "{told}");
                prop_assert!(!boots_half(&held));
            }
        }
    }

    #[test]
    fn short_reads_change_nothing(method in methods(), most in 1usize..100_000) {
        let image = Unsteady { image: &GOOD.0, most, reads: AtomicU64::new(0), fails_at: u64::MAX };
        let disk = Disk::new(start(true));
        restore_to(&image, &disk, method).unwrap();
        prop_assert!(*disk.held.lock().unwrap() == GOOD.1);
    }

    #[test]
    fn a_power_cut_leaves_no_half_image_and_the_next_try_completes_it(
        method in methods(), moment in any::<prop::sample::Index>(), arrived in prop::collection::vec(any::<bool>(), 1..40)
    ) {
        let disk = Disk::new(start(false));
        restore_to(&GOOD.0, &disk, method).unwrap();
        let acts = moment.index(disk.acts.lock().unwrap().len() + 1);
        let platter = disk.after_power_cut(acts, &arrived);
        prop_assert!(!boots_half(&platter));
        // What the old tables told of is there as long as they are.
        let (tables, end) = (at(TABLES), platter.len() - at(TABLES));
        let old = |bytes: &[u8]| bytes.iter().all(|byte| *byte == OLD);
        prop_assert!(!old(&platter[..tables]) || old(&platter[tables..end]));
        let again = Disk::new(platter);
        restore_to(&GOOD.0, &again, method).unwrap();
        prop_assert!(*again.held.lock().unwrap() == GOOD.1);
    }
}
