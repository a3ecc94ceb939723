//! The smallest disk that an image can be restored to, by its index and its metadata.

use super::ImageMeta;
use super::index::Item;
use super::loaded_index::LoadedIndex;
use crate::table::TableKind;
use crate::units;
use crate::used::PartitionSummary;

/// Bytes of the entries of a usual GPT.
const BACKUP_GPT: u64 = 128 * 128;

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
