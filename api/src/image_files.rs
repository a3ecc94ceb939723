//! Single files in an image.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an image has filesystems on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ImageVolumes {
    /// Of the image, below the share.
    pub path: String,
    pub volumes: Vec<ImageVolume>,
}

/// A partition of the disk in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ImageVolume {
    /// The partition's; 0 is the whole disk, where that has no table.
    pub number: u32,
    /// Empty where none was recognised.
    pub filesystem: String,
    pub label: String,
    /// Bytes.
    pub size: u64,
    /// Whether its files can be told and read here; of others `pitstop mount` can show them.
    pub readable: bool,
}

/// A folder in an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ImageFolder {
    /// Of the image, below the share.
    pub path: String,
    pub volume: u32,
    /// Within the volume; empty for its root.
    pub folder: String,
    /// Folders first, then by name.
    pub entries: Vec<ImageEntry>,
    /// There are more than are told.
    #[serde(default)]
    pub more: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ImageEntry {
    pub name: String,
    pub kind: ImageEntryKind,
    /// Bytes of a file.
    #[serde(default)]
    pub size: u64,
    /// Where a link leads.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ImageEntryKind {
    Folder,
    File,
    Link,
    /// A device, a socket, a pipe.
    Other,
}
