//! Single bytes of the disk in an image, before any of it is restored: all of them where there is an index, the
//! beginning where there is none.

use super::chunk_lookup::{fetch, find, marks};
use super::foreign::{Decoder, read_full};
use super::index::{Index, Item, Mark};
use super::target_writes::TABLES;
use super::{ImageSource, Kind};
use crate::extents::Extents;
use crate::source::ReadAt;
use anyhow::Context;
use std::cell::RefCell;
use std::io;
use std::ops::Range;

/// The disk in an image that has an index.
pub struct ImageBytes<'a> {
    image: &'a dyn ImageSource,
    index: &'a Index,
    marks: Vec<Mark>,
    held: RefCell<Option<(u64, Vec<u8>)>>,
}

impl<'a> ImageBytes<'a> {
    pub fn new(image: &'a dyn ImageSource, index: &'a Index) -> Self {
        Self {
            image,
            index,
            marks: marks(index),
            held: RefCell::default(),
        }
    }

    /// The first byte of `range` that is not zero, but for those in `except`.
    pub fn first_data(&self, range: Range<u64>, except: &Extents) -> anyhow::Result<Option<u64>> {
        let wanted = except.gaps(range);
        for item in self.index.items() {
            let Item::Chunk(chunk) = item else { continue };
            let start = self.index.position(chunk.number);
            let place = start..start + self.index.length(chunk.number) as u64;
            if !wanted.touches(place.clone()) {
                continue;
            }
            let raw = fetch(self.image, self.index, &chunk)?;
            for part in wanted.within(place) {
                let from = usize::try_from(part.start - start)?;
                let to = usize::try_from(part.end - start)?;
                let data = raw.get(from..to).unwrap_or_default();
                if let Some(at) = data.iter().position(|byte| *byte != 0) {
                    return Ok(Some(part.start + at as u64));
                }
            }
        }
        Ok(None)
    }

    /// Copies what chunk `number` has from byte `within` on to the front of `buffer`; how much that is.
    fn copy(&self, number: u64, within: usize, buffer: &mut [u8]) -> anyhow::Result<usize> {
        let mut held = self.held.borrow_mut();
        let raw = match &mut *held {
            Some((of, raw)) if *of == number => raw,
            held => {
                let raw = match find(self.index, &self.marks, number) {
                    Some(chunk) => fetch(self.image, self.index, &chunk)?,
                    None => vec![0; self.index.length(number)],
                };
                &mut held.insert((number, raw)).1
            }
        };
        let rest = raw.get(within..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

impl ReadAt for ImageBytes<'_> {
    fn size(&self) -> u64 {
        self.index.raw_size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let size = u64::from(self.index.chunk_size());
        let mut done = 0;
        while done < buffer.len() {
            let place = at + done as u64;
            let within = usize::try_from(place % size).map_err(io::Error::other)?;
            let copied = self
                .copy(place / size, within, &mut buffer[done..])
                .map_err(|error| io::Error::other(format!("{error:#}")))?;
            if copied == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            done += copied;
        }
        Ok(())
    }
}

/// The beginning of a disk of which no more is known: the rest reads as zeros.
pub struct ImageHead {
    bytes: Vec<u8>,
    size: u64,
}

/// More than any disk has, and whole sectors.
const ENDLESS: u64 = 1 << 62;

impl ImageHead {
    pub fn read(image: &dyn ImageSource, kind: Kind) -> anyhow::Result<Self> {
        let mut bytes = vec![0; usize::try_from(TABLES)?];
        let read = read_full(&mut Decoder::open(image, kind)?, &mut bytes);
        let length = read.with_context(|| format!("reading the beginning of {}", image.name()))?;
        bytes.truncate(length);
        Ok(Self {
            bytes,
            size: ENDLESS,
        })
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Of a disk of so many bytes, where that is known.
    pub fn set_size(&mut self, size: Option<u64>) {
        self.size = size.unwrap_or(ENDLESS);
    }
}

impl ReadAt for ImageHead {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        let held = self.bytes.get(from..).unwrap_or_default();
        let now = held.len().min(buffer.len());
        buffer[..now].copy_from_slice(&held[..now]);
        buffer[now..].fill(0);
        Ok(())
    }
}
