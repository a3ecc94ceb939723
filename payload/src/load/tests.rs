//! From a command line and a served host file to a job, or to a sentence that says why not.

use super::*;
use pitstop_imaging::event::{Event, Silent};
use pitstop_imaging::image::Delta;
use pitstop_imaging::inventory::fake::FakeMachine;
use pitstop_protocol::job::{ActionName, After, DiskSelector, RestoreOptions};
use pitstop_transport::fetch::fake::{FakeServer, Fault, patient};
use std::sync::Mutex;
use std::time::Duration;

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Reporter for Heard {
    fn event(&self, event: &Event) {
        if let Event::Message { text, .. } = event {
            self.0.lock().unwrap().push(text.clone());
        }
    }
}

fn lease() -> Lease {
    Lease {
        interface: "eth0".into(),
        mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
        address: "10.0.2.15".parse().unwrap(),
        hostname: Some("lab7".into()),
        boot: BootSource::default(),
    }
}

fn run(command_line: &str, reporter: &dyn Reporter) -> Result<Job, Box<JobError>> {
    run_booted(command_line, BootSource::default(), reporter)
}

fn run_booted(
    command_line: &str,
    boot: BootSource,
    reporter: &dyn Reporter,
) -> Result<Job, Box<JobError>> {
    let fake = FakeMachine::new();
    let machine = Machine {
        command_line: command_line.to_owned(),
        ..fake.machine()
    };
    let lease = Lease { boot, ..lease() };
    load_with(&machine, &lease, &Rules::default(), &patient(), reporter)
}

/// A server whose only host file is this machine's.
fn serving(text: &str) -> (FakeServer, String) {
    let server = FakeServer::start();
    server.put("/hosts/0A00020F.toml", text.as_bytes());
    let host = format!("quiet pitstop.host={}", server.url("/hosts/").as_str());
    (server, host)
}

#[test]
fn a_host_file_and_its_defaults_make_a_job() {
    let (server, host) = serving(
        "version = 1\naction = \"restore\"\nshare = \"http://10.0.2.2:8080/share\"\n\
         disks = [\"/dev/sda\", { serial = \"QM00001\" }]\ndelta = true\non-failure = \"rescue\"\n",
    );
    let job = run(&host, &Silent).unwrap();
    let asked = RestoreOptions {
        delta: Delta::On,
        ..RestoreOptions::default()
    };
    assert_eq!(job.action, Action::Restore(asked));
    assert_eq!(job.image, "10.0.2.15");
    assert_eq!(
        job.disks,
        [
            DiskSelector::Name("sda".into()),
            DiskSelector::Serial("QM00001".into())
        ]
    );
    let own = server.url("/hosts/0A00020F.toml");
    assert_eq!(job.source, own.as_str());
    assert_eq!(job.delete, [own.as_str().parse().unwrap()]);
    assert_eq!(job.policy.attempts, 3);
    assert_eq!(job.policy.on_failure, After::Rescue);
    assert_eq!(job.digest, run(&host, &Silent).unwrap().digest);
    let other = run(&format!("{host} pitstop.action=backup"), &Silent).unwrap();
    assert_ne!(job.digest, other.digest);
}

#[test]
fn the_command_line_wins_and_adds() {
    let (server, host) = serving(
        "version = 1\naction = \"backup\"\nshare = \"http://a/\"\nimage = \"lab/{hostname}\"\n",
    );
    let line = format!(
        "{host} pitstop.action=refresh-info pitstop.share=http://b/{{hexip}} \
         pitstop.delete=http://c/{{mac}}"
    );
    let job = run(&line, &Silent).unwrap();
    assert_eq!(job.action, Action::RefreshInfo);
    assert_eq!(job.share.unwrap().to_string(), "http://b/0A00020F");
    assert_eq!(job.image, "lab/lab7");
    let delete: Vec<String> = job.delete.iter().map(ToString::to_string).collect();
    let own = server.url("/hosts/0A00020F.toml").to_string();
    assert_eq!(delete, ["http://c/52-54-00-12-34-56", own.as_str()]);
}

