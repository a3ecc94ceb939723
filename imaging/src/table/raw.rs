//! A GPT as its bytes, to be changed and written. Entries stay as they are, byte for byte, so that numbers, gaps and
//! vendors' own fields survive (UEFI 2.10 5.3).

use super::gpt::{Copy, Found, choose, read_copy};
use super::mbr::{BootRecord, PROTECTIVE};
use super::writes::{TableWrites, place};
use super::{TableError, TableKind, first_sector};
use crate::source::ReadAt;
use gpt::disk::LogicalBlockSize;
use std::io;
use std::ops::Range;

pub(super) const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
/// The least that a header has (UEFI 2.10 5.3.2).
pub(super) const HEADER_MIN: u32 = 92;
/// Bytes of an entry, as every tool writes them.
const ENTRY: usize = 128;
/// Where the four entries of an MBR begin, and how long each is.
pub(super) const MBR_ENTRIES: usize = 446;
pub(super) const MBR_ENTRY: usize = 16;
/// The boot code in front of the disk signature.
pub(super) const MBR_CODE: usize = 440;

/// A GPT, one good copy of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawGpt {
    /// Bytes.
    pub(super) sector: u64,
    /// The boot record in front of it.
    pub(super) first: Vec<u8>,
    /// A sector.
    pub(super) header: Vec<u8>,
    pub(super) entries: Vec<u8>,
    /// Where the primary entries are, in sectors.
    pub(super) entries_at: u64,
    /// The bytes of the disk that both copies took, a damaged one too.
    pub(super) taken: Vec<Range<u64>>,
    /// Where the backup header was, in sectors, if it was good.
    pub(super) backup: Option<u64>,
}

impl RawGpt {
    /// Reads the GPT of `disk`, made for a disk of `made_for` bytes; a good copy mends a damaged one. `None` if
    /// there is no sign of one.
    ///
    /// # Errors
    /// When the disk cannot be read; when both copies are damaged, or good and not the same.
    pub fn read(
        disk: &dyn ReadAt,
        sector_size: u32,
        made_for: u64,
    ) -> Result<Option<Self>, TableError> {
        let first = first_sector(disk)?;
        if !BootRecord::parse(&first).is_some_and(|record| record.is_protective()) {
            return Ok(None);
        }
        let size = LogicalBlockSize::try_from(u64::from(sector_size))?;
        let primary = read_copy(disk, size, 1)?;
        let at = primary.good().map_or_else(
            || (made_for / size.as_u64()).saturating_sub(1),
            |copy| copy.header.backup_lba,
        );
        let backup = read_copy(disk, size, at)?;
        if matches!((&primary, &backup), (Found::Nothing, Found::Nothing)) {
            return Ok(None);
        }
        let (chosen, _) = choose(&primary, &backup)?;
        let copies = [&primary, &backup].into_iter().filter_map(Found::good);
        let mut raw = Self::of(disk, first, size.as_u64(), chosen)?;
        raw.taken = copies.flat_map(|copy| copy.taken.clone()).collect();
        // A damaged copy is where a good one would be. In front, where none is to be seen, a boot loader may be.
        let size = at.saturating_add(1).saturating_mul(raw.sector);
        if let Ok(pieces) = raw.writes(size) {
            if backup.good().is_none() {
                raw.taken.extend(pieces.backup.iter().map(place));
            }
            if primary.is_damaged() {
                raw.taken.extend(pieces.primary.iter().map(place));
            }
        }
        raw.backup = backup.good().map(|copy| copy.header.current_lba);
        Ok(Some(raw))
    }

    /// The primary copy in the first sectors of a disk, as it was just made.
    pub(super) fn of_front(front: &[u8], sector: u64) -> Result<Self, TableError> {
        let size = usize::try_from(sector).map_err(io::Error::other)?;
        let part = |range: Range<usize>| front.get(range).unwrap_or_default().to_vec();
        Ok(Self {
            sector,
            first: part(0..512),
            header: part(size..2 * size),
            entries: part(2 * size..front.len()),
            entries_at: 2,
            taken: Vec::new(),
            backup: None,
        })
    }

