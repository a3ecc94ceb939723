//! The ext superblock: geometry, features, and whether the rest can be believed.

use crate::source::ReadAt;
use crate::used::bytes::{Fields, crc32c_raw};
use crate::used::{Label, Untrusted};
use std::ops::Range;

pub(super) const OFFSET: u64 = 1024;
pub(super) const MAGIC: [u8; 2] = [0x53, 0xef];

/// Groups of a 16 TiB filesystem with blocks of 1 KiB; with 4 KiB, of 256 TiB.
const GROUPS_MAX: u64 = 1 << 21;

const COMPAT_HAS_JOURNAL: u32 = 0x4;
const COMPAT_SPARSE_SUPER2: u32 = 0x200;
// dir_prealloc, imagic, journal, xattr, resize_inode, dir_index, sparse_super2, fast_commit,
// stable_inodes, orphan_file.
const COMPAT_KNOWN: u32 = 0x1e3f;

const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_JOURNAL_DEV: u32 = 0x8;
const INCOMPAT_META_BG: u32 = 0x10;
const INCOMPAT_64BIT: u32 = 0x80;
const INCOMPAT_MMP: u32 = 0x100;
/// Lustre's; no e2fsprogs but its own knows it.
const INCOMPAT_DIRDATA: u32 = 0x1000;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
// filetype, meta_bg, extents, 64bit, mmp, flex_bg, ea_inode, dirdata, csum_seed, largedir,
// inline_data, encrypt, casefold.
const INCOMPAT_KNOWN: u32 = 0x3f7d2;
// What ext2 and ext3 may have without being ext4: filetype, recover, meta_bg.
const INCOMPAT_EXT3: u32 = 0x16;

const RO_SPARSE_SUPER: u32 = 0x1;
const RO_GDT_CSUM: u32 = 0x10;
const RO_BIGALLOC: u32 = 0x200;
const RO_METADATA_CSUM: u32 = 0x400;
const RO_READONLY: u32 = 0x1000;
// sparse_super, large_file, btree_dir, huge_file, gdt_csum, dir_nlink, extra_isize, quota,
// bigalloc, metadata_csum, readonly, project, verity.
const RO_KNOWN: u32 = 0xb77f;
// What ext2 and ext3 may have: sparse_super, large_file, btree_dir.
const RO_EXT3: u32 = 0x7;

/// Bits of `s_state`.
const STATE_CLEAN: u16 = 1;
const STATE_ERRORS: u16 = 2;

/// How group descriptors are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksums {
    None,
    /// CRC16 over descriptors only.
    Crc16,
    /// CRC32C over all metadata, from this seed.
    Crc32c(u32),
}

/// The fields that place everything else, in blocks.
#[derive(Debug)]
pub(super) struct Superblock {
    raw: Vec<u8>,
    compat: u32,
    incompat: u32,
    ro_compat: u32,
    pub(super) uuid: [u8; 16],
    pub(super) checksums: Checksums,
    pub(super) block_size: u64,
    pub(super) blocks: u64,
    pub(super) first_data_block: u64,
    pub(super) blocks_per_group: u64,
    pub(super) clusters_per_group: u64,
    /// Blocks in an allocation cluster: 1 without bigalloc.
    pub(super) cluster_ratio: u64,
    pub(super) inodes_per_group: u64,
    pub(super) inode_size: u64,
    pub(super) descriptor_size: usize,
    reserved_descriptor_blocks: u64,
    first_meta_group: u64,
    backup_groups: [u64; 2],
}

