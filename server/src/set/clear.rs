//! Dropping jobs: machines boot from their own disks again.

use super::Conflict;
use super::target::{Need, Target, Who, targets};
use crate::host_files::remove;
use crate::jobs::{Store, is_owner};
use crate::list;
use anyhow::Context;
use cap_std::fs::Dir;
use jiff::Timestamp;
use pitstop_jobs::{Happened, Job, State};
use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;

/// What was dropped.
#[derive(Default)]
pub struct Cleared {
    /// Jobs that were withdrawn, as they were before.
    pub jobs: Vec<Job>,
    /// A line a machine, for people.
    pub lines: Vec<String>,
}

/// The host files that are there: of `machines`, or all where none is named.
///
/// # Errors
/// They cannot be read, or a machine that is named means none.
pub fn host_files(root: &Path, hosts: &Dir, machines: &[Who]) -> anyhow::Result<Vec<list::Job>> {
    let mut jobs = list::jobs(hosts)?;
    if !machines.is_empty() {
        let targets = targets(root, machines, Need::Names)?;
        let files: HashSet<String> = targets.iter().flat_map(Target::files).collect();
        jobs.retain(|job| files.contains(&job.file));
    }
    Ok(jobs)
}

/// Removes the host files of `machines`, and withdraws their jobs.
///
/// # Errors
/// [`Conflict`] where none of them has a job.
pub fn clear(root: &Path, hosts: &Dir, machines: &[Who], by: &str) -> anyhow::Result<Cleared> {
    let folder = root.join("hosts");
    let targets = targets(root, machines, Need::Names)?;
    let store = Store::at(root);
    let mut cleared = Cleared::default();
    for target in &targets {
        let mut files = target.files();
        let names = files.clone();
        let mut tracked = String::new();
        let locked = store.lock()?;
        let mut jobs = locked.all()?.jobs;
        let its = |job: &Job| job.files().any(|file| names.contains(file));
        // It may have had another address when that was set, which may be another machine's by now.
        let own = jobs
            .iter()
            .filter(|job| its(job) && is_owner(&jobs, hosts, job));
        files.extend(own.map(|job| job.host_file.clone()));
        jobs.retain(|job| job.state.is_set() && its(job));
        for job in &jobs {
            let what = Happened::Cancelled { by: by.to_owned() };
            locked.change(&job.id, &what, Timestamp::now())?;
            // Writing to a String cannot fail.
            let _ = write!(tracked, "; job {} is cancelled", job.id);
            if job.state == State::Running {
                tracked.push_str(", but is at work and goes on to its end");
            }
        }
        let mut found = !jobs.is_empty();
        for file in files {
            found |= remove(hosts, &file)
                .with_context(|| format!("removing {}", folder.join(&file).display()))?;
        }
        cleared.jobs.append(&mut jobs);
        if found {
            cleared.lines.push(format!(
                "{target} has no job any more: it boots from its own disk{tracked}"
            ));
        }
    }
    if cleared.lines.is_empty() {
        return Err(Conflict(match &targets[..] {
            [target] => format!(
                "{target} has no job: there is no {}",
                folder.join(target.machine.file()).display()
            ),
            targets => format!("none of these {} machines has a job", targets.len()),
        })
        .into());
    }
    Ok(cleared)
}
