//! What the inodes of a filesystem say is theirs. Only `metadata_csum` vouches for the bits of a bitmap; without it a
//! bitmap whose counts are right by chance is found out by the files that it lacks blocks of.
//!
//! Inodes, extent trees and block maps after the kernel's `Documentation/filesystems/ext4/`.

use super::Untrusted;
use super::groups::Group;
use super::superblock::Superblock;
use crate::extents::Extents;
use crate::source::ReadAt;
use crate::used::bytes::Fields;
use std::ops::Range;

/// Blocks of an inode table in memory at once.
const PIECE: u64 = 16;
const EXTENTS_FLAG: u32 = 0x8_0000;
const INLINE_FLAG: u32 = 0x1000_0000;
const EXTENT_MAGIC: u16 = 0xf30a;
/// `EXT4_MAX_EXTENT_DEPTH` of the kernel.
const DEPTH_MAX: u16 = 5;
/// An extent longer than this is one that was allocated and never written, and so much shorter.
const LENGTH_MAX: u16 = 1 << 15;
/// Pointers to blocks in an inode; the last three are to blocks of pointers, once to thrice removed.
const DIRECT: usize = 12;
const POINTERS: usize = 15;

/// Compares files with a map of the bytes that are kept.
pub(super) struct Files<'a> {
    superblock: &'a Superblock,
    kept: &'a Extents,
    /// A block has one owner: how many may still get theirs. This bounds what a damaged volume costs.
    left: u64,
}

impl<'a> Files<'a> {
    pub(super) fn new(superblock: &'a Superblock, kept: &'a Extents) -> Self {
        Self {
            superblock,
            kept,
            left: superblock.blocks,
        }
    }

    /// Proves that the map has every block that the inodes of `group` name.
    pub(super) fn check(&mut self, volume: &dyn ReadAt, group: &Group) -> Result<(), Untrusted> {
        if group.inodes_uninitialised {
            return Ok(());
        }
        let superblock = self.superblock;
        let table = group.inode_table(superblock);
        // Tables are nobody's but a group's.
        self.spend(table.end - table.start)?;
        let size = usize::try_from(superblock.inode_size).map_err(|_| too_large())?;
        let first = group.number * superblock.inodes_per_group + 1;
        let mut numbers = first..first + superblock.inodes_per_group;
        let mut at = table.start;
        while at < table.end {
            let count = PIECE.min(table.end - at);
            let length = usize::try_from(count * superblock.block_size).map_err(|_| too_large())?;
            let piece = volume.bytes_at(at * superblock.block_size, length)?;
            for (raw, number) in piece.chunks_exact(size).zip(&mut numbers) {
                self.inode(volume, Fields(raw), number)?;
            }
            at += count;
        }
        Ok(())
    }

    fn inode(
        &mut self,
        volume: &dyn ReadAt,
        raw: Fields<'_>,
        number: u64,
    ) -> Result<(), Untrusted> {
        let links = raw.u16(0x1a)?;
        if links == 0 {
            return Ok(());
        }
        // Without 64bit the Hurd has something else in the upper half.
        let upper = if self.superblock.is_wide() {
            u64::from(raw.u16(0x76)?) << 32
        } else {
            0
        };
        let attributes = u64::from(raw.u32(0x68)?) | upper;
        if attributes != 0 {
            // Inodes share these: they are no inode's own.
            self.is_kept(attributes..attributes + 1, number)?;
        }
        let (kind, flags) = (raw.u16(0)? >> 12, raw.u32(0x20)?);
        let map = raw.slice(0x28, POINTERS * 4)?;
        match kind {
            _ if flags & INLINE_FLAG != 0 => Ok(()),
            // A folder, a file, a symbolic link.
            4 | 8 | 10 if flags & EXTENTS_FLAG != 0 => {
                self.extents(volume, Fields(map), DEPTH_MAX, number)
            }
            // A short link is its own map.
            10 if u64::from(raw.u32(4)?) < map.len() as u64 => Ok(()),
            4 | 8 | 10 => self.pointers(volume, map, number),
            _ => Ok(()),
        }
    }

    /// A node of an extent tree, at most `depth` levels above the leaves.
    fn extents(
        &mut self,
        volume: &dyn ReadAt,
        node: Fields<'_>,
        depth: u16,
        number: u64,
    ) -> Result<(), Untrusted> {
        let level = node.u16(6)?;
        if node.u16(0)? != EXTENT_MAGIC || level > depth {
            return Err(Untrusted::new(format!(
                "the extents of inode {number} are damaged"
            )));
        }
        for index in 1..=usize::from(node.u16(2)?) {
            let entry = Fields(node.slice(index * 12, 12)?);
            if level > 0 {
                let block = u64::from(entry.u32(4)?) | u64::from(entry.u16(8)?) << 32;
                self.claim(block..block + 1, number)?;
                let below = self.superblock.read_block(volume, block)?;
                self.extents(volume, Fields(&below), level - 1, number)?;
                continue;
            }
            let start = u64::from(entry.u32(8)?) | u64::from(entry.u16(6)?) << 32;
            let length = entry.u16(4)?;
            let length = length
                .checked_sub(LENGTH_MAX)
                .filter(|rest| *rest > 0)
                .unwrap_or(length);
            self.claim(start..start + u64::from(length), number)?;
        }
        Ok(())
    }

    fn pointers(&mut self, volume: &dyn ReadAt, map: &[u8], number: u64) -> Result<(), Untrusted> {
        let (direct, indirect) = map.split_at(DIRECT * 4);
        self.blocks(volume, direct, 0, number)?;
        for (depth, pointer) in (1..).zip(indirect.chunks_exact(4)) {
            self.blocks(volume, pointer, depth, number)?;
        }
        Ok(())
    }

    /// Blocks that `pointers` name, and those that they name in turn, `depth` times.
    fn blocks(
        &mut self,
        volume: &dyn ReadAt,
        pointers: &[u8],
        depth: u32,
        number: u64,
    ) -> Result<(), Untrusted> {
        for pointer in pointers.chunks_exact(4) {
            let block = u64::from(Fields(pointer).u32(0)?);
            if block == 0 {
                continue;
            }
            self.claim(block..block + 1, number)?;
            if depth > 0 {
                let below = self.superblock.read_block(volume, block)?;
                self.blocks(volume, &below, depth - 1, number)?;
            }
        }
        Ok(())
    }

    fn claim(&mut self, blocks: Range<u64>, number: u64) -> Result<(), Untrusted> {
        self.spend(blocks.end - blocks.start)?;
        self.is_kept(blocks, number)
    }

    fn spend(&mut self, blocks: u64) -> Result<(), Untrusted> {
        let left = self.left.checked_sub(blocks);
        self.left =
            left.ok_or_else(|| Untrusted::new("its files have more blocks than there are"))?;
        Ok(())
    }

    fn is_kept(&self, blocks: Range<u64>, number: u64) -> Result<(), Untrusted> {
        if blocks.end > self.superblock.blocks {
            return Err(Untrusted::new(format!(
                "inode {number} has blocks outside the filesystem"
            )));
        }
        let size = self.superblock.block_size;
        let bytes = blocks.start * size..blocks.end * size;
        if self.kept.within(bytes.clone()).next() == Some(bytes) || blocks.is_empty() {
            return Ok(());
        }
        Err(Untrusted::new(format!(
            "its bitmap lacks blocks that inode {number} uses"
        )))
    }
}

fn too_large() -> Untrusted {
    Untrusted::new("its inode tables are too large")
}
