//! Updates of a system whose root is a subvolume of Btrfs: done in a snapshot of it, which takes its place when all is done. The
//! old one is kept, so that one can go back.
//!
//! A machine that runs goes on writing to its root, and would lose that at its next start: there the update is done in place, as on
//! other filesystems, and a snapshot of the root as it was is kept.

mod judge;
mod kept;
mod mount_folder;
mod names;
mod nested;
mod refresh;
mod rollback;
mod state;
mod swap;
mod view;

pub use refresh::refresh;
pub use rollback::{Restored, rollback};

use super::commit::{RolledForward, roll_forward_in_place};
use super::grub::Embed;
use super::journal::{Journal, Step};
use crate::root::Root;
use anyhow::{Context, bail};
use judge::{Judged, Site, judge};
use kept::{keep, keep_before, tell_kept};
use nested::renew_nested;
use pitstop_imaging::event::Reporter;
use pitstop_trees::MountInfo;
use pitstop_trees::btrfs::{self, Access as Writing, Shelf, Subvolume};
use pitstop_trees::machine::{Access, Machine};
use pitstop_trees::path::TreePath;
use state::State;
use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use view::View;

/// The snapshot that an update works in; the root as it was before the last one; that of an update in place that is under way.
const NEW: &str = "new";
const OLD: &str = "old";
const BEFORE: &str = "before";

/// Whether the machine runs from its root meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runs {
    Yes,
    No,
}

/// Where an update works.
pub struct Place {
    root: Root,
    way: Way,
    /// Whether all of the update is done.
    committed: Cell<bool>,
    /// The subvolume that is another one than the mounted one, since an earlier update was finished first.
    replaced: Option<String>,
}

enum Way {
    /// In the root itself, and nothing is kept.
    Plain,
    /// In the root itself; how it was is kept as a snapshot.
    Kept {
        store: Shelf,
        root: Subvolume,
    },
    Beside(Box<Beside>),
}

/// A snapshot that is to take the root's place.
struct Beside {
    store: Shelf,
    site: Site,
    view: View,
    /// The root, and the snapshot, as they were when it was made.
    old: Subvolume,
    new: Subvolume,
    /// Folders of GRUB whose core changes: the disk gets it once the root is swapped.
    grub: RefCell<Vec<String>>,
    /// Set when what is on other filesystems changes too: from then on it is finished, whatever happens.
    state: RefCell<Option<State>>,
}

/// Finishes what was cut off, and has `act` bring the system at `root` up to date in the place that it is given. Where that is a
/// snapshot, and something changed in it, it takes the root's place. Returns which subvolume then is another one, by its path.
///
/// # Errors
/// Those of `act`: the root is as it was then, unless what is on other filesystems had to be changed as well. When another update
/// is at work.
pub fn within<T>(
    root: &Root,
    runs: Runs,
    reporter: &dyn Reporter,
    act: impl FnOnce(&Place) -> anyhow::Result<T>,
) -> anyhow::Result<(T, Option<String>)> {
    let place = Place::open(root, runs, reporter)?;
    match act(&place) {
        Ok(done) => {
            let replaced = place.replaced.clone();
            Ok((done, place.finish(reporter)?.or(replaced)))
        }
        Err(error) => Err(place.give_up(error, reporter)),
    }
}

/// Whether an update in a snapshot was cut off after it was decided.
///
/// # Errors
/// When it cannot be told.
pub fn is_cut_off(root: &Root) -> anyhow::Result<bool> {
    let machine = Machine::open(root.path(), Access::Read, &[])?;
    let Some(judged) = judge(root, &machine)? else {
        return Ok(false);
    };
    let Some(store) = Shelf::look(&judged.site.source)? else {
        return Ok(false);
    };
    Ok(State::read(&store)?.is_some())
}

/// Says in one line what an update would do with the root; nothing where it is on another filesystem than Btrfs.
///
/// # Errors
/// When it cannot be told.
pub fn told(root: &Root, runs: Runs) -> anyhow::Result<Option<String>> {
    let machine = Machine::open(root.path(), Access::Read, &[])?;
    let judged = judge(root, &machine)?;
    Ok(judged.map(|Judged { why_not, .. }| match (why_not, runs) {
        (Some(why), _) => in_place(&why),
        (None, Runs::Yes) => {
            "it is updated in place; a snapshot of how it was is kept for tree rollback".into()
        }
        (None, Runs::No) => {
            "it is updated in a snapshot that takes its place; the old one is kept for tree rollback".into()
        }
    }))
}

