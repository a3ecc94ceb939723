//! New identifiers for the copy of a disk: GUIDs of a GPT and its partitions, the signature of an MBR.

use super::gpt::{Copy, Found, choose, read_copy};
use super::mbr::BootRecord;
use super::raw::{CRC, RawGpt, put, seal};
use super::writes::{TableWrite, TableWrites};
use super::{TableError, TableKind, first_sector, read};
use crate::source::ReadAt;
use gpt::disk::LogicalBlockSize;
use std::io;

/// Bytes of an entry, as [`read_copy`] insists.
const ENTRY: usize = 128;
/// Where an entry has its partition's GUID, and a header the disk's (UEFI 2.10 5.3.2 and 5.3.3).
const ENTRY_GUID: usize = 16;
const HEADER_GUID: usize = 56;
/// Where an MBR has its disk signature.
const SIGNATURE: usize = 440;

/// Fills a buffer with random bytes.
pub type Random<'a> = &'a mut dyn FnMut(&mut [u8]) -> io::Result<()>;

/// One identifier that is another now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewId {
    /// `the disk` or `partition 2`.
    pub of: String,
    /// As tools write them.
    pub from: String,
    pub to: String,
    /// The old one's bytes, as the table had them.
    pub from_bytes: Vec<u8>,
}

/// What to write for a table of the same partitions under new identifiers. The backup goes first, and is flushed
/// before the rest: either copy is whole at any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewed {
    pub backup: Vec<TableWrite>,
    pub primary: Vec<TableWrite>,
    pub ids: Vec<NewId>,
    /// What becomes of a copy of a GPT that was not good. Empty where both were.
    pub note: String,
}

/// Gives the table of `disk`, whose logical sectors are `sector_size` bytes, new identifiers; `None` if it has no
/// table. A GPT's good copy mends a damaged one.
///
/// # Errors
/// When the disk or the random bytes cannot be read, or the table is in doubt.
pub fn renew(
    disk: &dyn ReadAt,
    sector_size: u32,
    random: Random<'_>,
) -> Result<Option<Renewed>, TableError> {
    match read(disk, sector_size)?.kind {
        TableKind::None => Ok(None),
        TableKind::Mbr => renew_mbr(disk, random).map(Some),
        TableKind::Gpt => renew_gpt(disk, sector_size, Believe::Both, random).map(Some),
    }
}

/// The same of a disk of which nothing but the beginning was known before it was written: where the copies of its GPT
/// differ, the primary counts, as it does for every system. Whatever else there is on the disk refuses nothing.
///
/// # Errors
/// When the disk or the random bytes cannot be read, or the beginning has no table that holds.
pub fn renew_by_primary(
    disk: &dyn ReadAt,
    sector_size: u32,
    random: Random<'_>,
) -> Result<Option<Renewed>, TableError> {
    match BootRecord::parse(&first_sector(disk)?) {
        Some(record) if record.is_protective() => {
            renew_gpt(disk, sector_size, Believe::Primary, random).map(Some)
        }
        Some(record) if record.has_partitions() => renew_mbr(disk, random).map(Some),
        _ => Ok(None),
    }
}

fn renew_mbr(disk: &dyn ReadAt, random: Random<'_>) -> Result<Renewed, TableError> {
    let mut first = first_sector(disk)?;
    let Some(place) = first.get_mut(SIGNATURE..SIGNATURE + 4) else {
        return Err(TableError::doubt(TableKind::Mbr, "the disk is too small"));
    };
    let from_bytes = place.to_vec();
    while place == from_bytes || *place == [0; 4] {
        random(place)?;
    }
    let text = |bytes: &[u8]| {
        let bytes = bytes.try_into().unwrap_or_default();
        format!("0x{:08x}", u32::from_le_bytes(bytes))
    };
    let id = NewId {
        of: "the disk".into(),
        from: text(&from_bytes),
        to: text(place),
        from_bytes,
    };
    Ok(Renewed {
        backup: Vec::new(),
        primary: vec![(0, first)],
        ids: vec![id],
        note: String::new(),
    })
}

/// Whose word counts where a GPT has two good copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Believe {
    /// They have to agree.
    Both,
    Primary,
}

