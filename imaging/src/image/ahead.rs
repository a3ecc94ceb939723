//! Chunks that are on the target before their image is whole: while another machine still makes it.
//!
//! Nothing here is proof. From the first write on the target has neither table nor boot loader, and what could boot is never
//! written: that is left to the restore that comes when the image is whole. It gets an [`Ahead`], which says what was written
//! where, takes what the index says is to be there, and brings all else as ever. A chunk that came otherwise in the end, or
//! was never part of the image, is written again.

use super::ImageSource;
use super::codec::{Deflater, Inflater, member_bound};
use super::effort::Method;
use super::feed::{Fed, Feed, Hand, Known};
use super::growing::Round;
use super::index::Chunk;
use super::old_signatures;
use super::reading_on::ReadingOn;
use super::target_writes::{TABLES, check_fits, flush, invalidate, writing};
use super::workers::{WorkerPool, lock};
use crate::disk::{Buffer, Output, Target};
use crate::extents::Extents;
use crate::source::ReadAt;
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// What a target has before its restore begins.
#[derive(Debug, Default)]
pub struct Ahead {
    target: PathBuf,
    chunk_size: u32,
    /// BLAKE3 of the raw bytes, by the chunk's number.
    chunks: BTreeMap<u64, [u8; 32]>,
    /// Where partitions of the table that was there kept their signatures.
    old: Extents,
}

impl Ahead {
    /// Of which disk this is.
    pub fn is_of(&self, target: &Path) -> bool {
        self.target == target
    }

    /// BLAKE3 of what was written as chunk `number`, if anything was.
    pub(super) fn written(&self, number: u64, chunk_size: u32) -> Option<&[u8; 32]> {
        let known = self.chunks.get(&number);
        known.filter(|_| chunk_size == self.chunk_size)
    }

    /// Whether the very bytes of `chunk` were written.
    pub(super) fn has(&self, chunk: &Chunk, chunk_size: u32) -> bool {
        self.written(chunk.number, chunk_size) == Some(&chunk.hash)
    }

    pub(super) fn old(&self) -> &Extents {
        &self.old
    }
}

/// A target that is written ahead. Nobody else has it meanwhile.
pub struct WritesAhead {
    target: PathBuf,
    output: Target,
    /// Of the disk that the image is of.
    size: u64,
    begun: AtomicBool,
    /// It has neither table nor loader any more.
    is_unbootable: AtomicBool,
    made: Mutex<Ahead>,
}

impl WritesAhead {
    /// Opens `target` for an image of a disk with `size` bytes. Writes nothing.
    ///
    /// # Errors
    /// It is too small or in use.
    pub fn open(target: &Path, size: u64) -> anyhow::Result<Self> {
        let output = Target::open(target)?;
        check_fits(&output, size)?;
        Ok(Self {
            target: target.into(),
            output,
            size,
            begun: AtomicBool::new(false),
            is_unbootable: AtomicBool::new(false),
            made: Mutex::default(),
        })
    }

    /// Whether anything was written: the target does not boot then.
    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Raw bytes that are there. What came again, otherwise, counts once.
    pub fn written(&self) -> u64 {
        let made = lock(&self.made);
        made.chunks.len() as u64 * u64::from(made.chunk_size)
    }

    /// Whether all of a round is there but what is written last.
    pub fn has(&self, round: &Round) -> bool {
        self.wanted(round).iter().all(|known| known.there)
    }

    /// Writes the chunks of a round that are not there, from `feed` if there is one, until `stop` says that it is enough.
    ///
    /// # Errors
    /// The target cannot be written; the chunks cannot be had.
    pub fn take(
        &self,
        round: &Round,
        image: &dyn ImageSource,
        feed: Option<&dyn Feed>,
        stop: &AtomicBool,
    ) -> anyhow::Result<()> {
        let disk = self.size.div_ceil(u64::from(round.chunk_size()));
        if round.next() > disk {
            bail!(
                "the image that grows is of a larger disk than {}: it is another one",
                self.output.name()
            );
        }
        self.begin(round.chunk_size())?;
        let work = FedAhead {
            ahead: self,
            round,
            image,
            chunks: self.wanted(round),
            pool: WorkerPool::new(0, round.chunk_bytes() + member_bound(round.chunk_bytes())),
            stop,
        };
        let done = match feed {
            Some(feed) => feed.run(&work, &mut || Ok(())),
            None => work.read_all(),
        };
        match done {
            Err(_) if stop.load(Ordering::Relaxed) => Ok(()),
            done => done,
        }
    }

    /// What is not there of a round, but for what is written last.
    fn wanted(&self, round: &Round) -> Vec<Known> {
        let made = lock(&self.made);
        let chunk_size = u64::from(round.chunk_size());
        let is_held = |chunk: &Chunk| {
            let start = chunk.number * chunk_size;
            start < TABLES || start + chunk_size > self.size.saturating_sub(TABLES)
        };
        let chunks = round.chunks().into_iter();
        chunks
            .filter(|chunk| !is_held(chunk))
            .map(|chunk| Known {
                there: made.has(&chunk, round.chunk_size()),
                chunk,
            })
            .collect()
    }

