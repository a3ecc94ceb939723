//! What is to be written for a table, and the table that comes of it.

use super::{Partition, Table, TableError, read};
use crate::source::ReadAt;
use std::io;
use std::ops::Range;

/// Bytes, and the byte of the disk where they go.
pub type TableWrite = (u64, Vec<u8>);

/// What to write for a table. Each step leaves a table that firmware and Linux take, if it is flushed before
/// the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableWrites {
    /// First: entries and header at the end of the disk. Empty for an MBR.
    pub backup: Vec<TableWrite>,
    /// Then: entries, header and boot record at the beginning.
    pub primary: Vec<TableWrite>,
}

/// The bytes of the disk that a piece takes.
pub(super) fn place((at, bytes): &TableWrite) -> Range<u64> {
    *at..*at + bytes.len() as u64
}

impl TableWrites {
    /// The bytes of the disk that they take.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.backup.iter().chain(&self.primary).map(place)
    }

    /// The table that a disk of `size` bytes gets with them; `under` is what it has else, zeros where that ends.
    ///
    /// # Errors
    /// When what they make is no table that holds together, or one of them lies in a partition of it.
    pub fn table(&self, under: &dyn ReadAt, size: u64, sector: u32) -> Result<Table, TableError> {
        let pieces = self;
        let table = read(
            &Over {
                pieces,
                under,
                size,
            },
            sector,
        )?;
        let within = |partition: &&Partition| {
            let own = partition.range();
            self.ranges()
                .any(|range| range.start < own.end && own.start < range.end)
        };
        match table.partitions.iter().find(within) {
            None => Ok(table),
            Some(partition) => {
                let why = format!("a part of it would lie in partition {partition}");
                Err(TableError::doubt(table.kind, why))
            }
        }
    }
}

/// A disk with pieces over it.
struct Over<'a> {
    pieces: &'a TableWrites,
    under: &'a dyn ReadAt,
    size: u64,
}

impl ReadAt for Over<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        let length = buffer.len() as u64;
        let there = self.under.size().saturating_sub(at).min(length);
        let (below, behind) =
            buffer.split_at_mut(usize::try_from(there).map_err(io::Error::other)?);
        self.under.read_exact_at(below, at)?;
        behind.fill(0);
        lay_over(
            buffer,
            at,
            self.pieces.backup.iter().chain(&self.pieces.primary),
        )
    }
}

/// Puts what `pieces` have over the bytes of a disk from `at` on, the later ones over those before.
pub(crate) fn lay_over<'a>(
    buffer: &mut [u8],
    at: u64,
    pieces: impl Iterator<Item = &'a TableWrite>,
) -> io::Result<()> {
    let length = buffer.len() as u64;
    for (from, bytes) in pieces {
        let end = (from + bytes.len() as u64).min(at.saturating_add(length));
        let start = (*from).max(at);
        if start >= end {
            continue;
        }
        let place = |byte: u64, base: u64| usize::try_from(byte - base).map_err(io::Error::other);
        let into = place(start, at)?..place(end, at)?;
        let of = place(start, *from)?..place(end, *from)?;
        buffer[into].copy_from_slice(&bytes[of]);
    }
    Ok(())
}
