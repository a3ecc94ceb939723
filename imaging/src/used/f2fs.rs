//! F2FS: the blocks that the segment information table (SIT) calls valid.
//!
//! The kernel's `f2fs_fs.h` and "F2FS: on-disk layout" in its documentation. Trusted when both superblocks agree,
//! the newest checkpoint is of a clean unmount with its checksums right, and the table, which has no checksums,
//! adds up to what the checkpoint counts. Everything in front of the main area is kept whole.

use super::bytes::Fields;
use super::range_collector::RangeCollector;
use super::{Label, Untrusted};
use crate::extents::Extents;
use crate::source::ReadAt;
use std::collections::BTreeMap;

const MAGIC: u32 = 0xf2f5_2010;
/// Two superblocks, each in a block of its own.
const SUPERBLOCKS: [u64; 2] = [1024, 4096 + 1024];
/// All fields of `struct f2fs_super_block` up to and with the devices.
const SUPERBLOCK_SIZE: usize = 2745;
const BLOCK: u64 = 4096;
const SEGMENT_BLOCKS: u64 = 512;
const SEGMENTS_MAX: u64 = 1 << 23;
/// The seed is the magic; nothing is inverted.
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::Algorithm {
    init: MAGIC.reverse_bits(),
    xorout: 0,
    ..crc::CRC_32_ISO_HDLC
});

/// `CP_UMOUNT_FLAG`, `CP_COMPACT_SUM_FLAG`.
const UNMOUNTED: u32 = 0x1;
const COMPACT: u32 = 0x4;
/// Flags that say nothing about blocks: fast boot, NAT bits, trimmed, CRC recovery.
const HARMLESS: u32 = UNMOUNTED | COMPACT | 0x20 | 0x40 | 0x80 | 0x100;
/// `F2FS_FEATURE_BLKZONED`.
const ZONED: u32 = 0x2;

const ENTRY: usize = 74;
const ENTRIES_PER_BLOCK: u64 = 55;
/// Behind the summaries of a block, or of both journals when they are compacted.
const JOURNAL_AT: usize = 3584;
const JOURNAL: usize = 507;
const JOURNAL_ENTRY: usize = 4 + ENTRY;

/// What the superblock says; places are block numbers.
struct Layout {
    checkpoint: u64,
    table: u64,
    table_segments: u64,
    main: u64,
    main_segments: u64,
    payload: u64,
}

/// What the newest checkpoint says.
struct Checkpoint {
    version: u64,
    flags: u32,
    valid_blocks: u64,
    /// First block of its pack.
    start: u64,
    /// Block of the first summary, within the pack.
    summaries: u64,
    /// Which copy of each block of the table counts.
    copies: Vec<u8>,
}

pub(super) fn label(volume: &dyn ReadAt) -> Result<Label, Untrusted> {
    let bytes = volume.bytes_at(SUPERBLOCKS[0], SUPERBLOCK_SIZE)?;
    let fields = Fields(&bytes);
    let name: Vec<u16> = (0..512)
        .map(|index| fields.u16(124 + index * 2))
        .collect::<Result<_, _>>()?;
    let end = name
        .iter()
        .position(|unit| *unit == 0)
        .unwrap_or(name.len());
    Ok(Label {
        uuid: fields.uuid(108)?,
        label: String::from_utf16_lossy(name.get(..end).unwrap_or_default()),
    })
}

