//! A GPT that came to a larger disk: its backup belongs at the new end (UEFI 2.10 5.3.1). Entries are moved as
//! they are, byte for byte, so that numbers, gaps and vendors' own fields stay.

use super::gpt::{Copy, Found, choose, read_copy};
use super::mbr::{BootRecord, PROTECTIVE};
use super::{TableError, TableKind, first_sector};
use crate::source::ReadAt;
use gpt::disk::LogicalBlockSize;

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
/// The least that a header has (UEFI 2.10 5.3.2).
const HEADER_MIN: u32 = 92;
/// Where the four entries of an MBR begin, and how long each is.
const MBR_ENTRIES: usize = 446;
const MBR_ENTRY: usize = 16;

/// Bytes, and the byte of the disk where they go.
pub type Piece = (u64, Vec<u8>);

/// What to write so that a GPT ends with its disk. Each step leaves a table that firmware and Linux take, if it
/// is flushed before the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// First: entries and header at the end of the disk.
    pub backup: Vec<Piece>,
    /// Then: entries, header and protective MBR at the beginning.
    pub primary: Vec<Piece>,
    /// At last: zeros over the header that used to be the backup, so that nobody finds it there.
    pub stale: Option<Piece>,
}

/// How the GPT of `disk`, made for a disk of `made_for` bytes, gets to this one's end. A good copy mends a
/// damaged one. `None` if there is no GPT or the disk is not larger.
///
/// # Errors
/// When the disk cannot be read; when both copies are damaged, or good and not the same.
pub fn follow(disk: &mut dyn ReadAt, made_for: u64) -> Result<Option<Moved>, TableError> {
    let first = first_sector(disk)?;
    let protective = BootRecord::parse(&first).is_some_and(|record| record.is_protective());
    if !protective || disk.size() <= made_for {
        return Ok(None);
    }
    let mut refused = None;
    for size in [LogicalBlockSize::Lb512, LogicalBlockSize::Lb4096] {
        let primary = read_copy(disk, size, 1)?;
        let at = primary.good().map_or_else(
            || (made_for / size.as_u64()).saturating_sub(1),
            |copy| copy.header.backup_lba,
        );
        let backup = read_copy(disk, size, at)?;
        match choose(&primary, &backup) {
            Ok((chosen, _)) => {
                let geometry = Geometry::of(disk.size(), size.as_u64(), chosen)?;
                let stale = backup.good().map(|copy| copy.header.current_lba);
                return geometry.moved(disk, &first, chosen, stale).map(Some);
            }
            Err(why) if !nothing(&primary) || !nothing(&backup) => refused = Some(why),
            Err(why) => refused = refused.or(Some(why)),
        }
    }
    refused.map_or(Ok(None), Err)
}

fn nothing(found: &Found) -> bool {
    matches!(found, Found::Nothing)
}

/// Where the parts of a GPT are on a disk; in sectors unless said.
struct Geometry {
    /// Bytes.
    sector: u64,
    last: u64,
    primary_entries: u64,
    backup_entries: u64,
    /// Bytes of the entries, without padding.
    length: usize,
}

impl Geometry {
    fn of(disk: u64, sector: u64, copy: &Copy) -> Result<Self, TableError> {
        let small = || TableError::doubt(TableKind::Gpt, "the disk has no room for its backup GPT");
        let [_, entries] = &copy.taken;
        let bytes = entries.end - entries.start;
        let sectors = bytes.div_ceil(sector);
        let last = (disk / sector).checked_sub(1).ok_or_else(small)?;
        let backup_entries = last
            .checked_sub(sectors)
            .filter(|at| *at > copy.header.last_usable)
            .ok_or_else(small)?;
        // Behind a primary header there may be a gap, as `sgdisk --move-main-table` leaves it.
        let primary_entries = match copy.header.current_lba {
            1 => copy.header.part_start,
            _ => 2,
        };
        if primary_entries + sectors > copy.header.first_usable {
            return Err(TableError::doubt(
                TableKind::Gpt,
                "there is no room for the entries before the first usable sector",
            ));
        }
        Ok(Self {
            sector,
            last,
            primary_entries,
            backup_entries,
            length: usize::try_from(bytes).map_err(std::io::Error::other)?,
        })
    }

