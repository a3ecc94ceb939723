//! `/metrics` and `/healthz` as Prometheus and a load balancer ask them, and notices from a report to a receiver.

mod common;

use common::{Answer, Server, pitstop, run, wait_until};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

const JOB: &str = "20261128-212955-0f3a";
const RUN: &str = "20261128-213000-000001";

/// What a parser of `OpenMetrics` 1.0 makes of a text: every sample by its name with labels.
fn parsed(text: &str) -> HashMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("no end");
    let mut kinds: HashMap<&str, &str> = HashMap::new();
    let mut samples = HashMap::new();
    let is_name = |name: &str| {
        name.chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
            && name.starts_with(|c: char| !c.is_ascii_digit())
    };
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, name, value) = (
                words.next().unwrap(),
                words.next().unwrap(),
                words.next().unwrap(),
            );
            assert!(is_name(name), "{line}");
            match what {
                "TYPE" => assert_eq!(kinds.insert(name, value), None, "{line}"),
                "HELP" => assert!(!value.is_empty(), "{line}"),
                "UNIT" => assert!(name.ends_with(&format!("_{value}")), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        assert!(is_name(name), "{line}");
        let family = match name.strip_suffix("_total") {
            Some(family) => {
                assert_eq!(kinds.get(family), Some(&"counter"), "{line}");
                family
            }
            None => name,
        };
        assert!(kinds.contains_key(family), "{line} has no TYPE before it");
        if let Some(labels) = series
            .strip_prefix(name)
            .filter(|labels| !labels.is_empty())
        {
            let inside = labels.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
            for pair in inside.split("\",") {
                let (label, value) = pair.split_once("=\"").unwrap();
                assert!(is_name(label) && !value.contains('\n'), "{line}");
            }
        }
        let value: f64 = value.parse().unwrap();
        assert_eq!(samples.insert(series.to_owned(), value), None, "{line}");
    }
    samples
}

fn report(server: &Server, seq: u64, rest: &str) -> u16 {
    let line = format!(
        "{{\"v\":1,\"run\":\"{RUN}\",\"seq\":{seq},\"time\":\"2026-11-28T21:30:01.000Z\",{rest}}}\n"
    );
    let mut stream = server.connect();
    write!(
        stream,
        "POST /report/{JOB} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{line}",
        line.len()
    )
    .unwrap();
    Answer::read(stream).status
}

/// A machine, which is this one, has a job and fails at it.
fn fail(server: &Server) {
    let host_file = format!(
        "version = 1\naction = \"backup\"\nshare = \"http://s/share\"\nreport = \"http://s/report/{JOB}\"\n"
    );
    fs::write(server.path("hosts/7F000001.toml"), host_file).unwrap();
    let begin = "\"type\":\"begin\",\"machine\":\"lab3-01\",\"address\":\"127.0.0.1\",\"mac\":\"52:54:00:12:34:56\",\"pitstop\":\"1\"";
    assert_eq!(report(server, 1, begin), 204);
    let result = "\"type\":\"result\",\"verdict\":\"failed\",\"action\":\"backup\",\"reason\":\"no disk\",\"bytes\":5000,\"elapsed-ms\":9,\"read-errors\":0";
    assert_eq!(report(server, 2, result), 204);
    // The answer was lost, and the machine says it again.
    assert_eq!(report(server, 2, result), 204);
}

#[test]
fn the_metrics_are_what_prometheus_reads() {
    let root = tempfile::tempdir().unwrap();
    fs::write(
        root.path().join("fleet.toml"),
        "version = 1\n[server]\nslots = 7\n[host.lab3-09]\nmac = \"52:54:00:12:34:99\"\n",
    )
    .unwrap();
    let server = Server::start_in(root.path(), &[]);
    fail(&server);
    // Somebody took the job back.
    fs::remove_file(server.path("hosts/7F000001.toml")).unwrap();
    server.get("/none");
    // A request counts at the end of its answer, which its client may have a moment before.
    wait_until("all to be counted", || {
        let text = server.get("/metrics").text();
        text.contains("{class=\"report\",status=\"2xx\"} 3\n")
            && text.contains("{class=\"pages\",status=\"4xx\"} 1\n")
    });
    let answer = server.get("/metrics");
    assert_eq!(
        answer.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let samples = parsed(&answer.text());
    let value = |series: &str| {
        let found = samples.get(series);
        // Whole numbers: told exactly.
        found
            .unwrap_or_else(|| panic!("no {series} in {samples:#?}"))
            .to_string()
    };
    assert_eq!(
        value("pitstop_runs_total{action=\"backup\",result=\"failed\"}"),
        "1"
    );
    assert_eq!(
        value("pitstop_runs_moved_bytes_total{action=\"backup\"}"),
        "5000"
    );
    assert_eq!(
        value("pitstop_requests_total{class=\"report\",status=\"2xx\"}"),
        "3"
    );
    assert_eq!(
        value("pitstop_requests_total{class=\"pages\",status=\"4xx\"}"),
        "1"
    );
    assert_eq!(value("pitstop_machines{state=\"failed\"}"), "1");
    assert_eq!(value("pitstop_machines{state=\"idle\"}"), "1");
    assert_eq!(value("pitstop_slots"), "7");
    assert_eq!(value("pitstop_slots_used"), "0");
    assert_eq!(value("pitstop_fleet_wrong"), "0");
    assert_ne!(value("pitstop_connections{state=\"working\"}"), "0");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        value(&format!("pitstop_build_info{{version=\"{version}\"}}")),
        "1"
    );
    let states: HashSet<&String> = samples
        .keys()
        .filter(|it| it.starts_with("pitstop_jobs{"))
        .collect();
    assert_eq!(states.len(), 8);
}

