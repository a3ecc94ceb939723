//! XFS: each allocation group's B+tree of free extents, sorted by block; everything else is used.
//!
//! After the "XFS Algorithms & Data Structures" book and the kernel's `xfs_format.h`. Trusted when the log
//! ends in an unmount record, checksums are right (version 5), and both free space trees of each
//! group agree with each other and with the group's count.

mod log;
mod tree;

use super::bytes::Fields;
use super::range_collector::RangeCollector;
use super::{Label, Untrusted};
use crate::extents::Extents;
use crate::source::ReadAt;
use tree::Tree;

const MAGIC: &[u8] = b"XFSB";
/// A filesystem of 1 EiB has this many groups of the largest size, 1 TiB; small ones are fewer.
const GROUPS_MAX: u64 = 1 << 20;
const SUPERBLOCK_CRC: usize = 224;
const AGF_CRC: usize = 216;

/// finobt, rmapbt, reflink, inobtcnt.
const RO_COMPAT_KNOWN: u32 = 0xf;
const INCOMPAT_META_UUID: u32 = 0x4;
const INCOMPAT_NEEDS_REPAIR: u32 = 0x10;
/// ftype, sparse inodes, meta uuid, bigtime, needs repair, large extent counts, exchange range, parent
/// pointers.
const INCOMPAT_KNOWN: u32 = 0xff;

/// The fields of the superblock that place everything else.
struct Superblock {
    version: u16,
    block_size: u64,
    blocks: u64,
    group_blocks: u64,
    groups: u64,
    sector_size: u64,
    /// First block of the internal log, as a byte on the volume.
    log_start: u64,
    log_size: u64,
    /// What metadata of version 5 carries.
    uuid: [u8; 16],
}

pub(super) fn label(volume: &dyn ReadAt) -> Result<Label, Untrusted> {
    let head = volume.bytes_at(0, 512)?;
    let sb = Fields(&head);
    Ok(Label {
        uuid: sb.uuid(32)?,
        label: sb.text(108, 12)?,
    })
}

/// Whether it grows while it is mounted, as far as its superblock tells; the oldest kernel that mounts it.
pub(super) fn check_growth(volume: &dyn ReadAt) -> Result<(u32, u32), Untrusted> {
    Superblock::read(volume)?;
    let head = volume.bytes_at(0, 512)?;
    let sb = Fields(&head);
    if sb.u16_be(100)? & 0xf != 5 {
        return Ok((0, 0));
    }
    let (ro, incompat) = (sb.u32_be(212)?, sb.u32_be(216)?);
    let needs = NEEDS.iter().filter(|(of_ro, bit, _)| {
        let features = if *of_ro { ro } else { incompat };
        features & bit != 0
    });
    Ok(needs.map(|(_, _, kernel)| *kernel).max().unwrap_or((0, 0)))
}

/// Whether a feature is of those that older kernels at least read, its bit, and the first kernel that writes it
/// (`fs/xfs/libxfs/xfs_format.h`).
const NEEDS: [(bool, u32, (u32, u32)); 8] = [
    // finobt, rmapbt, reflink, inobtcnt
    (true, 0x1, (3, 16)),
    (true, 0x2, (4, 8)),
    (true, 0x4, (4, 9)),
    (true, 0x8, (5, 10)),
    // bigtime, large extent counts, exchange range, parent pointers
    (false, 0x8, (5, 10)),
    (false, 0x20, (5, 19)),
    (false, 0x40, (6, 10)),
    (false, 0x80, (6, 10)),
];

pub(super) fn map(volume: &dyn ReadAt) -> Result<Extents, Untrusted> {
    let size = volume.size();
    let superblock = Superblock::read(volume)?;
    log::check_clean(volume, superblock.log_start, superblock.log_size)?;
    let mut keep = RangeCollector::new();
    for group in 0..superblock.groups {
        keep_group(volume, &superblock, group, &mut keep)?;
    }
    keep.add(superblock.blocks * superblock.block_size..size);
    Ok(keep.finish(size))
}

impl Superblock {
    fn read(volume: &dyn ReadAt) -> Result<Self, Untrusted> {
        let head = volume.bytes_at(0, 512)?;
        let sb = Fields(&head);
        let sector_size = u64::from(sb.u16_be(102)?);
        let block_size = u64::from(sb.u32_be(4)?);
        let sizes_fit = sector_size.is_power_of_two()
            && (512..=32768).contains(&sector_size)
            && block_size.is_power_of_two()
            && (sector_size..=65536).contains(&block_size);
        if sb.slice(0, 4)? != MAGIC || !sizes_fit {
            return Err(Untrusted::new("its superblock contradicts itself"));
        }
        let version = sb.u16_be(100)? & 0xf;
        check_features(volume, version, sector_size)?;
        let own_uuid = version == 5 && sb.u32_be(216)? & INCOMPAT_META_UUID != 0;
        let mut uuid = [0; 16];
        uuid.copy_from_slice(sb.slice(if own_uuid { 248 } else { 32 }, 16)?);
        let superblock = Self {
            version,
            block_size,
            blocks: sb.u64_be(8)?,
            group_blocks: u64::from(sb.u32_be(84)?),
            groups: u64::from(sb.u32_be(88)?),
            sector_size,
            log_start: sb.u64_be(48)?,
            log_size: u64::from(sb.u32_be(96)?) * block_size,
            uuid,
        };
        superblock.placed(sb.u8(124)?, volume.size())
    }

