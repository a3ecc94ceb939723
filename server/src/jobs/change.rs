//! Withdrawing jobs, and setting them again: for the command and for the API.

use super::moved::{not_again, with_names_of_now};
use super::which::{Chosen, chosen, last_of_each};
use super::{Changes, Locked, Store};
use crate::host_files::remove;
use crate::list;
use crate::set::Conflict;
use anyhow::{Context, Error};
use cap_std::fs::Dir;
use jiff::Timestamp;
use pitstop_fleet::Fleet;
use pitstop_jobs::{Happened, Job, State, follow_again};
use pitstop_protocol::job::Clock;
use std::sync::Arc;

/// A job that was withdrawn.
pub struct Cancelled {
    /// As it was before.
    pub job: Job,
}

impl Cancelled {
    /// A line for people.
    pub fn told(&self) -> String {
        let job = &self.job;
        let then = match job.state {
            State::Running => ", but is at work and goes on to its end",
            _ if job.written => {
                "; its machine's disk has a part of the image and does not boot: set another restore"
            }
            State::Queued => ", and the machine reboots without having touched anything",
            _ => "",
        };
        format!("{}: job {} is cancelled{then}\n", job.shown(), job.id)
    }
}

/// Withdraws those of `jobs` that are chosen and not over.
///
/// # Errors
/// [`Conflict`] where none is open.
pub fn cancel(
    store: &Store,
    hosts: &Dir,
    jobs: Vec<Job>,
    named: &Chosen,
    by: &str,
) -> anyhow::Result<Vec<Cancelled>> {
    let open = chosen(jobs, named)?;
    let what = Happened::Cancelled { by: by.to_owned() };
    let mut cancelled = Vec::new();
    for job in open.iter().filter(|job| !job.state.is_over()) {
        let locked = store.lock()?;
        let Some(before) = locked.read(&job.id)?.filter(|job| !job.state.is_over()) else {
            continue;
        };
        // First of all: where nothing can be noted, as on a full disk, no machine is to be wiped for that. Where another job took its
        // place, the host file is that one's.
        if before.state.is_set() && before.superseded_by.is_none() {
            remove(hosts, &job.host_file)
                .with_context(|| format!("removing the host file {}", job.host_file))?;
        }
        locked.change(&job.id, &what, Timestamp::now())?;
        cancelled.push(Cancelled { job: before });
    }
    if cancelled.is_empty() {
        return Err(Conflict(none(&open, "open")).into());
    }
    Ok(cancelled)
}

/// Of `jobs`, which are all that there are, sets those again that are chosen, and failed or were cancelled, or are named
/// themselves. None whose machine has other names in `fleet` by now: under the old one another machine may find it. One that
/// followed a backup follows the last one of the same images since. `tell` hears of each at once: if the next one fails, it is
/// known that this one is set.
///
/// # Errors
/// [`Conflict`] where there is none, where a machine has another job now, or another address. That of `fleet`, where a job is
/// of a machine that has its name there.
pub fn retry(
    store: &Store,
    hosts: &Dir,
    fleet: anyhow::Result<Arc<Fleet>>,
    jobs: Vec<Job>,
    named: &Chosen,
    by: &str,
    mut tell: impl FnMut(&Job) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let backups = jobs.iter().filter(|job| job.is_backup());
    let backups: Vec<Job> = backups.cloned().collect();
    let found = last_of_each(chosen(jobs, named)?, named);
    let again =
        |job: &&Job| matches!(job.state, State::Failed | State::Cancelled) || named.names(&job.id);
    let again: Vec<&Job> = found.iter().filter(again).collect();
    if again.is_empty() {
        return Err(Conflict(none(&found, "failed or cancelled")).into());
    }
    let fleet = match fleet {
        Err(error) if again.iter().any(|job| job.name.is_some()) => return Err(error),
        fleet => fleet.unwrap_or_default(),
    };
    let again = again.into_iter().cloned();
    let again: Vec<Job> = again.map(|job| with_names_of_now(&fleet, job)).collect();
    let mut changes = Changes::of(store);
    // All are looked at before the first is set.
    for job in &again {
        is_where_it_was(&fleet, job)?;
        is_free(changes.locked()?, job)?;
        can_come_again(job)?;
    }
    let mut batch = None;
    for job in again {
        let locked = changes.locked()?;
        // Somebody may have set one since.
        is_free(locked, &job)?;
        let now = Timestamp::now();
        let id = locked.new_id(now)?;
        let batch = batch.get_or_insert_with(|| id.clone());
        let mut next = job.again(id, batch.clone(), by, now);
        next.follows = next.follows.map(|first| follow_again(&backups, &first));
        locked.set(hosts, &next)?;
        tell(&next)?;
    }
    Ok(())
}

/// What was set again, as a line for people.
pub fn set_again(job: &Job) -> String {
    let (machine, action, id) = (job.shown(), job.action, &job.id);
    format!("{machine}: {action} is set again, job {id}\n")
}

