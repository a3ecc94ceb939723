//! Doing what a journal says: after the update, or after a power cut, from its first step on. Each step can be done again.

use super::grub::{self, Embed};
use super::journal::{Guard, Journal, Step};
use super::workshop::Workshop;
use crate::root::Root;
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_trees::JOURNAL;
use pitstop_trees::machine::{Access, Changer, Machine};
use pitstop_trees::path::TreePath;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The volumes that have folders to work in, in the one of the root.
pub const VOLUMES: &str = "volumes";

/// Of an update that failed after it was decided.
pub const DECIDED: &str = "the update is decided and not done: the next run of it, or the next boot into Pitstop, goes on from here";

/// What was found of an update that was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RolledForward {
    Nothing,
    /// It had changed nothing yet, and what it had staged is removed.
    Dropped,
    /// It is done now.
    Finished,
}

/// Finishes the update of the machine at `root` that was cut off after it was decided; of one that was cut off before, removes
/// what it left.
///
/// # Errors
/// When another update is at work there, a filesystem of it is not mounted, or something cannot be done.
pub fn roll_forward(root: &Root, reporter: &dyn Reporter) -> anyhow::Result<RolledForward> {
    roll_forward_in_place(root, Embed::Now, reporter)
}

/// The same, with the core of GRUB now or by whoever asks.
pub(super) fn roll_forward_in_place(
    root: &Root,
    embed: Embed,
    reporter: &dyn Reporter,
) -> anyhow::Result<RolledForward> {
    let machine = Machine::open(root.path(), Access::Write, &[])?;
    let Some(first) = Workshop::open(&machine, &TreePath::root())? else {
        return Ok(RolledForward::Nothing);
    };
    first.lock()?;
    let Some(journal) = read(&first, JOURNAL)? else {
        let others = read(&first, VOLUMES)?.unwrap_or_default();
        drop_staged(&machine, first, &others)?;
        return Ok(RolledForward::Dropped);
    };
    // Its volumes may be mounted where this machine's fstab says nothing of them.
    let machine = Machine::open(root.path(), Access::Write, &journal.volumes)?;
    // Nothing can be renamed between two handles of one mount: all are of this one. The lock stays with the first.
    let workshops = open_all(&machine, &journal)?;
    reporter.warn(format!(
        "an update of {} was cut off after it was decided: it is finished now",
        root.path().display()
    ));
    run(&machine, &journal, workshops, embed, reporter).context(DECIDED)??;
    drop(first);
    Ok(RolledForward::Finished)
}

/// Whether an update has left something in the root, decided or not.
pub(super) fn is_at_work(root: &Root) -> anyhow::Result<bool> {
    let machine = Machine::open(root.path(), Access::Read, &[])?;
    Ok(Workshop::open(&machine, &TreePath::root())?.is_some())
}

/// Has an update that was decided be none: the root that it is of goes, and what it staged elsewhere with it.
pub(super) fn undecide(root: &Root) -> anyhow::Result<()> {
    let machine = Machine::open(root.path(), Access::Write, &[])?;
    let first = Workshop::open(&machine, &TreePath::root())?;
    withdraw(first.as_slice())
}

/// Whether an update of the machine at `root` was cut off after it was decided.
///
/// # Errors
/// When its folder cannot be read.
pub fn is_cut_off(root: &Root) -> anyhow::Result<bool> {
    let machine = Machine::open(root.path(), Access::Read, &[])?;
    match Workshop::open(&machine, &TreePath::root())? {
        Some(first) => Ok(first.look(JOURNAL)?.is_some()),
        None => Ok(false),
    }
}

fn read(first: &Workshop, name: &str) -> anyhow::Result<Option<Journal>> {
    let reading = || format!("reading {}", Path::new(first.name()).join(name).display());
    let how = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match openat(&first.folder, name, how, Mode::empty()) {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error).with_context(reading),
    };
    let mut text = String::new();
    File::from(opened)
        .read_to_string(&mut text)
        .with_context(reading)?;
    Journal::parse(&text).map(Some).with_context(reading)
}

fn drop_staged(machine: &Machine, first: Workshop, others: &Journal) -> anyhow::Result<()> {
    for top in others.volumes.iter().skip(1) {
        // One that is not mounted now is cleared when it is used again.
        if let Ok(Some(other)) = Workshop::open(machine, top) {
            other.remove()?;
        }
    }
    first.remove()
}

