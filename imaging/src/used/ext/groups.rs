//! Group descriptors: where a group's bitmaps and inode table are, and whether they were ever written.

use super::superblock::{Checksums, Superblock};
use crate::source::ReadAt;
use crate::used::Untrusted;
use crate::used::bytes::{Fields, crc32c_raw};
use std::ops::Range;

const INODE_UNINIT: u16 = 0x1;
const BLOCK_UNINIT: u16 = 0x2;
const CHECKSUM: usize = 0x1e;
const CRC16: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_MODBUS);

/// Walks the descriptors, one block of them in memory at a time.
pub(super) struct Groups<'a> {
    superblock: &'a Superblock,
    next: u64,
    block: Vec<u8>,
}

impl<'a> Groups<'a> {
    pub(super) fn new(superblock: &'a Superblock) -> Self {
        Self {
            superblock,
            next: 0,
            block: Vec::new(),
        }
    }

    /// The next group, its checksum proven; `None` behind the last.
    pub(super) fn next(&mut self, volume: &dyn ReadAt) -> Result<Option<Group>, Untrusted> {
        let number = self.next;
        if number >= self.superblock.groups() {
            return Ok(None);
        }
        let size = self.superblock.descriptor_size;
        let used = self.superblock.descriptors_per_block();
        let place = number % used;
        if place == 0 {
            let block = self.superblock.descriptor_block(number / used);
            self.block = self.superblock.read_block(volume, block)?;
        }
        let at = usize::try_from(place).map_err(|_| Untrusted::new("too many groups"))? * size;
        let raw = Fields(&self.block).slice(at, size)?;
        self.next += 1;
        Group::parse(self.superblock, number, raw).map(Some)
    }
}

/// One block group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) number: u64,
    pub(super) block_bitmap: u64,
    pub(super) inode_bitmap: u64,
    inode_table_start: u64,
    free_clusters: u64,
    unused_inodes: u64,
    bitmap_checksum: u32,
    bitmap_checksum_mask: u32,
    /// The block bitmap was never written: nothing but metadata is allocated here.
    pub(super) blocks_uninitialised: bool,
    /// Neither inode bitmap nor table were ever written.
    pub(super) inodes_uninitialised: bool,
}

impl Group {
    fn parse(superblock: &Superblock, number: u64, raw: &[u8]) -> Result<Self, Untrusted> {
        check_descriptor(superblock, number, raw)?;
        let fields = Fields(raw);
        let wide = raw.len() >= 64;
        let joined = |low: usize, high: usize| -> Result<u64, Untrusted> {
            let upper = if wide { fields.u32(high)? } else { 0 };
            Ok(u64::from(fields.u32(low)?) | u64::from(upper) << 32)
        };
        let halves = |low: usize, high: usize| -> Result<u32, Untrusted> {
            let upper = if wide { fields.u16(high)? } else { 0 };
            Ok(u32::from(fields.u16(low)?) | u32::from(upper) << 16)
        };
        // Without checksums the flags mean nothing.
        let flags = match superblock.checksums {
            Checksums::None => 0,
            Checksums::Crc16 | Checksums::Crc32c(_) => fields.u16(0x12)?,
        };
        let inodes_uninitialised = flags & INODE_UNINIT != 0;
        let unused_inodes = match superblock.checksums {
            Checksums::None => 0,
            _ if inodes_uninitialised => superblock.inodes_per_group,
            _ => u64::from(halves(0x1c, 0x32)?),
        };
        let group = Self {
            number,
            block_bitmap: joined(0x0, 0x20)?,
            inode_bitmap: joined(0x4, 0x24)?,
            inode_table_start: joined(0x8, 0x28)?,
            free_clusters: u64::from(halves(0xc, 0x2c)?),
            unused_inodes,
            bitmap_checksum: halves(0x18, 0x38)?,
            bitmap_checksum_mask: if wide { !0 } else { 0xffff },
            blocks_uninitialised: flags & BLOCK_UNINIT != 0,
            inodes_uninitialised,
        };
        group.check_places(superblock)?;
        Ok(group)
    }

