//! Withdrawing jobs, and setting them again.

use super::which::{Chosen, Which, chosen, jobs, last_of_each};
use crate::host::batch::who;
use crate::host::{Root, say};
use anyhow::{Context, Error, anyhow, bail};
use jiff::Timestamp;
use pitstop_jobs::{Happened, Job, State};
use pitstop_protocol::job::Clock;
use pitstop_server::host_files::remove;
use pitstop_server::jobs::{Changes, Locked, Store};
use pitstop_server::list;
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
    let found = last_of_each(chosen(jobs(root)?, &named)?, &named);
    let again =
        |job: &&Job| matches!(job.state, State::Failed | State::Cancelled) || named.names(&job.id);
    let again: Vec<&Job> = found.iter().filter(again).collect();
    if again.is_empty() {
        bail!("{}", none(&found, "failed or cancelled"));
    }
    let mut changes = Changes::of(&Store::at(&root.path));
    // All are looked at before the first is set.
    for job in &again {
        is_free(changes.locked()?, job)?;
        can_come_again(job)?;
    }
    let mut batch = None;
    for job in again {
        let locked = changes.locked()?;
        // Somebody may have set one since.
        is_free(locked, job)?;
        let now = Timestamp::now();
        let id = locked.new_id(now)?;
        let batch = batch.get_or_insert_with(|| id.clone());
        let next = job.again(id, batch.clone(), &who(), now);
        locked.set(&hosts, &next)?;
        // At once: if the next one fails, it is known that this one is set.
        say(&format!(
            "{}: {} is set again, job {}\n",
            next.shown(),
            next.action,
            next.id
        ))?;
    }
    Ok(())
}

/// Whether a signed job would be done again: its signature stands for one time, and ends.
fn can_come_again(job: &Job) -> anyhow::Result<()> {
    if job.signature.is_none() {
        return Ok(());
    }
    let how = "set it anew: pitstop host set … --sign KEY.sec";
    if job.state == State::Done {
        bail!(
            "the job {} of {} is signed, and was done: {how}",
            job.id,
            job.shown()
        );
    }
    let job_now = list::preview(job.text.as_bytes(), &job.host_file, None).map_err(Error::msg)?;
    let in_time = job_now.terms.check_time(Timestamp::now(), Clock::Plausible);
    in_time.map_err(|why| anyhow!("the signed job {} of {}: {why}; {how}", job.id, job.shown()))?;
    Ok(())
}

/// Whether the machine of `job` has no other job now.
fn is_free(locked: &Locked, job: &Job) -> anyhow::Result<()> {
    let others = locked.others_of(job)?;
    let Some(open) = others.iter().find(|other| other.state.is_set()) else {
        return Ok(());
    };
    bail!(
        "{} has the job {} ({}) now: wait for it, or cancel it first",
        job.shown(),
        open.id,
        open.state
    )
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