impl Superblock {
    pub(super) fn read(volume: &dyn ReadAt) -> Result<Self, Untrusted> {
        let raw = volume.bytes_at(OFFSET, 1024)?;
        let sb = Fields(&raw);
        if sb.slice(0x38, 2)? != MAGIC {
            return Err(Untrusted::new("the superblock is gone"));
        }
        let incompat = sb.u32(0x60)?;
        let ro_compat = sb.u32(0x64)?;
        let log_block = sb.u32(0x18)?;
        let log_cluster = sb.u32(0x1c)?;
        if log_block > 6 {
            return Err(Untrusted::new("its block size is impossible"));
        }
        let bigalloc = ro_compat & RO_BIGALLOC != 0;
        let log_ratio = match log_cluster.checked_sub(log_block) {
            Some(ratio) if bigalloc && ratio <= 20 => ratio,
            _ if !bigalloc => 0,
            _ => return Err(Untrusted::new("its cluster size is impossible")),
        };
        let wide = incompat & INCOMPAT_64BIT != 0;
        let mut uuid = [0; 16];
        uuid.copy_from_slice(sb.slice(0x68, 16)?);
        let checksums = checksums(sb, incompat, ro_compat, &uuid)?;
        Ok(Self {
            compat: sb.u32(0x5c)?,
            incompat,
            ro_compat,
            uuid,
            checksums,
            block_size: 1024 << log_block,
            blocks: u64::from(sb.u32(0x4)?)
                | if wide {
                    u64::from(sb.u32(0x150)?) << 32
                } else {
                    0
                },
            first_data_block: u64::from(sb.u32(0x14)?),
            blocks_per_group: u64::from(sb.u32(0x20)?),
            clusters_per_group: u64::from(sb.u32(if bigalloc { 0x24 } else { 0x20 })?),
            cluster_ratio: 1 << log_ratio,
            inodes_per_group: u64::from(sb.u32(0x28)?),
            inode_size: if sb.u32(0x4c)? == 0 {
                128
            } else {
                u64::from(sb.u16(0x58)?)
            },
            descriptor_size: if wide { usize::from(sb.u16(0xfe)?) } else { 32 },
            reserved_descriptor_blocks: u64::from(sb.u16(0xce)?),
            first_meta_group: u64::from(sb.u32(0x104)?),
            backup_groups: [u64::from(sb.u32(0x24c)?), u64::from(sb.u32(0x250)?)],
            raw,
        })
    }

    /// Whether it has the feature 64bit.
    pub(super) fn is_wide(&self) -> bool {
        self.incompat & INCOMPAT_64BIT != 0
    }

