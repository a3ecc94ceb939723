//! A restore of part of a disk, seen by the engine as a restore of a whole one.
//!
//! [`RemappedOutput`] is an [`Output`] with the addresses of the image. A list of segments says which ranges of the image go
//! to the disk, and where. Writes to a segment go to the disk; writes anywhere else are kept in memory, in pages of
//! [`PAGE`] bytes, unless they are zeros. Reads answer from the same two places, so what the engine wrote reads back,
//! and the table it writes last is never on the disk: the caller writes another.
//!
//! The memory stays small because the callers leave the chunks that lie wholly outside the segments out of the index.

use crate::disk::Output;
use crate::extents::Extents;
use crate::image::workers::lock;
use crate::source::ReadAt;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Mutex;

/// Bytes outside the segments are kept in pages of this size.
const PAGE: usize = 4096;
const PAGE_SIZE: u64 = PAGE as u64;

/// A stretch of the image, and where its bytes go on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Of the image.
    pub image: Range<u64>,
    /// On the disk.
    pub to: u64,
}

/// An [`Output`] with the places of the image. What a segment holds is read and written where it belongs; all else
/// is remembered if it is not zeros, reads as it was written, and stays off the disk.
pub struct RemappedOutput<'a> {
    inner: &'a dyn Output,
    /// Sorted, apart.
    segments: Vec<Segment>,
    limit: Option<u64>,
    aside: Mutex<BTreeMap<u64, Box<[u8]>>>,
}

impl<'a> RemappedOutput<'a> {
    /// `segments` of an image that has `limit` bytes, if that is known.
    pub fn new(inner: &'a dyn Output, mut segments: Vec<Segment>, limit: Option<u64>) -> Self {
        segments.sort_by_key(|segment| segment.image.start);
        Self {
            inner,
            segments,
            limit,
            aside: Mutex::default(),
        }
    }

    /// All of the image but `without`, in its own place.
    pub fn in_place(inner: &'a dyn Output, size: u64, without: &Extents) -> Self {
        let segments = without
            .gaps(0..size)
            .iter()
            .map(|image| Segment {
                to: image.start,
                image,
            })
            .collect();
        Self::new(inner, segments, None)
    }

    /// Lets the image have as many bytes as it needs.
    pub fn with_limit(mut self, limit: Option<u64>) -> Self {
        self.limit = limit;
        self
    }

    /// Splits a stretch of the image where its bytes part: each part with its place on the disk, or `None`.
    fn parts(&self, range: Range<u64>) -> Vec<(Range<u64>, Option<u64>)> {
        let from = self
            .segments
            .partition_point(|segment| segment.image.end <= range.start);
        let mut parts = Vec::new();
        let mut at = range.start;
        let rest = self.segments.get(from..).unwrap_or_default();
        for segment in rest {
            let start = segment.image.start.max(at);
            let end = segment.image.end.min(range.end);
            if start >= end {
                break;
            }
            if at < start {
                parts.push((at..start, None));
            }
            parts.push((start..end, Some(segment.to + (start - segment.image.start))));
            at = end;
        }
        if at < range.end {
            parts.push((at..range.end, None));
        }
        parts
    }

    fn remember(&self, bytes: &[u8], at: u64) {
        let mut aside = lock(&self.aside);
        for (page, within, of) in pages(bytes.len(), at) {
            let bytes = &bytes[of];
            if bytes.iter().all(|byte| *byte == 0) && !aside.contains_key(&page) {
                continue;
            }
            let held = aside
                .entry(page)
                .or_insert_with(|| vec![0; PAGE].into_boxed_slice());
            held[within..within + bytes.len()].copy_from_slice(bytes);
        }
    }

    fn forget(&self, part: &Range<u64>) -> io::Result<()> {
        let pages = part.start / PAGE_SIZE..part.end.div_ceil(PAGE_SIZE);
        for (page, held) in lock(&self.aside).range_mut(pages) {
            let first = page * PAGE_SIZE;
            let start = part.start.max(first);
            let end = part.end.min(first + PAGE_SIZE);
            held[of(&(start..end), first)?].fill(0);
        }
        Ok(())
    }

