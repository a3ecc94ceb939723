//! An image of which the store has most already: a machine names members of the image before, and sends the rest.
//!
//! This server is near the store, so it reads every member that is named and proves it, as one with a folder does; the store copies
//! them. What the machine sends goes on as it comes.

use super::{Store, failed};
use crate::compose::{self, lost};
use crate::path::RelPath;
use crate::refusal::Refusal;
use crate::upload::{Piece as Part, Stored};
use anyhow::{Context as _, anyhow, bail};
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use headers::ETag;
use pitstop_imaging::image::members::Prover;
use pitstop_imaging::image::{Before, Held, ImageSource, OpenedImage, ZeroRuns};
use pitstop_protocol::pieces::{
    BASE_CHANGED, BASE_DAMAGED, BASE_MATCH, BASE_NOT_COPIED, MOST_BLOCK, Member, PIECES_WHOLE,
    Piece, Pieces,
};
use pitstop_transport::share::{BaseLost, NewAgain, PendingAgain, Share as _};
use std::io::{self, Read};
use tokio::sync::mpsc;

/// Members that lie one behind another are read at once, up to so many bytes.
const AT_ONCE: u64 = 8 << 20;

/// What OPTIONS says of it.
pub fn offer() -> (HeaderName, HeaderValue) {
    (
        HeaderName::from_static(PIECES_WHOLE),
        HeaderValue::from(MOST_BLOCK),
    )
}

/// Makes the image at `path` of the pieces that come.
///
/// # Errors
/// They make no sense; the image before is another one than the machine knows, damaged, or not copied; the store fails.
pub fn put(
    store: &Store,
    path: &RelPath,
    headers: &HeaderMap,
    own_url: &str,
    queue: mpsc::Receiver<Part>,
) -> Result<Stored, Refusal> {
    let bad = |why: &str| Refusal::new(StatusCode::BAD_REQUEST, why);
    let base = compose::base(headers, own_url)?;
    let base = base.ok_or_else(|| bad("pieces of a whole file need the image before"))?;
    let created = store.facts(path)?.is_none();
    let making = |error: &anyhow::Error| refusal(path, error);
    let begun = store.share.create_again(path.as_str(), base.as_str());
    let Some(NewAgain { before, pending }) = begun.map_err(|e| making(&e))? else {
        let why = format!("{base} is gone, or too small to take anything from");
        return Err(lost(BASE_NOT_COPIED, why));
    };
    let known = headers.get(BASE_MATCH).and_then(|tag| tag.to_str().ok());
    let known: Option<ETag> = known.and_then(|tag| tag.parse().ok());
    let known = known.ok_or_else(|| bad("the ETag of the image before is missing"))?;
    if store.facts(&base)?.and_then(|facts| facts.tag) != Some(known) {
        let why = format!("{base} is not the file any more whose members are wanted");
        return Err(lost(BASE_CHANGED, why));
    }
    let image = store.share.image(base.as_str()).map_err(|e| making(&e))?;
    let mut making_it = Making {
        base: image,
        pending,
        prover: Prover::new().map_err(|e| making(&e))?,
        zeros: ZeroRuns::default(),
    };
    making_it
        .all(before, &mut Body::of(queue))
        .map_err(|e| making(&e))?;
    making_it.pending.finish().map_err(|e| making(&e))?;
    Ok(Stored {
        created,
        tag: store.facts(path)?.and_then(|facts| facts.tag),
    })
}

/// What the client is told; of the image before, in the word that it knows.
fn refusal(path: &RelPath, error: &anyhow::Error) -> Refusal {
    let word = match BaseLost::behind(error) {
        Some(BaseLost::Changed) => BASE_CHANGED,
        Some(BaseLost::Damaged(_)) => BASE_DAMAGED,
        Some(BaseLost::NotCopied(_)) => BASE_NOT_COPIED,
        None if error.is::<BadBody>() => {
            return Refusal::new(StatusCode::BAD_REQUEST, format!("{path}: {error:#}"));
        }
        None => return failed(&format!("writing {path}"), error),
    };
    lost(word, format!("{error:#}"))
}

/// What came is no blocks of pieces.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadBody(String);

struct Making {
    base: Box<dyn ImageSource>,
    pending: Box<dyn PendingAgain>,
    prover: Prover,
    /// Where the base has chunks of zeros.
    zeros: ZeroRuns,
}

impl Making {
    fn all(&mut self, before: Box<dyn ImageSource>, body: &mut Body) -> anyhow::Result<()> {
        let opened = OpenedImage::open(before)?;
        let before = Before::of(&opened).context("the image before has no index")?;
        self.pending.read_index(&before);
        self.zeros = before.zeros().clone();
        while let Some(block) = body.block()? {
            let pieces = Pieces::parse(&block).map_err(|error| BadBody(error.to_string()))?;
            for piece in pieces.pieces {
                match piece {
                    Piece::Bytes(bytes) => self.pending.write_all(bytes)?,
                    Piece::Repeated { bytes, count } => self.repeated(bytes, count)?,
                    Piece::Members { offset, members } => self.members(offset, &members)?,
                }
            }
        }
        Ok(())
    }

