//! A disk in memory that fails on purpose, for tests of restores.

use super::at;
use crate::disk::Output;
use crate::source::ReadAt;
use nix::errno::Errno;
use std::io;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a disk holds that was not written yet.
pub const OLD: u8 = 9;
pub const NAME: &str = "/dev/fake";

/// What a disk was told, in order.
pub enum Act {
    Write { place: u64, bytes: Vec<u8> },
    Flush,
}

/// A disk with a write cache. The `fails_at`th call to it fails, and so does the rest when it is gone for good.
pub struct Disk {
    pub held: Mutex<Vec<u8>>,
    pub acts: Mutex<Vec<Act>>,
    pub calls: AtomicU64,
    pub fails_at: u64,
    pub for_good: bool,
    pub errno: Errno,
    /// Writes from here on fail.
    pub full_from: u64,
    /// What is written here is not what is kept, so many times.
    pub forgets: u64,
    pub times: AtomicU64,
}

impl Disk {
    pub fn new(held: Vec<u8>) -> Self {
        Self {
            held: Mutex::new(held),
            acts: Mutex::default(),
            calls: AtomicU64::new(0),
            fails_at: u64::MAX,
            for_good: false,
            errno: Errno::EIO,
            full_from: u64::MAX,
            forgets: u64::MAX,
            times: AtomicU64::new(0),
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
    pub fn after_power_cut(&self, acts: usize, arrived: &[bool]) -> Vec<u8> {
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

impl ReadAt for Disk {
    fn size(&self) -> u64 {
        self.limit().unwrap_or(0)
    }

    fn read_exact_at(&self, buffer: &mut [u8], place: u64) -> io::Result<()> {
        self.call()?;
        let held = self.held.lock().unwrap();
        buffer.copy_from_slice(&held[at(place)..at(place) + buffer.len()]);
        Ok(())
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
        if place >= self.full_from {
            return Err(self.errno.into());
        }
        self.put(bytes, place);
        let left = self.times.load(Ordering::Relaxed);
        if place == self.forgets && left > 0 {
            self.times.store(left - 1, Ordering::Relaxed);
            self.held.lock().unwrap()[at(place)] ^= 1;
        }
        Ok(())
    }
    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        self.call()?;
        self.put(&vec![0; at(range.end - range.start)], range.start);
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
