//! A new image of which the store has most already: it copies stretches of the image before, and is sent the rest.
//!
//! An object is made of parts, of which none but the last may be smaller than [`LEAST`]. So a long stretch that is the same becomes a
//! part that the store copies. A short one is read from the image before, proven, and sent with what is new; so is the
//! beginning of a long one, where the bytes before it are too few for a part.

use super::pending::S3Pending;
use super::upload::Source;
use super::{COPIED, S3Share};
use crate::share::http::{BaseLost, HttpImage, as_io};
use crate::share::{NewAgain, Pending, PendingAgain};
use anyhow::{Context as _, bail};
use pitstop_imaging::image::members::Prover;
use pitstop_imaging::image::{Again, Before, Held, ImageSource as _, ZeroRuns};
use pitstop_imaging::source::ReadAt as _;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::mem;

/// Bytes of the smallest part that a store takes, but for the last.
pub(super) const LEAST: u64 = 5 << 20;

/// Members that lie one behind another are read at once, up to so many bytes.
const AT_ONCE: u64 = 8 << 20;

pub(super) struct S3Again {
    pending: S3Pending,
    base: Base,
    /// What is the same behind all that was written.
    run: Run,
    /// A chunk of zeros as the new image has it.
    zeros: Vec<u8>,
    prover: Prover,
}

/// The image before, as it was when its index was read.
struct Base {
    source: Source,
    image: HttpImage,
    zeros: ZeroRuns,
}

/// What lies in the image before one behind another.
#[derive(Debug, Default)]
struct Run {
    start: u64,
    length: u64,
    pieces: VecDeque<Piece>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Member(Held),
    /// So many chunks of zeros.
    Zeros(u64),
}

impl S3Share {
    /// Begins `path`, if the store has the image `before`, under a tag that no other object has.
    pub(super) fn begin_again(&self, path: &str, before: &str) -> anyhow::Result<Option<NewAgain>> {
        let key = self.key(before)?;
        // Keys may be good for writing and for nothing else: then nothing is copied.
        let facts = self.store.facts(&key).ok().flatten();
        let Some(facts) = facts.filter(|facts| facts.size > LEAST) else {
            return Ok(None);
        };
        let open = || {
            let address = self.store.readable(&key);
            HttpImage::at(&self.store.http, address, self.shown(before), facts.clone())
        };
        let (image, index) = (open(), open());
        let Some(tag) = image.strong_tag() else {
            return Ok(None);
        };
        let tag = tag.to_owned();
        let again = S3Again {
            pending: S3Pending::alone(&self.store, self.key(path)?),
            base: Base {
                source: Source { key, tag },
                image,
                zeros: ZeroRuns::default(),
            },
            run: Run::default(),
            zeros: Vec::new(),
            prover: Prover::new()?,
        };
        Ok(Some(NewAgain {
            before: Box::new(index),
            pending: Box::new(again),
        }))
    }
}

impl S3Again {
    /// What is the same up to here goes into the new image.
    fn settle(&mut self) -> anyhow::Result<()> {
        let mut run = mem::take(&mut self.run);
        let (least, waiting) = self.pending.room();
        let missing = match waiting {
            0 => 0,
            some => least.saturating_sub(some),
        };
        let zero = self.base.zeros.size();
        let before = run.split_front(missing, zero);
        if run.length < least {
            self.send(before)?;
            return self.send(run);
        }
        // In one part with what waits: what is left behind a full one may be too few bytes for a part.
        self.pending.keep_together(true);
        let sent = self.send(before);
        self.pending.keep_together(false);
        sent?;
        let copied = run.start..run.start + run.length;
        self.pending.copy(&self.base.source, copied)
    }

    /// Sends a stretch of the image before: too short to be copied.
    fn send(&mut self, run: Run) -> anyhow::Result<()> {
        let mut at = run.start;
        let mut pieces = run.pieces.into_iter().peekable();
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Zeros(count) => {
                    for _ in 0..count {
                        self.pending.write_all(&self.zeros)?;
                    }
                    at += count * u64::from(self.base.zeros.size());
                }
                Piece::Member(first) => {
                    let mut members = vec![first];
                    let mut length = u64::from(first.size);
                    while let Some(Piece::Member(next)) = pieces.peek()
                        && length + u64::from(next.size) <= AT_ONCE
                    {
                        length += u64::from(next.size);
                        members.push(*next);
                        pieces.next();
                    }
                    self.send_members(at, length, &members)?;
                    at += length;
                }
            }
        }
        Ok(())
    }

    fn send_members(&mut self, at: u64, length: u64, members: &[Held]) -> anyhow::Result<()> {
        let read = self.base.image.bytes_at(at, usize::try_from(length)?);
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(error) => {
                self.check_base()?;
                return Err(error).with_context(|| format!("reading {}", self.base.image.name()));
            }
        };
        let mut rest = &bytes[..];
        for Held { size, hash, .. } in members {
            let (member, behind) = rest.split_at(usize::try_from(*size)?);
            rest = behind;
            let proven = self.prover.prove(member, hash);
            proven.map_err(|why| BaseLost::Damaged(format!("the member at {at}: {why}")))?;
        }
        self.pending.write_all(&bytes)?;
        Ok(())
    }

    /// The image before is still the one whose index was read: stores differ in whether they look when they copy.
    fn check_base(&self) -> anyhow::Result<()> {
        let Source { key, tag } = &self.base.source;
        let now = self.pending.store().facts(key)?;
        if now.and_then(|now| now.etag).as_ref() == Some(tag) {
            Ok(())
        } else {
            bail!(BaseLost::Changed)
        }
    }

    fn settle_or_fail(&mut self) -> io::Result<()> {
        if self.run.length == 0 {
            return Ok(());
        }
        self.settle().map_err(|error| {
            let error = as_io(error);
            self.pending.fail(&error);
            error
        })
    }
}

