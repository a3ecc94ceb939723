use super::*;
use crate::runs::{Run, State};
use std::net::Ipv4Addr;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 2, 15));
const BEGIN: &str = "\"type\":\"begin\",\"machine\":\"lab3-01\",\"address\":\"10.0.2.15\",\"mac\":\"m\",\"pitstop\":\"1\"";
const PLAN: &str = "\"type\":\"plan\",\"action\":\"backup\",\"disks\":[{\"disk\":\"sda\",\"size\":18446744073709551615,\"will\":\"backup\"}]";
const HALF: &str = "\"disk\":\"sda\",\"type\":\"progress\",\"act\":\"backup\",\"done\":50,\"total\":100,\"transferred\":1,\"elapsed-ms\":1000";
const SLOW: &str = "\"type\":\"log\",\"level\":\"warning\",\"text\":\"slow\\u001b[2J\"";
const OK: &str = "\"type\":\"result\",\"verdict\":\"ok\",\"action\":\"backup\",\"bytes\":100,\"elapsed-ms\":2000,\"read-errors\":0";

fn id(tail: u32) -> Id {
    Id::new("2026-11-28T21:30:00Z".parse().unwrap(), tail)
}

fn line(run: &Id, seq: u64, rest: &str) -> String {
    let time = format!("2026-11-28T21:30:{:02}.000Z", seq % 60);
    format!("{{\"v\":1,\"run\":\"{run}\",\"seq\":{seq},\"time\":\"{time}\",{rest}}}")
}

fn take(recorder: &Recorder, run: &Id, job: &Id, lines: &[String]) -> Result<(), Refused> {
    let lines: Vec<Reported<'_>> = lines
        .iter()
        .map(|raw| Reported {
            raw,
            line: event::parse(raw).unwrap(),
        })
        .collect();
    recorder.take(run, job, PEER, &lines)
}

fn read(recorder: &Recorder, run: &Id) -> Run {
    recorder.runs().read(run).unwrap().unwrap()
}

#[test]
fn a_run_is_kept_from_begin_to_result_and_through_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let (run, job) = (id(1), id(2));
    let first = Recorder::new(root.path(), 3, Arc::default());
    let begun = [
        line(&run, 1, BEGIN),
        line(&run, 2, PLAN),
        line(&run, 3, HALF),
    ];
    take(&first, &run, &job, &begun).unwrap();
    let now = read(&first, &run);
    assert_eq!(
        (now.state, now.summary.action.as_str()),
        (State::Running, "backup")
    );
    assert_eq!(now.progress.as_ref().unwrap().percent, Some(50));
    assert_eq!(now.summary.disks[0].size, i64::MAX.unsigned_abs());

    // A power cut in the middle of a line, and another server; the machine sends again what had no answer.
    let events = root.path().join("runs").join(run.as_str()).join(EVENTS);
    append_to(&events).unwrap().write_all(b"{\"v\":1,").unwrap();
    let later = Recorder::new(root.path(), 3, Arc::default());
    let rest = [line(&run, 3, HALF), line(&run, 4, SLOW), line(&run, 9, OK)];
    take(&later, &run, &job, &rest).unwrap();
    take(&later, &run, &job, &rest).unwrap();
    let ended = read(&later, &run);
    assert_eq!((ended.state, ended.summary.bytes), (State::Ok, 100));
    assert_eq!(ended.summary.began, "2026-11-28T21:30:01Z");
    let text = fs::read_to_string(&events).unwrap();
    assert_eq!(text.lines().count(), 6, "{text}");
    let mut log = later.runs().log(&run);
    assert_eq!(
        log.more().unwrap(),
        "2026-11-28T21:30:03Z backing up sda 50 %, 50 B of 100 B, 0.0 MB/s, 1s left\n\
         2026-11-28T21:30:04Z warning: slow\\u{1b}[2J\n\
         2026-11-28T21:30:09Z result ok backup\n"
    );
    assert!(log.has_ended());
    assert_eq!(log.more().unwrap(), "");
}

