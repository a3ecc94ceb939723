//! Which bytes of a disk its partition table, boot loaders and filesystems use.
//!
//! A filesystem's own allocation map is used only when it can be trusted. In any doubt every block of
//! that partition is kept, and [`PartitionSummary::reason`] says why; when the table itself is in
//! doubt, the whole disk is.

mod bitmap;
mod btrfs;
mod bytes;
mod exfat;
mod ext;
mod f2fs;
mod fat;
mod keep;
mod lvm;
mod ntfs;
mod probe;
mod sectors;
mod swap;
mod xfs;

use crate::extents::Extents;
use crate::source::{Disk, ReadAt, Window};
use crate::table::{self, Partition, Table, TableError, TableKind};
use keep::Keep;
use probe::Found;
pub use sectors::misfit;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Seek};

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
}

impl PartitionSummary {
    /// The name of its type, if it is one that keeps its size: firmware and Windows find such a one where it is.
    pub fn fixed_kind(&self) -> Option<&'static str> {
        const FIXED: [&str; 4] = [
            "Windows recovery",
            "EFI system",
            "BIOS boot",
            "Microsoft reserved",
        ];
        FIXED.into_iter().find(|kind| self.kind.ends_with(kind))
    }

    /// Whether `pitstop shrink` makes it smaller, as far as that is known without a look at the filesystem.
    pub fn shrinks(&self) -> bool {
        const SHRINK: [&str; 5] = ["ext4", "ext3", "ext2", "ntfs", "btrfs"];
        SHRINK.contains(&self.filesystem.as_str())
            && self.reason.is_empty()
            && self.fixed_kind().is_none()
    }
}

/// Why a filesystem's map is not used.
#[derive(Debug, thiserror::Error)]
enum Doubt {
    #[error("{0}")]
    Refused(String),
    #[error("its metadata could not be read: {0}")]
    Read(#[from] io::Error),
}

impl Doubt {
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
pub fn recognise(volume: &mut dyn ReadAt) -> Contents {
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
    let mut disk = Disk::new(disk, size);
    let table = match table::read(&mut disk, logical_sector_size) {
        Ok(table) => table,
        Err(err) => return Ok(whole_disk(size, &err)),
    };
    Ok(match table.kind {
        TableKind::None => unpartitioned(&mut disk),
        TableKind::Mbr => match probe::beside_mbr(&mut disk) {
            Some(name) => {
                let why = format!("there are both an MBR and a whole-disk {name}");
                whole_disk(
                    size,
                    &TableError::Doubtful {
                        kind: TableKind::Mbr,
                        why,
                    },
                )
            }
            None => partitioned(&mut disk, &table),
        },
        TableKind::Gpt => partitioned(&mut disk, &table),
    })
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
        },
        partitions: Vec::new(),
        kept: Extents::single(0..size),
    }
}

fn unpartitioned(disk: &mut dyn ReadAt) -> Survey {
    let size = disk.size();
    let mut summary = PartitionSummary {
        size,
        ..PartitionSummary::default()
    };
    let mut kept = look_into(disk, &mut summary);
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

fn partitioned(disk: &mut dyn ReadAt, table: &Table) -> Survey {
    let size = disk.size();
    let mut keep = Keep::new();
    keep.add_all(&table.reserved);
    let mut partitions = Vec::with_capacity(table.partitions.len());
    for partition in &table.partitions {
        let mut summary = summary_of(partition);
        let mut window = Window::new(disk, partition.start, partition.size);
        let kept = look_into(&mut window, &mut summary);
        keep.add_all(&kept.shifted(partition.start));
        partitions.push(summary);
    }
    Survey {
        table: TableSummary {
            kind: table.kind.name().into(),
            id: table.id.clone(),
            note: table.note.clone(),
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

/// Fills in what is on `volume`, and answers which of its bytes must be kept.
fn look_into(volume: &mut dyn ReadAt, summary: &mut PartitionSummary) -> Extents {
    let Found {
        name,
        label,
        map,
        remark,
    } = probe::look(volume);
    summary.filesystem = name;
    summary.label = label.label;
    summary.uuid = label.uuid;
    let kept = match map {
        Ok(kept) => {
            summary.kept = USED_BLOCKS.into();
            summary.reason = remark;
            kept
        }
        Err(doubt) => {
            summary.kept = EVERY_BLOCK.into();
            summary.reason = doubt.to_string();
            Extents::single(0..volume.size())
        }
    };
    summary.used = kept.total();
    kept
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
        assert!(!shrinks("ext4", "0x83 Linux", "it was not unmounted"));
        assert!(!shrinks("xfs", "0x83 Linux", ""));
    }
}
