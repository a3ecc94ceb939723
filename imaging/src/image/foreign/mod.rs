//! Images without an index: any gzip, xz, zstd, raw. Nothing is proven before the end of the stream.

mod checksums;
pub mod containers;
mod decoder;
mod gzip;
mod refusal;
mod sizes;
mod windows;

use super::codec::is_zero;
use super::proof::{StreamPass, Verified};
use super::restored::Restored;
use super::target_writes::{TABLES, check_fits, flush, invalidate, writing};
use super::workers::{Meter, lock};
use super::{ImageSource, Kind, RestoreOptions};
use crate::disk::{Buffer, Output};
use crate::event::{Act, Reporter, Silent};
use crate::extents::Extents;
use crate::table::gpt_sector_size;
use crate::units;
use anyhow::{Context, bail};
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

pub use checksums::has_checksums;
pub use decoder::{Decoder, read_full};
pub use refusal::check;
pub use sizes::raw_size;

const PIECE: usize = 1 << 20;
/// Pieces between the decoder and the writers.
const PIECES: usize = 8;
const WRITERS: usize = 2;

/// What an image that begins with `start` is, if it is not ours.
pub fn kind(start: &[u8]) -> Kind {
    match start {
        [0x1f, 0x8b, 8, ..] => Kind::Gzip,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Kind::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Kind::Zstd,
        _ => Kind::Raw,
    }
}

/// A piece of the disk on its way to a writer.
struct Piece {
    raw: Buffer,
    length: usize,
    at: u64,
}

struct Writing<'a> {
    output: &'a dyn Output,
    meter: &'a Meter<'a>,
    failed: AtomicBool,
    error: Mutex<Option<anyhow::Error>>,
    written: AtomicU64,
    zeroed: AtomicU64,
}

/// A foreign image, and what of it is wanted.
pub struct Stream {
    pub kind: Kind,
    /// Bytes, where the format tells.
    pub raw_size: Option<u64>,
    /// Bytes of the target's logical sectors, where it has some.
    pub sector: Option<u32>,
    /// Raw bytes that are zeros whatever the image has there.
    pub left_out: Extents,
}

/// Gives zeros for what is left out of a stream.
struct Masked<'a> {
    inner: Decoder<'a>,
    at: u64,
    left_out: Extents,
}

impl Read for Masked<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        let end = self.at + read as u64;
        for range in self.left_out.within(self.at..end) {
            let place = |at: u64| usize::try_from(at - self.at).map_err(io::Error::other);
            buf[place(range.start)?..place(range.end)?].fill(0);
        }
        self.at = end;
        Ok(read)
    }
}

/// What forbids writing a foreign image to `output`, as far as its beginning and its size tell.
pub fn check_target(
    image: &dyn ImageSource,
    stream: &Stream,
    output: &dyn Output,
) -> anyhow::Result<()> {
    match stream.raw_size {
        Some(size) => check_fits(output, size)?,
        None if stream.kind == Kind::Gzip => sizes::check_gzip(image, output, &Silent)?,
        None => {}
    }
    let mut head = vec![0; usize::try_from(TABLES)?];
    let length = read_full(&mut Decoder::open(image, stream.kind)?, &mut head)
        .with_context(|| format!("restoring {} to {}", image.name(), output.name()))?;
    check_head(image, &head[..length], output, stream.sector)
}

fn check_head(
    image: &dyn ImageSource,
    head: &[u8],
    output: &dyn Output,
    sector: Option<u32>,
) -> anyhow::Result<()> {
    if head.is_empty() {
        bail!("{} unpacks to nothing: it is no disk image", image.name());
    }
    let is_all = head.len() < usize::try_from(TABLES)?;
    if is_all && let Some(why) = containers::no_disk(head, head.len() as u64) {
        bail!("{} holds no disk: {why}", image.name());
    }
    check_fits(output, head.len() as u64)?;
    check_sectors(image, head, output, sector)
}

/// Writes a foreign image to `output`, its first MiB last.
pub fn restore(
    image: &dyn ImageSource,
    stream: Stream,
    output: &dyn Output,
    options: &RestoreOptions,
    reporter: &dyn Reporter,
) -> anyhow::Result<Restored> {
    let what = || format!("restoring {} to {}", image.name(), output.name());
    let Stream { kind, raw_size, .. } = stream;
    if let Some(size) = raw_size {
        check_fits(output, size)?;
        output.set_size(size)?;
    } else if kind == Kind::Gzip {
        sizes::check_gzip(image, output, reporter)?;
    }
    let mut pass = StreamPass::new(Masked {
        inner: Decoder::open(image, kind)?,
        at: 0,
        left_out: stream.left_out,
    });
    let meter = Meter::new(Act::Restore, output.name(), raw_size, reporter);
    let mut head = Buffer::new(usize::try_from(TABLES)?);
    let length = read_full(&mut pass, &mut head).with_context(what)?;
    check_head(image, &head[..length], output, stream.sector)?;
    invalidate(output, raw_size)?;
    let writing = Writing {
        output,
        meter: &meter,
        failed: AtomicBool::new(false),
        error: Mutex::new(None),
        written: AtomicU64::new(length as u64),
        zeroed: AtomicU64::new(0),
    };
    let mut hashes = options.verify.then(Vec::new);
    let size = writing
        .all(&mut pass, length as u64, hashes.as_mut())
        .with_context(what)?;
    // The stream ended where its format says that it ends, with its checksums right.
    let verified = pass.verified(image.name(), kind, raw_size)?;
    pass.inner().inner.warn_of_trailing(image, reporter);
    output.set_size(size)?;
    flush(output)?;
    write_head(&verified, output, &head[..length])?;
    flush(output)?;
    if let Some(hashes) = hashes {
        read_back(output, &head[..length], &hashes, size).with_context(what)?;
    }
    Ok(Restored {
        size,
        written: writing.written.into_inner(),
        zeroed: writing.zeroed.into_inner(),
        unchanged: 0,
        transferred: image.size(),
        verified: options.verify,
        meta: None,
    })
}

