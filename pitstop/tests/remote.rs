//! `pitstop --server URL`: what it prints and how it ends is what the same command does on the files; and what goes wrong is told.

mod api_common;
mod common;

use api_common::{BEGIN, FAILED, HALF, LOG, Lab, PLAN};
use common::{pitstop, run};
use pitstop_testing::ports::free_port;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Output, Stdio};

const RUN: &str = "20261128-213000-aaaaa1";

fn text(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text + &String::from_utf8_lossy(&output.stderr)
}

/// Both say the same and end alike.
fn same(lab: &Lab, words: &[&str]) -> String {
    let (here, there) = (lab.here(words), lab.there(words));
    assert_eq!(
        there.status.code(),
        here.status.code(),
        "{words:?}: {}",
        text(&there)
    );
    assert_eq!(text(&there), text(&here), "{words:?}");
    text(&there)
}

#[test]
fn a_server_elsewhere_says_what_the_files_say() {
    let lab = Lab::new();
    lab.make_image();
    let set = lab.there(&[
        "host",
        "set",
        "@lab",
        "backup-again",
        "--attempts",
        "2",
        "--order",
        "name",
    ]);
    assert!(set.status.success(), "{}", text(&set));
    assert!(text(&set).starts_with("MACHINE"), "{}", text(&set));
    assert!(text(&set).contains("\nAt their next network boot 3 machines do: backup-again\n"));
    let host_file = fs::read_to_string(lab.path().join("hosts/0A00000B.toml")).unwrap();
    assert!(host_file.contains("attempts = 2\n"), "{host_file}");
    let later = lab.there(&["host", "set", "other", "rescue", "--every", "0 22 * * *"]);
    assert!(text(&later).starts_with("Due at "), "{}", text(&later));

    let id = lab.get("/jobs/lab-1")["id"].as_str().unwrap().to_owned();
    lab.check_in(&id, RUN, "\"state\":\"ready\"");
    lab.report(&id, "0A00000B.toml", RUN, &[BEGIN, PLAN, HALF, LOG, FAILED]);
    lab.check_in(
        &id,
        RUN,
        "\"state\":\"failed\",\"reason\":\"no disk\",\"again\":false",
    );
    for words in [
        &["host", "list"][..],
        &["host", "list", "lab-2", "--json"],
        &["job", "list"],
        &["job", "list", "@lab", "--json"],
        &["job", "show", "lab-1"],
        &["job", "show", &id, "--json"],
        &["job", "log", "lab-1"],
        &["job", "wait", "lab-1"],
        &["job", "wait", "@lab", "--timeout", "1s"],
        &["job", "history", "--since", "2026-01-01"],
        &["job", "history", "--json"],
        &["image", "list"],
        &["image", "list", "--json"],
        &["fleet", "list"],
        &["fleet", "list", "@lab", "--json"],
        &["fleet", "show", "lab-2"],
        &["fleet", "show", "@lab", "--json"],
        &["power", "other", "status"],
        &["power", "other", "status", "--json"],
        // What is refused is refused alike.
        &["job", "show", "10.0.0.99"],
        &["job", "cancel", "lab-1"],
        &["host", "clear", "10.0.0.99"],
        &["host", "set", "lab-1", "restore", "--disk", "sdb"],
        &["fleet", "show", "lab-9"],
    ] {
        same(&lab, words);
    }
    assert!(same(&lab, &["job", "wait", "lab-1"]).contains("lab-1 is failed"));
    // An error of several lines stays one: it points below what is wrong.
    let wrong = same(&lab, &["inventory", "ram<<"]);
    assert!(wrong.contains("ram<<\n") && wrong.contains("^^"), "{wrong}");

    let again = lab.there(&["job", "retry", "lab-1"]);
    assert!(
        text(&again).starts_with("lab-1: backup-again is set again, job "),
        "{}",
        text(&again)
    );
    let cancelled = lab.there(&["job", "cancel", "lab-2"]);
    assert!(
        text(&cancelled).starts_with("lab-2: job "),
        "{}",
        text(&cancelled)
    );
    let cleared = lab.there(&["host", "clear", "lab-3"]);
    assert!(
        text(&cleared).starts_with("lab-3 (10.0.0.13) has no job any more"),
        "{}",
        text(&cleared)
    );
    assert!(!lab.path().join("hosts/0A00000D.toml").exists());
}

