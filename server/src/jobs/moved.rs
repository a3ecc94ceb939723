//! Jobs that are set under an address which their machine has not any more: whoever has it now is not to get them.

use super::store::Found;
use super::whose::is_owner;
use crate::journal::Journal;
use cap_std::fs::Dir;
use pitstop_fleet::{Fleet, Identity, Machine};
use pitstop_jobs::{Job, State};
use pitstop_protocol::host_name::{HostName, Mac, SUFFIX, Uuid};
use std::sync::{Arc, Mutex, PoisonError};

/// Whose card asks for a job.
pub enum Card<'a> {
    /// The job's machine's; or the job names none.
    Its,
    /// Another machine's of the fleet file.
    Of(&'a Machine),
    /// One that the fleet file does not have.
    Unknown,
}

/// Whose the card `mac` is that asks for `job`, with the firmware's UUID where that was told.
pub fn card<'a>(job: &Job, fleet: &'a Fleet, mac: Mac, uuid: Option<Uuid>) -> Card<'a> {
    let names = || job.files().filter_map(|file| name_of(file));
    let mut macs = names().filter(|name| matches!(name, HostName::Mac(_)));
    let mut any = false;
    if macs.any(|name| {
        any = true;
        name == HostName::Mac(mac)
    }) || !any
    {
        return Card::Its;
    }
    let owner = fleet.find(&Identity {
        macs: vec![mac],
        ..Identity::default()
    });
    let is_its = |machine: &Machine| job.name.as_ref() == Some(&machine.name);
    let is_named = |uuid: Uuid| names().any(|name| name == HostName::Uuid(uuid));
    match owner {
        Some(machine) if is_its(machine) => Card::Its,
        Some(machine) => Card::Of(machine),
        None if uuid.is_some_and(is_named) => Card::Its,
        None => Card::Unknown,
    }
}

fn name_of(file: &str) -> Option<HostName> {
    HostName::from_stem(file.strip_suffix(SUFFIX)?)
}

/// Those of `jobs` that have a host file, or will have one, whose machine is not found under its name any more: a line for each.
pub fn moved(fleet: &Fleet, jobs: &[Job], hosts: &Dir) -> Vec<String> {
    let is_there = |job: &Job| job.state == State::Scheduled || is_owner(jobs, hosts, job);
    let told = jobs
        .iter()
        .filter(|job| !job.state.is_over() || job.leaves_host_file());
    told.filter_map(|job| line(fleet, job).filter(|_| is_there(job)))
        .collect()
}

/// What to do about a job that waits under a name that its machine has not any more.
pub fn remedy(job: &Job, fleet: &Fleet) -> String {
    let (machine, id) = (job.shown(), &job.id);
    let name = job.name.as_ref();
    let is_known = name.is_none_or(|name| fleet.named(name).is_some());
    let withdraw = match (job.state.is_over(), is_known) {
        (false, _) => format!("withdraw it (pitstop job cancel {id})"),
        (true, true) => format!("drop it (pitstop host clear {machine})"),
        (true, false) => format!("remove hosts/{}", job.host_file),
    };
    if !is_known {
        return withdraw;
    }
    // A job for later takes the place of no other before it is due.
    let word = if job.state == State::Scheduled {
        "and"
    } else {
        "or"
    };
    format!("set it anew (pitstop host set {machine} …), {word} {withdraw}")
}

/// Why a job that is due is not to be set: another machine may have the name that it would be set under. A fleet file without
/// machines says nothing of any.
pub fn not_set(fleet: &Fleet, job: &Job) -> Option<String> {
    if fleet.machines.is_empty() {
        return None;
    }
    Some(format!("not begun: {}", line(fleet, job)?))
}

/// Why a job that is over is not to be set again: the same.
pub fn not_again(fleet: &Fleet, job: &Job) -> Option<String> {
    let name = job.name.as_deref()?;
    if fleet.machines.is_empty() {
        return None;
    }
    if fleet.named(name).is_none() {
        let id = &job.id;
        return Some(format!(
            "{name}, whose job {id} was, is no machine of fleet.toml any more: set one for {} as it is called now",
            job.machine
        ));
    }
    let elsewhere = elsewhere(fleet, job)?;
    Some(format!(
        "{elsewhere}: set it anew (pitstop host set {name} …)"
    ))
}

