//! A restore that moves only what differs: the target's chunks are hashed and compared with the index, and only those
//! that differ are fetched.
//!
//! Each worker takes a window of [`WINDOW`] neighbouring chunks, hashes the target's, and makes a list of those that
//! differ. Chunks of that list whose members lie near each other in the image are fetched by one request: a gap of up
//! to [`READ_ACROSS`] is read and dropped, because another request would take longer. One request fetches up to
//! [`REQUEST`] bytes. While one worker waits for the network, others hash.
//!
//! A long run of zeros is cut, so that one worker does not get it all. Where the device cannot zero by itself, the
//! target's chunks are read first, and only those that are not zeros are written.

use super::Ahead;
use super::codec::{Inflater, is_zero};
use super::index::{Chunk, Index, Item, Items};
use super::restoring::Restoring;
use super::target_writes::TABLES;
use super::workers::{WorkerPool, lock};
use crate::disk::{Buffer, Output};
use anyhow::Context;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

/// Chunks that a worker compares before it fetches those that differ.
const WINDOW: usize = 16;
/// The most that one request fetches, unless a single member is larger.
const REQUEST: usize = 2 << 20;
/// A gap between two members that is read rather than skipped by another request, bytes.
const READ_ACROSS: u64 = 64 << 10;
/// Chunks looked at to decide whether to compare at all.
const SAMPLES: usize = 32;

/// Chunks that a restore writes first: they tell whether one broke off.
const FIRST: usize = 8;

/// Whether enough of the image is on the target for comparing to be worth its reads: a quarter of a sample, or what
/// a restore leaves that broke off. What was written `ahead` is known, and tells nothing of the rest.
pub fn worth_comparing(index: &Index, output: &dyn Output, ahead: Option<&Ahead>) -> bool {
    let chunks: Vec<Chunk> = index
        .items()
        .filter_map(data)
        .filter(|chunk| ahead.is_none_or(|ahead| !ahead.has(chunk, index.chunk_size())))
        .collect();
    broke_off(index, &chunks, output) || sample_is_there(index, &chunks, output)
}

/// Whether a restore of this image broke off here: the tables, which are written last, are zeros, and what is written
/// first is there.
fn broke_off(index: &Index, chunks: &[Chunk], output: &dyn Output) -> bool {
    let Ok(tables) = usize::try_from(TABLES.min(index.raw_size())) else {
        return false;
    };
    let mut raw = Buffer::new(index.chunk_bytes().max(tables));
    if output.read_exact_at(&mut raw[..tables], 0).is_err() || !is_zero(&raw[..tables]) {
        return false;
    }
    let mut first = chunks
        .iter()
        .filter(|chunk| index.position(chunk.number) >= TABLES)
        .take(FIRST)
        .peekable();
    first.peek().is_some() && first.all(|chunk| is_there(index, output, chunk, &mut raw))
}

fn sample_is_there(index: &Index, chunks: &[Chunk], output: &dyn Output) -> bool {
    if chunks.is_empty() {
        return false;
    }
    let step = chunks.len().div_ceil(SAMPLES);
    let mut raw = Buffer::new(index.chunk_bytes());
    let (mut seen, mut same) = (0, 0);
    // From the middle of each step: the first chunks of a disk change on every boot.
    for chunk in chunks.iter().skip(step / 2).step_by(step) {
        seen += 1;
        same += usize::from(is_there(index, output, chunk, &mut raw));
    }
    same * 4 >= seen && same > 0
}

fn data(item: Item) -> Option<Chunk> {
    match item {
        Item::Chunk(chunk) => Some(chunk),
        Item::Zeros { .. } => None,
    }
}

/// Whether the target has this chunk. What cannot be read is not there.
fn is_there(index: &Index, output: &dyn Output, chunk: &Chunk, raw: &mut [u8]) -> bool {
    let raw = &mut raw[..index.length(chunk.number)];
    let read = output.read_exact_at(raw, index.position(chunk.number));
    read.is_ok() && *blake3::hash(raw).as_bytes() == chunk.hash
}

/// Brings every chunk of the target to what the image has. Without `compare` only what is known to be there is left.
pub fn run(restoring: &Restoring, compare: bool, threads: usize) -> anyhow::Result<()> {
    let (chunk, bound) = (
        restoring.index.chunk_bytes(),
        restoring.index.largest_member(),
    );
    let items = Mutex::new(Windows::new(restoring.index));
    let pool = WorkerPool::new(threads, chunk + bound.max(REQUEST));
    pool.run(|| {
        let mut worker = Worker {
            restoring,
            compare,
            pool: &pool,
            raw: Buffer::new(chunk),
            fetched: vec![0; bound.max(REQUEST)],
            inflater: Inflater::new()?,
        };
        let mut window = Vec::with_capacity(WINDOW);
        while !pool.stopped() {
            window.clear();
            lock(&items).next(&mut window);
            if window.is_empty() {
                break;
            }
            worker.update(&window)?;
        }
        Ok(())
    })
}

/// Hands out items, a window at a time. A long run of zeros is cut: a window ends with a part of it, and the rest waits
/// in `rest` for the next one.
struct Windows<'a> {
    items: Items<'a>,
    most_zeros: u64,
    rest: Option<Item>,
}

impl<'a> Windows<'a> {
    fn new(index: &'a Index) -> Self {
        Self {
            items: index.items(),
            most_zeros: WINDOW as u64 * 4,
            rest: None,
        }
    }

