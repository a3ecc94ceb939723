//! Chunks to an image: compressed on every core, written in order, the index at the end.

use super::chunk_size::RECORDS_MOST;
use super::codec::{Deflater, is_zero, member_bound};
use super::format::{INDEX_MOST, encode_tail};
use super::index::{Index, Record};
use super::member_header::{HEADER, TRAILER, put_header};
use super::workers::{Meter, Sequencer, WorkerPool};
use super::{ImageMeta, Level};
use crate::disk::Buffer;
use crate::units;
use anyhow::{Context, anyhow, bail};
use libdeflater::{CompressionLvl, Compressor};
use std::io::Write;

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
}

/// Every member of an image but those of the index.
pub struct Encoded<'a> {
    out: &'a mut (dyn Write + Send),
    meter: &'a Meter<'a>,
    index: Index,
    zeros: Vec<u8>,
    raw: u64,
}

/// Compresses all that `source` has to `out`.
pub fn encode<'a>(
    source: &dyn ChunkSource,
    encoding: &Encoding,
    out: &'a mut (dyn Write + Send),
    meter: &'a Meter<'a>,
) -> anyhow::Result<Encoded<'a>> {
    let chunk = usize::try_from(encoding.chunk_size).context("the chunk size")?;
    let zero = zero_member(chunk)?;
    let size = u32::try_from(zero.len()).context("the size of a zero member")?;
    let index = Index::new(encoding.chunk_size, 0, size)
        .ok_or_else(|| anyhow!("chunks cannot have {chunk} bytes"))?;
    let sequencer = Sequencer::new(Encoded {
        out,
        meter,
        index,
        zeros: zero.repeat((BULK / zero.len()).max(1)),
        raw: 0,
    });
    let bound = member_bound(chunk);
    let pool = WorkerPool::new(encoding.threads, chunk + bound);
    pool.run(|| {
        let mut raw = Buffer::new(chunk);
        let mut member = vec![0; bound];
        let mut deflater = Deflater::new(encoding.level);
        while let Some(work) = source.next(&mut raw)? {
            if pool.stopped() {
                break;
            }
            let done = match work.content {
                Content::Zeros(count) => {
                    sequencer.run(work.ticket, &pool, |encoded| encoded.zeros(count))
                }
                Content::Chunk(length) => {
                    let permit = pool.cpu_permit();
                    let raw = &raw[..length];
                    if length == chunk && is_zero(raw) {
                        drop(permit);
                        sequencer.run(work.ticket, &pool, |encoded| encoded.zeros(1))
                    } else {
                        let hash = *blake3::hash(raw).as_bytes();
                        let size = deflater.member(raw, &mut member);
                        drop(permit);
                        let member = &member[..size];
                        sequencer.run(work.ticket, &pool, |encoded| {
                            encoded.chunk(member, hash, length)
                        })
                    }
                }
            };
            match done {
                None => break,
                Some(written) => written.context("writing the image")?,
            }
        }
        Ok(())
    })?;
    Ok(sequencer.into_inner())
}

impl Encoded<'_> {
    fn zeros(&mut self, count: u32) -> anyhow::Result<()> {
        self.push(Record::Zeros(count))?;
        let member = usize::try_from(self.index.zero_member())?;
        let chunk = u64::from(self.index.chunk_size());
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
        self.meter.moved(written);
        self.meter.done(raw);
    }

    /// Raw bytes so far.
    pub fn raw(&self) -> u64 {
        self.raw
    }

    /// Writes the index with `meta`, whose size and hash it fills in, and flushes.
    pub fn finish(mut self, meta: &mut ImageMeta) -> anyhow::Result<()> {
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
            .context("writing the image's index")
    }
}

/// The member of `chunk` zeros, as small as deflate can: a thousandth.
pub fn zero_member(chunk: usize) -> anyhow::Result<Vec<u8>> {
    let raw = vec![0; chunk];
    let mut member = vec![0; member_bound(chunk)];
    let size = Compressor::new(CompressionLvl::best())
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
