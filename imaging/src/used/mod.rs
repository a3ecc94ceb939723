//! Which bytes of a disk its partition table, boot loaders and filesystems use.
//!
//! A filesystem's own allocation map is used only when it can be trusted. In any doubt every block of
//! that partition is kept, and [`PartitionSummary::reason`] says why; when the table itself is in
//! doubt, the whole disk is.

mod bitmap;
mod btrfs;
mod bytes;
pub mod claims;
mod exfat;
mod ext;
mod f2fs;
mod fat;
mod grows;
mod lvm;
pub mod md;
mod neighbours;
pub(crate) mod ntfs;
mod probe;
mod range_collector;
mod sectors;
mod swap;
mod xfs;

use crate::extents::Extents;
use crate::source::{Disk, ReadAt, Window};
use crate::table::{self, Partition, PartitionKind, Table, TableError, TableKind};
use claims::{Beside, Claim, Contested, Filesystem};
pub use grows::{Growable, growable};
pub use lvm::{LogicalVolume, Piece, VolumeGroup, volume_group};
use neighbours::Neighbours;
use probe::Found;
use range_collector::RangeCollector;
pub use sectors::misfit;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Seek};
pub use swap::{Swap, swap};

const USED_BLOCKS: &str = "used blocks";
const EVERY_BLOCK: &str = "every block";

/// What a disk holds, and which of its bytes must be kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Survey {
    pub table: TableSummary,
    /// In the order of the table; a filesystem on the whole disk is one partition numbered 0.
    pub partitions: Vec<PartitionSummary>,
    /// All that must be kept; what is outside reads as zeros in an image.
    #[serde(skip)]
    pub kept: Extents,
}

/// A partition table in short.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TableSummary {
    /// `gpt`, `mbr` or `none`.
    pub kind: String,
    /// Disk GUID, or MBR disk signature as `0x` and eight hex digits; empty without a table.
    pub id: String,
    /// What is odd about it: a damaged copy, or why the whole disk is kept. Empty if all is well.
    pub note: String,
    /// Who claims the whole disk beside it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Contested>,
}

/// A partition and its filesystem in short.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PartitionSummary {
    pub number: u32,
    /// First byte on the disk.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Type GUID or MBR code, with its name where that is known.
    pub kind: String,
    /// The name a GPT gives it.
    pub name: String,
    /// Partition GUID, or for MBR disk signature and number, as in `PARTUUID=`.
    pub id: String,
    /// `ext4`, `ntfs`, …; empty when nothing was recognised.
    pub filesystem: String,
    pub label: String,
    pub uuid: String,
    /// Bytes kept of this partition.
    pub used: u64,
    /// `used blocks` or `every block`.
    pub kept: String,
    /// Why every block is kept, of the partition or of logical volumes in it; else empty.
    pub reason: String,
    /// All who may own its blocks, where that is more than one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Contested>,
}

impl PartitionSummary {
    /// Its type; `None` without a table.
    pub fn type_of(&self) -> Option<PartitionKind> {
        PartitionKind::of_text(&self.kind)
    }

    /// The name of its type, if it is one that keeps its size: firmware and Windows find such a one where it is.
    pub fn fixed_kind(&self) -> Option<&'static str> {
        let kind = self.type_of()?;
        kind.is_fixed().then(|| kind.name()).flatten()
    }

    /// The filesystem on it, if its map can be read.
    pub fn readable(&self) -> Option<Filesystem> {
        Filesystem::of_name(&self.filesystem)
    }

    /// Whether `pitstop shrink` makes it smaller, as far as that is known without a look at the filesystem.
    pub fn shrinks(&self) -> bool {
        matches!(
            self.readable(),
            Some(Filesystem::Ext | Filesystem::Ntfs | Filesystem::Btrfs)
        ) && self.reason.is_empty()
            && self.claims.is_empty()
            && self.fixed_kind().is_none()
    }

    /// Fills in what was found on it, and answers which of its bytes must be kept.
    fn take(&mut self, found: Found) -> Extents {
        self.filesystem = found.name;
        self.label = found.label.label;
        self.uuid = found.label.uuid;
        self.claims = found.contested;
        let kept = match found.map {
            Ok(kept) => {
                self.kept = USED_BLOCKS.into();
                self.reason = found.remark;
                kept
            }
            Err(doubt) => {
                self.kept = EVERY_BLOCK.into();
                self.reason = doubt.to_string();
                Extents::single(0..self.size)
            }
        };
        self.used = kept.total();
        kept
    }
}

/// Why a filesystem's map is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untrusted {
    #[error("{0}")]
    Refused(String),
    #[error("its metadata could not be read: {0}")]
    Read(#[from] io::Error),
}

impl Untrusted {
    fn new(why: impl Into<String>) -> Self {
        Self::Refused(why.into())
    }
}

/// What a filesystem is called by its owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Label {
    label: String,
    uuid: String,
}

/// What a volume holds, by its signatures alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// `ext4`, `LVM2_member`, …; several joined by `or`; empty when nothing was recognised.
    pub filesystem: String,
    pub label: String,
    pub uuid: String,
}

