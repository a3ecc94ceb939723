//! Making a new table: GPT by UEFI 2.10 5.3, MBR with its chain of extended boot records.

use super::chain::{self, Chain, Record};
use super::raw::RawGpt;
use super::writes::{TableWrite, TableWrites};
use super::{Partition, PartitionKind, TableError, TableKind};
use gpt::disk::LogicalBlockSize;
use gpt::header::HeaderBuilder;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{OperatingSystem, Type};
use mbrman::{MBRHeader, MBRPartitionEntry};
use std::fmt;
use std::io::Cursor;
use std::ops::Range;
use uuid::Uuid;

/// The entries of a new GPT, 128 of 128 bytes, as every tool makes them.
pub const NEW_GPT_ENTRIES: u64 = 128 * 128;
/// Bytes of an entry.
const ENTRY: u32 = 128;

/// A table to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTable {
    pub kind: TableKind,
    /// Disk GUID, or MBR signature as `0x` and eight hex digits.
    pub id: String,
    /// Bytes of a logical sector.
    pub sector: u64,
    /// In the order of their numbers; of an MBR, the extended one is among them.
    pub partitions: Vec<NewPartition>,
}

/// A partition of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPartition {
    pub partition: Partition,
    /// Of an MBR: whether its code boots this one.
    pub active: bool,
    /// Of a logical partition, the byte at which its boot record is to be.
    pub record: Option<u64>,
}

impl NewTable {
    /// What to write for it on a disk of `disk` bytes.
    ///
    /// # Errors
    /// When an identifier is none, or something does not fit into this kind of table.
    pub fn writes(&self, disk: u64) -> Result<TableWrites, TableError> {
        match self.kind {
            TableKind::Gpt => self.gpt(disk)?.writes(disk),
            TableKind::Mbr => self.mbr(),
            TableKind::None => Ok(TableWrites::default()),
        }
    }

    /// Its primary copy, written to memory.
    fn gpt(&self, disk: u64) -> Result<RawGpt, TableError> {
        let block = LogicalBlockSize::try_from(self.sector)?;
        let size = usize::try_from(2 * self.sector + NEW_GPT_ENTRIES).map_err(doubt)?;
        let mut front = Cursor::new(vec![0; size]);
        for new in &self.partitions {
            let index = u64::from(new.partition.number).saturating_sub(1);
            if index >= NEW_GPT_ENTRIES / u64::from(ENTRY) {
                return Err(doubt("a GPT has room for 128 partitions"));
            }
            self.entry(&new.partition)?
                .write_to_device(&mut front, index, 2, block, ENTRY)?;
        }
        HeaderBuilder::new()
            .disk_guid(guid(&self.id)?)
            .backup_lba((disk / self.sector).saturating_sub(1))
            .build(block)
            .and_then(|mut header| header.write_primary(&mut front, block))
            .map_err(doubt)?;
        let guarded = (disk / self.sector).saturating_sub(1);
        ProtectiveMBR::with_lb_size(u32::try_from(guarded).unwrap_or(u32::MAX))
            .overwrite_lba0(&mut front)
            .map_err(doubt)?;
        RawGpt::of_front(front.get_ref(), self.sector)
    }

    fn entry(&self, partition: &Partition) -> Result<gpt::partition::Partition, TableError> {
        let PartitionKind::Guid(kind) = &partition.kind else {
            return Err(no_type(partition, "GUID"));
        };
        Ok(gpt::partition::Partition {
            part_type_guid: Type {
                guid: guid(kind)?,
                os: OperatingSystem::None,
            },
            part_guid: guid(&partition.id)?,
            first_lba: partition.start / self.sector,
            last_lba: (partition.range().end / self.sector).saturating_sub(1),
            flags: partition.attributes,
            name: partition.name.clone(),
        })
    }

    /// The chain first, the boot record that leads to it last.
    fn mbr(&self) -> Result<TableWrites, TableError> {
        let id = signature(&self.id).ok_or_else(|| not(&self.id, "MBR signature"))?;
        let mut header = MBRHeader::new(id.to_le_bytes());
        let mut records = Vec::new();
        let mut extended = None;
        for new in &self.partitions {
            if new.partition.kind.is_extended() {
                extended = Some(new.partition.range());
            }
            if let Some(at) = new.record {
                let mut record = Record::new(at);
                record.set(self.mbr_entry(new, at)?);
                records.push(record);
            } else {
                let number = usize::try_from(new.partition.number).map_err(doubt)?;
                let slot = header
                    .get_mut(number)
                    .ok_or_else(|| doubt(format!("an MBR has no place for partition {number}")))?;
                *slot = self.mbr_entry(new, 0)?;
            }
        }
        let mut primary = self.chain(extended, records)?;
        primary.push((0, chain::bytes_of(&header)?));
        Ok(TableWrites {
            backup: Vec::new(),
            primary,
        })
    }

    fn chain(
        &self,
        extended: Option<Range<u64>>,
        mut records: Vec<Record>,
    ) -> Result<Vec<TableWrite>, TableError> {
        let Some(extended) = extended else {
            return Ok(Vec::new());
        };
        if records.is_empty() {
            records.push(Record::new(extended.start));
        }
        let mut chain = Chain {
            range: extended,
            sector: self.sector,
            records: Vec::new(),
        };
        for record in records {
            chain.push(record)?;
        }
        chain.writes()
    }

