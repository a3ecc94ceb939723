//! Whether a tree fits, before anything is written: each filesystem that is mounted in the target for itself.

use super::folder::Target;
use crate::entry::Kind;
use crate::image::TreeImage;
use crate::path::TreePath;
use anyhow::Context;
use pitstop_imaging::units;
use rustix::fs::fstatvfs;
use std::os::fd::OwnedFd;

/// A tree is larger than what is free, with the numbers.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoRoom(String);

/// What goes onto one filesystem.
struct Share<'a> {
    name: String,
    folder: &'a OwnedFd,
    bytes: u64,
    files: u64,
}

/// Compares what the tree takes with what is free.
pub fn check(image: &TreeImage, target: &Target) -> anyhow::Result<()> {
    let share = |name, folder| Share {
        name,
        folder,
        bytes: 0,
        files: 0,
    };
    let mut root = share(target.name.clone(), &target.root);
    let mut mounted: Vec<(&TreePath, Share)> = target
        .mounts
        .iter()
        .map(|(path, folder)| (path, share(target.shown(path).to_string(), folder)))
        .collect();
    for (number, entry) in image.index.entries().enumerate() {
        // The innermost one: those in others stand behind them.
        let its = mounted
            .iter_mut()
            .rev()
            .find(|(path, _)| entry.path.is_within(path.as_bytes()));
        let share = its.map_or(&mut root, |(_, share)| share);
        share.bytes += image.index.blocks_of(number);
        share.files += u64::from(!matches!(entry.kind, Kind::HardLink(_)));
    }
    let mounted = mounted.iter().map(|(_, share)| share);
    [&root].into_iter().chain(mounted).try_for_each(fits)
}

/// A filesystem that has no fixed number of files tells none.
fn fits(share: &Share) -> anyhow::Result<()> {
    let name = &share.name;
    let free = fstatvfs(share.folder)
        .with_context(|| format!("asking how much is free on the filesystem of {name}"))?;
    let room = free.f_bfree.saturating_mul(free.f_frsize);
    if share.bytes > room {
        return Err(NoRoom(format!(
            "the tree takes {}, and the filesystem of {name} has {} free",
            units::bytes(share.bytes),
            units::bytes(room)
        ))
        .into());
    }
    if free.f_files > 0 && share.files > free.f_ffree {
        return Err(NoRoom(format!(
            "the tree has {} files, and the filesystem of {name} has room for {} (its inodes; see df -i)",
            share.files, free.f_ffree
        ))
        .into());
    }
    Ok(())
}
