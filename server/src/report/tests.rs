//! Reports, the API and the page, over real connections.

use super::token;
use crate::connections::{Connections, Peer, Table};
use crate::face::Face;
use crate::journal::Journal;
use crate::site::{Folders, Sites};
use crate::{Args, http, runs, sites};
use clap::{Args as _, FromArgMatches};
use pitstop_protocol::id::Id;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const JOB: &str = "20261128-212955-0f3a";
const BEGIN: &str = "\"type\":\"begin\",\"machine\":\"lab3-01\",\"address\":\"10.0.2.15\",\"mac\":\"52:54:00:12:34:56\",\"pitstop\":\"1\"";
const HALF: &str = "\"step\":1,\"disk\":\"sda\",\"type\":\"progress\",\"act\":\"backup\",\"done\":500000000,\"total\":1000000000,\"transferred\":1,\"elapsed-ms\":2000";
const LOG: &str = "\"type\":\"log\",\"level\":\"warning\",\"text\":\"<slow>\"";
const FAILED: &str = "\"type\":\"result\",\"verdict\":\"failed\",\"action\":\"backup\",\"reason\":\"<b>no disk\",\"bytes\":0,\"elapsed-ms\":9,\"read-errors\":0";

struct Served {
    address: SocketAddr,
    sites: Arc<Sites>,
    _runtime: tokio::runtime::Runtime,
}

fn serve(root: &Path) -> Served {
    let words = ["serve", "--quiet", "--listen", "127.0.0.1:0", "--root"].map(OsStr::new);
    let words = words.into_iter().chain([root.as_os_str()]);
    let matches = Args::augment_args(clap::Command::new("serve")).get_matches_from(words);
    let args = Args::from_arg_matches(&matches).unwrap();
    let folders = Folders::open(root, None).unwrap();
    let journal = Arc::new(Journal::new(true));
    let face = Face {
        served: crate::Served {
            url: "http://127.0.0.1".into(),
            boot_url: "http://127.0.0.1".into(),
        },
        tls: None,
        fleet: Arc::new(crate::fleet::Watched::new(root, Arc::clone(&journal))),
        connections: Table::of_process(Arc::clone(&journal)),
        journal,
    };
    let sites = Arc::new(sites(&args, &folders, face).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let service = http::router(&sites).into_make_service_with_connect_info::<Peer>();
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind(args.listen))
        .unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Connections::new(listener, Arc::clone(&sites.connections));
    runtime.spawn(async move { axum::serve(connections, service).await });
    Served {
        address,
        sites,
        _runtime: runtime,
    }
}

impl Served {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(120)))
            .unwrap();
        stream
    }

    fn post(&self, job: &str, token: Option<&str>, body: &str) -> u16 {
        send(&mut self.connect(), job, token, body).0
    }

    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = self.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        answer(&mut BufReader::new(&mut stream))
    }

    fn json(&self, path: &str) -> serde_json::Value {
        let (status, text) = self.get(path);
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }
}

