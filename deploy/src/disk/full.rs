//! What is said where a filesystem of the new system has become full: which one, what it is on, and what the tree takes there.

use super::mounts::Mounts;
use super::room::load;
use super::volumes::Volumes;
use pitstop_imaging::units;
use pitstop_trees::NoRoom;
use pitstop_trees::index::Index;
use rustix::fs::{StatVfs, statvfs};
use rustix::io::Errno;
use std::io;
use std::path::Path;

/// Less than any file takes that a program could still write.
const SCRAP: u64 = 64 << 10;

/// Adds to `error` which filesystems have no room left, if any: a program that failed for it says nothing of it.
pub fn explain(
    error: anyhow::Error,
    mounts: &Mounts,
    volumes: &Volumes,
    index: &Index,
    disk: &Path,
) -> anyhow::Error {
    let told = error.chain().any(is_told);
    let (mut full, mut others) = (Vec::new(), Vec::new());
    for volume in &volumes.all {
        // A FAT is not mounted, and its subvolumes have one room.
        let first = volumes.all.iter().find(|it| it.index == volume.index);
        let is_first = first.is_some_and(|first| std::ptr::eq(first, volume));
        let filesystem = volumes.filesystem(volume);
        if filesystem == "vfat" || !is_first {
            continue;
        }
        let Ok(free) = statvfs(mounts.at(&volume.mount).as_path()) else {
            continue;
        };
        let room = units::bytes(bytes(&free));
        let has = if free.f_files > 0 {
            format!("{room} and {} inodes", free.f_ffree)
        } else {
            room
        };
        let on = volumes.shown(volume.index).unwrap_or_default();
        let takes = load(index, volumes, volume.index, free.f_frsize);
        // What was written in part may be away again.
        let is_it = is_full(&free) || told && is_nearly_full(&free);
        let lines = if is_it { &mut full } else { &mut others };
        lines.push(format!(
            "{} ({filesystem} on {on}) has {has} free, and of the tree it takes {} in {} files",
            volume.mount,
            units::bytes(takes.bytes),
            takes.files
        ));
    }
    let error = around(error, disk);
    if !full.is_empty() {
        let full = full.join("; ");
        return error.context(format!("the new system has no room left: {full}"));
    }
    if told && !others.is_empty() {
        let others = others.join("; ");
        return error.context(format!("the new system has not room enough: {others}"));
    }
    error
}

/// Adds to `error` that the filesystem around a disk in a file is full, if it is: no write to the disk says so.
pub fn around(error: anyhow::Error, disk: &Path) -> anyhow::Error {
    let Some(free) = full_around(disk) else {
        return error;
    };
    error.context(format!(
        "the filesystem that {} is on has {} free",
        disk.display(),
        units::bytes(free)
    ))
}

fn is_told(cause: &(dyn std::error::Error + 'static)) -> bool {
    let full = |errno: Errno| matches!(errno, Errno::NOSPC | Errno::DQUOT);
    let io = cause.downcast_ref::<io::Error>();
    io.and_then(Errno::from_io_error).is_some_and(full)
        || cause.downcast_ref::<Errno>().is_some_and(|it| full(*it))
        || cause.is::<NoRoom>()
}

/// What everybody may write. ext has more free than anybody gets: of what it holds back root gets a part, and some blocks nobody.
fn bytes(free: &StatVfs) -> u64 {
    free.f_bavail.saturating_mul(free.f_frsize)
}

fn is_full(free: &StatVfs) -> bool {
    bytes(free) < SCRAP || (free.f_files > 0 && free.f_ffree == 0)
}

fn is_nearly_full(free: &StatVfs) -> bool {
    free.f_bfree < free.f_blocks / 16
}

/// What is free on the filesystem that a disk in a file is on, if it is full.
fn full_around(disk: &Path) -> Option<u64> {
    let is_device = super::mounts::is_device(disk).ok()?;
    let free = statvfs(disk).ok().filter(|_| !is_device)?;
    is_full(&free).then(|| bytes(&free))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As root left it that wrote until there was no room: with blocks that are free, and that ext4 gives nobody.
    #[test]
    fn an_ext_is_full_when_nobody_gets_what_is_free() {
        let mut found = statvfs("/").unwrap();
        (
            found.f_frsize,
            found.f_blocks,
            found.f_bfree,
            found.f_bavail,
        ) = (1024, 37095, 1322, 0);
        (found.f_files, found.f_ffree) = (11280, 11211);
        assert!(is_full(&found));
        found.f_bavail = 1000;
        assert!(!is_full(&found));
    }
}
