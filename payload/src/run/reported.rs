//! What a run reports, and that reports change nothing about the run.

use super::after_crash;
use super::site::{Console, HOST_KEY, MIB, Site, noise};
use pitstop_imaging::event::Act;
use pitstop_protocol::event::{Line, Outcome, Planned, Record, State, Verdict, What, parse};
use pitstop_protocol::facts::Facts;
use pitstop_protocol::fake::lease;
use pitstop_testing::ports::free_port;
use pitstop_transport::fetch::fake::{FakeServer, Fault};
use std::thread;
use std::time::{Duration, Instant};

const REPORT: &str = "/report/20261128-212955-0f3a";
/// How long what takes no time may take on a computer that has much else to do.
const PATIENCE: Duration = Duration::from_secs(120);

fn keys(server: &FakeServer) -> String {
    format!(
        "report = \"{}\"\nreport-token = \"s3cr3t\"\n",
        server.url(REPORT)
    )
}

fn reported(server: &FakeServer) -> Vec<Record> {
    let text = String::from_utf8(server.get(REPORT).unwrap_or_default()).unwrap();
    let known = text.lines().map(|line| match parse(line) {
        Ok(Line::Known(record)) => record,
        other => panic!("{other:?}"),
    });
    known.collect()
}

/// The same, once a result of which this is true has come. The end of a run waits for a second and no longer: the thread that
/// reports goes on after it.
fn ended(server: &FakeServer, is_it: impl Fn(&Outcome) -> bool) -> Vec<Record> {
    let began = Instant::now();
    loop {
        let records = reported(server);
        if let Some(What::Result(outcome)) = records.last().map(|record| &record.what)
            && is_it(outcome)
        {
            return records;
        }
        assert!(began.elapsed() < PATIENCE, "{:?}", server.log());
        thread::sleep(Duration::from_millis(20));
    }
}

fn result(records: &[Record]) -> &Outcome {
    match records.last().map(|record| &record.what) {
        Some(What::Result(outcome)) => outcome,
        other => panic!("{other:?}"),
    }
}

fn step(record: &Record) -> Option<(u32, &str, State)> {
    match record.what {
        What::Step {
            act: Act::Backup,
            state,
        } => Some((record.about.step, record.about.disk.as_str(), state)),
        _ => None,
    }
}

#[test]
fn a_run_is_reported_from_its_beginning_to_its_result() {
    let (site, server) = (Site::with_disk(&noise(1, 3 * MIB)), FakeServer::start());
    site.set("backup", &keys(&server));
    let run = site.succeeds("backup");
    let records = ended(&server, |_| true);
    assert!(records.is_sorted_by_key(|record| record.seq));
    assert!(records.iter().all(|record| record.run == records[0].run));
    let told = records.iter().find_map(|record| match &record.what {
        What::Inventory { facts } => Some(facts),
        _ => None,
    });
    let facts = told.unwrap();
    assert_eq!(facts.disks[0].serial, "QM00001");
    let kept = site.text("10.0.2.15/inventory.json");
    assert_eq!(Facts::parse(kept.as_bytes()).unwrap(), **facts);
    let What::Begin {
        machine,
        address,
        host_key,
        ..
    } = &records[0].what
    else {
        panic!("{:?}", records[0]);
    };
    assert_eq!(
        (machine.as_str(), address.as_str(), host_key.as_str()),
        ("testbox7", "10.0.2.15", HOST_KEY)
    );
    let plan = records.iter().find_map(|record| match &record.what {
        What::Plan { action, disks } => Some((action.as_str(), disks.as_slice())),
        _ => None,
    });
    let planned = Planned {
        disk: "sda".into(),
        model: "QEMU HARDDISK".into(),
        serial: "QM00001".into(),
        size: 3 << 20,
        sector: 512,
        will: Act::Backup,
        image: "10.0.2.15/sda.raw.gz".into(),
    };
    assert_eq!(plan, Some(("backup", [planned].as_slice())));
    let steps: Vec<_> = records.iter().filter_map(step).collect();
    let [
        (1, "sda", State::Begun),
        (1, "sda", State::Done { bytes, .. }),
    ] = steps[..]
    else {
        panic!("{steps:?}");
    };
    assert_eq!(bytes, 3 << 20);
    let whole = |record: &Record| matches!(record.what, What::Progress(moved) if moved.total == Some(moved.done));
    assert!(records.iter().any(whole), "{records:?}");
    let outcome = result(&records);
    assert_eq!((outcome.verdict, outcome.bytes), (Verdict::Ok, 3 << 20));
    // The console's lines are the log's.
    for record in &records {
        if let What::Log { level, text } = &record.what {
            let line = format!(
                "{}: {}",
                level.word(),
                text.lines().next().unwrap_or_default()
            );
            assert!(run.console.contains(&line), "{line}");
        }
    }
    assert!(!run.console.contains("reports do not arrive"));
    let posts = server.log().len();
    assert_eq!(server.seen("authorization"), vec!["Bearer s3cr3t"; posts]);
}

