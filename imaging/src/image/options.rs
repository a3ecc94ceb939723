//! What a caller may choose about a capture or a restore.

use super::{Ahead, Levels, Origin};
use crate::efi::Loader;
use crate::table::PartitionSelector;
use serde::Deserialize;
use std::sync::Arc;

/// How hard a capture compresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As small as it gets in the time that the disk, the line or whatever else is slowest leaves.
    #[default]
    Auto,
    /// About 600 MB/s a core.
    Fast,
    /// A seventh smaller, four times slower.
    Small,
}

/// What a capture does about sectors that cannot be read after retries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadErrors {
    /// The capture fails at its end, and names them all.
    #[default]
    Fail,
    /// They read as zeros, and the image's metadata names them.
    Record,
}

/// Whether a restore compares the target with the image first and moves only what differs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delta {
    /// A sample of chunks decides.
    #[default]
    Auto,
    On,
    Off,
}

#[derive(Debug, Clone, Default)]
pub struct CaptureOptions {
    /// Keep every block, also those that no filesystem uses.
    pub exact: bool,
    pub level: Level,
    /// Cores to compress on; 0 is all of them.
    pub threads: usize,
    pub read_errors: ReadErrors,
    /// The disk's boot loaders, for the image's metadata.
    pub loaders: Vec<Loader>,
    /// Where the image comes from, for its metadata.
    pub origin: Option<Origin>,
    /// For an upload that can go on after its machine has died, with the level [`Auto`](Level::Auto).
    pub levels: Option<Arc<Levels>>,
}

/// What of the image goes to the target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    #[default]
    Whole,
    /// All but where these partitions of the target are, which survive.
    Keep(Vec<PartitionSelector>),
    /// These partitions of the image alone, each into the target's of the same selector.
    Only(Vec<PartitionSelector>),
}

#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    pub part: Part,
    pub delta: Delta,
    /// Read the target back afterwards, rewrite once what differs, fail if it still does.
    pub verify: bool,
    /// Give the copy's partition table new identifiers.
    pub new_ids: bool,
    /// On a larger disk, let the last partition and its filesystem have the room.
    pub grow: bool,
    /// Cores to inflate on; 0 is all of them.
    pub threads: usize,
    /// What was written before the image was whole.
    pub ahead: Option<Arc<Ahead>>,
}
