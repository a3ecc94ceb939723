//! A restore whose chunks come from elsewhere than the image alone, in any order: from other machines that restore it too.
//!
//! The engine says what the target lacks, proves and writes what is brought, and reads back what is there for those who
//! ask. Who brings it is the feed's matter: nothing here knows networks. A member is proven by the hash in the index before
//! a byte of it is written, so that a feed can be slow or lie, and can spoil nothing.

use super::ImageSource;
use super::codec::{Deflater, Inflater, member_bound};
use super::effort::Method;
use super::index::{Chunk, Item};
use super::restoring::Restoring;
use super::workers::{WorkerPool, lock};
use crate::disk::Buffer;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Zeros are dealt with so many bytes of the disk at a time, so that a failure elsewhere is noticed.
const ZEROS_AT_ONCE: u64 = 1 << 30;

/// Who brings the members of a restore's chunks, and passes on what is proven.
pub trait Feed: Send + Sync {
    /// Brings every chunk that `restore` lacks, calls `finish` once, and returns when nobody else needs what is here.
    ///
    /// # Errors
    /// Those of `finish` and of [`Hand`]; and when a chunk cannot be had from anybody.
    fn run(
        &self,
        restore: &dyn Fed,
        finish: &mut dyn FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()>;
}

/// A chunk that is not zeros, and whether the target had it before.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub chunk: Chunk,
    pub there: bool,
}

/// A restore, as its feed sees it.
pub trait Fed: Sync {
    /// The stored image, where all of it can be had.
    fn image(&self) -> &dyn ImageSource;

    /// Chunks of the disk, those of zeros too. Every restore of the image has the same number.
    fn count(&self) -> u64;

    /// The most bytes that a member has.
    fn largest_member(&self) -> usize;

    /// The chunks that are not zeros, in the order of the disk.
    fn chunks(&self) -> &[Known];

    /// Whether all of the image goes to the target, so that everything can be had from it afterwards.
    fn is_whole(&self) -> bool;

    /// Whether the rest is not wanted any more: the feed ends as soon as it can, with whatever error.
    fn is_over(&self) -> bool {
        false
    }

    /// How many hands are worth their memory.
    fn hands(&self) -> usize;

    /// The buffers of one thread.
    fn hand(&self) -> anyhow::Result<Box<dyn Hand + '_>>;
}

/// One thread of a feed at the target.
pub trait Hand {
    /// Proves that `member` is `chunk`, and writes it. `false`: it is something else, and nothing was written. A chunk is
    /// put once.
    ///
    /// # Errors
    /// The target cannot be written.
    fn put(&mut self, chunk: &Chunk, member: &[u8]) -> anyhow::Result<bool>;

    /// The member of a chunk that was put or was there, made anew of what the target has; `None` where the target does not
    /// have it any more.
    fn pack(&mut self, chunk: &Chunk) -> Option<Vec<u8>>;
}

/// Runs a restore that `feed` feeds. With `compare`, what the target has already is not asked for.
pub fn run(
    restoring: &Restoring,
    feed: &dyn Feed,
    compare: bool,
    threads: usize,
    mut finish: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let index = restoring.index;
    let restore = FedRestore {
        restoring,
        pool: WorkerPool::new(threads, 2 * index.chunk_bytes() + index.largest_member()),
        chunks: survey(restoring, compare, threads)?,
    };
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut zeros = Some(scope.spawn(|| zero_all(restoring, &failed)));
        let end = feed.run(&restore, &mut || {
            if let Some(zeros) = zeros.take() {
                let zeroed = zeros.join();
                zeroed.map_err(|_| anyhow::anyhow!("the thread that zeroes died"))??;
            }
            finish()
        });
        failed.store(end.is_err(), Ordering::Relaxed);
        end
    })
}