    pub(super) fn name(&self) -> &'static str {
        if self.incompat & !INCOMPAT_EXT3 & !INCOMPAT_JOURNAL_DEV != 0
            || self.ro_compat & !RO_EXT3 != 0
        {
            "ext4"
        } else if self.compat & COMPAT_HAS_JOURNAL != 0 {
            "ext3"
        } else {
            "ext2"
        }
    }

    pub(super) fn label(&self) -> Result<Label, Untrusted> {
        let sb = Fields(&self.raw);
        Ok(Label {
            uuid: sb.uuid(0x68)?,
            label: sb.text(0x78, 16)?,
        })
    }

    /// Everything that must hold before a bitmap is believed.
    pub(super) fn check(&self, volume: u64) -> Result<(), Untrusted> {
        self.check_features()?;
        self.check_state()?;
        self.check_geometry(volume)
    }

    fn check_features(&self) -> Result<(), Untrusted> {
        if self.incompat & INCOMPAT_JOURNAL_DEV != 0 {
            return Err(Untrusted::new("it is an external journal"));
        }
        if self.incompat & INCOMPAT_RECOVER != 0 {
            return Err(Untrusted::new("its journal needs to be replayed"));
        }
        let unknown = [
            ("compat", self.compat & !COMPAT_KNOWN),
            ("incompat", self.incompat & !INCOMPAT_KNOWN),
            ("ro_compat", self.ro_compat & !RO_KNOWN),
        ];
        match unknown.iter().find(|(_, bits)| *bits != 0) {
            Some((set, bits)) => Err(Untrusted::new(format!("it has {set} features {bits:#x}"))),
            None => Ok(()),
        }
    }

    fn check_state(&self) -> Result<(), Untrusted> {
        let sb = Fields(&self.raw);
        self.check_checksum()?;
        if sb.u16(0x3a)? != STATE_CLEAN {
            return Err(Untrusted::new(
                "it was not unmounted cleanly, or has errors",
            ));
        }
        if sb.u32(0xe8)? != 0 {
            return Err(Untrusted::new("it has orphaned inodes"));
        }
        if self.compat & COMPAT_HAS_JOURNAL != 0 && sb.u32(0xe0)? == 0 {
            return Err(Untrusted::new("its journal is on another device"));
        }
        Ok(())
    }

    /// Everything that must hold before e2fsck and resize2fs let it grow to `to` bytes.
    pub(super) fn check_growth(&self, volume: &dyn ReadAt, to: u64) -> Result<(), Untrusted> {
        let sb = Fields(&self.raw);
        if self.incompat & INCOMPAT_JOURNAL_DEV != 0 {
            return Err(Untrusted::new("it is an external journal"));
        }
        if self.ro_compat & RO_BIGALLOC != 0 {
            return Err(Untrusted::new("resize2fs refuses the feature bigalloc"));
        }
        let unknown = [
            ("compat", self.compat & !COMPAT_KNOWN),
            (
                "incompat",
                self.incompat & !(INCOMPAT_KNOWN & !INCOMPAT_DIRDATA | INCOMPAT_RECOVER),
            ),
            ("ro_compat", self.ro_compat & !(RO_KNOWN & !RO_READONLY)),
        ];
        if let Some((set, bits)) = unknown.iter().find(|(_, bits)| *bits != 0) {
            return Err(Untrusted::new(format!("it has {set} features {bits:#x}")));
        }
        self.check_checksum()?;
        let has_journal = self.compat & COMPAT_HAS_JOURNAL != 0;
        if has_journal && sb.u32(0xe0)? == 0 {
            return Err(Untrusted::new("its journal is on another device"));
        }
        let state = sb.u16(0x3a)?;
        if state & STATE_ERRORS != 0 {
            return Err(Untrusted::new(
                "it has errors on record: e2fsck -f mends the original",
            ));
        }
        // A journal makes whole what was cut off, and e2fsck -p replays it.
        if state & STATE_CLEAN == 0 && !has_journal {
            return Err(Untrusted::new(
                "it was not unmounted cleanly and has no journal: e2fsck -f mends the original",
            ));
        }
        self.check_multiple_mounts(volume)?;
        self.check_geometry(volume.size())?;
        let blocks = to / self.block_size;
        if !self.is_wide() && blocks > u64::from(u32::MAX) {
            return Err(Untrusted::new(format!(
                "without the feature 64bit it has no more than {} blocks, and would have {blocks}",
                u32::MAX
            )));
        }
        Ok(())
    }

    /// Whether it was unmounted, with nothing left for e2fsck to finish.
    pub(super) fn is_clean(&self) -> bool {
        let sb = Fields(&self.raw);
        let (Ok(state), Ok(orphan)) = (sb.u16(0x3a), sb.u32(0xe8)) else {
            return false;
        };
        state == STATE_CLEAN && orphan == 0 && self.incompat & INCOMPAT_RECOVER == 0
    }

    /// A mark that somebody has it mounted is believed by e2fsck, whatever machine that was.
    fn check_multiple_mounts(&self, volume: &dyn ReadAt) -> Result<(), Untrusted> {
        /// `EXT4_MMP_SEQ_CLEAN`
        const CLEAN: u32 = 0xff4d_4d50;
        if self.incompat & INCOMPAT_MMP == 0 {
            return Ok(());
        }
        let block = Fields(&self.raw).u64(0x168)?;
        if block >= self.blocks {
            return Err(Untrusted::new("its superblock contradicts itself"));
        }
        let mark = self.read_block(volume, block)?;
        match Fields(&mark).u32(4)? {
            CLEAN => Ok(()),
            _ => Err(Untrusted::new(
                "it is marked as mounted by some machine (mmp)",
            )),
        }
    }

    /// The first superblock's block and those of the group descriptors behind it.
    pub(super) fn descriptors(&self) -> Range<u64> {
        let first = self.descriptor_block(0).min(self.blocks);
        let in_all = self.groups().div_ceil(self.descriptors_per_block());
        let behind_it = if self.incompat & INCOMPAT_META_BG != 0 {
            in_all.min(self.first_meta_group)
        } else {
            in_all
        };
        first..first.saturating_add(behind_it).min(self.blocks)
    }

    fn check_checksum(&self) -> Result<(), Untrusted> {
        let sb = Fields(&self.raw);
        if let Checksums::Crc32c(_) = self.checksums
            && crc32c_raw(!0, sb.slice(0, 0x3fc)?) != sb.u32(0x3fc)?
        {
            return Err(Untrusted::new("the checksum of its superblock is wrong"));
        }
        Ok(())
    }

    fn check_geometry(&self, volume: u64) -> Result<(), Untrusted> {
        let bits = self.block_size * 8;
        let size = self.blocks.checked_mul(self.block_size);
        if size.is_none_or(|size| size > volume) {
            return Err(Untrusted::new("it says it is larger than the partition"));
        }
        let inodes_fit = self.inode_size.is_power_of_two()
            && (128..=self.block_size).contains(&self.inode_size)
            && (1..=bits).contains(&self.inodes_per_group);
        let groups_fit = (8..=bits).contains(&self.clusters_per_group)
            && self.blocks_per_group == self.clusters_per_group * self.cluster_ratio
            && self.first_data_block < self.blocks
            && self.first_data_block <= 1
            && self.groups() <= GROUPS_MAX;
        let descriptors_fit = self.descriptor_size.is_power_of_two()
            && (32..=1024).contains(&self.descriptor_size)
            && (!self.is_wide() || self.descriptor_size >= 64);
        if !(inodes_fit && groups_fit && descriptors_fit) {
            return Err(Untrusted::new("its superblock contradicts itself"));
        }
        Ok(())
    }

    pub(super) fn groups(&self) -> u64 {
        (self.blocks - self.first_data_block).div_ceil(self.blocks_per_group.max(1))
    }

    pub(super) fn first_block(&self, group: u64) -> u64 {
        self.first_data_block + group * self.blocks_per_group
    }

    /// One past the group's last block.
    pub(super) fn last_block(&self, group: u64) -> u64 {
        (self.first_block(group) + self.blocks_per_group).min(self.blocks)
    }

    pub(super) fn read_block(&self, volume: &dyn ReadAt, block: u64) -> Result<Vec<u8>, Untrusted> {
        let length =
            usize::try_from(self.block_size).map_err(|_| Untrusted::new("blocks too large"))?;
        Ok(volume.bytes_at(block * self.block_size, length)?)
    }

    pub(super) fn descriptors_per_block(&self) -> u64 {
        self.block_size / u64::try_from(self.descriptor_size).unwrap_or(32).max(32)
    }

    fn is_meta(&self, descriptor_block: u64) -> bool {
        self.incompat & INCOMPAT_META_BG != 0 && descriptor_block >= self.first_meta_group
    }

    /// Where block `index` of the group descriptors is: the kernel's `descriptor_loc`.
    pub(super) fn descriptor_block(&self, index: u64) -> u64 {
        let superblock = OFFSET / self.block_size;
        if !self.is_meta(index) {
            return superblock + index + 1;
        }
        let group = index * self.descriptors_per_block();
        let behind = u64::from(self.has_superblock(group));
        // With blocks of 1 KiB and no first data block, the superblock is in block 1 of group 0.
        let shifted =
            u64::from(self.block_size == 1024 && group == 0 && self.first_data_block == 0);
        self.first_block(group) + behind + shifted
    }

    /// The group's copy of the superblock.
    fn has_superblock(&self, group: u64) -> bool {
        if group == 0 {
            return true;
        }
        if self.compat & COMPAT_SPARSE_SUPER2 != 0 {
            return self.backup_groups.contains(&group);
        }
        if group == 1 || self.ro_compat & RO_SPARSE_SUPER == 0 {
            return true;
        }
        [3, 5, 7].iter().any(|base| {
            let mut power: u64 = *base;
            while power < group {
                power = power.saturating_mul(*base);
            }
            power == group
        })
    }

    /// Superblock copy, group descriptors and the blocks reserved for more of these, at the start of
    /// the group; empty where it has none.
    pub(super) fn overhead(&self, group: u64) -> Range<u64> {
        let first = self.first_block(group);
        if !self.has_superblock(group) {
            return first..first;
        }
        let in_all = self.groups().div_ceil(self.descriptors_per_block());
        let descriptors = if self.incompat & INCOMPAT_META_BG != 0 {
            in_all.min(self.first_meta_group)
        } else {
            in_all
        };
        let shifted =
            u64::from(self.block_size == 1024 && group == 0 && self.first_data_block == 0);
        let length = 1 + shifted + descriptors + self.reserved_descriptor_blocks;
        first..(first + length).min(self.last_block(group))
    }

    /// With `meta_bg`, the first, second and last group of a metagroup hold its descriptors.
    pub(super) fn group_descriptors(&self, group: u64) -> Option<Range<u64>> {
        let per_block = self.descriptors_per_block();
        let place = group % per_block;
        if !self.is_meta(group / per_block) || !(place <= 1 || place == per_block - 1) {
            return None;
        }
        let shifted =
            u64::from(self.block_size == 1024 && group == 0 && self.first_data_block == 0);
        let at = self.first_block(group) + u64::from(self.has_superblock(group)) + shifted;
        Some(at..at + 1)
    }
}

fn checksums(
    sb: Fields<'_>,
    incompat: u32,
    ro_compat: u32,
    uuid: &[u8],
) -> Result<Checksums, Untrusted> {
    if ro_compat & RO_METADATA_CSUM != 0 {
        if sb.u8(0x175)? != 1 {
            return Err(Untrusted::new("it has checksums of an unknown type"));
        }
        let seed = if incompat & INCOMPAT_CSUM_SEED != 0 {
            sb.u32(0x270)?
        } else {
            crc32c_raw(!0, uuid)
        };
        return Ok(Checksums::Crc32c(seed));
    }
    Ok(if ro_compat & RO_GDT_CSUM != 0 {
        Checksums::Crc16
    } else {
        Checksums::None
    })
}