    /// Zeros are copied as well, where the base has them behind what is copied: those that are read there are the same. Others are
    /// sent to the store as they came.
    fn repeated(&mut self, bytes: &[u8], count: u32) -> anyhow::Result<()> {
        if self.base_has_others(bytes, count)? {
            for _ in 0..count {
                self.pending.write_all(bytes)?;
            }
        } else {
            self.pending.repeated(bytes, count)?;
        }
        Ok(())
    }

    /// Whether something else than `bytes` is in the base where they would be copied from.
    fn base_has_others(&self, bytes: &[u8], count: u32) -> anyhow::Result<bool> {
        let size = bytes.len() as u64;
        let Some(mut at) = self.pending.next_offset() else {
            return Ok(false);
        };
        if size == 0 || size != u64::from(self.zeros.size()) {
            return Ok(false);
        }
        let mut left = u64::from(count);
        loop {
            let most = left.min((AT_ONCE / size).max(1));
            let here = self.zeros.at(at).min(most);
            if here == 0 {
                return Ok(false);
            }
            let read = self.base.bytes_at(at, usize::try_from(here * size)?)?;
            if read.chunks(bytes.len()).any(|zeros| zeros != bytes) {
                return Ok(true);
            }
            at += here * size;
            left -= here;
        }
    }

    /// Proves what a machine wants copied, and has it copied.
    fn members(&mut self, mut offset: u64, members: &[Member]) -> anyhow::Result<()> {
        let mut rest = members;
        while let Some(first) = rest.first() {
            let (mut count, mut length) = (1, u64::from(first.size));
            while let Some(next) = rest.get(count)
                && length + u64::from(next.size) <= AT_ONCE
            {
                length += u64::from(next.size);
                count += 1;
            }
            let (now, later) = rest.split_at(count);
            rest = later;
            let bytes = self.base.bytes_at(offset, usize::try_from(length)?)?;
            let mut left = &bytes[..];
            for Member { size, hash } in now {
                let (member, behind) = left.split_at(usize::try_from(*size)?);
                left = behind;
                let proven = self.prover.prove(member, hash);
                proven
                    .map_err(|why| BaseLost::Damaged(format!("the member at {offset}: {why}")))?;
                self.pending.member(&Held {
                    hash: *hash,
                    offset,
                    size: *size,
                })?;
                offset += u64::from(*size);
            }
        }
        Ok(())
    }
}

/// A body that comes in pieces of the network's.
struct Body {
    queue: mpsc::Receiver<Part>,
    left: Bytes,
    ended: bool,
}

impl Body {
    fn of(queue: mpsc::Receiver<Part>) -> Self {
        Self {
            queue,
            left: Bytes::new(),
            ended: false,
        }
    }

    /// The next block; `None` at the end.
    fn block(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        if !self.has_more()? {
            return Ok(None);
        }
        let mut length = [0; 4];
        self.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length > MOST_BLOCK {
            bail!(BadBody(format!(
                "a block of {length} bytes: {MOST_BLOCK} are the most"
            )));
        }
        let mut block = vec![0; usize::try_from(length)?];
        self.read_exact(&mut block)?;
        Ok(Some(block))
    }

    fn has_more(&mut self) -> anyhow::Result<bool> {
        while self.left.is_empty() && !self.ended {
            match self.queue.blocking_recv() {
                Some(Part::Data(data)) => self.left = data,
                Some(Part::End) => self.ended = true,
                None => return Err(anyhow!(BadBody("the body ended early".into()))),
            }
        }
        Ok(!self.left.is_empty())
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.has_more().map_err(io::Error::other)? {
            return Ok(0);
        }
        let count = buffer.len().min(self.left.len());
        buffer[..count].copy_from_slice(&self.left.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body(parts: &[&[u8]], ends: bool) -> Body {
        let (sender, queue) = mpsc::channel(parts.len() + 1);
        for part in parts {
            let part = Part::Data(Bytes::copy_from_slice(part));
            sender.try_send(part).map_err(|_| "full").unwrap();
        }
        if ends {
            sender.try_send(Part::End).map_err(|_| "full").unwrap();
        }
        Body::of(queue)
    }

    #[test]
    fn blocks_are_read_however_they_come() {
        let mut came = body(&[&[2, 0], &[0, 0, 7], &[], &[8, 0, 0, 0, 0]], true);
        assert_eq!(came.block().unwrap(), Some(vec![7, 8]));
        assert_eq!(came.block().unwrap(), Some(vec![]));
        assert_eq!(came.block().unwrap(), None);
        assert!(body(&[&[2, 0, 0, 0, 7]], true).block().is_err(), "cut");
        assert!(body(&[&[2, 0, 0, 0, 7, 8]], false).block().is_ok());
        assert!(body(&[], false).block().is_err(), "the client went away");
        assert!(body(&[&u32::MAX.to_le_bytes()], true).block().is_err());
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_not(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut came = body(&[&bytes], true);
            while let Ok(Some(block)) = came.block() {
                let _ = Pieces::parse(&block);
            }
        }
    }
}
