//! Tables that are changed entry by entry: read, cut down to a few partitions, given one of another disk's, written.

use super::mbr::BootRecord;
use super::raw::{MBR_CODE, MBR_ENTRIES, MBR_ENTRY, Pieces, RawGpt};
use super::{PartitionKind, Table, TableError, TableKind, first_sector, read};
use crate::source::ReadAt;
use std::ops::Range;

/// A table, and the bytes that make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub table: Table,
    pub raw: Raw,
}

/// The bytes of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    Gpt(RawGpt),
    Mbr(RawMbr),
}

/// The first sector of a disk with an MBR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMbr {
    first: Vec<u8>,
    sector: u64,
}

impl Known {
    /// Reads the table of a disk whose logical sectors are `sector_size` bytes; `None` where it has none.
    ///
    /// # Errors
    /// As [`read`].
    pub fn read(disk: &mut dyn ReadAt, sector_size: u32) -> Result<Option<Self>, TableError> {
        let table = read(disk, sector_size)?;
        let size = disk.size();
        let raw = match table.kind {
            TableKind::None => return Ok(None),
            TableKind::Gpt => RawGpt::read(disk, sector_size, size)?.map(Raw::Gpt),
            TableKind::Mbr => Some(Raw::Mbr(RawMbr {
                first: first_sector(disk)?,
                sector: sector_size.into(),
            })),
        };
        Ok(raw.map(|raw| Self { table, raw }))
    }
}

impl Raw {
    /// The bytes of the disk that the table itself takes; of an MBR the logical partitions' records are not among
    /// them.
    pub fn taken(&self) -> Vec<Range<u64>> {
        match self {
            Self::Gpt(gpt) => {
                let record = std::iter::once(0..512);
                record.chain(gpt.taken().iter().cloned()).collect()
            }
            Self::Mbr(mbr) => std::iter::once(0..mbr.first.len() as u64).collect(),
        }
    }

    /// Empties every entry but those of `numbers`, and what could boot.
    pub fn keep_only(&mut self, numbers: &[u32]) {
        match self {
            Self::Gpt(gpt) => gpt.keep_only(numbers),
            Self::Mbr(mbr) => mbr.keep_only(numbers),
        }
    }

    /// Puts in the entry that `from` has of partition `number`.
    ///
    /// # Errors
    /// When `from` has no such entry, the tables are of different kinds, or there is no room for it.
    pub fn adopt(&mut self, from: &Self, number: u32) -> Result<(), TableError> {
        let missing = |kind| TableError::doubt(kind, format!("there is no entry {number}"));
        match (self, from) {
            (Self::Gpt(gpt), Self::Gpt(from)) => {
                let entry = from.entry(number).ok_or_else(|| missing(TableKind::Gpt))?;
                gpt.adopt(number, entry)
            }
            (Self::Mbr(mbr), Self::Mbr(from)) => {
                let missing = || missing(TableKind::Mbr);
                let place = entry_place(number).ok_or_else(missing)?;
                let entry = from.first.get(place.clone()).ok_or_else(missing)?;
                mbr.first
                    .get_mut(place)
                    .ok_or_else(missing)?
                    .copy_from_slice(entry);
                Ok(())
            }
            (Self::Gpt(_), Self::Mbr(_)) => Err(missing(TableKind::Mbr)),
            (Self::Mbr(_), Self::Gpt(_)) => Err(missing(TableKind::Gpt)),
        }
    }

    /// What to write for a disk of `disk` bytes.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn pieces(&self, disk: u64) -> Result<Pieces, TableError> {
        match self {
            Self::Gpt(gpt) => gpt.pieces(disk),
            Self::Mbr(mbr) => Ok(Pieces {
                backup: Vec::new(),
                primary: vec![(0, mbr.first.clone())],
            }),
        }
    }

    /// The least that a disk has for this table, in bytes.
    pub fn least(&self) -> u64 {
        match self {
            Self::Gpt(gpt) => gpt.least(),
            Self::Mbr(mbr) => {
                let ends = mbr.entries().map(|(_, range)| range.end);
                ends.max().unwrap_or(mbr.sector)
            }
        }
    }

    /// Where an MBR's extended partitions are: no partitions of the table, but not free.
    pub fn extended(&self) -> Vec<Range<u64>> {
        match self {
            Self::Gpt(_) => Vec::new(),
            Self::Mbr(mbr) => {
                let extended = mbr
                    .entries()
                    .filter(|(code, _)| PartitionKind::Code(*code).is_extended());
                extended.map(|(_, range)| range).collect()
            }
        }
    }
}

impl RawMbr {
    /// Type and bytes of each entry in use.
    fn entries(&self) -> impl Iterator<Item = (u8, Range<u64>)> {
        let record = BootRecord::parse(&self.first);
        let entries: Vec<_> = record
            .iter()
            .flat_map(BootRecord::entries)
            .map(|entry| {
                let start = u64::from(entry.starting_lba) * self.sector;
                (
                    entry.sys,
                    start..start + u64::from(entry.sectors) * self.sector,
                )
            })
            .collect();
        entries.into_iter()
    }

    fn keep_only(&mut self, numbers: &[u32]) {
        if let Some(code) = self.first.get_mut(..MBR_CODE) {
            code.fill(0);
        }
        for number in (1..=4).filter(|number| !numbers.contains(number)) {
            let entry = entry_place(number).and_then(|place| self.first.get_mut(place));
            if let Some(entry) = entry {
                entry.fill(0);
            }
        }
    }
}

/// Where an MBR has the entry of a primary partition.
fn entry_place(number: u32) -> Option<Range<usize>> {
    let at = usize::try_from(number.checked_sub(1)?).ok()?;
    let start = MBR_ENTRIES + at * MBR_ENTRY;
    (at < 4).then_some(start..start + MBR_ENTRY)
}
