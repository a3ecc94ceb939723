//! Sets jobs when their time has come.

use super::changes::Changes;
use super::moved::{not_set, with_names_of_now};
use super::store::{Locked, Store};
use anyhow::bail;
use cap_std::fs::Dir;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pitstop_fleet::Fleet;
use pitstop_jobs::{BadTime, Cron, Due, Happened, Job, State, due};

/// What was done with a job.
pub struct Said {
    /// For the journal.
    pub line: String,
    /// The job that was set, where one was.
    pub set: Option<Job>,
}

impl Said {
    fn set(machine: &str, job: &Job) -> Self {
        Self {
            line: format!("{machine}: the {} is due, job {}", job.action, job.id),
            set: Some(job.clone()),
        }
    }

    fn not_set(line: String) -> Self {
        Self { line, set: None }
    }
}

/// Sets those of `jobs` that are due, and tells what was done, for the journal. A machine that is at work is not disturbed:
/// its job begins when that is over, if that is within a day. One that `fleet` has other names for by now is left alone: another
/// machine may have the name that the job would be set under.
///
/// # Errors
/// What could not be set. It keeps no other job from being set, and is tried again at the next look.
pub fn set_due(
    store: &Store,
    jobs: &[Job],
    hosts: &Dir,
    fleet: &Fleet,
    now: Timestamp,
    mut tell: impl FnMut(Said),
) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    let mut changes = Changes::of(store);
    for job in jobs.iter().filter(|job| job.state == State::Scheduled) {
        let zone = TimeZone::system();
        if matches!(when(job, &zone, now), Ok(Due::At(next)) if next == job.at) {
            continue;
        }
        let locked = changes.locked()?;
        let Some(job) = locked.read(&job.id)? else {
            continue;
        };
        if job.state != State::Scheduled {
            continue;
        }
        let about = format!("{}: job {}", job.shown(), job.id);
        match set_one(locked, job, hosts, fleet, &zone, now) {
            Ok(said) => said.into_iter().for_each(&mut tell),
            Err(error) => wrong.push(format!("{about}: {error:#}")),
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}", wrong.join("; "))
}

fn when(job: &Job, zone: &TimeZone, now: Timestamp) -> Result<Due, BadTime> {
    match (&job.every, job.at) {
        (Some(every), _) => {
            let cron = Cron::parse(every, zone)?;
            Ok(cron.due(job.last.unwrap_or(job.set), now))
        }
        (None, Some(at)) => Ok(due(at, now)),
        (None, None) => Ok(Due::Now(now)),
    }
}

fn set_one(
    locked: &Locked,
    mut job: Job,
    hosts: &Dir,
    fleet: &Fleet,
    zone: &TimeZone,
    now: Timestamp,
) -> anyhow::Result<Option<Said>> {
    let missed = |due: Timestamp| {
        let due = due.to_zoned(zone.clone());
        format!(
            "missed: it was due at {}, and no server ran for a day",
            due.strftime("%Y-%m-%d %H:%M %:z")
        )
    };
    let (time, is_due) = match when(&job, zone, now) {
        Err(error) => {
            let reason = format!("its schedule cannot be read: {error}");
            let what = Happened::Missed { reason };
            locked.change(&job.id, &what, now)?;
            let line = format!("{}: job {}: {error}", job.shown(), job.id);
            return Ok(Some(Said::not_set(line)));
        }
        Ok(Due::At(next)) => {
            // The clock was set, or the time zone was changed.
            job.at = next;
            if job.last.is_some_and(|last| last > now) && job.every.is_some() {
                job.last = job.last.map(|last| last_before(last, now));
            }
            locked.put(&job)?;
            return Ok(None);
        }
        Ok(Due::Now(time)) => (time, true),
        Ok(Due::Missed(time)) => (time, false),
    };
    let why_not = if is_due {
        not_set(fleet, &job)
    } else {
        Some(missed(time))
    };
    if why_not.is_none() {
        job = with_names_of_now(fleet, job);
        if is_busy(locked, &job)? {
            return Ok(None);
        }
    }
    if job.every.is_none() {
        return once(locked, &job, hosts, now, why_not);
    }
    let machine = job.shown().to_owned();
    let mut said = None;
    job.last = Some(if is_due { time } else { now });
    if let Some(reason) = why_not {
        said = Some(Said::not_set(format!(
            "{machine}: job {}: {reason}",
            job.id
        )));
        job.reason = Some(reason);
    } else {
        let next = job.occurrence(locked.new_id(now)?, time, now);
        if !is_set_already(locked, &next)? {
            locked.set(hosts, &next)?;
            said = Some(Said::set(&machine, &next));
        }
        job.reason = None;
    }
    job.changed = now;
    let since = job.last.unwrap_or(now);
    job.at = Cron::parse(job.every.as_deref().unwrap_or_default(), zone)?.next(since);
    locked.put(&job)?;
    Ok(said)
}