#[test]
fn the_metrics_are_for_viewers() {
    let server = Server::start();
    let root = server.path("").to_str().unwrap().to_owned();
    let mut add = pitstop()
        .args([
            "user",
            "add",
            "prometheus",
            "--role",
            "viewer",
            "--password-stdin",
            "--root",
            &root,
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let password = b"correct horse battery staple\n";
    add.stdin.take().unwrap().write_all(password).unwrap();
    assert!(add.wait().unwrap().success());
    let token = run(&["token", "new", "--user", "prometheus", "--root", &root]);
    assert!(token.status.success(), "{token:?}");
    let token = String::from_utf8(token.stdout).unwrap();
    assert_eq!(server.get("/metrics").status, 401);
    let bearer = format!("Authorization: Bearer {}\r\n", token.trim());
    let answer = server.request("GET", "/metrics", &bearer, b"");
    assert_eq!(answer.status, 200, "{answer:?}");
    parsed(&answer.text());
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn health_says_what_is_wrong_and_no_secret() {
    let server = Server::start();
    let healthy = server.get("/healthz");
    assert_eq!((healthy.status, healthy.text()), (200, "ok\n".to_owned()));
    assert_eq!(server.put("/healthz", b"x").status, 405);
    let marker = server.path("share/pitstop-share");
    let away = server.path("share/away");
    fs::rename(&marker, &away).unwrap();
    // What was found is remembered for two seconds.
    let becomes = |status| {
        wait_until("what was found to be forgotten", || {
            server.get("/healthz").status == status
        });
    };
    becomes(503);
    let sick = server.get("/healthz");
    assert!(sick.text().contains("marker"), "{sick:?}");
    fs::rename(&away, &marker).unwrap();
    fs::rename(server.path("share"), server.path("gone")).unwrap();
    becomes(503);
    wait_until("the folder to be missed", || {
        !server.get("/healthz").text().contains("marker")
    });
    let sick = server.get("/healthz");
    assert_eq!(sick.status, 503);
    let root = server.path("");
    assert!(!sick.text().contains(root.to_str().unwrap()), "{sick:?}");
    fs::rename(server.path("gone"), server.path("share")).unwrap();
    becomes(200);
}

/// The next request, read to its end.
fn accept(listener: &TcpListener) -> (TcpStream, String) {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let mut post = String::new();
    while !post.ends_with('}') {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "{post}");
        post.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    (stream, post)
}

#[test]
fn a_failure_is_told_to_a_webhook_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let root = tempfile::tempdir().unwrap();
    let hook = format!(
        "version = 1\n[[webhook]]\nname = \"ops\"\nurl = \"http://{}/\"\n",
        listener.local_addr().unwrap()
    );
    fs::write(root.path().join("notify.toml"), hook).unwrap();
    let server = Server::start_in(root.path(), &[]);
    fail(&server);
    let (mut stream, post) = accept(&listener);
    stream
        .write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        .unwrap();
    for wanted in [
        "\"event\":\"failed\"",
        "\"machine\":\"lab3-01\"",
        "\"reason\":\"no disk\"",
        &format!("\"run\":\"{RUN}\""),
    ] {
        assert!(post.contains(wanted), "{post}");
    }
    listener.set_nonblocking(true).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert!(listener.accept().is_err(), "it was told twice");
    // And by hand.
    listener.set_nonblocking(false).unwrap();
    let root = root.path().to_str().unwrap().to_owned();
    let test = std::thread::spawn(move || run(&["notify", "test", "--root", &root]));
    let (mut stream, _) = accept(&listener);
    stream
        .write_all(b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .unwrap();
    let output = test.join().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "ops: it answered 500 Internal Server Error\n");
}
