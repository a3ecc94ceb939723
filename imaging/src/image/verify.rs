//! Looking at an image without restoring it.

use super::codec::{Inflater, is_zero};
use super::format::{FOOTER, parse_footer};
use super::index::{Index, Item};
use super::member_header::begins_like_indexed;
use super::member_reader::{LoadedIndex, MemberReader, load, open_chunk};
use super::workers::{Meter, WorkerPool, lock};
use super::{ImageMeta, ImageSource};
use super::{MinimumDisk, foreign, larger_disk};
use crate::event::{Act, Reporter};
use anyhow::{Context, bail};
use std::io::Read;
use std::sync::Mutex;

/// What sort of image a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// With an index: `docs/image-format.md`.
    Pitstop,
    Gzip,
    Xz,
    Zstd,
    Raw,
}

/// What a cheap look at an image tells.
#[derive(Debug, Clone)]
pub struct Probe {
    pub kind: Kind,
    /// Raw bytes, where the format tells.
    pub raw_size: Option<u64>,
    /// The smallest disk that it can be restored to, as far as its index tells.
    pub minimum_disk: Option<MinimumDisk>,
    /// Only of an image with an index.
    pub meta: Option<ImageMeta>,
}

/// Proof that every chunk of an image was seen and found right. Only a whole pass makes one.
#[derive(Debug, Clone)]
pub struct Verified {
    bytes: u64,
    checksums: bool,
}

impl Verified {
    /// To be called where a pass over all of an image ends.
    pub(super) fn of(bytes: u64) -> Self {
        Self {
            bytes,
            checksums: true,
        }
    }

    /// Raw bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the image has any: without, all that was seen is that its bytes can be read.
    pub fn has_checksums(&self) -> bool {
        self.checksums
    }
}

/// An image, with its index if it has one.
pub enum OpenedImage {
    Indexed(Box<LoadedIndex>),
    Foreign { kind: Kind, raw_size: Option<u64> },
}

/// Reads the beginning of `image`, and its index if it should have one.
pub fn open(image: &dyn ImageSource) -> anyhow::Result<OpenedImage> {
    let mut start = [0; 20];
    let wanted = usize::try_from(image.size()).map_or(start.len(), |size| size.min(start.len()));
    let start = &mut start[..wanted];
    image
        .read_exact_at(start, 0)
        .with_context(|| format!("reading {}", image.name()))?;
    // One of ours whose first bytes are damaged must not pass for an image of another tool.
    if begins_like_indexed(start) || ends_like_indexed(image)? {
        return load(image).map(|loaded| OpenedImage::Indexed(Box::new(loaded)));
    }
    let kind = foreign::kind(start);
    if kind == Kind::Raw
        && let Some(format) = packed_by_name(image.name())
    {
        bail!(
            "{} is not a {format} file, whatever its name says",
            image.name()
        );
    }
    foreign::check(image, kind)?;
    let raw_size = foreign::raw_size(image, kind)?;
    Ok(OpenedImage::Foreign { kind, raw_size })
}

/// Whether a sound footer ends `image`.
fn ends_like_indexed(image: &dyn ImageSource) -> anyhow::Result<bool> {
    let mut footer = [0; FOOTER];
    let size = image.size();
    let Some(at) = size.checked_sub(FOOTER as u64) else {
        return Ok(false);
    };
    image
        .read_exact_at(&mut footer, at)
        .with_context(|| format!("reading the end of {}", image.name()))?;
    Ok(parse_footer(&footer, size).is_ok())
}

/// What the name says an image is packed with. A server's error page, a file of zeros that a crash left: anything is
/// a raw image, so that a name that says otherwise is believed.
fn packed_by_name(name: &str) -> Option<&'static str> {
    // A path may have these characters as any others.
    let path = if name.contains("://") {
        name.split('?').next().unwrap_or(name)
    } else {
        name
    };
    let (_, suffix) = path.rsplit_once('.')?;
    [("gz", "gzip"), ("xz", "xz"), ("zst", "zstd")]
        .into_iter()
        .find(|(known, _)| *known == suffix)
        .map(|(_, format)| format)
}

