//! A pass over the chunks of an image with an index: each is inflated and hashed here, or it does not count.

use super::Verified;
use crate::image::codec::{Inflater, MemberError, is_zero};
use crate::image::index::{Chunk, Index};
use anyhow::bail;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the bytes of the disk that were proven. Shared by all workers of a pass.
pub struct ChunkPass<'a> {
    index: &'a Index,
    proven: AtomicU64,
}

impl<'a> ChunkPass<'a> {
    pub fn new(index: &'a Index) -> Self {
        Self {
            index,
            proven: AtomicU64::new(0),
        }
    }

    /// Inflates `member` into `raw` and proves that it is `chunk`.
    pub fn inflate(
        &self,
        inflater: &mut Inflater,
        chunk: &Chunk,
        member: &[u8],
        raw: &mut [u8],
    ) -> Result<(), MemberError> {
        inflate_chunk(inflater, chunk, member, raw)?;
        self.count(raw.len() as u64);
        Ok(())
    }

    /// Whether `raw`, which the target has already, is `chunk`.
    pub fn is_there(&self, chunk: &Chunk, raw: &[u8]) -> bool {
        let same = *blake3::hash(raw).as_bytes() == chunk.hash;
        if same {
            self.count(raw.len() as u64);
        }
        same
    }

    /// Whether a chunk of `raw` bytes, which was inflated, hashed and written by this run and had `hash` then, is `chunk`.
    pub fn was_written(&self, chunk: &Chunk, hash: &[u8; 32], raw: u64) -> bool {
        let same = *hash == chunk.hash;
        if same {
            self.count(raw);
        }
        same
    }

    /// Takes `count` whole chunks of zeros at the index's word, which is proven itself.
    pub fn zeros(&self, count: u64) {
        self.count(count * u64::from(self.index.chunk_size()));
    }

    /// Checks `count` members of zeros: the first by inflating it, the others against the first.
    pub fn zero_members(
        &self,
        inflater: &mut Inflater,
        members: &[u8],
        raw: &mut [u8],
        count: u64,
    ) -> anyhow::Result<()> {
        let size = usize::try_from(self.index.zero_member())?;
        let members = &members[..size * usize::try_from(count)?];
        let first = &members[..size];
        inflater.member(first, raw)?;
        if !is_zero(raw) {
            bail!("the first does not hold zeros");
        }
        if let Some(at) = members.chunks_exact(size).position(|one| one != first) {
            bail!("the one {at} further differs from the first");
        }
        self.zeros(count);
        Ok(())
    }

    fn count(&self, raw: u64) {
        self.proven.fetch_add(raw, Ordering::Relaxed);
    }

    /// The proof, when every chunk that the index walks was counted.
    ///
    /// # Errors
    /// When one was not: a defect in the pass.
    pub fn verified(&self) -> anyhow::Result<Verified> {
        let (proven, all) = (self.proven.load(Ordering::Relaxed), self.index.walked());
        if proven != all {
            bail!(
                "only {proven} of {all} bytes were proven: this is a defect of Pitstop's, please report it"
            );
        }
        Ok(Verified {
            bytes: self.index.raw_size(),
            checksums: true,
        })
    }
}

/// Inflates `member` into `raw` and proves that it is `chunk`.
pub fn inflate_chunk(
    inflater: &mut Inflater,
    chunk: &Chunk,
    member: &[u8],
    raw: &mut [u8],
) -> Result<(), MemberError> {
    inflater.member(member, raw)?;
    if *blake3::hash(raw).as_bytes() == chunk.hash {
        Ok(())
    } else {
        Err(MemberError::Hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::index::Record;

    #[test]
    fn a_chunk_that_nobody_proved_leaves_no_proof() {
        let raw = [7; 4096];
        let hash = *blake3::hash(&raw).as_bytes();
        let mut index = Index::new(4096, 3 * 4096, 27).unwrap();
        index.push(Record::Zeros(2)).unwrap();
        index.push(Record::Data { size: 30, hash }).unwrap();
        let pass = ChunkPass::new(&index);
        let chunk = Chunk {
            number: 2,
            offset: 54,
            size: 30,
            hash,
        };
        pass.zeros(2);
        assert!(!pass.is_there(&chunk, &[8; 4096]));
        let error = pass.verified().unwrap_err().to_string();
        assert!(error.starts_with("only 8192 of 12288 bytes"), "{error}");
        assert!(pass.is_there(&chunk, &raw));
        assert_eq!(pass.verified().unwrap().bytes(), 3 * 4096);
    }
}