fn renew_gpt(
    disk: &dyn ReadAt,
    sector_size: u32,
    believe: Believe,
    random: Random<'_>,
) -> Result<Renewed, TableError> {
    let size = LogicalBlockSize::try_from(u64::from(sector_size))?;
    let last = (disk.size() / size.as_u64()).saturating_sub(1);
    let primary = read_copy(disk, size, 1)?;
    let at = primary.good().map_or(last, |copy| copy.header.backup_lba);
    let backup = read_copy(disk, size, at)?;
    let agreed = choose(&primary, &backup);
    let chosen = match (believe, primary.good()) {
        (Believe::Primary, Some(copy)) => copy,
        _ => agreed.as_ref().map(|(copy, _)| *copy).map_err(same_doubt)?,
    };
    let first = first_sector(disk)?;
    let mut table = RawGpt::of(disk, first, size.as_u64(), chosen)?;
    let old = table.entries.clone();
    let ids = new_guids(&mut table, random)?;
    if let (Some(primary), Some(backup), true) = (primary.good(), backup.good(), agreed.is_ok()) {
        return Ok(Renewed {
            backup: in_place(disk, backup, &table)?,
            primary: in_place(disk, primary, &table)?,
            ids,
            note: String::new(),
        });
    }
    let other = if primary.good().is_some() {
        Other {
            name: "backup",
            found: &backup,
            differs: agreed.is_err(),
            old: &old,
        }
    } else {
        Other {
            name: "primary",
            found: &primary,
            differs: false,
            old: &old,
        }
    };
    let end = (at.min(last) + 1) * size.as_u64();
    let mended = table.writes(end).and_then(|pieces| {
        other
            .check_free(disk, &pieces, sector_size)
            .map(|()| pieces)
    });
    match mended {
        Ok(TableWrites { backup, primary }) => Ok(Renewed {
            backup,
            primary,
            ids,
            note: format!(
                "the {} copy of its GPT, which was {}, is made anew",
                other.name,
                other.state()
            ),
        }),
        Err(TableError::Read(error)) => Err(error.into()),
        Err(TableError::Doubtful { why, .. }) => Ok(Renewed {
            backup: Vec::new(),
            primary: in_place(disk, chosen, &table)?,
            ids,
            note: format!(
                "the {} copy of its GPT, which was {}, stays so: {why}",
                other.name,
                other.state()
            ),
        }),
    }
}

/// An error that was looked at, again.
fn same_doubt(error: &TableError) -> TableError {
    match error {
        TableError::Doubtful { kind, why } => TableError::doubt(*kind, why.clone()),
        TableError::Read(error) => {
            TableError::Read(io::Error::new(error.kind(), error.to_string()))
        }
    }
}

/// The copy of a GPT that cannot be taken as it is.
struct Other<'a> {
    name: &'static str,
    found: &'a Found,
    /// Whether it is good, and of another table.
    differs: bool,
    /// The entries that the good copy has.
    old: &'a [u8],
}

impl Other<'_> {
    fn state(&self) -> &'static str {
        if self.differs { "another" } else { "damaged" }
    }

    /// Whether the bytes that it is to take are a copy's or nobody's, and the table with it holds.
    fn check_free(
        &self,
        disk: &dyn ReadAt,
        pieces: &TableWrites,
        sector_size: u32,
    ) -> Result<(), TableError> {
        let size = disk.size();
        pieces.table(disk, size, sector_size)?;
        if !matches!(self.found, Found::Nothing) {
            return Ok(());
        }
        let own = if self.name == "backup" {
            &pieces.backup
        } else {
            &pieces.primary
        };
        // The boot record in front of the primary copy is there, and is its own.
        for (at, bytes) in own.iter().filter(|(at, _)| *at > 0) {
            let there = disk.bytes_at(*at, bytes.len())?;
            let is_old = there.starts_with(self.old);
            if !is_old && there.iter().any(|byte| *byte != 0) {
                let why = format!("something else is at byte {at}, where it would be");
                return Err(TableError::doubt(TableKind::Gpt, why));
            }
        }
        Ok(())
    }
}

/// New GUIDs for the disk and for each partition in use.
fn new_guids(table: &mut RawGpt, random: Random<'_>) -> io::Result<Vec<NewId>> {
    let of = "the disk".into();
    let mut ids = vec![new_guid(of, &mut table.header, HEADER_GUID, random)?];
    for (number, entry) in (1..).zip(table.entries.chunks_exact_mut(ENTRY)) {
        // An entry without a type is free.
        if entry.iter().take(ENTRY_GUID).any(|byte| *byte != 0) {
            let of = format!("partition {number}");
            ids.push(new_guid(of, entry, ENTRY_GUID, random)?);
        }
    }
    Ok(ids)
}

