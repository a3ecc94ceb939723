//! Whether there is room for what is staged, before anything is written.

use super::work::Work;
use anyhow::{Context, bail};
use pitstop_imaging::units;
use pitstop_trees::index::Index;
use pitstop_trees::machine::Machine;
use pitstop_trees::path::TreePath;
use rustix::fs::{OFlags, StatVfsMountFlags, fstatvfs};
use std::collections::BTreeMap;

/// What a folder or a small file takes at most beside its data: a block.
const BLOCK: u64 = 4096;

#[derive(Debug, Clone, Copy, Default)]
struct Need {
    bytes: u64,
    files: u64,
}

/// All that is new is staged beside what it replaces, on each filesystem.
///
/// # Errors
/// When one has no room for it.
pub fn check(machine: &Machine, index: &Index, work: &Work, record: u64) -> anyhow::Result<()> {
    let mut needs: BTreeMap<usize, Need> = BTreeMap::new();
    let mut add = |top: &TreePath, bytes: u64| {
        let need = needs.entry(machine.mount_of(top)).or_default();
        need.bytes += bytes;
        need.files += 1;
    };
    let tops = &work.journal.volumes;
    for (entry, spot) in &work.spots {
        add(&tops[spot.folder], index.blocks_of(*entry, BLOCK));
    }
    for folder in &work.folders {
        add(&tops[folder.volume], BLOCK);
    }
    let steps = work.journal.to_text().len() as u64;
    add(&TreePath::root(), 2 * BLOCK + steps + record);
    let points: Vec<_> = machine.points().cloned().collect();
    for (mount, need) in needs {
        let point = &points[mount];
        let name = machine.shown(point);
        let opened = machine.open_path(point, OFlags::RDONLY | OFlags::DIRECTORY);
        let free = opened
            .and_then(|folder| Ok(fstatvfs(&folder)?))
            .with_context(|| format!("asking how much is free on {name}"))?;
        let room = free.f_bfree.saturating_mul(free.f_frsize);
        if need.bytes > room {
            bail!(
                "the update needs {} beside what is there, and {name} has {} free",
                units::bytes(need.bytes),
                units::bytes(room)
            );
        }
        if free.f_files > 0 && need.files > free.f_ffree {
            bail!(
                "the update needs {} more files beside those that are there, and {name} has room for {} (its inodes; see \
                 df -i)",
                need.files,
                free.f_ffree
            );
        }
    }
    Ok(())
}

/// Whether all that is there can be written to. A plan needs none of that.
///
/// # Errors
/// Names a filesystem that is mounted read-only.
pub fn check_writable(machine: &Machine) -> anyhow::Result<()> {
    for point in machine.points() {
        let name = machine.shown(point);
        let opened = machine.open_path(point, OFlags::RDONLY | OFlags::DIRECTORY);
        let found = opened
            .and_then(|folder| Ok(fstatvfs(&folder)?))
            .with_context(|| format!("looking at {name}"))?;
        if found.f_flag.contains(StatVfsMountFlags::RDONLY) {
            bail!("{name} is mounted read-only: mount it for writing (mount -o remount,rw {name})");
        }
    }
    Ok(())
}
