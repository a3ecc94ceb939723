//! Btrfs on one device: every extent in the extent tree, both copies of what is duplicated.
//!
//! After the kernel's `btrfs_tree.h`. Trusted when there is no log tree to replay, every block read has
//! the right checksum, place and generation, and what the extents add up to agrees with each block
//! group and with the superblock.

mod chunks;
mod superblock;
mod tree;

use super::range_collector::RangeCollector;
use super::{Label, Untrusted};
use crate::extents::Extents;
use crate::source::ReadAt;
use chunks::Chunks;
use std::collections::BTreeMap;
use superblock::Superblock;
use tree::{Item, Root, walk};

const EXTENT_TREE: u64 = 2;
const BLOCK_GROUP_TREE: u64 = 11;
const ROOT_ITEM: u8 = 132;
const EXTENT_ITEM: u8 = 168;
const METADATA_ITEM: u8 = 169;
const BLOCK_GROUP_ITEM: u8 = 192;
/// Where the kernel keeps superblocks: 64 KiB, 64 MiB, 256 GiB.
const SUPERBLOCKS: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
const SUPERBLOCK_SIZE: u64 = 4096;
/// No block group is ever put here: boot loaders may use it.
const RESERVED: u64 = 1 << 20;

pub(super) fn label(volume: &dyn ReadAt) -> Result<Label, Untrusted> {
    superblock::label(volume)
}

/// Whether it grows while it is mounted, as far as its superblock tells.
pub(super) fn check_growth(volume: &dyn ReadAt, to: u64) -> Result<(), Untrusted> {
    superblock::check_growth(volume, to)
}

pub(super) fn map(volume: &dyn ReadAt) -> Result<Extents, Untrusted> {
    let size = volume.size();
    let superblock = Superblock::read(volume)?;
    let chunks = Chunks::read(volume, &superblock)?;
    let mut extents = Used::new(&superblock, &chunks);
    let (extent_root, group_root) = roots(volume, &superblock, &chunks)?;
    walk(volume, &superblock, &chunks, extent_root, &mut |item| {
        extents.item(item)
    })?;
    if let Some(root) = group_root {
        walk(volume, &superblock, &chunks, root, &mut |item| {
            extents.group(item)
        })?;
    }
    let mut keep = extents.finish()?;
    keep.add(0..RESERVED);
    for at in SUPERBLOCKS {
        keep.add(at..at + SUPERBLOCK_SIZE);
    }
    keep.add(superblock.device_size..size);
    Ok(keep.finish(size))
}

/// The roots of the extent tree, and of the block groups' own tree where there is one.
fn roots(
    volume: &dyn ReadAt,
    superblock: &Superblock,
    chunks: &Chunks,
) -> Result<(Root, Option<Root>), Untrusted> {
    let mut extents = None;
    let mut groups = None;
    walk(volume, superblock, chunks, superblock.root, &mut |item| {
        if item.kind == ROOT_ITEM {
            match item.object {
                EXTENT_TREE => extents = Some(root_of(item)?),
                BLOCK_GROUP_TREE => groups = Some(root_of(item)?),
                _ => {}
            }
        }
        Ok(())
    })?;
    let extents = extents.ok_or_else(|| Untrusted::new("it has no extent tree"))?;
    if superblock.has_block_group_tree() && groups.is_none() {
        return Err(Untrusted::new("it has no block group tree"));
    }
    Ok((extents, groups))
}

/// `struct btrfs_root_item`.
fn root_of(item: &Item<'_>) -> Result<Root, Untrusted> {
    Ok(Root {
        logical: item.data.u64(176)?,
        level: item.data.u8(238)?,
        generation: item.data.u64(160)?,
        owner: item.object,
    })
}

/// What the extent tree adds up to.
struct Used<'a> {
    superblock: &'a Superblock,
    chunks: &'a Chunks,
    keep: RangeCollector,
    /// Bytes of extents in each chunk, by its logical start.
    in_chunk: BTreeMap<u64, u64>,
    total: u64,
    /// Where the last extent ended: they never overlap.
    end: u64,
    /// What block groups say is used in them.
    groups: BTreeMap<u64, u64>,
}

impl<'a> Used<'a> {
    fn new(superblock: &'a Superblock, chunks: &'a Chunks) -> Self {
        Self {
            superblock,
            chunks,
            keep: RangeCollector::new(),
            in_chunk: BTreeMap::new(),
            total: 0,
            end: 0,
            groups: BTreeMap::new(),
        }
    }

    fn item(&mut self, item: &Item<'_>) -> Result<(), Untrusted> {
        let length = match item.kind {
            EXTENT_ITEM => item.offset,
            METADATA_ITEM => self.superblock.node_size,
            BLOCK_GROUP_ITEM => return self.group(item),
            _ => return Ok(()),
        };
        let sector = self.superblock.sector_size;
        if item.object < self.end || length == 0 || length % sector != 0 {
            return Err(Untrusted::new("extents overlap in its extent tree"));
        }
        let (chunk, copies) = self
            .chunks
            .locate(item.object, length)
            .ok_or_else(|| Untrusted::new("an extent is in no chunk"))?;
        for copy in copies {
            self.keep.add(copy..copy + length);
        }
        self.end = item.object + length;
        self.total += length;
        *self.in_chunk.entry(chunk).or_default() += length;
        Ok(())
    }

    fn group(&mut self, item: &Item<'_>) -> Result<(), Untrusted> {
        if item.kind == BLOCK_GROUP_ITEM {
            self.groups.insert(item.object, item.data.u64(0)?);
        }
        Ok(())
    }

    /// Proves the sums.
    fn finish(self) -> Result<RangeCollector, Untrusted> {
        for (logical, used) in &self.groups {
            let counted = self.in_chunk.get(logical).copied().unwrap_or(0);
            if counted != *used {
                return Err(Untrusted::new(format!(
                    "block group {logical} has {counted} bytes in extents, but says {used}"
                )));
            }
        }
        let grouped = self
            .in_chunk
            .keys()
            .all(|chunk| self.groups.contains_key(chunk));
        if !grouped || self.total != self.superblock.bytes_used {
            return Err(Untrusted::new(format!(
                "its extents add up to {} bytes, its superblock says {}",
                self.total, self.superblock.bytes_used
            )));
        }
        Ok(self.keep)
    }
}
