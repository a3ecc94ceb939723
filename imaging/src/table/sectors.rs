//! The same table for a disk with other logical sectors: partitions keep their bytes, and what counts sectors counts
//! anew.

use super::chain::{Chain, entry};
use super::edit::{ParsedTable, Raw, RawMbr};
use super::mbr::BootRecord;
use super::raw::{RawGpt, put, word};
use super::{TableError, TableKind};
use mbrman::MBRPartitionEntry;
use std::io;
use std::ops::Range;

impl ParsedTable {
    /// The table for a disk whose logical sectors are `sector_size` bytes.
    ///
    /// # Errors
    /// When a partition or a boot record does not lie on such sectors, an MBR cannot count so many, or an MBR beside
    /// a GPT names partitions as well.
    pub fn on_sectors(mut self, sector_size: u32) -> Result<Self, TableError> {
        let sector = u64::from(sector_size);
        if self.raw.sector() == sector {
            return Ok(self);
        }
        let kind = self.table.kind;
        for partition in &self.table.partitions {
            let what = || format!("partition {partition}");
            check_whole(kind, what, &partition.range(), sector)?;
        }
        match &mut self.raw {
            Raw::Mbr(mbr) => mbr.recount(sector)?,
            Raw::Gpt(gpt) => {
                gpt.recount(sector)?;
                let entries_end = gpt.entries_end() * sector;
                for partition in &self.table.partitions {
                    if partition.start < entries_end {
                        let why = format!(
                            "it would end at byte {entries_end}, and partition {partition} begins before that"
                        );
                        return Err(TableError::doubt(kind, why));
                    }
                    self.raw.set_place(partition.number, &partition.range())?;
                }
            }
        }
        self.table.gpt = None;
        Ok(self)
    }
}

impl Raw {
    fn sector(&self) -> u64 {
        match self {
            Self::Gpt(gpt) => gpt.sector,
            Self::Mbr(mbr) => mbr.sector,
        }
    }
}

impl RawGpt {
    /// Has all but the places of partitions count sectors of `sector` bytes. Entries come right behind the header.
    fn recount(&mut self, sector: u64) -> Result<(), TableError> {
        if self.is_hybrid() {
            let why = "its hybrid MBR names partitions by their sectors";
            return Err(TableError::doubt(TableKind::Gpt, why));
        }
        let usable = word(&self.header, 40);
        let is_behind_entries = usable == self.entries_end();
        let usable = usable.saturating_mul(self.sector).div_ceil(sector);
        self.sector = sector;
        self.entries_at = 2;
        self.backup = None;
        let least = self.entries_end();
        let usable = if is_behind_entries {
            least
        } else {
            usable.max(least)
        };
        put(&mut self.header, 40, &usable.to_le_bytes());
        let length = usize::try_from(sector).map_err(io::Error::other)?;
        self.header.resize(length, 0);
        Ok(())
    }
}

impl RawMbr {
    fn recount(&mut self, sector: u64) -> Result<(), TableError> {
        let old = self.sector;
        self.sector = sector;
        let record = BootRecord::parse(&self.first);
        for (number, entry) in record.iter().flat_map(BootRecord::numbered) {
            let place = bytes(entry, 0, old);
            check_whole(TableKind::Mbr, || format!("entry {number}"), &place, sector)?;
            self.set_place(number, &place)?;
        }
        self.changed = true;
        let mut chains = self.chains.iter_mut();
        chains.try_for_each(|chain| chain.recount(sector))
    }
}

impl Chain {
    fn recount(&mut self, sector: u64) -> Result<(), TableError> {
        let (old, start) = (self.sector, self.range.start);
        self.sector = sector;
        for record in &mut self.records {
            let at = record.at;
            let what = || "the boot record of a logical partition".into();
            check_whole(TableKind::Mbr, what, &(at..at + sector), sector)?;
            for slot in 1..=4 {
                let own = record.header.get_mut(slot);
                let Some(own) = own.filter(|own| own.is_used() && own.sectors > 0) else {
                    continue;
                };
                let base = if own.is_extended() { start } else { at };
                let mut place = bytes(own, base, old);
                // What a link says of the next one's size is read by nobody.
                place.end = place.end.next_multiple_of(sector);
                let new = entry(own.sys, place, base, sector)?;
                *own = MBRPartitionEntry {
                    boot: own.boot,
                    ..new
                };
            }
        }
        Ok(())
    }
}

/// The bytes of an entry that counts `sector`s from byte `base` on.
fn bytes(entry: &MBRPartitionEntry, base: u64, sector: u64) -> Range<u64> {
    let start = base + u64::from(entry.starting_lba) * sector;
    start..start + u64::from(entry.sectors) * sector
}

fn check_whole(
    kind: TableKind,
    what: impl Fn() -> String,
    place: &Range<u64>,
    sector: u64,
) -> Result<(), TableError> {
    if place.start.is_multiple_of(sector) && place.end.is_multiple_of(sector) {
        return Ok(());
    }
    let (what, Range { start, end }) = (what(), place);
    let why =
        format!("{what} has bytes {start} to {end}, which are no whole sectors of {sector} bytes");
    Err(TableError::doubt(kind, why))
}

#[cfg(test)]
mod tests {
    use super::super::create::{NewPartition, NewTable};
    use super::super::{Partition, PartitionKind, TableWrites};
    use super::*;
    use crate::source::Disk;
    use proptest::prelude::*;
    use std::io::Cursor;

    const BLOCK: u64 = 4096;
    const DISK: u64 = 2048 * BLOCK;
    const LINUX: &str = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";