    /// The entry of a partition in the boot record at byte `base`.
    fn mbr_entry(&self, new: &NewPartition, base: u64) -> Result<MBRPartitionEntry, TableError> {
        let partition = &new.partition;
        let Some(code) = partition.kind.code() else {
            return Err(no_type(partition, "code"));
        };
        let range = partition.range();
        let mut entry = chain::entry(code, range, base, self.sector)?;
        entry.boot = if new.active { 0x80 } else { 0 };
        Ok(entry)
    }
}

/// The number of an MBR signature as it is written: `0x1a2b3c4d`.
pub fn signature(id: &str) -> Option<u32> {
    let digits = id.strip_prefix("0x")?;
    (digits.len() == 8)
        .then(|| u32::from_str_radix(digits, 16).ok())
        .flatten()
}

fn guid(text: &str) -> Result<Uuid, TableError> {
    Uuid::parse_str(text).map_err(|_| not(text, "GUID"))
}

fn not(text: &str, what: &str) -> TableError {
    doubt(format!("{text:?} is no {what}"))
}

fn no_type(partition: &Partition, what: &str) -> TableError {
    doubt(format!("partition {partition} has no type {what}"))
}

fn doubt(why: impl fmt::Display) -> TableError {
    TableError::doubt(TableKind::None, why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Disk;

    const MIB: u64 = 1 << 20;

    fn partition(number: u32, mib: Range<u64>, kind: PartitionKind) -> NewPartition {
        NewPartition {
            partition: Partition {
                number,
                start: mib.start * MIB,
                size: (mib.end - mib.start) * MIB,
                kind,
                name: String::new(),
                id: format!("00000000-0000-4000-8000-00000000000{number}"),
                attributes: 0,
            },
            active: false,
            record: (number > 4).then_some(mib.start.saturating_sub(1) * MIB),
        }
    }

    fn read_back(table: &NewTable) -> super::super::Table {
        let mut disk = vec![0; 64 << 20];
        let pieces = table.writes(64 * MIB).unwrap();
        for (at, bytes) in pieces.backup.iter().chain(&pieces.primary) {
            super::super::raw::put(&mut disk, usize::try_from(*at).unwrap(), bytes);
        }
        let mut disk = Cursor::new(disk);
        let sector = u32::try_from(table.sector).unwrap();
        super::super::read(&Disk::new(&mut disk, 64 * MIB), sector).unwrap()
    }

    #[test]
    fn what_is_made_reads_back() {
        let linux = || PartitionKind::Guid("0FC63DAF-8483-4772-8E79-3D69D8477DE4".into());
        let mut gpt = NewTable {
            kind: TableKind::Gpt,
            id: "11111111-2222-4333-8444-555555555555".into(),
            sector: 4096,
            partitions: vec![partition(1, 1..9, linux()), partition(4, 20..30, linux())],
        };
        gpt.partitions[1].partition.attributes = 1 << 60;
        gpt.partitions[1].partition.name = "Größe".into();
        let table = read_back(&gpt);
        let wanted: Vec<Partition> = gpt.partitions.into_iter().map(|p| p.partition).collect();
        assert_eq!((table.id, table.partitions), (gpt.id, wanted));
        assert_eq!(table.note, "");
        let mbr = NewTable {
            kind: TableKind::Mbr,
            id: "0x1a2b3c4d".into(),
            sector: 512,
            partitions: vec![
                partition(2, 4..40, PartitionKind::Code(0x0f)),
                partition(5, 5..9, PartitionKind::Code(0x83)),
                partition(6, 20..30, PartitionKind::Code(0x82)),
            ],
        };
        let table = read_back(&mbr);
        let found = table.partitions.iter();
        let found: Vec<_> = found.map(|p| (p.number, p.start, p.id.as_str())).collect();
        assert_eq!(
            found,
            [(5, 5 * MIB, "1a2b3c4d-05"), (6, 20 * MIB, "1a2b3c4d-06")]
        );
    }

    #[test]
    fn what_a_table_cannot_hold_is_refused() {
        let table = |kind, partition| NewTable {
            kind,
            id: match kind {
                TableKind::Gpt => "11111111-2222-4333-8444-555555555555".into(),
                _ => "0x1a2b3c4d".into(),
            },
            sector: 512,
            partitions: vec![partition],
        };
        let why = |table: NewTable| table.writes(64 * MIB).unwrap_err().to_string();
        let code = || PartitionKind::Code(0x83);
        assert_eq!(
            why(table(TableKind::Gpt, partition(1, 1..2, code()))),
            "partition 1 (1.0 MiB at 1048576) has no type GUID"
        );
        let far = partition(1, 1..(1 << 22), code());
        let reason = "an MBR counts sectors in 32 bits";
        assert_eq!(why(table(TableKind::Mbr, far)), reason);
        let mut ninth = partition(4, 1..2, code());
        ninth.partition.number = 9;
        let reason = "an MBR has no place for partition 9";
        assert_eq!(why(table(TableKind::Mbr, ninth)), reason);
    }
}
