//! What of jobs is shown to whoever looks: who has a slot and who waits, and which jobs changed.

use super::store::{Found, Store};
use crate::events::Events;
use jiff::Timestamp;
use pitstop_api::Event;
use pitstop_fleet::Fleet;
use pitstop_jobs::{Board, Happened, Job, Limits, State};
use pitstop_protocol::id::Id;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Who has a slot, and who waits for one.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Each with its run.
    pub working: HashMap<Id, Id>,
    /// In the order in which they get a slot.
    pub waiting: Vec<Id>,
}

impl Standing {
    /// The place of a job among those that wait, from 1.
    pub fn waits_at(&self, job: &Id) -> Option<u32> {
        let at = self.waiting.iter().position(|other| other == job)?;
        u32::try_from(at + 1).ok()
    }
}

/// The jobs that whoever looks was told of.
#[derive(Default)]
pub struct Shown(Mutex<Arc<Found>>);

impl Shown {
    /// Tells of those of `found` that are new or have changed.
    pub fn tell(&self, found: &Arc<Found>, events: &Events) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&told, found) {
            return;
        }
        let before = std::mem::replace(&mut *told, Arc::clone(found));
        let known: HashMap<&Id, &Job> = before.jobs.iter().map(|job| (&job.id, job)).collect();
        for job in &found.jobs {
            if known.get(&job.id) != Some(&job) {
                let job = Box::new(pitstop_api::Job::from(job));
                events.tell(&Event::Job(job));
            }
        }
    }
}

/// Gives each machine that was at work a lease of grace, also those whose job was withdrawn since. One that waited has to ask
/// again: it may have been switched off, and would be queued for ever.
pub(super) fn take_up(store: &Store, board: &mut Board) -> anyhow::Result<()> {
    for job in store.all()?.jobs {
        let run = job.runs.last();
        let is_at_work =
            job.state == State::Running || (job.state.is_withdrawn() && job.verdict.is_none());
        if let Some(run) = run.filter(|run| is_at_work && job.is_at_work(run)) {
            board.beat(job.claim(), run, Duration::ZERO);
        } else if job.state == State::Queued {
            let silent = Happened::Silent { run: None };
            store.lock()?.change(&job.id, &silent, Timestamp::now())?;
        }
    }
    Ok(())
}

/// The limits that the fleet file sets.
pub fn limits(fleet: &Fleet) -> Limits {
    let groups = fleet.groups.iter();
    Limits {
        server: fleet.server.slots,
        groups: groups
            .filter_map(|group| Some((group.name.clone(), group.slots?)))
            .collect(),
    }
}
