//! Chunks to an image: compressed on every core, written in order, the index at the end.

use super::again::{Before, Held, Out, Reused};
use super::chunk_size::RECORDS_MOST;
use super::codec::{Deflater, is_zero, member_bound};
use super::effort::{Doing, Effort, Method};
use super::format::{INDEX_MOST, encode_tail};
use super::index::{Index, Record};
use super::levels::Levels;
use super::member_header::{HEADER, TRAILER, put_header};
use super::workers::{Meter, Sequencer, WorkerPool};
use super::{ImageMeta, Level};
use crate::disk::Buffer;
use crate::units;
use anyhow::{Context, anyhow, bail};
use libdeflater::{CompressionLvl, Compressor};
use std::sync::Arc;

/// Zero members are written so many bytes at a time.
const BULK: usize = 256 << 10;

/// The next piece of the disk, and its place in the order.
pub struct Ticketed {
    /// Counts from 0 without gaps.
    pub ticket: u64,
    pub content: Content,
}

pub enum Content {
    /// So many whole chunks of zeros.
    Zeros(u32),
    /// So many bytes in the buffer: a whole chunk, or the shorter last one.
    Chunk(usize),
}

/// Where chunks come from. Called from several threads.
pub trait ChunkSource: Sync {
    /// Fills `raw`, which is one chunk long; `None` at the end.
    fn next(&self, raw: &mut [u8]) -> anyhow::Result<Option<Ticketed>>;
}

/// How to encode.
pub struct Encoding {
    pub chunk_size: u32,
    pub level: Level,
    pub threads: usize,
    /// Where it is noted how each chunk was compressed.
    pub levels: Option<Arc<Levels>>,
}

/// Every member of an image but those of the index.
pub struct Encoded<'o, 'm> {
    out: Out<'o>,
    meter: &'m Meter<'m>,
    index: Index,
    /// The member of a chunk of zeros, some times.
    zeros: Vec<u8>,
    raw: u64,
    /// Bytes of members that are not in the image before.
    written: u64,
    levels: Option<Arc<Levels>>,
}

/// Compresses all that `source` has to `out`.
pub fn encode<'o, 'm>(
    source: &dyn ChunkSource,
    encoding: &Encoding,
    out: Out<'o>,
    meter: &'m Meter<'m>,
) -> anyhow::Result<Encoded<'o, 'm>> {
    let chunk = usize::try_from(encoding.chunk_size).context("the chunk size")?;
    let zero = zero_member(chunk)?;
    let size = u32::try_from(zero.len()).context("the size of a zero member")?;
    let index = Index::new(encoding.chunk_size, 0, size)
        .ok_or_else(|| anyhow!("chunks cannot have {chunk} bytes"))?;
    let before = out.before();
    let sequencer = Sequencer::new(Encoded {
        out,
        meter,
        index,
        zeros: zero.repeat((BULK / zero.len()).max(1)),
        raw: 0,
        written: 0,
        levels: encoding.levels.clone(),
    });
    let bound = member_bound(chunk);
    let effort = Effort::new(encoding.level, encoding.threads);
    let pool = WorkerPool::new(encoding.threads, chunk + bound);
    pool.run(|| {
        let mut raw = Buffer::new(chunk);
        let mut maker = Maker {
            before,
            levels: encoding.levels.as_deref(),
            effort: &effort,
            deflater: Deflater::default(),
            member: vec![0; bound],
        };
        let read = |raw: &mut [u8]| {
            let _reading = effort.doing(Doing::Reading);
            source.next(raw)
        };
        while let Some(work) = read(&mut raw)? {
            if pool.stopped() {
                break;
            }
            let (made, length) = match work.content {
                Content::Zeros(count) => (Made::Zeros(count), 0),
                Content::Chunk(length) => {
                    let _permit = pool.cpu_permit();
                    let raw = &raw[..length];
                    (maker.make(work.ticket, raw, length == chunk), length)
                }
            };
            let done = sequencer.run(work.ticket, &pool, |encoded| {
                let _writing = effort.doing(Doing::Writing);
                encoded.take(&made, length, &maker.member)
            });
            match done {
                None => break,
                Some(written) => written.context("writing the image")?,
            }
        }
        Ok(())
    })?;
    Ok(sequencer.into_inner())
}

/// What is computed of a chunk, with buffers that live as long as their thread.
struct Maker<'a> {
    before: Option<&'a Before>,
    levels: Option<&'a Levels>,
    effort: &'a Effort,
    deflater: Deflater,
    member: Vec<u8>,
}

/// What a chunk became.
enum Made<'a> {
    /// So many whole chunks of zeros.
    Zeros(u32),
    /// The image before has it.
    Known(&'a Held),
    /// So many bytes of the maker's `member`, and the hash of the chunk.
    Member {
        size: usize,
        hash: [u8; 32],
        method: Method,
    },
}

impl Made<'_> {
    fn method(&self) -> Option<Method> {
        match self {
            Self::Member { method, .. } => Some(*method),
            Self::Zeros(_) | Self::Known(_) => None,
        }
    }
}

impl<'a> Maker<'a> {
    /// `whole`: not the shorter last chunk.
    fn make(&mut self, ticket: u64, raw: &[u8], whole: bool) -> Made<'a> {
        let _computing = self.effort.doing(Doing::Computing);
        if whole && is_zero(raw) {
            return Made::Zeros(1);
        }
        let hash = *blake3::hash(raw).as_bytes();
        if let Some(known) = self.before.and_then(|before| before.find(&hash)) {
            return Made::Known(known);
        }
        let earlier = self.levels.and_then(|levels| levels.earlier(ticket));
        let method = earlier.unwrap_or_else(|| self.effort.next());
        let size = self.deflater.member(method, raw, &mut self.member);
        Made::Member { size, hash, method }
    }
}