    /// The one that `copy` is of.
    pub(super) fn of(
        disk: &dyn ReadAt,
        first: Vec<u8>,
        sector: u64,
        copy: &Copy,
    ) -> Result<Self, TableError> {
        let [header, entries] = &copy.taken;
        let bytes = |length: u64| usize::try_from(length).map_err(io::Error::other);
        Ok(Self {
            sector,
            first,
            header: disk.bytes_at(header.start, bytes(sector)?)?,
            entries: disk.bytes_at(entries.start, bytes(entries.end - entries.start)?)?,
            // Behind a primary header there may be a gap, as `sgdisk --move-main-table` leaves it.
            entries_at: match copy.header.current_lba {
                1 => copy.header.part_start,
                _ => 2,
            },
            taken: Vec::new(),
            backup: None,
        })
    }

    /// The bytes of the disk that its copies took.
    pub fn taken(&self) -> &[Range<u64>] {
        &self.taken
    }

    /// Whether its boot record names partitions, too.
    pub(super) fn is_hybrid(&self) -> bool {
        BootRecord::parse(&self.first).is_none_or(|record| record.entries().count() != 1)
    }

    /// The byte behind the last usable one on a disk of `disk` bytes.
    pub(super) fn usable_end(&self, disk: u64) -> Result<u64, TableError> {
        Ok(self.backup_place(disk)? * self.sector)
    }

    /// Gives an entry other bytes of the disk. `None` if there is no such entry.
    pub(super) fn set_place(&mut self, number: u32, place: &Range<u64>) -> Option<()> {
        let at = usize::try_from(number.checked_sub(1)?).ok()?;
        let entry = self.entries.chunks_exact_mut(ENTRY).nth(at)?;
        let last = (place.end / self.sector).checked_sub(1)?;
        put(entry, 32, &(place.start / self.sector).to_le_bytes());
        put(entry, 40, &last.to_le_bytes());
        Some(())
    }

    /// The bytes of the entry of a partition; `None` if the table has no such number or it is not in use.
    pub fn entry(&self, number: u32) -> Option<&[u8]> {
        let at = usize::try_from(number.checked_sub(1)?).ok()?;
        let entry = self.entries.chunks_exact(ENTRY).nth(at)?;
        is_used(entry).then_some(entry)
    }

