//! The chain of extended boot records in which an MBR has its logical partitions. Each record names its own partition,
//! counted from itself, and the next record, counted from the first.

use super::{Piece, TableError, TableKind};
use mbrman::{CHS, MBRHeader, MBRPartitionEntry};
use std::io::Cursor;
use std::ops::Range;

/// The type of a link to the next record.
const LINK: u8 = 0x05;

/// One boot record of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The byte of the disk where it is.
    pub(super) at: u64,
    header: MBRHeader,
    /// The bytes of its partition; empty if it has none.
    range: Range<u64>,
}

impl Record {
    pub(super) fn new(at: u64) -> Self {
        Self {
            at,
            header: MBRHeader::new([0; 4]),
            range: at..at,
        }
    }

    /// Gives it its partition.
    pub(super) fn set(&mut self, entry: MBRPartitionEntry, range: Range<u64>) {
        self.header.partition_1 = entry;
        self.range = range;
    }

    /// What to write for it.
    pub(super) fn piece(&self) -> Result<Piece, TableError> {
        Ok((self.at, bytes_of(&self.header)?))
    }
}

/// Leads from each record to the next.
pub(super) fn link(
    records: &mut [Record],
    extended: &Range<u64>,
    sector: u64,
) -> Result<(), TableError> {
    let mut next: Option<Range<u64>> = None;
    for record in records.iter_mut().rev() {
        record.header.partition_2 = match next {
            Some(next) => entry(LINK, next, extended.start, sector)?,
            None => MBRPartitionEntry::empty(),
        };
        next = Some(record.at..record.range.end);
    }
    Ok(())
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
            .ok_or_else(|| TableError::doubt(TableKind::Mbr, "an MBR counts sectors in 32 bits"))
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
        .map_err(|error| {
            TableError::doubt(TableKind::Mbr, format!("making a boot record: {error}"))
        })?;
    Ok(bytes)
}
