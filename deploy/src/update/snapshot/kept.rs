//! The system that one can go back to: the root as it was before the last update.

use super::nested::renew_nested;
use super::{BEFORE, OLD, Way, in_place};
use anyhow::Context;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::units;
use pitstop_trees::btrfs::{self, Access, Shelf, Subvolume};
use rustix::fs::fstatvfs;
use std::io;
use std::os::fd::OwnedFd;

/// The way of an update in place: how the root is now is kept, if there can be a snapshot of it.
///
/// # Errors
/// When it cannot be made.
pub(super) fn keep(
    store: Shelf,
    current: &OwnedFd,
    root: Subvolume,
    reporter: &dyn Reporter,
) -> anyhow::Result<Way> {
    match hold(&store, current) {
        // Linux makes none while a file in it is swapped to.
        Err(error) if is(&error, io::ErrorKind::ExecutableFileBusy) => {
            reporter.warn(in_place("a file in it is swapped to"));
            store.close();
            Ok(Way::Plain)
        }
        held => held.map(|()| Way::Kept { store, root }),
    }
}

fn hold(store: &Shelf, root: &OwnedFd) -> anyhow::Result<()> {
    let made = store.add(root, BEFORE, Access::Write)?;
    let renewed = renew_nested(root, &made);
    drop(made);
    if let Err(error) = renewed {
        store.delete(BEFORE)?;
        return Err(error).context("making the subvolumes within the root anew");
    }
    Ok(())
}

fn is(error: &anyhow::Error, kind: io::ErrorKind) -> bool {
    let cause = error.downcast_ref::<io::Error>();
    cause.is_some_and(|cause| cause.kind() == kind)
}

/// The `root` as it was before an update in place takes the place of an older one, or goes.
///
/// # Errors
/// When it cannot be done.
pub fn keep_before(
    store: &Shelf,
    root: Subvolume,
    keep: bool,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    if store.get(BEFORE)?.is_none() {
        return Ok(());
    }
    if !keep {
        return store.delete(BEFORE);
    }
    make_room(store, root, reporter)?;
    store.rename(BEFORE, OLD)
}

/// The one that was kept of `root` goes, so that another one can be. What a system runs from still, what is another system's, or has
/// subvolumes with files within it, nobody told us to remove: it gets another name.
///
/// # Errors
/// When it cannot be done.
pub fn make_room(store: &Shelf, root: Subvolume, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let Some(opened) = store.get(OLD)? else {
        return Ok(());
    };
    let old = btrfs::about(&opened).with_context(|| format!("looking at {}", store.shown(OLD)))?;
    drop(opened);
    let why = if store.is_mounted(OLD)? {
        "it is mounted"
    } else if old.is_kin(&root) {
        match store.delete(OLD) {
            Err(error) if is(&error, io::ErrorKind::DirectoryNotEmpty) => {
                "subvolumes with files lie within it"
            }
            deleted => return deleted,
        }
    } else {
        "it was not made of this system"
    };
    let name = format!("{OLD}-{}", old.id);
    store.rename(OLD, &name)?;
    reporter.warn(format!(
        "what was kept before is {} now, since {why}: nothing of Pitstop removes it (btrfs subvolume delete)",
        store.shown(&name)
    ));
    Ok(())
}

/// Says where it is.
///
/// # Errors
/// When nobody tells how much is free.
pub fn tell_kept(store: &Shelf, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let free = fstatvfs(store.top()).context("asking how much is free")?;
    reporter.info(format!(
        "how it was is kept as {}, until the next update; {} are free",
        store.shown(OLD),
        units::bytes(free.f_bavail.saturating_mul(free.f_frsize))
    ));
    Ok(())
}
