//! The bytes of a new partition table: GPT by UEFI 2.10 5.3, MBR and its chain of extended boot records.

use super::place::{GPT_ENTRIES, Place, Placed, is_extended, signature};
use crate::table::{PartitionKind, TableKind};
use anyhow::Context;
use mbrman::{CHS, MBRHeader, MBRPartitionEntry};

/// Bytes and where they go.
pub(super) type Piece = (u64, Vec<u8>);

/// All that is to be written, the primary table last: nothing leads to the new partitions before they are ready.
pub(super) fn table(placed: &Placed) -> anyhow::Result<Vec<Piece>> {
    match placed.table {
        TableKind::Gpt => gpt(placed),
        _ => mbr(placed),
    }
}

const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

fn gpt(placed: &Placed) -> anyhow::Result<Vec<Piece>> {
    let sector = placed.sector;
    let last = placed.disk / sector - 1;
    let entry_sectors = GPT_ENTRIES.div_ceil(sector);
    let entries = gpt_entries(placed)?;
    let disk = match &placed.id {
        Some(id) => guid_bytes(id)?,
        None => random_guid(),
    };
    let header = |own: u64, other: u64, entries_at: u64| {
        let mut bytes = vec![0; usize::try_from(sector)?];
        bytes[..8].copy_from_slice(b"EFI PART");
        bytes[8..12].copy_from_slice(&0x0001_0000u32.to_le_bytes());
        bytes[12..16].copy_from_slice(&92u32.to_le_bytes());
        for (at, value) in [
            (24, own),
            (32, other),
            (40, 2 + entry_sectors),
            (48, last - 1 - entry_sectors),
            (72, entries_at),
        ] {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        bytes[56..72].copy_from_slice(&disk);
        bytes[80..84].copy_from_slice(&128u32.to_le_bytes());
        bytes[84..88].copy_from_slice(&128u32.to_le_bytes());
        bytes[88..92].copy_from_slice(&CRC.checksum(&entries).to_le_bytes());
        let checksum = CRC.checksum(&bytes[..92]);
        bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
        anyhow::Ok(bytes)
    };
    let backup_entries = last - entry_sectors;
    Ok(vec![
        (backup_entries * sector, entries.clone()),
        (last * sector, header(last, 1, backup_entries)?),
        (2 * sector, entries.clone()),
        (sector, header(1, last, 2)?),
        (0, protective(placed)?),
    ])
}

fn gpt_entries(placed: &Placed) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(GPT_ENTRIES)?];
    for (entry, place) in bytes.chunks_exact_mut(128).zip(&placed.places) {
        let PartitionKind::Guid(kind) = &place.kind else {
            anyhow::bail!("partition {} has no type GUID", place.number);
        };
        entry[..16].copy_from_slice(&guid_bytes(kind)?);
        let own = match &place.entry.id {
            Some(id) => guid_bytes(id)?,
            None => random_guid(),
        };
        entry[16..32].copy_from_slice(&own);
        let first = place.start / placed.sector;
        let last = place.range().end / placed.sector - 1;
        entry[32..40].copy_from_slice(&first.to_le_bytes());
        entry[40..48].copy_from_slice(&last.to_le_bytes());
        entry[48..56].copy_from_slice(&place.flags.to_le_bytes());
        let name = place.entry.name.encode_utf16().take(36);
        for (unit, letter) in entry[56..].chunks_exact_mut(2).zip(name) {
            unit.copy_from_slice(&letter.to_le_bytes());
        }
    }
    Ok(bytes)
}

/// One entry over the whole disk, as far as it can count (UEFI 2.10 5.2.3).
fn protective(placed: &Placed) -> anyhow::Result<Vec<u8>> {
    let sectors = u32::try_from(placed.disk / placed.sector - 1).unwrap_or(u32::MAX);
    let mut header = MBRHeader::new([0; 4]);
    header.partition_1 = MBRPartitionEntry {
        boot: 0,
        first_chs: CHS::new(0, 0, 2),
        sys: 0xee,
        last_chs: CHS::new(1023, 255, 63),
        starting_lba: 1,
        sectors,
    };
    record(&header, placed.sector)
}

