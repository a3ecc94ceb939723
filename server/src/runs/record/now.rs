//! Runs as they are now: what machines said last is in memory, what ended is read once.

use super::{Recorder, lock, lock_map};
use crate::runs::is_silent;
use crate::runs::summary::Run;
use pitstop_protocol::id::Id;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

impl Recorder {
    /// The last run of each machine that has reported, as it is now.
    pub fn last_of_each(&self) -> Vec<Run> {
        let by_machine = self
            .by_machine
            .get_or_init(|| Mutex::new(self.of_machines()));
        let ids: Vec<Id> = {
            let by_machine = by_machine.lock().unwrap_or_else(PoisonError::into_inner);
            by_machine
                .values()
                .filter_map(BTreeSet::last)
                .cloned()
                .collect()
        };
        let mut before = std::mem::take(&mut *lock_ended(&self.ended));
        let mut ended = HashMap::new();
        let mut runs = Vec::with_capacity(ids.len());
        for id in ids {
            let known = before.remove(&id).or_else(|| self.now(&id));
            let Some(run) = known else {
                continue;
            };
            if run.summary.ended.is_some() {
                ended.insert(id, run.clone());
            }
            runs.push(run);
        }
        *lock_ended(&self.ended) = ended;
        runs
    }

    /// The last runs of the machine that is told from others by `identity`, the newest first.
    pub fn of(&self, identity: &str, last: usize) -> Vec<Run> {
        let by_machine = self
            .by_machine
            .get_or_init(|| Mutex::new(self.of_machines()));
        let ids: Vec<Id> = {
            let by_machine = by_machine.lock().unwrap_or_else(PoisonError::into_inner);
            let ids = by_machine.get(identity).into_iter().flatten();
            ids.rev().take(last).cloned().collect()
        };
        ids.iter().filter_map(|id| self.now(id)).collect()
    }

    /// One run: what its machine said last, or what is on the disk. `None` where that cannot be read.
    pub fn now(&self, id: &Id) -> Option<Run> {
        let entry = lock_map(&self.entries).get(id).map(Arc::clone);
        let kept = entry.and_then(|entry| {
            let slot = lock(&entry.0);
            let kept = slot.as_ref()?;
            Some((kept.summary.clone(), kept.live.clone(), kept.heard))
        });
        match kept {
            Some((summary, _, _)) if summary.ended.is_some() => Some(Run::ended(summary)),
            Some((summary, live, heard)) => Some(Run::at_work(summary, live, is_silent(heard))),
            None => self.runs.read(id).ok().flatten(),
        }
    }
}

fn lock_ended(ended: &Mutex<HashMap<Id, Run>>) -> MutexGuard<'_, HashMap<Id, Run>> {
    ended.lock().unwrap_or_else(PoisonError::into_inner)
}
