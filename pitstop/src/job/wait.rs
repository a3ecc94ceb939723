//! Waiting for jobs.

use super::which::found;
use crate::host::{Root, say};
use anyhow::bail;
use pitstop_api::{Job, JobState as State};
use pitstop_imaging::units;
use pitstop_protocol::host_name::printable;
use pitstop_protocol::id::Id;
use pitstop_server::jobs::{Chosen, Which, chosen, open_or_last};
use std::collections::HashMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How many jobs an error names.
const NAMED: usize = 10;

/// What a look at the jobs brought.
pub enum Waited {
    Jobs(Vec<Job>),
    /// Nobody could be asked this time.
    Away,
}

pub fn wait(root: &Root, which: &[Which], timeout: Option<Duration>) -> anyhow::Result<()> {
    let named = Chosen::new(&root.path, which)?;
    until_over(timeout, || {
        let all = found(root)?;
        if let [wrong, ..] = all.wrong.as_slice() {
            bail!("{wrong}; whether that job is done cannot be told: mend the file or remove it");
        }
        let found = chosen(all.jobs, &named)?;
        // A job that comes again and again is never over.
        let one_time = found.into_iter().filter(|job| job.every.is_none());
        let found = open_or_last(one_time.collect(), &named);
        Ok(Waited::Jobs(found.iter().map(Job::from).collect()))
    })
}

/// Looks until all jobs are over, and tells each change.
pub fn until_over(
    timeout: Option<Duration>,
    mut look: impl FnMut() -> anyhow::Result<Waited>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut told: HashMap<Id, State> = HashMap::new();
    let mut found = Vec::new();
    loop {
        if let Waited::Jobs(jobs) = look()? {
            found = jobs;
            if found.is_empty() {
                bail!("there is no job to wait for: pitstop job list shows those that there are");
            }
            for job in &found {
                if told.insert(job.id.clone(), job.state) != Some(job.state) {
                    say(&line(job))?;
                }
            }
            if found.iter().all(|job| job.state.is_over()) {
                return ended(&found);
            }
        }
        if let Some(timeout) = timeout.filter(|timeout| begun.elapsed() >= *timeout) {
            let open: Vec<&Job> = found
                .iter()
                .filter(|job| job.state != State::Done)
                .collect();
            bail!(
                "after {} {} of {} jobs are not done: {}",
                units::duration(timeout),
                open.len(),
                found.len(),
                names(&open)
            );
        }
        let left = timeout.map_or(LOOK, |timeout| timeout.saturating_sub(begun.elapsed()));
        sleep(left.min(LOOK));
    }
}

fn line(job: &Job) -> String {
    let why = job.reason.as_ref().filter(|_| job.state != State::Done);
    let why = why.map(|why| format!(": {}", printable(why)));
    format!(
        "{} {} {}{}\n",
        printable(job.shown()),
        job.action,
        job.state,
        why.unwrap_or_default()
    )
}

fn ended(jobs: &[Job]) -> anyhow::Result<()> {
    let bad: Vec<&Job> = jobs.iter().filter(|job| job.state != State::Done).collect();
    if bad.is_empty() {
        return Ok(());
    }
    bail!(
        "{} of {} jobs are not done: {}",
        bad.len(),
        jobs.len(),
        names(&bad)
    )
}

fn names(jobs: &[&Job]) -> String {
    let mut names: Vec<String> = jobs
        .iter()
        .take(NAMED)
        .map(|job| format!("{} is {}", printable(job.shown()), job.state))
        .collect();
    if jobs.len() > NAMED {
        names.push(format!("and {} more", jobs.len() - NAMED));
    }
    names.join(", ")
}