/// A `last` that lies more than a day ahead was noted by a clock that was wrong: the schedule begins anew.
fn last_before(last: Timestamp, now: Timestamp) -> Timestamp {
    if last.duration_since(now) > pitstop_jobs::LATEST {
        now
    } else {
        last
    }
}

fn once(
    locked: &Locked,
    job: &Job,
    hosts: &Dir,
    now: Timestamp,
    why_not: Option<String>,
) -> anyhow::Result<Option<Said>> {
    let machine = job.shown();
    if let Some(reason) = why_not {
        let said = format!("{machine}: job {}: {reason}", job.id);
        locked.change(&job.id, &Happened::Missed { reason }, now)?;
        return Ok(Some(Said::not_set(said)));
    }
    let mut due = job.clone();
    due.apply(&Happened::Due, now);
    locked.set(hosts, &due)?;
    Ok(Some(Said::set(machine, &due)))
}

/// Whether this time of the schedule had its job: the clock was wrong meanwhile, or the power failed before that was noted.
fn is_set_already(locked: &Locked, next: &Job) -> anyhow::Result<bool> {
    let same = |other: &Job| other.series == next.series && other.batch == next.batch;
    Ok(locked.others_of(next)?.iter().any(same))
}

fn is_busy(locked: &Locked, job: &Job) -> anyhow::Result<bool> {
    // Who was withdrawn from goes on to its end all the same.
    let at_work = |other: &Job| other.state == State::Queued || other.may_be_at_work();
    Ok(locked.others_of(job)?.iter().any(at_work))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::fake::{Root, job};
    use pitstop_protocol::id::Id;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn look(root: &Root, now: &str) -> Vec<String> {
        look_by(&Fleet::default(), root, now)
    }

    fn look_by(fleet: &Fleet, root: &Root, now: &str) -> Vec<String> {
        let jobs = root.store.all().unwrap().jobs;
        let mut said = Vec::new();
        set_due(&root.store, &jobs, &root.hosts, fleet, time(now), |told| {
            said.push(told.line);
        })
        .unwrap();
        said
    }

    fn scheduled(root: &Root, change: impl FnOnce(&mut Job)) -> Job {
        let mut job = job(15, time("2026-11-28T12:00:00Z"));
        job.state = State::Scheduled;
        change(&mut job);
        root.store.lock().unwrap().put(&job).unwrap();
        job
    }

    fn states(root: &Root) -> Vec<State> {
        let jobs = root.store.all().unwrap().jobs;
        jobs.iter().map(|job| job.state).collect()
    }

    #[test]
    fn a_job_is_set_once_when_it_is_due() {
        let root = Root::new();
        let job = scheduled(&root, |job| job.at = Some(time("2026-11-28T22:00:00Z")));
        assert_eq!(look(&root, "2026-11-28T21:59:59Z"), [""; 0]);
        assert!(!root.hosts.exists(&job.host_file));
        assert_eq!(look(&root, "2026-11-28T22:00:00Z").len(), 1);
        assert!(root.hosts.exists(&job.host_file));
        // The clock goes back and comes again.
        assert_eq!(look(&root, "2026-11-28T21:00:00Z"), [""; 0]);
        assert_eq!(look(&root, "2026-11-28T22:00:01Z"), [""; 0]);
        assert_eq!(states(&root), [State::Waiting]);
    }

    #[test]
    fn a_time_that_passed_a_day_ago_is_told_as_missed() {
        let root = Root::new();
        let job = scheduled(&root, |job| job.at = Some(time("2026-11-28T22:00:00Z")));
        let said = look(&root, "2026-11-29T22:00:01Z");
        assert!(
            said[0].contains("missed: it was due at 2026-11-28"),
            "{said:?}"
        );
        assert_eq!(root.now(&job).state, State::Failed);
        assert!(!root.hosts.exists(&job.host_file));
        assert_eq!(root.store.history().unwrap().len(), 1);
    }

    #[test]
    fn a_schedule_sets_a_job_each_time_and_goes_on() {
        let root = Root::new();
        let job = scheduled(&root, |job| {
            job.every = Some("0 22 * * * UTC".into());
            job.last = Some(job.set);
        });
        look(&root, "2026-11-28T12:00:01Z");
        assert_eq!(root.now(&job).at, Some(time("2026-11-28T22:00:00Z")));
        assert_eq!(look(&root, "2026-11-28T22:00:05Z").len(), 1);
        assert_eq!(states(&root), [State::Scheduled, State::Waiting]);
        assert_eq!(root.now(&job).at, Some(time("2026-11-29T22:00:00Z")));
        assert_eq!(look(&root, "2026-11-28T22:00:06Z"), [""; 0]);
        // The machine did not come: the next night takes the place of this one.
        assert_eq!(look(&root, "2026-11-29T22:00:05Z").len(), 1);
        assert_eq!(
            states(&root),
            [State::Scheduled, State::Superseded, State::Waiting]
        );
    }

    #[test]
    fn a_clock_that_was_wrong_brings_no_time_twice() {
        let root = Root::new();
        let job = scheduled(&root, |job| {
            job.every = Some("0 22 * * * UTC".into());
            job.last = Some(job.set);
        });
        assert_eq!(look(&root, "2026-11-28T22:00:05Z").len(), 1);
        // The server boots without a clock, and learns the time later.
        look(&root, "1970-01-01T00:00:10Z");
        assert!(root.now(&job).last < Some(time("1970-01-02T00:00:00Z")));
        assert_eq!(look(&root, "2026-11-29T08:00:00Z"), [""; 0]);
        assert_eq!(states(&root).len(), 2);
        assert_eq!(root.now(&job).at, Some(time("2026-11-29T22:00:00Z")));
        assert_eq!(look(&root, "2026-11-29T22:00:05Z").len(), 1);
    }

    #[test]
    fn a_host_file_that_cannot_be_written_makes_no_job_and_holds_up_no_other() {
        let root = Root::new();
        let due = Some(time("2026-11-28T22:00:00Z"));
        let again = scheduled(&root, |job| {
            job.every = Some("0 22 * * * UTC".into());
            job.last = Some(job.set);
        });
        let mut once = job(16, time("2026-11-28T12:00:01Z"));
        let mut other = job(17, time("2026-11-28T12:00:02Z"));
        for job in [&mut once, &mut other] {
            job.state = State::Scheduled;
            job.at = due;
            root.store.lock().unwrap().put(job).unwrap();
        }
        for job in [&again, &once] {
            root.hosts.create_dir(&job.host_file).unwrap();
        }
        let now = time("2026-11-28T22:00:05Z");
        for _ in 0..2 {
            let jobs = root.store.all().unwrap().jobs;
            let fleet = Fleet::default();
            let error = set_due(&root.store, &jobs, &root.hosts, &fleet, now, |_| {}).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains("10.0.2.15") && error.contains("10.0.2.16"),
                "{error}"
            );
            assert_eq!(root.now(&other).state, State::Waiting);
            assert_eq!(root.now(&once).state, State::Scheduled);
            assert_eq!(states(&root).len(), 3);
        }
        for job in [&again, &once] {
            root.hosts.remove_dir(&job.host_file).unwrap();
        }
        assert_eq!(look(&root, "2026-11-28T22:00:06Z").len(), 2);
        assert_eq!(root.now(&once).state, State::Waiting);
    }

    #[test]
    fn a_job_for_later_of_a_machine_that_moved_takes_nothing_from_who_has_its_address() {
        let fleet = |ip: &str| {
            let text = format!(
                "version = 1\n[network.\"10.0.2.0/24\"]\n[host.a]\nip = \"{ip}\"\nmac = \"52:54:00:00:0c:01\"\n"
            );
            Fleet::parse(text.as_bytes(), "fleet.toml").unwrap()
        };
        let root = Root::new();
        let due = "2026-11-28T22:00:05Z";
        let once = scheduled(&root, |job| {
            job.name = Some("a".into());
            job.at = Some(time("2026-11-28T22:00:00Z"));
        });
        let mut nightly = Job {
            id: Id::new(once.set, 77),
            every: Some("0 22 * * * UTC".into()),
            last: Some(once.set),
            at: None,
            ..once.clone()
        };
        nightly.batch = nightly.id.clone();
        root.store.lock().unwrap().put(&nightly).unwrap();
        let other = root.set(15, time("2026-11-28T13:00:00Z"));
        let said = look_by(&fleet("10.0.2.16"), &root, due);
        let told = said.join("\n");
        let why = "a has 10.0.2.16 now: set it anew";
        assert_eq!(told.matches(why).count(), 2, "{told}");
        assert_eq!(root.now(&other).state, State::Waiting);
        let text = root.hosts.read_to_string(&other.host_file).unwrap();
        assert!(text.contains(other.id.as_str()), "{text}");
        assert_eq!(root.now(&once).state, State::Failed);
        let now = root.now(&nightly);
        assert_eq!(now.at, Some(time("2026-11-29T22:00:00Z")));
        assert!(now.reason.unwrap().contains("not begun"));
        // It has its address again, and goes on.
        let said = look_by(&fleet("10.0.2.15"), &root, "2026-11-29T22:00:05Z");
        assert_eq!(said.len(), 1, "{said:?}");
        assert_eq!(root.now(&nightly).reason, None);
        assert_eq!(root.now(&other).state, State::Superseded);
    }

    #[test]
    fn a_job_for_later_under_a_card_takes_nothing_from_who_has_the_address_of_before() {
        let fleet = b"version = 1\n[network.\"10.0.2.0/24\"]\n[host.a]\nip = \"10.0.2.16\"\nmac = \"52:54:00:00:0c:01\"\n";
        let fleet = Fleet::parse(fleet, "fleet.toml").unwrap();
        let root = Root::new();
        let its = scheduled(&root, |job| {
            job.name = Some("a".into());
            job.other_files = vec![job.host_file.clone()];
            job.host_file = "01-52-54-00-00-0c-01.toml".into();
            job.at = Some(time("2026-11-28T22:00:00Z"));
        });
        let others = root.set(15, time("2026-11-28T13:00:00Z"));
        let under_its_new_address = root.set(16, time("2026-11-28T13:00:00Z"));
        look_by(&fleet, &root, "2026-11-28T22:00:05Z");
        let state = |job: &Job| (root.now(job).state, root.hosts.exists(&job.host_file));
        assert_eq!(state(&its), (State::Waiting, true));
        assert_eq!(root.now(&its).other_files, ["0A000210.toml"]);
        assert_eq!(state(&others), (State::Waiting, true));
        assert_eq!(state(&under_its_new_address), (State::Superseded, false));
    }

    #[test]
    fn a_machine_at_work_is_not_disturbed() {
        let root = Root::new();
        let now = root.set(15, time("2026-11-28T11:00:00Z"));
        let run = Id::new(now.set, 1);
        let change = |what: &Happened| {
            let lock = root.store.lock().unwrap();
            lock.change(&now.id, what, time("2026-11-28T21:00:00Z"))
                .unwrap();
        };
        change(&Happened::Granted { run: run.clone() });
        scheduled(&root, |job| job.at = Some(time("2026-11-28T22:00:00Z")));
        assert_eq!(look(&root, "2026-11-28T22:00:00Z"), [""; 0]);
        assert_eq!(states(&root), [State::Running, State::Scheduled]);
        // Who was withdrawn from goes on to its end all the same.
        change(&Happened::Cancelled { by: "root".into() });
        assert_eq!(look(&root, "2026-11-28T22:00:01Z"), [""; 0]);
        change(&Happened::Done { run });
        assert_eq!(look(&root, "2026-11-28T22:30:00Z").len(), 1);
        assert_eq!(states(&root), [State::Cancelled, State::Waiting]);
    }
}
