//! Jobs that wait for another machine's backup: for its image, or for its end where both write into one folder. Their machines are
//! told so; those that wait for the image end with it where it fails.

use super::{ASKS, Keeper, failed, locked};
use crate::ends::JobEnd;
use crate::refusal::Refusal;
use anyhow::anyhow;
use jiff::Timestamp;
use pitstop_jobs::{Claim, Effect, Followed, Happened, Job, State, at_work, followed};
use pitstop_protocol::check_in::{Answer, millis};
use pitstop_protocol::id::Id;
use std::collections::BTreeSet;
use std::time::Duration;

/// How often each of so many machines asks whether its image is there: a room is to begin together, as one that has all
/// stays for the next one for moments only; and the server is asked some hundred times a second at most.
fn ask(early: usize) -> Duration {
    let early = u32::try_from(early).unwrap_or(u32::MAX);
    SOON.max(Duration::from_secs(1) * early / ASKS_A_SECOND)
}

const SOON: Duration = Duration::from_secs(1);
const ASKS_A_SECOND: u32 = 100;

impl Keeper {
    /// What a machine is told whose image is still to come, or does not come; `None`: it is there.
    pub(super) fn follows(
        &self,
        job: &Job,
        run: &Id,
        written: bool,
    ) -> Result<Option<Answer>, Refusal> {
        let Some(first) = &job.follows else {
            return Ok(None);
        };
        match self.stands(first)? {
            Followed::Whole => {
                // The last word before its turn may be the first that says so.
                if written && !job.written {
                    let why = "its image is whole".into();
                    self.change(&job.id, &Happened::CameEarly { why, written })?;
                }
                Ok(None)
            }
            Followed::Awaited(why) => {
                let early = {
                    let mut board = locked(&self.board);
                    board.is_early(job.claim(), run.clone(), self.now());
                    board.early()
                };
                // What it has written is known for good from here on: it may lose its power, and come again.
                let mut now = job.clone();
                let came = Happened::CameEarly { why, written };
                now.apply(&came, Timestamp::now());
                let why = now.reason.clone().unwrap_or_default();
                if job.state != now.state || job.reason != now.reason {
                    self.change(&job.id, &came)?;
                    self.journal.note(&format!("{} waits: {why}", job.shown()));
                }
                Ok(Some(Answer::Wait {
                    place: 1,
                    of: 1,
                    ask_ms: millis(ask(early).min(self.lease / ASKS)),
                    why: Some(why),
                    grows: None,
                }))
            }
            Followed::Failed(reason) => {
                let written = self.unfed(job, &reason, written)?.written;
                Ok(Some(Answer::Cancelled { reason, written }))
            }
        }
    }

    /// What a machine is told that waits for another one's backup into the same folder.
    pub(super) fn waits_to_write(&self, claim: &Claim, writer: Option<&Id>) -> Option<String> {
        let (place, writer) = (claim.writes.as_ref()?, writer?);
        // One whose file is gone or cannot be read has a name all the same.
        let other = self.store.read(writer).ok().flatten();
        let other = other.map_or_else(|| writer.to_string(), |other| other.shown().to_owned());
        Some(format!(
            "{other} is being backed up into {}, and two at once would mix their images there",
            place.folder
        ))
    }

    /// The backup whose image `job` waits for, where it is at work.
    ///
    /// # Errors
    /// The jobs cannot be read.
    pub fn waits_for(&self, job: &Id) -> anyhow::Result<Option<Job>> {
        let follows = self.store.read(job)?.and_then(|job| job.follows);
        let Some(first) = follows else {
            return Ok(None);
        };
        let own = self.store.read(&first)?;
        if own.as_ref().is_some_and(|own| own.state == State::Running) {
            return Ok(own);
        }
        let found = self.found()?;
        Ok(at_work(&found.jobs, &first).cloned())
    }

    /// How it stands with the backup `first`. All of a room ask, and all of its jobs change meanwhile: of one that did not fail
    /// its own file tells.
    fn stands(&self, first: &Id) -> Result<Followed, Refusal> {
        let own = self.store.read(first).map_err(|e| failed(&e))?;
        if let Some(own) = own {
            let stands = followed(std::slice::from_ref(&own), first);
            if !matches!(stands, Followed::Failed(_)) {
                return Ok(stands);
            }
        }
        let all = self.found().map_err(|e| failed(&e))?;
        Ok(followed(&all.jobs, first))
    }

    /// The backup that `job` follows makes no image: the job is given up.
    fn unfed(&self, job: &Job, why: &str, written: bool) -> Result<Job, Refusal> {
        locked(&self.board).leave(&job.id);
        let why = why.to_owned();
        let (job, effect) = self.change(&job.id, &Happened::Unfed { why, written })?;
        if effect != Effect::None {
            let reason = job.reason.as_deref().unwrap_or_default();
            self.journal
                .note(&format!("{} is given up: {reason}", job.shown()));
        }
        if effect == Effect::Ended {
            self.end(&job, JobEnd::GaveUp);
        }
        Ok(job)
    }

    /// Gives up the jobs, also of machines that have not come, that follow a backup which failed. One whose file cannot be read
    /// now has not failed.
    pub(super) fn give_up_unfed(&self, jobs: &[Job]) -> anyhow::Result<()> {
        let waits = |job: &&Job| matches!(job.state, State::Waiting | State::Queued);
        let waiting = jobs.iter().filter(waits);
        let waiting: Vec<(&Job, &Id)> = waiting
            .filter_map(|job| Some((job, job.follows.as_ref()?)))
            .collect();
        let firsts: BTreeSet<&Id> = waiting.iter().map(|(_, first)| *first).collect();
        let refused = |refusal: Refusal| anyhow!(refusal.reason);
        for first in firsts {
            let Followed::Failed(why) = self.stands(first).map_err(refused)? else {
                continue;
            };
            for (job, _) in waiting.iter().filter(|(_, followed)| *followed == first) {
                self.unfed(job, &why, false).map_err(refused)?;
            }
        }
        Ok(())
    }
}