#[test]
fn a_run_is_its_jobs_alone() {
    let root = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(root.path(), 3, Arc::default());
    take(&recorder, &id(1), &id(2), &[line(&id(1), 1, BEGIN)]).unwrap();
    let refused = take(&recorder, &id(1), &id(3), &[line(&id(1), 2, OK)]).unwrap_err();
    assert!(matches!(refused, Refused::OtherJob(_)), "{refused}");
    let refused = take(
        &Recorder::new(root.path(), 3, Arc::default()),
        &id(1),
        &id(3),
        &[line(&id(1), 2, OK)],
    );
    assert!(matches!(refused, Err(Refused::OtherJob(_))));
}

#[test]
fn of_each_machine_the_newest_runs_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let job = id(0);
    for tail in 1..=5 {
        // The last two are by a server that was started anew.
        let recorder = Recorder::new(root.path(), 3, Arc::default());
        let lines = [line(&id(tail), 1, BEGIN), line(&id(tail), 2, OK)];
        take(&recorder, &id(tail), &job, &lines).unwrap();
    }
    let other = BEGIN
        .replace("10.0.2.15", "10.0.2.16")
        .replace("\"m\"", "\"n\"");
    let recorder = Recorder::new(root.path(), 3, Arc::default());
    take(&recorder, &id(9), &job, &[line(&id(9), 1, &other)]).unwrap();
    assert_eq!(recorder.runs().ids().unwrap(), [id(9), id(5), id(4), id(3)]);
    let filter = super::super::Filter {
        machine: Some("lab3-01".into()),
        last: Some(2),
        ..super::super::Filter::default()
    };
    assert_eq!(recorder.runs().list(&filter).unwrap().len(), 2);
}

#[test]
fn events_that_are_too_many_are_thinned_and_the_log_goes_on_behind_them() {
    let root = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(root.path(), 3, Arc::default());
    let (run, job) = (id(1), id(2));
    take(
        &recorder,
        &run,
        &job,
        &[line(&run, 1, BEGIN), line(&run, 2, PLAN)],
    )
    .unwrap();
    let mut log = recorder.runs().log(&run);
    assert_eq!(log.more().unwrap(), "");
    let filler = format!(
        "\"type\":\"log\",\"level\":\"info\",\"text\":\"{}\"",
        "x".repeat(8000)
    );
    for batch in 0..25 {
        let lines: Vec<String> = (3..103)
            .map(|seq| line(&run, batch * 100 + seq, &filler))
            .collect();
        take(&recorder, &run, &job, &lines).unwrap();
    }
    let events = root.path().join("runs").join(run.as_str()).join(EVENTS);
    assert!(fs::metadata(&events).unwrap().len() <= MOST_EVENTS);
    assert!(fs::read_to_string(&events).unwrap().contains("\"plan\""));
    let shown = log.more().unwrap();
    assert!(shown.ends_with("x\n"));
    take(&recorder, &run, &job, &[line(&run, 5000, OK)]).unwrap();
    assert!(log.more().unwrap().ends_with("result ok backup\n"));
}

#[test]
fn reports_at_once_are_all_kept() {
    let root = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(root.path(), 100, Arc::default());
    let (run, job) = (id(1), id(2));
    std::thread::scope(|scope| {
        for thread in 1..=8 {
            let (recorder, run, job) = (&recorder, &run, &job);
            scope.spawn(move || {
                let own = id(thread + 100);
                for seq in 1..=20 {
                    // Its own run, and one that all report at once, as a machine does that asks again too early.
                    take(recorder, &own, job, &[line(&own, seq, PLAN)]).unwrap();
                    take(recorder, run, job, &[line(run, seq, PLAN)]).unwrap();
                }
            });
        }
    });
    assert_eq!(recorder.runs().ids().unwrap().len(), 9);
    for id in recorder.runs().ids().unwrap() {
        assert_eq!(read(&recorder, &id).summary.disks.len(), 1);
        let events =
            fs::read_to_string(root.path().join("runs").join(id.as_str()).join(EVENTS)).unwrap();
        let seqs: Vec<u64> = events
            .lines()
            .map(|line| event::parse(line).unwrap().seq())
            .collect();
        assert!(seqs.is_sorted(), "{seqs:?}");
        assert_eq!(seqs.last(), Some(&20));
    }
}
