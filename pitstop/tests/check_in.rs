//! Two hundred machines at the door of the real server, by the payload's own code: they take turns, one dies in the middle,
//! and the server is started anew meanwhile.

mod common;

use common::{PATIENCE, pitstop, run, wait_until};
use pitstop_imaging::event::Silent;
use pitstop_payload::check_in::{Admitted, Door};
use pitstop_protocol::id::Id;
use pitstop_protocol::job::Transfer;
use pitstop_testing::ports::free_port;
use pitstop_testing::running::Running;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const MACHINES: usize = 200;
const SLOTS: usize = 8;
/// The machine that loses its power in the middle of its work.
const DIES: usize = 3;
/// After so many are done the server is started anew.
const RESTART_AT: usize = 60;

/// A machine that is kept waiting for less than this loses no slot, and the one that dies is missed after it.
const SLOT_TIMEOUT: &str = "30s";
/// All of it, on a computer that has much else to do.
const ALL: Duration = Duration::from_secs(900);

struct Serving {
    _process: Running,
}

impl Serving {
    fn start(root: &Path, port: u16) -> Self {
        let address = format!("127.0.0.1:{port}");
        let child = pitstop()
            .args(["serve", "--quiet", "--tftp", "off"])
            .args(["--slot-timeout", SLOT_TIMEOUT])
            .args(["--listen", &address, "--url", &format!("http://{address}")])
            .arg("--root")
            .arg(root)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Running::new(child);
        let mut line = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_line(&mut line).unwrap();
        assert!(line.contains("serving"), "{line}");
        Self { _process: child }
    }
}

/// What the machines count among themselves.
#[derive(Default)]
struct Counted {
    at_work: AtomicUsize,
    most: AtomicUsize,
    done: AtomicUsize,
}

/// Asks for a slot, works until all slots were in use at once, and deletes its host file as a run does. `dies` in the middle of
/// it, boots again and does it then.
fn machine(job: &Value, root: &Path, counted: &Counted, dies: bool) {
    let url = format!(
        "{}/check-in/{}",
        job["server"].as_str().unwrap(),
        job["id"].as_str().unwrap()
    );
    let transfer = Transfer {
        retry_for: ALL,
        ..Transfer::default()
    };
    let mut lives = if dies { 2 } else { 1 };
    loop {
        lives -= 1;
        let run = Id::new(jiff::Timestamp::now(), fastrand_tail());
        let door = Door::new(&url.parse().unwrap(), run, &transfer, Arc::new(Silent)).unwrap();
        let slot = match door.wait(&mut |_| false).unwrap() {
            Admitted::Go { slot, .. } => slot,
            Admitted::Cancelled { reason, .. } => panic!("{url}: cancelled: {reason}"),
            Admitted::Untracked => panic!("{url}: nobody keeps track"),
        };
        let now = counted.at_work.fetch_add(1, Ordering::SeqCst) + 1;
        counted.most.fetch_max(now, Ordering::SeqCst);
        wait_until("all slots to be in use", || {
            counted.most.load(Ordering::SeqCst) >= SLOTS
        });
        counted.at_work.fetch_sub(1, Ordering::SeqCst);
        if lives == 0 {
            fs::remove_file(root.join("hosts").join(job["host-file"].as_str().unwrap())).unwrap();
            slot.done();
            counted.done.fetch_add(1, Ordering::SeqCst);
            return;
        }
        // No last word: only the silence tells.
        drop(slot);
        let (id, since) = (job["id"].as_str().unwrap(), Instant::now());
        while state(root, id) == "running" {
            assert!(since.elapsed() < ALL, "nobody misses it");
            thread::sleep(Duration::from_millis(500));
        }
    }
}

fn state(root: &Path, job: &str) -> String {
    let at = ["--root", root.to_str().unwrap()];
    let shown = run(&[&["job", "show", job, "--json"], &at[..]].concat());
    let job: Value = serde_json::from_slice(&shown.stdout).unwrap();
    job["state"].as_str().unwrap().to_owned()
}

/// Another for each machine.
fn fastrand_tail() -> u32 {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    u32::try_from(NEXT.fetch_add(1, Ordering::SeqCst)).unwrap()
}

#[test]
fn two_hundred_machines_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(
        root.join("fleet.toml"),
        format!(
            "version = 1\n[server]\nslots = {SLOTS}\n[network.\"10.0.0.0/16\"]\n[group.lab]\nmatch = \"lab-*\"\n\
             [host.\"lab-[001-{MACHINES}]\"]\nip = \"10.0.1.[1-{MACHINES}]\"\n"
        ),
    )
    .unwrap();
    let port = free_port();
    let server = Mutex::new(Some(Serving::start(root, port)));
    let at = ["--root", root.to_str().unwrap()];
    let set = run(&[&["host", "set", "@lab", "refresh-info"], &at[..]].concat());
    assert!(set.status.success(), "{set:?}");
    let list = run(&[&["job", "list", "--json"], &at[..]].concat());
    let jobs: Vec<Value> = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!(jobs.len(), MACHINES);

    let counted = Counted::default();
    let begun = Instant::now();
    thread::scope(|scope| {
        for (number, job) in jobs.iter().enumerate() {
            let counted = &counted;
            scope.spawn(move || machine(job, root, counted, number == DIES));
        }
        while counted.done.load(Ordering::SeqCst) < RESTART_AT {
            assert!(begun.elapsed() < ALL, "nothing moves");
            thread::sleep(Duration::from_millis(20));
        }
        // It is killed, not told to end.
        let mut server = server.lock().unwrap();
        drop(server.take());
        thread::sleep(Duration::from_millis(500));
        *server = Some(Serving::start(root, port));
    });
    assert_eq!(counted.done.load(Ordering::SeqCst), MACHINES);
    let most = counted.most.load(Ordering::SeqCst);
    assert_eq!(most, SLOTS, "at work at once");
    eprintln!(
        "{MACHINES} machines on {SLOTS} slots: {:?}",
        begun.elapsed()
    );

    let wait = format!("{}s", PATIENCE.as_secs());
    let wait = run(&[&["job", "wait", "@lab", "--timeout", &wait], &at[..]].concat());
    assert!(wait.status.success(), "{wait:?}");
    let history = run(&[&["job", "history", "--json"], &at[..]].concat());
    let history: Vec<Value> = serde_json::from_slice(&history.stdout).unwrap();
    assert_eq!(history.len(), MACHINES, "each ended once");
    let tries = |wanted: u64| {
        history
            .iter()
            .filter(|entry| entry["attempts"] == wanted)
            .count()
    };
    assert_eq!((tries(1), tries(2)), (MACHINES - 1, 1));
}