#[test]
fn no_host_file_is_needed_with_action_and_share() {
    let heard = Heard::default();
    let job = run("pitstop.action=backup pitstop.share=http://a/share", &heard).unwrap();
    assert_eq!(job.source, "the kernel command line");
    assert!(job.delete.is_empty());
    assert!(heard.0.lock().unwrap()[0].contains("no configuration is deleted"));
    assert_eq!(run("pitstop.action=rescue", &Silent).unwrap().share, None);
    let error = run("pitstop.action=backup", &Silent).unwrap_err();
    assert!(error.reason.contains("backup needs a share"), "{error}");
    let error = run("quiet", &Silent).unwrap_err();
    assert!(error.reason.contains("nothing says what to do"), "{error}");
}

#[test]
fn a_server_in_trouble_never_leads_to_another_machines_job() {
    let (server, host) = serving("version = 1\naction = \"backup\"\nshare = \"http://a/\"\n");
    server.put(
        "/hosts/default.toml",
        b"version = 1\naction = \"restore\"\nshare = \"http://a/\"\n",
    );
    // Once in trouble it is asked again; the name is not passed over.
    server.fail("GET", Fault::Status(404));
    server.fail("GET", Fault::Status(500));
    assert_eq!(
        run(&host, &Silent).unwrap().action.name(),
        ActionName::Backup
    );
    for _ in 0..5 {
        server.fail("GET", Fault::Status(500));
    }
    let error = run(&host, &Silent).unwrap_err();
    assert!(
        error
            .reason
            .contains("01-52-54-00-12-34-56.toml: the server is in trouble (HTTP 500) (5 tries)"),
        "{error}"
    );
    server.fail("GET", Fault::Status(403));
    assert!(
        run(&host, &Silent)
            .unwrap_err()
            .reason
            .contains("does not allow it")
    );
}

#[test]
fn every_name_that_was_tried_is_listed() {
    let server = FakeServer::start();
    let host = format!("pitstop.host={}", server.url("/hosts/"));
    let error = run(&host, &Silent).unwrap_err();
    assert!(
        error
            .reason
            .starts_with("there is no host file for this machine: tried "),
        "{error}"
    );
    for name in [
        "01-52-54-00-12-34-56.toml",
        "/0A00020F.toml",
        "/0A0.toml",
        "/default.toml",
    ] {
        assert!(error.reason.contains(name), "{name}: {error}");
    }
    assert_eq!(error.salvaged.image, "10.0.2.15");
}

#[test]
fn ten_megabytes_of_noise_are_not_a_host_file() {
    let (server, host) = serving("");
    server.put("/hosts/0A00020F.toml", &vec![0xA5; 10 << 20]);
    let error = run(&host, &Silent).unwrap_err();
    assert!(
        error
            .reason
            .contains("larger than 1.0 MiB: is the URL right?"),
        "{error}"
    );
}

#[test]
fn a_value_without_sense_names_line_and_key_and_keeps_the_policy() {
    let frame = |line: &str| {
        format!(
            "version = 1\nshare = \"http://u:secret@a/s\"\nfailure-delay = \"7s\"\nattempts = 2\n{line}\n"
        )
    };
    for (line, parts) in [
        (
            "action = \"wipe-it\"",
            [
                "line 5, column 1: key \"action\": unknown action",
                "refresh-info",
            ],
        ),
        (
            "actoin = \"backup\"",
            ["line 5", "unknown key \"actoin\": did you mean \"action\"?"],
        ),
        (
            "action = \"backup\"\nimage = \"../x\"",
            ["line 6", "must not contain . or .."],
        ),
        (
            "action = \"backup\"\ndisks = []",
            ["key \"disks\"", "no disk or every disk"],
        ),
        (
            "action = \"backup\"\nlevel = \"best\"",
            ["key \"level\"", "fast and small"],
        ),
        (
            "action = \"backup\"\nimage = \"{serial}\"",
            ["{serial} has no value", "line 6"],
        ),
        (
            "action = \"backup\"\non-success = \"halt\"",
            ["on-success", "reboot, poweroff and rescue"],
        ),
        (
            "action = \"backup\"\ndelete = [\"x\"]",
            ["key \"delete\"", "whole URL"],
        ),
        ("action = backup", ["line 5", "0A00020F.toml"]),
        ("", ["there is no action", "0A00020F.toml"]),
    ] {
        let (_server, host) = serving(&frame(line));
        let error = run(&host, &Silent).unwrap_err();
        for part in parts {
            assert!(error.reason.contains(part), "{line}: {part}: {error}");
        }
        assert!(!error.reason.contains("secret"), "{error}");
        assert_eq!(error.salvaged.policy.failure_delay, Duration::from_secs(7));
        assert_eq!(error.salvaged.policy.attempts, 2);
        assert_eq!(error.salvaged.share.unwrap().to_string(), "http://a/s");
    }
}

