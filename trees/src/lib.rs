//! Systems as files: the image of a tree, capture and extraction.
//!
//! An image is one plain `tar.gz` of independent gzip members, and an index at its end: `docs/tree-format.md` has it byte by
//! byte. This crate is given folders and an `ImageSource`; it knows nothing of jobs and shares.

mod acl;
mod beneath;
mod capture;
mod cat;
mod diff;
pub mod entry;
mod extract;
mod facts;
mod flags;
mod foreign;
mod header;
mod image;
pub mod index;
mod inode;
mod meta;
mod pack;
pub mod path;
mod pax;
mod resolve;
mod verify;
mod wire;

pub use capture::{CaptureOptions, Excludes, capture};
pub use cat::cat;
pub use diff::{Aspect, Difference, compare, diff};
pub use extract::extract;
pub use foreign::{From, import};
pub use image::TreeImage;
pub use meta::{Boot, Consistency, Filesystem, LeftOut, Meta, OsRelease};
pub use pack::Packing;
pub use verify::verify;