fn send(stream: &mut TcpStream, job: &str, token: Option<&str>, body: &str) -> (u16, String) {
    let token = token.map_or_else(String::new, |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    let length = body.len();
    let head = format!(
        "POST /report/{job} HTTP/1.1\r\nHost: x\r\n{token}Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A report that is too large is refused before it was read.
    let _ = stream.write_all(body.as_bytes());
    answer(&mut BufReader::new(stream))
}

fn answer(reader: &mut impl BufRead) -> (u16, String) {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (status, String::from_utf8(body).unwrap())
}

fn run(number: u32) -> Id {
    Id::new("2026-11-28T21:30:00Z".parse().unwrap(), number)
}

fn lines(run: &Id, first: u64, rest: &[&str]) -> String {
    let line = |(seq, rest): (u64, &&str)| {
        format!(
            "{{\"v\":1,\"run\":\"{run}\",\"seq\":{seq},\"time\":\"2026-11-28T21:30:01.000Z\",{rest}}}\n"
        )
    };
    (first..).zip(rest).map(line).collect()
}

#[test]
fn a_machine_reports_for_its_own_job_and_for_no_other() {
    let root = tempfile::tempdir().unwrap();
    let server = serve(root.path());
    let other = "20261128-212955-ffff";
    let own = token::issue(root.path(), &JOB.parse().unwrap()).unwrap();
    let theirs = token::issue(root.path(), &other.parse().unwrap()).unwrap();
    let begun = lines(&run(1), 1, &[BEGIN]);
    assert_eq!(server.post(JOB, None, &begun), 401);
    assert_eq!(server.post(JOB, Some(&theirs), &begun), 403);
    assert_eq!(server.post(JOB, Some(&own), &begun), 204);
    assert_eq!(
        server.post(other, Some(&theirs), &lines(&run(1), 2, &[FAILED])),
        403
    );
    // The token outlives the server.
    let later = serve(root.path());
    assert_eq!(
        later.post(JOB, Some(&own), &lines(&run(1), 2, &[FAILED])),
        204
    );
    assert_eq!(later.post(JOB, Some(&theirs), &begun), 403);
}

#[test]
fn without_a_token_the_jobs_machine_reports_also_when_its_host_file_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let server = serve(root.path());
    let begun = |number| lines(&run(number), 1, &[BEGIN]);
    assert_eq!(
        server.post(JOB, None, &begun(1)),
        403,
        "nobody has this job"
    );
    let host_file = root.path().join("hosts/7F000001.toml");
    let text = format!(
        "version = 1\naction = \"backup\"\nshare = \"http://s/share\"\nreport = \"http://s/report/{JOB}\"\n"
    );
    fs::write(&host_file, &text).unwrap();
    assert_eq!(server.post(JOB, None, &begun(1)), 204);
    fs::remove_file(&host_file).unwrap();
    assert_eq!(server.post(JOB, None, &lines(&run(1), 2, &[FAILED])), 204);
    assert_eq!(server.post(JOB, None, &begun(2)), 403, "and no new run");
    // A token that somebody wrote into the file is as good.
    fs::write(&host_file, format!("{text}report-token = \"s3cr3t\"\n")).unwrap();
    assert_eq!(server.post(JOB, None, &begun(3)), 401);
    assert_eq!(server.post(JOB, Some("guess"), &begun(3)), 403);
    assert_eq!(server.post(JOB, Some("s3cr3t"), &begun(3)), 204);
    // That it has begun opens the door for nobody.
    let more = lines(&run(3), 2, &[LOG]);
    assert_eq!(server.post(JOB, None, &more), 401);
    assert_eq!(server.post(JOB, Some("guess"), &more), 403);
}

#[test]
fn of_a_strangers_report_no_more_than_the_first_line_is_read() {
    let root = tempfile::tempdir().unwrap();
    let server = serve(root.path());
    let body = format!("{}hello\n", lines(&run(1), 1, &[BEGIN]));
    assert_eq!(server.post(JOB, None, &body), 403);
    let token = token::issue(root.path(), &JOB.parse().unwrap()).unwrap();
    assert_eq!(server.post(JOB, Some("guess"), &body), 403);
    assert_eq!(server.post(JOB, Some(&token), &body), 400);
}

#[test]
fn what_is_no_report_is_refused_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let server = serve(root.path());
    let token = token::issue(root.path(), &JOB.parse().unwrap()).unwrap();
    let post = |body: &str| server.post(JOB, Some(&token), body);
    assert_eq!(post("hello\n"), 400);
    assert_eq!(
        post(&format!(
            "{}{}",
            lines(&run(1), 1, &[BEGIN]),
            lines(&run(2), 1, &[BEGIN])
        )),
        400
    );
    let long = format!("\"type\":\"x\",\"y\":\"{}\"", "y".repeat(70_000));
    assert_eq!(post(&lines(&run(1), 1, &[&long])), 413);
    assert_eq!(post(&"x".repeat(2 << 20)), 413);
    assert_eq!(post(""), 204);
    assert_eq!(server.post("..%2f..%2fetc", Some(&token), ""), 400);
    assert_eq!(server.post("etc", Some(&token), ""), 404);
    assert_eq!(server.get(&format!("/report/{JOB}")).0, 405);
    assert_eq!(runs::Runs::below(root.path()).ids().unwrap(), []);
}

