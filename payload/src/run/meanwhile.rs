//! At the door: the machine waits for its slot, or for the image of another one. What is there of that goes to the disk meanwhile.

use super::Run;
use crate::check_in::{Admitted, Door};
use crate::execute::log::RunLog;
use crate::execute::wait::Watch;
use crate::execute::{Work, ahead, attempts};
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::{Ahead, WritesAhead};
use pitstop_protocol::event::Planned;
use pitstop_protocol::job::Job;
use pitstop_transport::share::{Carriers, connect, delete};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// Of a machine that was started again since it wrote.
const EARLIER: &str = "an earlier try has written a part of the image to this machine's disk, which does not boot unless all of it has \
    come since";

/// How a machine got past the door.
pub(super) enum Passed {
    /// To its work; with what it has written ahead.
    In(Option<Arc<Ahead>>),
    /// The job is not wanted any more, and why.
    Withdrawn(String),
}

impl Run<'_> {
    /// Waits for a slot where the server gives them out.
    ///
    /// # Errors
    /// Nobody says whether it may begin.
    pub(super) fn check_in(
        &mut self,
        job: &Job,
        carriers: &Carriers,
        watch: &mut Watch,
    ) -> anyhow::Result<Passed> {
        let Some(url) = &job.check_in else {
            return Ok(Passed::In(None));
        };
        let run = self.reports.run().clone();
        let door = Door::new(url, run, &job.transfer, self.log.clone())?;
        let mut meanwhile = Meanwhile::Nothing;
        let admitted = door.wait(&mut |grows| {
            if matches!(meanwhile, Meanwhile::Nothing)
                && let Some(grows) = grows
            {
                meanwhile = self.begin_ahead(job, carriers, watch, grows);
            }
            meanwhile.has_written()
        });
        let (ahead, partly) = meanwhile.end(&self.log);
        self.has_partly(partly);
        let (passed, written) = match admitted? {
            Admitted::Go { slot, written } => {
                self.slot = Some(slot);
                (Passed::In(ahead), written)
            }
            Admitted::Untracked => (Passed::In(ahead), false),
            Admitted::Cancelled { reason, written } => (Passed::Withdrawn(reason), written),
        };
        if written && self.policy.partly.is_none() {
            self.has_partly(Some(EARLIER.into()));
        }
        Ok(passed)
    }

    /// From here on every failure says so, a crash too.
    fn has_partly(&mut self, partly: Option<String>) {
        if self.policy.partly != partly {
            self.policy.partly = partly;
            (self.options.on_policy)(&self.policy);
        }
    }

    /// Begins to write what is there, unless something is against it.
    fn begin_ahead(
        &mut self,
        job: &Job,
        carriers: &Carriers,
        watch: &mut Watch,
        grows: &Planned,
    ) -> Meanwhile {
        match self.ready_ahead(job, carriers, watch, grows) {
            Ok(writing) => Meanwhile::Writing(Box::new(writing)),
            Err(why) => {
                self.log.info(format!(
                    "nothing of {} is written before it is whole: {why:#}",
                    grows.image
                ));
                Meanwhile::Waiting
            }
        }
    }

    /// All that holds of a run before its first write holds of this one: it is the share, the job is not done, and its
    /// configurations can be deleted.
    fn ready_ahead(
        &mut self,
        job: &Job,
        carriers: &Carriers,
        watch: &mut Watch,
        grows: &Planned,
    ) -> anyhow::Result<Writing> {
        self.check_time(job)?;
        let url = job.share.as_ref().context("the job names no share")?;
        self.reach_share(url, carriers)?;
        let asked = self.look_back(job, carriers);
        if let Some(before) = &asked.before {
            bail!("the {} was done at {}", job.action, before.finished);
        }
        delete::check(asked.left(job).as_slice(), carriers)
            .context("the job would be repeated for ever")?;
        self.expect_known(watch)?;
        let share = self.share.as_deref().context("the share went away")?;
        let (begun, _) = attempts::begun(share, &self.home(), &job.digest)?;
        if begun >= self.policy.attempts {
            bail!("{begun} of {} attempts have failed", self.policy.attempts);
        }
        let mut work = Work {
            machine: self.machine,
            lease: self.lease,
            job,
            share,
            request: None,
            log: &self.log,
            watch,
        };
        let disk = ahead::disk(&mut work, grows)?;
        let writes = WritesAhead::open(&disk.node(&self.machine.dev), grows.size)?;
        self.log.info(format!(
            "{disk} is overwritten with what there is of {} while that is being made: it does not boot before that is whole",
            grows.image
        ));
        self.flush()?;
        // Its own: this one may come to have limits and mirrors.
        let share = connect(url, carriers)?;
        let (writes, stop) = (Arc::new(writes), Arc::new(AtomicBool::new(false)));
        let there = Arc::clone(&writes);
        let (log, enough) = (Arc::clone(&self.log), Arc::clone(&stop));
        let distribute = job.transfer.distribute;
        let image = &grows.image;
        let partly = format!("{disk} has a part of {image} and does not boot until it is restored");
        // Whatever ends this process does not ask it first.
        self.has_partly(Some(format!(
            "{disk} may have a part of {image} by now: then it does not boot until it is restored"
        )));
        let grows = grows.clone();
        let thread = thread::Builder::new().name("ahead".into()).spawn(move || {
            ahead::Follow {
                share: &*share,
                grows: &grows,
                distribute,
                ahead: &there,
                log: &*log,
                stop: &enough,
            }
            .run();
        })?;
        Ok(Writing {
            writes,
            stop,
            thread: Some(thread),
            partly,
        })
    }
}

/// What a machine does while it waits.
enum Meanwhile {
    Nothing,
    /// Something is against writing anything.
    Waiting,
    Writing(Box<Writing>),
}

struct Writing {
    writes: Arc<WritesAhead>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// What it means that something was written, for people.
    partly: String,
}

impl Meanwhile {
    fn has_written(&self) -> bool {
        matches!(self, Self::Writing(writing) if writing.writes.has_begun())
    }

    /// Lets the disk go. What is on it, and, where that is something, what it means.
    fn end(self, log: &RunLog) -> (Option<Arc<Ahead>>, Option<String>) {
        let Self::Writing(mut writing) = self else {
            return (None, None);
        };
        writing.stop();
        let partly = writing.partly.clone();
        let writes = Arc::clone(&writing.writes);
        drop(writing);
        let has_begun = writes.has_begun();
        let ahead = Arc::into_inner(writes)
            .context("somebody still has the disk")
            .and_then(WritesAhead::finish);
        let ahead = ahead.inspect_err(|error| {
            log.warn(format!("all of the image is written again: {error:#}"));
        });
        if has_begun {
            (ahead.ok().map(Arc::new), Some(partly))
        } else {
            (None, None)
        }
    }
}

impl Writing {
    fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it did not write is written later.
            let _ = thread.join();
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
