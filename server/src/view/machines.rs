//! Machines: those of the fleet file, those with a job, those that reported, those that wait for a name.

use super::failed;
use crate::jobs::Standing;
use crate::refusal::Refusal;
use crate::runs::{self, is_reported};
use crate::site::Site;
use crate::{list, unknown};
use jiff::Timestamp;
use pitstop_api::{Job, JobState, LastResult, Machine, MachineState, Run, RunState};
use pitstop_fleet::{Fleet, Identity, Mac};
use pitstop_protocol::host_name::{HostName, Meaning, Uuid};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// Every machine that is known: those of the fleet file in its order, then the others.
pub fn machines(site: &Site) -> Result<Vec<Machine>, Refusal> {
    let found = site.jobs.found().map_err(|e| failed(&e))?;
    let fleet = site.fleet.current();
    let standing = site.jobs.standing();
    let mut book = Book::of(&fleet);
    for job in &found.jobs {
        book.job(job, &standing);
    }
    // The file of a job that failed is still there, and no other job.
    let open = found
        .jobs
        .iter()
        .filter(|job| job.state.is_set() || job.state == JobState::Failed);
    let files: HashSet<&str> = open.map(|job| job.host_file.as_str()).collect();
    for file in list::names(&site.hosts).map_err(|e| failed(&e))? {
        if !files.contains(file.as_str()) {
            book.host_file(&file);
        }
    }
    let reported = site.runs.last_of_each();
    let logs = site.looks.logs(&site.share);
    for run in &reported {
        book.run(run);
    }
    // A machine that reports as well is told of once.
    let by_address: HashMap<&str, &runs::Run> = reported
        .iter()
        .map(|run| (run.summary.address.as_str(), run))
        .collect();
    for told in logs.iter() {
        let known = by_address.get(told.summary.address.as_str());
        if known.is_none_or(|run| !is_reported(run, told)) {
            book.run(told);
        }
    }
    for enrolled in unknown::list(site.jobs.store().root()).map_err(|e| failed(&e))? {
        book.enrolled(&enrolled);
    }
    Ok(book.finish())
}

/// Machines as they become known, each once.
struct Book<'a> {
    fleet: &'a Fleet,
    machines: Vec<Entry>,
    /// Of the fleet file, by name; of others, by address, MAC and UUID.
    by_name: HashMap<String, usize>,
}

struct Entry {
    machine: Machine,
    last_run: Option<Run>,
    last_job: Option<Job>,
    has_file: bool,
}

/// What is known of whom something is about.
#[derive(Default)]
struct Who {
    name: Option<String>,
    ip: Option<IpAddr>,
    mac: Option<Mac>,
    uuid: Option<Uuid>,
}

impl<'a> Book<'a> {
    fn of(fleet: &'a Fleet) -> Self {
        let mut book = Self {
            fleet,
            machines: Vec::new(),
            by_name: HashMap::new(),
        };
        for machine in &fleet.machines {
            let known = super::fleet::identity(fleet, machine);
            book.by_name.insert(key(&machine.name), book.machines.len());
            book.add(Machine {
                id: known.name.clone(),
                name: Some(known.name),
                addresses: machine.ip.into_iter().collect(),
                mac: known.mac,
                uuid: known.uuid,
                serial: known.serial,
                groups: known.groups,
                network: known.network,
                known: true,
                ..Machine::default()
            });
        }
        book
    }

    fn add(&mut self, machine: Machine) {
        self.machines.push(Entry {
            machine,
            last_run: None,
            last_job: None,
            has_file: false,
        });
    }

    /// The entry of the machine that `who` is, made where there is none; `None` where nothing tells one from another.
    fn entry(&mut self, who: &Who) -> Option<&mut Entry> {
        let named = who.name.as_deref().and_then(|name| self.fleet.named(name));
        let known = named.or_else(|| {
            self.fleet.find(&Identity {
                macs: who.mac.into_iter().collect(),
                uuid: who.uuid,
                serial: None,
                ip: who.ip,
            })
        });
        let keys: Vec<String> = match known {
            Some(machine) => vec![key(&machine.name)],
            None => [
                who.mac.map(|mac| mac.to_string()),
                who.ip.map(|ip| ip.to_string()),
                who.uuid.map(|uuid| uuid.to_string()),
            ]
            .into_iter()
            .flatten()
            .collect(),
        };
        let at = keys.iter().find_map(|key| self.by_name.get(key)).copied();
        let at = if let Some(at) = at {
            at
        } else {
            let ip = who.ip.map(|ip| ip.to_string());
            self.add(Machine {
                id: ip.or_else(|| keys.first().cloned())?,
                ..Machine::default()
            });
            self.machines.len() - 1
        };
        for key in keys {
            self.by_name.entry(key).or_insert(at);
        }
        let entry = self.machines.get_mut(at)?;
        let machine = &mut entry.machine;
        if let Some(ip) = who.ip.filter(|ip| !machine.addresses.contains(ip)) {
            machine.addresses.push(ip);
        }
        let mac = who.mac.map(|mac| mac.to_string());
        if let Some(mac) = mac.filter(|mac| !machine.mac.contains(mac)) {
            machine.mac.push(mac);
        }
        if machine.uuid.is_none() {
            machine.uuid = who.uuid.map(|uuid| uuid.to_string());
        }
        Some(entry)
    }

