//! Whole runs against an HTTP server that can misbehave.

use super::after_crash;
use super::site::{Console, Site, noise};
use pitstop_protocol::fake::lease;
use pitstop_protocol::job::After;
use pitstop_transport::fetch::fake::{FakeServer, Fault};
use std::fs;

const CONFIGURATION: &str = "/hosts/0A00020F.toml";
const IMAGE: &str = "/share/10.0.2.15/sda.raw.gz";
const UPLOAD: &str = "PUT /share/10.0.2.15/sda.raw.gz.new.part";
const MIB: usize = 1 << 20;

fn server() -> FakeServer {
    let server = FakeServer::start();
    server.put("/share/pitstop-share", b"");
    server
}

fn set(server: &FakeServer, action: &str) {
    let share = server.url("/share");
    let text = format!("version = 1\naction = \"{action}\"\nshare = \"{share}\"\n");
    server.put(CONFIGURATION, text.as_bytes());
}

fn text(server: &FakeServer, path: &str) -> String {
    String::from_utf8(server.get(path).unwrap_or_default()).unwrap()
}

/// Runs the job that was set and expects it to fail with each of `parts` on the console and in both logs.
fn fails(site: &Site, server: &FakeServer, parts: &[&str]) {
    let before = server.get(IMAGE);
    let ended = site.run_with(&format!("pitstop.host={}", server.url("/hosts/")));
    let line = &ended.finish.result_line;
    assert!(line.starts_with("pitstop: result failed "), "{line}");
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
    for log in ["/share/maintenance.log", "/share/10.0.2.15/maintenance.log"] {
        assert!(
            text(server, log).contains(line.as_str()),
            "{}",
            text(server, log)
        );
    }
    assert!(
        server.get(CONFIGURATION).is_some(),
        "the configuration stays"
    );
    assert!(server.get(IMAGE) == before, "the image before is as it was");
    for name in server.names() {
        assert!(
            !name.contains(".part") && !name.contains(".new"),
            "{name} was left"
        );
    }
}

#[test]
fn a_machine_finds_its_job_is_backed_up_and_restored() {
    let (site, server) = (Site::new(), server());
    let content = noise(4, 3 * MIB);
    let node = site.disk("sda", "QM00001", &content);
    set(&server, "backup");
    let host = format!("pitstop.host={}", server.url("/hosts/"));
    let ended = site.run_with(&host);
    assert_eq!(
        ended.finish.result_line, "pitstop: result ok backup",
        "{}",
        ended.console
    );
    assert!(server.get(CONFIGURATION).is_none(), "the job is done once");

    fs::write(&node, vec![0xee; 3 * MIB]).unwrap();
    set(&server, "restore");
    let ended = site.run_with(&host);
    assert_eq!(
        ended.finish.result_line, "pitstop: result ok restore",
        "{}",
        ended.console
    );
    assert_eq!(ended.finish.then, After::Reboot);
    assert!(fs::read(&node).unwrap() == content);
    assert!(server.get("/share/10.0.2.15/attempts.toml").is_none());
}

#[test]
fn a_share_that_is_full_in_the_middle_loses_nothing() {
    let (site, server) = (Site::new(), server());
    site.disk("sda", "QM00001", &noise(4, 8 * MIB));
    server.put(IMAGE, b"the image before");
    set(&server, "backup-again");
    server.fail(UPLOAD, Fault::Early(MIB, 507));
    fails(&site, &server, &["backing up sda", "sda.raw.gz", "507"]);

    // A server that cannot append gets the image from its beginning again, but not for ever.
    for _ in 0..3 {
        server.fail(UPLOAD, Fault::HangUp(MIB));
    }
    fails(&site, &server, &["backing up sda", "sda.raw.gz"]);

    let ended = site.run_with(&format!("pitstop.host={}", server.url("/hosts/")));
    let line = &ended.finish.result_line;
    assert_eq!(line, "pitstop: result ok backup-again", "{}", ended.console);
    let kept = server.get(&format!("{IMAGE}.old"));
    assert!(kept.is_some_and(|image| image == b"the image before"));
}

#[test]
fn a_server_that_does_not_delete_is_noticed_before_any_work() {
    let (site, server) = (Site::new(), server());
    site.disk("sda", "QM00001", &noise(4, MIB));
    for status in [403, 405] {
        set(&server, "backup");
        server.fail("DELETE", Fault::Status(status));
        fails(&site, &server, &["0A00020F.toml", &status.to_string()]);
    }
    let gone = format!("delete = [\"{}\"]\n", server.url("/hosts/gone.toml"));
    let text = [text(&server, CONFIGURATION), gone].concat();
    server.put(CONFIGURATION, text.as_bytes());
    fails(&site, &server, &["gone.toml", "it does not exist"]);
    assert!(server.get(IMAGE).is_none());
}

#[test]
fn a_configuration_that_outlives_the_work_is_a_failure_that_says_so() {
    let (site, server) = (Site::new(), server());
    site.disk("sda", "QM00001", &noise(4, MIB));
    set(&server, "refresh-info");
    let probe = format!("DELETE {CONFIGURATION}");
    server.fail(&probe, Fault::Status(403));
    fails(
        &site,
        &server,
        &["the refresh-info is done", "0A00020F.toml", "403"],
    );
}

#[test]
fn a_server_that_has_every_file_is_no_share() {
    let (site, server) = (Site::new(), server());
    site.disk("sda", "QM00001", &noise(4, MIB));
    server.put("/share/pitstop-no-such-file", b"<html>Welcome</html>");
    set(&server, "backup");
    let ended = site.run_with(&format!("pitstop.host={}", server.url(CONFIGURATION)));
    let line = ended.finish.result_line;
    assert!(line.contains("has a file of any name"), "{line}");
    assert!(server.get(CONFIGURATION).is_some());
}

#[test]
fn a_crash_report_shows_the_share_the_jobs_credentials() {
    let (site, server) = (Site::new(), server());
    let text = format!(
        "version = 1\naction = \"restore\"\nshare = \"{}\"\ntoken = \"secret\"\n",
        server.url("/share")
    );
    server.put(CONFIGURATION, text.as_bytes());
    site.run_with(&format!("pitstop.host={}", server.url("/hosts/")));
    let policy = site.policies.lock().unwrap().last().unwrap().clone();
    assert!(!format!("{policy:?}").contains("secret"));

    let before = server.seen("authorization").len();
    let asked = server.log().len();
    let console = Console::default();
    after_crash(&lease(), &policy, "killed", &console);
    let (shown, asked) = (
        server.seen("authorization").split_off(before),
        server.log().len() - asked,
    );
    assert_eq!(shown, vec!["Bearer secret"; asked], "{:?}", server.log());
    assert!(asked > 0 && console.0.lock().unwrap().is_empty());
}
