//! Systems as files: the image of a tree, capture and extraction.
//!
//! An image is one plain `tar.gz` of independent gzip members, and an index at its end: `docs/tree-format.md` has it byte by
//! byte. This crate is given folders and an `ImageSource`; it knows nothing of jobs and shares.

mod acl;
pub mod beneath;
pub mod btrfs;
mod capture;
mod cat;
mod diff;
pub mod entry;
mod extract;
mod facts;
pub mod flags;
mod foreign;
pub mod fstab;
mod glob;
mod header;
mod image;
pub mod index;
pub mod inode;
pub mod machine;
mod meta;
mod pack;
pub mod path;
mod pax;
mod pieces;
mod resolve;
mod verify;
mod wire;

pub use capture::{
    CaptureOptions, Excludes, Identity, JOURNAL, MountInfo, RECORD, Verdict, WORKSHOP, capture,
    mount_table,
};
pub use cat::{cat, follow};
pub use diff::{Aspect, Difference, compare, diff};
pub use extract::{
    Held, Here, NoRoom, Spot, extract, extract_fed, pass_nothing_on, weigh, write_some,
};
pub use foreign::{From, Item, import, read_tar, spool};
pub use image::TreeImage;
pub use meta::{Boot, Consistency, Filesystem, LeftOut, Meta, OsRelease};
pub use pack::Packing;
pub use pieces::Pieces;
pub use verify::verify;
