//! The two ends of a volume, read once: nearly all signatures are there.

use crate::source::{self, ReadAt};
use std::cell::RefCell;
use std::io;

/// What is read at the beginning: VMFS has its signature at 1 MiB, the furthest in but for few.
const HEAD: u64 = (1 << 20) + (64 << 10);
/// What is read at the end: of Promise's places for its metadata the furthest from it.
const TAIL: u64 = 3088 * 512;

/// A volume with its ends in memory. What cannot be read is remembered: a claim may be there.
pub struct Edges<'a> {
    volume: &'a dyn ReadAt,
    head: Vec<u8>,
    tail: Vec<u8>,
    tail_at: u64,
    failed: RefCell<Option<io::Error>>,
}

impl<'a> Edges<'a> {
    pub fn new(volume: &'a dyn ReadAt) -> Self {
        let size = volume.size();
        let head_end = size.min(HEAD);
        let tail_at = size.saturating_sub(TAIL).max(head_end);
        // Where an end cannot be read as one, each place in it is tried by itself.
        let read = |from: u64, to: u64| {
            let length = usize::try_from(to - from).ok()?;
            volume.bytes_at(from, length).ok()
        };
        let head = read(0, head_end).unwrap_or_default();
        let tail = read(tail_at, size).unwrap_or_default();
        Self {
            volume,
            head,
            tail,
            tail_at,
            failed: RefCell::default(),
        }
    }

    /// `N` bytes at `at`; `None` where the volume ends before, or cannot be read.
    pub fn get<const N: usize>(&mut self, at: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    }

    /// `length` bytes at `at`, as [`Edges::get`].
    pub fn take(&mut self, at: u64, length: usize) -> Option<Vec<u8>> {
        self.bytes_at(at, length).ok()
    }

    pub fn has(&mut self, at: u64, magic: &[u8]) -> bool {
        if let Some(held) = held(&self.head, 0, at, magic.len()) {
            return held == magic;
        }
        self.take(at, magic.len())
            .is_some_and(|found| found == magic)
    }

    pub fn into_failure(self) -> Option<io::Error> {
        self.failed.into_inner()
    }
}

impl ReadAt for Edges<'_> {
    fn size(&self) -> u64 {
        self.volume.size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        source::check_bounds(at, buffer.len(), self.size())?;
        let length = buffer.len();
        let held =
            held(&self.head, 0, at, length).or_else(|| held(&self.tail, self.tail_at, at, length));
        if let Some(held) = held {
            buffer.copy_from_slice(held);
            return Ok(());
        }
        let read = self.volume.read_exact_at(buffer, at);
        if let Err(error) = &read {
            let mut first = self.failed.borrow_mut();
            first.get_or_insert_with(|| io::Error::new(error.kind(), error.to_string()));
        }
        read
    }
}

/// The part of `bytes`, which begin at `start`, that lies at `at`.
fn held(bytes: &[u8], start: u64, at: u64, length: usize) -> Option<&[u8]> {
    let from = usize::try_from(at.checked_sub(start)?).ok()?;
    bytes.get(from..from.checked_add(length)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Disk;
    use proptest::prelude::*;
    use std::io::Cursor;

    /// A volume with a place that cannot be read.
    struct Bad {
        bytes: Vec<u8>,
        bad: u64,
    }

    impl ReadAt for Bad {
        fn size(&self) -> u64 {
            self.bytes.len() as u64
        }

        fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
            source::check_bounds(at, buffer.len(), self.size())?;
            if (at..at + buffer.len() as u64).contains(&self.bad) {
                return Err(io::Error::other("a bad sector"));
            }
            let from = usize::try_from(at).unwrap();
            buffer.copy_from_slice(&self.bytes[from..from + buffer.len()]);
            Ok(())
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_and_the_rest_is_still_found() {
        let bad = Bad {
            bytes: vec![7; 4 << 20],
            bad: 5000,
        };
        let mut edges = Edges::new(&bad);
        assert!(edges.has(4096, &[7; 8]));
        assert!(!edges.has(4996, &[7; 8]));
        let failure = edges.into_failure().unwrap();
        assert_eq!(failure.to_string(), "a bad sector");
    }

    #[test]
    fn the_end_of_a_volume_is_no_failure() {
        let mut bytes = Cursor::new(vec![7; 600]);
        let disk = Disk::new(&mut bytes, 600);
        let mut edges = Edges::new(&disk);
        assert_eq!(edges.get::<8>(590), Some([7; 8]));
        assert_eq!(edges.get::<8>(595), None);
        assert!(edges.into_failure().is_none());
    }

    proptest! {
        #[test]
        fn any_place_reads_as_the_volume_has_it(
            size in 0u64..4 << 20,
            at in 0u64..4 << 20,
            length in 0usize..600,
        ) {
            let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let expected = usize::try_from(at).ok().and_then(|at| bytes.get(at..at + length));
            let expected = expected.map(<[u8]>::to_vec);
            let mut cursor = Cursor::new(bytes.clone());
            let disk = Disk::new(&mut cursor, size);
            let mut edges = Edges::new(&disk);
            prop_assert_eq!(edges.take(at, length), expected);
        }
    }
}
