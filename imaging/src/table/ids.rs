//! New identifiers for the copy of a disk: GUIDs of a GPT and its partitions, the signature of an MBR.

use super::gpt::{Copy, choose, read_copy};
use super::raw::{CRC, put, seal};
use super::{Piece, TableError, TableKind, first_sector, read};
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
    pub backup: Vec<Piece>,
    pub primary: Vec<Piece>,
    pub ids: Vec<NewId>,
}

/// Gives the table of `disk`, whose logical sectors are `sector_size` bytes, new identifiers; `None` if it has no
/// table.
///
/// # Errors
/// When the disk or the random bytes cannot be read, or the table is in doubt: a GPT must have two good copies.
pub fn renew(
    disk: &mut dyn ReadAt,
    sector_size: u32,
    random: Random<'_>,
) -> Result<Option<Renewed>, TableError> {
    match read(disk, sector_size)?.kind {
        TableKind::None => Ok(None),
        TableKind::Mbr => renew_mbr(disk, random).map(Some),
        TableKind::Gpt => renew_gpt(disk, sector_size, random).map(Some),
    }
}

fn renew_mbr(disk: &mut dyn ReadAt, random: Random<'_>) -> Result<Renewed, TableError> {
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
    })
}

fn renew_gpt(
    disk: &mut dyn ReadAt,
    sector_size: u32,
    random: Random<'_>,
) -> Result<Renewed, TableError> {
    let size = LogicalBlockSize::try_from(u64::from(sector_size))?;
    let found = read_copy(disk, size, 1)?;
    let at = found.good().map_or(0, |copy| copy.header.backup_lba);
    let other = read_copy(disk, size, at)?;
    choose(&found, &other)?;
    let (Some(primary), Some(backup)) = (found.good(), other.good()) else {
        let why = "one copy of the GPT is damaged: new identifiers need both";
        return Err(TableError::doubt(TableKind::Gpt, why));
    };
    let mut ids = Vec::new();
    let mut entries = taken(disk, primary, 1)?;
    for (number, entry) in (1..).zip(entries.chunks_exact_mut(ENTRY)) {
        // An entry without a type is free.
        if entry.iter().take(ENTRY_GUID).any(|byte| *byte != 0) {
            let of = format!("partition {number}");
            ids.push(new_guid(of, entry, ENTRY_GUID, random)?);
        }
    }
    let mut header = taken(disk, primary, 0)?;
    ids.insert(
        0,
        new_guid("the disk".into(), &mut header, HEADER_GUID, random)?,
    );
    let guid = header
        .get(HEADER_GUID..HEADER_GUID + 16)
        .map(<[u8]>::to_vec);
    let mut pieces = |copy: &Copy| -> Result<Vec<Piece>, TableError> {
        let mut header = taken(disk, copy, 0)?;
        put(
            &mut header,
            HEADER_GUID,
            guid.as_deref().unwrap_or_default(),
        );
        put(&mut header, 88, &CRC.checksum(&entries).to_le_bytes());
        seal(&mut header)?;
        let [header_at, entries_at] = &copy.taken;
        Ok(vec![
            (entries_at.start, entries.clone()),
            (header_at.start, header),
        ])
    };
    Ok(Renewed {
        backup: pieces(backup)?,
        primary: pieces(primary)?,
        ids,
    })
}

/// The bytes of a copy's header (0) or entries (1).
fn taken(disk: &mut dyn ReadAt, copy: &Copy, which: usize) -> io::Result<Vec<u8>> {
    let range = &copy.taken[which];
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    disk.bytes_at(range.start, length)
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
        renew(
            &mut Disk::new(&mut Cursor::new(disk), size),
            512,
            &mut random,
        )
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
                &mut Disk::new(&mut Cursor::new(vec![0; 4096]), 4096),
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