/// Recognises what is on `volume`: a few reads, whatever its size.
pub fn recognise(volume: &dyn ReadAt) -> Contents {
    let (filesystem, Label { label, uuid }) = probe::recognise(volume);
    Contents {
        filesystem,
        label,
        uuid,
    }
}

/// Looks at the first `size` bytes of `disk`, whose sectors are `logical_sector_size` bytes.
///
/// Damage on the disk is no error: it makes more be kept. An error is a sector size that no
/// disk has.
pub fn survey<R: Read + Seek>(
    disk: &mut R,
    size: u64,
    logical_sector_size: u32,
) -> io::Result<Survey> {
    if !matches!(logical_sector_size, 512 | 4096) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "looking for partitions: sectors of {logical_sector_size} bytes are neither 512 nor 4096"
            ),
        ));
    }
    let disk = Disk::new(disk, size);
    let table = match table::read(&disk, logical_sector_size) {
        Ok(table) => table,
        Err(err) => return Ok(whole_disk(size, &err)),
    };
    Ok(match table.kind {
        TableKind::None => unpartitioned(&disk),
        TableKind::Mbr | TableKind::Gpt => {
            let beside = claims::beside(&disk, &table);
            match beside.doubt(table.kind) {
                Some(why) => contested_disk(size, table.kind, why, &beside.claims),
                None => partitioned(&disk, &table, &beside),
            }
        }
    })
}

/// A disk that somebody may own beside its table.
fn contested_disk(size: u64, kind: TableKind, why: String, claims: &[Claim]) -> Survey {
    let mut survey = whole_disk(size, &TableError::Doubtful { kind, why });
    survey.table.claims = claims.iter().map(Contested::from).collect();
    survey
}

fn whole_disk(size: u64, err: &TableError) -> Survey {
    let kind = match err {
        TableError::Doubtful { kind, .. } => *kind,
        TableError::Read(_) => TableKind::None,
    };
    Survey {
        table: TableSummary {
            kind: kind.name().into(),
            id: String::new(),
            note: format!("every block of the disk is kept: {err}"),
            claims: Vec::new(),
        },
        partitions: Vec::new(),
        kept: Extents::single(0..size),
    }
}

fn unpartitioned(disk: &dyn ReadAt) -> Survey {
    let size = disk.size();
    let mut summary = PartitionSummary {
        size,
        ..PartitionSummary::default()
    };
    let found = probe::look(disk, None);
    let mut kept = summary.take(found);
    kept.insert(0..size.min(table::EDGE));
    kept.insert(size.saturating_sub(table::EDGE)..size);
    summary.used = kept.total();
    Survey {
        table: TableSummary {
            kind: TableKind::None.name().into(),
            ..TableSummary::default()
        },
        partitions: vec![summary],
        kept,
    }
}

fn partitioned(disk: &dyn ReadAt, table: &Table, beside: &Beside) -> Survey {
    let size = disk.size();
    let mut keep = RangeCollector::new();
    keep.add_all(&table.reserved);
    let theirs = beside.theirs.clone().unwrap_or_default();
    keep.add_all(&theirs);
    let mut found: Vec<Found> = Vec::with_capacity(table.partitions.len());
    for partition in &table.partitions {
        let window = Window::new(disk, partition.start, partition.size);
        found.push(probe::look(&window, Some(&partition.kind)));
    }
    let mut neighbours = Neighbours::of(table, &found);
    neighbours.settle(beside, &mut found);
    keep.add_all(&neighbours.claimed);
    let mut partitions = Vec::with_capacity(table.partitions.len());
    for (partition, found) in table.partitions.iter().zip(found) {
        let mut summary = summary_of(partition);
        let kept = summary.take(found);
        keep.add_all(&kept.shifted(partition.start));
        partitions.push(summary);
    }
    let notes = [table.note.clone(), beside.note().unwrap_or_default()];
    let notes: Vec<String> = notes.into_iter().filter(|note| !note.is_empty()).collect();
    Survey {
        table: TableSummary {
            kind: table.kind.name().into(),
            id: table.id.clone(),
            note: notes.join("; "),
            claims: beside.claims.iter().map(Contested::from).collect(),
        },
        partitions,
        kept: keep.finish(size),
    }
}

fn summary_of(partition: &Partition) -> PartitionSummary {
    PartitionSummary {
        number: partition.number,
        start: partition.start,
        size: partition.size,
        kind: partition.kind.to_string(),
        name: partition.name.clone(),
        id: partition.id.clone(),
        ..PartitionSummary::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_fixed_type_or_is_in_doubt_does_not_shrink() {
        let shrinks = |filesystem: &str, kind: &str, reason: &str| {
            let (filesystem, kind, reason) = (filesystem.into(), kind.into(), reason.into());
            PartitionSummary {
                kind,
                filesystem,
                reason,
                ..PartitionSummary::default()
            }
            .shrinks()
        };
        assert!(shrinks("ntfs", "0x07 NTFS or exFAT", ""));
        assert!(!shrinks("ntfs", "0x27 Windows recovery", ""));
        assert!(!shrinks(
            "ntfs",
            "C12A7328-F81F-11D2-BA4B-00A0C93EC93B EFI",
            ""
        ));
        assert!(!shrinks("ext4", "0x83 Linux", "it was not unmounted"));
        assert!(!shrinks("xfs", "0x83 Linux", ""));
    }
}