    /// Makes the target unbootable, once. Chunks of another size are no use: what was written by them is forgotten.
    fn begin(&self, chunk_size: u32) -> anyhow::Result<()> {
        let mut made = lock(&self.made);
        if !self.begun.load(Ordering::Relaxed) {
            // Its old table tells where they are, and is gone afterwards.
            made.old = old_signatures::remember(&self.output);
            self.begun.store(true, Ordering::Relaxed);
        }
        // Where that failed, it is tried again before anything else is written.
        if !self.is_unbootable.load(Ordering::Relaxed) {
            invalidate(&self.output, Some(self.size))?;
            self.is_unbootable.store(true, Ordering::Relaxed);
        }
        if made.chunk_size != chunk_size {
            made.chunk_size = chunk_size;
            made.chunks.clear();
        }
        Ok(())
    }

    /// Lets the target go, for the restore.
    ///
    /// # Errors
    /// What was written is not safe on it.
    pub fn finish(self) -> anyhow::Result<Ahead> {
        if self.has_begun() {
            flush(&self.output)?;
        }
        let mut made = self
            .made
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        made.target = self.target;
        Ok(made)
    }
}

struct FedAhead<'a> {
    ahead: &'a WritesAhead,
    round: &'a Round,
    image: &'a dyn ImageSource,
    chunks: Vec<Known>,
    pool: WorkerPool,
    stop: &'a AtomicBool,
}

impl FedAhead<'_> {
    /// One after the other, from where the image grows.
    fn read_all(&self) -> anyhow::Result<()> {
        let mut reader = ReadingOn::new(self.image);
        let mut hand = self.hand()?;
        for Known { chunk, there } in &self.chunks {
            if self.is_over() {
                break;
            }
            if *there {
                continue;
            }
            let mut member = vec![0; usize::try_from(chunk.size)?];
            let name = self.image.name();
            reader
                .read(&mut member, chunk.offset)
                .with_context(|| format!("reading {name} at {}", chunk.offset))?;
            if !hand.put(chunk, &member)? {
                bail!("chunk {} of {name} has changed meanwhile", chunk.number);
            }
        }
        Ok(())
    }
}

impl Fed for FedAhead<'_> {
    fn image(&self) -> &dyn ImageSource {
        self.image
    }

    fn count(&self) -> u64 {
        self.round.next()
    }

    fn largest_member(&self) -> usize {
        member_bound(self.round.chunk_bytes())
    }

    fn chunks(&self) -> &[Known] {
        &self.chunks
    }

    fn is_whole(&self) -> bool {
        true
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn hands(&self) -> usize {
        self.pool.workers()
    }

    fn hand(&self) -> anyhow::Result<Box<dyn Hand + '_>> {
        Ok(Box::new(AheadHand {
            fed: self,
            raw: Buffer::new(self.round.chunk_bytes()),
            inflater: Inflater::new()?,
            deflater: Deflater::default(),
        }))
    }
}

struct AheadHand<'a> {
    fed: &'a FedAhead<'a>,
    raw: Buffer,
    inflater: Inflater,
    deflater: Deflater,
}

impl Hand for AheadHand<'_> {
    fn put(&mut self, chunk: &Chunk, member: &[u8]) -> anyhow::Result<bool> {
        if self.fed.is_over() {
            bail!("it is enough");
        }
        let ahead = self.fed.ahead;
        let raw = &mut self.raw[..];
        let permit = self.fed.pool.cpu_permit();
        let proven = super::proof::inflate_chunk(&mut self.inflater, chunk, member, raw);
        drop(permit);
        if proven.is_err() {
            return Ok(false);
        }
        // What was there before is there no more, whatever comes of the write.
        lock(&ahead.made).chunks.remove(&chunk.number);
        let at = chunk.number * u64::from(self.fed.round.chunk_size());
        ahead
            .output
            .write_at(raw, at)
            .with_context(|| writing(&ahead.output, at))?;
        lock(&ahead.made).chunks.insert(chunk.number, chunk.hash);
        Ok(true)
    }

    fn pack(&mut self, chunk: &Chunk) -> Option<Vec<u8>> {
        let at = chunk.number * u64::from(self.fed.round.chunk_size());
        let raw = &mut self.raw[..];
        self.fed.ahead.output.read_exact_at(raw, at).ok()?;
        let _permit = self.fed.pool.cpu_permit();
        if *blake3::hash(raw).as_bytes() != chunk.hash {
            return None;
        }
        let mut member = vec![0; member_bound(raw.len())];
        let size = self.deflater.member(Method::Isal(1), raw, &mut member);
        member.truncate(size);
        Some(member)
    }
}

#[cfg(test)]
mod tests;