impl Encoded<'_, '_> {
    /// What came of `raw` bytes; a member is at the front of `member`.
    fn take(&mut self, made: &Made, raw: usize, member: &[u8]) -> anyhow::Result<()> {
        if let Some(levels) = &self.levels {
            levels.note(made.method());
        }
        match *made {
            Made::Zeros(count) => self.zeros(count),
            Made::Known(known) => self.known(known, raw),
            Made::Member { size, hash, .. } => self.chunk(&member[..size], hash, raw),
        }
    }

    fn zeros(&mut self, count: u32) -> anyhow::Result<()> {
        self.push(Record::Zeros(count))?;
        let member = usize::try_from(self.index.zero_member())?;
        let chunk = u64::from(self.index.chunk_size());
        if let Out::Again { out, .. } = &mut self.out {
            out.repeated(&self.zeros[..member], count)?;
            self.moved(0, u64::from(count) * chunk);
            return Ok(());
        }
        let each = self.zeros.len() / member;
        let mut left = usize::try_from(count)?;
        while left > 0 {
            let now = left.min(each);
            self.out.write_all(&self.zeros[..now * member])?;
            left -= now;
            self.moved((now * member) as u64, now as u64 * chunk);
        }
        Ok(())
    }

    fn chunk(&mut self, member: &[u8], hash: [u8; 32], raw: usize) -> anyhow::Result<()> {
        let size = u32::try_from(member.len())?;
        self.push(Record::Data { size, hash })?;
        self.out.write_all(member)?;
        self.moved(member.len() as u64, raw as u64);
        Ok(())
    }

    /// A chunk that the image before has.
    fn known(&mut self, known: &Held, raw: usize) -> anyhow::Result<()> {
        let Out::Again { before, out } = &mut self.out else {
            bail!("there is no image before");
        };
        let next = out.next_offset();
        let known = next
            .and_then(|next| before.same_at(known, next))
            .unwrap_or(known);
        out.member(known)?;
        let Held { size, hash, .. } = *known;
        self.push(Record::Data { size, hash })?;
        self.moved(0, raw as u64);
        Ok(())
    }

    fn push(&mut self, record: Record) -> anyhow::Result<()> {
        if self.index.stored() > RECORDS_MOST {
            bail!(
                "more than {} bytes of index, which no restore takes: {} of data in chunks of {} bytes",
                RECORDS_MOST,
                units::bytes(self.raw),
                self.index.chunk_size()
            );
        }
        self.index.push(record).map_err(|wrong| anyhow!("{wrong}"))
    }

    fn moved(&mut self, written: u64, raw: u64) {
        self.raw += raw;
        self.written += written;
        self.meter.moved(written);
        self.meter.done(raw);
    }

    /// Raw bytes so far.
    pub fn raw(&self) -> u64 {
        self.raw
    }

    /// Writes the index with `meta`, whose size and hash it fills in, and flushes.
    pub fn finish(mut self, meta: &mut ImageMeta) -> anyhow::Result<Reused> {
        self.index.set_raw_size(self.raw);
        self.index
            .check_whole(self.index.data_size())
            .map_err(|wrong| anyhow!("the index of the new image: {wrong}"))?;
        meta.disk.size = self.raw;
        meta.blake3 = self.index.hash().to_string();
        let tail = encode_tail(&self.index, &meta.to_toml()?, self.index.data_size());
        if tail.len() as u64 > INDEX_MOST {
            bail!(
                "its index has {} bytes with its metadata, more than the {INDEX_MOST} that a restore takes",
                tail.len()
            );
        }
        self.out
            .write_all(&tail)
            .and_then(|()| self.out.flush())
            .context("writing the image's index")?;
        let tail = tail.len() as u64;
        Ok(Reused {
            written: self.written + tail,
            image: self.index.data_size() + tail,
        })
    }
}

/// Packs zeros as small as any level, in a sixteenth of the time of the highest: every backup waits for it, before its
/// first byte.
const ZEROS_LEVEL: i32 = 6;

/// The member of `chunk` zeros, as small as deflate can: a thousandth.
pub fn zero_member(chunk: usize) -> anyhow::Result<Vec<u8>> {
    let raw = vec![0; chunk];
    let mut member = vec![0; member_bound(chunk)];
    let size = Compressor::new(CompressionLvl::new(ZEROS_LEVEL).unwrap_or_default())
        .deflate_compress(&raw, &mut member[HEADER..])
        .context("compressing zeros")?;
    member.truncate(HEADER + size);
    member.extend_from_slice(&libdeflater::crc32(&raw).to_le_bytes());
    member.extend_from_slice(&u32::try_from(chunk)?.to_le_bytes());
    debug_assert_eq!(member.len(), HEADER + size + TRAILER);
    let whole = member.len();
    put_header(&mut member, whole);
    Ok(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_packed_as_small_as_by_the_highest_level() {
        for chunk in [4096, 1 << 20, 4 << 20] {
            let mut best = vec![0; member_bound(chunk)];
            let least = Compressor::new(CompressionLvl::best())
                .deflate_compress(&vec![0; chunk], &mut best)
                .unwrap();
            let member = zero_member(chunk).unwrap();
            assert_eq!(member.len(), HEADER + least + TRAILER, "{chunk}");
        }
    }
}
