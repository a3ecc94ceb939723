//! What holds of a job beside its work: until when it may be begun, and that it is done once.

use super::Run;
use crate::execute::done::Done;
use crate::execute::ledger::{self, Known, Once};
use crate::execute::record;
use crate::finish::{Finish, through};
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::MachineIdentity;
use pitstop_imaging::inventory;
use pitstop_protocol::job::Job;

impl Run<'_> {
    /// A machine may have waited for its slot for long.
    pub(super) fn check_time(&self, job: &Job) -> anyhow::Result<()> {
        let now = jiff::Timestamp::now();
        let in_time = job.terms.check_time(now, self.options.rules.clock);
        in_time.map_err(anyhow::Error::msg)
    }

    /// The end of a run whose machine has done its part of the round before, unless somebody wants it again. A try that fails
    /// here is counted, lest the machine starts again and again.
    ///
    /// # Errors
    /// The share cannot be read; nothing tells this machine from others.
    pub(super) fn is_through(&mut self, job: &Job) -> anyhow::Result<Option<Finish>> {
        self.look_at_round(job).inspect_err(|_| {
            if let Err(second) = self.count_attempt(&job.digest, false) {
                self.log
                    .error(format!("the try is not counted: {second:#}"));
            }
        })
    }

    fn look_at_round(&self, job: &Job) -> anyhow::Result<Option<Finish>> {
        let Some(round) = &job.terms.round else {
            return Ok(None);
        };
        let share = self.share.as_deref().context("the share went away")?;
        let this = record::identity(self.lease, &inventory::read(self.machine)?);
        let once = Once::in_round(round, &this)?;
        match ledger::look(share, &once, &this)? {
            Known::Finished(at) if !self.options.again => {
                let reason = format!(
                    "this machine was through with the round {round} at {at}: nothing was touched"
                );
                self.log.announce(&reason);
                let finish = through(job.action.name().as_str(), &reason, job.policy.on_success);
                self.flush()?;
                Ok(Some(finish))
            }
            Known::Doubtful(at) if !self.options.again => bail!(
                "this machine ({this}) or another one with its UUID was through with the round {round} at {at}, and nobody \
                 can tell which: nothing was touched; if it is to be done, choose it in the stick's menu"
            ),
            Known::Finished(at) => {
                self.log.warn(format!(
                    "this machine was through with the round {round} at {at}, and does it again, as was chosen"
                ));
                Ok(None)
            }
            Known::Doubtful(at) => {
                self.log.warn(format!(
                    "this machine or another one with its UUID was through with the round {round} at {at}; it is done, as was \
                     chosen"
                ));
                Ok(None)
            }
            Known::Nothing | Known::Begun => Ok(None),
        }
    }

    /// Whether the job's id is finished, and only its configuration is left: its last try ended between the two. Of a job
    /// without an id nobody asks.
    ///
    /// # Errors
    /// It was finished `before` this job was set: it comes again, and is refused.
    pub(super) fn is_finished(
        &self,
        job: &Job,
        this: &MachineIdentity,
        before: Option<&Done>,
    ) -> anyhow::Result<bool> {
        let Some(id) = job.terms.id.as_ref().filter(|_| is_done_once(job)) else {
            return Ok(false);
        };
        let share = self.share.as_deref().context("the share went away")?;
        match ledger::look(share, &Once::job(id), this)? {
            Known::Finished(_) if before.is_some() => Ok(true),
            Known::Finished(at) | Known::Doubtful(at) => bail!(
                "the job {id} was done at {at}, and a job with an id is done once: to do the same again, give it another id"
            ),
            Known::Nothing | Known::Begun => Ok(false),
        }
    }

    /// Does `work` under the job's id: nothing is begun that the share has not noted, and nothing is told as done whose end it
    /// has not noted.
    ///
    /// # Errors
    /// That of `work`; the share does not take the note.
    pub(super) fn once(
        &self,
        job: &Job,
        this: &MachineIdentity,
        work: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let once = match (&job.terms.id, &job.terms.round) {
            _ if !is_done_once(job) => return work(),
            (Some(id), _) => Once::job(id),
            (None, Some(round)) => Once::in_round(round, this)?,
            (None, None) => return work(),
        };
        let share = self.share.as_deref().context("the share went away")?;
        let begun = ledger::begin(share, &once, job.action.name(), this.clone()).context(
            "nothing is begun: the share does not note that the job is done, and it could be done twice",
        )?;
        work()?;
        begun.finish(share).with_context(|| {
            format!(
                "the {} is done, but the share does not note that: it would be done again",
                job.action
            )
        })
    }
}

/// A job that is done at every boot is done until its time is over.
fn is_done_once(job: &Job) -> bool {
    !job.action.name().is_repeated()
}
