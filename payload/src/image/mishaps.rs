//! A restore that is hit anywhere: every call to the disk or the image may fail, the power may go at any moment.

use super::faults::{Memory, at, good_image};
use super::foreign::Stream;
use super::restore::{TABLES, restore_ours};
use super::verify::Kind;
use super::{Delta, ImageSource, RestoreOptions, Restored, feed, foreign};
use crate::disk::Output;
use crate::event::Silent;
use nix::errno::Errno;
use proptest::prelude::*;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};

const OLD: u8 = 9;
const NAME: &str = "/dev/fake";

/// What a disk was told, in order.
enum Act {
    Write { place: u64, bytes: Vec<u8> },
    Flush,
}

/// A disk with a write cache. The `fails_at`th call to it fails, and so does the rest when it is gone for good.
struct Disk {
    held: Mutex<Vec<u8>>,
    acts: Mutex<Vec<Act>>,
    calls: AtomicU64,
    fails_at: u64,
    for_good: bool,
    errno: Errno,
}

impl Disk {
    fn new(held: Vec<u8>) -> Self {
        Self {
            held: Mutex::new(held),
            acts: Mutex::default(),
            calls: AtomicU64::new(0),
            fails_at: u64::MAX,
            for_good: false,
            errno: Errno::EIO,
        }
    }

    fn call(&self) -> io::Result<()> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if call == self.fails_at || (self.for_good && call > self.fails_at) {
            return Err(self.errno.into());
        }
        Ok(())
    }

    fn put(&self, bytes: &[u8], place: u64) {
        self.held.lock().unwrap()[at(place)..at(place) + bytes.len()].copy_from_slice(bytes);
        let bytes = bytes.to_vec();
        self.acts.lock().unwrap().push(Act::Write { place, bytes });
    }

    /// What is on the platter when the power goes after `acts`, and of those since the last flush only some arrived,
    /// the last of them by half.
    fn after_power_cut(&self, acts: usize, arrived: &[bool]) -> Vec<u8> {
        let told = self.acts.lock().unwrap();
        let told = &told[..acts];
        let last_flush = told.iter().rposition(|act| matches!(act, Act::Flush));
        let mut platter = vec![OLD; self.held.lock().unwrap().len()];
        for (number, act) in told.iter().enumerate() {
            let Act::Write { place, bytes } = act else {
                continue;
            };
            let safe = last_flush.is_some_and(|flush| number < flush);
            let length = match arrived[number % arrived.len()] {
                _ if safe => bytes.len(),
                true => bytes.len() / if number + 1 == told.len() { 2 } else { 1 },
                false => 0,
            };
            platter[at(*place)..at(*place) + length].copy_from_slice(&bytes[..length]);
        }
        platter
    }
}

impl Output for Disk {
    fn name(&self) -> &'static str {
        NAME
    }
    fn limit(&self) -> Option<u64> {
        Some(self.held.lock().unwrap().len() as u64)
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
        self.call()?;
        self.put(bytes, place);
        Ok(())
    }
    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        self.call()?;
        self.put(&vec![0; at(range.end - range.start)], range.start);
        Ok(())
    }
    fn read_at(&self, buffer: &mut [u8], place: u64) -> io::Result<()> {
        self.call()?;
        let held = self.held.lock().unwrap();
        buffer.copy_from_slice(&held[at(place)..at(place) + buffer.len()]);
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        self.call()?;
        self.acts.lock().unwrap().push(Act::Flush);
        Ok(())
    }
    fn drop_cache(&self) -> io::Result<()> {
        self.call()
    }
}

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

impl ImageSource for Unsteady<'_> {
    fn name(&self) -> &'static str {
        "the image"
    }
    fn size(&self) -> u64 {
        self.image.size()
    }
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.read()?;
        self.image.read_exact_at(buf, offset)
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
struct Way {
    delta: Delta,
    verify: bool,
    /// As a stream without an index.
    foreign: bool,
}

fn bring(image: &dyn ImageSource, disk: &Disk, way: Way) -> anyhow::Result<Restored> {
    let options = RestoreOptions {
        delta: way.delta,
        verify: way.verify,
        new_ids: false,
        threads: 2,
        ..RestoreOptions::default()
    };
    if way.foreign {
        return foreign::restore(
            image,
            Stream::whole(Kind::Gzip, None),
            disk,
            &options,
            &Silent,
        );
    }
    restore_ours(image, feed::load(image)?, disk, &options, &Silent)
}

fn ways() -> impl Strategy<Value = Way> {
    let delta = prop_oneof![Just(Delta::Off), Just(Delta::On), Just(Delta::Auto)];
    (delta, any::<bool>(), any::<bool>()).prop_map(|(delta, verify, foreign)| Way {
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
        way in ways(), like in any::<bool>(), fails_at in 0u64..60, for_good in any::<bool>(), errno in errnos()
    ) {
        let disk = Disk { fails_at, for_good, errno, ..Disk::new(start(like)) };
        let result = bring(&GOOD.0, &disk, way);
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
        way in ways(), most in 1usize..200_000, fails_at in 0u64..80
    ) {
        let image = Unsteady { image: &GOOD.0, most, reads: AtomicU64::new(0), fails_at };
        let disk = Disk::new(start(false));
        let result = bring(&image, &disk, way);
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
    fn short_reads_change_nothing(way in ways(), most in 1usize..100_000) {
        let image = Unsteady { image: &GOOD.0, most, reads: AtomicU64::new(0), fails_at: u64::MAX };
        let disk = Disk::new(start(true));
        bring(&image, &disk, way).unwrap();
        prop_assert!(*disk.held.lock().unwrap() == GOOD.1);
    }

    #[test]
    fn a_power_cut_leaves_no_half_image_and_the_next_try_completes_it(
        way in ways(), moment in any::<prop::sample::Index>(), arrived in prop::collection::vec(any::<bool>(), 1..40)
    ) {
        let disk = Disk::new(start(false));
        bring(&GOOD.0, &disk, way).unwrap();
        let acts = moment.index(disk.acts.lock().unwrap().len() + 1);
        let platter = disk.after_power_cut(acts, &arrived);
        prop_assert!(!boots_half(&platter));
        // What the old tables told of is there as long as they are.
        let (tables, end) = (at(TABLES), platter.len() - at(TABLES));
        let old = |bytes: &[u8]| bytes.iter().all(|byte| *byte == OLD);
        prop_assert!(!old(&platter[..tables]) || old(&platter[tables..end]));
        let again = Disk::new(platter);
        bring(&GOOD.0, &again, way).unwrap();
        prop_assert!(*again.held.lock().unwrap() == GOOD.1);
    }
}
