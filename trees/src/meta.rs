//! What an image says of the system in it: TOML, stored with the index and beside the image.

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// The format of this build.
pub const FORMAT: u32 = 1;

/// How the files were held still while they were read, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// Nothing ran from it.
    #[default]
    Offline,
    /// The system ran, and its Btrfs was read from snapshots, each of one moment. What is on other filesystems was read as
    /// of `Live`.
    Snapshot,
    /// The system ran. What changed meanwhile is named.
    Live,
}

/// The contents of `VERSION.toml` and of the end of the index.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Meta {
    pub format: u32,
    /// On the share; empty of a file that somebody keeps elsewhere.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// RFC 3339, UTC.
    pub created: String,
    /// The version of the program that made it.
    pub pitstop: String,
    /// The BLAKE3 of the index, which holds that of everything else; only beside the image, since it cannot be in itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub index: String,
    pub entries: u64,
    /// Of all files, holes left out.
    pub bytes: u64,
    #[serde(default)]
    pub consistency: Consistency,
    /// Of `uname -m`: told by the programs in the tree.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    /// Versions that have modules in `/lib/modules`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernels: Vec<String>,
    /// Patterns that were left out by wish.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excludes: Vec<String>,
    /// What is one machine's alone, and was left out or emptied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identity: Vec<String>,
    /// Paths that changed while they were read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// What else is not in it, and why: sockets, filesystems that nobody keeps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os: Option<OsRelease>,
    #[serde(default, rename = "filesystem", skip_serializing_if = "Vec::is_empty")]
    pub filesystems: Vec<Filesystem>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// The disk that it ran from, as `pitstop layout capture --exact` writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<toml::Table>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LeftOut {
    pub path: String,
    pub why: String,
}

/// What `/etc/os-release` says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct OsRelease {
    pub id: String,
    pub version: String,
    pub name: String,
}

/// A filesystem that the tree was on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Filesystem {
    /// Where it is mounted in the tree: `/`, `/boot`.
    pub mount: String,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uuid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// Of ext, XFS and Btrfs: the names of its features, as the tools that make them take them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    pub options: String,
    /// Of Btrfs: the subvolume that was mounted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subvolume: String,
}

/// How the system boots.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Boot {
    /// Folders of `/boot/grub`: `i386-pc`, `x86_64-efi`.
    pub grub: Vec<String>,
    /// Loaders on the EFI system partition, as paths in the tree.
    pub loaders: Vec<String>,
    /// Entries of the Boot Loader Specification, as paths in the tree.
    pub entries: Vec<String>,
}

impl Meta {
    /// # Errors
    /// When it is of a later format, or none.
    pub fn from_toml(text: &str) -> anyhow::Result<Self> {
        let meta: Self = toml::from_str(text).context("reading the metadata of the image")?;
        if meta.format != FORMAT {
            bail!(
                "the image has format {}, this Pitstop reads format {FORMAT}",
                meta.format
            );
        }
        Ok(meta)
    }

    /// # Errors
    /// When a number does not fit TOML's signed 64 bits.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        toml::to_string(self).context("writing the metadata of the image")
    }
}
