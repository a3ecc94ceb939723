//! Withdrawing jobs, and setting them again.

use super::which::{Chosen, Which, chosen, jobs, last_of_each};
use crate::host::batch::who;
use crate::host::{Root, say};
use anyhow::{Context, bail};
use jiff::Timestamp;
use pitstop_jobs::{Happened, Job, State};
use pitstop_server::jobs::{Changes, Store};
use pitstop_server::write::remove;
use std::fmt::Write;

pub fn cancel(root: &Root, which: &[Which]) -> anyhow::Result<()> {
    let hosts = root.hosts()?;
    let named = Chosen::new(root, which)?;
    let open = chosen(jobs(root)?, &named)?;
    let store = Store::at(&root.path);
    let what = Happened::Cancelled { by: who() };
    let mut said = String::new();
    for job in open.iter().filter(|job| !job.state.is_over()) {
        let locked = store.lock()?;
        let Some(before) = locked.read(&job.id)?.filter(|job| !job.state.is_over()) else {
            continue;
        };
        locked.change(&job.id, &what, Timestamp::now())?;
        if before.state.is_set() {
            remove(&hosts, &job.host_file)
                .with_context(|| format!("removing the host file {}", job.host_file))?;
        }
        let then = match before.state {
            State::Running => ", but is at work and goes on to its end",
            State::Queued => ", and the machine reboots without having touched anything",
            _ => "",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(said, "{}: job {} is cancelled{then}", job.shown(), job.id);
    }
    if said.is_empty() {
        bail!("{}", none(&open, "open"));
    }
    say(&said)
}

pub fn retry(root: &Root, which: &[Which]) -> anyhow::Result<()> {
    let hosts = root.hosts()?;
    let named = Chosen::new(root, which)?;
    let all = jobs(root)?;
    let found = last_of_each(chosen(all.clone(), &named)?, &named);
    let again =
        |job: &&Job| matches!(job.state, State::Failed | State::Cancelled) || named.names(&job.id);
    let mut said = String::new();
    let mut batch = None;
    let mut changes = Changes::of(&Store::at(&root.path));
    for job in found.iter().filter(again) {
        let newer = |other: &&Job| {
            !other.state.is_over() && other.state != State::Scheduled && other.is_of_machine(job)
        };
        if let Some(open) = all.iter().find(newer) {
            bail!(
                "{} has the job {} ({}) now: wait for it, or cancel it first",
                job.shown(),
                open.id,
                open.state
            );
        }
        let locked = changes.locked()?;
        let now = Timestamp::now();
        let id = locked.new_id(now)?;
        let batch = batch.get_or_insert_with(|| id.clone());
        let next = job.again(id, batch.clone(), &who(), now);
        locked.set(&hosts, &next)?;
        // Writing to a String cannot fail.
        let _ = writeln!(
            said,
            "{}: {} is set again, job {}",
            next.shown(),
            next.action,
            next.id
        );
    }
    if said.is_empty() {
        bail!("{}", none(&found, "failed or cancelled"));
    }
    say(&said)
}

/// Why nothing was done to `found`.
fn none(found: &[Job], wanted: &str) -> String {
    match found {
        [] => "no job is meant by this: pitstop job list shows those that there are".into(),
        [job] => format!(
            "the job {} of {} is {}, not {wanted}",
            job.id,
            job.shown(),
            job.state
        ),
        jobs => format!("none of these {} jobs is {wanted}", jobs.len()),
    }
}