fn open_all(machine: &Machine, journal: &Journal) -> anyhow::Result<Vec<Workshop>> {
    let mut workshops = Vec::new();
    for top in &journal.volumes {
        let opened = Workshop::open(machine, top);
        let Some(workshop) = opened.ok().flatten() else {
            bail!(
                "an update of {} was cut off after it was decided, and cannot be finished: {} is not mounted, or not what it \
                 was; mount it and try again",
                machine.name(),
                machine.shown(top)
            );
        };
        workshops.push(workshop);
    }
    Ok(workshops)
}

/// Does all steps, and writes them to the disks; then the journal and all that was staged goes. Returns what went wrong of what
/// nobody tries again: a filesystem could not keep an attribute, or a disk the core of GRUB.
///
/// # Errors
/// When a step cannot be done: the journal stays, and the next run begins anew.
pub fn run(
    machine: &Machine,
    journal: &Journal,
    workshops: Vec<Workshop>,
    embed: Embed,
    reporter: &dyn Reporter,
) -> anyhow::Result<anyhow::Result<()>> {
    let (losses, booting) = steps(machine, journal, &workshops, embed, reporter)?;
    let removed = workshops.into_iter().rev().try_for_each(Workshop::remove);
    let booting = booting.context(
        "the files are up to date, but GRUB's core is not: run the system's own grub-install before it boots by BIOS",
    );
    Ok(removed.and(losses).and(booting))
}

/// What was lost without a step that failed: attributes, and GRUB's core.
type Lost = (anyhow::Result<()>, anyhow::Result<()>);

fn steps(
    machine: &Machine,
    journal: &Journal,
    workshops: &[Workshop],
    embed: Embed,
    reporter: &dyn Reporter,
) -> anyhow::Result<Lost> {
    let mut changer = Changer::new(machine);
    let mut booting = Ok(());
    // What somebody changed meanwhile is left as it is: nothing more is done to it.
    let mut kept: HashSet<&TreePath> = HashSet::new();
    for step in &journal.steps {
        if kept.contains(step.path()) {
            continue;
        }
        if let Step::Grub(folder) = step {
            if embed == Embed::Later {
                continue;
            }
            // Nothing that is tried again would make room on a disk.
            booting = booting.and(grub::embed_from(machine, folder, reporter));
        } else if !do_step(&mut changer, step, workshops)? {
            kept.insert(step.path());
            reporter.warn(format!(
                "kept: {step}, since it changed while the update was at work"
            ));
        }
    }
    let losses = changer.finish(reporter);
    for workshop in workshops {
        workshop.flush()?;
    }
    withdraw(workshops)?;
    Ok((losses, booting))
}

/// Takes the journal away: what is staged is of no use to anybody then.
///
/// # Errors
/// When it cannot be removed.
pub fn withdraw(workshops: &[Workshop]) -> anyhow::Result<()> {
    let Some(first) = workshops.first() else {
        return Ok(());
    };
    let removing = || format!("removing the journal in {}", first.name());
    match unlinkat(&first.folder, JOURNAL, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error).with_context(removing),
    }
    rustix::fs::fsync(&first.folder).with_context(removing)
}

/// Whether it is done: not where somebody changed something meanwhile.
fn do_step(changer: &mut Changer, step: &Step, workshops: &[Workshop]) -> anyhow::Result<bool> {
    let machine = changer.machine();
    let shown = || machine.shown(step.path());
    match step {
        Step::Soften(path) => {
            absent(changer.soften(path))
                .with_context(|| format!("taking flags from {}", shown()))?;
        }
        Step::Remove(path, guard) => {
            let removed = remove(changer, path, *guard);
            return removed.with_context(|| format!("removing {}", shown()));
        }
        Step::RemoveFolder(path) => {
            let removed = remove_folder(changer, path);
            return removed.with_context(|| format!("removing the folder {}", shown()));
        }
        Step::Place { volume, name, .. } | Step::Replace { volume, name, .. } => {
            let workshop = workshops.get(*volume);
            let workshop = workshop.context("the journal names no such volume")?;
            return place(changer, workshop, name, step)
                .with_context(|| format!("putting {} in its place", shown()));
        }
        Step::Set(path, kind, wanted) => {
            if is_there(changer, path)? {
                softened(changer, path, |changer| changer.set(path, kind, wanted))?;
            }
        }
        Step::Flags(path, flags) => {
            if is_there(changer, path)? {
                changer.flags(path, *flags)?;
            }
        }
        Step::Grub(_) => {}
        Step::Time(path, time) => {
            softened(changer, path, |changer| {
                let done = absent(changer.time(path, *time));
                done.with_context(|| format!("setting the time of {}", shown()))
            })?;
        }
    }
    Ok(true)
}