/// Refuses an image of a disk with other sectors: of what it holds no index tells.
fn check_sectors(
    image: &dyn ImageSource,
    head: &[u8],
    output: &dyn Output,
    sector: Option<u32>,
) -> anyhow::Result<()> {
    match (gpt_sector_size(head), sector) {
        (Some(has), Some(target)) if has != target => bail!(
            "{} is of a disk with sectors of {has} bytes, {} has sectors of {target}: what it holds could not be \
             read there",
            image.name(),
            output.name()
        ),
        _ => Ok(()),
    }
}

fn write_head(_proof: &Verified, output: &dyn Output, head: &[u8]) -> anyhow::Result<()> {
    output.write_at(head, 0).with_context(|| writing(output, 0))
}

impl Writing<'_> {
    /// Decodes here, writes on other threads; the size of the whole.
    fn all(
        &self,
        decoder: &mut dyn Read,
        start: u64,
        mut hashes: Option<&mut Vec<[u8; 32]>>,
    ) -> anyhow::Result<u64> {
        let (full, to_write) = sync_channel::<Piece>(PIECES);
        let (free, to_fill) = sync_channel::<Buffer>(PIECES);
        for _ in 0..PIECES {
            free.send(Buffer::new(PIECE)).context("filling the pool")?;
        }
        let to_write = Mutex::new(to_write);
        self.meter.done(start);
        let result = thread::scope(|scope| {
            for _ in 0..WRITERS {
                let free = free.clone();
                let to_write = &to_write;
                scope.spawn(move || {
                    while let Some(piece) = next(to_write) {
                        if let Err(error) = self.write(&piece) {
                            lock(&self.error).get_or_insert(error);
                            self.failed.store(true, Ordering::Relaxed);
                        }
                        // The other end is gone only when nothing more is to be filled.
                        let _ = free.send(piece.raw);
                    }
                });
            }
            drop(free);
            let mut at = start;
            while let Ok(mut raw) = to_fill.recv() {
                if self.failed.load(Ordering::Relaxed) {
                    break;
                }
                let length = read_full(decoder, &mut raw)
                    .with_context(|| format!("decoding what follows raw byte {at}"))?;
                if length == 0 {
                    break;
                }
                self.check_end(at, length)?;
                if let Some(hashes) = &mut hashes {
                    hashes.push(*blake3::hash(&raw[..length]).as_bytes());
                }
                if full.send(Piece { raw, length, at }).is_err() {
                    break;
                }
                at += length as u64;
            }
            // Dropped at this block's end: the writers then finish what is queued, and leave.
            drop(full);
            anyhow::Ok(at)
        });
        match lock(&self.error).take() {
            Some(error) => Err(error),
            None => result,
        }
    }

    fn check_end(&self, at: u64, length: usize) -> anyhow::Result<()> {
        match self.output.limit() {
            Some(limit) if at + length as u64 > limit => bail!(
                "the image goes on behind the end of {} at {limit} ({}): use a larger disk",
                self.output.name(),
                units::bytes(limit)
            ),
            _ => Ok(()),
        }
    }

    fn write(&self, piece: &Piece) -> anyhow::Result<()> {
        let raw = &piece.raw[..piece.length];
        let length = raw.len() as u64;
        if is_zero(raw) {
            self.output
                .zero(piece.at..piece.at + length)
                .with_context(|| format!("zeroing {} at {}", self.output.name(), piece.at))?;
            self.zeroed.fetch_add(length, Ordering::Relaxed);
        } else {
            self.output
                .write_at(raw, piece.at)
                .with_context(|| writing(self.output, piece.at))?;
            self.written.fetch_add(length, Ordering::Relaxed);
        }
        self.meter.done(length);
        Ok(())
    }
}

fn next(pieces: &Mutex<Receiver<Piece>>) -> Option<Piece> {
    lock(pieces).recv().ok()
}

/// Compares the target with what was decoded: the head itself, then hashes of pieces.
fn read_back(
    output: &dyn Output,
    head: &[u8],
    hashes: &[[u8; 32]],
    size: u64,
) -> anyhow::Result<()> {
    let name = output.name();
    output
        .drop_cache()
        .with_context(|| format!("dropping what is cached of {name}"))?;
    let mut raw = Buffer::new(PIECE);
    let mut at = 0;
    let pieces = std::iter::once(*blake3::hash(head).as_bytes()).chain(hashes.iter().copied());
    for hash in pieces {
        let length = usize::try_from(size - at).unwrap_or(PIECE).min(PIECE);
        let raw = &mut raw[..length];
        output
            .read_exact_at(raw, at)
            .with_context(|| format!("reading {name} back at {at}"))?;
        if *blake3::hash(raw).as_bytes() != hash {
            bail!("{name} does not read back as written at {at}: replace the disk");
        }
        at += length as u64;
    }
    Ok(())
}
