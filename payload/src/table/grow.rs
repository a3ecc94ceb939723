//! The room behind a table's last partition on a larger disk: who can have it, and the table that gives it to them.
//!
//! Only what ends last can grow where it is. Swap at the end, the only thing in an MBR's extended partition too, goes
//! to the disk's end instead and makes room for what lies in front of it.

use super::edit::{Known, Raw};
use super::mbr::BootRecord;
use super::pieces::Pieces;
use super::{Partition, TableError};
use std::ops::Range;

/// Partitions end and move by whole MiB, as all tools lay them out.
const ALIGNMENT: u64 = 1 << 20;
/// The most that moves in front of a logical partition: its boot records, and the gap that tools leave behind them.
const RECORDS_MAX: u64 = 16 << 20;
/// Sectors that an MBR can count: its fields have 32 bits.
const MBR_SECTORS: u64 = u32::MAX as u64;

/// A partition that gets larger. All in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// 0 for a disk without a table, which grows as a whole.
    pub number: u32,
    /// First byte of the partition.
    pub start: u64,
    /// Its size in the image.
    pub from: u64,
    /// Its size on the disk.
    pub to: u64,
    /// Swap that made room for it.
    pub moved: Option<MovedSwap>,
}

/// Swap that goes to the end of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedSwap {
    pub number: u32,
    /// Where it is in the image.
    pub from: Range<u64>,
    /// So many bytes it moves.
    pub by: u64,
    /// What moves in all: an extended partition with nothing else in it moves along.
    pub whole: Range<u64>,
    /// The number of the table's entry for all that.
    pub entry: u32,
}

impl Growth {
    /// Where the partition is on the disk.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start.saturating_add(self.to)
    }
}

impl MovedSwap {
    /// Where the swap is on the disk.
    pub fn range(&self) -> Range<u64> {
        self.from.start + self.by..self.from.end + self.by
    }
}

/// Finds what of `known` grows on a disk of `disk` bytes; `swaps` are the numbers of the partitions that are swap.
/// `None` where the disk has no more room.
///
/// # Errors
/// When something that stays is in the way, with its number.
pub fn growth(known: &Known, disk: u64, swaps: &[u32]) -> Result<Option<Growth>, TableError> {
    let end = aligned(usable_end(known, disk)?);
    let Some(last) = last_before(known, u64::MAX) else {
        return Err(doubt(known, "there is no partition that could grow"));
    };
    if !swaps.contains(&last.number) {
        return grown(known, last, end, None);
    }
    let (entry, whole) = movable(known, last)?;
    let by = aligned(end.saturating_sub(whole.end));
    let grower = last_before(known, whole.start).ok_or_else(|| {
        let why = format!("there is nothing but swap, partition {}", last.number);
        doubt(known, why)
    })?;
    if swaps.contains(&grower.number) {
        let why = format!(
            "partitions {} and {}, the last ones, are both swap",
            grower.number, last.number
        );
        return Err(doubt(known, why));
    }
    let moved = MovedSwap {
        number: last.number,
        from: last.range(),
        by,
        whole,
        entry,
    };
    if moved.by == 0 {
        return Ok(None);
    }
    let end = aligned(moved.whole.start + moved.by);
    grown(known, grower, end, Some(moved))
}

/// The growth of `partition` to `end`, if there is one and no extended partition is in between.
fn grown(
    known: &Known,
    partition: &Partition,
    end: u64,
    moved: Option<MovedSwap>,
) -> Result<Option<Growth>, TableError> {
    let own_end = partition.range().end;
    if end <= own_end {
        return Ok(None);
    }
    let leaves = moved.as_ref().map(|moved| moved.whole.start);
    let mut extended = known.raw.extended().into_iter();
    if extended.any(|range| range.start >= own_end && Some(range.start) != leaves) {
        let why = format!(
            "an extended partition lies behind partition {}",
            partition.number
        );
        return Err(doubt(known, why));
    }
    Ok(Some(Growth {
        number: partition.number,
        start: partition.start,
        from: partition.size,
        to: end - partition.start,
        moved,
    }))
}

/// The partition that ends last of those that end at `limit` or before.
fn last_before(known: &Known, limit: u64) -> Option<&Partition> {
    let partitions = known.table.partitions.iter();
    partitions
        .filter(|partition| partition.range().end <= limit)
        .max_by_key(|partition| partition.range().end)
}

/// The entry to change when `swap` is to move, and all that moves with it.
fn movable(known: &Known, swap: &Partition) -> Result<(u32, Range<u64>), TableError> {
    let within = |range: &Range<u64>| range.contains(&swap.start);
    let Some(extended) = known.raw.extended().into_iter().find(within) else {
        return Ok((swap.number, swap.range()));
    };
    let others = known
        .table
        .partitions
        .iter()
        .filter(|other| other.number != swap.number && extended.contains(&other.start));
    let alone = others.count() == 0 && swap.start - extended.start <= RECORDS_MAX;
    let entry = known.raw.extended_number(extended.start);
    let entry = entry.filter(|_| alone).ok_or_else(|| {
        let number = swap.number;
        let why =
            format!("partition {number}, the last one, is swap behind other logical partitions");
        doubt(known, why)
    })?;
    Ok((entry, extended))
}

/// The byte behind the last one that partitions can have on a disk of `disk` bytes.
fn usable_end(known: &Known, disk: u64) -> Result<u64, TableError> {
    match &known.raw {
        Raw::Gpt(gpt) => {
            if gpt.is_hybrid() {
                return Err(doubt(
                    known,
                    "a hybrid MBR names partitions of the GPT by their places",
                ));
            }
            gpt.usable_end(disk)
        }
        Raw::Mbr(mbr) => Ok(disk.min(MBR_SECTORS.saturating_mul(mbr.sector()))),
    }
}

fn aligned(bytes: u64) -> u64 {
    bytes - bytes % ALIGNMENT
}

fn doubt(known: &Known, why: impl Into<String>) -> TableError {
    TableError::doubt(known.table.kind, why)
}

impl Known {
    /// Gives the partition its room. What to write for a disk of `disk` bytes, of which the growth was found.
    ///
    /// # Errors
    /// When the table is not the one in which the growth was found.
    pub fn grow(&mut self, disk: u64, growth: &Growth) -> Result<Pieces, TableError> {
        let partitions = &self.table.partitions;
        let own = partitions.iter().find(|own| own.number == growth.number);
        let own = own.ok_or_else(|| doubt(self, "it is not what was looked at"))?;
        if let Some(moved) = &growth.moved {
            let place = moved.whole.start + moved.by..moved.whole.end + moved.by;
            self.raw.set_place(moved.entry, &place)?;
        }
        self.raw.stretch(own, growth.range().end)?;
        self.raw.pieces(disk)
    }
}

/// Whether a boot record has no entry but the one that guards a GPT.
pub(super) fn guards_alone(first: &[u8]) -> bool {
    BootRecord::parse(first).is_some_and(|record| record.entries().count() == 1)
}

#[cfg(test)]
mod tests;