/// `job` with the other names that the fleet file has for its machine now. What is set takes the place of what waits under any of
/// them, and one of before may be another machine's.
pub fn with_names_of_now(fleet: &Fleet, mut job: Job) -> Job {
    let machine = job.name.as_deref().and_then(|name| fleet.named(name));
    if let Some(machine) = machine {
        let files = names(machine).flat_map(|name| name.stems());
        let files = files.map(|stem| stem + SUFFIX);
        job.other_files = files.filter(|file| *file != job.host_file).collect();
    }
    job
}

/// By what a machine of the fleet file may be called in the name of its host file.
fn names(machine: &Machine) -> impl Iterator<Item = HostName> {
    let macs = machine.macs.iter().map(|mac| HostName::Mac(*mac));
    let uuid = machine.uuid.map(HostName::Uuid);
    let ip = machine.ip.map(HostName::Ip);
    uuid.into_iter().chain(macs).chain(ip)
}

/// What is wrong where the machine of `job` has other names in the fleet file than the one of the host file.
fn line(fleet: &Fleet, job: &Job) -> Option<String> {
    let name = job.name.as_deref()?;
    let (action, id, state, there) = (job.action, &job.id, job.state, &job.machine);
    let what = if fleet.named(name).is_none() {
        format!(
            "{name} is no machine of fleet.toml any more, and its job {id} ({action}, {state}) stays set for {there}"
        )
    } else {
        elsewhere(fleet, job)?
    };
    Some(format!("{what}: {}", remedy(job, fleet)))
}

/// Where the machine of `job` is now, if that is not where the job is set.
fn elsewhere(fleet: &Fleet, job: &Job) -> Option<String> {
    let name = job.name.as_deref()?;
    let machine = fleet.named(name)?;
    let (action, id, state, there) = (job.action, &job.id, job.state, &job.machine);
    let stem = job.host_file.strip_suffix(SUFFIX)?;
    if names(machine).any(|name| name.stems().iter().any(|one| one == stem)) {
        return None;
    }
    let now = match (machine.ip, machine.macs.first()) {
        (Some(ip), _) => ip.to_string(),
        (None, Some(mac)) => mac.to_string(),
        (None, None) => "another name".into(),
    };
    let whose = match HostName::from_stem(stem) {
        Some(HostName::Ip(ip)) => fleet.find(&Identity {
            ip: Some(ip),
            ..Identity::default()
        }),
        _ => None,
    };
    let whose = whose.map(|other| format!(", which is {}'s", other.name));
    Some(format!(
        "the job {id} of {name} ({action}, {state}) is set for {there}{}, and {name} has {now} now",
        whose.unwrap_or_default()
    ))
}

/// What was said of such jobs.
#[derive(Default)]
pub struct Told(Mutex<Before>);

#[derive(Default)]
struct Before {
    seen: Option<(Arc<Fleet>, Arc<Found>)>,
    lines: Vec<String>,
}

