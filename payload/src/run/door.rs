//! Whole runs of jobs with `check-in`.

use super::site::{MIB, Site, names_below, noise};
use crate::check_in::script::Script;
use pitstop_protocol::job::After;
use std::fs;
use std::time::Duration;

const GO: (u16, &str) = (200, r#"{"answer":"go","beat-ms":50}"#);
const NOTED: (u16, &str) = (200, r#"{"answer":"noted"}"#);

fn set(site: &Site, action: &str, script: &Script) {
    site.set(action, &format!("check-in = \"{}\"\n", script.url()));
}

#[test]
fn a_job_that_is_cancelled_at_the_door_touches_nothing() {
    let site = Site::with_disk(&noise(1, MIB));
    let script = Script::start(&[
        (200, r#"{"answer":"wait","place":3,"of":12,"ask-ms":20}"#),
        (
            200,
            r#"{"answer":"cancelled","reason":"cancelled by root@lab"}"#,
        ),
    ]);
    set(&site, "backup", &script);
    let before = names_below(site.root.path());
    let ended = site.run();
    assert_eq!(
        ended.finish.result_line,
        "pitstop: result cancelled backup: cancelled by root@lab"
    );
    assert_eq!(ended.finish.then, After::Reboot);
    // Its host file is still there: without a pause it would start again and again.
    assert_eq!(ended.finish.wait, Duration::from_secs(300));
    assert!(
        ended.console.contains("waiting for a slot: 3rd of 12"),
        "{}",
        ended.console
    );
    // Not even the logs: the share was not opened.
    assert_eq!(names_below(site.root.path()), before);
}

#[test]
fn a_machine_whose_job_is_gone_reboots_at_once() {
    let site = Site::with_disk(&noise(1, MIB));
    let gone = r#"{"answer":"cancelled","reason":"cancelled by root@lab"}"#;
    let script = Script::start(&[(200, gone)]);
    set(&site, "backup", &script);
    let host = format!("pitstop.host=file://{}", site.host_file().display());
    let ended = site.run_beside(&host, &|policy| {
        if policy.action == "backup" {
            fs::remove_file(site.host_file()).unwrap();
        }
    });
    let line = ended.finish.result_line;
    assert!(
        line.starts_with("pitstop: result cancelled backup"),
        "{line}"
    );
    assert!(ended.finish.wait.is_zero());
}

#[test]
fn the_server_hears_how_each_try_went() {
    let site = Site::with_disk(&noise(1, MIB));
    let script = Script::start(&[GO, NOTED]);
    set(&site, "backup", &script);
    site.succeeds("backup");
    assert_eq!((script.count("ready"), script.count("done")), (1, 1));
    assert!(!site.host_file().exists());

    fs::remove_file(site.on_share("10.0.2.15/sda.raw.gz")).unwrap();
    for (attempts, again) in [(2, true), (1, false)] {
        let script = Script::start(&[GO, NOTED]);
        let door = format!("check-in = \"{}\"\nattempts = {attempts}\n", script.url());
        site.set("restore", &door);
        let line = site.run().finish.result_line;
        assert!(line.starts_with("pitstop: result failed restore"), "{line}");
        let told = format!("\"again\":{again}");
        let is_it = |said: &String| said.contains("\"failed\"") && said.contains(&told);
        let heard = script.heard();
        assert!(heard.iter().any(is_it), "{heard:?}");
    }
}

#[test]
fn a_door_that_stays_shut_is_a_failed_try_that_is_logged_and_counted() {
    let site = Site::with_disk(&noise(1, MIB));
    let script = Script::start(&[(503, "busy")]);
    let more = "retry-for = \"1ms\"\nattempts = 2\n";
    let door = format!("check-in = \"{}\"\n{more}", script.url());
    site.set("backup", &door);
    for then in [After::Reboot, After::Rescue] {
        let ended = site.fails("backup", &["asking for a slot: "]);
        assert_eq!(ended.finish.then, then);
    }
    assert!(!site.on_share("10.0.2.15/sda.raw.gz").exists());
}

#[test]
fn rescue_asks_nobody() {
    let site = Site::with_disk(&noise(1, MIB));
    let script = Script::start(&[(503, "busy")]);
    set(&site, "rescue", &script);
    site.succeeds("rescue");
    assert_eq!(script.heard().len(), 0);
}