fn in_place(why: &str) -> String {
    format!("it is updated in place, and there is no way back: {why}")
}

impl Place {
    fn open(root: &Root, runs: Runs, reporter: &dyn Reporter) -> anyhow::Result<Self> {
        mount_folder::sweep(reporter);
        let rolled = roll_forward_in_place(root, Embed::Now, reporter)?;
        let machine = Machine::open(root.path(), Access::Read, &[])?;
        let Some(Judged { site, why_not }) = judge(root, &machine)? else {
            return Ok(Self::plain(root));
        };
        // Whoever mounted it so is told by the update itself.
        if machine
            .mounted(&TreePath::root())
            .is_some_and(MountInfo::is_read_only)
        {
            return Ok(Self::plain(root));
        }
        let store = match (Shelf::open(&site.source), &why_not) {
            (Ok(store), _) => store,
            // On one that cannot have snapshots none was begun.
            (Err(_), Some(why)) => {
                reporter.warn(in_place(why));
                return Ok(Self::plain(root));
            }
            (Err(error), None) => return Err(error),
        };
        swap::recover(&store, &site, &machine, reporter)?;
        let current = site.current(&store)?;
        let now = btrfs::about(&current).context("looking at the root")?;
        // It could not change its place either, which would show when all is done.
        if now.is_read_only {
            let name = machine.name();
            bail!(
                "the root is a subvolume that is set read-only: btrfs property set {name} ro false"
            );
        }
        keep_before(&store, now, rolled == RolledForward::Finished, reporter)?;
        let is_replaced = now.id != site.id;
        if is_replaced && (runs == Runs::Yes || why_not.is_some()) {
            bail!(
                "another system takes the place of this one: restart the machine, or mount that one, first"
            );
        }
        let replaced = is_replaced.then(|| site.path.clone());
        if let Some(why) = why_not {
            reporter.warn(in_place(&why));
            store.close();
            return Ok(Self::plain(root));
        }
        let way = match runs {
            Runs::Yes => keep(store, &current, now, reporter)?,
            Runs::No => {
                site.check_rests()?;
                Way::Beside(Box::new(Beside::new(store, site, &current, &machine)?))
            }
        };
        let root = match &way {
            Way::Beside(beside) => Root::new(beside.view.path().to_owned()),
            _ => Root::new(root.path().to_owned()),
        };
        Ok(Self {
            root,
            way,
            committed: Cell::new(false),
            replaced,
        })
    }

    fn plain(root: &Root) -> Self {
        Self {
            root: Root::new(root.path().to_owned()),
            way: Way::Plain,
            committed: Cell::new(false),
            replaced: None,
        }
    }

    /// The system that the update changes.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// When the disk gets a new core of GRUB: not before the modules that it reads are those of the root.
    pub(super) fn embed(&self) -> Embed {
        match self.way {
            Way::Beside(_) => Embed::Later,
            _ => Embed::Now,
        }
    }