    fn recall(&self, buffer: &mut [u8], at: u64) {
        let aside = lock(&self.aside);
        for (page, within, of) in pages(buffer.len(), at) {
            let part = &mut buffer[of];
            match aside.get(&page) {
                Some(held) => part.copy_from_slice(&held[within..within + part.len()]),
                None => part.fill(0),
            }
        }
    }
}

/// The pages of `length` bytes from `at` on: number, first byte within, which of the bytes.
fn pages(length: usize, at: u64) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let place = at + done as u64;
        let within = usize::try_from(place % PAGE_SIZE).unwrap_or(0);
        let now = (length - done).min(PAGE - within);
        let of = done..done + now;
        done += now;
        (now > 0).then_some((place / PAGE_SIZE, within, of))
    })
}

/// The part of a buffer that begins at `at` of the image.
fn of(part: &Range<u64>, at: u64) -> io::Result<Range<usize>> {
    let within = |place: u64| usize::try_from(place - at).map_err(io::Error::other);
    Ok(within(part.start)?..within(part.end)?)
}

impl ReadAt for RemappedOutput<'_> {
    fn size(&self) -> u64 {
        self.limit().unwrap_or(0)
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        for (part, to) in self.parts(at..at + buffer.len() as u64) {
            let buffer = &mut buffer[of(&part, at)?];
            match to {
                Some(to) => self.inner.read_exact_at(buffer, to)?,
                None => self.recall(buffer, part.start),
            }
        }
        Ok(())
    }
}

impl Output for RemappedOutput<'_> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn limit(&self) -> Option<u64> {
        self.limit
    }

    fn is_blank(&self) -> bool {
        false
    }

    fn set_size(&self, _size: u64) -> anyhow::Result<()> {
        Ok(())
    }

    fn zeroes_freely(&self) -> bool {
        self.inner.zeroes_freely()
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        for (part, to) in self.parts(at..at + bytes.len() as u64) {
            let bytes = &bytes[of(&part, at)?];
            match to {
                Some(to) => self.inner.write_at(bytes, to)?,
                None => self.remember(bytes, part.start),
            }
        }
        Ok(())
    }

    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        for (part, to) in self.parts(range) {
            if let Some(to) = to {
                self.inner.zero(to..to + (part.end - part.start))?;
            } else {
                self.forget(&part)?;
            }
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.inner.flush()
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.inner.drop_cache()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Target;
    use proptest::prelude::*;

    /// A disk of nines, 64 KiB of it, which stands for an image of 128 KiB from byte 10000 of that on.
    fn remapped(disk: &Target) -> RemappedOutput<'_> {
        let segments = vec![
            Segment {
                image: 40_000..50_000,
                to: 30_000,
            },
            Segment {
                image: 10_000..20_000,
                to: 512,
            },
        ];
        RemappedOutput::new(disk, segments, None)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn all_reads_as_written_and_only_the_segments_reach_the_disk(
            acts in prop::collection::vec((0u64..60_000, 1usize..20_000, 0u8..4), 1..12)
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("disk");
            std::fs::write(&path, vec![9; 1 << 16]).unwrap();
            let disk = Target::open(&path).unwrap();
            let remapped = remapped(&disk);
            let mut image = vec![0; 80_000];
            image[10_000..20_000].fill(9);
            image[40_000..50_000].fill(9);
            for (at, length, value) in acts {
                let place = usize::try_from(at).unwrap();
                let bytes = vec![value; length];
                match value {
                    0 => remapped.zero(at..at + length as u64).unwrap(),
                    _ => remapped.write_at(&bytes, at).unwrap(),
                }
                image[place..place + length].copy_from_slice(&bytes);
            }
            let mut read = vec![7; image.len()];
            remapped.read_exact_at(&mut read, 0).unwrap();
            prop_assert!(read == image);
            let mut expected = vec![9; 1 << 16];
            expected[512..10_512].copy_from_slice(&image[10_000..20_000]);
            expected[30_000..40_000].copy_from_slice(&image[40_000..50_000]);
            prop_assert!(std::fs::read(&path).unwrap() == expected);
        }
    }
}
