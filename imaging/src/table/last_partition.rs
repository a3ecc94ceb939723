//! The end of a table: the last partition, which can grow or shrink while all others stay where they are.
//!
//! Swap after it is in the way, so it moves: to the end of a larger disk, or after the shrunk partition. So does swap
//! that is the only thing in an MBR's extended partition.

use super::edit::{ParsedTable, Raw};
use super::{Partition, TableError};
use std::ops::Range;

/// Partitions end and move by whole MiB, as all tools lay them out.
const ALIGNMENT: u64 = 1 << 20;
/// The most that moves in front of a logical partition: its boot records, and the gap that tools leave behind them.
const RECORDS_MAX: u64 = 16 << 20;
/// What swap needs to be swap: its header, on machines of any page size.
const SWAP_HEADER: u64 = 64 << 10;
/// Sectors that an MBR can count: its fields have 32 bits.
const MBR_SECTORS: u64 = u32::MAX as u64;

/// The partition that ends last, but for swap behind it. All in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastPartition {
    /// 0 for a disk without a table, which is all there is.
    pub number: u32,
    /// First byte of the partition.
    pub start: u64,
    pub size: u64,
    swap: Option<Swap>,
}

/// Swap behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Swap {
    number: u32,
    range: Range<u64>,
    /// What moves in all.
    whole: Range<u64>,
    /// The number of the table's entry for all that.
    entry: u32,
}

/// The last partition with another size. All in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resized {
    /// 0 for a disk without a table.
    pub number: u32,
    /// First byte of the partition.
    pub start: u64,
    /// Its size before.
    pub from: u64,
    /// Its size afterwards.
    pub to: u64,
    /// Swap that moves for it.
    pub moved: Option<MovedSwap>,
}

/// Swap that moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedSwap {
    pub number: u32,
    /// Where it was.
    pub from: Range<u64>,
    /// What moves in all: an extended partition with nothing else in it moves along.
    pub whole: Range<u64>,
    /// Where all that begins afterwards.
    pub to: u64,
    /// The number of the table's entry for all that.
    pub entry: u32,
}

impl Resized {
    /// Where the partition is afterwards.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start.saturating_add(self.to)
    }
}

impl MovedSwap {
    /// Where the swap is afterwards.
    pub fn range(&self) -> Range<u64> {
        let start = self.to + (self.from.start - self.whole.start);
        start..start + (self.from.end - self.from.start)
    }

    /// What has to be carried along: boot records in front of the swap, and what makes it swap.
    pub fn carried(&self) -> Range<u64> {
        self.whole.start..self.from.end.min(self.from.start + SWAP_HEADER)
    }

    /// Where all that moves is afterwards.
    fn place(&self) -> Range<u64> {
        self.to..self.to + (self.whole.end - self.whole.start)
    }
}

/// Finds the end of `parsed`; `swaps` are the numbers of the partitions that are swap.
///
/// # Errors
/// When something that stays is in the way, with its number.
pub fn last_partition(parsed: &ParsedTable, swaps: &[u32]) -> Result<LastPartition, TableError> {
    if let Raw::Gpt(gpt) = &parsed.raw
        && gpt.is_hybrid()
    {
        let why = "a hybrid MBR names partitions of the GPT by their places";
        return Err(doubt(parsed, why));
    }
    let Some(last) = last_before(parsed, u64::MAX) else {
        return Err(doubt(parsed, "there is no partition"));
    };
    if !swaps.contains(&last.number) {
        return LastPartition::new(parsed, last, None);
    }
    let (entry, whole) = movable(parsed, last)?;
    let own = last_before(parsed, whole.start).ok_or_else(|| {
        let why = format!("there is nothing but swap, partition {}", last.number);
        doubt(parsed, why)
    })?;
    if swaps.contains(&own.number) {
        let why = format!(
            "partitions {} and {}, the last ones, are both swap",
            own.number, last.number
        );
        return Err(doubt(parsed, why));
    }
    let swap = Swap {
        number: last.number,
        range: last.range(),
        whole,
        entry,
    };
    LastPartition::new(parsed, own, Some(swap))
}

/// Finds what of `parsed` grows on a disk of `disk` bytes; `swaps` are the numbers of the partitions that are swap.
/// `None` where the disk has no more room.
///
/// # Errors
/// When something that stays is in the way, with its number.
pub fn growth(
    parsed: &ParsedTable,
    disk: u64,
    swaps: &[u32],
) -> Result<Option<Resized>, TableError> {
    // Where there is no room nothing is in its way.
    let ends = parsed.table.partitions.iter().map(|own| own.range().end);
    let extended = parsed.raw.extended().into_iter().map(|range| range.end);
    if ends.chain(extended).max() >= Some(aligned(usable_end(parsed, disk)?)) {
        return Ok(None);
    }
    let place = last_partition(parsed, swaps)?.on(parsed, disk)?;
    let moves = |moved: &MovedSwap| moved.to > moved.whole.start;
    let grows = place.to > place.from && place.moved.as_ref().is_none_or(moves);
    Ok(grows.then_some(place))
}

impl LastPartition {
    /// The one of a disk without a table.
    pub fn of_disk(size: u64) -> Self {
        Self {
            number: 0,
            start: 0,
            size,
            swap: None,
        }
    }

