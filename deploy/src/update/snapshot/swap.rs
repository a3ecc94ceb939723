//! One root takes the place of another: a single rename that exchanges them, and what belongs to it. Each step can be done again.

use super::super::commit::{is_at_work, roll_forward_in_place, undecide};
use super::super::grub::{self, Embed};
use super::judge::Site;
use super::kept::make_room;
use super::state::State;
use super::view::View;
use super::{NEW, OLD, names};
use crate::root::Root;
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_trees::beneath;
use pitstop_trees::btrfs::{self, Shelf};
use pitstop_trees::machine::{Access, Machine};
use pitstop_trees::path::TreePath;
use rustix::fs::{OFlags, RenameFlags, renameat_with};

/// Does what is left to do. `view` is of the root that takes the place, with the filesystems that belong to it.
///
/// # Errors
/// When a step cannot be done: the next run goes on from there.
pub fn go_on(
    store: &Shelf,
    state: &State,
    view: &View,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let swapped = swap(store, state).with_context(|| {
        format!(
            "{} is ready and not yet in the place of {}: the next run, or the next boot into Pitstop, goes on from here",
            store.shown(&state.beside),
            state.root
        )
    });
    swapped?;
    if state.beside == NEW {
        put_aside(store, state, reporter).with_context(|| {
            format!(
                "{} is the new system, and the old one is not put aside yet: the next run, or the next boot into Pitstop, goes on from here",
                state.root
            )
        })?;
    }
    let embedded = embed(state, view, reporter);
    State::remove(store)?;
    embedded.context(
        "the system is up to date, but GRUB's core is not: run the system's own grub-install before it boots by BIOS",
    )
}

fn swap(store: &Shelf, state: &State) -> anyhow::Result<()> {
    let (above, name) = btrfs::split(state.root.as_bytes());
    let how = OFlags::RDONLY | OFlags::DIRECTORY;
    let above = beneath::open(store.top(), above, how).context("opening the folder of the root")?;
    let here = btrfs::open(&above, name).and_then(btrfs::about);
    let here = here.context("looking at the root")?.id;
    if here == state.old {
        let beside = state.beside.as_bytes();
        renameat_with(store.folder(), beside, &above, name, RenameFlags::EXCHANGE)
            .context("exchanging the two")?;
    } else if here != state.new {
        bail!(
            "somebody else has changed what the root is: it is subvolume {here}, and was {}",
            state.old
        );
    }
    if state.default {
        let new = btrfs::open(&above, name).context("opening the new root")?;
        btrfs::make_default(&new).context("making it the default subvolume")?;
    }
    rustix::fs::syncfs(store.top()).context("writing it to the disk")
}

/// The one that was the root is the one to go back to; an older one goes.
fn put_aside(store: &Shelf, state: &State, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let Some(was) = store.get(NEW)? else {
        return Ok(());
    };
    let was = btrfs::about(was).with_context(|| format!("looking at {}", store.shown(NEW)))?;
    if was.id != state.old {
        bail!("{} is none that this update made", store.shown(NEW));
    }
    make_room(store, was, reporter)?;
    store.rename(NEW, OLD)
}

fn embed(state: &State, view: &View, reporter: &dyn Reporter) -> anyhow::Result<()> {
    if state.grub.is_empty() {
        return Ok(());
    }
    let machine = Machine::open(view.path(), Access::Read, &[])?;
    for folder in &state.grub {
        grub::embed_from(&machine, &TreePath::parse(folder.as_bytes())?, reporter)?;
    }
    Ok(())
}

/// Finishes what was cut off after it was decided, and removes what was cut off before. `machine` is the mounted one.
///
/// # Errors
/// When something cannot be done, or the one that was cut off is another root's.
pub fn recover(
    store: &Shelf,
    site: &Site,
    machine: &Machine,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let Some(state) = State::read(store)? else {
        if store.get(NEW)?.is_some() {
            drop_new(store, site, machine, reporter)?;
        }
        return State::remove(store);
    };
    if state.root != site.path {
        bail!(
            "an update of the subvolume {} was cut off after it was decided: finish that one first",
            state.root
        );
    }
    let current = btrfs::about(site.current(store)?).context("looking at the root")?;
    let is_done = current.id == state.new;
    let what = if state.beside == NEW {
        "an update"
    } else {
        "a rollback"
    };
    // Whoever wrote to the old root since would lose it.
    if !is_done && current.changed != state.changed {
        reporter.warn(format!(
            "{what} of {} was cut off after it was decided, and something was written there since: it is dropped",
            machine.name()
        ));
        // Cut off right here before, it is gone already.
        if state.beside == NEW && store.get(NEW)?.is_some() {
            drop_new(store, site, machine, reporter)?;
        }
        return State::remove(store);
    }
    reporter.warn(format!(
        "{what} of {} was cut off after it was decided: it is finished now",
        machine.name()
    ));
    let view = if is_done {
        View::of_root(site, machine)?
    } else {
        View::new(site, &state.beside, machine)?
    };
    if !is_done {
        let root = Root::new(view.path().to_owned());
        roll_forward_in_place(&root, Embed::Later, reporter)?;
        if state.beside == NEW {
            names::correct(&root, site)?;
        }
        view.flush()?;
    }
    go_on(store, &state, &view, reporter)?;
    view.close()
}

/// Removes a snapshot in which an update was cut off, and what that has staged on other filesystems.
fn drop_new(
    store: &Shelf,
    site: &Site,
    machine: &Machine,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let view = View::new(site, NEW, machine)?;
    let root = Root::new(view.path().to_owned());
    if is_at_work(&root)? {
        undecide(&root)?;
        roll_forward_in_place(&root, Embed::Later, reporter)?;
    }
    view.close()?;
    store.delete(NEW)
}