    fn new(number: u32, kind: PartitionKind, range: Range<u64>) -> NewPartition {
        NewPartition {
            partition: Partition {
                number,
                start: range.start,
                size: range.end - range.start,
                kind,
                name: format!("number {number}"),
                id: format!("11111111-2222-4333-8444-{number:012}"),
                attributes: u64::from(number) << 48,
            },
            active: number == 2,
            record: (number > 4).then(|| range.start - BLOCK),
        }
    }

    /// Partitions with so many blocks before each and in each. Of an MBR the third and those behind it are logical.
    fn table(kind: TableKind, sizes: &[(u64, u64)]) -> NewTable {
        let mut at = 8 * BLOCK;
        let mut extended = None;
        let mut partitions = Vec::new();
        for (number, (gap, size)) in (1..).zip(sizes) {
            let start = at + (gap + 1) * BLOCK;
            let range = start..start + size * BLOCK;
            partitions.push(match kind {
                TableKind::Gpt => new(2 * number, PartitionKind::Guid(LINUX.into()), range),
                _ if number > 2 => {
                    extended.get_or_insert(start - BLOCK);
                    new(number + 2, PartitionKind::Code(0x83), range)
                }
                _ => new(number, PartitionKind::Code(0x07), range),
            });
            at = start + size * BLOCK;
        }
        if let Some(start) = extended {
            partitions.push(new(4, PartitionKind::Code(0x0f), start..at));
        }
        NewTable {
            kind,
            id: match kind {
                TableKind::Gpt => "99999999-2222-4333-8444-555555555555".into(),
                _ => "0x1a2b3c4d".into(),
            },
            sector: 512,
            partitions,
        }
    }

    fn disk(pieces: &TableWrites) -> Vec<u8> {
        let mut disk = vec![0; usize::try_from(DISK).unwrap()];
        for (at, bytes) in pieces.backup.iter().chain(&pieces.primary) {
            put(&mut disk, usize::try_from(*at).unwrap(), bytes);
        }
        disk
    }

    fn parsed(disk: &[u8], sector: u32) -> ParsedTable {
        let read = ParsedTable::read(&Disk::new(&mut Cursor::new(disk), DISK), sector);
        read.unwrap().unwrap()
    }

    fn moved(disk_now: &[u8], from: u32, to: u32) -> Vec<u8> {
        let there = parsed(disk_now, from).on_sectors(to).unwrap();
        disk(&there.raw.writes(DISK).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn there_and_back_is_the_same_table(
            sizes in proptest::collection::vec((0u64..20, 1u64..20), 1..12),
            is_gpt in any::<bool>(),
        ) {
            let kind = if is_gpt { TableKind::Gpt } else { TableKind::Mbr };
            let before = disk(&table(kind, &sizes).writes(DISK).unwrap());
            let there = moved(&before, 512, 4096);
            let (small, large) = (parsed(&before, 512).table, parsed(&there, 4096).table);
            prop_assert_eq!(small.partitions.len(), sizes.len());
            prop_assert_eq!((small.id, small.partitions), (large.id, large.partitions));
            prop_assert_eq!(large.note, "");
            prop_assert!(moved(&there, 4096, 512) == before);
        }

        #[test]
        fn no_damage_makes_it_panic(
            at in 0usize..32 << 10,
            damage in proptest::collection::vec(any::<u8>(), 1..32),
            is_gpt in any::<bool>(),
        ) {
            let kind = if is_gpt { TableKind::Gpt } else { TableKind::Mbr };
            let mut bytes = disk(&table(kind, &[(0, 3), (0, 3), (0, 3), (2, 9)]).writes(DISK).unwrap());
            put(&mut bytes, at, &damage);
            let read = ParsedTable::read(&Disk::new(&mut Cursor::new(&bytes), DISK), 512);
            if let Ok(Some(parsed)) = read
                && let Ok(there) = parsed.on_sectors(4096)
            {
                let _ = there.raw.writes(DISK);
            }
        }
    }

    #[test]
    fn what_lies_between_large_sectors_is_refused() {
        let refused = |table: &NewTable| {
            let parsed = parsed(&disk(&table.writes(DISK).unwrap()), 512);
            parsed.on_sectors(4096).unwrap_err().to_string()
        };
        let mut gpt = table(TableKind::Gpt, &[(0, 3)]);
        gpt.partitions[0].partition.size -= 512;
        assert_eq!(
            refused(&gpt),
            "partition 2 (number 2, 11.5 KiB at 36864) has bytes 36864 to 48640, which are no whole sectors of 4096 \
             bytes"
        );
        let mut mbr = table(TableKind::Mbr, &[(0, 3), (0, 3), (0, 3)]);
        mbr.partitions[2].record = Some(mbr.partitions[2].partition.start - 512);
        mbr.partitions[3].partition.start += BLOCK - 512;
        mbr.partitions[3].partition.size -= BLOCK - 512;
        assert!(
            refused(&mbr).starts_with("entry 4 has bytes"),
            "{}",
            refused(&mbr)
        );
        let mut mbr = table(TableKind::Mbr, &[(0, 3), (0, 3), (0, 3), (0, 3)]);
        mbr.partitions[3].record = Some(mbr.partitions[3].partition.start - 1024);
        assert!(
            refused(&mbr).starts_with("the boot record of a logical partition has bytes"),
            "{}",
            refused(&mbr)
        );
    }

    #[test]
    fn a_partition_where_larger_entries_would_be_is_refused() {
        let mut table = table(TableKind::Gpt, &[(0, 3)]);
        table.partitions[0].partition.start = 5 * BLOCK;
        let parsed = parsed(&disk(&table.writes(DISK).unwrap()), 512);
        assert_eq!(
            parsed.on_sectors(4096).unwrap_err().to_string(),
            "it would end at byte 24576, and partition 2 (number 2, 12.0 KiB at 20480) begins before that"
        );
    }
}
