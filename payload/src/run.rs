//! A run from the lease to the end: the worker's table of contents.
//!
//! Whatever goes wrong becomes a [`Finish`]. What a crash of the worker would need is published as a
//! [`CrashPolicy`] as soon as it is known.

mod crash;
mod end;
mod meanwhile;
mod once;
mod reach;

use crate::check_in::Slot;
use crate::execute::done::{self, Done, Request};
use crate::execute::log::RunLog;
use crate::execute::wait::{PATIENCE, Watch};
use crate::execute::{Work, attempts, info, record};
use crate::finish::{CrashPolicy, Finish};
use crate::load::{self, JobError, Rules};
use crate::lookout::Seen;
use crate::report::{Crashed, Reports};
use anyhow::{Context, anyhow, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::MachineIdentity;
use pitstop_imaging::inventory::{self, DATA, Inventory, Machine};
use pitstop_protocol::event::{self, What};
use pitstop_protocol::job::{Action, DeleteTarget, Job, Policy, Transfer};
use pitstop_protocol::machine::Lease;
use pitstop_protocol::share_url::ShareUrl;
use pitstop_transport::fetch::Listener;
use pitstop_transport::share::{Carriers, Share, Stick, Throttle, Throttled, delete};
use std::cell::Cell;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crash::before_any_job;
pub use crash::{after_crash, failed_before_job, failed_for_good, nothing_to_do};
use meanwhile::Passed;

/// Where exports are mounted: in the initramfs, where nothing else is.
const MOUNTS: &str = "/run/pitstop/shares";

/// Bytes of an event's line beside what it tells.
const ENVELOPE: usize = 1024;

/// What a run needs beside the machine.
pub struct Options<'a> {
    /// Called each time that more is known of what a crash would have to do.
    pub on_policy: &'a dyn Fn(&CrashPolicy),
    /// How long a disk that is asked for may take to appear.
    pub disk_patience: Duration,
    /// What was seen of the disks before the run, where somebody has looked on.
    pub disks: Option<Seen>,
    /// A folder under which NFS exports are mounted.
    pub mounts: PathBuf,
    /// Whose jobs are done.
    pub rules: Rules,
    /// Where a stick with a share is mounted, if there is one.
    pub data: PathBuf,
    /// Somebody wants a round's job done by a machine that has done it.
    pub again: bool,
    /// The public half of the machine's SSH host key; empty where nobody can log in.
    pub host_key: String,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            on_policy: &|_| {},
            disk_patience: PATIENCE,
            disks: None,
            mounts: PathBuf::from(MOUNTS),
            rules: Rules::default(),
            data: PathBuf::from(DATA),
            again: false,
            host_key: String::new(),
        }
    }
}

/// Does the machine's job. Configurations are deleted and logs are on the share when it returns; the
/// result line is for the caller to show on every console.
pub fn run(
    machine: &Machine,
    lease: &Lease,
    reporter: Arc<dyn Reporter>,
    options: &Options<'_>,
) -> Finish {
    let reports = Arc::new(Reports::begin(reporter, lease, &options.host_key));
    let mut run = Run {
        machine,
        lease,
        log: Arc::new(RunLog::new(reports.clone(), lease.shown())),
        reports,
        options,
        policy: before_any_job(machine, &options.rules),
        share: None,
        slot: None,
        not_wanted: None,
    };
    let outcome = catch_unwind(AssertUnwindSafe(|| run.stages()));
    let outcome = outcome.unwrap_or_else(|panic| {
        let text = panic_text(&*panic);
        Err(anyhow!("a fault in Pitstop itself: {text}"))
    });
    run.end(outcome)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".into())
}

struct Run<'a> {
    machine: &'a Machine,
    lease: &'a Lease,
    log: Arc<RunLog>,
    reports: Arc<Reports>,
    options: &'a Options<'a>,
    policy: CrashPolicy,
    /// Once it is proven to be the share.
    share: Option<Box<dyn Share>>,
    /// While the server holds one for this machine.
    slot: Option<Slot>,
    /// Why the job is not wanted any more, where it is not.
    not_wanted: Option<String>,
}

