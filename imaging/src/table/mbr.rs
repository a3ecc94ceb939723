//! Reading an MBR with its chain of extended boot records.

use super::chain::{Chain, Record};
use super::{BOOT_GAP_MAX, Partition, PartitionKind, Table, TableError, TableKind};
use crate::extents::Extents;
use crate::source::ReadAt;
use mbrman::{MBRHeader, MBRPartitionEntry};
use std::collections::HashSet;
use std::io::Cursor;

/// The type of the entry that guards a GPT (UEFI 2.10 5.2.3).
pub(super) const PROTECTIVE: u8 = 0xee;
/// Linux stops at 256 partitions on a disk.
const LOGICAL_MAX: usize = 256;

/// The four entries of an MBR or of an extended boot record.
pub(super) struct BootRecord(MBRHeader);

impl BootRecord {
    /// `None` if this is no boot record: no signature, or flags that no partition has, as in the boot
    /// sector of a FAT.
    pub(super) fn parse(sector: &[u8]) -> Option<Self> {
        MBRHeader::read_from(&mut Cursor::new(sector))
            .ok()
            .map(Self)
    }

    /// Entries in use, in their order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &MBRPartitionEntry> {
        self.numbered().map(|(_, entry)| entry)
    }

    pub(super) fn numbered(&self) -> impl Iterator<Item = (u32, &MBRPartitionEntry)> {
        let header = &self.0;
        (1..)
            .zip([
                &header.partition_1,
                &header.partition_2,
                &header.partition_3,
                &header.partition_4,
            ])
            .filter(|(_, entry)| entry.is_used() && entry.sectors > 0)
    }

    pub(super) fn is_protective(&self) -> bool {
        self.entries().any(|entry| entry.sys == PROTECTIVE)
    }

    /// Whether its protective entry has no sectors, so that it is none. Linux takes it for one (`is_pmbr_valid`).
    pub(super) fn guards_nothing(&self) -> bool {
        let header = &self.0;
        let entries = [
            &header.partition_1,
            &header.partition_2,
            &header.partition_3,
            &header.partition_4,
        ];
        let is_it = |entry: &&MBRPartitionEntry| entry.sys == PROTECTIVE && entry.sectors == 0;
        entries.iter().any(is_it)
    }

    pub(super) fn has_partitions(&self) -> bool {
        self.entries().next().is_some()
    }

    fn signature(&self) -> u32 {
        u32::from_le_bytes(self.0.disk_signature)
    }
}

/// What is gathered while the chains are walked.
struct Walk<'a> {
    disk: &'a dyn ReadAt,
    sector: u64,
    signature: u32,
    logical: Vec<Partition>,
    reserved: Extents,
    chains: Vec<Chain>,
    seen: HashSet<u64>,
}

/// The MBR's table; kind `none` when all four entries are empty.
pub(super) fn read(
    disk: &dyn ReadAt,
    sector_size: u32,
    record: &BootRecord,
) -> Result<Table, TableError> {
    if !record.has_partitions() {
        return Ok(Table::default());
    }
    let mut walk = Walk::new(disk, sector_size, record);
    let mut partitions = Vec::new();
    for (number, entry) in record.numbered() {
        if entry.is_extended() {
            walk.chain(entry)?;
        } else {
            let start = u64::from(entry.starting_lba) * walk.sector;
            partitions.push(walk.partition(number, start, entry));
        }
    }
    check_primaries_apart(record, walk.sector)?;
    partitions.append(&mut walk.logical);
    Ok(Table {
        kind: TableKind::Mbr,
        id: format!("0x{:08x}", record.signature()),
        partitions,
        reserved: walk.reserved,
        note: String::new(),
        gpt: None,
    })
}

/// What the MBR itself names: the primary partitions, and the extended ones.
pub(super) fn own_entries(
    disk: &dyn ReadAt,
    sector_size: u32,
    record: &BootRecord,
) -> Result<Vec<Partition>, TableError> {
    let walk = Walk::new(disk, sector_size, record);
    check_primaries_apart(record, walk.sector)?;
    let own = record.numbered().map(|(number, entry)| {
        let start = u64::from(entry.starting_lba) * walk.sector;
        walk.partition(number, start, entry)
    });
    Ok(own.collect())
}

