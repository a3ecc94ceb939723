//! A disk that is larger than its image: the backup GPT moves to the end, and the rest of the disk becomes usable.

use super::ImageMeta;
use super::index::Item;
use super::member_reader::LoadedIndex;
use super::restore::write_table;
use crate::disk::Output;
use crate::event::Reporter;
use crate::source::ReadAt;
use crate::table::{self, TableError, TableKind};
use crate::units;
use crate::used::{PartitionSummary, claims};
use std::io;

/// Bytes of the entries of a usual GPT.
const BACKUP_GPT: u64 = 128 * 128;

/// Lets the GPT of `output`, on which an image of `size` bytes was proven, end where the disk ends. A table in
/// doubt is left as it was captured, with a warning.
///
/// # Errors
/// When the disk cannot be read or written. The table of the image stays in force then.
pub fn move_backup_gpt(
    output: &dyn Output,
    size: u64,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let Some(limit) = output.limit().filter(|limit| *limit > size) else {
        return Ok(());
    };
    let moved = match table::move_backup_gpt(&mut Written { output, limit }, size) {
        Ok(Some(moved)) => moved,
        Ok(None) => return Ok(()),
        Err(TableError::Read(error)) => return Err(error.into()),
        Err(doubt @ TableError::Doubtful { .. }) => {
            let name = output.name();
            reporter.warn(format!(
                "{name} is larger than its image; the GPT is left as it was captured: {doubt}"
            ));
            return Ok(());
        }
    };
    write_table(output, &moved.backup)?;
    write_table(output, &moved.primary)?;
    write_table(output, moved.stale.as_slice())?;
    reporter.info(format!(
        "{} is larger than its image: the backup GPT moved to its end",
        output.name()
    ));
    Ok(())
}

/// Who owns the whole of the disk of `size` bytes that was written to `output`, beside its table. A table that cannot be
/// read has no say.
///
/// # Errors
/// When the disk cannot be read.
pub(super) fn owner_of_disk(output: &dyn Output, size: u64) -> io::Result<Option<String>> {
    let mut disk = Written {
        output,
        limit: size,
    };
    for sector in [512, 4096] {
        let Ok(table) = table::read(&mut disk, sector) else {
            continue;
        };
        if table.kind != TableKind::None {
            return claims::owner_of_disk(&mut disk, &table);
        }
    }
    Ok(None)
}

/// What was written, read again.
pub(super) struct Written<'a> {
    pub(super) output: &'a dyn Output,
    pub(super) limit: u64,
}

impl ReadAt for Written<'_> {
    fn size(&self) -> u64 {
        self.limit
    }

    fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.output.read_at(buffer, at)
    }
}

/// The smallest disk that an image can be restored to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinimumDisk {
    pub bytes: u64,
    /// What it is that needs so much, with its end; empty where that is not known.
    pub why: String,
    /// Where the data of the last filesystem would end if it was shrunk; `None` where it cannot be.
    pub shrunk: Option<u64>,
}

impl MinimumDisk {
    /// A disk of so many bytes, no matter why.
    pub fn of(bytes: u64) -> Self {
        Self {
            bytes,
            why: String::new(),
            shrunk: None,
        }
    }

    /// What to do so that `image` fits a disk of `disk` bytes; empty where nothing helps.
    pub fn advice(&self, image: &str, disk: u64) -> String {
        match self.shrunk {
            Some(end) if end < disk => format!(
                "; shrink it first: pitstop shrink {image} smaller.raw.gz --to {}",
                units::exact(disk)
            ),
            _ => String::new(),
        }
    }
}

/// The smallest disk for an image, by its index alone: its partitions end before that, and zeros alone lie behind it,
/// but for the backup GPT that moves.
pub fn minimum_disk(loaded: &LoadedIndex) -> MinimumDisk {
    let (index, meta) = (&loaded.index, &loaded.meta);
    let size = index.raw_size();
    let by_end = |part: &&PartitionSummary| part.start.saturating_add(part.size);
    let furthest = meta.partitions.iter().max_by_key(by_end);
    let Some(furthest) = furthest.filter(|_| meta.table.kind != TableKind::None.name()) else {
        return MinimumDisk::of(size);
    };
    let sector = u64::from(meta.disk.logical_sector_size);
    let backup = if meta.table.kind == TableKind::Gpt.name() {
        BACKUP_GPT.next_multiple_of(sector) + sector
    } else {
        0
    };
    let chunk = u64::from(index.chunk_size());
    let partitions = by_end(&furthest);
    let data = index.items().filter_map(|item| match item {
        Item::Chunk(chunk) => Some(chunk.number),
        Item::Zeros { .. } => None,
    });
    // What is in a chunk is only known when it is read: the backup GPT's own is free, of others the beginning counts.
    let free = size.saturating_sub(backup) / chunk;
    let last = data
        .filter(|number| *number < free)
        .max()
        .map_or(0, |last| index.position(last) + 1);
    let why = if last > partitions {
        format!("data outside its partitions goes on to byte {last} at least")
    } else {
        let filesystem = match furthest.filesystem.as_str() {
            "" => "contents unknown",
            known => known,
        };
        let number = furthest.number;
        format!("its partition {number}, {filesystem}, ends at byte {partitions}")
    };
    let bytes = partitions.max(last).saturating_add(backup).min(size);
    MinimumDisk {
        bytes,
        why,
        shrunk: shrunk(meta),
    }
}

/// Where the data of the last filesystem would end, swap behind it aside.
fn shrunk(meta: &ImageMeta) -> Option<u64> {
    let others = meta
        .partitions
        .iter()
        .filter(|part| part.filesystem != "swap");
    let last = others.max_by_key(|part| part.start)?;
    last.shrinks().then(|| last.start.saturating_add(last.used))
}
