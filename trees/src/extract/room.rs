//! Whether a tree fits, before anything is written.

use super::folder::Target;
use crate::entry::Kind;
use crate::image::TreeImage;
use anyhow::{Context, bail};
use pitstop_imaging::units;
use rustix::fs::fstatvfs;

/// Compares what the tree takes with what is free. A filesystem that has no fixed number of files tells none.
pub fn check(image: &TreeImage, target: &Target) -> anyhow::Result<()> {
    let index = &image.index;
    let bytes: u64 = (0..index.placed().len())
        .map(|number| index.blocks_of(number))
        .sum();
    let links = index
        .entries()
        .filter(|entry| matches!(entry.kind, Kind::HardLink(_)));
    let files = (index.placed().len() - links.count()) as u64;
    let free = fstatvfs(&target.root).with_context(|| {
        format!(
            "asking how much is free on the filesystem of {}",
            target.name
        )
    })?;
    let room = free.f_bfree.saturating_mul(free.f_frsize);
    if bytes > room {
        bail!(
            "the tree takes {}, and the filesystem of {} has {} free",
            units::bytes(bytes),
            target.name,
            units::bytes(room)
        );
    }
    if free.f_files > 0 && files > free.f_ffree {
        bail!(
            "the tree has {files} files, and the filesystem of {} has room for {} (its inodes; see df -i)",
            target.name,
            free.f_ffree
        );
    }
    Ok(())
}