impl Told {
    /// Tells the journal of each once, when the fleet file or the jobs change.
    pub fn tell(&self, fleet: Arc<Fleet>, found: &Arc<Found>, hosts: &Dir, journal: &Journal) {
        let mut before = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same =
            |(a, b): &(Arc<Fleet>, Arc<Found>)| Arc::ptr_eq(a, &fleet) && Arc::ptr_eq(b, found);
        if before.seen.as_ref().is_some_and(same) {
            return;
        }
        let lines = moved(&fleet, &found.jobs, hosts);
        for line in lines.iter().filter(|line| !before.lines.contains(line)) {
            journal.note(line);
        }
        *before = Before {
            seen: Some((fleet, Arc::clone(found))),
            lines,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::fake::{Root, job};
    use jiff::Timestamp;

    fn fleet(a: &str, b: &str) -> Fleet {
        let text = format!(
            "version = 1\n[network.\"10.0.2.0/24\"]\n[host.a]\nip = \"{a}\"\nmac = \"52:54:00:00:0c:01\"\n[host.b]\nip = \"{b}\"\nmac = \"52:54:00:00:0c:02\"\n"
        );
        Fleet::parse(text.as_bytes(), "fleet.toml").unwrap()
    }

    fn wipe() -> Job {
        let mut job = job(15, Timestamp::UNIX_EPOCH);
        job.name = Some("a".into());
        job.other_files = vec!["01-52-54-00-00-0c-01.toml".into()];
        job
    }

    #[test]
    fn a_job_that_waits_under_an_address_of_another_machine_now_is_told() {
        let root = Root::new();
        let moved = |fleet: &Fleet, job: Job| moved(fleet, &[job], &root.hosts).join("\n");
        let swapped = fleet("10.0.2.16", "10.0.2.15");
        assert_eq!(moved(&fleet("10.0.2.15", "10.0.2.16"), wipe()), "");
        let told = moved(&swapped, wipe());
        for part in [
            "is set for 10.0.2.15, which is b's",
            "a has 10.0.2.16 now",
            "host set a",
        ] {
            assert!(told.contains(part), "{told}");
        }
        let none = Fleet::parse(
            b"version = 1\n[network.\"10.0.2.0/24\"]\n[host.b]\nip = \"10.0.2.15\"\n",
            "fleet.toml",
        )
        .unwrap();
        let told = moved(&none, wipe());
        assert!(
            told.contains("a is no machine of fleet.toml any more"),
            "{told}"
        );
        assert_eq!(not_again(&fleet("10.0.2.15", "10.0.2.16"), &wipe()), None);
        let again = |fleet| not_again(fleet, &wipe()).unwrap();
        assert!(again(&swapped).ends_with(
            "which is b's, and a has 10.0.2.16 now: set it anew (pitstop host set a …)"
        ));
        assert!(again(&none).contains("is no machine of fleet.toml any more"));
        let of = |state| Job { state, ..wipe() };
        assert_eq!(moved(&none, of(State::Done)), "");
        // It is told until nothing of it is left.
        assert_eq!(moved(&swapped, of(State::Failed)), "");
        let written = wipe().host_files(None).text;
        root.hosts.write(&wipe().host_file, written).unwrap();
        let told = moved(&swapped, of(State::Failed));
        assert!(told.contains("or drop it (pitstop host clear a)"), "{told}");
        let told = moved(&none, of(State::Failed));
        assert!(told.ends_with(": remove hosts/0A00020F.toml"), "{told}");
        let told = moved(&swapped, of(State::Scheduled));
        assert!(told.contains("…), and withdraw it"), "{told}");
        // It was set anew while its machine was at work, which goes on.
        let at_work = Job {
            superseded_by: Some(wipe().id),
            ..of(State::Running)
        };
        assert_eq!(moved(&swapped, at_work), "");
    }

    #[test]
    fn a_job_that_names_a_card_is_for_no_other() {
        let fleet = fleet("10.0.2.16", "10.0.2.15");
        let whose = |job: &Job, mac: &str, uuid| match card(job, &fleet, mac.parse().unwrap(), uuid)
        {
            Card::Its => "its",
            Card::Of(machine) => {
                if machine.name == "b" {
                    "b's"
                } else {
                    "a's"
                }
            }
            Card::Unknown => "unknown",
        };
        assert_eq!(whose(&wipe(), "52:54:00:00:0c:01", None), "its");
        assert_eq!(whose(&wipe(), "52:54:00:00:0c:02", None), "b's");
        assert_eq!(whose(&wipe(), "52:54:00:00:0c:09", None), "unknown");
        let mut by_address = wipe();
        by_address.other_files.clear();
        assert_eq!(whose(&by_address, "52:54:00:00:0c:02", None), "its");
        // Another card of the same machine, which its firmware tells.
        let uuid = "4c4c4544-0038-4a10-804e-b7c04f503132";
        let mut known = wipe();
        known.other_files.push(format!("{uuid}.toml"));
        assert_eq!(whose(&known, "52:54:00:00:0c:09", Uuid::parse(uuid)), "its");
    }
}