pub(super) fn map(volume: &dyn ReadAt) -> Result<Extents, Untrusted> {
    let size = volume.size();
    let layout = Layout::read(volume)?;
    let checkpoint = Checkpoint::newest(volume, &layout)?;
    if checkpoint.flags & UNMOUNTED == 0 {
        return Err(Untrusted::new("it was not unmounted cleanly"));
    }
    if checkpoint.flags & !HARMLESS != 0 {
        return Err(Untrusted::new(format!(
            "its checkpoint has the flags {:#x}",
            checkpoint.flags
        )));
    }
    let journal = checkpoint.journal(volume)?;
    let mut keep = RangeCollector::new();
    let main_end = layout.main + layout.main_segments * SEGMENT_BLOCKS;
    keep.add_blocks(0..layout.main, BLOCK);
    keep.add(main_end * BLOCK..size);
    let mut valid = 0;
    for table_block in 0..layout.main_segments.div_ceil(ENTRIES_PER_BLOCK) {
        let entries = checkpoint.entries(volume, &layout, table_block)?;
        let first = table_block * ENTRIES_PER_BLOCK;
        for segment in first..layout.main_segments.min(first + ENTRIES_PER_BLOCK) {
            let at =
                usize::try_from(segment - first).map_err(|_| Untrusted::new("too large"))? * ENTRY;
            let stored = Fields(&entries).slice(at, ENTRY)?;
            let entry = journal.get(&segment).map_or(stored, Vec::as_slice);
            valid += keep_segment(entry, layout.main + segment * SEGMENT_BLOCKS, &mut keep)?;
        }
    }
    if valid != checkpoint.valid_blocks {
        return Err(Untrusted::new(format!(
            "its segment table has {valid} blocks in use, its checkpoint counts {}",
            checkpoint.valid_blocks
        )));
    }
    Ok(keep.finish(size))
}

/// Adds the valid blocks of the segment that begins with block `first`; how many they are.
fn keep_segment(entry: &[u8], first: u64, keep: &mut RangeCollector) -> Result<u64, Untrusted> {
    let fields = Fields(entry);
    // The upper six bits are the sort of log it is for.
    let told = u64::from(fields.u16(0)? & 0x3ff);
    let mut found = 0;
    for (index, byte) in (0u64..).zip(fields.slice(2, 64)?) {
        // The first block is the highest bit.
        for bit in (0..8u64).filter(|bit| byte << bit & 0x80 != 0) {
            let block = first + index * 8 + bit;
            keep.add_blocks(block..block + 1, BLOCK);
            found += 1;
        }
    }
    if found == told {
        Ok(found)
    } else {
        Err(Untrusted::new(format!(
            "the segment at block {first} has {found} blocks in use, and says {told}"
        )))
    }
}

impl Layout {
    fn read(volume: &dyn ReadAt) -> Result<Self, Untrusted> {
        let [one, other] = SUPERBLOCKS.map(|at| volume.bytes_at(at, SUPERBLOCK_SIZE));
        let bytes = one?;
        if bytes != other? {
            return Err(Untrusted::new("its two superblocks differ"));
        }
        let fields = Fields(&bytes);
        let word = |at| fields.u32(at).map(u64::from);
        if fields.u32(0)? != MAGIC || fields.u32(16)? != 12 || fields.u32(20)? != 9 {
            return Err(Untrusted::new(
                "it has blocks or segments of an unknown size",
            ));
        }
        if fields.u32(2180)? & ZONED != 0 || fields.u8(2201)? != 0 {
            return Err(Untrusted::new("it is zoned, or spans several devices"));
        }
        let layout = Self {
            checkpoint: word(76)?,
            table: word(80)?,
            table_segments: word(56)?,
            main: word(92)?,
            main_segments: word(68)?,
            payload: word(1664)?,
        };
        let [checkpoints, nodes, summaries] = [word(52)?, word(60)?, word(64)?];
        let [node_table, summary_area] = [word(84)?, word(88)?];
        let follows = |start: u64, segments: u64, next: u64| {
            start.checked_add(segments * SEGMENT_BLOCKS) == Some(next)
        };
        let whole = word(72)? == layout.checkpoint
            && layout.checkpoint >= 2
            && checkpoints == 2
            && follows(layout.checkpoint, checkpoints, layout.table)
            && follows(layout.table, layout.table_segments, node_table)
            && follows(node_table, nodes, summary_area)
            && follows(summary_area, summaries, layout.main);
        let enough = layout.table_segments / 2 * SEGMENT_BLOCKS * ENTRIES_PER_BLOCK;
        if !whole || layout.main_segments > enough.min(SEGMENTS_MAX) {
            return Err(Untrusted::new("its superblock contradicts itself"));
        }
        let end = (layout.main + layout.main_segments * SEGMENT_BLOCKS) * BLOCK;
        if end > volume.size() {
            return Err(Untrusted::new("it says it is larger than the partition"));
        }
        Ok(layout)
    }
}

