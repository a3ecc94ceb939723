//! Chunks: where on the device a logical address is.

use super::superblock::Superblock;
use super::tree::{KEY_SIZE, key_at, walk};
use crate::source::ReadAt;
use crate::used::Untrusted;
use crate::used::bytes::Fields;
use std::collections::BTreeMap;

const FIRST_CHUNK: u64 = 256;
const CHUNK_ITEM: u8 = 228;
/// Data, system, metadata.
const TYPES: u64 = 0x7;
const DUP: u64 = 0x20;
/// Chunks are at least 1 MiB each, 1 GiB as a rule: a million of them is 1 PiB.
const CHUNKS_MAX: usize = 1 << 20;

struct Chunk {
    length: u64,
    /// First byte of each copy on the device.
    copies: Vec<u64>,
}

/// All chunks, by logical start.
#[derive(Default)]
pub(super) struct Chunks(BTreeMap<u64, Chunk>);

impl Chunks {
    /// The chunk tree, found through the system chunks in the superblock.
    pub(super) fn read(volume: &dyn ReadAt, superblock: &Superblock) -> Result<Self, Untrusted> {
        let system = Self::system(superblock)?;
        let mut chunks = Self::default();
        let root = superblock.chunk_root;
        walk(volume, superblock, &system, root, &mut |item| {
            if (item.object, item.kind) != (FIRST_CHUNK, CHUNK_ITEM) {
                return Ok(());
            }
            chunks.add(superblock, item.offset, item.data).map(|_| ())
        })?;
        let on_device: u64 = chunks.0.values().fold(0, |sum, chunk| {
            let copies = u64::try_from(chunk.copies.len()).unwrap_or(u64::MAX);
            sum.saturating_add(chunk.length.saturating_mul(copies))
        });
        if on_device != superblock.device_used {
            return Err(Untrusted::new(format!(
                "its chunks add up to {on_device} bytes, its superblock says {}",
                superblock.device_used
            )));
        }
        Ok(chunks)
    }

    fn system(superblock: &Superblock) -> Result<Self, Untrusted> {
        let array = Fields(&superblock.system_chunks);
        let mut chunks = Self::default();
        let mut at = 0;
        while at < superblock.system_chunks.len() {
            let (object, kind, logical) = key_at(array, at)?;
            if (object, kind) != (FIRST_CHUNK, CHUNK_ITEM) {
                return Err(Untrusted::new(
                    "its superblock has no list of system chunks",
                ));
            }
            at += KEY_SIZE;
            let rest = superblock.system_chunks.len() - at;
            at += chunks.add(superblock, logical, Fields(array.slice(at, rest)?))?;
        }
        Ok(chunks)
    }

    /// Adds a `struct btrfs_chunk`, and answers how many bytes it took.
    fn add(
        &mut self,
        superblock: &Superblock,
        logical: u64,
        item: Fields<'_>,
    ) -> Result<usize, Untrusted> {
        let length = item.u64(0)?;
        let kind = item.u64(24)?;
        let stripes = usize::from(item.u16(44)?);
        let copies = if kind & DUP != 0 { 2 } else { 1 };
        if kind & !(TYPES | DUP) != 0 || stripes != copies {
            return Err(Untrusted::new("it has a RAID profile"));
        }
        let mut chunk = Chunk {
            length,
            copies: Vec::with_capacity(copies),
        };
        for stripe in 0..stripes {
            let device = item.u64(48 + stripe * 32)?;
            let offset = item.u64(56 + stripe * 32)?;
            let fits = offset
                .checked_add(length)
                .is_some_and(|end| end <= superblock.device_size);
            if device != superblock.device || !fits {
                return Err(Untrusted::new("a chunk is outside the device"));
            }
            chunk.copies.push(offset);
        }
        let apart = logical.checked_add(length).is_some_and(|end| {
            self.0.range(logical..end).next().is_none()
                && self
                    .0
                    .range(..logical)
                    .next_back()
                    .is_none_or(|(start, before)| start + before.length <= logical)
        });
        if !apart || length == 0 || self.0.len() >= CHUNKS_MAX {
            return Err(Untrusted::new("its chunks overlap"));
        }
        self.0.insert(logical, chunk);
        Ok(48 + stripes * 32)
    }

    /// The chunk that holds `length` bytes at `logical`, by its logical start, and the place of each
    /// copy on the device.
    pub(super) fn locate(
        &self,
        logical: u64,
        length: u64,
    ) -> Option<(u64, impl Iterator<Item = u64> + '_)> {
        let (start, chunk) = self.0.range(..=logical).next_back()?;
        let offset = logical - start;
        let fits = offset
            .checked_add(length)
            .is_some_and(|end| end <= chunk.length);
        fits.then(|| (*start, chunk.copies.iter().map(move |copy| copy + offset)))
    }
}
