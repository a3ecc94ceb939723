//! The index of an image: every member, every entry, and where each is in the tar.
//!
//! The tar is one after the other what the entries are: header, data, filling. So an entry's place follows from the sizes
//! of those before it, and nothing has to be stored for it.

mod columns;
mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{decode, decode_alone};
pub use encode::encode;

use crate::entry::{Entry, Hash};
use crate::header::{BLOCK, END};
use std::ops::Range;

/// The largest member that is read, raw bytes: bounds the memory of a reader.
pub const MEMBER_MOST: u32 = 64 << 20;
/// Stretches of data in one file.
pub const EXTENTS_MOST: usize = 8192;
/// Where room is reckoned: larger blocks may hold several small files.
const LARGEST_BLOCK: u64 = 4096;

/// Why an index is none that Pitstop wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    #[error("its index has version {0}, which this pitstop does not know")]
    Version(String),
    #[error("its index contradicts itself: {0}")]
    Wrong(&'static str),
}

/// One gzip member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Bytes in the file.
    pub size: u32,
    /// Bytes of the tar.
    pub raw: u32,
    /// BLAKE3 of those.
    pub hash: Hash,
}

/// An entry, and how long its header is: bytes, the map of a sparse file among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub entry: Entry,
    pub header: u32,
}

/// A whole and sound index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    members: Vec<Member>,
    placed: Vec<Placed>,
    /// Where each member begins in the tar and in the file; one more for their ends.
    starts: Vec<(u64, u64)>,
    /// Where each entry's header begins in the tar; one more for the end of the tar.
    places: Vec<u64>,
    toml: String,
}

impl Index {
    /// # Errors
    /// When members and entries are not of the same tar, or the entries are no tree.
    pub fn new(
        members: Vec<Member>,
        placed: Vec<Placed>,
        toml: String,
    ) -> Result<Self, IndexError> {
        let mut starts = Vec::with_capacity(members.len() + 1);
        let (mut raw, mut file) = (0u64, 0u64);
        for member in &members {
            if member.raw == 0 || member.raw > MEMBER_MOST {
                return Err(IndexError::Wrong("a member has no possible size"));
            }
            starts.push((raw, file));
            raw += u64::from(member.raw);
            file += u64::from(member.size);
        }
        starts.push((raw, file));
        let mut offsets = Vec::with_capacity(placed.len() + 1);
        let mut at = 0u64;
        for one in &placed {
            if one.header == 0 {
                return Err(IndexError::Wrong("an entry has no header"));
            }
            offsets.push(at);
            let size = one.entry.kind.stored();
            let whole = size
                .checked_next_multiple_of(512)
                .and_then(|size| size.checked_add(u64::from(one.header)))
                .and_then(|size| size.checked_add(at));
            at = whole.ok_or(IndexError::Wrong("a file is larger than any can be"))?;
        }
        offsets.push(at);
        if at + END as u64 != raw {
            return Err(IndexError::Wrong(
                "its members are not as long as its entries",
            ));
        }
        decode::check_tree(&placed)?;
        Ok(Self {
            members,
            placed,
            starts,
            places: offsets,
            toml,
        })
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub fn placed(&self) -> &[Placed] {
        &self.placed
    }

    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.placed.iter().map(|placed| &placed.entry)
    }

    /// The metadata as it is stored.
    pub fn toml(&self) -> &str {
        &self.toml
    }

    /// Bytes of the tar.
    pub fn raw_size(&self) -> u64 {
        self.starts.last().map_or(0, |(raw, _)| *raw)
    }

    /// Bytes of all members in the file: where the index begins.
    pub fn data_size(&self) -> u64 {
        self.starts.last().map_or(0, |(_, file)| *file)
    }

    /// Where a member begins in the file.
    pub fn offset(&self, member: usize) -> u64 {
        self.starts[member].1
    }

    /// The bytes of the tar that a member has.
    pub fn raw_range(&self, member: usize) -> Range<u64> {
        self.starts[member].0..self.starts[member + 1].0
    }

    /// The bytes of the tar that are an entry's data.
    pub fn data_range(&self, entry: usize) -> Range<u64> {
        let placed = &self.placed[entry];
        let start = self.places[entry] + u64::from(placed.header);
        start..start + placed.entry.kind.stored()
    }

    /// The bytes of the tar that are an entry's header.
    pub fn header_range(&self, entry: usize) -> Range<u64> {
        let start = self.places[entry];
        start..start + u64::from(self.placed[entry].header)
    }

    /// The entries that have bytes within `raw`, header and filling included.
    pub fn entries_in(&self, raw: &Range<u64>) -> Range<usize> {
        let last = self.placed.len();
        let first = self.places.partition_point(|place| *place <= raw.start);
        let end = self.places[..last].partition_point(|place| *place < raw.end);
        first.saturating_sub(1).min(end)..end
    }

    /// The members that have bytes within `raw`.
    pub fn members_in(&self, raw: &Range<u64>) -> Range<usize> {
        if raw.is_empty() {
            return 0..0;
        }
        let first = self
            .starts
            .partition_point(|(start, _)| *start <= raw.start);
        let end = self.starts[..self.members.len()].partition_point(|(start, _)| *start < raw.end);
        first.saturating_sub(1)..end
    }

    /// The number of the entry at `path`, as stored.
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        let found = self
            .placed
            .binary_search_by(|placed| crate::path::order(placed.entry.path.as_bytes(), path));
        found.ok()
    }

    /// Bytes of all files, holes not among them.
    pub fn data_bytes(&self) -> u64 {
        self.entries().map(|entry| entry.kind.stored()).sum()
    }

    /// What the entry takes on a disk, in whole blocks of `block` bytes: of 4096 at the most, as larger ones may hold several files.
    pub fn blocks_of(&self, entry: usize, block: u64) -> u64 {
        let block = block.clamp(BLOCK, LARGEST_BLOCK);
        self.placed[entry]
            .entry
            .kind
            .stored()
            .next_multiple_of(block)
    }
}
