//! Images on the share.

use crate::disk::Disk;
use jiff::Timestamp;
use pitstop_protocol::id::Id;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a check of an image came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyState {
    Running,
    Ok,
    Failed,
}

/// The last check of every chunk of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Verified {
    pub state: VerifyState,
    /// When it began, or where it has ended, when that was.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// 0 to 100, of one that goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
}

/// A machine that an image was put on, or was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Use {
    /// As people know the machine.
    pub machine: String,
    #[schema(value_type = String)]
    pub run: Id,
    pub action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
}

/// One image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Image {
    /// Below the share: `192.168.1.50/sda.raw.gz`.
    pub path: String,
    /// The folder that it is in: a machine's, as a rule.
    pub folder: String,
    /// Bytes of the file.
    pub file_size: u64,
    /// When the file was last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub modified: Option<Timestamp>,
    /// Not the last one of its disk: the one before the last `backup-again`, or one that was kept by its time.
    #[serde(default)]
    pub old: bool,
    /// Of the disk that it is of: the kernel's name, from the file's name where nothing else tells.
    pub device: String,
    #[serde(default)]
    pub model: String,
    #[serde(default)]
    pub serial: String,
    /// Bytes of the disk; left out where the image does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_size: Option<u64>,
    /// When the backup began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created: Option<Timestamp>,
    /// The version of Pitstop that made it; left out of an image of another tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pitstop: Option<String>,
    /// Whether every block was kept.
    #[serde(default)]
    pub exact: bool,
    /// BLAKE3 over the chunks' hashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// Places of the disk that could not be read.
    #[serde(default)]
    pub read_errors: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// By which machines it was used, the last first.
    #[serde(default)]
    pub used_by: Vec<Use>,
    /// Why what is beside it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
}

/// One image, and the disk that it is of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ImageDetail {
    #[serde(flatten)]
    pub image: Image,
    /// Left out of an image of another tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
}

/// Images, by path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Images {
    pub images: Vec<Image>,
    /// Where there are more: `after` of the next question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
