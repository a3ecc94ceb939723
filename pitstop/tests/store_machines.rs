//! Machines whose share is a store that only their server has keys for: whole runs, by the payload's own code, against the real
//! server and moto.

mod common;
#[path = "../../transport/src/share/s3/faults.rs"]
mod faults;
mod store_common;

use faults::{Fault, Faults, proxy};
use pitstop_testing::moto::Moto;
use std::fs;
use store_common::{Machine, Signing, noise, objects, text};

const MIB: usize = 1 << 20;

#[test]
fn every_action_works_over_a_store_and_no_key_leaves_the_server() {
    let moto = Moto::start();
    moto.put("room/pitstop-share", b"");
    let server = Signing::start(&moto, &[]);
    let machine = Machine::new();
    // Larger than a part of an upload.
    let first = noise(1, 20 * MIB);
    let disk = machine.disk(&first);

    server.set(&["backup"]);
    machine.succeeds(&server, "backup");
    assert!(!server.has_job(), "the job is done once");
    server.set(&["backup"]);
    let ended = machine.run(&server);
    assert!(
        ended.line.contains("result failed backup"),
        "{}",
        ended.line
    );
    assert!(ended.line.contains("sda.raw.gz"), "{}", ended.line);

    // What is the same the store copies, by requests that the server signs as well.
    let mut second = noise(2, 20 * MIB);
    second[..15 * MIB].copy_from_slice(&first[..15 * MIB]);
    fs::write(&disk, &second).unwrap();
    server.set(&["backup-again"]);
    let ended = machine.succeeds(&server, "backup-again");
    assert!(
        ended.console.contains("the rest is as in the image before"),
        "{}",
        ended.console
    );
    let names = objects(&moto);
    for name in [
        "sda.raw.gz",
        "sda.raw.gz.toml",
        "sda.raw.gz.old",
        "sda.raw.gz.old.toml",
    ] {
        let name = format!("room/10.0.2.15/{name}");
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    let half = |name: &&String| [".new", ".part"].iter().any(|half| name.ends_with(half));
    assert_eq!(names.iter().find(half), None);

    fs::write(&disk, vec![0xee; 20 * MIB]).unwrap();
    server.set(&["restore"]);
    let ended = machine.succeeds(&server, "restore");
    assert!(fs::read(&disk).unwrap() == second);
    assert!(!ended.console.contains("Signature"), "{}", ended.console);
    server.set(&["refresh-info"]);
    machine.succeeds(&server, "refresh-info");
    assert!(objects(&moto).contains(&"room/10.0.2.15/testbox-info.zip".to_owned()));
    server.set(&["wipe", "--method", "zero", "--disk", "sda"]);
    machine.succeeds(&server, "wipe");
    assert!(fs::read(&disk).unwrap().iter().all(|byte| *byte == 0));

    // Each run has objects of its own for both logs, and the secret is in none.
    let logs: Vec<String> = objects(&moto)
        .into_iter()
        .filter(|name| name.contains("maintenance.log.d/"))
        .collect();
    let shared = logs
        .iter()
        .filter(|name| name.starts_with("room/maintenance.log.d/"));
    assert_eq!(shared.count(), 6, "{logs:?}");
    assert!(
        logs.iter().all(|name| name.ends_with("-10.0.2.15.log")),
        "{logs:?}"
    );
    for name in logs {
        let text = text(&moto, &name);
        assert!(
            !text.contains("s3cretkey") && !text.contains("Signature="),
            "{text}"
        );
    }
}

#[test]
fn a_host_file_by_hand_is_signed_for_too_and_only_its_own() {
    let moto = Moto::start();
    moto.put("room/pitstop-share", b"");
    let server = Signing::start(&moto, &[]);
    let machine = Machine::new();
    let content = noise(3, 2 * MIB);
    machine.disk(&content);
    server.write(&format!(
        "version = 1\naction = \"backup\"\nshare = \"{}\"\n",
        server.share("room")
    ));
    machine.succeeds(&server, "backup");
    // Another folder than the one of the machine's job.
    moto.put("room/other/sda.raw.gz", b"x");
    let asked = |path: &str, ask: &str, share: &str| {
        let body = format!(
            "{{\"version\":1,\"host-file\":\"0A00020F.toml\",\"address\":\"10.0.2.15\",\"share\":\"{share}\",\
             \"path\":\"{path}\",\"ask\":\"{ask}\"}}"
        );
        server.post("/sign", &body)
    };
    server.write(&format!(
        "version = 1\naction = \"restore\"\nshare = \"{}\"\n",
        server.share("room")
    ));
    let own = server.share("room");
    assert_eq!(asked("10.0.2.15/sda.raw.gz", "get", &own).status, 200);
    assert_eq!(asked("other/sda.raw.gz", "get", &own).status, 403);
    assert_eq!(asked("pitstop-share", "put", &own).status, 403);
    let elsewhere = asked("10.0.2.15/sda.raw.gz", "get", &server.share("secrets"));
    assert_eq!(elsewhere.status, 403);
    assert!(
        elsewhere.text().contains("and no other"),
        "{}",
        elsewhere.text()
    );
    assert_eq!(asked("10.0.2.15/../other/x", "get", &own).status, 400);
}

#[test]
fn with_tokens_the_one_of_the_run_is_wanted() {
    let moto = Moto::start();
    moto.put("room/pitstop-share", b"");
    let server = Signing::start(&moto, &["--machine-access", "token"]);
    let machine = Machine::new();
    machine.disk(&noise(4, 2 * MIB));
    server.set(&["backup"]);
    machine.succeeds(&server, "backup");
    server.write(&format!(
        "version = 1\naction = \"refresh-info\"\nshare = \"{}\"\n",
        server.share("room")
    ));
    let ended = machine.run(&server);
    assert!(ended.line.contains("the token of a run"), "{}", ended.line);
}

#[test]
fn what_cannot_be_is_refused_before_the_first_write_and_says_what_to_do() {
    let moto = Moto::start();
    moto.put("room/pitstop-share", b"");
    let server = Signing::without_keys(&moto);
    let machine = Machine::new();
    let content = noise(5, MIB);
    let disk = machine.disk(&content);
    for action in ["backup", "restore"] {
        server.set(&[action]);
        let ended = machine.run(&server);
        let told = ["signs nothing", "--store-keys", "has no keys for a store"];
        for part in told {
            assert!(ended.line.contains(part), "{part:?}: {}", ended.line);
        }
    }
    assert_eq!(objects(&moto), ["room/pitstop-share"]);
    assert!(fs::read(&disk).unwrap() == content);

    // A folder of the store without the marker is no share.
    let server = Signing::start(&moto, &[]);
    server.set_on("nowhere", &["backup"]);
    let ended = machine.run(&server);
    assert!(ended.line.contains("pitstop-share"), "{}", ended.line);
}

#[test]
fn whatever_breaks_on_the_way_to_the_store_the_image_is_whole_or_the_reason_told() {
    let moto = Moto::start();
    moto.put("room/pitstop-share", b"");
    let faults = Faults::default();
    let server = Signing::before(proxy(moto.port, &faults), &[]);
    let machine = Machine::new();
    let mut content = Vec::new();
    let disk = machine.disk(&noise(6, 20 * MIB));
    for (fault, seed) in [
        (Fault::SlowDown, 7),
        (Fault::Cut, 8),
        (Fault::AnswerLost, 9),
        (Fault::WrongTag, 10),
    ] {
        // All of it is sent.
        content = noise(seed, 20 * MIB);
        fs::write(&disk, &content).unwrap();
        for step in ["partNumber=1&", "partNumber=2&", "partNumber=3&"] {
            faults.lock().unwrap().push_back((step, fault));
        }
        server.set(&["backup-again"]);
        machine.succeeds(&server, "backup-again");
        assert_eq!(faults.lock().unwrap().len(), 0, "{fault:?} did not come");
    }
    // Nothing has changed: the first part is one that the store copies.
    for fault in [Fault::SlowDown, Fault::Cut, Fault::AnswerLost] {
        faults.lock().unwrap().push_back(("partNumber=1&", fault));
    }
    server.set(&["backup-again"]);
    machine.succeeds(&server, "backup-again");
    assert_eq!(faults.lock().unwrap().len(), 0);
    fs::write(&disk, vec![0xee; 20 * MIB]).unwrap();
    server.set(&["restore"]);
    machine.succeeds(&server, "restore");
    assert!(fs::read(&disk).unwrap() == content);

    server.set(&["restore"]);
    for _ in 0..20 {
        faults.lock().unwrap().push_back(("HEAD", Fault::Skewed));
    }
    let ended = machine.run(&server);
    for part in [
        "HTTP 403",
        "the clock of 127.0.0.1, which signs,",
        "set the clock",
    ] {
        assert!(ended.line.contains(part), "{part:?}: {}", ended.line);
    }
}
