//! Gets the pieces of an image from the origin: first those that somebody waits for, then all others.

use super::held::Held;
use super::pieces::Pieces;
use anyhow::{Context, bail};
use pitstop_imaging::image::{ImageSource, ReadingOn};
use pitstop_imaging::source::ReadAt;
use pitstop_transport::share::HttpImage;
use std::cell::OnceCell;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Fills `held` until it is whole, or until that cannot be done now: whoever asks next tries again.
pub fn fill(held: &Arc<Held>) {
    let why = all(held).err().map(|error| format!("{error:#}"));
    if let Some(why) = &why {
        let what = format!("mirror: {} cannot be filled now: {why}", held.digest());
        held.origin().journal.note(&what);
    }
    held.filled(why);
}

fn all(held: &Held) -> anyhow::Result<()> {
    let pieces = held.pieces();
    let origin = OnceCell::new();
    let mut stream = None;
    let mut bytes = Vec::new();
    let mut last = 0;
    while let Some(number) = next(held, pieces, last) {
        last = number;
        let place = pieces.bytes(number);
        bytes.resize(usize::try_from(place.end - place.start)?, 0);
        let may_have = held.progress().may_have;
        if !(may_have && on_disk(held, pieces, number, &mut bytes)) {
            // The origin is asked for nothing that is here.
            if origin.get().is_none() {
                let _ = origin.set(open(held)?);
            }
            let image = origin.get().context("the origin is not open")?;
            let stream = stream.get_or_insert_with(|| ReadingOn::new(image));
            fetch(pieces, number, image, stream, &mut bytes)?;
            held.file()
                .write_all_at(&bytes, place.start)
                .context("writing to the mirror's folder")?;
        }
        held.is_here(number, &bytes);
    }
    held.finish().context("keeping it")
}

fn open(held: &Held) -> anyhow::Result<HttpImage> {
    let image = held.at_origin()?;
    if image.size() != held.size() {
        bail!("{}: it is another image", image.name());
    }
    Ok(image)
}

/// Fetches a piece, mostly on the stream that the one before came on, and proves it.
fn fetch(
    pieces: &Pieces,
    number: usize,
    image: &HttpImage,
    stream: &mut ReadingOn<'_>,
    bytes: &mut [u8],
) -> anyhow::Result<()> {
    let at = pieces.bytes(number).start;
    let reading = || format!("reading {} at {at}", image.name());
    stream.read(bytes, at).with_context(reading)?;
    if pieces.prove(number, bytes).is_ok() {
        return Ok(());
    }
    // It may have been changed on its way.
    image.read_exact_at(bytes, at).with_context(reading)?;
    let proven = pieces.prove(number, bytes);
    proven.with_context(|| format!("{} is not what its index says", image.name()))
}

/// The next piece that is missing: one that is wanted, else the next behind `last`.
fn next(held: &Held, pieces: &Pieces, last: usize) -> Option<usize> {
    let mut progress = held.progress();
    while let Some(number) = progress.wanted.pop_front() {
        if matches!(progress.here.get(number), Some(None)) {
            return Some(number);
        }
    }
    let missing = |number: &usize| matches!(progress.here.get(*number), Some(None));
    let behind = (last..pieces.count()).find(missing);
    behind.or_else(|| (0..last).find(missing))
}

/// Whether the file has this piece already, from an earlier run of the server.
fn on_disk(held: &Held, pieces: &Pieces, number: usize, bytes: &mut [u8]) -> bool {
    let read = held.file().read_exact_at(bytes, pieces.bytes(number).start);
    read.is_ok() && pieces.prove(number, bytes).is_ok()
}
