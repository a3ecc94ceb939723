//! Converting an image to another format, chunk by chunk, without a disk in between.

use super::chunk_size::chunk_size_of;
use super::encode::{ChunkSource, Content, Encoding, Ticketed, encode};
use super::foreign::{Decoder, check_size, read_full};
use super::verify::{Kind, OpenedImage, open};
use super::workers::{Meter, lock};
use super::{ImageMeta, ImageSource, Level};
use crate::event::{Act, Reporter};
use crate::extents::Extents;
use crate::inventory::DiskIdentity;
use crate::table::gpt_sector_size;
use anyhow::Context;
use std::io::{Read, Write};
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
    let opened = open(image)?;
    let (decoder, raw_size, mut meta) = match &opened {
        OpenedImage::Indexed(loaded) => (
            Decoder::of_chunks(image, loaded)?,
            Some(loaded.index.raw_size()),
            loaded.meta.clone(),
        ),
        OpenedImage::Foreign { kind, raw_size } => {
            // Of what does not tell its size, so much is known that it has.
            let least = raw_size.unwrap_or_else(|| image.size());
            let all = Extents::single(0..least);
            let chunk_size = chunk_size_of(least, &all)
                .with_context(|| format!("{} holds more than an image can", image.name()))?;
            let mut disk = nobody(image.name());
            disk.logical_sector_size = sector_size(image, *kind)?;
            let meta = ImageMeta::new(disk, chunk_size, true);
            (Decoder::open(image, *kind)?, *raw_size, meta)
        }
    };
    let meter = Meter::new(Act::Convert, image.name(), raw_size, reporter);
    let encoding = Encoding {
        chunk_size: meta.chunk_size,
        level,
        threads,
    };
    let source = FromStream(Mutex::new(Stream {
        decoder,
        ticket: 0,
        ended: false,
    }));
    let what = || format!("converting {}", image.name());
    let encoded = encode(&source, &encoding, out, &meter).with_context(what)?;
    if let OpenedImage::Foreign { kind, raw_size } = &opened {
        check_size(image, *kind, *raw_size, encoded.raw())?;
        lock(&source.0).decoder.warn_of_trailing(image, reporter);
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
    let opened = open(image)?;
    let (mut decoder, raw_size) = match &opened {
        OpenedImage::Indexed(loaded) => (
            Decoder::of_chunks(image, loaded)?,
            Some(loaded.index.raw_size()),
        ),
        OpenedImage::Foreign { kind, raw_size } => (Decoder::open(image, *kind)?, *raw_size),
    };
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
    if let OpenedImage::Foreign { kind, raw_size } = &opened {
        check_size(image, *kind, *raw_size, raw)?;
        decoder.warn_of_trailing(image, reporter);
    }
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

struct FromStream<'a>(Mutex<Stream<'a>>);

struct Stream<'a> {
    decoder: Decoder<'a>,
    ticket: u64,
    ended: bool,
}

impl ChunkSource for FromStream<'_> {
    fn next(&self, raw: &mut [u8]) -> anyhow::Result<Option<Ticketed>> {
        let mut stream = lock(&self.0);
        if stream.ended {
            return Ok(None);
        }
        let length = read_full(&mut stream.decoder, raw).context("decoding")?;
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
