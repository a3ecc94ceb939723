//! The two B+trees of free space in an allocation group. Both are walked along their leaves.

use super::{Superblock, check_crc};
use crate::source::ReadAt;
use crate::used::Untrusted;
use crate::used::bytes::Fields;
use std::ops::Range;

/// `NULLAGBLOCK`: no sibling.
const NONE: u32 = u32::MAX;
/// `XFS_BTREE_MAXLEVELS` is 9.
const LEVELS_MAX: u32 = 9;
const CRC: usize = 52;

/// What a tree is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Block,
    Size,
}

/// A walk over one tree, with what it adds up to.
pub(super) struct Tree<'a> {
    superblock: &'a Superblock,
    group: u64,
    order: Order,
    /// Free blocks seen.
    pub(super) total: u64,
    /// The same for the same extents in any order.
    pub(super) digest: u64,
}

impl<'a> Tree<'a> {
    pub(super) fn new(superblock: &'a Superblock, group: u64, order: Order) -> Self {
        Self {
            superblock,
            group,
            order,
            total: 0,
            digest: 0,
        }
    }

    /// Calls `each` with each free extent in the tree's order, as blocks of the group.
    pub(super) fn walk(
        &mut self,
        volume: &dyn ReadAt,
        root: u32,
        levels: u32,
        mut each: impl FnMut(Range<u64>) -> Result<(), Untrusted>,
    ) -> Result<(), Untrusted> {
        if !(1..=LEVELS_MAX).contains(&levels) {
            return Err(self.damaged());
        }
        let mut at = root;
        for level in (1..levels).rev() {
            let node = self.block(volume, at, level)?;
            at = self.first_child(&node)?;
        }
        let mut left = NONE;
        let mut visited = 0;
        while at != NONE {
            let leaf = self.block(volume, at, 0)?;
            let fields = Fields(&leaf);
            visited += 1;
            if fields.u32_be(8)? != left || visited > self.superblock.length(self.group) {
                return Err(self.damaged());
            }
            self.records(&leaf, &mut each)?;
            left = at;
            at = fields.u32_be(12)?;
        }
        Ok(())
    }

    fn header_size(&self) -> usize {
        if self.superblock.version == 5 { 56 } else { 16 }
    }

    fn records(
        &mut self,
        leaf: &[u8],
        each: &mut impl FnMut(Range<u64>) -> Result<(), Untrusted>,
    ) -> Result<(), Untrusted> {
        let count = usize::from(Fields(leaf).u16_be(6)?);
        let records = Fields(leaf).slice(self.header_size(), count * 8)?;
        for record in records.chunks_exact(8) {
            let record = Fields(record);
            let start = u64::from(record.u32_be(0)?);
            let length = u64::from(record.u32_be(4)?);
            // The first four sectors of a group are its headers.
            let headers = (4 * self.superblock.sector_size).div_ceil(self.superblock.block_size);
            let end = start + length;
            if length == 0 || start < headers || end > self.superblock.length(self.group) {
                return Err(self.damaged());
            }
            self.total += length;
            let mixed = (start << 32 | length).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.digest = self.digest.wrapping_add(mixed ^ mixed >> 29);
            each(start..end)?;
        }
        Ok(())
    }

    fn first_child(&self, node: &[u8]) -> Result<u32, Untrusted> {
        let header = self.header_size();
        // A node's key and pointer take 12 bytes together; all keys come first.
        let capacity = node.len().saturating_sub(header) / 12;
        Fields(node).u32_be(header + capacity * 8)
    }

    fn block(&self, volume: &dyn ReadAt, at: u32, level: u32) -> Result<Vec<u8>, Untrusted> {
        let superblock = self.superblock;
        if u64::from(at) >= superblock.length(self.group) {
            return Err(self.damaged());
        }
        let length = usize::try_from(superblock.block_size).map_err(|_| self.damaged())?;
        let byte = (self.group * superblock.group_blocks + u64::from(at)) * superblock.block_size;
        let bytes = volume.bytes_at(byte, length)?;
        let fields = Fields(&bytes);
        let magic: &[u8] = match (self.order, superblock.version) {
            (Order::Block, 5) => b"AB3B",
            (Order::Block, _) => b"ABTB",
            (Order::Size, 5) => b"AB3C",
            (Order::Size, _) => b"ABTC",
        };
        if fields.slice(0, 4)? != magic || u32::from(fields.u16_be(4)?) != level {
            return Err(self.damaged());
        }
        if superblock.version == 5 {
            check_crc(
                &bytes,
                CRC,
                &format!("free space tree in group {}", self.group),
            )?;
            let in_place = fields.u64_be(16)? == byte / 512
                && fields.slice(32, 16)? == superblock.uuid
                && u64::from(fields.u32_be(48)?) == self.group;
            if !in_place {
                return Err(self.damaged());
            }
        }
        Ok(bytes)
    }

    fn damaged(&self) -> Untrusted {
        Untrusted::new(format!(
            "the free space tree of group {} is damaged",
            self.group
        ))
    }
}
