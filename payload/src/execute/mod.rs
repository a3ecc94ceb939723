//! Walks a plan. What each action promises about the share when it fails is said in its own file.

mod about;
pub mod ahead;
pub mod attempts;
pub mod backup;
#[cfg(test)]
mod broken;
pub mod done;
mod dry;
mod entries;
mod images;
pub mod info;
pub mod ledger;
mod locked;
pub mod log;
mod noticing;
mod owner;
pub mod pace;
mod partition;
pub mod record;
pub mod restore;
mod tree;
pub mod wait;
mod wipe;

use crate::plan::select::{self, Selection};
use crate::plan::{Heading, Plan, Steps};
use anyhow::{Context, bail};
pub use dry::dry_run;
use log::RunLog;
use pitstop_imaging::event::{Act, Event, Progress, Reporter, Stage, Subject};
use pitstop_imaging::image::Ahead;
use pitstop_imaging::inventory::disks::describe;
use pitstop_imaging::inventory::{Disk, Inventory, Machine};
use pitstop_protocol::job::{Action, Job};
use pitstop_protocol::machine::Lease;
use pitstop_transport::share::Share;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What every step of a run needs.
pub struct Work<'a> {
    pub machine: &'a Machine,
    pub lease: &'a Lease,
    pub job: &'a Job,
    pub share: &'a dyn Share,
    /// `None` for a job that is to be done at every boot.
    pub request: Option<done::Current<'a>>,
    pub log: &'a RunLog,
    pub watch: &'a mut wait::Watch,
}

impl Work<'_> {
    /// Decides what to do; the disks are waited for, and nothing is written.
    pub fn plan(&mut self) -> anyhow::Result<Prepared> {
        let mut prepared = self.decide()?;
        prepared.plan.about = about::about(self, &prepared)?;
        Ok(prepared)
    }

    fn decide(&mut self) -> anyhow::Result<Prepared> {
        match &self.job.action {
            Action::Backup(options) | Action::BackupAgain(options) => backup::plan(self, options),
            Action::Restore(options) => restore::plan(self, options),
            Action::Partition { layout } => partition::plan(self, layout),
            Action::Wipe { method } => wipe::plan(self, *method),
            Action::Capture(_) | Action::Deploy(_) | Action::Update(_) | Action::Run(_) => {
                tree::plan(self)
            }
            Action::RefreshInfo | Action::Rescue => Ok(Prepared {
                plan: Plan::info(self.heading()),
                images: images::Images::default(),
                tree: None,
                ahead: None,
                done: false,
            }),
        }
    }

    /// The disks that the job means, as soon as they are there, and all that the machine has.
    fn select(&mut self, will_write: bool) -> anyhow::Result<(Inventory, Selection)> {
        let listed = listed_disks(self)?;
        let disks = &self.job.disks;
        let (inventory, selection) =
            self.watch
                .wait_for(self.machine, disks.is_empty(), |inventory| {
                    select::select(inventory, disks, listed.as_deref(), will_write)
                })?;
        if disks.is_empty() {
            for known in self.watch.missing(&inventory) {
                self.log.warn(format!(
                    "the last run on this machine knew {}, which is not here now",
                    describe(&known)
                ));
            }
        }
        Ok((inventory, selection))
    }

    /// A job that names no disk means every fixed one, those too that appeared after the plan was made. They are noted,
    /// for the next try to wait for them.
    ///
    /// # Errors
    /// Names those disks.
    fn check_none_late(&self) -> anyhow::Result<()> {
        if !self.job.disks.is_empty() {
            return Ok(());
        }
        let mut late = self.watch.late(self.machine)?;
        if late.is_empty() {
            return Ok(());
        }
        if let Some(lines) = listed_disks(self)? {
            late.retain(|disk| select::is_listed(disk, &lines));
        }
        let names: Vec<String> = late.iter().map(ToString::to_string).collect();
        if names.is_empty() {
            return Ok(());
        }
        if let Err(error) = info::note_machine(self) {
            self.log.warn(format!(
                "the next try will not wait for {}, which is not noted: {error:#}",
                names.join(", ")
            ));
        }
        bail!(
            "{} appeared after the plan was made, and a job that names no disk means every fixed one: this run missed \
             it; the next try has it",
            names.join(", ")
        )
    }

    /// Does what was planned. `begins` is called when nothing can be refused any more of the restore of a disk that may have a
    /// part of its image, `is_done` when all of it is on the disks or on the share.
    /// Returns the root of a tree that the machine is to go on in.
    pub fn execute(
        &self,
        prepared: &Prepared,
        begins: &dyn Fn(),
        is_done: impl FnOnce(),
    ) -> anyhow::Result<Option<PathBuf>> {
        let began = Instant::now();
        let root = self.walk(prepared, begins)?;
        is_done();
        if prepared.plan.changes_partitions() {
            // The disks are not what they were.
            info::write_text(self)?;
        }
        let Some(kind) = pace::kind(&prepared.plan) else {
            return Ok(root);
        };
        let bytes = prepared.plan.disks().iter().map(|(_, bytes)| bytes).sum();
        let home = self.lease.folder();
        if let Err(error) = pace::record(self.share, &home, &kind, bytes, began.elapsed()) {
            self.log
                .warn(format!("how fast it went is not noted: {error:#}"));
        }
        Ok(root)
    }

    /// Puts the plan on the share, for programs.
    pub fn publish(&self, plan: &Plan) -> anyhow::Result<()> {
        let path = format!("{}/plan.json", self.lease.folder());
        let text = format!("{:#}\n", plan.to_json());
        attempts::put(self.share, &path, text.as_bytes())
    }

    fn walk(&self, prepared: &Prepared, begins: &dyn Fn()) -> anyhow::Result<Option<PathBuf>> {
        match (&prepared.plan.steps, &self.job.action) {
            // Looks for late disks before any image takes its name.
            (Steps::Capture(captures), Action::Backup(options) | Action::BackupAgain(options)) => {
                return backup::run(self, captures, options).map(|()| None);
            }
            (Steps::Restore(restores), Action::Restore(options)) => {
                restore::run(self, restores, prepared, options, begins)?;
            }
            (Steps::Arrange(steps), _) => partition::run(self, steps)?,
            (Steps::Wipe(wipes), _) => wipe::run(self, wipes)?,
            // Which disks it is about was settled when the system, or the one disk, was found.
            (Steps::Tree(_), _) => match &prepared.tree {
                Some(ready) => return tree::execute(self, ready),
                None => bail!("the plan has no tree: a fault in Pitstop itself"),
            },
            (Steps::Info, _) => return Ok(None),
            (_, action) => bail!("the plan is not of this {action}: a fault in Pitstop itself"),
        }
        self.check_none_late()?;
        Ok(None)
    }

    fn heading(&self) -> Heading {
        Heading {
            machine: name(self.lease),
            action: self.job.action.name(),
            share: self.share.name().to_owned(),
            folder: self.job.image.clone(),
        }
    }

    /// A file of the images' folder.
    fn image_path(&self, file: &str) -> String {
        format!("{}/{file}", self.job.image)
    }
}