    fn check_places(&self, superblock: &Superblock) -> Result<(), Untrusted> {
        let inside = |at: u64, length: u64| {
            at >= superblock.first_data_block
                && at
                    .checked_add(length)
                    .is_some_and(|end| end <= superblock.blocks)
        };
        let table = table_blocks(superblock, superblock.inodes_per_group);
        if !inside(self.block_bitmap, 1)
            || !inside(self.inode_bitmap, 1)
            || !inside(self.inode_table_start, table)
            || self.unused_inodes > superblock.inodes_per_group
        {
            return Err(Untrusted::new(format!(
                "the descriptor of group {} points outside the filesystem",
                self.number
            )));
        }
        Ok(())
    }

    /// Blocks of the inode table that may hold inodes.
    pub(super) fn inode_table(&self, superblock: &Superblock) -> Range<u64> {
        let used = superblock.inodes_per_group - self.unused_inodes;
        self.inode_table_start..self.inode_table_start + table_blocks(superblock, used)
    }

    /// Blocks of the inode table that the kernel has never written an inode to (`bg_itable_unused`).
    pub(super) fn unused_inode_table(&self, superblock: &Superblock) -> Range<u64> {
        let all = table_blocks(superblock, superblock.inodes_per_group);
        self.inode_table(superblock).end..self.inode_table_start + all
    }

    /// Proves the bitmap by its checksum, where there are any.
    pub(super) fn check_bitmap(
        &self,
        superblock: &Superblock,
        bitmap: &[u8],
    ) -> Result<(), Untrusted> {
        let Checksums::Crc32c(seed) = superblock.checksums else {
            return Ok(());
        };
        let length = usize::try_from(superblock.clusters_per_group / 8)
            .map_err(|_| Untrusted::new("groups too large"))?;
        let sum = crc32c_raw(seed, Fields(bitmap).slice(0, length)?);
        if sum & self.bitmap_checksum_mask != self.bitmap_checksum {
            return Err(Untrusted::new(format!(
                "the checksum of the block bitmap of group {} is wrong",
                self.number
            )));
        }
        Ok(())
    }

    /// Proves the bitmap by the count that the descriptor keeps beside it.
    pub(super) fn check_free(&self, free: u64) -> Result<(), Untrusted> {
        if free != self.free_clusters {
            return Err(Untrusted::new(format!(
                "group {} has {free} free clusters in its bitmap, {} in its descriptor",
                self.number, self.free_clusters
            )));
        }
        Ok(())
    }
}

fn table_blocks(superblock: &Superblock, inodes: u64) -> u64 {
    (inodes * superblock.inode_size).div_ceil(superblock.block_size)
}

fn check_descriptor(superblock: &Superblock, number: u64, raw: &[u8]) -> Result<(), Untrusted> {
    let fields = Fields(raw);
    let stored = fields.u16(CHECKSUM)?;
    let number_bytes = u32::try_from(number)
        .map_err(|_| Untrusted::new("too many groups"))?
        .to_le_bytes();
    let before = fields.slice(0, CHECKSUM)?;
    let after = fields.slice(CHECKSUM + 2, raw.len() - CHECKSUM - 2)?;
    let computed = match superblock.checksums {
        Checksums::None => return Ok(()),
        Checksums::Crc16 => {
            let mut digest = CRC16.digest();
            digest.update(&superblock.uuid);
            digest.update(&number_bytes);
            digest.update(before);
            digest.update(after);
            digest.finalize()
        }
        Checksums::Crc32c(seed) => {
            let sum = crc32c_raw(seed, &number_bytes);
            let sum = crc32c_raw(sum, before);
            let sum = crc32c_raw(sum, &[0, 0]);
            let [low, high, ..] = crc32c_raw(sum, after).to_le_bytes();
            u16::from_le_bytes([low, high])
        }
    };
    if computed != stored {
        return Err(Untrusted::new(format!(
            "the checksum of the descriptor of group {number} is wrong"
        )));
    }
    Ok(())
}
