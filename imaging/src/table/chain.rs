//! The chain of extended boot records in which an MBR has its logical partitions. Each record names its own partition,
//! counted from itself, and the next record, counted from the first.

use super::{TableError, TableKind, TableWrite};
use mbrman::{CHS, MBRHeader, MBRPartitionEntry};
use std::io::Cursor;
use std::ops::Range;

/// The type of a link to the next record.
const LINK: u8 = 0x05;
/// The type of an entry that is there for the numbers of those behind it: data that no system looks into.
const STUB: u8 = 0xda;
/// Logical partitions count from here.
pub(super) const FIRST_LOGICAL: u32 = 5;

/// An extended partition and the records within.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    /// The bytes of the extended partition.
    pub(super) range: Range<u64>,
    /// Bytes of a sector.
    pub(super) sector: u64,
    pub(super) records: Vec<Record>,
}

/// One boot record of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The byte of the disk where it is.
    pub(super) at: u64,
    pub(super) header: MBRHeader,
}

/// A logical partition with what makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Logical {
    pub(super) number: u32,
    pub(super) range: Range<u64>,
    /// The byte of the disk where its record is.
    pub(super) record: u64,
    pub(super) entry: MBRPartitionEntry,
}

impl Record {
    pub(super) fn new(at: u64) -> Self {
        let header = MBRHeader::new([0; 4]);
        Self { at, header }
    }

    /// `None` if the bytes are no boot record.
    pub(super) fn parse(at: u64, bytes: &[u8]) -> Option<Self> {
        let header = MBRHeader::read_from(&mut Cursor::new(bytes)).ok()?;
        Some(Self { at, header })
    }

    /// Gives it its partition.
    pub(super) fn set(&mut self, entry: MBRPartitionEntry) {
        self.header.partition_1 = entry;
    }

    /// Which of its entries are partitions, and their bytes.
    fn partitions(&self, sector: u64) -> Vec<(usize, Range<u64>)> {
        let used = self
            .header
            .iter()
            .filter(|(_, entry)| entry.is_used() && entry.sectors > 0 && !entry.is_extended());
        used.map(|(slot, entry)| {
            let start = self.at + u64::from(entry.starting_lba) * sector;
            (slot, start..start + u64::from(entry.sectors) * sector)
        })
        .collect()
    }

    /// Has it lead to `next`, or end the chain.
    fn link(&mut self, next: Option<MBRPartitionEntry>) {
        let next = next.unwrap_or_else(MBRPartitionEntry::empty);
        let own = self.header.iter().find(|(_, entry)| entry.is_extended());
        let slot = own.map_or(2, |(slot, _)| slot);
        if let Some(link) = self.header.get_mut(slot) {
            *link = next;
        }
    }
}

impl Chain {
    /// What to write for it.
    pub(super) fn writes(&self) -> Result<Vec<TableWrite>, TableError> {
        let piece = |record: &Record| Ok((record.at, bytes_of(&record.header)?));
        self.records.iter().map(piece).collect()
    }

    /// Its partitions, by their numbers.
    pub(super) fn logicals(&self) -> Vec<Logical> {
        let places = self.records.iter().flat_map(|record| {
            let partitions = record.partitions(self.sector).into_iter();
            partitions.filter_map(|(slot, range)| {
                let entry = record.header.get(slot)?.clone();
                Some((record.at, range, entry))
            })
        });
        (FIRST_LOGICAL..)
            .zip(places)
            .map(|(number, (record, range, entry))| Logical {
                number,
                range,
                record,
                entry,
            })
            .collect()
    }

    /// Ends it behind the last of `numbers`. Partitions in front of that which are not among them become stubs of a
    /// sector: the others' numbers hold.
    pub(super) fn keep_only(&mut self, numbers: &[u32]) {
        let mut number = FIRST_LOGICAL;
        let mut end = 0;
        for (index, record) in self.records.iter_mut().enumerate() {
            for (slot, _) in record.partitions(self.sector) {
                if numbers.contains(&number) {
                    end = index + 1;
                } else if let Some(entry) = record.header.get_mut(slot) {
                    entry.boot = 0;
                    entry.sys = STUB;
                    entry.starting_lba = 1;
                    entry.sectors = 1;
                }
                number += 1;
            }
        }
        self.records.truncate(end);
        if let Some(last) = self.records.last_mut() {
            last.link(None);
        }
    }