impl Checkpoint {
    /// The newer one of two packs, each of which counts only when its first and its last block agree.
    fn newest(volume: &dyn ReadAt, layout: &Layout) -> Result<Self, Untrusted> {
        let packs = [layout.checkpoint, layout.checkpoint + SEGMENT_BLOCKS];
        let mut newest: Option<Self> = None;
        for start in packs {
            let Some(found) = Self::read(volume, layout, start)? else {
                continue;
            };
            if newest
                .as_ref()
                .is_none_or(|known| found.version > known.version)
            {
                newest = Some(found);
            }
        }
        newest.ok_or_else(|| Untrusted::new("it has no good checkpoint"))
    }

    fn read(volume: &dyn ReadAt, layout: &Layout, start: u64) -> Result<Option<Self>, Untrusted> {
        let Some(head) = checked_block(volume, start)? else {
            return Ok(None);
        };
        let fields = Fields(&head);
        let version = fields.u64(0)?;
        let blocks = u64::from(fields.u32(136)?);
        let summaries = u64::from(fields.u32(140)?);
        if !(2..=SEGMENT_BLOCKS).contains(&blocks) || summaries >= blocks {
            return Ok(None);
        }
        let Some(foot) = checked_block(volume, start + blocks - 1)? else {
            return Ok(None);
        };
        if Fields(&foot).u64(0)? != version {
            return Ok(None);
        }
        let length = usize::try_from(fields.u32(156)?).map_err(|_| Untrusted::new("too large"))?;
        // A large map has blocks of its own behind the first (`cp_payload`).
        let copies = if layout.payload == 0 {
            fields.slice(192, length)?.to_vec()
        } else if length as u64 <= layout.payload.min(SEGMENT_BLOCKS) * BLOCK {
            volume.bytes_at((start + 1) * BLOCK, length)?
        } else {
            return Err(Untrusted::new("its checkpoint contradicts itself"));
        };
        Ok(Some(Self {
            version,
            flags: fields.u32(132)?,
            valid_blocks: fields.u64(16)?,
            start,
            summaries,
            copies,
        }))
    }

    /// A block of the table, in the copy that counts.
    fn entries(
        &self,
        volume: &dyn ReadAt,
        layout: &Layout,
        number: u64,
    ) -> Result<Vec<u8>, Untrusted> {
        let byte = usize::try_from(number / 8).map_err(|_| Untrusted::new("too large"))?;
        let byte = Fields(&self.copies).u8(byte)?;
        let second = byte << (number % 8) & 0x80 != 0;
        let copy = if second {
            layout.table_segments / 2 * SEGMENT_BLOCKS
        } else {
            0
        };
        Ok(volume.bytes_at((layout.table + copy + number) * BLOCK, 4096)?)
    }

    /// Entries of the table that are newer than the table, by segment.
    fn journal(&self, volume: &dyn ReadAt) -> Result<BTreeMap<u64, Vec<u8>>, Untrusted> {
        // Compacted: the journals of both tables in front of all summaries. Else: in the third summary.
        let (block, at) = if self.flags & COMPACT == 0 {
            (self.summaries + 2, JOURNAL_AT)
        } else {
            (self.summaries, JOURNAL)
        };
        let bytes = volume.bytes_at((self.start + block) * BLOCK, 4096)?;
        let journal = Fields(Fields(&bytes).slice(at, JOURNAL)?);
        let count = usize::from(journal.u16(0)?);
        let mut entries = BTreeMap::new();
        for index in 0..count {
            let at = 2 + index * JOURNAL_ENTRY;
            let segment = u64::from(journal.u32(at)?);
            entries.insert(segment, journal.slice(at + 4, ENTRY)?.to_vec());
        }
        Ok(entries)
    }
}

/// A block of a checkpoint whose checksum is right.
fn checked_block(volume: &dyn ReadAt, number: u64) -> Result<Option<Vec<u8>>, Untrusted> {
    let block = volume.bytes_at(number * BLOCK, 4096)?;
    let fields = Fields(&block);
    let at = usize::try_from(fields.u32(164)?).map_err(|_| Untrusted::new("too large"))?;
    if !(192..=4092).contains(&at) {
        return Ok(None);
    }
    let right = CRC.checksum(fields.slice(0, at)?) == fields.u32(at)?;
    Ok(right.then_some(block))
}
