//! Jobs, the queue, the schedule.

use super::failed;
use crate::jobs::{Chosen, OnShare, Standing, Which, chosen, limits, one, open_or_last};
use crate::refusal::Refusal;
use crate::set::Conflict;
use crate::site::Site;
use axum::http::StatusCode;
use pitstop_api::{Ended, Entry, GroupSlots, Job, JobDetail, JobState, Jobs, Queue, Run, Schedule};
use std::collections::HashMap;

/// Tries of a job that are told.
const TRIES: usize = 10;

/// What of the jobs is wanted.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of these alone; all where nothing is named.
    pub which: Vec<Which>,
    /// Also those that are over and not their machine's last.
    pub all: bool,
    /// Those that come again and again are left out.
    pub one_time: bool,
    pub state: Option<JobState>,
}

/// Why a selection is refused: nothing is named so.
pub fn not_chosen(error: &anyhow::Error) -> Refusal {
    let status = if error.is::<crate::jobs::Gone>() {
        StatusCode::NOT_FOUND
    } else if error.is::<Conflict>() {
        StatusCode::CONFLICT
    } else {
        StatusCode::BAD_REQUEST
    };
    Refusal::new(status, format!("{error:#}"))
}

pub fn chosen_of(site: &Site, which: &[Which]) -> Result<Chosen, Refusal> {
    Chosen::new(site.jobs.store().root(), which).map_err(|e| not_chosen(&e))
}

/// Jobs, the oldest first: those that are open, and the last one of each machine.
pub fn jobs(site: &Site, wanted: &Wanted) -> Result<Jobs, Refusal> {
    let found = site.jobs.found().map_err(|e| failed(&e))?;
    let named = chosen_of(site, &wanted.which)?;
    let mut jobs = chosen(found.jobs.clone(), &named).map_err(|e| not_chosen(&e))?;
    if wanted.one_time {
        jobs.retain(|job| job.every.is_none());
    }
    if !wanted.all {
        jobs = open_or_last(jobs, &named);
    }
    jobs.retain(|job| wanted.state.is_none_or(|state| job.state == state));
    Ok(Jobs {
        jobs: jobs.iter().map(Job::from).collect(),
        wrong: found.wrong.clone(),
        next: None,
    })
}

/// One job: by its id, or the one that a machine has now, or had last.
pub fn job(site: &Site, which: &Which) -> Result<JobDetail, Refusal> {
    let found = site.jobs.found().map_err(|e| failed(&e))?;
    let named = chosen_of(site, std::slice::from_ref(which))?;
    let job = one(found.jobs.clone(), &named).map_err(|error| {
        let not_there = matches!(which, Which::Job(_));
        let status = if not_there {
            StatusCode::NOT_FOUND
        } else {
            StatusCode::BAD_REQUEST
        };
        Refusal::new(status, format!("{error:#}"))
    })?;
    let tries = job.runs.iter().rev().take(TRIES);
    Ok(JobDetail {
        waits_at: site.jobs.standing().waits_at(&job.id),
        tries: tries
            .filter_map(|id| site.runs.now(id))
            .map(|run| Run::from(&run))
            .collect(),
        job: Job::from(&job),
    })
}

/// What ended, the oldest first.
pub fn history(site: &Site, which: &[Which]) -> Result<Vec<Ended>, Refusal> {
    let named = chosen_of(site, which)?;
    let entries = site.jobs.store().history().map_err(|e| failed(&e))?;
    let has = entries
        .iter()
        .filter(|entry| named.has(&entry.id, &entry.host_file));
    Ok(has.map(Ended::from).collect())
}

/// Who works and who waits.
pub fn queue(site: &Site) -> Result<Queue, Refusal> {
    let found = site.jobs.found().map_err(|e| failed(&e))?;
    let fleet = site.fleet.current();
    let limits = limits(&fleet);
    let standing = site.jobs.standing();
    let mut queue = Queue {
        slots: limits.server,
        used: 0,
        free: None,
        groups: Vec::new(),
        running: Vec::new(),
        queued: Vec::new(),
        waiting: Vec::new(),
    };
    let mut set: Vec<&pitstop_jobs::Job> = found
        .jobs
        .iter()
        .filter(|job| job.state.is_set() || standing.working.contains_key(&job.id))
        .collect();
    set.sort_by_cached_key(|job| {
        let claim = job.claim();
        let (turn, batch, place, id) = claim.order();
        (turn, batch.clone(), place, id.clone())
    });
    let mut used: HashMap<&str, u32> = HashMap::new();
    for job in set {
        let entry = entry(site, &standing, job);
        if entry.run.is_some() || job.state == JobState::Running {
            queue.used += 1;
            for group in &job.groups {
                *used.entry(group).or_default() += 1;
            }
            queue.running.push(entry);
        } else if entry.waits_at.is_some() {
            queue.queued.push(entry);
        } else {
            queue.waiting.push(entry);
        }
    }
    queue.free = queue.slots.map(|slots| slots.saturating_sub(queue.used));
    queue.groups = fleet
        .groups
        .iter()
        .filter_map(|group| {
            Some(GroupSlots {
                name: group.name.clone(),
                slots: group.slots?,
                used: used.get(group.name.as_str()).copied().unwrap_or_default(),
            })
        })
        .collect();
    Ok(queue)
}

fn entry(site: &Site, standing: &Standing, job: &pitstop_jobs::Job) -> Entry {
    let run = standing.working.get(&job.id);
    let now = run.and_then(|run| site.runs.now(run));
    Entry {
        job: Job::from(job),
        waits_at: standing.waits_at(&job.id),
        run: run.cloned(),
        progress: now.and_then(|run| Run::from(&run).progress),
    }
}

/// What is for later, the next one first.
pub fn schedule(site: &Site) -> Result<Schedule, Refusal> {
    let found = site.jobs.found().map_err(|e| failed(&e))?;
    let mut later: Vec<Job> = found
        .jobs
        .iter()
        .filter(|job| job.state == JobState::Scheduled)
        .map(Job::from)
        .collect();
    later.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    Ok(Schedule { schedule: later })
}

/// What a job's machine reported of its last try, or else wrote on the share.
pub fn job_log(site: &Site, which: &Which) -> Result<String, Refusal> {
    let job = job(site, which)?.job;
    let runs = site.runs.runs();
    let reported = job.runs.last().filter(|run| site.runs.now(run).is_some());
    if let Some(run) = reported {
        let failed = |error: &std::io::Error| Refusal::io(&format!("reading the run {run}"), error);
        return runs.log(run).more().map_err(|e| failed(&e));
    }
    let mut on_share = OnShare::of(
        site.jobs.store().root(),
        &job,
        matches!(which, Which::Job(_)),
    );
    let text = on_share.more().map_err(|e| failed(&e))?;
    if text.is_empty() {
        let error = on_share.is_there().err();
        let why = error.map_or_else(
            || "its log is empty".to_owned(),
            |error| format!("{error:#}"),
        );
        return Err(Refusal::new(StatusCode::NOT_FOUND, why));
    }
    Ok(text)
}