    /// Checks the geometry, and turns the log's block number (group and block within it) into a byte.
    fn placed(mut self, group_log: u8, volume: u64) -> Result<Self, Untrusted> {
        let bytes = self.blocks.checked_mul(self.block_size);
        if bytes.is_none_or(|bytes| bytes > volume) {
            return Err(Untrusted::new("it says it is larger than the partition"));
        }
        let groups_fit = self.group_blocks > 0
            && self.groups > 0
            && self.groups <= GROUPS_MAX
            && group_log <= 32
            && self.group_blocks <= 1 << group_log
            && self.blocks.div_ceil(self.group_blocks) == self.groups;
        if !groups_fit {
            return Err(Untrusted::new("its superblock contradicts itself"));
        }
        if self.log_start == 0 {
            return Err(Untrusted::new("its log is on another device"));
        }
        let group = self.log_start >> group_log;
        let block = self.log_start & ((1 << group_log) - 1);
        if group >= self.groups || block >= self.group_blocks {
            return Err(Untrusted::new("its log is outside the filesystem"));
        }
        self.log_start = (group * self.group_blocks + block) * self.block_size;
        Ok(self)
    }

    /// Blocks of the group: the last one may be short.
    fn length(&self, group: u64) -> u64 {
        (self.blocks - group * self.group_blocks).min(self.group_blocks)
    }
}

fn check_features(volume: &dyn ReadAt, version: u16, sector: u64) -> Result<(), Untrusted> {
    let sector = usize::try_from(sector).map_err(|_| Untrusted::new("sectors too large"))?;
    let head = volume.bytes_at(0, sector)?;
    let sb = Fields(&head);
    if sb.u8(126)? != 0 {
        return Err(Untrusted::new("it is only half made"));
    }
    if sb.u64_be(16)? != 0 {
        return Err(Untrusted::new("it has a realtime section"));
    }
    match version {
        4 => Ok(()),
        5 => {
            check_crc(&head, SUPERBLOCK_CRC, "superblock")?;
            let (ro, incompat, log) = (sb.u32_be(212)?, sb.u32_be(216)?, sb.u32_be(220)?);
            if incompat & INCOMPAT_NEEDS_REPAIR != 0 {
                return Err(Untrusted::new("it is marked to need repair"));
            }
            if ro & !RO_COMPAT_KNOWN != 0 || incompat & !INCOMPAT_KNOWN != 0 || log != 0 {
                return Err(Untrusted::new(format!(
                    "it has unknown features (ro_compat {ro:#x}, incompat {incompat:#x}, log {log:#x})"
                )));
            }
            Ok(())
        }
        other => Err(Untrusted::new(format!("it is of version {other}"))),
    }
}

/// CRC32C over `bytes`, its own field at `at` taken as zeros; stored little-endian in a big-endian
/// filesystem.
fn check_crc(bytes: &[u8], at: usize, what: &str) -> Result<(), Untrusted> {
    let fields = Fields(bytes);
    let stored = fields.u32(at)?;
    let rest = fields.slice(at + 4, bytes.len().saturating_sub(at + 4))?;
    let sum = crc32c::crc32c(fields.slice(0, at)?);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    if crc32c::crc32c_append(sum, rest) != stored {
        return Err(Untrusted::new(format!(
            "the checksum of its {what} is wrong"
        )));
    }
    Ok(())
}

/// Adds all of a group but what its free space tree lists.
fn keep_group(
    volume: &dyn ReadAt,
    superblock: &Superblock,
    group: u64,
    keep: &mut RangeCollector,
) -> Result<(), Untrusted> {
    let start = group * superblock.group_blocks;
    let at = start * superblock.block_size + superblock.sector_size;
    let length =
        usize::try_from(superblock.sector_size).map_err(|_| Untrusted::new("too large"))?;
    let header = volume.bytes_at(at, length)?;
    let agf = Fields(&header);
    let blocks = superblock.length(group);
    if agf.slice(0, 4)? != b"XAGF"
        || agf.u32_be(4)? != 1
        || u64::from(agf.u32_be(8)?) != group
        || u64::from(agf.u32_be(12)?) != blocks
    {
        return Err(Untrusted::new(format!(
            "the header of group {group} is damaged"
        )));
    }
    if superblock.version == 5 {
        check_crc(&header, AGF_CRC, &format!("header of group {group}"))?;
        if agf.slice(64, 16)? != superblock.uuid {
            return Err(Untrusted::new(format!(
                "the header of group {group} is another filesystem's"
            )));
        }
    }
    let mut by_block = Tree::new(superblock, group, tree::Order::Block);
    let mut used_from = 0;
    by_block.walk(volume, agf.u32_be(16)?, agf.u32_be(28)?, |free| {
        if free.start < used_from {
            return Err(Untrusted::new(format!(
                "free extents overlap in group {group}"
            )));
        }
        keep.add_blocks(start + used_from..start + free.start, superblock.block_size);
        used_from = free.end;
        Ok(())
    })?;
    keep.add_blocks(start + used_from..start + blocks, superblock.block_size);
    let mut by_size = Tree::new(superblock, group, tree::Order::Size);
    by_size.walk(volume, agf.u32_be(20)?, agf.u32_be(32)?, |_| Ok(()))?;
    let counted = u64::from(agf.u32_be(52)?);
    if by_block.total != counted || by_size.total != counted || by_block.digest != by_size.digest {
        return Err(Untrusted::new(format!(
            "the free space of group {group} is {counted} blocks in its header, {} and {} in its trees",
            by_block.total, by_size.total
        )));
    }
    Ok(())
}