#[test]
fn a_broken_command_line_keeps_its_share_and_action_for_the_log() {
    let error = run(
        "pitstop.action=backup pitstop.share=http://a/s pitstop.bogus",
        &Silent,
    );
    let error = error.unwrap_err();
    assert!(
        error.reason.contains("unknown parameter pitstop.bogus"),
        "{error}"
    );
    assert_eq!(error.salvaged.action, Some(ActionName::Backup));
    assert_eq!(error.salvaged.share.unwrap().to_string(), "http://a/s");
}

#[test]
fn a_broken_command_line_keeps_the_host_files_share_and_policy() {
    let (_server, host) = serving(
        "version = 1\naction = \"backup\"\nshare = \"http://a/s\"\nattempts = 1\nfailure-delay = \"7s\"\n",
    );
    let error = run(&format!("{host} pitstop.bogus"), &Silent).unwrap_err();
    assert!(
        error.reason.contains("unknown parameter pitstop.bogus"),
        "{error}"
    );
    let salvaged = error.salvaged;
    assert_eq!(salvaged.policy.failure_delay, Duration::from_secs(7));
    assert_eq!(salvaged.policy.attempts, 1);
    assert_eq!(salvaged.action, Some(ActionName::Backup));
    assert_eq!(salvaged.share.unwrap().to_string(), "http://a/s");
}

#[test]
fn what_is_read_over_tftp_is_deleted_by_the_command_lines_url() {
    let file = HostFile::parse(
        b"version = 1\naction = \"backup\"\nshare = \"http://a/\"",
        "f",
    )
    .unwrap();
    let url = Url::parse("tftp://srv/hosts/x.toml").unwrap();
    let placeholders = Placeholders {
        ip: "10.0.2.15".into(),
        ..Placeholders::default()
    };
    let targets = |line: &str| {
        let line = CommandLine::parse(line).unwrap();
        let job = check::job(&line, &file, Some(&url), &placeholders).unwrap();
        job.delete
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(targets("quiet"), ["tftp://srv/hosts/x.toml"]);
    assert_eq!(
        targets("pitstop.delete=http://srv/x.toml"),
        ["http://srv/x.toml"]
    );
}

#[test]
fn a_host_file_beside_the_boot_file_is_found_and_it_is_said_why() {
    let server = FakeServer::start();
    let text = "version = 1\naction = \"backup\"\nshare = \"http://a/\"\n";
    server.put("/hosts/0A00020F.toml", text.as_bytes());
    let boot = BootSource {
        file: Some(server.url("/boot/pitstop.efi").to_string()),
        ..BootSource::default()
    };
    let heard = Heard::default();
    let job = run_booted("quiet", boot.clone(), &heard).unwrap();
    assert_eq!(job.source, server.url("/hosts/0A00020F.toml").as_str());
    let said = heard.0.lock().unwrap().join("\n");
    for place in ["/boot/hosts/ (beside the boot file http", "/hosts/ (beside"] {
        assert!(said.contains(place), "{place}: {said}");
    }
    // With a whole job on the command line nobody is asked.
    let line = "pitstop.action=backup pitstop.share=http://b/";
    assert_eq!(
        run_booted(line, boot, &Silent).unwrap().source,
        "the kernel command line"
    );
    let empty = FakeServer::start();
    let boot = BootSource {
        file: Some(empty.url("/boot/pitstop.efi").to_string()),
        ..BootSource::default()
    };
    let error = run_booted("quiet", boot, &Silent).unwrap_err();
    for part in ["/boot/hosts/0A00020F.toml", "give pitstop.host=URL"] {
        assert!(error.reason.contains(part), "{part}: {error}");
    }
}
