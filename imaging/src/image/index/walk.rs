//! Walking an index: chunks and runs of zeros in the order of the disk, without those that a restore leaves out.

use super::{Data, Index, Run};
use std::ops::Range;

/// A stretch of the image, in the order of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// `count` whole chunks of zeros from chunk `first` on; their members begin at `offset`.
    Zeros { first: u64, count: u64, offset: u64 },
    /// One chunk with its member.
    Chunk(Chunk),
}

/// A chunk that is not known to be zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    pub number: u64,
    /// Where its member begins in the image.
    pub offset: u64,
    /// Bytes of its member.
    pub size: u32,
    /// BLAKE3 of its raw bytes.
    pub hash: [u8; 32],
}

impl Chunk {
    /// Where its member is in the image.
    pub fn bytes(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(u64::from(self.size))
    }
}

/// A place in the walk of an [`Index`]: before one of its stretches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mark {
    run: usize,
    within: usize,
    data: usize,
    number: u64,
    offset: u64,
}

impl Mark {
    /// The chunk that the stretch begins with.
    pub fn chunk(&self) -> u64 {
        self.number
    }
}

/// Walks an [`Index`].
#[derive(Debug, Clone)]
pub struct Items<'a> {
    index: &'a Index,
    at: Mark,
}

impl<'a> Items<'a> {
    pub(super) fn of(index: &'a Index, at: Mark) -> Self {
        Self { index, at }
    }

    /// Where the walk is, for [`Index::items_from`].
    pub fn mark(&self) -> Mark {
        self.at
    }
}

impl Iterator for Items<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            let found = match *self.index.runs.get(self.at.run)? {
                Run::Zeros(count) => self.zeros(count.into()),
                Run::Data(count) => self.data(count),
            };
            match found {
                Found::Item(item) => return Some(item),
                Found::LeftOut => {}
                Found::End => return None,
            }
        }
    }
}

enum Found {
    Item(Item),
    LeftOut,
    End,
}

impl Items<'_> {
    /// The next zeros of a run of `count` chunks that are not left out.
    fn zeros(&mut self, count: u64) -> Found {
        let at = &mut self.at;
        let (first, offset) = (at.number, at.offset);
        let each = u64::from(self.index.zero_member);
        let end = first - at.within as u64 + count;
        let piece = self.index.left_out.gaps(first..end).iter().next();
        let stop = piece.as_ref().map_or(end, |piece| piece.end);
        at.number = stop;
        at.offset += (stop - first) * each;
        if stop == end {
            at.run += 1;
            at.within = 0;
        } else {
            at.within += usize::try_from(stop - first).unwrap_or(0);
        }
        match piece {
            None => Found::LeftOut,
            Some(piece) => Found::Item(Item::Zeros {
                first: piece.start,
                count: piece.end - piece.start,
                offset: offset + (piece.start - first) * each,
            }),
        }
    }

    /// The next chunk of a run of `count`.
    fn data(&mut self, count: usize) -> Found {
        let at = &mut self.at;
        let (number, offset) = (at.number, at.offset);
        let Some(Data { size, hash }) = self.index.data.get(at.data).copied() else {
            return Found::End;
        };
        at.data += 1;
        at.within += 1;
        if at.within == count {
            at.run += 1;
            at.within = 0;
        }
        at.number += 1;
        at.offset += u64::from(size);
        if self.index.left_out.touches(number..number + 1) {
            return Found::LeftOut;
        }
        Found::Item(Item::Chunk(Chunk {
            number,
            offset,
            size,
            hash,
        }))
    }
}
