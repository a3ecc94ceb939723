//! A disk whose image is there already, captured again: chunks that the image before has are taken from it.
//!
//! What makes two chunks the same is the BLAKE3 of their raw bytes. A member says nothing of its place in the file, so
//! that the new image is as plain a file as any, and needs no other.

use super::OpenedImage;
use super::index::{Chunk, Item};
use std::io::{self, Write};

/// Where a new image goes, whose keeper holds the one before.
pub trait Again: Write {
    /// Writes the member that is at `member.offset` in the image before. Whoever does that proves that it is there
    /// and inflates to what its hash says.
    ///
    /// # Errors
    /// As of any write; also that the image before is another one by now, or damaged there.
    fn member(&mut self, member: &Held) -> io::Result<()>;

    /// Writes `bytes` so many times: a chunk of zeros.
    ///
    /// # Errors
    /// As of any write.
    fn repeated(&mut self, bytes: &[u8], count: u32) -> io::Result<()>;

    /// The index of the image before has been read.
    fn read_index(&mut self, _before: &Before) {}

    /// Where in the image before what was written last goes on: a member there is as good as any other, and cheaper.
    fn next_offset(&self) -> Option<u64> {
        None
    }
}

/// A chunk of the image before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Of the raw bytes.
    pub hash: [u8; 32],
    /// Where its member is.
    pub offset: u64,
    /// Bytes of the member.
    pub size: u32,
}

/// What the image before has, by content.
pub struct Before {
    chunk_size: u32,
    /// By hash, and by offset where several are the same.
    chunks: Vec<Held>,
    zeros: ZeroRuns,
}

/// Where the image before has chunks of zeros: members one behind another, all the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ZeroRuns {
    size: u32,
    /// Where each begins, and how many they are.
    runs: Vec<(u64, u64)>,
}

impl ZeroRuns {
    /// Bytes of a member.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// How many members lie one behind another from `offset` on.
    pub fn at(&self, offset: u64) -> u64 {
        let next = self.runs.partition_point(|(start, _)| *start <= offset);
        let run = next.checked_sub(1).and_then(|at| self.runs.get(at));
        let (Some((start, count)), true) = (run, self.size > 0) else {
            return 0;
        };
        let size = u64::from(self.size);
        let passed = offset - start;
        if passed.is_multiple_of(size) {
            count.saturating_sub(passed / size)
        } else {
            0
        }
    }
}

impl Before {
    /// `None` of an image without an index.
    pub fn of(image: &OpenedImage) -> Option<Self> {
        let index = &image.indexed()?.index;
        let chunks = index.items().filter_map(|item| match item {
            Item::Chunk(Chunk {
                offset, size, hash, ..
            }) => Some(Held { hash, offset, size }),
            Item::Zeros { .. } => None,
        });
        let mut chunks: Vec<Held> = chunks.collect();
        chunks.sort_unstable_by_key(|chunk| (chunk.hash, chunk.offset));
        let runs = index.items().filter_map(|item| match item {
            Item::Zeros { count, offset, .. } => Some((offset, count)),
            Item::Chunk(_) => None,
        });
        let zeros = ZeroRuns {
            size: index.zero_member(),
            runs: runs.collect(),
        };
        Some(Self {
            chunk_size: index.chunk_size(),
            chunks,
            zeros,
        })
    }

    /// Raw bytes of its chunks. Only an image with chunks of the same size finds any in it.
    pub fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    pub fn zeros(&self) -> &ZeroRuns {
        &self.zeros
    }

    pub(super) fn find(&self, hash: &[u8; 32]) -> Option<&Held> {
        let at = self.chunks.partition_point(|chunk| chunk.hash < *hash);
        self.chunks.get(at).filter(|chunk| chunk.hash == *hash)
    }

    /// The same chunk at `offset`, where there is one.
    pub(super) fn same_at(&self, known: &Held, offset: u64) -> Option<&Held> {
        let key = (known.hash, offset);
        let at = self
            .chunks
            .binary_search_by(|chunk| (chunk.hash, chunk.offset).cmp(&key));
        at.ok().and_then(|at| self.chunks.get(at))
    }
}

/// How much of a new image came from the disk, and how much from the image before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reused {
    /// Bytes of the image that were written.
    pub written: u64,
    /// Bytes of all of it.
    pub image: u64,
}

/// Where the members of a new image go.
pub enum Out<'a> {
    New(&'a mut (dyn Write + Send)),
    Again {
        before: &'a Before,
        out: &'a mut (dyn Again + Send),
    },
}

impl<'a> Out<'a> {
    pub fn before(&self) -> Option<&'a Before> {
        match self {
            Self::New(_) => None,
            Self::Again { before, .. } => Some(before),
        }
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::New(out) => out.write_all(bytes),
            Self::Again { out, .. } => out.write_all(bytes),
        }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::New(out) => out.flush(),
            Self::Again { out, .. } => out.flush(),
        }
    }
}
