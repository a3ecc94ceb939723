//! Which jobs a command is about: one by its id, or those of machines.

use crate::host::Root;
use crate::host::target::{Need, Target, Who, targets};
use anyhow::{Context, bail};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use jiff::Timestamp;
use pitstop_jobs::Job;
use pitstop_protocol::id::Id;
use pitstop_server::jobs::{Found, Store, settle};
use std::collections::HashSet;
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

/// What a selection covers.
#[derive(Debug, Default)]
pub struct Chosen {
    ids: HashSet<Id>,
    /// Of host files.
    files: HashSet<String>,
    /// Nothing was named: all are meant.
    all: bool,
}

impl Chosen {
    pub fn new(root: &Root, which: &[Which]) -> anyhow::Result<Self> {
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
            chosen.files = targets.iter().flat_map(Target::files).collect();
        }
        Ok(chosen)
    }

    pub fn has(&self, id: &Id, host_file: &str) -> bool {
        self.all || self.ids.contains(id) || self.files.contains(host_file)
    }

    /// Whether the job was named itself.
    pub fn names(&self, id: &Id) -> bool {
        self.ids.contains(id)
    }
}

/// The jobs that are there, brought to where the folders show them to be. Oldest first. Files that hold no job are warned of.
pub fn jobs(root: &Root) -> anyhow::Result<Vec<Job>> {
    let found = found(root)?;
    for wrong in &found.wrong {
        eprintln!("pitstop: warning: {wrong}");
    }
    Ok(found.jobs)
}

/// The same, and what is wrong with files that hold none.
pub fn found(root: &Root) -> anyhow::Result<Found> {
    let store = Store::at(&root.path);
    let hosts = root.hosts()?;
    let share = Dir::open_ambient_dir(root.path.join("share"), ambient_authority()).ok();
    if let Err(error) = settle(&store, &hosts, share.as_ref(), Timestamp::now()) {
        // A user who may look and not write still gets to look.
        eprintln!("pitstop: warning: jobs may be further than this shows: {error:#}");
    }
    store.all()
}

/// Those of `jobs` that are chosen. A job that was named and is not there is an error.
pub fn chosen(jobs: Vec<Job>, chosen: &Chosen) -> anyhow::Result<Vec<Job>> {
    for id in &chosen.ids {
        if !jobs.iter().any(|job| job.id == *id) {
            bail!("there is no job {id} any more; pitstop job history {id} tells if it ended");
        }
    }
    let has = |job: &Job| chosen.has(&job.id, &job.host_file);
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

/// The one job that is meant: of a machine the one that it has now, or else the last.
pub fn one(root: &Root, which: &Which) -> anyhow::Result<Job> {
    let named = Chosen::new(root, std::slice::from_ref(which))?;
    let all = chosen(jobs(root)?, &named)?;
    let mut found = last_of_each(all.clone(), &named);
    let its_now = |job: &Job| {
        let mut all = all.iter();
        all.rfind(|other| other.state.is_set() && other.is_of_machine(job))
    };
    match (found.pop(), found.len()) {
        (Some(job), 0) if named.names(&job.id) => Ok(job),
        (Some(job), 0) => Ok(its_now(&job).cloned().unwrap_or(job)),
        (Some(_), more) => bail!("{} jobs are meant: name one of them", more + 1),
        (None, _) => None
            .context("this machine has no job, and had none: pitstop job history tells older ones"),
    }
}
