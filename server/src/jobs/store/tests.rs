use super::*;
use crate::jobs::fake::{Root, job};
use crate::jobs::settle;
use pitstop_jobs::{State, Trace};
use std::fs;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const NOON: &str = "2026-11-28T12:00:00Z";

const HI: &str = "2026-11-28T12:00:00+00:00: 10.0.2.15: info: hi from 10.0.2.15 (0.2.0): backup\n";

#[test]
fn of_many_writers_none_loses_the_change_of_another() {
    let root = Root::new();
    let job = root.set(15, time(NOON));
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let (store, id) = (root.store.clone(), job.id.clone());
            std::thread::spawn(move || {
                for _ in 0..5 {
                    let run = Id::new(time(NOON), number);
                    let what = Happened::Granted { run };
                    store
                        .lock()
                        .unwrap()
                        .change(&id, &what, time(NOON))
                        .unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let now = root.now(&job);
    assert_eq!(now.attempts as usize, now.runs.len());
    for number in 0..8 {
        assert!(now.runs.contains(&Id::new(time(NOON), number)), "{now:?}");
    }
}

#[test]
fn a_job_takes_the_place_of_the_one_before_under_each_name_of_the_machine() {
    let root = Root::new();
    let first = root.set(15, time(NOON));
    root.hosts.write("01-52-54-00-12-34-56.toml", "x").unwrap();
    let mut second = job(15, time("2026-11-28T12:00:01Z"));
    second.other_files = vec!["01-52-54-00-12-34-56.toml".into()];
    let set = root
        .store
        .lock()
        .unwrap()
        .set(&root.hosts, &second)
        .unwrap();
    let first = root.now(&first);
    assert_eq!(
        (first.state, first.superseded_by),
        (State::Superseded, Some(second.id.clone()))
    );
    assert!(!root.hosts.exists("01-52-54-00-12-34-56.toml"));
    let text = root.hosts.read_to_string("0A00020F.toml").unwrap();
    assert_eq!(text, set);
    assert!(text.starts_with(&second.host_files(None).text) && text.contains("report-token = "));
    let history = root.store.history().unwrap();
    assert_eq!((history.len(), history[0].state), (1, State::Superseded));
}

#[test]
fn a_machine_that_has_another_address_now_leaves_no_job_at_the_old_one() {
    let root = Root::new();
    let card = "01-52-54-00-12-34-56.toml";
    let set = |number, second: i64| {
        let mut job = job(number, Timestamp::from_second(second).unwrap());
        job.other_files = vec![card.into()];
        let lock = root.store.lock().unwrap();
        lock.set(&root.hosts, &job).unwrap();
        job
    };
    let wipe = set(15, 1);
    let next = set(16, 2);
    assert_eq!(root.now(&wipe).state, State::Superseded);
    assert!(!root.hosts.exists(&wipe.host_file));
    assert!(root.hosts.exists(&next.host_file));
}

/// Whether the host file of `job` is there, and of that job.
fn has_file(root: &Root, job: &Job) -> bool {
    let text = root.hosts.read_to_string(&job.host_file);
    text.is_ok_and(|text| text.contains(job.id.as_str()))
}

/// Sets a job for the machine `name`, whose card has its number, at 10.0.2.NUMBER.
fn set_at(root: &Root, name: &str, number: u8, second: i64) -> Job {
    let mut job = job(number, Timestamp::from_second(second).unwrap());
    job.name = Some(name.into());
    job.other_files = vec![format!("01-52-54-00-00-0c-{name}.toml")];
    let lock = root.store.lock().unwrap();
    lock.set(&root.hosts, &job).unwrap();
    job
}

#[test]
fn the_host_file_of_a_job_that_failed_goes_with_the_next_one_unless_it_is_anothers_by_now() {
    let failed = Happened::SeenFailed {
        reason: "no disk".into(),
        again: false,
    };
    for is_anothers in [false, true] {
        let root = Root::new();
        let wipe = set_at(&root, "0a", 15, 1);
        let lock = root.store.lock().unwrap();
        lock.change(&wipe.id, &failed, wipe.set).unwrap();
        drop(lock);
        assert!(has_file(&root, &wipe));
        let other = is_anothers.then(|| set_at(&root, "0b", 15, 2));
        let next = set_at(&root, "0a", 16, 3);
        assert!(has_file(&root, &next) && !has_file(&root, &wipe));
        assert_eq!(root.hosts.exists(&wipe.host_file), is_anothers);
        assert!(other.is_none_or(|other| has_file(&root, &other)));
    }
}

#[test]
fn of_two_machines_that_changed_addresses_neither_finds_a_job_of_the_other() {
    // The address 10.0.2.16 was 0b's, and is 0a's now.
    let by_card = |name: &str, second| {
        let mut job = job(16, Timestamp::from_second(second).unwrap());
        job.name = Some(name.into());
        job.other_files = vec![job.host_file];
        job.host_file = format!("01-52-54-00-00-0c-{name}.toml");
        job
    };
    let set = |root: &Root, job: Job| {
        root.store.lock().unwrap().set(&root.hosts, &job).unwrap();
        job
    };
    let root = Root::new();
    let waits = set(&root, by_card("0b", 1));
    let next = set_at(&root, "0a", 16, 2);
    assert!(has_file(&root, &waits) && has_file(&root, &next));
    assert_eq!(root.now(&waits).state, State::Waiting);

    // Under the address 0a would find it once its own is done.
    for is_by_card in [true, false] {
        let root = Root::new();
        let waits = set_at(&root, "0b", 16, 1);
        let next = if is_by_card {
            set(&root, by_card("0a", 2))
        } else {
            set_at(&root, "0a", 16, 2)
        };
        assert!(has_file(&root, &next) && !has_file(&root, &waits));
        let superseded_by = root.now(&waits).superseded_by;
        assert_eq!(superseded_by, Some(next.id));
    }
}

#[test]
fn a_job_in_the_place_of_two_ends_once_and_for_its_own_machines() {
    let root = Root::new();
    let waits = set_at(&root, "0b", 16, 1);
    // 0a has the address now, and both get a job.
    let of = |name: &str, number, second| {
        let mut job = job(number, Timestamp::from_second(second).unwrap());
        job.name = Some(name.into());
        job.other_files = vec![format!("01-52-54-00-00-0c-{name}.toml")];
        job
    };
    let jobs = [of("0a", 16, 2), of("0b", 15, 3)];
    let lock = root.store.lock().unwrap();
    lock.set_all(&root.hosts, &jobs).unwrap();
    drop(lock);
    assert!(jobs.iter().all(|job| has_file(&root, job)));
    let superseded_by = root.now(&waits).superseded_by;
    assert_eq!(superseded_by.as_ref(), Some(&jobs[1].id));
    let path = root.folder.path().join("jobs/history.ndjson");
    assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 1);
}

#[test]
fn a_job_at_work_that_was_replaced_takes_no_host_file_of_another_machine_along() {
    let root = Root::new();
    let first = set_at(&root, "0a", 15, 1);
    let run = Id::new(first.set, 7);
    let lock = root.store.lock().unwrap();
    lock.change(&first.id, &Happened::Granted { run }, first.set)
        .unwrap();
    drop(lock);
    set_at(&root, "0a", 16, 2);
    let others = set_at(&root, "0b", 15, 3);
    let last = set_at(&root, "0a", 16, 4);
    assert!(has_file(&root, &others) && has_file(&root, &last));
    let who = [crate::set::Who::One("10.0.2.16".parse().unwrap())];
    crate::set::clear(root.folder.path(), &root.hosts, &who, "root").unwrap();
    assert!(has_file(&root, &others) && !root.hosts.exists(&last.host_file));
    assert_eq!(root.now(&others).state, State::Waiting);
}

#[test]
fn the_host_file_of_the_next_job_stays_when_the_one_at_work_is_withdrawn() {
    let root = Root::new();
    let first = root.set(15, time(NOON));
    let run = Id::new(time(NOON), 7);
    let granted = Happened::Granted { run };
    let lock = root.store.lock().unwrap();
    lock.change(&first.id, &granted, time(NOON)).unwrap();
    drop(lock);
    let next = root.set(15, time("2026-11-28T12:00:01Z"));
    assert_eq!(root.now(&first).state, State::Running);
    let which = crate::jobs::Which::Job(first.id.clone());
    let named = crate::jobs::Chosen::new(root.folder.path(), &[which]).unwrap();
    let jobs = root.store.all().unwrap().jobs;
    crate::jobs::cancel(&root.store, &root.hosts, jobs, &named, "root").unwrap();
    assert_eq!(root.now(&first).state, State::Cancelled);
    assert!(root.hosts.exists(&next.host_file));
}

#[test]
fn a_line_that_a_lost_power_cut_off_spoils_no_other() {
    let root = Root::new();
    root.set(15, time(NOON));
    let path = root.folder.path().join("jobs/history.ndjson");
    fs::write(&path, "{\"version\":1,\"id\":\"2026").unwrap();
    root.set(15, time("2026-11-28T12:00:01Z"));
    root.set(15, time("2026-11-28T12:00:02Z"));
    assert_eq!(root.store.history().unwrap().len(), 2);
}

#[test]
fn an_end_that_was_written_twice_counts_once() {
    let root = Root::new();
    let job = root.set(15, time(NOON));
    let lock = root.store.lock().unwrap();
    lock.change(&job.id, &Happened::SeenDone, time(NOON))
        .unwrap();
    // The power failed between the history's line and the job's file.
    lock.put(&job).unwrap();
    lock.change(&job.id, &Happened::SeenDone, time(NOON))
        .unwrap();
    drop(lock);
    let path = root.folder.path().join("jobs/history.ndjson");
    assert_eq!(fs::read_to_string(path).unwrap().lines().count(), 2);
    assert_eq!(root.store.history().unwrap().len(), 1);
}

#[test]
fn a_file_that_is_no_job_is_told_and_hides_no_other() {
    let root = Root::new();
    root.set(15, time(NOON));
    let jobs = root.folder.path().join("jobs");
    fs::write(
        jobs.join("20261128-120000-ffff.toml"),
        "version = 1\n\u{1b}",
    )
    .unwrap();
    fs::write(jobs.join("notes.toml"), "").unwrap();
    let found = root.store.all().unwrap();
    assert_eq!((found.jobs.len(), found.wrong.len()), (1, 1));
    assert!(
        found.wrong[0].contains("20261128-120000-ffff.toml"),
        "{:?}",
        found.wrong
    );
}

#[test]
fn what_is_long_over_is_tidied_away_but_for_each_machines_last() {
    let root = Root::new();
    let first = root.set(15, time(NOON));
    let second = root.set(15, time("2026-11-28T13:00:00Z"));
    let other = root.set(16, time(NOON));
    let lock = root.store.lock().unwrap();
    for job in [&second, &other] {
        lock.change(&job.id, &Happened::SeenDone, time("2026-11-28T14:00:00Z"))
            .unwrap();
    }
    let tokens = || {
        let folder = root.folder.path().join("runs/tokens");
        fs::read_dir(folder).unwrap().count()
    };
    assert_eq!(tokens(), 3);
    lock.tidy(time("2026-11-28T13:30:00Z")).unwrap();
    assert!(lock.read(&first.id).unwrap().is_none());
    assert_eq!(tokens(), 2);
    lock.tidy(time("2026-12-28T14:00:00Z")).unwrap();
    assert_eq!(tokens(), 0);
    assert!(lock.read(&second.id).unwrap().is_some());
    assert!(lock.read(&other.id).unwrap().is_some());
}

#[test]
fn a_backup_that_another_machine_still_follows_is_not_tidied_away() {
    let root = Root::new();
    let backup = root.set(15, time(NOON));
    let lock = root.store.lock().unwrap();
    let done = |job: &Job| {
        let what = Happened::SeenDone;
        lock.change(&job.id, &what, time("2026-11-28T14:00:00Z"))
            .unwrap();
    };
    done(&backup);
    let mut follower = job(16, time(NOON));
    follower.follows = Some(backup.id.clone());
    lock.put(&follower).unwrap();
    lock.put(&job(15, time("2026-11-28T15:00:00Z"))).unwrap();
    let long_after = time("2026-12-28T14:00:00Z");
    lock.tidy(long_after).unwrap();
    assert!(lock.read(&backup.id).unwrap().is_some());
    done(&follower);
    lock.tidy(long_after).unwrap();
    assert!(lock.read(&backup.id).unwrap().is_none());
}

#[test]
fn folders_tell_of_jobs_that_nobody_reports() {
    let root = Root::new();
    let share_path = root.folder.path().join("share");
    fs::create_dir_all(share_path.join("10.0.2.15")).unwrap();
    let share = Dir::open_ambient_dir(&share_path, ambient_authority()).unwrap();
    let mut plain = job(15, time(NOON));
    plain.server = None;
    root.store.lock().unwrap().set(&root.hosts, &plain).unwrap();
    let tracked = root.set(16, time(NOON));
    let settled = || settle(&root.store, &root.hosts, Some(&share), time(NOON)).unwrap();
    assert_eq!(settled(), []);

    let log = share_path.join("10.0.2.15/maintenance.log");
    let failed =
        "2026-11-28T12:05:00+00:00: 10.0.2.15: error: pitstop: result failed backup: no disk\n";
    fs::write(&log, format!("{HI}{failed}")).unwrap();
    fs::write(share_path.join("10.0.2.15/attempts.toml"), "").unwrap();
    assert_eq!(settled().len(), 1);
    let now = root.now(&plain);
    assert_eq!(
        (now.state, now.reason.as_deref()),
        (State::Waiting, Some("no disk"))
    );
    fs::remove_file(share_path.join("10.0.2.15/attempts.toml")).unwrap();
    settled();
    assert_eq!(root.now(&plain).state, State::Failed);

    root.hosts.remove_file(&tracked.host_file).unwrap();
    settled();
    assert_eq!(root.now(&tracked).state, State::Cancelled);
}

#[test]
fn a_job_whose_host_file_cannot_be_written_changes_nothing() {
    let root = Root::new();
    let first = root.set(15, time(NOON));
    let text = root.hosts.read(&first.host_file).unwrap();
    root.hosts.create_dir("0A000210.toml").unwrap();
    // The same machine under another name, which is taken.
    let mut second = job(16, time("2026-11-28T12:00:01Z"));
    second.other_files = vec![first.host_file.clone()];
    let lock = root.store.lock().unwrap();
    let error = lock.set(&root.hosts, &second).unwrap_err();
    assert!(format!("{error:#}").contains("0A000210.toml"), "{error:#}");
    assert_eq!(lock.read(&second.id).unwrap(), None);
    assert_eq!(lock.others_of(&second).unwrap().len(), 1);
    assert_eq!(root.now(&first), first);
    assert_eq!(root.hosts.read(&first.host_file).unwrap(), text);
    assert_eq!(root.store.history().unwrap().len(), 0);
}

#[test]
fn of_many_jobs_that_are_set_at_once_each_is_whole_or_as_it_was() {
    let root = Root::new();
    let jobs = |at: &str| (1..=60).map(|number| job(number, time(at))).collect();
    let first: Vec<Job> = jobs(NOON);
    let second: Vec<Job> = jobs("2026-11-28T12:00:01Z");
    let lock = root.store.lock().unwrap();
    assert_eq!(lock.set_all(&root.hosts, &first).unwrap().len(), 60);
    let blocked = &first[29].host_file;
    root.hosts.remove_file(blocked).unwrap();
    root.hosts.create_dir(blocked).unwrap();
    let error = lock.set_all(&root.hosts, &second).unwrap_err();
    assert!(format!("{error:#}").contains(blocked), "{error:#}");
    drop(lock);
    let mut set = 0;
    for (old, new) in first.iter().zip(&second) {
        let is_set = root.store.read(&new.id).unwrap().is_some();
        set += usize::from(is_set);
        let before = root.now(old);
        assert_eq!(before.superseded_by.as_ref() == Some(&new.id), is_set);
        assert_eq!(before == *old, !is_set);
        if old.host_file != *blocked {
            let text = root.hosts.read_to_string(&old.host_file).unwrap();
            assert_eq!(text.contains(new.id.as_str()), is_set, "{text}");
        }
    }
    assert!(set < 60);
    assert_eq!(root.store.history().unwrap().len(), set);
}

#[test]
fn the_lock_is_held_on_a_file_that_is_open_for_writing() {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let root = Root::new();
    for _ in 0..2 {
        let file = open_lock(&root.store.made().unwrap()).unwrap();
        let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL).unwrap());
        assert_eq!(flags & OFlag::O_ACCMODE, OFlag::O_RDWR);
    }
}

