//! Entries to an image: read and compressed on every core, written in order, the index at the end.
//!
//! Small entries stand whole in groups. A larger file is cut into parts, each a member of its own, so that all threads work
//! at one file, and a change of it costs one part.

mod group;
mod parts;
mod work;

pub use parts::{hash_part, join};

use crate::entry::Entry;
use crate::header::END;
use crate::index::{Index, IndexError, Member, Placed, decode, encode};
use crate::meta::{FORMAT, Meta};
use anyhow::{Context, anyhow, bail};
use pitstop_imaging::image::Level;
use pitstop_imaging::image::members::{
    Deflater, Doing, Effort, INDEX_MOST, Meter, Sequencer, WorkerPool, member_bound, seal,
};
use std::io::{self, Write};
use std::sync::Arc;

/// The most of headers and data that a group has.
pub const GROUP: usize = 256 << 10;
/// The data of a part.
pub const PART: u64 = 1 << 20;

/// Where entries come from, in the order of the tree. Called from several threads.
pub trait Source: Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// About how many bytes of data an entry has.
    fn size(&self, number: usize) -> u64;

    /// Whether an entry is a folder, whose contents follow.
    fn is_folder(&self, number: usize) -> bool;

    /// The entry as it is now, and its data.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self, number: usize) -> anyhow::Result<Option<Found>>;

    /// What the image says of itself, once everything was read.
    ///
    /// # Errors
    /// When what happened meanwhile forbids the image.
    fn finish(&self, meta: &mut Meta) -> anyhow::Result<()>;
}

/// An entry, whose hash is not known yet, with its data.
pub struct Found {
    pub entry: Entry,
    pub data: Data,
}

pub enum Data {
    None,
    /// The whole of a small file, without its holes.
    Bytes(Vec<u8>),
    Stream(Arc<dyn Contents>),
}

/// The data of a large file, without its holes.
pub trait Contents: Send + Sync {
    /// Fills `buffer` from byte `at` of the data on.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&self, buffer: &mut [u8], at: u64) -> io::Result<()>;

    /// All of it was read.
    ///
    /// # Errors
    /// When it cannot be told whether it changed.
    fn done(&self) -> anyhow::Result<()>;
}

/// What packing spends at least, against the fastest way to compress, so that an image is not much larger than what `gzip -1`
/// makes of the tar. `bench/trees` holds both sizes and times against each other.
const EFFORT: f64 = 1.72;

/// How to pack.
#[derive(Debug, Clone, Copy)]
pub struct Packing {
    pub level: Level,
    /// Cores, 0 for all.
    pub threads: usize,
}

/// Writes the image of `source` to `out`. Returns what is stored beside it.
///
/// # Errors
/// When something cannot be read or written, or the image would be none that a reader takes.
pub fn pack(
    source: &dyn Source,
    packing: Packing,
    mut meta: Meta,
    out: &mut (dyn Write + Send),
    meter: &Meter,
) -> anyhow::Result<Meta> {
    let packed = pack_members(source, packing, out, meter)?;
    meta.format = FORMAT;
    meta.entries = packed.placed.len() as u64;
    meta.bytes = packed
        .placed
        .iter()
        .map(|placed| placed.entry.kind.stored())
        .sum();
    pitstop_version(&mut meta);
    source.finish(&mut meta)?;
    let index = Index::new(packed.members, packed.placed, meta.to_toml()?).map_err(none)?;
    let (blob, size) = (encode(&index), index.data_size());
    drop(index);
    // An image that nobody can read is none, however well it was written.
    decode(&blob, size).map_err(none)?;
    let tail = seal(&blob, size);
    if tail.len() as u64 > INDEX_MOST {
        bail!("the tree has more files than the index of an image has room for");
    }
    packed
        .out
        .write_all(&tail)
        .and_then(|()| packed.out.flush())
        .context("writing the image's index")?;
    meta.index = crate::image::digest_text(blake3::hash(&blob).as_bytes());
    Ok(meta)
}

/// What is wrong with an index that was made here.
fn none(error: IndexError) -> anyhow::Error {
    match error {
        IndexError::Wrong(why) => anyhow!("the index of the new image: {why}"),
        IndexError::Version(_) => error.into(),
    }
}

