//! An image goes back to a disk. What could boot is written last, and only when all else is proven.

use super::codec::{Inflater, MemberError};
use super::index::{Chunk, Index, Item};
use super::member_reader::{LoadedIndex, MemberReader, open_chunk};
use super::verify::{OpenedImage, Verified};
use super::workers::{Meter, WorkerPool, lock};
use super::{Delta, ImageMeta, ImageSource, RestoreOptions, delta, readback};
use crate::disk::{Buffer, Output};
use crate::event::{Act, Reporter};
use crate::table::{TableKind, TableWrite};
use crate::units;
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// So much of the beginning and of the end of a disk, where partition tables and boot loaders are.
pub const TABLES: u64 = 1 << 20;

/// What a restore did. All counts are raw bytes of the disk unless said.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// The size of the image.
    pub size: u64,
    /// Written as data.
    pub written: u64,
    /// Zeroed: discarded, punched or written.
    pub zeroed: u64,
    /// Found on the target already.
    pub unchanged: u64,
    /// Bytes read from the image.
    pub transferred: u64,
    /// Whether the target was read back and found right.
    pub verified: bool,
    /// What the image says of itself; `None` for a foreign one.
    pub meta: Option<ImageMeta>,
}

/// Whether the target ends before the image does, which has an index and a table that tell what of its end is free.
pub fn is_larger(opened: &OpenedImage, output: &dyn Output) -> bool {
    let OpenedImage::Indexed(loaded) = opened else {
        return false;
    };
    let has_table = loaded.meta.table.kind != TableKind::None.name();
    let limit = output.limit();
    has_table && limit.is_some_and(|has| has < loaded.index.raw_size())
}

/// Refuses a target that is too small.
pub fn check_fits(output: &dyn Output, needed: u64) -> anyhow::Result<()> {
    match output.limit() {
        Some(has) if has < needed => bail!(
            "{} is too small: it has {has} bytes ({}), the image needs {needed} ({})",
            output.name(),
            units::bytes(has),
            units::bytes(needed)
        ),
        _ => Ok(()),
    }
}

/// Makes a disk unbootable before its first other byte is written.
pub fn invalidate(output: &dyn Output, size: Option<u64>) -> anyhow::Result<()> {
    if output.is_blank() {
        return Ok(());
    }
    let zeros = Buffer::new(usize::try_from(TABLES)?);
    let end = size.or(output.limit()).unwrap_or(TABLES);
    let tail = size.map(|size| size.saturating_sub(TABLES)..size);
    for place in std::iter::once(0..TABLES.min(end)).chain(tail) {
        let length = usize::try_from(place.end - place.start)?;
        output
            .write_at(&zeros[..length], place.start)
            .with_context(|| writing(output, place.start))?;
    }
    flush(output)
}

/// `writing /dev/sda at 41943040`
pub fn writing(output: &dyn Output, at: u64) -> String {
    format!("writing {} at {at}", output.name())
}

pub fn flush(output: &dyn Output) -> anyhow::Result<()> {
    output
        .flush()
        .with_context(|| format!("flushing {}", output.name()))
}

/// Writes pieces of tables and waits until they are safe.
pub fn write_table(output: &dyn Output, pieces: &[TableWrite]) -> anyhow::Result<()> {
    for (at, bytes) in pieces {
        output
            .write_at(bytes, *at)
            .with_context(|| writing(output, *at))?;
    }
    flush(output)
}

/// A restore under way.
pub struct Restoring<'a> {
    pub image: &'a dyn ImageSource,
    pub index: &'a Index,
    pub output: &'a dyn Output,
    pub meter: &'a Meter<'a>,
    /// Chunks that are proven but must wait: where the tables are.
    held: Mutex<BTreeMap<u64, Vec<u8>>>,
    pub written: AtomicU64,
    pub zeroed: AtomicU64,
    pub unchanged: AtomicU64,
}

