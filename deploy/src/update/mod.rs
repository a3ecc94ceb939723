//! A system that is there is brought up to date: what changed in the tree comes, what the machine has of its own stays.
//!
//! Three are compared: the tree that the last deploy or update left a record of, the new tree, and the machine. All that is new is
//! staged beside what it replaces, proven and on the disk. Then a journal of what is left to do is written; from there on the
//! update is decided, and a power cut ends it no more: [`roll_forward`] finishes it.

pub mod adapted;
mod commit;
mod grub;
mod journal;
mod local;
mod look;
mod plan;
pub mod record;
mod room;
mod rows;
mod side;
pub mod snapshot;
mod stage;
mod table;
mod text;
mod volumes;
mod work;
mod workshop;

pub use commit::{RolledForward, is_cut_off, roll_forward};
pub use plan::{Line, UpdatePlan, plan};
pub use record::Record;
pub use table::{Act, Why};
pub use text::Json;

use crate::root::Root;
use crate::wishes::{Changes, Check, Strangers};
use pitstop_trees::TreeImage;
use std::time::Duration;

/// What is brought up to date, and how.
pub struct Update<'a> {
    pub image: &'a TreeImage<'a>,
    pub root: &'a Root,
    pub changes: Changes,
    pub strangers: Strangers,
    pub check: Check,
    /// Patterns of what is the machine's own, beside what is so on every machine.
    pub local: Vec<String>,
    /// Patterns of what the update leaves alone.
    pub exclude: Vec<String>,
    /// Cores to use, 0 for all.
    pub threads: usize,
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Updated {
    /// Bytes of the image that were read, its index left out.
    pub travelled: u64,
    /// Whether kernels, initramfs or boot loaders are among what changed.
    pub boot_changed: bool,
    /// How long renaming took, and all that follows the decision.
    pub took: Duration,
}
