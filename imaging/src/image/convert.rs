//! Converting an image to another format, chunk by chunk, without a disk in between.

use super::again::Out;
use super::chunk_size::chunk_size_of;
use super::chunk_stream::ChunkStream;
use super::encode::{ChunkSource, Content, Encoding, Ticketed, encode};
use super::foreign::{Decoder, read_full};
use super::opened_image::{Contents, Foreign, OpenedImage};
use super::proof::StreamPass;
use super::workers::{Meter, lock};
use super::{ImageMeta, ImageSource, Kind, Level};
use crate::event::{Act, Reporter};
use crate::extents::Extents;
use crate::inventory::DiskIdentity;
use crate::table::gpt_sector_size;
use anyhow::Context;
use std::io::{self, Read, Write};
use std::sync::Mutex;

/// Raw bytes moved at once.
const PIECE: usize = 1 << 20;

/// Rewrites any image as one with an index, on `threads` cores, 0 for all. What a foreign image does
/// not tell of its disk stays empty in the metadata.
///
/// # Errors
/// When the image is not whole or `out` fails: drop what was written then.
pub fn to_indexed(
    image: &dyn ImageSource,
    level: Level,
    threads: usize,
    out: &mut (dyn Write + Send),
    reporter: &dyn Reporter,
) -> anyhow::Result<ImageMeta> {
    let opened = OpenedImage::borrow(image)?;
    let raw_size = opened.raw_size();
    let mut meta = match opened.contents() {
        Contents::Indexed(loaded) => loaded.meta.clone(),
        Contents::Foreign(Foreign { kind, .. }) => {
            // Of what does not tell its size, so much is known that it has.
            let least = raw_size.unwrap_or_else(|| image.size());
            let all = Extents::single(0..least);
            let chunk_size = chunk_size_of(least, &all)
                .with_context(|| format!("{} holds more than an image can", image.name()))?;
            let mut disk = nobody(image.name());
            disk.logical_sector_size = sector_size(image, *kind)?;
            ImageMeta::new(disk, chunk_size, true)
        }
    };
    let meter = Meter::new(Act::Convert, image.name(), raw_size, reporter);
    let encoding = Encoding {
        chunk_size: meta.chunk_size,
        level,
        threads,
        levels: None,
    };
    let source = FromStream(Mutex::new(Stream {
        raw: RawBytes::of(&opened)?,
        ticket: 0,
        ended: false,
    }));
    let what = || format!("converting {}", image.name());
    let encoded = encode(&source, &encoding, Out::New(out), &meter).with_context(what)?;
    lock(&source.0).raw.check_end(&opened, reporter)?;
    if opened.indexed().is_none() {
        meta.kept = encoded.raw();
    }
    encoded.finish(&mut meta).with_context(what)?;
    Ok(meta)
}

/// Rewrites any image as one zstd frame.
///
/// # Errors
/// When the image is not whole or `out` fails: drop what was written then.
pub fn to_zstd(
    image: &dyn ImageSource,
    threads: u32,
    out: &mut (dyn Write + Send),
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    const LEVEL: i32 = 3;
    let opened = OpenedImage::borrow(image)?;
    let raw_size = opened.raw_size();
    let mut decoder = RawBytes::of(&opened)?;
    let meter = Meter::new(Act::Convert, image.name(), raw_size, reporter);
    let mut encoder = zstd::Encoder::new(out, LEVEL).context("setting up zstd")?;
    encoder
        .include_checksum(true)
        .and_then(|()| encoder.multithread(threads))
        .context("setting up zstd")?;
    let mut buffer = vec![0; PIECE];
    let mut raw = 0;
    loop {
        let read = decoder
            .read(&mut buffer)
            .with_context(|| format!("{} at raw byte {raw}", image.name()))?;
        if read == 0 {
            break;
        }
        encoder
            .write_all(&buffer[..read])
            .context("writing the zstd image")?;
        raw += read as u64;
        meter.done(read as u64);
    }
    decoder.check_end(&opened, reporter)?;
    let out = encoder.finish().context("writing the zstd image")?;
    out.flush().context("writing the zstd image")
}

/// Bytes of the sectors that a GPT in `image` counts in, else as most disks have them.
fn sector_size(image: &dyn ImageSource, kind: Kind) -> anyhow::Result<u32> {
    let mut head = [0; 2 * 4096];
    let read = read_full(&mut Decoder::open(image, kind)?, &mut head);
    let length = read.with_context(|| format!("reading the beginning of {}", image.name()))?;
    Ok(gpt_sector_size(&head[..length]).unwrap_or(512))
}