/// The job as it is set, and the note of its being done.
#[derive(Default)]
struct Asked {
    request: Option<Request>,
    before: Option<Done>,
}

impl Asked {
    /// The configurations that are to be deleted. Of a job that was done some may be gone already.
    fn left(&self, job: &Job) -> Vec<DeleteTarget> {
        let gone = |target: &&DeleteTarget| {
            let request = self.request.as_ref().filter(|_| self.before.is_some());
            request.is_some_and(|request| request.is_gone(target))
        };
        let left = job.delete.iter().filter(|target| !gone(target));
        left.cloned().collect()
    }
}

impl Run<'_> {
    fn stages(&mut self) -> anyhow::Result<Finish> {
        (self.options.on_policy)(&self.policy);
        let watch = Watch::new(self.machine, self.options.disk_patience);
        let mut watch = watch.since(self.options.disks.clone());
        let mut carriers = Carriers::new(self.lease.address, &self.options.mounts)?;
        carriers.stick = Stick::at(&self.options.data);
        let job = self.learn_job(&carriers)?;
        let carriers = carriers.for_job(&job.transfer, self.listener())?;
        if job.action == Action::Rescue {
            return Ok(self.rescue(&job, &carriers));
        }
        let ahead = match self.has_its_turn(&job, &carriers, &mut watch)? {
            Passed::In(ahead) => ahead,
            Passed::Withdrawn(reason) => return Ok(self.withdrawn(&job, reason)),
        };
        if let Some(finish) = self.is_through(&job)? {
            return Ok(finish);
        }
        // One that is done at every boot is never done already, and its configuration stays.
        let repeated = job.action.name().is_repeated();
        let asked = if repeated {
            Asked::default()
        } else {
            self.look_back(&job, &carriers)
        };
        let (attempt, series) = self.count_attempt(&job.digest, asked.before.is_some())?;
        let (request, before) = (asked.request.as_ref(), asked.before.as_ref());
        if !repeated {
            delete::check(asked.left(&job).as_slice(), &carriers)
                .context("the job would be repeated for ever")?;
        }

        self.ask_mirrors(&job, &carriers);
        self.throttle(job.transfer.rate_limit);

        let share = self.share.as_deref().context("the share went away")?;
        let id = before
            .map(|before| before.request.clone())
            .or_else(|| request.map(|request| request.id(&series)));
        let (now, this) = self.expect_known(&mut watch)?;
        inventory::lacking::tell(self.machine, &now.undriven, &*self.log);
        let mut work = Work {
            machine: self.machine,
            lease: self.lease,
            job: &job,
            share,
            request: id.as_deref().map(|id| done::Current {
                id,
                was_begun: attempt > 1 || before.is_some(),
            }),
            log: &self.log,
            watch: &mut watch,
        };
        let is_finished = self.is_finished(&job, &this, before)?;
        let images_tell = matches!(job.action, Action::Backup(_) | Action::BackupAgain(_));
        if let Some(before) = before.filter(|_| is_finished || !images_tell) {
            self.log.info(format!(
                "the {} was done at {}: only its configuration is left to be deleted",
                job.action, before.finished
            ));
            self.once(&job, &this, || self.tell_machine(&work))?;
            return self.succeeded(&job, request, &carriers);
        }
        let mut prepared = work.plan()?;
        prepared.ahead = ahead;
        self.reports.tell(prepared.plan.reported());
        self.log.info(prepared.plan.to_string());
        if prepared.done {
            self.log.info(format!(
                "an earlier try has done the {}: only its configuration is left to be deleted",
                job.action
            ));
            self.once(&job, &this, || self.tell_machine(&work))?;
            return self.succeeded(&job, request, &carriers);
        }
        work.publish(&prepared.plan)?;
        self.flush()?;
        let mut root = None;
        let is_at_it = Cell::new(false);
        let done = self.once(&job, &this, || {
            self.tell_machine(&work)?;
            let begins = || {
                is_at_it.set(true);
                (self.options.on_policy)(&CrashPolicy {
                    partly: None,
                    ..self.policy.clone()
                });
            };
            let is_done = || self.note_done(request, id.as_deref());
            root = work.execute(&prepared, &begins, is_done)?;
            Ok(())
        });
        if is_at_it.get() {
            self.policy.partly = None;
        }
        done?;
        // The plan had another disk in the end.
        if let Some(partly) = self.policy.partly.take() {
            self.log.warn(partly);
        }
        match root {
            Some(root) => Ok(self.goes_on(&job, root)),
            None => self.succeeded(&job, request, &carriers),
        }
    }

    /// Waits for a slot, and reaches the share. A machine that fails here has failed a try, also where its job was withdrawn and a part
    /// of an image is on its disk: that one does not boot.
    fn has_its_turn(
        &mut self,
        job: &Job,
        carriers: &Carriers,
        watch: &mut Watch,
    ) -> anyhow::Result<Passed> {
        let passed = match self.check_in(job, carriers, watch) {
            Ok(Passed::Withdrawn(reason)) if self.policy.partly.is_some() => Err(anyhow!(reason)),
            passed => passed,
        };
        let passed = passed.inspect_err(|_| {
            if let Some(url) = &job.share {
                self.count_failure(url, &job.digest, carriers);
            }
        })?;
        if matches!(passed, Passed::Withdrawn(_)) {
            return Ok(passed);
        }
        // It may have waited for its slot for long.
        self.check_time(job)?;
        if self.share.is_none() {
            let url = job.share.as_ref().context("the job names no share")?;
            self.reach_share(url, carriers)?;
        }
        Ok(passed)
    }

    /// Writes what the machine is to the share, and reports it.
    fn tell_machine(&self, work: &Work<'_>) -> anyhow::Result<()> {
        let mut facts = info::write(work)?;
        facts.fit(event::LONGEST_LINE - ENVELOPE);
        let facts = Box::new(facts);
        self.reports.tell(What::Inventory { facts });
        Ok(())
    }

    /// Whether the job as it is set now was done by an earlier try. What cannot be found out is told, and the job is done:
    /// twice is better than never.
    fn look_back(&self, job: &Job, carriers: &Carriers) -> Asked {
        let looked = Request::look(job, carriers).and_then(|request| {
            let before = match (&request, self.share.as_deref()) {
                (Some(request), Some(share)) => done::find(share, &self.home(), request)?,
                _ => None,
            };
            Ok(Asked { request, before })
        });
        looked.unwrap_or_else(|error| {
            self.log.warn(format!(
                "whether an earlier try has done the job is not known: {error:#}"
            ));
            Asked::default()
        })
    }

    /// Everything is on the disks or on the share: a later try only has to delete the configuration.
    fn note_done(&self, request: Option<&Request>, id: Option<&str>) {
        nix::unistd::sync();
        let (Some(request), Some(id), Some(share)) = (request, id, self.share.as_deref()) else {
            return;
        };
        if let Err(error) = done::note(share, &self.home(), request, id) {
            self.log
                .warn(format!("that the work is done is not noted: {error:#}"));
        }
    }

    fn learn_job(&mut self, carriers: &Carriers) -> anyhow::Result<Job> {
        match load::load(self.machine, self.lease, &self.options.rules, &*self.log) {
            Ok(job) => {
                job.action
                    .name()
                    .as_str()
                    .clone_into(&mut self.policy.action);
                self.keep_to(&job.policy, &job.transfer);
                self.log
                    .info(format!("{}: the job is from {}", job.action, job.source));
                Ok(job)
            }
            Err(error) => {
                self.learn_from_wreck(&error, carriers);
                Err(anyhow::Error::new(*error))
            }
        }
    }

    /// Has `watch` wait for the disks that the last run knew. Returns what is here now, and what the machine is known by.
    fn expect_known(&self, watch: &mut Watch) -> anyhow::Result<(Inventory, MachineIdentity)> {
        let share = self.share.as_deref().context("the share went away")?;
        let known = record::read(share, &self.home())?;
        let now = inventory::read(self.machine)?;
        let this = record::identity(self.lease, &now);
        watch.expect(record::disks_of(&known, &this));
        Ok((now, this))
    }

    fn listener(&self) -> Listener {
        Listener(Some(self.log.clone()))
    }

    fn keep_to(&mut self, policy: &Policy, transfer: &Transfer) {
        let access = transfer.access.as_ref();
        self.policy.credentials = access.map(|access| access.credentials().clone());
        self.policy.sign.clone_from(&transfer.sign);
        let report = transfer.report.as_ref();
        self.policy.report = report.map(|to| Crashed::new(self.reports.run(), to));
        self.reports.send_to(report, transfer.retry_for);
        self.reports.tell(What::Job {
            action: self.policy.action.clone(),
        });
        self.policy.attempts = policy.attempts;
        self.policy.failure_delay = policy.failure_delay;
        self.policy.progress_timeout = policy.progress_timeout;
        self.policy.on_failure = policy.on_failure;
        (self.options.on_policy)(&self.policy);
    }

    /// A job that makes no sense may still tell where the logs are: the failure is told and counted there.
    fn learn_from_wreck(&mut self, error: &JobError, carriers: &Carriers) {
        let salvaged = &error.salvaged;
        if let Some(action) = salvaged.action {
            action.as_str().clone_into(&mut self.policy.action);
        }
        self.keep_to(&salvaged.policy, &salvaged.transfer);
        let Some(url) = &salvaged.share else {
            return;
        };
        let digest = blake3::hash(error.reason.as_bytes()).to_hex().to_string();
        match carriers
            .clone()
            .for_job(&salvaged.transfer, self.listener())
        {
            Ok(carriers) if error.counts => self.count_failure(url, &digest, &carriers),
            Ok(carriers) => {
                if let Err(second) = self.reach_share(url, &carriers) {
                    self.on_console_only(&second);
                }
            }
            Err(second) => self.on_console_only(&second),
        }
    }

    /// A try that has failed before it came to the share is told and counted there, as far as that can be reached.
    fn count_failure(&mut self, url: &ShareUrl, digest: &str, carriers: &Carriers) {
        let reached = self.reach_share(url, carriers);
        let counted = reached.and_then(|()| self.count_attempt(digest, false).map(drop));
        if let Err(second) = counted {
            self.on_console_only(&second);
        }
    }

    fn on_console_only(&self, error: &anyhow::Error) {
        self.log
            .error(format!("the logs are on the console only: {error:#}"));
    }

    /// Slows images down where the job says so.
    fn throttle(&mut self, limit: Option<NonZeroU64>) {
        if let Some(limit) = limit
            && let Some(share) = self.share.take()
        {
            self.share = Some(Box::new(Throttled::new(share, Throttle::new(limit))));
        }
    }

    /// Counts this try before it begins: one that crashes the machine counts too. Also returns what names the series.
    /// Of a job that is `done` only the deletion is left, also where the last try lost its power on the way to it.
    fn count_attempt(&mut self, digest: &str, done: bool) -> anyhow::Result<(u32, String)> {
        let home = self.home();
        let share = self.share.as_deref().context("the share went away")?;
        let (begun, series) = attempts::begun(share, &home, digest)?;
        if begun >= self.policy.attempts && !done {
            self.policy.attempt = begun;
            bail!(
                "{begun} of {} attempts have failed, the last without a word: it crashed or lost power",
                self.policy.attempts
            );
        }
        let attempt = begun.saturating_add(1).min(self.policy.attempts);
        let series = if series.is_empty() {
            jiff::Timestamp::now().to_string()
        } else {
            series
        };
        attempts::begin(share, &home, digest, attempt, &series)?;
        self.policy.attempt = attempt;
        (self.options.on_policy)(&self.policy);
        self.log
            .info(format!("attempt {attempt} of {}", self.policy.attempts));
        Ok((attempt, series))
    }

    fn flush(&self) -> anyhow::Result<()> {
        match self.share.as_deref() {
            Some(share) => self.log.flush(share, &self.home()),
            None => Ok(()),
        }
    }

    /// The machine's own folder on the share.
    fn home(&self) -> String {
        self.lease.folder()
    }
}

#[cfg(test)]
mod again;
#[cfg(test)]
mod door;
#[cfg(test)]
mod locked;
#[cfg(test)]
mod over_http;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod reported;
#[cfg(test)]
mod rounds;
#[cfg(test)]
pub(crate) mod signed;
#[cfg(test)]
mod site;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod tests;
