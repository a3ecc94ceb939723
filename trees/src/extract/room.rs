//! Whether a tree fits, before anything is written: each filesystem that is mounted in the target for itself.

use super::folder::Target;
use crate::entry::Kind;
use crate::image::TreeImage;
use anyhow::Context;
use pitstop_imaging::units;
use rustix::fs::{StatVfs, fstatvfs};
use std::os::fd::OwnedFd;

/// A tree is larger than what is free, with the numbers.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoRoom(String);

/// What goes onto one filesystem.
struct Share {
    name: String,
    free: StatVfs,
    bytes: u64,
    files: u64,
}

impl Share {
    fn of(name: String, folder: &OwnedFd) -> anyhow::Result<Self> {
        let free = fstatvfs(folder)
            .with_context(|| format!("asking how much is free on the filesystem of {name}"))?;
        Ok(Self {
            name,
            free,
            bytes: 0,
            files: 0,
        })
    }
}

/// Compares what the tree takes with what is free.
pub fn check(image: &TreeImage, target: &Target) -> anyhow::Result<()> {
    let mut root = Share::of(target.name.clone(), &target.root)?;
    let mut mounted = Vec::new();
    for (path, folder) in &target.mounts {
        mounted.push((path, Share::of(target.shown(path).to_string(), folder)?));
    }
    for (number, entry) in image.index.entries().enumerate() {
        // The innermost one: those in others stand behind them.
        let its = mounted
            .iter_mut()
            .rev()
            .find(|(path, _)| entry.path.is_within(path.as_bytes()));
        let share = its.map_or(&mut root, |(_, share)| share);
        share.bytes += image.index.blocks_of(number, share.free.f_frsize);
        share.files += u64::from(!matches!(entry.kind, Kind::HardLink(_)));
    }
    let mounted = mounted.iter().map(|(_, share)| share);
    [&root].into_iter().chain(mounted).try_for_each(fits)
}

/// A filesystem that has no fixed number of files tells none.
fn fits(share: &Share) -> anyhow::Result<()> {
    let (name, free) = (&share.name, &share.free);
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
