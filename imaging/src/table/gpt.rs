//! Reading a GPT: UEFI 2.10 section 5.3. Both copies are read and judged, each by its own checksums.

use super::mbr::{BootRecord, PROTECTIVE};
use super::{Partition, PartitionKind, Table, TableError, TableKind};
use crate::extents::Extents;
use crate::source::ReadAt;
use gpt::disk::LogicalBlockSize;
use gpt::header::{Header, HeaderError};
use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::ops::Range;

pub(super) const SIGNATURE: &[u8] = b"EFI PART";
/// All tools write 128 entries, some up to a few thousand; more than this is a corrupt header.
const ENTRIES_MAX: u32 = 16384;
/// Sectors that disks have.
const SECTORS: [u32; 2] = [512, 4096];
/// UEFI allows larger entries; no tool writes them.
const ENTRY_SIZE: u32 = 128;

/// The two copies of a GPT: where each was looked for, and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GptCopies {
    pub primary: Option<Header>,
    pub backup: Option<Header>,
}

/// One good copy, its header and entries agreeing with their checksums.
pub(super) struct Copy {
    pub(super) header: Header,
    entries: BTreeMap<u32, gpt::partition::Partition>,
    /// Bytes of header and entries.
    pub(super) taken: [Range<u64>; 2],
}

pub(super) enum Found {
    Nothing,
    Damaged(String),
    Good(Box<Copy>),
}

impl Found {
    pub(super) fn good(&self) -> Option<&Copy> {
        match self {
            Self::Good(copy) => Some(copy),
            Self::Nothing | Self::Damaged(_) => None,
        }
    }

    /// Whether there is something that was one.
    pub(super) fn is_damaged(&self) -> bool {
        matches!(self, Self::Damaged(_))
    }
}

/// The GPT of a disk, or `None` when there is no sign of one.
pub(super) fn read(
    disk: &dyn ReadAt,
    sector_size: u32,
    boot_record: Option<&BootRecord>,
) -> Result<Option<Table>, TableError> {
    let sector = u64::from(sector_size);
    let block_size = LogicalBlockSize::try_from(sector)?;
    let protective = boot_record.is_some_and(BootRecord::is_protective);
    let primary = read_copy(disk, block_size, 1)?;
    if !protective {
        return without_protective_mbr(&primary, boot_record);
    }
    let last = (disk.size() / sector).saturating_sub(1);
    let at_end = read_copy(disk, block_size, last)?;
    let recorded = primary.good().map(|copy| copy.header.backup_lba);
    let backup = match recorded {
        // A disk that grew: the backup is still where the smaller disk ended.
        Some(lba) if lba != last => read_copy(disk, block_size, lba)?,
        _ => at_end,
    };
    if primary.good().is_none() && backup.good().is_none() {
        refuse_other_sector_size(disk, sector_size)?;
    }
    let (chosen, mut note) = choose(&primary, &backup)?;
    if recorded.is_some_and(|lba| lba != last) {
        add_note(
            &mut note,
            "the backup GPT is not at the end of the disk".into(),
        );
    }
    let mut table = Table {
        kind: TableKind::Gpt,
        id: chosen.header.disk_guid.hyphenated().to_string(),
        partitions: partitions(chosen, sector)?,
        reserved: reserved(disk.size(), &[&primary, &backup]),
        note,
        gpt: Some(GptCopies {
            primary: primary.good().map(|copy| copy.header.clone()),
            backup: backup.good().map(|copy| copy.header.clone()),
        }),
    };
    if let Some(record) = boot_record {
        keep_hybrid(&mut table, record, sector);
    }
    Ok(Some(table))
}

/// Why a GPT is in doubt.
pub(super) const WITHOUT_PROTECTIVE_MBR: &str = "there is a GPT but no protective MBR";

/// Linux and UEFI take no notice of a GPT without its protective MBR (UEFI 2.10 5.2.3); whether it
/// or the MBR is meant cannot be told.
fn without_protective_mbr(
    primary: &Found,
    boot_record: Option<&BootRecord>,
) -> Result<Option<Table>, TableError> {
    match (primary, boot_record) {
        (Found::Nothing, _) => Ok(None),
        (Found::Damaged(_), Some(record)) if record.has_partitions() => Ok(None),
        (Found::Damaged(_) | Found::Good(_), _) => {
            Err(TableError::doubt(TableKind::Gpt, WITHOUT_PROTECTIVE_MBR))
        }
    }
}

/// Bytes of the sectors that a GPT of this disk counts in; `None` where it has none. A copy that its checksums prove
/// tells it, the one at the end as well as the first.
///
/// # Errors
/// When the disk cannot be read.
pub(super) fn sector_size(disk: &dyn ReadAt) -> Result<Option<u32>, TableError> {
    for at_end in [false, true] {
        for size in SECTORS {
            let sector = u64::from(size);
            let lba = if at_end {
                (disk.size() / sector).saturating_sub(1)
            } else {
                1
            };
            let copy = read_copy(disk, LogicalBlockSize::try_from(sector)?, lba)?;
            if copy.good().is_some() {
                return Ok(Some(size));
            }
        }
    }
    Ok(None)
}

fn refuse_other_sector_size(disk: &dyn ReadAt, sector_size: u32) -> Result<(), TableError> {
    let other = if sector_size == 512 { 4096 } else { 512 };
    if disk.size() < other + 8 || disk.bytes_at(other, 8)? != SIGNATURE {
        return Ok(());
    }
    Err(TableError::doubt(
        TableKind::Gpt,
        format!("its GPT was written for sectors of {other} bytes, this disk's have {sector_size}"),
    ))
}