/// A good copy with the entries and the disk's GUID of `table`, all else as it is.
fn in_place(disk: &dyn ReadAt, copy: &Copy, table: &RawGpt) -> Result<Vec<TableWrite>, TableError> {
    let [header_at, entries_at] = &copy.taken;
    let length = usize::try_from(header_at.end - header_at.start).map_err(io::Error::other)?;
    let mut header = disk.bytes_at(header_at.start, length)?;
    let guid = table.header.get(HEADER_GUID..HEADER_GUID + 16);
    put(&mut header, HEADER_GUID, guid.unwrap_or_default());
    put(&mut header, 88, &CRC.checksum(&table.entries).to_le_bytes());
    seal(&mut header)?;
    Ok(vec![
        (entries_at.start, table.entries.clone()),
        (header_at.start, header),
    ])
}

/// Puts a random GUID (RFC 9562 5.4, in the byte order of UEFI) at `at`.
fn new_guid(of: String, bytes: &mut [u8], at: usize, random: Random<'_>) -> io::Result<NewId> {
    let mut guid = [0; 16];
    random(&mut guid)?;
    guid[7] = guid[7] & 0x0f | 0x40;
    guid[8] = guid[8] & 0x3f | 0x80;
    let from_bytes = bytes.get(at..at + 16).unwrap_or_default().to_vec();
    put(bytes, at, &guid);
    Ok(NewId {
        of,
        from: guid_text(&from_bytes),
        to: guid_text(&guid),
        from_bytes,
    })
}

/// As tools write it: the first three fields are little-endian in the table.
pub fn guid_text(bytes: &[u8]) -> String {
    let bytes: [u8; 16] = bytes.try_into().unwrap_or_default();
    uuid::Uuid::from_bytes_le(bytes).hyphenated().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Disk;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn mbr(signature: u32) -> Vec<u8> {
        let mut disk = vec![0; 64 * 512];
        put(&mut disk, SIGNATURE, &signature.to_le_bytes());
        put(&mut disk, 446 + 4, &[0x83]);
        put(&mut disk, 446 + 8, &8u32.to_le_bytes());
        put(&mut disk, 446 + 12, &8u32.to_le_bytes());
        put(&mut disk, 510, &[0x55, 0xaa]);
        disk
    }

    /// Renews with random bytes that count up from 0.
    fn renewed(disk: &[u8]) -> Result<Option<Renewed>, TableError> {
        let mut next = 0;
        let mut random = |buffer: &mut [u8]| {
            buffer.fill(next);
            next += 1;
            Ok(())
        };
        let size = disk.len() as u64;
        renew(&Disk::new(&mut Cursor::new(disk), size), 512, &mut random)
    }

    #[test]
    fn a_signature_is_never_zero_nor_the_old_one() {
        let renewed = renewed(&mbr(0x0101_0101)).unwrap().unwrap();
        assert_eq!(renewed.ids[0].from, "0x01010101");
        assert_eq!(renewed.ids[0].to, "0x02020202");
        let [(0, first)] = renewed.primary.as_slice() else {
            panic!("{renewed:?}");
        };
        assert_eq!(first[SIGNATURE..SIGNATURE + 4], [2; 4]);
        assert_eq!(first[446..], mbr(0)[446..512]);
        assert_eq!(
            super::renew(
                &Disk::new(&mut Cursor::new(vec![0; 4096]), 4096),
                512,
                &mut |_| Err(io::Error::other("unasked")),
            )
            .unwrap(),
            None
        );
    }

    #[test]
    fn a_guid_is_written_as_tools_write_it() {
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(guid_text(&bytes), "03020100-0504-0706-0809-0a0b0c0d0e0f");
    }

    proptest! {
        #[test]
        fn any_first_sectors_are_survived(noise in prop::collection::vec(any::<u8>(), 2048)) {
            let mut disk = vec![0; 64 * 512];
            put(&mut disk, 0, &noise);
            put(&mut disk, 510, &[0x55, 0xaa]);
            let _ = renewed(&disk);
            put(&mut disk, 446, &[0; 64]);
            put(&mut disk, 446 + 4, &[0xee]);
            put(&mut disk, 446 + 12, &[63]);
            put(&mut disk, 512, b"EFI PART");
            let _ = renewed(&disk);
        }
    }
}