    /// Takes in a partition of another chain: in the place of its own one of that number, or behind its last.
    pub(super) fn adopt(&mut self, new: &Logical) -> Result<(), TableError> {
        let own = self.logicals();
        let number = new.number;
        if let Some(same) = own.iter().find(|own| own.number == number) {
            return self.put(same.record, &same.range, new);
        }
        let next = FIRST_LOGICAL + u32::try_from(own.len()).unwrap_or(u32::MAX - FIRST_LOGICAL);
        if next != number {
            return Err(doubt(format!(
                "logical partition {number} would become number {next}"
            )));
        }
        let inside = self.range.start < new.range.start && new.range.end <= self.range.end;
        if !inside {
            return Err(doubt(format!(
                "logical partition {number} lies outside its extended partition"
            )));
        }
        let empty = |record: &&Record| record.partitions(self.sector).is_empty();
        let at = match self.records.last() {
            None => self.range.start,
            Some(last) if empty(&last) => last.at,
            Some(_) => self.free_place(&own, new),
        };
        if self.records.last().is_none_or(|last| last.at != at) {
            self.records.push(Record::new(at));
        }
        self.put(at, &new.range, new)?;
        self.link()
    }

    /// Where the record of `new` goes: to its place in the other chain, or right in front of its partition.
    fn free_place(&self, own: &[Logical], new: &Logical) -> u64 {
        let inside = self.range.contains(&new.record);
        let taken = own.iter().any(|own| own.range.contains(&new.record))
            || self.records.iter().any(|record| record.at == new.record);
        if inside && !taken {
            return new.record;
        }
        new.range.start.saturating_sub(self.sector)
    }

    /// Puts the entry of `new` into the record at byte `at`, over that of `range` if it has one.
    fn put(&mut self, at: u64, range: &Range<u64>, new: &Logical) -> Result<(), TableError> {
        let mut placed = entry(new.entry.sys, new.range.clone(), at, self.sector)?;
        placed.boot = new.entry.boot;
        let sector = self.sector;
        let record = self.records.iter_mut().find(|record| record.at == at);
        let record = record.ok_or_else(|| doubt(format!("there is no boot record at {at}")))?;
        let slot = record
            .partitions(sector)
            .iter()
            .find(|(_, own)| own == range)
            .map_or(1, |(slot, _)| *slot);
        if let Some(place) = record.header.get_mut(slot) {
            *place = placed;
        }
        Ok(())
    }

    /// Has the partition with the bytes `range`, the last one, end at byte `end`. The extended one follows where the
    /// partition shrinks, and where it would not reach that far.
    pub(super) fn stretch(&mut self, range: &Range<u64>, end: u64) -> Result<(), TableError> {
        let own = self.logicals().into_iter().find(|own| own.range == *range);
        let own =
            own.ok_or_else(|| doubt(format!("no logical partition begins at {}", range.start)))?;
        let longer = Logical {
            range: range.start..end,
            ..own
        };
        self.put(longer.record, range, &longer)?;
        self.range.end = if end > range.end {
            self.range.end.max(end)
        } else {
            end
        };
        let (sector, start) = (self.sector, self.range.start);
        let mut records = self.records.iter_mut().rev();
        if records.any(|record| record.at == longer.record)
            && let Some(before) = records.next()
        {
            before.link(Some(entry(LINK, longer.record..end, start, sector)?));
        }
        Ok(())
    }

    /// Leads from the last record but one to the last, as from each to the next in a new chain.
    fn link(&mut self) -> Result<(), TableError> {
        let (sector, start) = (self.sector, self.range.start);
        if let [.., before, last] = self.records.as_mut_slice() {
            let end = last.partitions(sector).iter().map(|(_, own)| own.end).max();
            let whole = last.at..end.unwrap_or(last.at + sector);
            before.link(Some(entry(LINK, whole, start, sector)?));
        }
        Ok(())
    }

    /// Puts a record behind the others.
    pub(super) fn push(&mut self, record: Record) -> Result<(), TableError> {
        self.records.push(record);
        self.link()
    }
}

/// An entry for `range`, counted from byte `base`.
pub(super) fn entry(
    code: u8,
    range: Range<u64>,
    base: u64,
    sector: u64,
) -> Result<MBRPartitionEntry, TableError> {
    // Nobody has read cylinders for decades: as all tools write them where they do not fit.
    let beyond = CHS::new(1023, 254, 63);
    let count = |bytes: Option<u64>| {
        bytes
            .and_then(|bytes| u32::try_from(bytes / sector).ok())
            .ok_or_else(|| doubt("an MBR counts sectors in 32 bits"))
    };
    Ok(MBRPartitionEntry {
        boot: 0,
        first_chs: beyond,
        sys: code,
        last_chs: beyond,
        starting_lba: count(range.start.checked_sub(base))?,
        sectors: count(range.end.checked_sub(range.start))?,
    })
}

/// A boot record as its 512 bytes.
pub(super) fn bytes_of(header: &MBRHeader) -> Result<Vec<u8>, TableError> {
    let mut bytes = vec![0; 512];
    header
        .write_into(&mut Cursor::new(&mut bytes[..]))
        .map_err(|error| doubt(format!("making a boot record: {error}")))?;
    Ok(bytes)
}

fn doubt(why: impl Into<String>) -> TableError {
    TableError::doubt(TableKind::Mbr, why)
}