/// Does what a flag may hinder: that of the new tree, where a power cut came after it was set. It is set again later on.
fn softened(
    changer: &mut Changer,
    path: &TreePath,
    mut act: impl FnMut(&mut Changer) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let done = act(changer);
    let hinders = |error: &anyhow::Error| {
        let errno = |cause: &(dyn std::error::Error + 'static)| {
            let io = || cause.downcast_ref().and_then(Errno::from_io_error);
            cause.downcast_ref::<Errno>().copied().or_else(io)
        };
        error.chain().any(|cause| errno(cause) == Some(Errno::PERM))
    };
    if !done.as_ref().is_err_and(hinders) {
        return done;
    }
    let machine = changer.machine();
    absent(changer.soften(path))
        .with_context(|| format!("taking flags from {}", machine.shown(path)))?;
    act(changer)
}

/// What is gone by now needs nothing more.
fn absent<T: Default>(done: io::Result<T>) -> io::Result<T> {
    match done {
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
            ) =>
        {
            Ok(T::default())
        }
        other => other,
    }
}

fn is_there(changer: &Changer, path: &TreePath) -> anyhow::Result<bool> {
    let opened = changer.machine().open_path(path, OFlags::PATH);
    absent(opened.map(|_| true))
        .with_context(|| format!("looking at {}", changer.machine().shown(path)))
}

/// What is at a path now; `None` where there is nothing.
fn look(changer: &mut Changer, path: &TreePath) -> io::Result<Option<Stat>> {
    let found = changer.folder(path).and_then(|folder| {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        Ok(statat(folder, path.name(), flags)?)
    });
    absent(found.map(Some))
}

fn is_same(found: &Stat, guard: Guard) -> bool {
    found.st_ino == guard.inode
        && u64::try_from(found.st_size).ok() == Some(guard.size)
        && found.st_mtime == guard.time.seconds
        && u32::try_from(found.st_mtime_nsec).ok() == Some(guard.time.nanos)
}

/// Removes what is still what it was: somebody may have made something else of it since.
fn remove(changer: &mut Changer, path: &TreePath, guard: Guard) -> io::Result<bool> {
    let Some(found) = look(changer, path)? else {
        return Ok(true);
    };
    // A power cut may have come after what takes its place.
    if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
        return Ok(true);
    }
    if !is_same(&found, guard) {
        return Ok(false);
    }
    unlinkat(changer.folder(path)?, path.name(), AtFlags::empty())?;
    Ok(true)
}

/// One that got something meanwhile stays.
fn remove_folder(changer: &mut Changer, path: &TreePath) -> io::Result<bool> {
    let found = look(changer, path)?;
    let is_folder = |found: &Stat| FileType::from_raw_mode(found.st_mode) == FileType::Directory;
    if !found.as_ref().is_some_and(is_folder) {
        return Ok(true);
    }
    match unlinkat(changer.folder(path)?, path.name(), AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn place(
    changer: &mut Changer,
    workshop: &Workshop,
    name: &str,
    step: &Step,
) -> anyhow::Result<bool> {
    // What is not there any more has its place already.
    let Some(staged) = workshop.look(name)? else {
        return Ok(true);
    };
    let path = step.path();
    let found = look(changer, path)?;
    if let (Some(found), Step::Place { before, .. }) = (&found, step) {
        // A second name of what is there already cannot be renamed onto it, and need not be.
        if (found.st_dev, found.st_ino) == (staged.st_dev, staged.st_ino) {
            return Ok(true);
        }
        if !before.is_some_and(|guard| is_same(found, guard)) {
            return Ok(false);
        }
    }
    match changer.folder(path) {
        Ok(folder) => renameat(&workshop.folder, name, folder, path.name())?,
        // Something else took the place of the folder.
        Err(error) => return Ok(absent(Err(error))?),
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