#[test]
fn two_hundred_machines_at_once_are_all_heard() {
    const MACHINES: u32 = 200;
    let root = tempfile::tempdir().unwrap();
    let server = serve(root.path());
    let jobs: Vec<(Id, String)> = (0..MACHINES)
        .map(|number| {
            let job = Id::new("2026-11-28T21:00:00Z".parse().unwrap(), number);
            let token = token::issue(root.path(), &job).unwrap();
            (job, token)
        })
        .collect();
    std::thread::scope(|scope| {
        for (number, (job, token)) in (0..).zip(&jobs) {
            let server = &server;
            scope.spawn(move || {
                let mut stream = server.connect();
                let batches: [&[&str]; 4] = [&[BEGIN], &[HALF, LOG], &[HALF], &[FAILED]];
                for (first, batch) in (1..).step_by(10).zip(batches) {
                    let body = lines(&run(number), first, batch);
                    let (status, why) = send(&mut stream, job.as_str(), Some(token), &body);
                    assert_eq!(status, 204, "{why}");
                }
            });
        }
    });
    let listed = server.json("/api/v1/runs?last=1000");
    let listed = listed["runs"].as_array().unwrap();
    assert_eq!(listed.len(), 200);
    assert!(
        listed.iter().all(|run| run["state"] == "failed"),
        "{listed:?}"
    );
    // The journal is not full of them.
    let journal = server.sites.journal.last();
    assert!(
        journal.iter().all(|line| !line.contains("POST")),
        "{journal:?}"
    );
}

#[test]
fn the_page_says_what_failed_and_how_far_the_others_are() {
    let root = tempfile::tempdir().unwrap();
    let server = serve(root.path());
    let token = token::issue(root.path(), &JOB.parse().unwrap()).unwrap();
    let post = |body: String| assert_eq!(server.post(JOB, Some(&token), &body), 204);
    post(lines(&run(1), 1, &[BEGIN, FAILED]));
    let (_, page) = server.get("/");
    let why = "<span class=\"why\">&lt;b&gt;no disk</span>";
    assert!(page.contains(why), "{page}");
    // A later run of the same machine goes on.
    post(lines(
        &run(2),
        1,
        &[BEGIN, "\"type\":\"job\",\"action\":\"backup\"", HALF],
    ));
    let (_, page) = server.get("/");
    assert!(!page.contains("no disk"), "{page}");
    let row = "<span class=\"percent\">50 %</span><span class=\"text\">backing up sda · 250 MB/s · 2s left</span>";
    assert!(page.contains(row), "{page}");
}

#[test]
fn programs_list_runs_read_them_and_hear_of_new_lines() {
    let root = tempfile::tempdir().unwrap();
    let server = serve(root.path());
    let token = token::issue(root.path(), &JOB.parse().unwrap()).unwrap();
    let mut news = BufReader::new(server.connect());
    news.get_mut()
        .write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        news.read_line(&mut line).unwrap();
    }
    let body = lines(&run(1), 1, &[BEGIN, HALF, LOG]);
    assert_eq!(server.post(JOB, Some(&token), &body), 204);
    let mut heard = String::new();
    while !heard.contains(body.lines().last().unwrap()) {
        assert_ne!(news.read_line(&mut heard).unwrap(), 0, "{heard}");
    }
    assert!(heard.contains("event: run\n"), "{heard}");

    let listed = server.json("/api/v1/runs?machine=52:54:00:12:34:56");
    assert_eq!(listed["runs"][0]["progress"]["percent"], 50);
    assert_eq!(listed["runs"][0]["job"], JOB);
    for (query, count) in [
        ("machine=lab3-02", 0),
        ("last=0", 0),
        ("job=20261128-212955-0f3a", 1),
    ] {
        let listed = server.json(&format!("/api/v1/runs?{query}"));
        assert_eq!(listed["runs"].as_array().unwrap().len(), count, "{query}");
    }
    assert_eq!(server.get("/api/v1/runs?colour=red").0, 400);
    let one = server.json(&format!("/api/v1/runs/{}", run(1)));
    let log = one["log"].as_str().unwrap();
    assert!(
        log.ends_with("2026-11-28T21:30:01Z warning: <slow>\n"),
        "{log}"
    );
    assert_eq!(one["state"], "running");
    assert_eq!(server.get("/api/v1/runs/20260101-000000-abcd").0, 404);
    assert_eq!(server.get("/api/v1/runs/..%2f..%2fetc").0, 400);
}

