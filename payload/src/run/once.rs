//! What holds of a job beside its work: until when it may be begun, and that it is done once.

use super::Run;
use crate::execute::done::Done;
use crate::execute::ledger::{self, Known};
use anyhow::{Context, bail};
use pitstop_imaging::image::MachineIdentity;
use pitstop_protocol::job::Job;

impl Run<'_> {
    /// A machine may have waited for its slot for long.
    pub(super) fn check_time(&self, job: &Job) -> anyhow::Result<()> {
        let now = jiff::Timestamp::now();
        let in_time = job.terms.check_time(now, self.options.rules.clock);
        in_time.map_err(anyhow::Error::msg)
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
        let Some(id) = &job.terms.id else {
            return Ok(false);
        };
        let share = self.share.as_deref().context("the share went away")?;
        match ledger::look(share, id, this)? {
            Known::Finished(_) if before.is_some() => Ok(true),
            Known::Finished(at) => bail!(
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
        let Some(id) = &job.terms.id else {
            return work();
        };
        let share = self.share.as_deref().context("the share went away")?;
        let begun = ledger::begin(share, id, job.action.name(), this.clone()).context(
            "nothing is begun: the share does not note the job's id, and it could be done twice",
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