    fn moved(
        &self,
        disk: &mut dyn ReadAt,
        first: &[u8],
        copy: &Copy,
        stale: Option<u64>,
    ) -> Result<Moved, TableError> {
        let sector = usize::try_from(self.sector).map_err(std::io::Error::other)?;
        let [header, entries] = &copy.taken;
        let header = disk.bytes_at(header.start, sector)?;
        let mut entries = disk.bytes_at(entries.start, self.length)?;
        entries.resize(self.length.next_multiple_of(sector), 0);
        let backup = self.header(&header, [self.last, 1, self.backup_entries])?;
        let primary = self.header(&header, [1, self.last, self.primary_entries])?;
        let mut first = first.to_vec();
        stretch_protective(&mut first, self.last);
        Ok(Moved {
            backup: vec![
                (self.backup_entries * self.sector, entries.clone()),
                (self.last * self.sector, backup),
            ],
            primary: vec![
                (self.primary_entries * self.sector, entries),
                (self.sector, primary),
                (0, first),
            ],
            stale: stale
                .filter(|lba| *lba < self.backup_entries)
                .map(|lba| (lba * self.sector, vec![0; sector])),
        })
    }

    /// `old` with the addresses that a copy has of itself, of the other one and of its entries.
    fn header(&self, old: &[u8], places: [u64; 3]) -> Result<Vec<u8>, TableError> {
        let [own, other, entries] = places;
        let mut bytes = old.to_vec();
        let last_usable = self.backup_entries - 1;
        for (at, value) in [(24, own), (32, other), (48, last_usable), (72, entries)] {
            put(&mut bytes, at, &value.to_le_bytes());
        }
        let length = bytes
            .get(12..16)
            .and_then(|length| length.try_into().ok())
            .map_or(0, u32::from_le_bytes)
            .max(HEADER_MIN);
        put(&mut bytes, 16, &[0; 4]);
        let covered = usize::try_from(length)
            .ok()
            .and_then(|length| bytes.get(..length))
            .ok_or_else(|| {
                let why = format!("the GPT's header says that it has {length} bytes");
                TableError::doubt(TableKind::Gpt, why)
            })?;
        let checksum = CRC.checksum(covered);
        put(&mut bytes, 16, &checksum.to_le_bytes());
        Ok(bytes)
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Disk;
    use proptest::prelude::*;
    use std::io::Cursor;

    const SECTORS: u64 = 200;
    const MADE_FOR: u64 = SECTORS * 512;

    /// A GPT of four entries on a disk of 200 sectors, in the first 150 of which it was made.
    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 150 * 512];
        put(&mut disk, 446 + 4, &[PROTECTIVE]);
        put(&mut disk, 446 + 8, &1u32.to_le_bytes());
        put(&mut disk, 446 + 12, &149u32.to_le_bytes());
        put(&mut disk, 510, &[0x55, 0xaa]);
        let mut entries = vec![0; 512];
        put(&mut entries, 0, &[1; 16]);
        put(&mut entries, 16, &[2; 16]);
        put(&mut entries, 32, &40u64.to_le_bytes());
        put(&mut entries, 40, &50u64.to_le_bytes());
        let mut header = vec![0; 512];
        put(&mut header, 0, b"EFI PART");
        put(&mut header, 8, &0x0001_0000u32.to_le_bytes());
        put(&mut header, 12, &HEADER_MIN.to_le_bytes());
        put(&mut header, 40, &3u64.to_le_bytes());
        put(&mut header, 56, &[3; 16]);
        put(&mut header, 80, &4u32.to_le_bytes());
        put(&mut header, 84, &128u32.to_le_bytes());
        put(&mut header, 88, &CRC.checksum(&entries).to_le_bytes());
        let geometry = Geometry {
            sector: 512,
            last: 149,
            primary_entries: 2,
            backup_entries: 148,
            length: 512,
        };
        put(
            &mut disk,
            512,
            &geometry.header(&header, [1, 149, 2]).unwrap(),
        );
        put(&mut disk, 1024, &entries);
        put(&mut disk, 148 * 512, &entries);
        put(
            &mut disk,
            149 * 512,
            &geometry.header(&header, [149, 1, 148]).unwrap(),
        );
        disk.resize(usize::try_from(MADE_FOR).unwrap(), 0);
        disk
    }

    fn follow_on(disk: &[u8], made_for: u64) -> Result<Option<Moved>, TableError> {
        let size = disk.len() as u64;
        follow(&mut Disk::new(&mut Cursor::new(disk), size), made_for)
    }

    fn write(disk: &mut [u8], moved: &Moved) {
        let pieces = moved
            .backup
            .iter()
            .chain(&moved.primary)
            .chain(&moved.stale);
        for (at, bytes) in pieces {
            put(disk, usize::try_from(*at).unwrap(), bytes);
        }
    }

    #[test]
    fn both_copies_are_good_and_know_the_new_end() {
        let mut disk = disk();
        let moved = follow_on(&disk, 150 * 512).unwrap().unwrap();
        write(&mut disk, &moved);
        let size = disk.len() as u64;
        let table = super::super::read(&mut Disk::new(&mut Cursor::new(&disk), size), 512).unwrap();
        assert_eq!(table.note, "");
        let copies = table.gpt.unwrap();
        let (primary, backup) = (copies.primary.unwrap(), copies.backup.unwrap());
        assert_eq!((primary.backup_lba, primary.last_usable), (199, 197));
        assert_eq!((backup.current_lba, backup.part_start), (199, 198));
        assert_eq!(table.partitions[0].range(), 40 * 512..51 * 512);
        assert_eq!(disk[446 + 12..446 + 16], 199u32.to_le_bytes());
        assert_eq!(disk[149 * 512..150 * 512], [0; 512]);
    }

    #[test]
    fn a_disk_that_is_not_larger_is_left_alone() {
        assert_eq!(follow_on(&disk(), MADE_FOR).unwrap(), None);
    }

    #[test]
    fn two_damaged_copies_are_refused() {
        let mut disk = disk();
        disk[512 + 60] ^= 1;
        disk[149 * 512 + 60] ^= 1;
        let err = follow_on(&disk, 150 * 512).unwrap_err();
        assert!(
            err.to_string()
                .starts_with("both copies of the GPT are damaged"),
            "{err}"
        );
    }

    proptest! {
        #[test]
        fn damage_never_panics_and_what_comes_out_can_be_read(
            at in 0usize..150 * 512,
            damage in proptest::collection::vec(any::<u8>(), 1..64),
        ) {
            let mut disk = disk();
            put(&mut disk, at, &damage);
            if let Ok(Some(moved)) = follow_on(&disk, 150 * 512) {
                write(&mut disk, &moved);
                let size = disk.len() as u64;
                let read = super::super::read(&mut Disk::new(&mut Cursor::new(&disk), size), 512);
                prop_assert_eq!(read.unwrap().partitions.len(), 1);
            }
        }

        #[test]
        fn any_header_with_a_right_checksum_is_survived(
            fields in proptest::collection::vec((24usize..88, any::<u8>()), 1..8),
        ) {
            let mut disk = disk();
            for (at, value) in fields {
                disk[512 + at] = value;
            }
            put(&mut disk, 512 + 16, &[0; 4]);
            let checksum = CRC.checksum(&disk[512..512 + 92]);
            put(&mut disk, 512 + 16, &checksum.to_le_bytes());
            let _ = follow_on(&disk, 150 * 512);
        }
    }
}