    /// The update is decided, and its journal on the disk: from here on it changes the root, or other filesystems.
    pub(super) fn decide(
        &self,
        machine: &Machine,
        journal: &Journal,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<()> {
        let beside = match &self.way {
            Way::Plain => return Ok(()),
            // However this run ends from now on, the way back is there.
            Way::Kept { store, root } => return keep_before(store, *root, true, reporter),
            Way::Beside(beside) => beside,
        };
        let cores = journal.steps.iter().filter_map(|step| match step {
            Step::Grub(folder) => Some(text(folder)),
            _ => None,
        });
        *beside.grub.borrow_mut() = cores.collect();
        let elsewhere = |top: &TreePath| machine.mount_of(top) != 0;
        if journal.volumes.iter().any(elsewhere) {
            let state = beside.state()?;
            state.write(&beside.store)?;
            *beside.state.borrow_mut() = Some(state);
        }
        Ok(())
    }

    /// Whether nothing is left of the update when it fails now.
    pub(super) fn is_dropped_by_failure(&self) -> bool {
        matches!(&self.way, Way::Beside(beside) if beside.state.borrow().is_none())
    }

    /// All of the update is done: what follows can fail without a journal to finish it by.
    pub(super) fn committed(&self) {
        self.committed.set(true);
    }

    fn finish(self, reporter: &dyn Reporter) -> anyhow::Result<Option<String>> {
        match self.way {
            Way::Plain => Ok(None),
            // With nothing changed the way back stays as it is.
            Way::Kept { store, root } => {
                keep_before(&store, root, self.committed.get(), reporter)?;
                if self.committed.get() {
                    tell_kept(&store, reporter)?;
                }
                Ok(None)
            }
            Way::Beside(beside) => beside.finish(reporter),
        }
    }

    fn give_up(self, error: anyhow::Error, reporter: &dyn Reporter) -> anyhow::Error {
        let (dropped, error) = match self.way {
            // One that is cut off is finished by the next run, and keeps it then.
            Way::Kept { .. } if super::is_cut_off(&self.root).unwrap_or(true) => return error,
            Way::Kept { store, root } => {
                let keep = self.committed.get();
                (keep_before(&store, root, keep, reporter), error)
            }
            Way::Beside(beside) if beside.state.borrow().is_none() => (
                beside.leave(),
                error.context(
                    "the root is as it was: the update was done in a snapshot, which is removed",
                ),
            ),
            // What is on other filesystems is new already, and is of no use to the old root.
            Way::Beside(beside) if self.committed.get() => (
                beside.finish(reporter).map(drop),
                error.context("the files are up to date, and what follows them failed"),
            ),
            Way::Plain | Way::Beside(_) => return error,
        };
        if let Err(error) = dropped {
            reporter.warn(format!("{error:#}"));
        }
        error
    }
}

fn text(path: &TreePath) -> String {
    String::from_utf8_lossy(path.as_bytes()).into_owned()
}

impl Beside {
    fn new(store: Shelf, site: Site, current: &OwnedFd, machine: &Machine) -> anyhow::Result<Self> {
        let made = store.add(current, NEW, Writing::Write)?;
        let prepared = prepare(current, &made, &site, machine);
        let (old, new, view) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                store.delete(NEW)?;
                return Err(error);
            }
        };
        Ok(Self {
            store,
            site,
            view,
            old,
            new,
            grub: RefCell::default(),
            state: RefCell::default(),
        })
    }

    fn state(&self) -> anyhow::Result<State> {
        Ok(State {
            root: self.site.path.clone(),
            beside: NEW.into(),
            old: self.old.id,
            new: self.new.id,
            changed: self.old.changed,
            default: self.site.is_default(self.old.id)?,
            grub: self.grub.borrow().clone(),
            ..State::default()
        })
    }

    /// Swaps it in, if it is not as it was.
    fn finish(self, reporter: &dyn Reporter) -> anyhow::Result<Option<String>> {
        names::correct(&Root::new(self.view.path().to_owned()), &self.site)?;
        self.view.flush()?;
        let made = self.store.get(NEW)?.context("the snapshot is gone")?;
        let decided = self.state.borrow().is_some();
        if !decided && btrfs::about(&made)?.changed == self.new.changed {
            drop(made);
            self.leave()?;
            return Ok(None);
        }
        drop(made);
        let state = self.state()?;
        state.write(&self.store)?;
        swap::go_on(&self.store, &state, &self.view, reporter)?;
        tell_kept(&self.store, reporter)?;
        self.view.close()?;
        Ok(Some(self.site.path))
    }

    /// Removes the snapshot.
    fn leave(self) -> anyhow::Result<()> {
        let Self { view, store, .. } = self;
        view.close()?;
        // Of an update that could not be decided it may be there, and would name what is gone.
        State::remove(&store)?;
        store.delete(NEW)?;
        store.close();
        Ok(())
    }
}

/// What is known of the root and of a new snapshot of it, and that one mounted.
fn prepare(
    current: &OwnedFd,
    made: &OwnedFd,
    site: &Site,
    machine: &Machine,
) -> anyhow::Result<(Subvolume, Subvolume, View)> {
    renew_nested(current, made).context("making the subvolumes within the root anew")?;
    rustix::fs::syncfs(made).context("writing the snapshot to the disk")?;
    let old = btrfs::about(current).context("looking at the root")?;
    let new = btrfs::about(made).context("looking at the snapshot")?;
    Ok((old, new, View::new(site, NEW, machine)?))
}
