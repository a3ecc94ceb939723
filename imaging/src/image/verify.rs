//! Checking an image without restoring it.

use super::codec::Inflater;
use super::index::Item;
use super::loaded_index::LoadedIndex;
use super::member_reader::MemberReader;
use super::opened_image::{Contents, Foreign, OpenedImage};
use super::proof::{ChunkPass, StreamPass, Verified};
use super::workers::{Meter, WorkerPool, lock};
use super::{ImageError, ImageSource, foreign};
use crate::event::{Act, Reporter};
use anyhow::{Context, bail};
use std::io::Read;
use std::sync::Mutex;

/// Reads all of `image` and checks every chunk, on `threads` cores, 0 for all. Of a foreign image
/// only its own checksums can be checked; a raw one has none.
///
/// # Errors
/// The first wrong chunk, named with its place.
pub fn verify(
    image: &dyn ImageSource,
    threads: usize,
    reporter: &dyn Reporter,
) -> Result<Verified, ImageError> {
    verify_opened(&OpenedImage::borrow(image)?, threads, reporter)
}

/// [`verify`] of an image that is open: by the very index that somebody has looked at before.
///
/// # Errors
/// As there.
pub fn verify_opened(
    opened: &OpenedImage<'_>,
    threads: usize,
    reporter: &dyn Reporter,
) -> Result<Verified, ImageError> {
    let image = opened.source();
    let verified = match opened.contents() {
        Contents::Indexed(loaded) => verify_indexed(image, loaded, threads, reporter),
        Contents::Foreign(stream) => verify_foreign(image, stream, reporter),
    };
    verified.map_err(ImageError::unusable)
}

fn verify_foreign(
    image: &dyn ImageSource,
    Foreign { kind, raw_size, .. }: &Foreign,
    reporter: &dyn Reporter,
) -> anyhow::Result<Verified> {
    let meter = Meter::new(Act::Verify, image.name(), *raw_size, reporter);
    let mut pass = StreamPass::new(foreign::Decoder::open(image, *kind)?);
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = pass.read(&mut buffer);
        let read = read.with_context(|| format!("{} at raw byte {bytes}", image.name()))?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        meter.done(read as u64);
    }
    let verified = pass.verified(image.name(), *kind, *raw_size)?;
    pass.inner().warn_of_trailing(image, reporter);
    Ok(verified.with_checksums(foreign::has_checksums(image, *kind)?))
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
    let pass = ChunkPass::new(index);
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
                    pass.zero_members(&mut inflater, &member, &mut raw, count)
                        .with_context(|| format!("zero chunks from {first} in {}", image.name()))?;
                    meter.done(count * chunk as u64);
                }
                Some(Item::Chunk(chunk)) => {
                    let member = &member[..usize::try_from(chunk.size)?];
                    let raw = &mut raw[..index.length(chunk.number)];
                    pass.inflate(&mut inflater, &chunk, member, raw)
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
    pass.verified()
}