impl Run {
    fn end(&self) -> Option<u64> {
        (self.length > 0).then(|| self.start + self.length)
    }

    fn push(&mut self, piece: Piece, zero: u32) {
        self.length += piece.length(zero);
        match (self.pieces.back_mut(), piece) {
            (Some(Piece::Zeros(count)), Piece::Zeros(more)) => *count += more,
            (_, piece) => self.pieces.push_back(piece),
        }
    }

    /// Takes whole pieces off the front, `least` bytes or a little more; all of it where it has fewer.
    fn split_front(&mut self, least: u64, zero: u32) -> Self {
        let mut front = Self {
            start: self.start,
            ..Self::default()
        };
        while front.length < least {
            let piece = match self.pieces.pop_front() {
                None => break,
                Some(Piece::Zeros(count)) if zero > 0 => {
                    let taken = (least - front.length).div_ceil(zero.into()).min(count);
                    if taken < count {
                        self.pieces.push_front(Piece::Zeros(count - taken));
                    }
                    Piece::Zeros(taken)
                }
                Some(piece) => piece,
            };
            front.push(piece, zero);
        }
        self.start += front.length;
        self.length -= front.length;
        front
    }
}

impl Piece {
    fn length(self, zero: u32) -> u64 {
        match self {
            Self::Member(held) => held.size.into(),
            Self::Zeros(count) => count * u64::from(zero),
        }
    }
}

impl Write for S3Again {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.settle_or_fail()?;
        self.pending.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Again for S3Again {
    fn read_index(&mut self, before: &Before) {
        self.base.zeros = before.zeros().clone();
    }

    fn next_offset(&self) -> Option<u64> {
        self.run.end()
    }

    fn member(&mut self, member: &Held) -> io::Result<()> {
        if self.run.end() != Some(member.offset) {
            self.settle_or_fail()?;
            self.run.start = member.offset;
        }
        self.run.push(Piece::Member(*member), 0);
        if self.run.length >= COPIED {
            self.settle_or_fail()?;
        }
        Ok(())
    }

    fn repeated(&mut self, bytes: &[u8], count: u32) -> io::Result<()> {
        self.zeros = bytes.to_vec();
        let mut left = u64::from(count);
        let size = self.base.zeros.size();
        while left > 0
            && usize::try_from(size) == Ok(bytes.len())
            && let Some(end) = self.run.end()
        {
            let here = self.base.zeros.at(end).min(left);
            if here == 0 {
                break;
            }
            self.run.push(Piece::Zeros(here), size);
            left -= here;
        }
        for _ in 0..left {
            self.write_all(bytes)?;
        }
        Ok(())
    }
}

impl Pending for S3Again {
    /// The object takes its name when the store tells of every part what it should be, and the image before is the same that it was.
    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        if self.run.length > 0 {
            self.settle()?;
        }
        self.pending.send_rest()?;
        if self.pending.has_copied() {
            self.check_base()?;
            self.pending.check_parts()?;
        }
        self.pending.end()
    }
}

impl PendingAgain for S3Again {}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(offset: u64, size: u32) -> Piece {
        Piece::Member(Held {
            hash: [0; 32],
            offset,
            size,
        })
    }

    #[test]
    fn a_run_is_divided_where_a_member_ends() {
        let mut run = Run {
            start: 1000,
            ..Run::default()
        };
        for piece in [member(1000, 30), member(1030, 30), Piece::Zeros(10)] {
            run.push(piece, 2);
        }
        run.push(Piece::Zeros(5), 2);
        assert_eq!(run.end(), Some(1090));
        let front = run.split_front(31, 2);
        assert_eq!((front.start, front.length), (1000, 60));
        assert_eq!((run.start, run.length), (1060, 30));
        let front = run.split_front(7, 2);
        assert_eq!((front.length, run.start, run.length), (8, 1068, 22));
        assert_eq!(run.pieces, [Piece::Zeros(11)]);
        let rest = run.split_front(100, 2);
        assert_eq!((rest.length, run.length, run.end()), (22, 0, None));
    }
}
