//! Changing a table entry by entry: read it, keep a few partitions, add one of another disk's table, write it.

use super::chain::{Chain, FIRST_LOGICAL, Logical, bytes_of, entry};
use super::mbr::{self, BootRecord};
use super::raw::{MBR_CODE, MBR_ENTRIES, MBR_ENTRY, RawGpt};
use super::writes::TableWrites;
use super::{Partition, PartitionKind, Table, TableError, TableKind, first_sector, read};
use crate::source::ReadAt;
use mbrman::{MBRHeader, MBRPartitionEntry};
use std::io::Cursor;
use std::ops::Range;

/// A table, and the bytes that make it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedTable {
    pub table: Table,
    pub raw: Raw,
}

/// The bytes of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raw {
    Gpt(RawGpt),
    Mbr(RawMbr),
}

/// The first sector of a disk with an MBR, and the boot records of its logical partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawMbr {
    pub(super) first: Vec<u8>,
    pub(super) sector: u64,
    pub(super) chains: Vec<Chain>,
    /// Whether the chains are not those of the disk any more.
    pub(super) changed: bool,
}

impl ParsedTable {
    /// Reads the table of a disk whose logical sectors are `sector_size` bytes; `None` where it has none.
    ///
    /// # Errors
    /// As [`read`].
    pub fn read(disk: &dyn ReadAt, sector_size: u32) -> Result<Option<Self>, TableError> {
        let table = read(disk, sector_size)?;
        let size = disk.size();
        let raw = match table.kind {
            TableKind::None => return Ok(None),
            TableKind::Gpt => RawGpt::read(disk, sector_size, size)?.map(Raw::Gpt),
            TableKind::Mbr => Some(Raw::Mbr(RawMbr::read(disk, sector_size)?)),
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

    /// Puts in the entries that `from` has of partitions `numbers`.
    ///
    /// # Errors
    /// When `from` has no such entry, the tables are of different kinds, or there is no room for one.
    pub fn adopt(&mut self, from: &Self, numbers: &[u32]) -> Result<(), TableError> {
        let mut numbers = numbers.to_vec();
        numbers.sort_unstable();
        match (self, from) {
            (Self::Gpt(gpt), Self::Gpt(from)) => numbers.into_iter().try_for_each(|number| {
                let entry = from.entry(number);
                gpt.adopt(
                    number,
                    entry.ok_or_else(|| no_entry(TableKind::Gpt, number))?,
                )
            }),
            (Self::Mbr(mbr), Self::Mbr(from)) => mbr.adopt(from, &numbers),
            (own, _) => {
                let kind = own.kind();
                Err(TableError::doubt(
                    kind,
                    "the other table is of another kind",
                ))
            }
        }
    }

    fn kind(&self) -> TableKind {
        match self {
            Self::Gpt(_) => TableKind::Gpt,
            Self::Mbr(_) => TableKind::Mbr,
        }
    }

    /// What to write for a disk of `disk` bytes.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn writes(&self, disk: u64) -> Result<TableWrites, TableError> {
        match self {
            Self::Gpt(gpt) => gpt.writes(disk),
            Self::Mbr(mbr) => mbr.writes(),
        }
    }

    /// The least that a disk has for this table, in bytes.
    pub fn minimum_disk(&self) -> u64 {
        match self {
            Self::Gpt(gpt) => gpt.minimum_disk(),
            Self::Mbr(mbr) => {
                let ends = mbr.entries().map(|(_, range)| range.end);
                ends.max().unwrap_or(mbr.sector)
            }
        }
    }

    /// Whether a partition of that number lives in an extended one.
    pub fn is_logical(&self, number: u32) -> bool {
        matches!(self, Self::Mbr(_)) && number >= FIRST_LOGICAL
    }

    /// Gives the entry of a partition, an MBR's extended one too, other bytes of the disk.
    ///
    /// # Errors
    /// When there is no such entry, or it cannot count so far.
    pub(super) fn set_place(&mut self, number: u32, place: &Range<u64>) -> Result<(), TableError> {
        match self {
            Self::Gpt(gpt) => gpt
                .set_place(number, place)
                .ok_or_else(|| no_entry(TableKind::Gpt, number)),
            Self::Mbr(mbr) => mbr.set_place(number, place),
        }
    }

    /// Has a partition end at byte `end`; the extended one of a logical partition ends no earlier.
    ///
    /// # Errors
    /// As [`set_place`](Self::set_place).
    pub(super) fn stretch(&mut self, own: &Partition, end: u64) -> Result<(), TableError> {
        match self {
            Self::Mbr(mbr) if own.number >= FIRST_LOGICAL => mbr.stretch(own, end),
            _ => self.set_place(own.number, &(own.start..end)),
        }
    }

    /// The number of the entry that has the extended partition at byte `start`.
    pub fn extended_number(&self, start: u64) -> Option<u32> {
        match self {
            Self::Gpt(_) => None,
            Self::Mbr(mbr) => mbr.extended_number(start),
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
    fn read(disk: &dyn ReadAt, sector_size: u32) -> Result<Self, TableError> {
        let first = first_sector(disk)?;
        let record = BootRecord::parse(&first);
        let chains = record.map(|record| mbr::chains(disk, sector_size, &record));
        Ok(Self {
            first,
            sector: sector_size.into(),
            chains: chains.transpose()?.unwrap_or_default(),
            changed: false,
        })
    }

    /// Bytes of a logical sector.
    pub(super) fn sector(&self) -> u64 {
        self.sector
    }

    /// The chain first, where it is another now, and the boot record that leads to it last.
    fn writes(&self) -> Result<TableWrites, TableError> {
        let mut primary = Vec::new();
        for chain in self.chains.iter().filter(|_| self.changed) {
            primary.extend(chain.writes()?);
        }
        primary.push((0, self.first.clone()));
        Ok(TableWrites {
            backup: Vec::new(),
            primary,
        })
    }

    /// Takes over the entries that `from` has of `numbers`, in ascending order.
    fn adopt(&mut self, from: &Self, numbers: &[u32]) -> Result<(), TableError> {
        let theirs = BootRecord::parse(&from.first);
        let mut logicals = Vec::new();
        for number in numbers {
            if *number >= FIRST_LOGICAL {
                logicals.push(from.logical(*number)?);
                continue;
            }
            let mut entries = theirs.iter().flat_map(BootRecord::numbered);
            let entry = entries.find(|(own, _)| own == number);
            let (_, entry) = entry.ok_or_else(|| no_entry(TableKind::Mbr, *number))?;
            if self.extended_entries().iter().any(|(own, _)| own == number) {
                let why = format!("its entry {number} is the extended partition's");
                return Err(TableError::doubt(TableKind::Mbr, why));
            }
            self.set_entry(*number, entry.clone())?;
        }
        if self.chains.is_empty() && !logicals.is_empty() {
            self.make_chain(from, &logicals)?;
        }
        for logical in &logicals {
            self.chain()?.adopt(logical)?;
            self.changed = true;
        }
        Ok(())
    }

    fn logical(&self, number: u32) -> Result<Logical, TableError> {
        let [chain] = self.chains.as_slice() else {
            return Err(several_chains());
        };
        let found = chain
            .logicals()
            .into_iter()
            .find(|own| own.number == number);
        found.ok_or_else(|| no_entry(TableKind::Mbr, number))
    }

    fn chain(&mut self) -> Result<&mut Chain, TableError> {
        match self.chains.as_mut_slice() {
            [chain] => Ok(chain),
            _ => Err(several_chains()),
        }
    }

    /// An extended partition around `logicals`, in the entry that `from` has for its own if that is free.
    fn make_chain(&mut self, from: &Self, logicals: &[Logical]) -> Result<(), TableError> {
        let start = logicals.iter().map(|logical| logical.record).min();
        let end = logicals.iter().map(|logical| logical.range.end).max();
        let range = start.unwrap_or_default()..end.unwrap_or_default();
        let theirs = from.extended_entries();
        let (own, code) = theirs
            .first()
            .map_or((4, 0x0f), |(own, entry)| (*own, entry.sys));
        let record = BootRecord::parse(&self.first);
        let taken: Vec<u32> = record
            .iter()
            .flat_map(BootRecord::numbered)
            .map(|(number, _)| number)
            .collect();
        let number = std::iter::once(own)
            .chain(1..FIRST_LOGICAL)
            .find(|number| !taken.contains(number))
            .ok_or_else(|| {
                let why = "its four entries are taken: there is none for an extended partition";
                TableError::doubt(TableKind::Mbr, why)
            })?;
        self.set_entry(number, entry(code, range.clone(), 0, self.sector)?)?;
        self.chains.push(Chain {
            range,
            sector: self.sector,
            records: Vec::new(),
        });
        Ok(())
    }

    fn set_entry(&mut self, number: u32, entry: MBRPartitionEntry) -> Result<(), TableError> {
        let header = MBRHeader::read_from(&mut Cursor::new(&self.first)).ok();
        let slot = usize::try_from(number).map_err(std::io::Error::other)?;
        let mut header = header.ok_or_else(|| no_entry(TableKind::Mbr, number))?;
        if let Some(place) = header.get_mut(slot) {
            *place = entry;
        }
        self.first = bytes_of(&header)?;
        Ok(())
    }

    pub(super) fn set_place(&mut self, number: u32, place: &Range<u64>) -> Result<(), TableError> {
        let record = BootRecord::parse(&self.first);
        let mut entries = record.iter().flat_map(BootRecord::numbered);
        let old = entries.find(|(own, _)| *own == number);
        let (_, old) = old.ok_or_else(|| no_entry(TableKind::Mbr, number))?;
        let mut new = entry(old.sys, place.clone(), 0, self.sector)?;
        new.boot = old.boot;
        if new.starting_lba == old.starting_lba {
            new.first_chs = old.first_chs;
        }
        self.set_entry(number, new)
    }

    fn stretch(&mut self, own: &Partition, end: u64) -> Result<(), TableError> {
        let mut chains = self.chains.iter_mut();
        let chain = chains.find(|chain| chain.range.contains(&own.start));
        let chain = chain.ok_or_else(|| no_entry(TableKind::Mbr, own.number))?;
        chain.stretch(&own.range(), end)?;
        let extended = chain.range.clone();
        self.changed = true;
        let number = self.extended_number(extended.start);
        let number = number.ok_or_else(|| no_entry(TableKind::Mbr, own.number))?;
        self.set_place(number, &extended)
    }

    fn extended_number(&self, start: u64) -> Option<u32> {
        let mut extended = self.extended_entries().into_iter();
        let found =
            extended.find(|(_, entry)| u64::from(entry.starting_lba) * self.sector == start);
        found.map(|(number, _)| number)
    }

    /// Its extended partitions by the numbers of their entries.
    fn extended_entries(&self) -> Vec<(u32, MBRPartitionEntry)> {
        let record = BootRecord::parse(&self.first);
        record
            .iter()
            .flat_map(BootRecord::numbered)
            .filter(|(_, entry)| entry.is_extended())
            .map(|(number, entry)| (number, entry.clone()))
            .collect()
    }

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
        let logical = numbers.iter().any(|number| *number >= FIRST_LOGICAL);
        let extended = self.extended_entries().into_iter().filter(|_| logical);
        let extended: Vec<u32> = extended.map(|(number, _)| number).collect();
        for chain in &mut self.chains {
            chain.keep_only(numbers);
        }
        self.changed = true;
        let stays = |number: &u32| numbers.contains(number) || extended.contains(number);
        for number in (1..=4).filter(|number| !stays(number)) {
            let entry = entry_place(number).and_then(|place| self.first.get_mut(place));
            if let Some(entry) = entry {
                entry.fill(0);
            }
        }
    }
}

fn no_entry(kind: TableKind, number: u32) -> TableError {
    TableError::doubt(kind, format!("there is no entry {number}"))
}

fn several_chains() -> TableError {
    let why = "it has more than one extended partition";
    TableError::doubt(TableKind::Mbr, why)
}

/// Where an MBR has the entry of a primary partition.
fn entry_place(number: u32) -> Option<Range<usize>> {
    let at = usize::try_from(number.checked_sub(1)?).ok()?;
    let start = MBR_ENTRIES + at * MBR_ENTRY;
    (at < 4).then_some(start..start + MBR_ENTRY)
}