/// Whether a signed job would be done again: its signature stands for one time, and ends.
fn can_come_again(job: &Job) -> anyhow::Result<()> {
    if job.signature.is_none() {
        return Ok(());
    }
    let (id, machine) = (&job.id, job.shown());
    let how = "set it anew: pitstop host set … --sign KEY.sec";
    if job.state == State::Done {
        let why = format!("the job {id} of {machine} is signed, and was done: {how}");
        return Err(Conflict(why).into());
    }
    let read = list::preview(job.text.as_bytes(), &job.host_file, None).map_err(Error::msg)?;
    let in_time = read.terms.check_time(Timestamp::now(), Clock::Plausible);
    in_time
        .map_err(|why| Conflict(format!("the signed job {id} of {machine}: {why}; {how}")).into())
}

/// Whether the machine of `job` would still find it under its name.
fn is_where_it_was(fleet: &Fleet, job: &Job) -> anyhow::Result<()> {
    not_again(fleet, job).map_or(Ok(()), |why| Err(Conflict(why).into()))
}

/// Whether the machine of `job` has no other job now.
fn is_free(locked: &Locked, job: &Job) -> anyhow::Result<()> {
    let others = locked.others_of(job)?;
    let Some(open) = others.iter().find(|other| other.state.is_set()) else {
        return Ok(());
    };
    Err(Conflict(format!(
        "{} has the job {} ({}) now: wait for it, or cancel it first",
        job.shown(),
        open.id,
        open.state
    ))
    .into())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::Which;
    use crate::jobs::fake::{Root, job};

    #[test]
    fn a_job_that_is_set_again_ends_nothing_of_who_has_its_address_of_before() {
        let text = b"version = 1\n[network.\"10.0.2.0/24\"]\n[host.a]\nip = \"10.0.2.16\"\nmac = \"52:54:00:00:0c:01\"\n";
        let fleet = Arc::new(Fleet::parse(text, "fleet.toml").unwrap());
        let root = Root::new();
        let failed = Job {
            name: Some("a".into()),
            state: State::Failed,
            host_file: "01-52-54-00-00-0c-01.toml".into(),
            other_files: vec!["0A00020F.toml".into()],
            ..job(14, Timestamp::UNIX_EPOCH)
        };
        root.store.lock().unwrap().put(&failed).unwrap();
        let others = root.set(15, Timestamp::UNIX_EPOCH);
        let named = Chosen::new(root.folder.path(), &[Which::Job(failed.id.clone())]).unwrap();
        let all = root.store.all().unwrap().jobs;
        let tell = |_: &Job| Ok(());
        let (store, hosts) = (&root.store, &root.hosts);
        retry(store, hosts, Ok(fleet), all, &named, "root", tell).unwrap();
        assert!(root.hosts.exists(&failed.host_file));
        assert!(root.hosts.exists(&others.host_file));
        assert_eq!(root.now(&others), others);
    }

    #[test]
    fn a_wrong_fleet_file_hinders_no_job_of_a_machine_that_has_no_name_in_it() {
        let root = Root::new();
        let by_address = Job {
            state: State::Failed,
            ..job(15, Timestamp::UNIX_EPOCH)
        };
        let by_name = Job {
            name: Some("b".into()),
            state: State::Failed,
            ..job(16, Timestamp::UNIX_EPOCH)
        };
        for job in [&by_address, &by_name] {
            root.store.lock().unwrap().put(job).unwrap();
        }
        let again = |job: &Job| {
            let named = Chosen::new(root.folder.path(), &[Which::Job(job.id.clone())]).unwrap();
            let all = root.store.all().unwrap().jobs;
            let fleet = Err(anyhow::anyhow!("fleet.toml, line 3: no"));
            retry(&root.store, &root.hosts, fleet, all, &named, "root", |_| {
                Ok(())
            })
        };
        again(&by_address).unwrap();
        assert!(root.hosts.exists(&by_address.host_file));
        let error = again(&by_name).unwrap_err().to_string();
        assert!(error.contains("line 3"), "{error}");
        assert!(!root.hosts.exists(&by_name.host_file));
    }

    #[test]
    fn a_job_is_not_set_again_under_an_address_that_is_anothers() {
        let fleet = |a: &str, b: &str| {
            let text = format!(
                "version = 1\n[network.\"10.0.2.0/24\"]\n[host.a]\nip = \"{a}\"\n[host.b]\nip = \"{b}\"\n"
            );
            Arc::new(Fleet::parse(text.as_bytes(), "fleet.toml").unwrap())
        };
        let root = Root::new();
        let failed = Job {
            name: Some("a".into()),
            state: State::Failed,
            ..job(15, Timestamp::UNIX_EPOCH)
        };
        root.store.lock().unwrap().put(&failed).unwrap();
        let which = [Which::Job(failed.id.clone())];
        let named = Chosen::new(root.folder.path(), &which).unwrap();
        let again = |fleet| {
            let all = root.store.all().unwrap().jobs;
            let tell = |_: &Job| Ok(());
            retry(
                &root.store,
                &root.hosts,
                Ok(fleet),
                all,
                &named,
                "root",
                tell,
            )
        };
        let error = again(fleet("10.0.2.16", "10.0.2.15")).unwrap_err();
        assert!(error.is::<Conflict>(), "{error:#}");
        assert!(error.to_string().contains("which is b's"), "{error:#}");
        assert!(!root.hosts.exists(&failed.host_file));
        again(fleet("10.0.2.15", "10.0.2.16")).unwrap();
        assert!(root.hosts.exists(&failed.host_file));
    }
}