    /// That of `own`, if no extended partition is in the way.
    fn new(parsed: &ParsedTable, own: &Partition, swap: Option<Swap>) -> Result<Self, TableError> {
        let leaves = swap.as_ref().map(|swap| swap.whole.start);
        let mut extended = parsed.raw.extended().into_iter();
        if extended.any(|range| range.start >= own.range().end && Some(range.start) != leaves) {
            let why = format!("an extended partition lies after partition {}", own.number);
            return Err(doubt(parsed, why));
        }
        Ok(Self {
            number: own.number,
            start: own.start,
            size: own.size,
            swap,
        })
    }

    /// The number of the swap behind it.
    pub fn swap(&self) -> Option<u32> {
        self.swap.as_ref().map(|swap| swap.number)
    }

    /// The bytes of that swap, and of the boot records in front of it that move along.
    pub fn moving(&self) -> Option<Range<u64>> {
        let swap = self.swap.as_ref()?;
        Some(swap.whole.start..swap.range.end)
    }

    /// With all the room that a disk of `disk` bytes has for it in `parsed`: 0 bytes where it has none.
    ///
    /// # Errors
    /// When the disk has no room for the table.
    pub fn on(&self, parsed: &ParsedTable, disk: u64) -> Result<Resized, TableError> {
        let end = aligned(usable_end(parsed, disk)?);
        Ok(match &self.swap {
            None => self.resized(end, None),
            Some(Swap { whole, .. }) if whole.end <= end => {
                let to = whole.start + aligned(end - whole.end);
                self.resized(aligned(to), Some(to))
            }
            Some(Swap { whole, .. }) => {
                let by = (whole.end - end).next_multiple_of(ALIGNMENT);
                let to = whole.start.saturating_sub(by);
                self.resized(aligned(to), Some(to))
            }
        })
    }

    /// Shrunk to `size` bytes and what is left of the last MiB, the swap right behind it. What is not smaller stays;
    /// the swap moves nonetheless, if there is a gap of a MiB.
    pub fn with_size(&self, size: u64) -> Resized {
        let own_end = self.start + self.size;
        let smaller = self
            .start
            .saturating_add(size)
            .checked_next_multiple_of(ALIGNMENT)
            .filter(|end| *end < own_end);
        let end = smaller.unwrap_or(own_end);
        let to = self.swap.as_ref().and_then(|swap| {
            let start = swap.whole.start;
            let by = aligned(start.saturating_sub(end));
            (smaller.is_some() || by > 0).then(|| start - by)
        });
        self.resized(end, to)
    }

    fn resized(&self, end: u64, swap_to: Option<u64>) -> Resized {
        let moved = self.swap.as_ref().zip(swap_to).map(|(swap, to)| MovedSwap {
            number: swap.number,
            from: swap.range.clone(),
            whole: swap.whole.clone(),
            to,
            entry: swap.entry,
        });
        Resized {
            number: self.number,
            start: self.start,
            from: self.size,
            to: end.saturating_sub(self.start),
            moved,
        }
    }
}

/// The partition that ends last of those that end at `limit` or before.
fn last_before(parsed: &ParsedTable, limit: u64) -> Option<&Partition> {
    let partitions = parsed.table.partitions.iter();
    partitions
        .filter(|partition| partition.range().end <= limit)
        .max_by_key(|partition| partition.range().end)
}

/// The entry to change when `swap` is to move, and all that moves with it.
fn movable(parsed: &ParsedTable, swap: &Partition) -> Result<(u32, Range<u64>), TableError> {
    let within = |range: &Range<u64>| range.contains(&swap.start);
    let Some(extended) = parsed.raw.extended().into_iter().find(within) else {
        return Ok((swap.number, swap.range()));
    };
    let others = parsed
        .table
        .partitions
        .iter()
        .filter(|other| other.number != swap.number && extended.contains(&other.start));
    let alone = others.count() == 0 && swap.start - extended.start <= RECORDS_MAX;
    let entry = parsed.raw.extended_number(extended.start);
    let entry = entry.filter(|_| alone).ok_or_else(|| {
        let number = swap.number;
        let why =
            format!("partition {number}, the last one, is swap behind other logical partitions");
        doubt(parsed, why)
    })?;
    Ok((entry, extended))
}

/// The byte behind the last one that partitions can have on a disk of `disk` bytes.
fn usable_end(parsed: &ParsedTable, disk: u64) -> Result<u64, TableError> {
    match &parsed.raw {
        Raw::Gpt(gpt) => gpt.usable_end(disk),
        Raw::Mbr(mbr) => Ok(disk.min(MBR_SECTORS.saturating_mul(mbr.sector()))),
    }
}

fn aligned(bytes: u64) -> u64 {
    bytes - bytes % ALIGNMENT
}

fn doubt(parsed: &ParsedTable, why: impl Into<String>) -> TableError {
    TableError::doubt(parsed.table.kind, why)
}

impl ParsedTable {
    /// Changes the entries as `resized` says. What to write for them is in [`Raw::writes`].
    ///
    /// # Errors
    /// When the table is not the one whose end was looked at.
    pub fn resize(&mut self, resized: &Resized) -> Result<(), TableError> {
        let partitions = &self.table.partitions;
        let own = partitions.iter().find(|own| own.number == resized.number);
        let own = own.ok_or_else(|| doubt(self, "it has changed since it was looked at"))?;
        if let Some(moved) = &resized.moved {
            self.raw.set_place(moved.entry, &moved.place())?;
        }
        self.raw.stretch(own, resized.range().end)
    }
}

#[cfg(test)]
mod tests;
