//! GPT and MBR as one model of a partition table, read as tools and installers really write them.
//!
//! A table that cannot be taken at its word (overlapping partitions, a partition behind the end of the
//! disk, two GPT copies that differ) is refused with a reason; nothing is guessed.

mod chain;
mod create;
mod edit;
mod gpt;
mod ids;
mod kinds;
mod larger_disk;
mod last_partition;
mod mbr;
mod raw;
mod sectors;
mod selector;
mod writes;

use crate::extents::Extents;
use crate::source::ReadAt;
use serde::{Deserialize, Serialize};
use std::io;
use std::ops::Range;

pub use create::{NEW_GPT_ENTRIES, NewPartition, NewTable, signature};
pub use edit::{ParsedTable, Raw};
pub use gpt::GptCopies;
pub use ids::{NewId, Random, Renewed, guid_text, renew, renew_by_primary};
pub use kinds::PartitionKind;
pub use larger_disk::{MovedGpt, move_backup_gpt};
pub use last_partition::{LastPartition, MovedSwap, Resized, growth, last_partition};
pub use selector::{PartitionSelector, SelectorError};
pub(crate) use writes::lay_over;
pub use writes::{TableWrite, TableWrites};

/// Boot loaders keep their core image between table and first partition. A gap larger than this is
/// free space in front of the partitions, not a loader's.
const BOOT_GAP_MAX: u64 = 64 << 20;
/// Always reserved at both ends of a disk: tables, boot loaders, RAID metadata.
pub(crate) const EDGE: u64 = 1 << 20;

/// Which scheme a table follows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableKind {
    Gpt,
    Mbr,
    #[default]
    None,
}

impl TableKind {
    /// `gpt`, `mbr` or `none`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt => "gpt",
            Self::Mbr => "mbr",
            Self::None => "none",
        }
    }
}

/// A partition table that holds together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    pub kind: TableKind,
    /// Disk GUID, or MBR signature as `0x` and eight hex digits.
    pub id: String,
    /// Ascending by number; extended partitions are not among them, logical ones are.
    pub partitions: Vec<Partition>,
    /// Bytes outside partitions that tables and boot loaders need.
    pub reserved: Extents,
    /// What is odd but can be lived with: a damaged copy. Empty if all is well.
    pub note: String,
    /// Which copies of a GPT are good, and where they are.
    pub gpt: Option<GptCopies>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// As the kernel numbers it: MBR logical partitions from 5 on.
    pub number: u32,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    pub kind: PartitionKind,
    /// The name in a GPT.
    pub name: String,
    /// As in `PARTUUID=`.
    pub id: String,
    /// GPT attribute bits; 0 in an MBR.
    pub attributes: u64,
}

impl Partition {
    /// The partition's bytes on the disk.
    pub fn range(&self) -> Range<u64> {
        self.start..self.start.saturating_add(self.size)
    }
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("the partition table could not be read: {0}")]
    Read(#[from] io::Error),
    #[error("{why}")]
    Doubtful { kind: TableKind, why: String },
}

impl TableError {
    fn doubt(kind: TableKind, why: impl Into<String>) -> Self {
        let why = why.into();
        Self::Doubtful { kind, why }
    }
}

/// Reads the table of a disk whose logical sectors are `sector_size` (512 or 4096) bytes.
pub fn read(disk: &dyn ReadAt, sector_size: u32) -> Result<Table, TableError> {
    let mut table = at_its_word(disk, sector_size)?;
    check_layout(&table, disk.size())?;
    if table.kind != TableKind::None {
        reserve_edges(&mut table, disk.size());
    }
    Ok(table)
}

/// What the table of `disk` names, wherever it ends; nothing where there is no table. Where the logical partitions of an
/// MBR cannot be read, as on a disk that ends before them, it is the MBR's own entries, the extended ones too: no table to
/// write by.
///
/// # Errors
/// When it cannot be read.
pub fn named(disk: &dyn ReadAt, sector_size: u32) -> Result<Vec<Partition>, TableError> {
    let record = mbr::BootRecord::parse(&first_sector(disk)?);
    match (at_its_word(disk, sector_size), record) {
        (
            Err(TableError::Doubtful {
                kind: TableKind::Mbr,
                ..
            }),
            Some(record),
        ) => mbr::own_entries(disk, sector_size, &record),
        (read, _) => Ok(read?.partitions),
    }
}

fn at_its_word(disk: &dyn ReadAt, sector_size: u32) -> Result<Table, TableError> {
    let first = first_sector(disk)?;
    let boot_record = mbr::BootRecord::parse(&first);
    Ok(match gpt::read(disk, sector_size, boot_record.as_ref())? {
        Some(table) => table,
        None => match boot_record {
            Some(record) => mbr::read(disk, sector_size, &record)?,
            None => Table::default(),
        },
    })
}

/// The sector size for which a disk that begins with `head` has a GPT; `None` if it has none.
pub(crate) fn gpt_sector_size(head: &[u8]) -> Option<u32> {
    [512, 4096].into_iter().find(|sector| {
        let header = usize::try_from(*sector).ok().and_then(|at| head.get(at..));
        header.is_some_and(|header| header.starts_with(gpt::SIGNATURE))
    })
}

/// The sector size for which the disk in a file has a GPT, one that is whole or else one that was; `None` if it has
/// none, as most disks with an MBR: what their sectors are cannot be told.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn sector_size_of(disk: &dyn ReadAt) -> Result<Option<u32>, TableError> {
    if let Some(proven) = gpt::sector_size(disk)? {
        return Ok(Some(proven));
    }
    let length = usize::try_from(disk.size().min(2 * 4096)).unwrap_or(0);
    Ok(gpt_sector_size(&disk.bytes_at(0, length)?))
}

/// The first 512 bytes, which hold an MBR whatever the sector size; fewer on a smaller disk.
fn first_sector(disk: &dyn ReadAt) -> io::Result<Vec<u8>> {
    disk.bytes_at(0, usize::try_from(disk.size().min(512)).unwrap_or(512))
}

fn check_layout(table: &Table, size: u64) -> Result<(), TableError> {
    let mut by_start: Vec<&Partition> = table.partitions.iter().collect();
    by_start.sort_by_key(|partition| partition.start);
    for partition in &by_start {
        if partition.range().end > size {
            return Err(TableError::doubt(
                table.kind,
                format!(
                    "partition {} ends at byte {}, behind the end of the disk at {size}",
                    partition.number,
                    partition.range().end
                ),
            ));
        }
    }
    for pair in by_start.windows(2) {
        if let [before, after] = pair
            && after.start < before.range().end
        {
            return Err(TableError::doubt(
                table.kind,
                format!("partitions {} and {} overlap", before.number, after.number),
            ));
        }
    }
    Ok(())
}

fn reserve_edges(table: &mut Table, size: u64) {
    let first_start = table.partitions.iter().map(|p| p.start).min();
    let gap = first_start.map_or(EDGE, |start| start.clamp(EDGE, BOOT_GAP_MAX));
    table.reserved.insert(0..gap.min(size));
    table.reserved.insert(size.saturating_sub(EDGE)..size);
    table.reserved = table.reserved.clipped(0..size);
}
