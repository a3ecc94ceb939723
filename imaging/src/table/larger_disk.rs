//! Moving the backup GPT to the end of a larger disk, where it belongs (UEFI 2.10 5.3.1). Entries are moved as they are,
//! byte for byte, so that numbers, gaps and vendors' own fields stay.

use super::gpt::{WITHOUT_PROTECTIVE_MBR, sector_size};
use super::raw::RawGpt;
use super::writes::TableWrite;
use super::{TableError, TableKind, first_sector, mbr::BootRecord};
use crate::source::{ReadAt, Window};

/// What to write so that a GPT ends with its disk. Each step leaves a table that firmware and Linux take, if it
/// is flushed before the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedGpt {
    /// First: entries and header at the end of the disk.
    pub backup: Vec<TableWrite>,
    /// Then: entries, header and protective MBR at the beginning.
    pub primary: Vec<TableWrite>,
    /// At last: zeros over the header that used to be the backup, so that nobody finds it there.
    pub stale: Option<TableWrite>,
}

/// How the GPT of `disk`, made for a disk of `made_for` bytes, gets to this one's end. A good copy mends a
/// damaged one. `None` if there is no GPT or the disk is not larger.
///
/// # Errors
/// When the disk cannot be read; when both copies are damaged, or good and not the same; when the protective MBR guards nothing
/// or is not there.
pub fn move_backup_gpt(disk: &dyn ReadAt, made_for: u64) -> Result<Option<MovedGpt>, TableError> {
    if disk.size() <= made_for {
        return Ok(None);
    }
    let first = first_sector(disk)?;
    let record = BootRecord::parse(&first);
    if record.as_ref().is_some_and(BootRecord::guards_nothing) {
        return Err(TableError::doubt(
            TableKind::Gpt,
            "its protective MBR has a size of 0 sectors; `sgdisk -e DISK` mends that and moves the backup GPT",
        ));
    }
    let has_partitions = record.as_ref().is_some_and(BootRecord::has_partitions);
    if !record.is_some_and(|record| record.is_protective()) {
        // Nobody can say whether it counts.
        if !has_partitions && sector_size(&Window::new(disk, 0, made_for))?.is_some() {
            return Err(TableError::doubt(TableKind::Gpt, WITHOUT_PROTECTIVE_MBR));
        }
        return Ok(None);
    }
    let mut refused = None;
    for sector in [512, 4096] {
        match RawGpt::read(disk, sector, made_for) {
            Ok(Some(raw)) => return moved(&raw, disk.size(), sector.into()).map(Some),
            Ok(None) => {}
            Err(TableError::Read(error)) => return Err(error.into()),
            Err(why) => refused = Some(why),
        }
    }
    Err(refused.unwrap_or_else(|| {
        TableError::doubt(TableKind::Gpt, "there is a protective MBR, but no GPT")
    }))
}

fn moved(raw: &RawGpt, size: u64, sector: u64) -> Result<MovedGpt, TableError> {
    let pieces = raw.writes(size)?;
    let backup_at = pieces.backup.iter().map(|(at, _)| *at).min();
    let stale = raw.backup.map(|lba| lba * sector);
    let zeros = usize::try_from(sector).map_err(std::io::Error::other)?;
    Ok(MovedGpt {
        stale: stale
            .filter(|at| backup_at.is_some_and(|backup| *at < backup))
            .map(|at| (at, vec![0; zeros])),
        backup: pieces.backup,
        primary: pieces.primary,
    })
}

#[cfg(test)]
mod tests {
    use super::super::mbr::PROTECTIVE;
    use super::super::raw::{CRC, HEADER_MIN, put};
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
        let raw = RawGpt {
            sector: 512,
            first: Vec::new(),
            header,
            entries,
            entries_at: 2,
            taken: Vec::new(),
            backup: None,
        };
        for (own, other, entries_at) in [(1, 149, 2), (149, 1, 148)] {
            let header = raw.header([own, other, 147, entries_at]).unwrap();
            put(&mut disk, usize::try_from(own).unwrap() * 512, &header);
            put(
                &mut disk,
                usize::try_from(entries_at).unwrap() * 512,
                &raw.entries,
            );
        }
        disk.resize(usize::try_from(MADE_FOR).unwrap(), 0);
        disk
    }

    fn moved_on(disk: &[u8], made_for: u64) -> Result<Option<MovedGpt>, TableError> {
        let size = disk.len() as u64;
        move_backup_gpt(&Disk::new(&mut Cursor::new(disk), size), made_for)
    }

    fn write(disk: &mut [u8], moved: &MovedGpt) {
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
        let moved = moved_on(&disk, 150 * 512).unwrap().unwrap();
        write(&mut disk, &moved);
        let size = disk.len() as u64;
        let table = super::super::read(&Disk::new(&mut Cursor::new(&disk), size), 512).unwrap();
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
        assert_eq!(moved_on(&disk(), MADE_FOR).unwrap(), None);
    }

    #[test]
    fn a_protective_mbr_of_no_sectors_is_told() {
        let mut disk = disk();
        put(&mut disk, 446 + 12, &[0; 4]);
        let told = moved_on(&disk, 150 * 512).unwrap_err().to_string();
        assert!(told.contains("a size of 0 sectors"), "{told}");
        assert_eq!(moved_on(&disk, MADE_FOR).unwrap(), None);
    }

    #[test]
    fn a_gpt_without_its_protective_mbr_is_told() {
        let mut disk = disk();
        disk[..512].fill(0);
        let told = moved_on(&disk, 150 * 512).unwrap_err().to_string();
        assert!(told.contains(WITHOUT_PROTECTIVE_MBR), "{told}");
    }

    #[test]
    fn two_damaged_copies_are_refused() {
        let mut disk = disk();
        disk[512 + 60] ^= 1;
        disk[149 * 512 + 60] ^= 1;
        let err = moved_on(&disk, 150 * 512).unwrap_err();
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
            if let Ok(Some(moved)) = moved_on(&disk, 150 * 512) {
                write(&mut disk, &moved);
                let size = disk.len() as u64;
                let read = super::super::read(&Disk::new(&mut Cursor::new(&disk), size), 512);
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
            let _ = moved_on(&disk, 150 * 512);
        }
    }
}