#[test]
fn a_run_that_was_reported_is_not_listed_again_out_of_its_log() {
    let root = tempfile::tempdir().unwrap();
    let server = serve(root.path());
    let token = token::issue(root.path(), &JOB.parse().unwrap()).unwrap();
    let other = BEGIN
        .replace("lab3-01", "lab3-02")
        .replace("10.0.2.15", "10.0.2.16")
        .replace("12:34:56", "12:34:57");
    for (number, begin) in [(1, BEGIN), (2, &other)] {
        let body = lines(&run(number), 1, &[begin, FAILED]);
        assert_eq!(server.post(JOB, Some(&token), &body), 204);
    }
    let folder = root.path().join("share/10.0.2.15");
    fs::create_dir(&folder).unwrap();
    let log =
        "2026-11-28T21:30:01+00:00: 10.0.2.15: error: pitstop: result failed backup: no disk\n";
    fs::write(folder.join("maintenance.log"), log).unwrap();
    for last in [1, 2, 3] {
        let listed = server.json(&format!("/api/v1/runs?last={last}"));
        let listed = listed["runs"].as_array().unwrap().clone();
        let ids: Vec<&str> = listed
            .iter()
            .filter_map(|run| run["run"].as_str())
            .collect();
        let (first, second) = (run(2).to_string(), run(1).to_string());
        let both = [first.as_str(), second.as_str()];
        assert_eq!(ids, both[..last.min(2)], "{last}");
    }
}

#[test]
fn what_a_machine_says_of_itself_is_searched_at_once() {
    let root = tempfile::tempdir().unwrap();
    let served = serve(root.path());
    let facts = r#""type":"inventory","facts":{"version":1,"taken":"2026-11-28T21:30:00Z","mac":"52:54:00:12:34:56","ram":{"installed":4294967296},"disks":[{"model":"860 EVO","serial":"S3Z8NB0K"}]}"#;
    let token = token::issue(root.path(), &JOB.parse().unwrap()).unwrap();
    let body = lines(&run(1), 1, &[BEGIN, facts, FAILED]);
    assert_eq!(served.post(JOB, Some(&token), &body), 204);
    let found =
        served.json("/api/v1/inventory?q=ram%3C8GiB+disk.model~%22evo%22+last.result=failed");
    assert_eq!(found["machines"][0]["mac"], "52:54:00:12:34:56", "{found}");
    assert_eq!(found["known"], 1);
    let (status, why) = served.get("/api/v1/inventory?q=ram%3C8GX");
    assert_eq!(status, 400);
    assert!(why.contains("\\n  ram<8GX\\n      ^^^"), "{why}");
    let (status, csv) = served.get("/api/v1/inventory?format=csv");
    assert_eq!((status, csv.lines().count()), (200, 2), "{csv}");
    let machine = served.json("/api/v1/inventory/52:54:00:12:34:56");
    assert_eq!(machine["facts"]["disks"][0]["serial"], "S3Z8NB0K");
    assert_eq!(served.get("/api/v1/inventory/nobody").0, 404);
    let diff = served.json("/api/v1/inventory/52:54:00:12:34:56/diff?since=2026-11-01");
    assert_eq!(diff["changes"], serde_json::json!([]));
}
