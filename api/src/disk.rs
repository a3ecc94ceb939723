//! A disk and what is on it, for a picture of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where it is known from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// What the machine said of itself.
    #[default]
    Machine,
    /// The plan of its last run.
    Run,
    /// An image: what was on the disk when that was made.
    Image,
}

/// A disk of a machine, or of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Disk {
    /// The kernel's name: `sda`, `nvme0n1`.
    pub device: String,
    /// Empty where the disk does not tell; so are `serial` and `wwn`.
    #[serde(default)]
    pub model: String,
    #[serde(default)]
    pub serial: String,
    /// World Wide Name: `naa.5000…`, `eui.…`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub wwn: String,
    /// What carries it: `ata`, `nvme`, `virtio`, `usb`, ….
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub transport: String,
    /// Bytes.
    pub size: u64,
    /// Bytes: 512 or 4096; 0 where it is not known.
    #[serde(default)]
    pub logical_sector_size: u32,
    /// `gpt`, `mbr` or `none`; left out where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// In the order of their first byte.
    #[serde(default)]
    pub partitions: Vec<Partition>,
    /// Where the disk is known from.
    pub source: Source,
    /// The image that told of its partitions, below the share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// When it was so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub seen: Option<Timestamp>,
}

/// A partition and its filesystem.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Partition {
    /// As the table counts, from 1; 0 of a filesystem on the whole disk.
    pub number: u32,
    /// First byte on the disk.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Type GUID or MBR code, with its name where that is known: `EFI system (c12a7328-…)`.
    pub kind: String,
    /// The name that a GPT gives it; may be empty.
    #[serde(default)]
    pub name: String,
    /// Partition GUID, or of an MBR signature and number, as in `PARTUUID=`.
    #[serde(default)]
    pub id: String,
    /// `ext4`, `ntfs`, `swap`, …; empty where nothing was recognised.
    #[serde(default)]
    pub filesystem: String,
    /// Of the filesystem; may be empty.
    #[serde(default)]
    pub label: String,
    /// Of the filesystem; may be empty.
    #[serde(default)]
    pub uuid: String,
    /// Bytes that the filesystem uses; left out where its map was not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// Bytes that it does not use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<u64>,
    /// Why every block counts as used; empty where the map was read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}