#[test]
fn a_log_is_followed_to_its_end() {
    let lab = Lab::new();
    assert!(
        lab.there(&["host", "set", "lab-1", "backup-again"])
            .status
            .success()
    );
    let id = lab.get("/jobs/lab-1")["id"].as_str().unwrap().to_owned();
    lab.check_in(&id, RUN, "\"state\":\"ready\"");
    lab.report(&id, "0A00000B.toml", RUN, &[BEGIN, PLAN, HALF, LOG]);
    let follower = pitstop()
        .args(["--server", &lab.url(), "job", "log", "lab-1", "-f"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    lab.report(&id, "0A00000B.toml", RUN, &[BEGIN, PLAN, HALF, LOG, FAILED]);
    lab.check_in(
        &id,
        RUN,
        "\"state\":\"failed\",\"reason\":\"no disk\",\"again\":false",
    );
    let output = follower.wait_with_output().unwrap();
    let text = text(&output);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("warning: slow") && text.trim_end().ends_with("no disk"),
        "{text}"
    );
}

#[test]
fn who_may_not_is_told_so() {
    let lab = Lab::new();
    let add = |name: &str, role: &str| {
        let root = lab.path().to_str().unwrap();
        let mut child = pitstop()
            .args([
                "user",
                "add",
                name,
                "--role",
                role,
                "--password-stdin",
                "--root",
                root,
            ])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(b"a long password 1\n")
            .unwrap();
        assert!(child.wait().unwrap().success());
        let output = lab.here(&["token", "new", "--user", name]);
        assert!(output.status.success(), "{}", text(&output));
        let file = lab.path().join(format!("{name}.token"));
        let token = String::from_utf8(output.stdout).unwrap();
        fs::write(&file, token.lines().last().unwrap()).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (ann, vic) = (add("ann", "operator"), add("vic", "viewer"));
    let ask = |token: Option<&str>, words: &[&str]| {
        let url = lab.url();
        let token: Vec<&str> = token
            .map(|file| vec!["--token-file", file])
            .unwrap_or_default();
        run(&[&["--server", &url][..], &token, words].concat())
    };
    let set = ["host", "set", "lab-1", "rescue"];
    let stranger = ask(None, &set);
    assert_eq!(stranger.status.code(), Some(1));
    assert!(
        text(&stranger).contains("does not know who you are"),
        "{}",
        text(&stranger)
    );
    assert!(
        text(&stranger).contains("--token-file"),
        "{}",
        text(&stranger)
    );
    let viewer = ask(Some(&vic), &set);
    assert_eq!(viewer.status.code(), Some(1));
    assert!(
        text(&viewer).contains("does not allow this: vic is a viewer"),
        "{}",
        text(&viewer)
    );
    assert!(ask(Some(&vic), &["job", "list"]).status.success());
    let done = ask(Some(&ann), &set);
    assert!(done.status.success(), "{}", text(&done));
    let token = fs::read_to_string(&ann).unwrap();
    let by_environment = pitstop()
        .args(["job", "show", "lab-1", "--json"])
        .env("PITSTOP_SERVER", lab.url())
        .env("PITSTOP_TOKEN", token.trim())
        .output()
        .unwrap();
    assert!(
        text(&by_environment).contains("\"set-by\": \"ann\""),
        "{}",
        text(&by_environment)
    );
}

#[test]
fn a_server_that_is_not_there_or_is_another_one_is_told() {
    let told = |url: &str, words: &[&str]| {
        let output = run(&[&["--server", url], words].concat());
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        text(&output)
    };
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let error = told(&nobody, &["job", "list"]);
    assert!(error.contains("does pitstop serve run there?"), "{error}");
    // Another program, or a server of before the API.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", other.local_addr().unwrap());
    let answers = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).unwrap();
        let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n";
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let error = told(&url, &["job", "list"]);
    answers.join().unwrap();
    assert!(
        error.contains("is it a pitstop serve, of this version"),
        "{error}"
    );
    let error = told(&nobody, &["fleet", "check"]);
    assert!(error.contains("works on the files of a server"), "{error}");
    // What is about this computer does not ask.
    let here = run(&["--server", &nobody, "completions", "bash"]);
    assert!(here.status.success(), "{}", text(&here));
    let wrong = run(&["--server", "lab", "job", "list"]);
    assert_eq!(wrong.status.code(), Some(2));
}
