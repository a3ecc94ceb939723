//! mkimage as a user runs it, on a small kernel tree, checked with cpio and zstd themselves.

mod bench;
#[path = "../common/mod.rs"]
mod common;
mod content;
mod doctor;
mod kernels;
mod refused;
mod signed;