/// The disk of an image that does not say whose it is.
fn nobody(name: &str) -> DiskIdentity {
    let file = name.rsplit('/').next().unwrap_or(name);
    DiskIdentity {
        device: file.split('.').next().unwrap_or(file).to_owned(),
        model: String::new(),
        serial: String::new(),
        wwn: String::new(),
        transport: String::new(),
        size: 0,
        logical_sector_size: 512,
        physical_sector_size: 512,
    }
}

/// The raw bytes of any image, from the first to the proven last.
enum RawBytes<'a> {
    Chunks(ChunkStream<'a>),
    Foreign(StreamPass<Decoder<'a>>),
}

impl<'a> RawBytes<'a> {
    fn of(opened: &'a OpenedImage) -> anyhow::Result<Self> {
        let image = opened.source();
        Ok(match opened.contents() {
            Contents::Indexed(loaded) => Self::Chunks(ChunkStream::new(image, &loaded.index)?),
            Contents::Foreign(Foreign { kind, .. }) => {
                Self::Foreign(StreamPass::new(Decoder::open(image, *kind)?))
            }
        })
    }

    /// Whether all was read and right, and tells what follows the data.
    fn check_end(&self, opened: &OpenedImage, reporter: &dyn Reporter) -> anyhow::Result<()> {
        let Self::Foreign(pass) = self else {
            return Ok(());
        };
        let (image, kind) = (opened.source(), opened.kind());
        pass.verified(image.name(), kind, opened.raw_size())?;
        pass.inner().warn_of_trailing(image, reporter);
        Ok(())
    }
}

impl Read for RawBytes<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Chunks(chunks) => chunks.read(buf),
            Self::Foreign(pass) => pass.read(buf),
        }
    }
}

struct FromStream<'a>(Mutex<Stream<'a>>);

struct Stream<'a> {
    raw: RawBytes<'a>,
    ticket: u64,
    ended: bool,
}

impl ChunkSource for FromStream<'_> {
    fn next(&self, raw: &mut [u8]) -> anyhow::Result<Option<Ticketed>> {
        let mut stream = lock(&self.0);
        if stream.ended {
            return Ok(None);
        }
        let length = read_full(&mut stream.raw, raw).context("decoding")?;
        stream.ended = length < raw.len();
        if length == 0 {
            return Ok(None);
        }
        let ticket = stream.ticket;
        stream.ticket += 1;
        let content = Content::Chunk(length);
        Ok(Some(Ticketed { ticket, content }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Silent;
    use crate::image::FileSource;
    use crate::image::index::Item;
    use std::fs;
    use std::path::Path;

    fn converted(from: &Path, to: &Path, level: Level) {
        let mut bytes = Vec::new();
        to_indexed(
            &FileSource::open(from).unwrap(),
            level,
            2,
            &mut bytes,
            &Silent,
        )
        .unwrap();
        fs::write(to, bytes).unwrap();
    }

    /// Text, zeros, text, and a shorter end.
    fn disk() -> Vec<u8> {
        let mut raw: Vec<u8> = (0..120_000)
            .flat_map(|line| format!("{line} of {}\n", line % 97).into_bytes())
            .collect();
        raw.truncate(1 << 20);
        let odd = raw[..137 * 512].to_vec();
        [raw.clone(), vec![0; 2 << 20], raw, odd].concat()
    }

    /// The hashes of all chunks, in order; `None` of zeros.
    fn hashes(image: &OpenedImage) -> Vec<Option<[u8; 32]>> {
        let index = &image.indexed().unwrap().index;
        let hash = |item| match item {
            Item::Chunk(chunk) => Some(chunk.hash),
            Item::Zeros { .. } => None,
        };
        index.items().map(hash).collect()
    }

    #[test]
    fn an_image_compressed_again_has_the_same_chunks_and_another_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let raw = disk();
        fs::write(path("raw"), &raw).unwrap();
        converted(&path("raw"), &path("fast.gz"), Level::Fast);
        converted(&path("fast.gz"), &path("small.gz"), Level::Small);
        let (fast, small) = (path("fast.gz"), path("small.gz"));
        let (fast, small) = (FileSource::open(&fast), FileSource::open(&small));
        let (fast, small) = (fast.unwrap(), small.unwrap());
        let fast = OpenedImage::borrow(&fast).unwrap();
        let small = OpenedImage::borrow(&small).unwrap();
        assert_eq!(hashes(&fast), hashes(&small));
        // All that stands beside an image of it stays, but for what names the image itself.
        assert_eq!(fast.meta(), small.meta());
        assert_ne!(fast.digest(), small.digest());
        let mut back = Vec::new();
        RawBytes::of(&small)
            .unwrap()
            .read_to_end(&mut back)
            .unwrap();
        assert!(back == raw, "other bytes");
    }
}
