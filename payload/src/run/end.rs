//! The end of a run that can speak for itself: configurations go, and everybody hears how it ended.

use super::Run;
use crate::execute::attempts;
use crate::execute::done::{self, Request};
use crate::finish::{Finish, cancelled, entering, succeeded};
use crate::load;
use anyhow::Context;
use pitstop_imaging::event::{Level, Reporter};
use pitstop_protocol::event::Verdict;
use pitstop_protocol::job::{After, Job};
use pitstop_transport::share::{Carriers, delete};
use std::path::PathBuf;
use std::time::Duration;

impl Run<'_> {
    /// The job is not wanted any more, and this try has written nothing. Where its host file is still there, because it could not be removed,
    /// the machine meets it again, and waits as after a failure, lest it starts again and again without a pause.
    pub(super) fn withdrawn(&mut self, job: &Job, reason: String) -> Finish {
        self.log
            .warn(format!("this try has written to no disk: {reason}"));
        let now = load::load(self.machine, self.lease, &self.options.rules, &*self.log);
        let is_same = now.is_ok_and(|now| now.check_in == job.check_in);
        let wait = if is_same {
            self.policy.failure_delay
        } else {
            Duration::ZERO
        };
        let finish = cancelled(job.action.name().as_str(), &reason, wait);
        self.not_wanted = Some(reason);
        finish
    }

    /// The work is done: nothing of it may be lost any more when the configuration goes.
    pub(super) fn succeeded(
        &self,
        job: &Job,
        request: Option<&Request>,
        carriers: &Carriers,
    ) -> anyhow::Result<Finish> {
        nix::unistd::sync();
        self.log.announce(&format!("{} is done", job.action));
        self.flush()?;
        self.delete(job, request, carriers)
            .with_context(|| format!("the {} is done, but will be repeated", job.action))?;
        let finish = succeeded(job.action.name().as_str(), job.policy.on_success);
        self.log.record(Level::Info, &finish.result_line);
        // The job is done and cannot come again: what fails from here on is told, and changes nothing.
        if let Some(share) = self.share.as_deref() {
            let home = self.home();
            if let Err(error) = done::clear(share, &home) {
                self.log.warn(format!(
                    "the note that the job is done stays in {home}/last-run.toml: {error:#}"
                ));
            }
            if let Err(error) = attempts::clear(share, &home) {
                self.log.warn(format!(
                    "the count of attempts could not be removed: {error:#}"
                ));
            }
        }
        if let Err(error) = self.flush() {
            self.log
                .warn(format!("the result is on the console only: {error:#}"));
        }
        Ok(finish)
    }

    /// Deletes what this job is of. What somebody has put in its place meanwhile is the next boot's job, and stays.
    fn delete(
        &self,
        job: &Job,
        request: Option<&Request>,
        carriers: &Carriers,
    ) -> anyhow::Result<()> {
        let mut old = Vec::new();
        for target in &job.delete {
            let is_replaced = match request {
                Some(request) => request.is_replaced(target, &delete::look(target, carriers)?),
                None => false,
            };
            if is_replaced {
                self.log.warn(format!(
                    "{target} is another job's, set while this one was at work: it stays for the next boot"
                ));
            } else {
                old.push(target.clone());
            }
        }
        delete::delete(&old, carriers)?;
        for target in &old {
            self.log.info(format!("{target} is deleted"));
        }
        Ok(())
    }

    /// Tells everybody how it ended: the logs, who waits for the slot, who hears the reports.
    pub(super) fn end(&mut self, outcome: anyhow::Result<Finish>) -> Finish {
        let slot = self.slot.take();
        let (finish, verdict, reason) = match outcome {
            Ok(finish) => {
                if let Some(slot) = slot {
                    slot.done();
                }
                match self.not_wanted.take() {
                    Some(reason) => (finish, Verdict::Cancelled, reason),
                    None => (finish, Verdict::Ok, String::new()),
                }
            }
            Err(error) => {
                let finish = self.failed(&error);
                let reason = self.policy.told(&format!("{error:#}"));
                if let Some(slot) = slot {
                    slot.failed(&reason, !self.policy.ends_trying(&finish));
                }
                (finish, Verdict::Failed, reason)
            }
        };
        self.reports.end(verdict, &self.policy.action, &reason);
        finish
    }

    /// Tells both logs, drops the count when no further try follows by itself, and never hides `error` behind a later one.
    pub(super) fn failed(&self, error: &anyhow::Error) -> Finish {
        let finish = self.policy.failed(&format!("{error:#}"));
        self.log.record(Level::Error, &finish.result_line);
        let Some(share) = self.share.as_deref() else {
            return finish;
        };
        let cleared = if self.policy.ends_trying(&finish) {
            attempts::clear(share, &self.home())
        } else {
            Ok(())
        };
        for second in [cleared.err(), self.flush().err()].into_iter().flatten() {
            self.log.error(format!("after the failure: {second:#}"));
        }
        finish
    }

    /// The tree is put together, and the machine goes on in it. Nothing is deleted: the next boot does the same.
    pub(super) fn goes_on(&self, job: &Job, root: PathBuf) -> Finish {
        nix::unistd::sync();
        let finish = entering(job.action.name().as_str(), root);
        self.log.record(Level::Info, &finish.result_line);
        let cleared = match self.share.as_deref() {
            Some(share) => attempts::clear(share, &self.home()),
            None => Ok(()),
        };
        for error in [cleared.err(), self.flush().err()].into_iter().flatten() {
            self.log
                .warn(format!("the tree is ready; after that: {error:#}"));
        }
        finish
    }

    /// Deletes nothing and fails at nothing: a machine that is to be looked at must come up.
    pub(super) fn rescue(&mut self, job: &Job, carriers: &Carriers) -> Finish {
        if let Some(url) = &job.share
            && let Err(error) = self.reach_share(url, carriers)
        {
            self.log
                .warn(format!("{error:#}; the rescue goes on without the share"));
        }
        let finish = succeeded(job.action.name().as_str(), After::Rescue);
        self.log.record(Level::Info, &finish.result_line);
        if let Err(error) = self.flush() {
            self.log
                .warn(format!("the log is on the console only: {error:#}"));
        }
        finish
    }
}
