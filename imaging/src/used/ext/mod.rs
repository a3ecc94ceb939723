//! ext2, ext3 and ext4: block bitmaps, group by group.
//!
//! After the kernel's `Documentation/filesystems/ext4/`. Trusted when the superblock says clean, the
//! journal needs no replay, every feature is known, and each group's checksum and free count agree with
//! its bitmap; where bitmaps have no checksums, no file may lack a block in them either.

mod files;
mod groups;
mod superblock;

use super::bytes::set_runs;
use super::range_collector::RangeCollector;
use super::{Label, Untrusted};
use crate::extents::Extents;
use crate::source::ReadAt;
use files::Files;
use groups::{Group, Groups};
use std::ops::Range;
use superblock::{Checksums, Superblock};

/// `ext2`, `ext3` or `ext4`, as blkid tells them apart.
pub(super) fn name(volume: &dyn ReadAt) -> &'static str {
    Superblock::read(volume).map_or("ext4", |superblock| superblock.name())
}

pub(super) fn label(volume: &dyn ReadAt) -> Result<Label, Untrusted> {
    Superblock::read(volume)?.label()
}

/// Whether resize2fs lets it grow to `to` bytes, as far as its superblock tells; where that and the group descriptors
/// are, which are enough for resize2fs to say whether it knows its features.
pub(super) fn check_growth(volume: &dyn ReadAt, to: u64) -> Result<Extents, Untrusted> {
    let superblock = Superblock::read(volume)?;
    superblock.check_growth(volume, to)?;
    if !superblock.is_clean() {
        // resize2fs wants e2fsck first, which it gets on the disk.
        return Ok(Extents::new());
    }
    let blocks = superblock.descriptors();
    let mut head = Extents::single(0..superblock::OFFSET + 1024);
    head.insert(blocks.start * superblock.block_size..blocks.end * superblock.block_size);
    Ok(head.clipped(0..volume.size()))
}

pub(super) fn map(volume: &dyn ReadAt) -> Result<Extents, Untrusted> {
    let superblock = Superblock::read(volume)?;
    superblock.check(volume.size())?;
    let size = volume.size();
    let end = superblock.blocks * superblock.block_size;
    let mut parts = Parts::default();
    // The boot block and the first superblock, whatever the block size.
    parts.keep.add(0..superblock::OFFSET + 1024);
    let mut groups = Groups::new(&superblock);
    while let Some(group) = groups.next(volume)? {
        parts.add_group(volume, &superblock, &group)?;
    }
    parts.keep.add(end..size);
    let mut kept = Extents::new();
    for range in parts.keep.finish(size).iter() {
        kept.union(&parts.unwritten.gaps(range));
    }
    if !matches!(superblock.checksums, Checksums::Crc32c(_)) {
        let mut files = Files::new(&superblock, &kept);
        let mut groups = Groups::new(&superblock);
        while let Some(group) = groups.next(volume)? {
            files.check(volume, &group)?;
        }
    }
    Ok(kept)
}

/// The map as it grows.
#[derive(Default)]
struct Parts {
    keep: RangeCollector,
    /// Bitmaps and inode tables that the bitmaps call used, but the descriptors' flags prove to be
    /// never written: whatever is there is from before the filesystem was made.
    unwritten: Extents,
}

impl Parts {
    fn add_group(
        &mut self,
        volume: &dyn ReadAt,
        superblock: &Superblock,
        group: &Group,
    ) -> Result<(), Untrusted> {
        let block_size = superblock.block_size;
        self.keep
            .add_blocks(superblock.overhead(group.number), block_size);
        if let Some(blocks) = superblock.group_descriptors(group.number) {
            self.keep.add_blocks(blocks, block_size);
        }
        self.keep
            .add_blocks(group.inode_table(superblock), block_size);
        self.leave_out(group.unused_inode_table(superblock), block_size);
        let inode_bitmap = group.inode_bitmap..group.inode_bitmap + 1;
        if group.inodes_uninitialised {
            self.leave_out(inode_bitmap, block_size);
        } else {
            self.keep.add_blocks(inode_bitmap, block_size);
        }
        let block_bitmap = group.block_bitmap..group.block_bitmap + 1;
        if group.blocks_uninitialised {
            // Only metadata is allocated here: what this and other groups' descriptors name.
            self.leave_out(block_bitmap, block_size);
            return Ok(());
        }
        self.keep.add_blocks(block_bitmap, block_size);
        self.add_allocated(volume, superblock, group)
    }

    fn leave_out(&mut self, blocks: Range<u64>, block_size: u64) {
        self.unwritten
            .insert(blocks.start * block_size..blocks.end * block_size);
    }

    fn add_allocated(
        &mut self,
        volume: &dyn ReadAt,
        superblock: &Superblock,
        group: &Group,
    ) -> Result<(), Untrusted> {
        let bitmap = superblock.read_block(volume, group.block_bitmap)?;
        group.check_bitmap(superblock, &bitmap)?;
        let first = superblock.first_block(group.number);
        let last = superblock.last_block(group.number);
        let ratio = superblock.cluster_ratio;
        let clusters = (last - first).div_ceil(ratio);
        let mut allocated = 0;
        set_runs(&bitmap, clusters, |run| {
            allocated += run.end - run.start;
            let blocks = first + run.start * ratio..(first + run.end * ratio).min(last);
            self.keep.add_blocks(blocks, superblock.block_size);
        });
        group.check_free(clusters - allocated)
    }
}
