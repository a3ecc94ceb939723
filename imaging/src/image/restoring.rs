//! A restore under way: what the pass over the image and the comparison with the target share. Chunks are proven and
//! written here, those with tables and boot loaders held back until all else is proven.

use super::codec::{Inflater, MemberError};
use super::index::{Chunk, Index, Item};
use super::member_reader::MemberReader;
use super::proof::{ChunkPass, Verified};
use super::target_writes::{TABLES, flush, writing};
use super::workers::{Meter, WorkerPool, lock};
use super::{Ahead, ImageSource};
use crate::disk::{Buffer, Output};
use anyhow::Context;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A restore under way.
pub struct Restoring<'a> {
    pub image: &'a dyn ImageSource,
    pub index: &'a Index,
    pub output: &'a dyn Output,
    pub meter: &'a Meter<'a>,
    /// What of the image is proven so far.
    pub pass: ChunkPass<'a>,
    /// Chunks that are proven but must wait: where the tables are.
    held: Mutex<BTreeMap<u64, Vec<u8>>>,
    /// What was written before the image was whole.
    ahead: Option<&'a Ahead>,
    pub written: AtomicU64,
    pub zeroed: AtomicU64,
    pub unchanged: AtomicU64,
}

impl<'a> Restoring<'a> {
    pub fn new(
        image: &'a dyn ImageSource,
        index: &'a Index,
        output: &'a dyn Output,
        meter: &'a Meter<'a>,
    ) -> Self {
        Self {
            image,
            index,
            output,
            meter,
            pass: ChunkPass::new(index),
            held: Mutex::default(),
            ahead: None,
            written: AtomicU64::new(0),
            zeroed: AtomicU64::new(0),
            unchanged: AtomicU64::new(0),
        }
    }

    /// The same onto a target that has a part of the image already.
    #[must_use]
    pub fn after(self, ahead: Option<&'a Ahead>) -> Self {
        Self { ahead, ..self }
    }

    pub fn has_ahead(&self) -> bool {
        self.ahead.is_some()
    }

    /// Whether the very bytes of a chunk were written before the image was whole; they are proven then, as the index has their hash.
    pub fn was_written_ahead(&self, chunk: &Chunk) -> bool {
        let written = |ahead: &'a Ahead| ahead.written(chunk.number, self.index.chunk_size());
        let Some(hash) = self.ahead.and_then(written) else {
            return false;
        };
        let length = self.index.length(chunk.number) as u64;
        if self.is_held(chunk.number) || !self.pass.was_written(chunk, hash, length) {
            return false;
        }
        self.unchanged.fetch_add(length, Ordering::Relaxed);
        self.meter.done(length);
        true
    }

    /// One pass over the image, every chunk of it.
    pub fn stream(&self, threads: usize) -> anyhow::Result<()> {
        let (chunk, bound) = (self.index.chunk_bytes(), self.index.largest_member());
        let members = Mutex::new(MemberReader::new(self.image, self.index, false));
        let pool = WorkerPool::new(threads, chunk + bound);
        pool.run(|| {
            let mut member = vec![0; bound];
            let mut raw = Buffer::new(chunk);
            let mut inflater = Inflater::new()?;
            while !pool.stopped() {
                let next = lock(&members).next(&mut member)?;
                match next {
                    None => break,
                    Some(Item::Zeros { first, count, .. }) => self.zero(first, count)?,
                    Some(Item::Chunk(chunk)) => {
                        let member = &member[..usize::try_from(chunk.size)?];
                        self.meter.moved(member.len() as u64);
                        self.put(&pool, &mut inflater, &chunk, member, &mut raw)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Proves one chunk, then writes it or holds it back.
    pub fn put(
        &self,
        pool: &WorkerPool,
        inflater: &mut Inflater,
        chunk: &Chunk,
        member: &[u8],
        raw: &mut [u8],
    ) -> anyhow::Result<()> {
        let raw = &mut raw[..self.index.length(chunk.number)];
        let permit = pool.cpu_permit();
        let proven = self.pass.inflate(inflater, chunk, member, raw);
        drop(permit);
        if let Err(error) = proven {
            self.read_again(inflater, chunk, raw, error)?;
        }
        self.keep(chunk.number, raw)
    }

    /// Writes what is proven, or holds it back.
    pub fn keep(&self, number: u64, raw: &[u8]) -> anyhow::Result<()> {
        if self.is_held(number) {
            lock(&self.held).insert(number, raw.to_vec());
        } else {
            self.write(raw, self.index.position(number))?;
        }
        self.meter.done(raw.len() as u64);
        Ok(())
    }

    /// Copies a chunk that is held back; `false` where it is not.
    pub fn copy_held(&self, number: u64, raw: &mut [u8]) -> bool {
        let held = lock(&self.held);
        let found = held.get(&number).filter(|found| found.len() == raw.len());
        found.map(|found| raw.copy_from_slice(found)).is_some()
    }

    /// What came wrong may have been changed on its way: TCP's sum misses one in 65,536 of what Ethernet's misses. Or it came from
    /// somebody who has it wrong, and others have it right.
    fn read_again(
        &self,
        inflater: &mut Inflater,
        chunk: &Chunk,
        raw: &mut [u8],
        mut error: MemberError,
    ) -> anyhow::Result<()> {
        let place = self.index.place(chunk, self.image.name());
        let mut member = vec![0; usize::try_from(chunk.size)?];
        loop {
            self.meter
                .warn(format!("{place}: {error}: it is read once more"));
            let elsewhere = self.image.came_wrong(chunk.bytes());
            self.image
                .read_exact_at(&mut member, chunk.offset)
                .with_context(|| format!("reading {place}"))?;
            self.meter.moved(member.len() as u64);
            match self.pass.inflate(inflater, chunk, &member, raw) {
                Err(again) if elsewhere => error = again,
                end => return end.context(place),
            }
        }
    }

    pub fn write(&self, raw: &[u8], at: u64) -> anyhow::Result<()> {
        self.output
            .write_at(raw, at)
            .with_context(|| writing(self.output, at))?;
        self.written.fetch_add(raw.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Makes `count` whole chunks from `first` on read as zeros.
    pub fn zero(&self, first: u64, count: u64) -> anyhow::Result<()> {
        let start = self.index.position(first);
        let length = count * u64::from(self.index.chunk_size());
        self.output
            .zero(start..start + length)
            .with_context(|| format!("zeroing {} at {start}", self.output.name()))?;
        self.zeroed.fetch_add(length, Ordering::Relaxed);
        self.pass.zeros(count);
        self.meter.done(length);
        Ok(())
    }

    /// Whether a chunk reaches into the first or the last MiB.
    pub fn is_held(&self, number: u64) -> bool {
        let start = self.index.position(number);
        let end = start + self.index.length(number) as u64;
        start < TABLES || end > self.index.raw_size().saturating_sub(TABLES)
    }

    /// The tables and boot loaders, the first chunk last: without proof of all else they stay away.
    pub fn write_held(&self, _proof: &Verified) -> anyhow::Result<()> {
        // They stay in memory: somebody may ask for one while it is written.
        let held: Vec<u64> = lock(&self.held).keys().rev().copied().collect();
        for number in held {
            if number == 0 {
                flush(self.output)?;
            }
            let mut aligned = Buffer::new(self.index.length(number));
            self.copy_held(number, &mut aligned);
            self.write(&aligned, self.index.position(number))?;
        }
        Ok(())
    }
}