fn pitstop_version(meta: &mut Meta) {
    meta.pitstop = env!("CARGO_PKG_VERSION").into();
    if meta.created.is_empty() {
        let now = jiff::Timestamp::now();
        meta.created = jiff::fmt::temporal::DateTimePrinter::new()
            .precision(Some(0))
            .timestamp_to_string(&now);
    }
}

/// Members on their way to the file, and what the index will say of them.
struct Packed<'a> {
    out: &'a mut (dyn Write + Send),
    meter: &'a Meter<'a>,
    members: Vec<Member>,
    placed: Vec<Placed>,
    /// Hashes of the parts of the file that is being written.
    parts: Vec<[u8; 32]>,
}

fn pack_members<'a>(
    source: &dyn Source,
    packing: Packing,
    out: &'a mut (dyn Write + Send),
    meter: &'a Meter<'a>,
) -> anyhow::Result<Packed<'a>> {
    let sequencer = Sequencer::new(Packed {
        out,
        meter,
        members: Vec::new(),
        placed: Vec::new(),
        parts: Vec::new(),
    });
    let part = usize::try_from(PART)?;
    let pool = WorkerPool::new(packing.threads, 2 * (part + member_bound(part)));
    let effort = Effort::new(packing.level, packing.threads).at_least(EFFORT);
    let queue = work::Queue::new(source);
    pool.run(|| {
        let mut maker = MemberMaker::new(&effort);
        while let Some((ticket, work)) = queue.next()? {
            if pool.stopped() {
                break;
            }
            maker.begin();
            let made = match &work {
                work::Work::Group(range) => group::make(source, range.clone(), &mut maker)?,
                work::Work::Part(part) => parts::make(part, &mut maker)?,
            };
            let written = sequencer.run(ticket, &pool, |packed| {
                let _writing = effort.doing(Doing::Writing);
                packed.take(made, maker.made())
            });
            match written {
                None => break,
                Some(written) => written.context("writing the image")?,
            }
        }
        Ok(())
    })?;
    let mut packed = sequencer.into_inner();
    let mut maker = MemberMaker::new(&effort);
    let end = Made {
        members: vec![maker.member(&[0; END])],
        ..Made::default()
    };
    packed
        .take(end, maker.made())
        .context("writing the image")?;
    Ok(packed)
}

/// What one piece of work became.
#[derive(Default)]
struct Made {
    members: Vec<Member>,
    placed: Vec<Placed>,
    part: Option<parts::Hashed>,
    /// Bytes of files.
    data: u64,
}

impl Packed<'_> {
    /// `bytes`: all of its members.
    fn take(&mut self, made: Made, bytes: &[u8]) -> anyhow::Result<()> {
        self.out.write_all(bytes)?;
        self.meter.moved(bytes.len() as u64);
        self.members.extend(made.members);
        self.placed.extend(made.placed);
        if let Some(part) = made.part {
            self.parts.push(part.hash);
            if part.last
                && let Some(placed) = self.placed.last_mut()
            {
                parts::set_hash(&mut placed.entry, &std::mem::take(&mut self.parts));
            }
        }
        if made.data > 0 {
            self.meter.done(made.data);
        }
        Ok(())
    }
}

/// Makes members, with buffers that live as long as their thread.
struct MemberMaker<'a> {
    effort: &'a Effort,
    deflater: Deflater,
    /// Members of one piece of work, so many bytes of it.
    buffer: Vec<u8>,
    used: usize,
    raw: Vec<u8>,
}

impl<'a> MemberMaker<'a> {
    fn new(effort: &'a Effort) -> Self {
        Self {
            effort,
            deflater: Deflater::default(),
            buffer: Vec::new(),
            used: 0,
            raw: Vec::new(),
        }
    }

    /// Another piece of work.
    fn begin(&mut self) {
        self.used = 0;
    }

    /// All members since it began.
    fn made(&self) -> &[u8] {
        &self.buffer[..self.used]
    }

    fn member(&mut self, raw: &[u8]) -> Member {
        let _computing = self.effort.doing(Doing::Computing);
        let room = self.used + member_bound(raw.len());
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
        let out = &mut self.buffer[self.used..];
        let size = self.effort.member(&mut self.deflater, raw, out);
        self.used += size;
        Member {
            // Members are far smaller than 4 GiB: a part, or a group with one header.
            size: u32::try_from(size).unwrap_or(u32::MAX),
            raw: u32::try_from(raw.len()).unwrap_or(u32::MAX),
            hash: *blake3::hash(raw).as_bytes(),
        }
    }
}