    /// Empties every entry but those of `numbers`, and the boot record of all but the guard: what is left boots
    /// nothing.
    pub fn keep_only(&mut self, numbers: &[u32]) {
        for (number, entry) in (1..).zip(self.entries.chunks_exact_mut(ENTRY)) {
            if !numbers.contains(&number) {
                entry.fill(0);
            }
        }
        let record = self.first.get_mut(..MBR_ENTRIES + 4 * MBR_ENTRY);
        if let Some(record) = record {
            record.fill(0);
            // One entry over the whole disk; `stretch_protective` gives it its end (UEFI 2.10 5.2.3).
            record[MBR_ENTRIES..MBR_ENTRIES + 12]
                .copy_from_slice(&[0, 0, 2, 0, PROTECTIVE, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
        }
    }

    /// Puts an entry in, byte for byte. What was called usable grows to hold it where there is room.
    ///
    /// # Errors
    /// When the table has no place of that number, or its entries are where the partition begins.
    pub fn adopt(&mut self, number: u32, entry: &[u8]) -> Result<(), TableError> {
        let count = self.entries.len() / ENTRY;
        let at = usize::try_from(number)
            .ok()
            .and_then(|number| number.checked_sub(1));
        let place = at.and_then(|at| self.entries.chunks_exact_mut(ENTRY).nth(at));
        let Some(place) = place.filter(|place| place.len() == entry.len()) else {
            let why = format!("it has room for {count} partitions, none of them {number}");
            return Err(TableError::doubt(TableKind::Gpt, why));
        };
        place.copy_from_slice(entry);
        let begins = word(entry, 32);
        if begins < word(&self.header, 40) {
            if begins < self.entries_end() {
                let why = format!("its entries are where partition {number} begins");
                return Err(TableError::doubt(TableKind::Gpt, why));
            }
            put(&mut self.header, 40, &begins.to_le_bytes());
        }
        Ok(())
    }

    /// The least that a disk has for this table, in bytes.
    pub fn minimum_disk(&self) -> u64 {
        let last = self.last_taken().unwrap_or(0).max(self.entries_end());
        (last + 1 + self.entry_sectors() + 1) * self.sector
    }

    fn last_taken(&self) -> Option<u64> {
        let used = self
            .entries
            .chunks_exact(ENTRY)
            .filter(|entry| is_used(entry));
        used.map(|entry| word(entry, 40)).max()
    }

    fn entry_sectors(&self) -> u64 {
        (self.entries.len() as u64).div_ceil(self.sector)
    }

    pub(super) fn entries_end(&self) -> u64 {
        self.entries_at + self.entry_sectors()
    }

    /// Where the backup entries begin on a disk of `disk` bytes, in sectors.
    fn backup_entries(&self, disk: u64) -> Result<u64, TableError> {
        let at = self.backup_place(disk)?;
        match self.last_taken() {
            Some(last) if last >= at => Err(no_room()),
            _ => Ok(at),
        }
    }

    /// The same, whatever partitions are there.
    fn backup_place(&self, disk: u64) -> Result<u64, TableError> {
        let sectors = disk / self.sector;
        sectors
            .checked_sub(1 + self.entry_sectors())
            .filter(|at| *at > self.entries_end())
            .ok_or_else(no_room)
    }

    /// The table for a disk of `disk` bytes.
    ///
    /// # Errors
    /// When there is no room for one of the copies.
    pub fn writes(&self, disk: u64) -> Result<TableWrites, TableError> {
        let backup_at = self.backup_entries(disk)?;
        let last = disk / self.sector - 1;
        if self.entries_end() > word(&self.header, 40) {
            return Err(TableError::doubt(
                TableKind::Gpt,
                "there is no room for the entries before the first usable sector",
            ));
        }
        let mut entries = self.entries.clone();
        let sector = usize::try_from(self.sector).map_err(io::Error::other)?;
        entries.resize(entries.len().next_multiple_of(sector), 0);
        let mut first = self.first.clone();
        stretch_protective(&mut first, last);
        let header = |own, other, entries| self.header([own, other, backup_at - 1, entries]);
        Ok(TableWrites {
            backup: vec![
                (backup_at * self.sector, entries.clone()),
                (last * self.sector, header(last, 1, backup_at)?),
            ],
            primary: vec![
                (self.entries_at * self.sector, entries),
                (self.sector, header(1, last, self.entries_at)?),
                (0, first),
            ],
        })
    }

    /// The header with the addresses that a copy has of itself, of the other one, of the last usable sector and of
    /// its entries.
    pub(super) fn header(&self, places: [u64; 4]) -> Result<Vec<u8>, TableError> {
        let mut bytes = self.header.clone();
        for (at, value) in [24, 32, 48, 72].into_iter().zip(places) {
            put(&mut bytes, at, &value.to_le_bytes());
        }
        put(&mut bytes, 88, &CRC.checksum(&self.entries).to_le_bytes());
        seal(&mut bytes)?;
        Ok(bytes)
    }
}

fn no_room() -> TableError {
    TableError::doubt(TableKind::Gpt, "the disk has no room for its backup GPT")
}

/// Gives a header its checksum.
pub(super) fn seal(header: &mut [u8]) -> Result<(), TableError> {
    let length = header
        .get(12..16)
        .and_then(|length| length.try_into().ok())
        .map_or(0, u32::from_le_bytes)
        .max(HEADER_MIN);
    put(header, 16, &[0; 4]);
    let covered = usize::try_from(length)
        .ok()
        .and_then(|length| header.get(..length))
        .ok_or_else(|| {
            let why = format!("the GPT's header says that it has {length} bytes");
            TableError::doubt(TableKind::Gpt, why)
        })?;
    let checksum = CRC.checksum(covered);
    put(header, 16, &checksum.to_le_bytes());
    Ok(())
}

/// An entry without a type is free (UEFI 2.10 5.3.3).
fn is_used(entry: &[u8]) -> bool {
    entry.iter().take(16).any(|byte| *byte != 0)
}

/// The little-endian 64 bits at `at`; 0 where there are none.
pub(super) fn word(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|word| word.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// Lets the protective MBR reach the end of the disk (UEFI 2.10 5.2.3). The one of a hybrid MBR, which guards the
/// primary GPT alone, stays as it is.
fn stretch_protective(record: &mut [u8], last: u64) {
    let Some(entries) = record.get_mut(MBR_ENTRIES..MBR_ENTRIES + 4 * MBR_ENTRY) else {
        return;
    };
    let used = entries.chunks(MBR_ENTRY).filter(|entry| entry[4] != 0);
    if used.count() != 1 {
        return;
    }
    let guard = entries
        .chunks_mut(MBR_ENTRY)
        .find(|entry| entry[4] == PROTECTIVE);
    if let Some(guard) = guard {
        let sectors = u32::try_from(last).unwrap_or(u32::MAX);
        guard[12..].copy_from_slice(&sectors.to_le_bytes());
    }
}