#[test]
fn a_log_of_before_the_job_tells_nothing_of_it() {
    let root = Root::new();
    let share = root.folder.path().join("share");
    let log = share.join("10.0.2.15/maintenance.log");
    fs::create_dir_all(log.parent().unwrap()).unwrap();
    fs::write(
        &log,
        format!("{HI}2026-11-28T12:00:00+00:00: 10.0.2.15: info: pitstop: result ok backup\n"),
    )
    .unwrap();
    let written: Timestamp = "2026-11-28T12:00:00.5Z".parse().unwrap();
    let file = fs::File::options().append(true).open(&log).unwrap();
    file.set_modified(written.into()).unwrap();
    let share = Dir::open_ambient_dir(share, ambient_authority()).unwrap();
    let seen = |set: &str, at: Option<&str>| {
        let mut job = job(15, time(set));
        job.at = at.map(time);
        crate::jobs::evidence::look(&job, &root.hosts, Some(&share)).trace
    };
    assert_eq!(seen("2026-11-28T12:00:00.4Z", None), Trace::Ok);
    assert_eq!(seen("2026-11-28T12:00:00.6Z", None), Trace::Nothing);
    // It was set long before it was due.
    let due = "2026-11-28T13:00:00Z";
    assert_eq!(seen("2026-11-28T11:00:00Z", Some(due)), Trace::Nothing);
}

#[test]
fn a_host_file_that_cannot_be_looked_at_is_not_gone() {
    let root = Root::new();
    let mut plain = job(15, time(NOON));
    let is_set = |job: &Job| crate::jobs::evidence::look(job, &root.hosts, None).is_set;
    assert!(!is_set(&plain));
    root.hosts.write("f", "").unwrap();
    // ENOTDIR, as any error but "not found".
    plain.host_file = "f/0A00020F.toml".into();
    assert!(is_set(&plain));
}
