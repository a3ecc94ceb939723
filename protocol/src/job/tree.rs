//! The options of actions about trees, checked.

use crate::tree::TreeName;
use pitstop_age::Recipients;
use pitstop_imaging::image::Level;
use pitstop_imaging::wishes::{BootWish, Changes, Check, Identity, Initrd, Strangers, Writable};

/// Of `capture`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureOptions {
    pub name: String,
    /// The time where none is given.
    pub version: Option<String>,
    pub level: Level,
    pub exclude: Vec<String>,
    /// A file in the image folder, encrypted by age, that has the passphrase of what the system is on.
    pub luks_key: Option<String>,
    /// [`Identity::New`] leaves out what is one machine's alone.
    pub identity: Identity,
    /// Who can read the image; everybody, where nobody is named.
    pub recipients: Option<Recipients>,
}

/// Of `deploy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployOptions {
    pub tree: TreeName,
    /// A file in the image folder; the tree's own layout where none is given.
    pub layout: Option<String>,
    /// A file in the image folder, encrypted by age, that has the passphrase of what the layout encrypts.
    pub luks_key: Option<String>,
    pub new_ids: bool,
    pub identity: Identity,
    /// Filled in; what the network says where none is given.
    pub hostname: Option<String>,
    /// Folders on the share, the later one winning.
    pub overrides: Vec<String>,
    /// Files on the share, in their order.
    pub hooks: Vec<String>,
    /// A file on the share, encrypted by age, for the hooks alone.
    pub secrets: Option<String>,
    pub boot: BootWish,
    pub initrd: Initrd,
}

/// Of `update`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateOptions {
    pub tree: TreeName,
    pub changes: Changes,
    pub strangers: Strangers,
    pub check: Check,
    pub local: Vec<String>,
    pub exclude: Vec<String>,
    pub overrides: Vec<String>,
    pub hooks: Vec<String>,
    /// A file on the share, encrypted by age, for the hooks alone.
    pub secrets: Option<String>,
    pub initrd: Initrd,
}

/// Of `run`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOptions {
    pub tree: TreeName,
    pub writable: Writable,
    pub identity: Identity,
    /// Filled in; what the network says where none is given.
    pub hostname: Option<String>,
    pub overrides: Vec<String>,
}

/// What an action puts on a machine, by its names on the share.
#[derive(Debug, Clone, Copy)]
pub struct TreeParts<'a> {
    pub tree: &'a TreeName,
    /// A file in the image folder.
    pub layout: Option<&'a str>,
    /// As well.
    pub luks_key: Option<&'a str>,
    pub overrides: &'a [String],
    pub hooks: &'a [String],
    pub secrets: Option<&'a str>,
}
