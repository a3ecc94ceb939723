//! Which jobs a command is about: one by its id, or those of machines.

use crate::set::{Machines, Need, Who, targets};
use anyhow::{Context, bail};
use pitstop_jobs::{Job, State};
use pitstop_protocol::id::Id;
use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A job, or machines.
#[derive(Debug, Clone)]
pub enum Which {
    Job(Id),
    Machine(Who),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(id) => Ok(Self::Job(id)),
            Err(_) => text.parse().map(Self::Machine),
        }
    }
}

impl fmt::Display for Which {
    /// As it is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(id) => id.fmt(f),
            Self::Machine(who) => who.fmt(f),
        }
    }
}

/// A job that was named and is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no job {0} any more; pitstop job history {0} tells if it ended")]
pub struct Gone(pub Id);

/// What a selection covers.
#[derive(Debug, Default)]
pub struct Chosen {
    ids: HashSet<Id>,
    machines: Machines,
    /// Nothing was named: all are meant.
    all: bool,
}

impl Chosen {
    /// # Errors
    /// A machine that is named means none, or the fleet file cannot be used.
    pub fn new(root: &Path, which: &[Which]) -> anyhow::Result<Self> {
        let mut chosen = Self {
            all: which.is_empty(),
            ..Self::default()
        };
        let mut machines = Vec::new();
        for which in which {
            match which {
                Which::Job(id) => {
                    chosen.ids.insert(id.clone());
                }
                Which::Machine(who) => machines.push(who.clone()),
            }
        }
        if !machines.is_empty() {
            let targets = targets(root, &machines, Need::Names)?;
            chosen.machines = Machines::new(&targets);
        }
        Ok(chosen)
    }

    /// Whether a job is meant of which no more is known.
    pub fn has(&self, id: &Id, host_file: &str) -> bool {
        self.all || self.ids.contains(id) || self.machines.have_file(host_file)
    }

    /// Whether the job was named itself.
    pub fn names(&self, id: &Id) -> bool {
        self.ids.contains(id)
    }
}

/// Those of `jobs` that are chosen.
///
/// # Errors
/// [`Gone`] of a job that was named and is not there.
pub fn chosen(jobs: Vec<Job>, chosen: &Chosen) -> anyhow::Result<Vec<Job>> {
    for id in &chosen.ids {
        if !jobs.iter().any(|job| job.id == *id) {
            return Err(Gone(id.clone()).into());
        }
    }
    let has = |job: &Job| {
        chosen.all || chosen.ids.contains(&job.id) || chosen.machines.whose(job).is_some()
    };
    Ok(jobs.into_iter().filter(has).collect())
}

/// Of each machine the job that was set last, and those that were named.
pub fn last_of_each(jobs: Vec<Job>, named: &Chosen) -> Vec<Job> {
    let is_last = |at: usize, job: &Job| {
        let mut later = jobs[at + 1..].iter();
        !later.any(|other| other.is_of_machine(job))
    };
    let keep: Vec<bool> = jobs
        .iter()
        .enumerate()
        .map(|(at, job)| named.names(&job.id) || is_last(at, job))
        .collect();
    let both = jobs.into_iter().zip(keep);
    both.filter_map(|(job, keep)| keep.then_some(job)).collect()
}

/// The jobs that are open, of each machine the last one, and those that were named.
pub fn open_or_last(jobs: Vec<Job>, named: &Chosen) -> Vec<Job> {
    let last = last_of_each(jobs.clone(), named);
    let last: HashSet<Id> = last.into_iter().map(|job| job.id).collect();
    let wanted = |job: &Job| !job.state.is_over() || last.contains(&job.id);
    jobs.into_iter().filter(wanted).collect()
}

/// The one of `jobs` that is meant: of a machine the one that it is at, or that it has now, or else the last.
///
/// # Errors
/// None is meant, or more than one.
pub fn one(jobs: Vec<Job>, named: &Chosen) -> anyhow::Result<Job> {
    let all = chosen(jobs, named)?;
    let mut found = last_of_each(all.clone(), named);
    let its_now = |job: &Job| {
        let its = all.iter().filter(|other| other.is_of_machine(job));
        let at_work = its.clone().rfind(|other| other.state == State::Running);
        at_work.or_else(|| its.clone().rfind(|other| other.state.is_set()))
    };
    match (found.pop(), found.len()) {
        (Some(job), 0) if named.names(&job.id) => Ok(job),
        (Some(job), 0) => Ok(its_now(&job).cloned().unwrap_or(job)),
        (Some(_), more) => bail!("{} jobs are meant: name one of them", more + 1),
        (None, _) => None
            .context("this machine has no job, and had none: pitstop job history tells older ones"),
    }
}