fn record(header: &MBRHeader, sector: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; 512];
    header
        .write_into(&mut std::io::Cursor::new(&mut bytes[..]))
        .context("making a boot record")?;
    bytes.resize(usize::try_from(sector)?, 0);
    Ok(bytes)
}

fn mbr(placed: &Placed) -> anyhow::Result<Vec<Piece>> {
    let sector = placed.sector;
    let id = placed.id.as_deref().and_then(signature);
    let mut header = MBRHeader::new(id.unwrap_or_else(|| fastrand::u32(1..)).to_le_bytes());
    let primaries = placed.places.iter().filter(|place| place.record.is_none());
    let extended = placed.places.iter().find(|place| is_extended(&place.kind));
    for place in primaries {
        let slot = header
            .get_mut(usize::try_from(place.number)?)
            .with_context(|| format!("an MBR has no place for partition {}", place.number))?;
        *slot = entry(place, 0, sector)?;
    }
    let logicals: Vec<&Place> = placed
        .places
        .iter()
        .filter(|place| place.record.is_some())
        .collect();
    let mut pieces = Vec::new();
    if let Some(extended) = extended {
        pieces = chain(extended, &logicals, sector)?;
    }
    pieces.push((0, record(&header, sector)?));
    Ok(pieces)
}

/// Each record names its own partition, counted from itself, and the next record, counted from the first.
fn chain(extended: &Place, logicals: &[&Place], sector: u64) -> anyhow::Result<Vec<Piece>> {
    if logicals.is_empty() {
        return Ok(vec![(
            extended.start,
            record(&MBRHeader::new([0; 4]), sector)?,
        )]);
    }
    let mut pieces = Vec::new();
    for (index, place) in logicals.iter().enumerate() {
        let own = place.record.unwrap_or(extended.start);
        let mut header = MBRHeader::new([0; 4]);
        header.partition_1 = entry(place, own, sector)?;
        if let Some(next) = logicals.get(index + 1) {
            let start = next.record.unwrap_or(extended.start);
            header.partition_2 = span(
                0x05,
                0,
                (start - extended.start) / sector,
                (next.range().end - start) / sector,
            )?;
        }
        pieces.push((own, record(&header, sector)?));
    }
    Ok(pieces)
}

fn entry(place: &Place, base: u64, sector: u64) -> anyhow::Result<MBRPartitionEntry> {
    let PartitionKind::Code(code) = place.kind else {
        anyhow::bail!("partition {} has no type code", place.number);
    };
    let boot = if place.flags & 1 == 1 { 0x80 } else { 0 };
    span(
        code,
        boot,
        (place.start - base) / sector,
        place.size / sector,
    )
}

fn span(sys: u8, boot: u8, start: u64, sectors: u64) -> anyhow::Result<MBRPartitionEntry> {
    // Nobody has read cylinders for decades: as all tools write them where they do not fit.
    let beyond = CHS::new(1023, 254, 63);
    Ok(MBRPartitionEntry {
        boot,
        first_chs: beyond,
        sys,
        last_chs: beyond,
        starting_lba: u32::try_from(start).context("an MBR counts sectors in 32 bits")?,
        sectors: u32::try_from(sectors).context("an MBR counts sectors in 32 bits")?,
    })
}

/// A GUID as UEFI stores it: the first three fields are little-endian.
pub(super) fn guid_bytes(text: &str) -> anyhow::Result<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let number = u128::from_str_radix(&digits, 16)
        .ok()
        .filter(|_| digits.len() == 32)
        .with_context(|| format!("{text:?} is no GUID"))?;
    let mut bytes = number.to_be_bytes();
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    Ok(bytes)
}

/// Version 4 (RFC 9562 5.4), as it is stored.
fn random_guid() -> [u8; 16] {
    let mut bytes = fastrand::u128(..).to_be_bytes();
    bytes[7] = bytes[7] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}
