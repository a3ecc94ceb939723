//! Trees onto machines: a disk is laid out, gets the files of a tree, and boots; a system that is there is brought up to date.
//!
//! This crate is given disks, folders and images; it knows nothing of jobs and shares.

mod boot;
pub mod chroot;
mod devices;
pub mod disk;
mod files;
pub mod hooks;
pub mod identity;
pub mod initramfs;
mod inside;
pub mod new_ids;
pub mod overrides;
pub mod passphrase;
pub mod root;
pub mod update;

pub use files::remove_in;
pub use pitstop_imaging::wishes;

#[cfg(test)]
mod test_tree;