/// A plan, and the images of its restores.
pub struct Prepared {
    pub plan: Plan,
    images: images::Images,
    tree: Option<tree::Ready>,
    /// What was written before the image was whole.
    pub ahead: Option<Arc<Ahead>>,
    /// An earlier try of this very job has done all of it.
    pub done: bool,
}

/// `10.0.2.15 (testbox7)`
pub fn name(lease: &Lease) -> String {
    match &lease.hostname {
        Some(hostname) => format!("{} ({hostname})", lease.shown()),
        None => lease.shown(),
    }
}

/// The lines of `disk-devices.lst` in the machine's folder; `None` when there is no such file.
fn listed_disks(work: &Work<'_>) -> anyhow::Result<Option<Vec<String>>> {
    use std::io::Read;
    /// A line for each disk that one machine can have.
    const MOST_BYTES: u64 = 1 << 20;
    let path = format!("{}/disk-devices.lst", work.lease.folder());
    if work.share.stat(&path)?.is_none() {
        return Ok(None);
    }
    let mut text = String::new();
    work.share
        .open(&path)?
        .take(MOST_BYTES)
        .read_to_string(&mut text)
        .with_context(|| format!("reading {path} on {}", work.share.name()))?;
    Ok(Some(crate::plan::select::parse_list(&text)))
}

/// The events of one step of the plan: which disk, by model and serial, and which step. Notes how far the step has come.
struct Labelled<'a> {
    inner: &'a dyn Reporter,
    subject: Subject,
    act: Act,
    last: Mutex<Option<Progress>>,
}

impl<'a> Labelled<'a> {
    /// `step` counts from 1.
    fn new(inner: &'a dyn Reporter, act: Act, step: usize, disk: &Disk) -> Self {
        Self {
            inner,
            subject: subject(step, disk),
            act,
            last: Mutex::default(),
        }
    }

    /// From here on the disk or its image is written.
    fn begins(&self) {
        self.tell(Stage::Begun);
    }

    /// The step is done, and proven.
    fn is_done(&self) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let stage = last.as_ref().map_or(
            Stage::Done {
                bytes: 0,
                transferred: 0,
                took: Duration::ZERO,
            },
            |last| Stage::Done {
                bytes: last.done,
                transferred: last.transferred,
                took: last.elapsed,
            },
        );
        drop(last);
        self.tell(stage);
    }

    fn tell(&self, stage: Stage) {
        self.inner.event(&Event::Step {
            act: self.act,
            subject: self.subject.clone(),
            stage,
        });
    }
}

/// What the events of a step are about.
fn subject(step: usize, disk: &Disk) -> Subject {
    let identity = &disk.identity;
    let facts = [identity.model.as_str(), identity.serial.as_str()];
    let known: Vec<&str> = facts.into_iter().filter(|fact| !fact.is_empty()).collect();
    Subject {
        name: identity.device.clone(),
        label: known.join(" "),
        step: u32::try_from(step).unwrap_or(u32::MAX),
    }
}

impl Reporter for Labelled<'_> {
    fn event(&self, event: &Event) {
        if let Event::Progress(progress) = event
            && progress.act == self.act
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            *last = Some(progress.clone());
        }
        self.inner
            .event(&event.about(|subject| subject.clone_from(&self.subject)));
    }
}