    fn job(&mut self, job: &pitstop_jobs::Job, standing: &Standing) {
        let who = Who {
            name: job.name.clone(),
            ..named(&job.host_file)
        };
        let Some(entry) = self.entry(&who) else {
            return;
        };
        let job = Job::from(job);
        if job.state == JobState::Scheduled {
            // The next one is shown, where none is set.
            let later = entry.machine.job.as_ref();
            if later.is_none_or(|other| other.state == JobState::Scheduled && job.at < other.at) {
                entry.machine.job = Some(job);
            }
        } else if job.state.is_over() {
            entry.last_job = Some(job);
        } else if entry
            .machine
            .job
            .as_ref()
            .is_none_or(|other| other.state != JobState::Running)
        {
            // One that it is at comes before the one that is to follow it.
            entry.machine.waits_at = standing.waits_at(&job.id);
            entry.machine.job = Some(job);
        }
    }

    /// A host file that no job's file tells of: somebody wrote it by hand.
    fn host_file(&mut self, file: &str) {
        if let Some(entry) = self.entry(&named(file)) {
            entry.has_file = true;
        }
    }

    fn run(&mut self, run: &runs::Run) {
        let summary = &run.summary;
        let who = Who {
            name: None,
            ip: summary.address.parse().ok(),
            mac: summary.mac.parse().ok(),
            uuid: None,
        };
        let Some(entry) = self.entry(&who) else {
            return;
        };
        let is_newer = entry
            .last_run
            .as_ref()
            .is_none_or(|other| other.run < summary.run);
        if is_newer {
            if entry.machine.name.is_none() && !summary.machine.is_empty() {
                entry.machine.name = Some(summary.machine.clone());
            }
            entry.last_run = Some(Run::from(run));
        }
    }

    fn enrolled(&mut self, enrolled: &unknown::Enrolled) {
        let who = Who {
            name: None,
            ip: enrolled.ip,
            mac: enrolled.mac.parse().ok(),
            uuid: enrolled.uuid.as_deref().and_then(Uuid::parse),
        };
        if let Some(entry) = self.entry(&who).filter(|entry| !entry.machine.known) {
            entry.machine.state = MachineState::New;
            entry.machine.seen = Some(enrolled.seen);
        }
    }

    fn finish(self) -> Vec<Machine> {
        self.machines.into_iter().map(Entry::finish).collect()
    }
}

/// Names of machines are the same in capital and small letters.
fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// Whom a host file of this name is for.
fn named(file: &str) -> Who {
    let name = match Meaning::of_file(file) {
        Meaning::Taken(name) | Meaning::Misspelled(name) => name,
        Meaning::Named => return Who::default(),
    };
    match name {
        HostName::Ip(ip) => Who {
            ip: Some(ip),
            ..Who::default()
        },
        HostName::Mac(mac) => Who {
            mac: Some(mac),
            ..Who::default()
        },
        HostName::Uuid(uuid) => Who {
            uuid: Some(uuid),
            ..Who::default()
        },
        _ => Who::default(),
    }
}

impl Entry {
    fn finish(self) -> Machine {
        let mut machine = self.machine;
        let run = self.last_run;
        let live = run
            .as_ref()
            .filter(|run| matches!(run.state, RunState::Running | RunState::Silent));
        if let Some(run) = live {
            machine.run = Some(run.run.clone());
            machine.progress.clone_from(&run.progress);
        }
        machine.seen = machine.seen.max(run.as_ref().and_then(heard));
        machine.last = last(
            run.as_ref().filter(|run| run.ended.is_some()),
            self.last_job.as_ref(),
        );
        machine.state = state(&machine, live, self.has_file);
        machine
    }
}

fn heard(run: &Run) -> Option<Timestamp> {
    match run.state {
        // It reports: that is now, as near as matters.
        RunState::Running => Some(Timestamp::now()),
        _ => run.ended.or(run.began),
    }
}

/// How the last run ended, or the last job that never came to a run.
fn last(run: Option<&Run>, job: Option<&Job>) -> Option<LastResult> {
    let of_run = run.map(|run| LastResult {
        run: Some(run.run.clone()),
        job: run.job.clone(),
        action: run.action.clone(),
        state: run.state,
        reason: run.reason.clone(),
        ended: run.ended,
    });
    let of_job = job.and_then(|job| {
        let state = match job.state {
            JobState::Done => RunState::Ok,
            JobState::Failed => RunState::Failed,
            _ => return None,
        };
        Some(LastResult {
            run: job.runs.last().cloned(),
            job: Some(job.id.clone()),
            action: job.action.clone(),
            state,
            reason: job.reason.clone().unwrap_or_default(),
            ended: job.ended,
        })
    });
    match (of_run, of_job) {
        // A run says more than its job.
        (Some(run), Some(job)) if job.run == run.run || job.ended <= run.ended => Some(run),
        (run, None) => run,
        (_, job) => job,
    }
}

fn state(machine: &Machine, live: Option<&Run>, has_file: bool) -> MachineState {
    if let Some(run) = live {
        let is_silent = run.state == RunState::Silent;
        // Of a silent run whose job has another try ahead, the job tells.
        if !is_silent {
            return MachineState::Running;
        }
        if machine
            .job
            .as_ref()
            .is_none_or(|job| job.state == JobState::Running)
        {
            return MachineState::Silent;
        }
    }
    match machine.job.as_ref().map(|job| job.state) {
        Some(JobState::Running) => return MachineState::Running,
        Some(JobState::Queued) => return MachineState::Queued,
        Some(JobState::Waiting) => return MachineState::Waiting,
        _ if has_file => return MachineState::Waiting,
        _ => {}
    }
    let failed = machine
        .last
        .as_ref()
        .is_some_and(|last| last.state == RunState::Failed);
    match (&machine.job, &machine.last) {
        _ if failed => MachineState::Failed,
        _ if machine.state == MachineState::New => MachineState::New,
        (Some(_), _) => MachineState::Scheduled,
        (None, Some(last)) if last.state == RunState::Ok => MachineState::Done,
        _ => MachineState::Idle,
    }
}