/// Writes an image with an index to `output`.
pub fn restore_indexed(
    image: &dyn ImageSource,
    loaded: LoadedIndex,
    output: &dyn Output,
    options: &RestoreOptions,
    reporter: &dyn Reporter,
) -> anyhow::Result<Restored> {
    let LoadedIndex { index, meta } = loaded;
    let size = index.raw_size();
    check_fits(output, size)?;
    output.set_size(size)?;
    let compare = match options.delta {
        _ if output.is_blank() => false,
        Delta::Off => false,
        Delta::On => true,
        Delta::Auto => delta::worth_comparing(&index, output),
    };
    if compare && options.delta == Delta::Auto {
        reporter.info(format!(
            "{} has much of the image already: only what differs is moved",
            output.name()
        ));
    }
    let meter = Meter::new(Act::Restore, output.name(), Some(index.walked()), reporter);
    let restoring = Restoring {
        image,
        index: &index,
        output,
        meter: &meter,
        held: Mutex::default(),
        written: AtomicU64::new(0),
        zeroed: AtomicU64::new(0),
        unchanged: AtomicU64::new(0),
    };
    let what = || format!("restoring {} to {}", image.name(), output.name());
    restoring.run(compare, options.threads).with_context(what)?;
    if options.verify {
        readback::verify(&restoring, options.threads, reporter).with_context(what)?;
    }
    Ok(Restored {
        size,
        written: restoring.written.into_inner(),
        zeroed: restoring.zeroed.into_inner(),
        unchanged: restoring.unchanged.into_inner(),
        transferred: meter.transferred(),
        verified: options.verify,
        meta: Some(meta),
    })
}

impl Restoring<'_> {
    fn run(&self, compare: bool, threads: usize) -> anyhow::Result<()> {
        invalidate(self.output, Some(self.index.raw_size()))?;
        if compare {
            delta::run(self, threads)?;
        } else {
            self.stream(threads)?;
        }
        flush(self.output)?;
        // Every chunk was inflated and matched its hash, or was found on the target as it should be.
        let verified = Verified::of(self.index.raw_size());
        self.write_held(&verified)?;
        flush(self.output)
    }

    /// One pass over the image, every chunk of it.
    fn stream(&self, threads: usize) -> anyhow::Result<()> {
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
        let proven = open_chunk(inflater, chunk, member, raw);
        drop(permit);
        if let Err(error) = proven {
            self.read_again(inflater, chunk, raw, &error)?;
        }
        let length = raw.len() as u64;
        if self.is_held(chunk.number) {
            lock(&self.held).insert(chunk.number, raw.to_vec());
        } else {
            self.write(raw, self.index.position(chunk.number))?;
        }
        self.meter.done(length);
        Ok(())
    }

    /// What came wrong may have been changed on its way: TCP's sum misses one in 65,536 of what Ethernet's misses.
    fn read_again(
        &self,
        inflater: &mut Inflater,
        chunk: &Chunk,
        raw: &mut [u8],
        error: &MemberError,
    ) -> anyhow::Result<()> {
        let place = self.index.place(chunk, self.image.name());
        self.meter
            .warn(format!("{place}: {error}: it is read once more"));
        let mut member = vec![0; usize::try_from(chunk.size)?];
        self.image
            .read_exact_at(&mut member, chunk.offset)
            .with_context(|| format!("reading {place}"))?;
        self.meter.moved(member.len() as u64);
        open_chunk(inflater, chunk, &member, raw).context(place)
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
    fn write_held(&self, _proof: &Verified) -> anyhow::Result<()> {
        let held = std::mem::take(&mut *lock(&self.held));
        for (number, raw) in held.into_iter().rev() {
            if number == 0 {
                flush(self.output)?;
            }
            let mut aligned = Buffer::new(raw.len());
            aligned.copy_from_slice(&raw);
            self.write(&aligned, self.index.position(number))?;
        }
        Ok(())
    }
}
