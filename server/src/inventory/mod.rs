//! What machines are: taken in from their reports and from the share, searched, compared over time. With or without a server:
//! `pitstop inventory` works on the same files.

mod ask;
pub mod routes;
mod share;
mod sources;

pub use ask::NotKnown;
pub use routes::{routes, watch};
pub use sources::Sources;

use anyhow::Context;
use jiff::Timestamp;
use pitstop_inventory::{Index, IndexError, Known, RunRow, Store, Taken};
use pitstop_protocol::facts::Facts;
use pitstop_protocol::id::Id;
use share::Seen;
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The inventory below a root.
pub struct Inventory {
    store: Store,
    /// Opened when it is first wanted.
    index: Mutex<Option<Arc<Index>>>,
    /// Files of the share that were looked at.
    seen: Mutex<Seen>,
    /// Runs that have said something that matters since the index was filled.
    heard: Mutex<HashSet<Id>>,
    /// Something is known that the index has not.
    stale: AtomicBool,
    /// All runs that are there were put into the index once.
    complete: AtomicBool,
    /// One at a time fills the index.
    filling: Mutex<()>,
}

impl Inventory {
    /// Nothing need be there.
    pub fn below(root: &Path) -> Self {
        Self {
            store: Store::below(root),
            index: Mutex::default(),
            seen: Mutex::default(),
            heard: Mutex::default(),
            stale: AtomicBool::new(true),
            complete: AtomicBool::new(false),
            filling: Mutex::default(),
        }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Takes in what a machine says of itself.
    ///
    /// # Errors
    /// It cannot be kept.
    pub fn take(&self, facts: Facts) -> anyhow::Result<Taken> {
        let taken = self
            .store
            .take(facts, Timestamp::now())
            .context("keeping what a machine is")?;
        if !taken.is_old {
            self.stale.store(true, Ordering::Release);
        }
        Ok(taken)
    }

    /// A run has begun, ended, or said something else that a search may ask for. Waits for nobody.
    pub fn note_run(&self, run: &Id) {
        locked(&self.heard).insert(run.clone());
        self.stale.store(true, Ordering::Release);
    }

    /// Looks at everything: the share, the runs, the fleet file.
    ///
    /// # Errors
    /// The files cannot be read, or the index not be written.
    pub fn refresh(&self, sources: &Sources<'_>) -> anyhow::Result<()> {
        if let Some(folder) = sources.share {
            self.take_from_share(folder)?;
        }
        self.filled(sources, true)
    }

    /// Brings the index to what is known in this process, which costs nothing where nothing is new.
    fn catch_up(&self, sources: &Sources<'_>) -> anyhow::Result<()> {
        if self.stale.load(Ordering::Acquire) {
            return self.filled(sources, false);
        }
        Ok(())
    }

    /// The index was damaged, and is empty.
    fn made_anew(&self, sources: &Sources<'_>) -> anyhow::Result<()> {
        self.complete.store(false, Ordering::Release);
        locked(&self.seen).forget_logs();
        self.filled(sources, true)
    }

    fn filled(&self, sources: &Sources<'_>, all: bool) -> anyhow::Result<()> {
        let _turn = locked(&self.filling);
        match self.fill(sources, all) {
            Err(error) if is_damage(&error) => {
                self.complete.store(false, Ordering::Release);
                locked(&self.seen).forget_logs();
                self.fill(sources, true)
            }
            filled => filled,
        }
    }

    fn fill(&self, sources: &Sources<'_>, all: bool) -> anyhow::Result<()> {
        self.stale.store(false, Ordering::Release);
        let filled = self.fill_from(sources, all);
        if filled.is_err() {
            self.stale.store(true, Ordering::Release);
        }
        filled
    }

    fn fill_from(&self, sources: &Sources<'_>, all: bool) -> anyhow::Result<()> {
        let index = self.index()?;
        let heard = std::mem::take(&mut *locked(&self.heard));
        if all {
            self.all_runs(&index, sources)?;
        }
        let rows: Vec<RunRow> = heard.iter().filter_map(|id| sources.run(id)).collect();
        if let Err(error) = index.note_runs(&rows) {
            locked(&self.heard).extend(heard);
            return Err(error.into());
        }
        if !rows.is_empty() && self.complete.load(Ordering::Acquire) {
            index.set_runs_stamp(&sources.runs_stamp())?;
        }
        let known = self.machines()?;
        index.sync_machines(&known, &sources.fleet)?;
        if all && let Some(folder) = sources.share {
            let told = self.runs_of_logs(&index, folder)?;
            if told {
                index.sync_machines(&known, &sources.fleet)?;
            }
        }
        Ok(())
    }

    /// All runs, where the index may lack some; and those that went on when they were last looked at.
    fn all_runs(&self, index: &Index, sources: &Sources<'_>) -> anyhow::Result<()> {
        let complete = self.complete.load(Ordering::Acquire);
        let stamp = sources.runs_stamp();
        if !complete && index.runs_stamp()? != Some(stamp.clone()) {
            let ids = sources.run_ids().context("listing the runs")?;
            index.sync_runs(&ids, |id| sources.run(&id.parse().ok()?))?;
            index.set_runs_stamp(&stamp)?;
        }
        self.complete.store(true, Ordering::Release);
        let open = index.open_runs()?;
        let rows: Vec<RunRow> = open
            .iter()
            .filter_map(|id| sources.run(&id.parse().ok()?))
            .collect();
        index.note_runs(&rows)?;
        Ok(())
    }

    fn machines(&self) -> anyhow::Result<Vec<Known>> {
        let folder = self.store.folder();
        self.store
            .machines()
            .with_context(|| format!("reading {}", folder.display()))
    }

    fn index(&self) -> anyhow::Result<Arc<Index>> {
        let mut index = locked(&self.index);
        if let Some(index) = &*index {
            return Ok(Arc::clone(index));
        }
        let opened = match Index::open(self.store.folder()) {
            Ok(opened) => opened,
            // Who may read and not write searches as well.
            Err(_) => Index::in_memory()?,
        };
        Ok(Arc::clone(index.insert(Arc::new(opened))))
    }
}

fn is_damage(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(IndexError::Damaged(_)))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