/// Looks at the beginning and the end of `image`: two or three small reads.
///
/// # Errors
/// When it cannot be read, is empty, or should have an index that is not whole: it is cut short,
/// damaged, or something follows its end.
pub fn probe(image: &dyn ImageSource) -> anyhow::Result<Probe> {
    Ok(match open(image)? {
        OpenedImage::Indexed(loaded) => Probe {
            kind: Kind::Pitstop,
            raw_size: Some(loaded.index.raw_size()),
            minimum_disk: Some(larger_disk::minimum_disk(&loaded)),
            meta: Some(loaded.meta),
        },
        OpenedImage::Foreign { kind, raw_size } => Probe {
            kind,
            raw_size,
            minimum_disk: raw_size.map(MinimumDisk::of),
            meta: None,
        },
    })
}

/// Reads all of `image` and checks every chunk, on `threads` cores, 0 for all. Of a foreign image
/// only its own checksums can be checked; a raw one has none.
///
/// # Errors
/// The first wrong chunk, named with its place.
pub fn verify(
    image: &dyn ImageSource,
    threads: usize,
    reporter: &dyn Reporter,
) -> anyhow::Result<Verified> {
    match open(image)? {
        OpenedImage::Indexed(loaded) => verify_indexed(image, &loaded, threads, reporter),
        OpenedImage::Foreign { kind, raw_size } => {
            let meter = Meter::new(Act::Verify, image.name(), raw_size, reporter);
            let mut decoder = foreign::Decoder::open(image, kind)?;
            let mut buffer = vec![0; 1 << 20];
            let mut bytes = 0;
            loop {
                let read = decoder.read(&mut buffer);
                let read = read.with_context(|| format!("{} at raw byte {bytes}", image.name()))?;
                if read == 0 {
                    break;
                }
                bytes += read as u64;
                meter.done(read as u64);
            }
            foreign::check_size(image, kind, raw_size, bytes)?;
            decoder.warn_of_trailing(image, reporter);
            Ok(Verified {
                bytes,
                checksums: foreign::has_checksums(image, kind)?,
            })
        }
    }
}

fn verify_indexed(
    image: &dyn ImageSource,
    loaded: &LoadedIndex,
    threads: usize,
    reporter: &dyn Reporter,
) -> anyhow::Result<Verified> {
    let index = &loaded.index;
    let size = index.raw_size();
    let meter = Meter::new(Act::Verify, image.name(), Some(size), reporter);
    let (chunk, bound) = (index.chunk_bytes(), index.largest_member());
    let members = Mutex::new(MemberReader::new(image, index, true));
    let pool = WorkerPool::new(threads, chunk + bound);
    pool.run(|| {
        let mut member = vec![0; bound];
        let mut raw = vec![0; chunk];
        let mut inflater = Inflater::new()?;
        while !pool.stopped() {
            let next = lock(&members).next(&mut member)?;
            let _permit = pool.cpu_permit();
            match next {
                None => break,
                Some(Item::Zeros { first, count, .. }) => {
                    check_zeros(index, &mut inflater, &member, &mut raw, count)
                        .with_context(|| format!("zero chunks from {first} in {}", image.name()))?;
                    meter.done(count * chunk as u64);
                }
                Some(Item::Chunk(chunk)) => {
                    let member = &member[..usize::try_from(chunk.size)?];
                    let raw = &mut raw[..index.length(chunk.number)];
                    open_chunk(&mut inflater, &chunk, member, raw)
                        .with_context(|| index.place(&chunk, image.name()))?;
                    meter.done(raw.len() as u64);
                }
            }
        }
        Ok(())
    })?;
    if index.hash().to_string() != loaded.meta.blake3 {
        bail!(
            "{}: the hash in its metadata is not that of its chunks",
            image.name()
        );
    }
    Ok(Verified::of(size))
}

/// Checks `count` members of zeros: the first by inflating it, the others against the first.
fn check_zeros(
    index: &Index,
    inflater: &mut Inflater,
    members: &[u8],
    raw: &mut [u8],
    count: u64,
) -> anyhow::Result<()> {
    let size = usize::try_from(index.zero_member())?;
    let members = &members[..size * usize::try_from(count)?];
    let first = &members[..size];
    inflater.member(first, raw)?;
    if !is_zero(raw) {
        bail!("the first does not hold zeros");
    }
    match members.chunks_exact(size).position(|one| one != first) {
        None => Ok(()),
        Some(at) => bail!("the one {at} further differs from the first"),
    }
}
