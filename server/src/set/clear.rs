//! Dropping jobs: machines boot from their own disks again.

use super::target::{Need, Target, Who, targets};
use super::{Conflict, Machines};
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

/// Machines whose jobs are dropped under one lock: a second's. Then others get their turn.
const AT_ONCE: usize = 250;

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
    let mut stays = String::new();
    for some in targets.chunks(AT_ONCE) {
        let locked = store.lock()?;
        let all = locked.all()?.jobs;
        for (target, its) in some.iter().zip(its(some, &all, hosts)) {
            // First of all: where nothing can be noted, as on a full disk, no machine is to be wiped for that.
            let mut found = !its.jobs.is_empty();
            for file in its.files {
                found |= remove(hosts, &file)
                    .with_context(|| format!("removing {}", folder.join(&file).display()))?;
            }
            let mut tracked = String::new();
            for (job, is_own) in &its.jobs {
                let what = Happened::Cancelled { by: by.to_owned() };
                locked.change(&job.id, &what, Timestamp::now())?;
                let whose = match &job.name {
                    Some(name) if !is_own => format!("{name}'s "),
                    _ => String::new(),
                };
                // Writing to a String cannot fail.
                let _ = write!(tracked, "; {whose}job {} is cancelled", job.id);
                if job.state == State::Running {
                    tracked.push_str(", but is at work and goes on to its end");
                }
            }
            let later: String = its.later.iter().map(|job| not_due(job)).collect();
            let jobs = its.jobs.into_iter().map(|(job, _)| job.clone());
            cleared.jobs.extend(jobs);
            if found {
                cleared.lines.push(format!(
                    "{target} has no job any more: it boots from its own disk{tracked}{later}"
                ));
            }
            stays += &later;
        }
    }
    if cleared.lines.is_empty() {
        return Err(Conflict(match &targets[..] {
            [target] => format!(
                "{target} has no job: there is no {}{stays}",
                folder.join(target.machine.file()).display()
            ),
            targets => format!("none of these {} machines has a job", targets.len()),
        })
        .into());
    }
    Ok(cleared)
}

/// What a machine has.
struct Its<'a> {
    /// Those that are set, and whether they are its own: of others it would find the host file.
    jobs: Vec<(&'a Job, bool)>,
    files: Vec<String>,
    /// Its own that are not due yet.
    later: Vec<&'a Job>,
}

/// That a job is not withdrawn with those of now, which nobody would see before it is due.
fn not_due(job: &Job) -> String {
    let due = job.at.map(|at| format!(" at {at}")).unwrap_or_default();
    let (id, action) = (&job.id, job.action);
    format!("; job {id} ({action}) stays, and is due{due}: pitstop job cancel {id}")
}

fn its<'a>(targets: &[Target], all: &'a [Job], hosts: &Dir) -> Vec<Its<'a>> {
    let machines = Machines::new(targets);
    let nothing = |target: &Target| Its {
        jobs: Vec::new(),
        files: target.files(),
        later: Vec::new(),
    };
    let mut each: Vec<Its> = targets.iter().map(nothing).collect();
    for job in all {
        let found = machines.finder(job);
        let Some(its) = found.and_then(|at| each.get_mut(at)) else {
            continue;
        };
        let is_own = machines.whose(job).is_some();
        // It may have had another address when that was set, which may be another machine's by now.
        if is_own && is_owner(all, hosts, job) {
            its.files.push(job.host_file.clone());
        }
        if job.state.is_set() {
            its.jobs.push((job, is_own));
        } else if is_own && job.state == State::Scheduled {
            its.later.push(job);
        }
    }
    each
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::fake::{Root, job};
    use crate::jobs::{Chosen, Which, cancel};
    use std::fs;

    #[test]
    fn a_job_that_is_not_due_stays_and_is_told() {
        let root = Root::new();
        let later = Job {
            at: Some("2099-11-28T22:00:00Z".parse().unwrap()),
            state: State::Scheduled,
            ..job(15, Timestamp::UNIX_EPOCH)
        };
        root.store.lock().unwrap().put(&later).unwrap();
        let who: Who = "10.0.2.15".parse().unwrap();
        let clear = || {
            clear(
                root.folder.path(),
                &root.hosts,
                std::slice::from_ref(&who),
                "root",
            )
        };
        let id = &later.id;
        let told = format!(
            "; job {id} (backup) stays, and is due at 2099-11-28T22:00:00Z: pitstop job cancel {id}"
        );
        let error = clear().err().unwrap().to_string();
        assert!(error.ends_with(&told), "{error}");
        root.set(15, Timestamp::from_second(1).unwrap());
        let line = clear().unwrap().lines.remove(0);
        assert!(line.ends_with(&told), "{line}");
        assert_eq!(root.now(&later).state, State::Scheduled);
    }

    #[test]
    fn where_nothing_can_be_noted_no_machine_finds_its_job_all_the_same() {
        for is_cleared in [true, false] {
            let root = Root::new();
            let job = root.set(15, Timestamp::UNIX_EPOCH);
            let folder = root.folder.path();
            let history = folder.join("jobs/history.ndjson");
            fs::create_dir(&history).unwrap();
            let failed = if is_cleared {
                let who: Who = "10.0.2.15".parse().unwrap();
                clear(folder, &root.hosts, &[who], "root").map(drop)
            } else {
                let which: Which = job.id.to_string().parse().unwrap();
                let named = Chosen::new(folder, &[which]).unwrap();
                let jobs = root.store.all().unwrap().jobs;
                cancel(&root.store, &root.hosts, jobs, &named, "root").map(drop)
            };
            let error = format!("{:#}", failed.unwrap_err());
            assert!(error.contains("history.ndjson"), "{error}");
            assert!(!root.hosts.exists(&job.host_file));
        }
    }
}
