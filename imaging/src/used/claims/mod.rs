//! Who claims the bytes of a volume: every signature on it at once, each with its place.
//!
//! A block is left out of an image only where its owner is known and is the only one. Old signatures survive below what
//! uses a volume today, so one that is found says little; what counts is that there is no other. All that has to know
//! who owns something asks here: the survey, growing, shrinking, restores beside kept partitions, the mending of a GPT,
//! and the search for old signatures past the end of an image. The signatures themselves stand once, in [`signatures`].

mod beside;
mod checks;
mod edges;
mod extent;
mod nested;
mod old_signature;
mod signatures;
mod types;

use super::{ext, fat};
use crate::source::ReadAt;
use crate::table::TableKind;
use edges::Edges;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;

pub use beside::{Beside, beside, owner_of_disk};
pub(in crate::used) use extent::end;
pub use extent::owned;
pub use old_signature::find as find_old_signature;
pub(in crate::used) use signatures::VERITY;
pub use types::{Says, hashes_of_others};

/// A filesystem, or swap, whose map can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filesystem {
    /// ext2, ext3 and ext4.
    Ext,
    Fat,
    Swap,
    Xfs,
    Btrfs,
    Ntfs,
    Exfat,
    F2fs,
}

impl Filesystem {
    /// The one that a `.toml` calls so.
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "ext2" | "ext3" | "ext4" => Self::Ext,
            "vfat" => Self::Fat,
            "swap" => Self::Swap,
            "xfs" => Self::Xfs,
            "btrfs" => Self::Btrfs,
            "ntfs" => Self::Ntfs,
            "exfat" => Self::Exfat,
            "f2fs" => Self::F2fs,
            _ => return None,
        })
    }
}

/// What kind of thing makes a claim: what is decided about it depends on this alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Its map can be read.
    Filesystem(Filesystem),
    /// Its volumes can be looked into.
    Lvm2,
    /// A member of a Linux RAID.
    Md,
    /// RAID of a controller or a firmware, which has whole disks for members.
    Firmware,
    /// A table of partitions within.
    Table,
    /// ISO 9660 or UDF, which leave room for tables beside them on purpose.
    Disc,
    /// Hashes of blocks that may lie elsewhere.
    Verity,
    /// BitLocker, which may look like a FAT.
    BitLocker,
    /// Known by its signature alone.
    Opaque,
}

/// One claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub owner: Owner,
    /// As people, `blkid` or the kernel call it.
    pub name: &'static str,
    /// Where its signature begins in the volume, in bytes, as `wipefs` counts.
    pub at: u64,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (its signature is at {:#x})", self.name, self.at)
    }
}

impl Claim {
    /// Whether its map can be read.
    pub fn is_readable(&self) -> bool {
        matches!(self.owner, Owner::Filesystem(_) | Owner::Lvm2)
    }

    /// What clears the signature, where it is only a leftover.
    fn clear(&self, device: &str) -> String {
        match (self.owner, self.name) {
            // Each has more than one place: all of a kind at once.
            (Owner::Filesystem(Filesystem::Fat), _) => {
                format!("wipefs --all --types vfat {device}")
            }
            (_, signatures::ZFS) => format!("wipefs --all --types zfs_member {device}"),
            _ => format!("wipefs --offset {:#x} {device}", self.at),
        }
    }
}

/// A claim where more than one was found, as an image's `.toml` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Contested {
    /// Who claims the blocks.
    pub who: String,
    /// Where its signature begins, in bytes from the start of the partition or the disk; a partition's type has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
    /// What clears the signature, if it is only a leftover. Empty where that is not for `wipefs` to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub clear: String,
}

impl Contested {
    /// What has no signature of its own: the type of a partition, hashes in another one.
    pub(super) fn by(who: impl Into<String>) -> Self {
        Self {
            who: who.into(),
            ..Self::default()
        }
    }
}

impl From<&Claim> for Contested {
    fn from(claim: &Claim) -> Self {
        Self {
            who: claim.name.into(),
            at: Some(claim.at),
            clear: claim.clear("DEVICE"),
        }
    }
}

impl fmt::Display for Contested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.who)?;
        if let Some(at) = self.at {
            write!(f, " at {at:#x}")?;
        }
        match self.clear.as_str() {
            "" => Ok(()),
            clear => write!(f, ", cleared by: {clear}"),
        }
    }
}

/// What the volume is, which decides whether a table of partitions on it is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Disk,
    /// A partition or a logical volume.
    Within,
}

/// All claims on a volume.
#[derive(Debug, Default)]
pub struct Claims {
    /// Each owner once, with the first of its places; members of a Linux RAID with each of theirs.
    pub list: Vec<Claim>,
    /// Why the places of signatures could not all be read.
    pub unread: Option<io::Error>,
}

impl Claims {
    /// Looks at all places of signatures on `volume`: its beginning and its end are read once.
    pub fn of(volume: &dyn ReadAt, level: Level) -> Self {
        let mut edges = Edges::new(volume);
        let mut list = signatures::all(&mut edges);
        if fat::probe(&edges).is_some() {
            list.push(Claim {
                owner: Owner::Filesystem(Filesystem::Fat),
                name: "vfat",
                at: 0,
            });
        }
        if level == Level::Within {
            list.extend(nested::tables(&mut edges));
        }
        // BitLocker To Go has the boot sector of a FAT, for the program in front of what is encrypted.
        if list.iter().any(|claim| claim.owner == Owner::BitLocker) {
            list.retain(|claim| claim.owner != Owner::Filesystem(Filesystem::Fat));
        }
        for claim in &mut list {
            if claim.owner == Owner::Filesystem(Filesystem::Ext) {
                claim.name = ext::name(&edges);
            }
        }
        // What has no map first: it is as a rule what lies on top.
        list.sort_by_key(Claim::is_readable);
        Self {
            list,
            unread: edges.into_failure(),
        }
    }

    /// The only owner, if there is one and all places could be read.
    pub fn only(&self) -> Option<&Claim> {
        let first = self.list.first()?;
        let same = |claim: &Claim| claim.owner == first.owner && claim.name == first.name;
        (self.unread.is_none() && self.list.iter().all(same)).then_some(first)
    }

    /// Names of all, each once: `ext4 or swap`.
    pub fn names(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for claim in &self.list {
            if !names.contains(&claim.name) {
                names.push(claim.name);
            }
        }
        names.join(" or ")
    }

    pub fn contested(&self) -> Vec<Contested> {
        self.list.iter().map(Contested::from).collect()
    }
}

/// `a GPT`, as a sentence needs it.
fn with_article(kind: TableKind) -> &'static str {
    match kind {
        TableKind::Gpt => "a GPT",
        TableKind::Mbr => "an MBR",
        TableKind::None => "no table",
    }
}

#[cfg(test)]
mod tests;