/// The chains of the MBR's extended partitions.
pub(super) fn chains(
    disk: &dyn ReadAt,
    sector_size: u32,
    record: &BootRecord,
) -> Result<Vec<Chain>, TableError> {
    let mut walk = Walk::new(disk, sector_size, record);
    for extended in record.entries().filter(|entry| entry.is_extended()) {
        walk.chain(extended)?;
    }
    Ok(walk.chains)
}

/// An extended partition is no partition of the table's, so its overlaps are looked for here.
fn check_primaries_apart(record: &BootRecord, sector: u64) -> Result<(), TableError> {
    let mut ranges: Vec<_> = record
        .entries()
        .map(|entry| {
            let start = u64::from(entry.starting_lba) * sector;
            start..start + u64::from(entry.sectors) * sector
        })
        .collect();
    ranges.sort_by_key(|range| range.start);
    let overlap = ranges
        .windows(2)
        .any(|pair| matches!(pair, [before, after] if after.start < before.end));
    let on_table = ranges.first().is_some_and(|first| first.start == 0);
    if overlap || on_table {
        return Err(TableError::doubt(
            TableKind::Mbr,
            "the MBR's partitions overlap each other or the MBR itself",
        ));
    }
    Ok(())
}

impl<'a> Walk<'a> {
    fn new(disk: &'a dyn ReadAt, sector_size: u32, record: &BootRecord) -> Self {
        Self {
            disk,
            sector: u64::from(sector_size),
            signature: record.signature(),
            logical: Vec::new(),
            reserved: Extents::new(),
            chains: Vec::new(),
            seen: HashSet::new(),
        }
    }

    fn partition(&self, number: u32, start: u64, entry: &MBRPartitionEntry) -> Partition {
        Partition {
            number,
            start,
            size: u64::from(entry.sectors) * self.sector,
            kind: PartitionKind::Code(entry.sys),
            name: String::new(),
            id: format!("{:08x}-{number:02x}", self.signature),
            attributes: 0,
        }
    }

    /// Follows one extended partition. Links are relative to its start, partitions to their own record.
    fn chain(&mut self, extended: &MBRPartitionEntry) -> Result<(), TableError> {
        let base = u64::from(extended.starting_lba) * self.sector;
        let end = base + u64::from(extended.sectors) * self.sector;
        let mut at = base;
        self.chains.push(Chain {
            range: base..end,
            sector: self.sector,
            records: Vec::new(),
        });
        loop {
            if at < base || at >= end || at + 512 > self.disk.size() {
                return Err(broken("a link leaves the extended partition"));
            }
            if !self.seen.insert(at) || self.logical.len() >= LOGICAL_MAX {
                return Err(broken("the chain of logical partitions does not end"));
            }
            let bytes = self.disk.bytes_at(at, 512)?;
            if let (Some(chain), Some(record)) = (self.chains.last_mut(), Record::parse(at, &bytes))
            {
                chain.records.push(record);
            }
            let Some(record) = BootRecord::parse(&bytes) else {
                if at == base && bytes.iter().all(|byte| *byte == 0) {
                    // An extended partition in which nothing was made yet needs no record.
                    self.reserved.insert(at..at + self.sector);
                    return Ok(());
                }
                return Err(broken("an extended boot record is damaged"));
            };
            self.logicals_of(&record, at, end)?;
            match record.entries().find(|entry| entry.is_extended()) {
                Some(link) => at = base + u64::from(link.starting_lba) * self.sector,
                None => return Ok(()),
            }
        }
    }

    fn logicals_of(&mut self, record: &BootRecord, at: u64, end: u64) -> Result<(), TableError> {
        let mut gap_end = at + self.sector;
        for entry in record.entries().filter(|entry| !entry.is_extended()) {
            let number =
                u32::try_from(self.logical.len()).map_or(u32::MAX, |known| known.saturating_add(5));
            let start = at + u64::from(entry.starting_lba) * self.sector;
            let partition = self.partition(number, start, entry);
            if start < at + self.sector || partition.range().end > end {
                return Err(broken("a logical partition leaves its extended partition"));
            }
            gap_end = gap_end.max(start.min(at + BOOT_GAP_MAX));
            self.logical.push(partition);
        }
        self.reserved.insert(at..gap_end);
        Ok(())
    }
}

fn broken(why: &str) -> TableError {
    TableError::doubt(TableKind::Mbr, why)
}