    fn next(&mut self, window: &mut Vec<Item>) {
        while window.len() < WINDOW {
            let Some(item) = self.rest.take().or_else(|| self.items.next()) else {
                break;
            };
            match item {
                Item::Zeros {
                    first,
                    count,
                    offset,
                } if count > self.most_zeros => {
                    let most = self.most_zeros;
                    // The place of a zero member is of no use here: none is fetched.
                    self.rest = Some(Item::Zeros {
                        first: first + most,
                        count: count - most,
                        offset,
                    });
                    window.push(Item::Zeros {
                        first,
                        count: most,
                        offset,
                    });
                    break;
                }
                item => window.push(item),
            }
        }
    }
}

struct Worker<'a> {
    restoring: &'a Restoring<'a>,
    compare: bool,
    pool: &'a WorkerPool,
    raw: Buffer,
    fetched: Vec<u8>,
    inflater: Inflater,
}

impl Worker<'_> {
    fn update(&mut self, window: &[Item]) -> anyhow::Result<()> {
        let mut differing = Vec::new();
        for item in window {
            match item {
                Item::Zeros { first, count, .. } => self.zeros(*first, *count)?,
                Item::Chunk(chunk) if self.has(chunk) => {}
                Item::Chunk(chunk) => differing.push(*chunk),
            }
        }
        let mut rest = &differing[..];
        while let Some(first) = rest.first() {
            let end = |chunk: &Chunk| chunk.offset + u64::from(chunk.size);
            let mut count = 1;
            while let Some(next) = rest.get(count) {
                let near = next.offset <= end(&rest[count - 1]) + READ_ACROSS;
                let fits = end(next) - first.offset <= REQUEST as u64;
                if !(near && fits) {
                    break;
                }
                count += 1;
            }
            let (group, after) = rest.split_at(count);
            self.fetch(group)?;
            rest = after;
        }
        Ok(())
    }

    /// Whether the target has the chunk. Those that are written last are always fetched.
    fn has(&mut self, chunk: &Chunk) -> bool {
        let Restoring {
            index,
            output,
            meter,
            unchanged,
            ..
        } = self.restoring;
        if self.restoring.was_written_ahead(chunk) {
            return true;
        }
        if !self.compare || self.restoring.is_held(chunk.number) {
            return false;
        }
        let length = index.length(chunk.number);
        let raw = &mut self.raw[..length];
        if output
            .read_exact_at(raw, index.position(chunk.number))
            .is_err()
        {
            return false;
        }
        let permit = self.pool.cpu_permit();
        let same = self.restoring.pass.is_there(chunk, raw);
        drop(permit);
        if same {
            unchanged.fetch_add(length as u64, Ordering::Relaxed);
            meter.done(length as u64);
        }
        same
    }

    fn zeros(&mut self, first: u64, count: u64) -> anyhow::Result<()> {
        let restoring = self.restoring;
        if !self.compare || restoring.output.zeroes_freely() {
            return restoring.zero(first, count);
        }
        for number in first..first + count {
            let at = restoring.index.position(number);
            let read = restoring.output.read_exact_at(&mut self.raw, at);
            if read.is_ok() && is_zero(&self.raw) {
                let length = self.raw.len() as u64;
                restoring.unchanged.fetch_add(length, Ordering::Relaxed);
                restoring.pass.zeros(1);
                restoring.meter.done(length);
            } else {
                restoring.zero(number, 1)?;
            }
        }
        Ok(())
    }

    /// One request for members that are near each other.
    fn fetch(&mut self, group: &[Chunk]) -> anyhow::Result<()> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            return Ok(());
        };
        let start = first.offset;
        let length = usize::try_from(last.offset + u64::from(last.size) - start)?;
        let image = self.restoring.image;
        let bytes = &mut self.fetched[..length];
        image
            .read_exact_at(bytes, start)
            .with_context(|| format!("reading {} at {start}", image.name()))?;
        self.restoring.meter.moved(length as u64);
        for chunk in group {
            let from = usize::try_from(chunk.offset - start)?;
            let member = &self.fetched[from..from + usize::try_from(chunk.size)?];
            self.restoring
                .put(self.pool, &mut self.inflater, chunk, member, &mut self.raw)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::disk::{DiskInput, Input};
    use crate::event::Silent;
    use crate::image::{CaptureOptions, FileSource, RestoreOptions, capture, restore};
    use crate::inventory::DiskIdentity;
    use std::fs::{self, File};

    const MIB: usize = 1 << 20;

    #[test]
    fn a_restore_that_broke_off_early_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut raw = vec![0; 80 * MIB];
        blake3::Hasher::new().finalize_xof().fill(&mut raw);
        fs::write(at("disk"), &raw).unwrap();
        let identity = DiskIdentity {
            device: "sda".into(),
            model: String::new(),
            serial: String::new(),
            wwn: String::new(),
            transport: String::new(),
            size: DiskInput::open(&at("disk")).unwrap().size(),
            logical_sector_size: 512,
            physical_sector_size: 512,
        };
        let options = CaptureOptions::default();
        let mut out = File::create(at("image")).unwrap();
        capture(&at("disk"), &identity, &options, &mut out, &Silent).unwrap();
        let image = FileSource::open(&at("image")).unwrap();

        // The machine lost power after 12 of 80 MiB: the tables were to come last.
        let mut broken = vec![9; raw.len()];
        broken[..MIB].fill(0);
        broken[MIB..12 * MIB].copy_from_slice(&raw[MIB..12 * MIB]);
        for (tables, goes_on) in [(0, true), (9, false)] {
            broken[..MIB].fill(tables);
            fs::write(at("target"), &broken).unwrap();
            let done = restore(&image, &at("target"), &RestoreOptions::default(), &Silent).unwrap();
            assert_eq!(done.unchanged == 11 << 20, goes_on, "{done:?}");
            assert!(fs::read(at("target")).unwrap() == raw);
        }
    }
}