#[test]
fn a_run_that_fails_before_it_reaches_its_share_is_reported() {
    let (site, server) = (Site::new(), FakeServer::start());
    for (text, action, reason) in [
        (
            format!(
                "action = \"restore\"\nshare = \"file:///nowhere\"\n{}",
                keys(&server)
            ),
            "restore",
            "reaching the share",
        ),
        // A file that makes no sense may still tell where to complain.
        (
            format!("action = \"restore\"\nbogus = 1\n{}", keys(&server)),
            "restore",
            "unknown key \"bogus\"",
        ),
    ] {
        std::fs::write(site.host_file(), format!("version = 1\n{text}")).unwrap();
        let run = site.run();
        let records = ended(&server, |outcome| outcome.reason.contains(reason));
        let outcome = result(&records);
        assert_eq!(
            (outcome.verdict, outcome.action.as_str()),
            (Verdict::Failed, action)
        );
        assert_eq!(run.finish.result_line, format!("pitstop: {outcome}"));
    }
}

#[test]
fn a_run_that_fails_at_its_work_reports_why() {
    let (site, server) = (Site::with_disk(&noise(1, MIB)), FakeServer::start());
    site.set("restore", &keys(&server));
    let run = site.fails("restore", &["no image for sda"]);
    let records = ended(&server, |_| true);
    let outcome = result(&records);
    assert_eq!(
        (outcome.verdict, outcome.action.as_str()),
        (Verdict::Failed, "restore")
    );
    assert!(outcome.reason.contains("no image for sda"), "{outcome:?}");
    assert_eq!(run.finish.result_line, format!("pitstop: {outcome}"));
}

/// The server takes the first report and never answers: had the work waited for anything of it, it would not have ended.
#[test]
fn a_server_that_never_answers_holds_up_nothing() {
    let (site, server) = (Site::with_disk(&noise(1, 3 * MIB)), FakeServer::start());
    server.fail("POST", Fault::Deaf(0));
    site.set("backup", &keys(&server));
    site.succeeds("backup");
    let began = Instant::now();
    while server.log().is_empty() {
        assert!(began.elapsed() < PATIENCE, "nothing was reported");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.log()[0], format!("POST {REPORT}"));
    assert_eq!(server.get(REPORT), None, "and it has not answered yet");
}

#[test]
fn a_server_that_is_not_there_is_told_once_and_changes_nothing() {
    let nobody = free_port();
    let report = format!("report = \"http://127.0.0.1:{nobody}/report\"\n");
    // On a busy computer the run may be over before it is known.
    let site = (0..5).find_map(|_| {
        let site = Site::with_disk(&noise(1, MIB));
        site.set("backup", &report);
        let run = site.succeeds("backup");
        let told = run.console.matches("reports do not arrive").count();
        assert!(told <= 1, "{}", run.console);
        (told == 1).then_some(site)
    });
    let site = site.expect("it is not told");
    let logs = [
        site.text("maintenance.log"),
        site.text("10.0.2.15/maintenance.log"),
    ];
    assert!(logs.iter().all(|log| log.contains("result ok backup")));
}

#[test]
fn what_a_server_did_not_take_comes_again_and_nothing_is_lost() {
    let (site, server) = (Site::with_disk(&noise(1, MIB)), FakeServer::start());
    server.fail("POST", Fault::Mute);
    site.set("backup", &keys(&server));
    site.succeeds("backup");
    assert!(
        ended(&server, |_| true)
            .iter()
            .any(|it| matches!(it.what, What::Plan { .. }))
    );
}

#[test]
fn whoever_is_left_reports_a_crash() {
    let (site, server) = (Site::with_disk(&noise(1, MIB)), FakeServer::start());
    site.set("backup", &keys(&server));
    site.succeeds("backup");
    let policy = site.policies.lock().unwrap().last().unwrap().clone();
    assert!(!format!("{policy:?}").contains("s3cr3t"));
    let before = ended(&server, |_| true);
    after_crash(&lease(), &policy, "killed by SIGKILL", &Console::default());
    let records = reported(&server);
    let outcome = result(&records);
    assert_eq!(
        outcome.to_string(),
        "result failed backup: killed by SIGKILL"
    );
    assert_eq!(records.last().unwrap().run, before[0].run);
    assert!(records.last().unwrap().seq > before.last().unwrap().seq);
}