pub(super) fn choose<'a>(
    primary: &'a Found,
    backup: &'a Found,
) -> Result<(&'a Copy, String), TableError> {
    match (primary, backup) {
        (Found::Good(primary), Found::Good(backup)) => {
            let same = primary.header.disk_guid == backup.header.disk_guid
                && primary.entries == backup.entries;
            if same {
                Ok((primary, String::new()))
            } else {
                Err(TableError::doubt(
                    TableKind::Gpt,
                    "the two copies of the GPT differ",
                ))
            }
        }
        (Found::Good(primary), damaged) => Ok((
            primary,
            format!("the backup GPT is damaged ({})", describe(damaged)),
        )),
        (damaged, Found::Good(backup)) => Ok((
            backup,
            format!("the primary GPT is damaged ({})", describe(damaged)),
        )),
        (primary, _) => Err(TableError::doubt(
            TableKind::Gpt,
            format!("both copies of the GPT are damaged ({})", describe(primary)),
        )),
    }
}

fn describe(found: &Found) -> &str {
    match found {
        Found::Nothing => "no signature",
        Found::Damaged(why) => why,
        Found::Good(_) => "good",
    }
}

fn add_note(note: &mut String, more: String) {
    if note.is_empty() {
        *note = more;
    } else {
        note.push_str("; ");
        note.push_str(&more);
    }
}

pub(super) fn read_copy(
    disk: &dyn ReadAt,
    block_size: LogicalBlockSize,
    lba: u64,
) -> Result<Found, TableError> {
    let sector = block_size.as_u64();
    let sectors = disk.size() / sector;
    if lba == 0 || lba >= sectors {
        return Ok(Found::Nothing);
    }
    // The crate reads a header at LBA 1 of whatever it is given.
    let mut bytes = vec![0; block_size.as_usize()];
    bytes.extend(disk.bytes_at(lba * sector, block_size.as_usize())?);
    let header =
        match gpt::header::read_header_from_arbitrary_device(&mut Cursor::new(bytes), block_size) {
            Ok(header) => header,
            Err(HeaderError::InvalidGptSignature) => return Ok(Found::Nothing),
            Err(err) => return Ok(Found::Damaged(err.to_string())),
        };
    if header.part_size != ENTRY_SIZE || !(1..=ENTRIES_MAX).contains(&header.num_parts) {
        return Ok(Found::Damaged(format!(
            "{} entries of {} bytes",
            header.num_parts, header.part_size
        )));
    }
    let length = u64::from(header.num_parts) * u64::from(ENTRY_SIZE);
    let fits = |start: u64| start > 0 && start < sectors && length <= (sectors - start) * sector;
    if header.current_lba != lba || !fits(header.part_start) {
        return Ok(Found::Damaged("its header points elsewhere".into()));
    }
    let start = header.part_start * sector;
    let entries = match read_entries(disk, &header, block_size, start, length) {
        Ok(entries) => entries,
        Err(err) => return Ok(Found::Damaged(err.to_string())),
    };
    let taken = [lba * sector..(lba + 1) * sector, start..start + length];
    Ok(Found::Good(Box::new(Copy {
        header,
        entries,
        taken,
    })))
}

fn read_entries(
    disk: &dyn ReadAt,
    header: &Header,
    block_size: LogicalBlockSize,
    start: u64,
    length: u64,
) -> io::Result<BTreeMap<u32, gpt::partition::Partition>> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let bytes = disk.bytes_at(start, length)?;
    let mut at_zero = header.clone();
    at_zero.part_start = 0;
    let mut entries =
        gpt::partition::file_read_partitions(&mut Cursor::new(bytes), &at_zero, block_size)?;
    entries.retain(|_, entry| entry.is_used());
    Ok(entries)
}

fn partitions(copy: &Copy, sector: u64) -> Result<Vec<Partition>, TableError> {
    let header = &copy.header;
    let mut partitions = Vec::with_capacity(copy.entries.len());
    for (number, entry) in &copy.entries {
        let inside = entry.first_lba >= header.first_usable
            && entry.last_lba <= header.last_usable
            && entry.first_lba <= entry.last_lba;
        let range = entry
            .last_lba
            .checked_add(1)
            .and_then(|end| end.checked_mul(sector));
        let (true, Some(end)) = (inside, range) else {
            return Err(TableError::doubt(
                TableKind::Gpt,
                format!("partition {number} is outside what the GPT calls usable"),
            ));
        };
        let start = entry.first_lba * sector;
        let kind = entry.part_type_guid.guid.hyphenated().to_string();
        partitions.push(Partition {
            number: *number,
            start,
            size: end - start,
            kind: PartitionKind::Guid(kind.to_uppercase()),
            name: entry.name.clone(),
            id: entry.part_guid.hyphenated().to_string(),
            attributes: entry.flags,
        });
    }
    Ok(partitions)
}

/// Both copies where they are, and room for a standard one at each end.
fn reserved(size: u64, copies: &[&Found]) -> Extents {
    let mut reserved = Extents::new();
    for copy in copies.iter().filter_map(|found| found.good()) {
        for range in &copy.taken {
            reserved.insert(range.start..range.end.min(size));
        }
    }
    reserved
}

/// A hybrid MBR shows firmware partitions of its own. They are the GPT's as a rule; where they are not,
/// their bytes are kept whole.
fn keep_hybrid(table: &mut Table, record: &BootRecord, sector: u64) {
    for entry in record.entries().filter(|entry| entry.sys != PROTECTIVE) {
        let start = u64::from(entry.starting_lba) * sector;
        let end = start + u64::from(entry.sectors) * sector;
        let shared = table
            .partitions
            .iter()
            .any(|partition| partition.range() == (start..end));
        if !shared {
            table.reserved.insert(start..end);
            add_note(
                &mut table.note,
                format!("the hybrid MBR has a partition of its own at byte {start}"),
            );
        }
    }
}