/// The chunks that are not zeros, and which of them the target has.
fn survey(restoring: &Restoring, compare: bool, threads: usize) -> anyhow::Result<Vec<Known>> {
    let index = restoring.index;
    let chunks = index.items().filter_map(|item| match item {
        Item::Chunk(chunk) => Some(Known {
            chunk,
            there: false,
        }),
        Item::Zeros { .. } => None,
    });
    let mut chunks: Vec<Known> = chunks.collect();
    for known in &mut chunks {
        known.there = restoring.was_written_ahead(&known.chunk);
    }
    if !compare {
        return Ok(chunks);
    }
    let pool = WorkerPool::new(threads, index.chunk_bytes());
    let left = Mutex::new(chunks.iter_mut());
    pool.run(|| {
        let mut raw = Buffer::new(index.chunk_bytes());
        while !pool.stopped() {
            let Some(known) = lock(&left).next() else {
                break;
            };
            let number = known.chunk.number;
            // Those with the tables are written last, whatever is there.
            if known.there || restoring.is_held(number) {
                continue;
            }
            let raw = &mut raw[..index.length(number)];
            let read = restoring.output.read_exact_at(raw, index.position(number));
            let _permit = pool.cpu_permit();
            if read.is_ok() && restoring.pass.is_there(&known.chunk, raw) {
                known.there = true;
                let length = raw.len() as u64;
                restoring.unchanged.fetch_add(length, Ordering::Relaxed);
                restoring.meter.done(length);
            }
        }
        Ok(())
    })?;
    Ok(chunks)
}

fn zero_all(restoring: &Restoring, failed: &AtomicBool) -> anyhow::Result<()> {
    let most = (ZEROS_AT_ONCE / u64::from(restoring.index.chunk_size())).max(1);
    for item in restoring.index.items() {
        let Item::Zeros { first, count, .. } = item else {
            continue;
        };
        let mut done = 0;
        while done < count && !failed.load(Ordering::Relaxed) {
            let now = most.min(count - done);
            restoring.zero(first + done, now)?;
            done += now;
        }
    }
    Ok(())
}

struct FedRestore<'a> {
    restoring: &'a Restoring<'a>,
    pool: WorkerPool,
    chunks: Vec<Known>,
}

impl Fed for FedRestore<'_> {
    fn image(&self) -> &dyn ImageSource {
        self.restoring.image
    }

    fn count(&self) -> u64 {
        let index = self.restoring.index;
        index.raw_size().div_ceil(u64::from(index.chunk_size()))
    }

    fn largest_member(&self) -> usize {
        self.restoring.index.largest_member()
    }

    fn chunks(&self) -> &[Known] {
        &self.chunks
    }

    fn is_whole(&self) -> bool {
        self.restoring.index.walked() == self.restoring.index.raw_size()
    }

    fn hands(&self) -> usize {
        self.pool.workers()
    }

    fn hand(&self) -> anyhow::Result<Box<dyn Hand + '_>> {
        Ok(Box::new(TargetHand {
            fed: self,
            raw: Buffer::new(self.restoring.index.chunk_bytes()),
            inflater: Inflater::new()?,
            deflater: Deflater::default(),
        }))
    }
}

struct TargetHand<'a> {
    fed: &'a FedRestore<'a>,
    raw: Buffer,
    inflater: Inflater,
    /// Most hands never pack.
    deflater: Deflater,
}

impl Hand for TargetHand<'_> {
    fn put(&mut self, chunk: &Chunk, member: &[u8]) -> anyhow::Result<bool> {
        let restoring = self.fed.restoring;
        let raw = &mut self.raw[..restoring.index.length(chunk.number)];
        let permit = self.fed.pool.cpu_permit();
        let proven = restoring
            .pass
            .inflate(&mut self.inflater, chunk, member, raw);
        drop(permit);
        if proven.is_err() {
            return Ok(false);
        }
        restoring.meter.moved(member.len() as u64);
        restoring.keep(chunk.number, raw)?;
        Ok(true)
    }

    fn pack(&mut self, chunk: &Chunk) -> Option<Vec<u8>> {
        let restoring = self.fed.restoring;
        let raw = &mut self.raw[..restoring.index.length(chunk.number)];
        if !restoring.copy_held(chunk.number, raw) {
            let at = restoring.index.position(chunk.number);
            restoring.output.read_exact_at(raw, at).ok()?;
        }
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
