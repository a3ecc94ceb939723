//! `/api/v1`, asked by a program: what there is, what is changed, and what is refused.

mod api_common;
mod common;

use api_common::{BEGIN, FAILED, HALF, LOG, Lab, PLAN, json};
use common::{PATIENCE, wait_until};
use serde_json::{Value, json as value};
use std::io::{BufRead, BufReader, Write};
use std::sync::atomic::{AtomicBool, Ordering};

const RUN: &str = "20261128-213000-aaaaa1";
const READY: &str = "\"state\":\"ready\"";

fn names(found: &Value, list: &str, key: &str) -> Vec<String> {
    let list = found[list].as_array().unwrap();
    let names = list.iter().map(|one| one[key].as_str().unwrap().to_owned());
    names.collect()
}

#[test]
fn a_job_goes_its_way_from_the_wish_to_the_result() {
    let lab = Lab::new();
    lab.make_image();
    assert_eq!(
        names(&lab.get("/machines"), "machines", "id"),
        ["lab-1", "lab-2", "lab-3", "other"]
    );
    // What would be lost is told, and nothing is done.
    let restore = value!({"machines": ["lab-1"], "action": "restore", "dry-run": true});
    let told = lab.post("/jobs", &restore);
    assert_eq!(told["loses-data"], true);
    let disk = &told["machines"][0]["disks"][0];
    assert_eq!(
        (&disk["model"], &disk["serial"]),
        (&"EVO 860".into(), &"S3Z9NB0K".into())
    );
    assert!(
        told["text"]
            .as_str()
            .unwrap()
            .contains("sda EVO 860 1.0 MiB serial S3Z9NB0K")
    );
    assert_eq!(lab.get("/jobs")["jobs"], value!([]));

    let wish =
        value!({"machines": ["@lab"], "action": "backup-again", "attempts": 2, "order": "name"});
    let answer = lab.ask("POST", "/jobs", Some(&wish));
    assert_eq!(answer.status, 201, "{}", answer.text());
    let set = json(&answer);
    let ids = names(&set, "jobs", "id");
    assert_eq!(set["jobs"][0]["set-by"], "local");
    let text = std::fs::read_to_string(lab.path().join("hosts/0A00000B.toml")).unwrap();
    assert!(text.contains("attempts = 2\n"), "{text}");

    // Machines come; the first one works, the others wait.
    lab.check_in(&ids[0], RUN, READY);
    lab.check_in(&ids[1], "20261128-213000-aaaaa2", READY);
    lab.check_in(&ids[2], "20261128-213000-aaaaa3", READY);
    lab.report(&ids[0], "0A00000B.toml", RUN, &[BEGIN, PLAN, HALF, LOG]);
    let queue = lab.get("/queue");
    assert_eq!(
        (&queue["slots"], &queue["used"], &queue["free"]),
        (&1.into(), &1.into(), &0.into())
    );
    assert_eq!(queue["running"][0]["progress"]["percent"], 50);
    assert_eq!(names(&queue, "queued", "name"), ["lab-2", "lab-3"]);
    let machine = lab.get("/machines/52:54:00:00:00:11");
    assert_eq!(
        (&machine["state"], &machine["progress"]["percent"]),
        (&"running".into(), &50.into())
    );
    assert_eq!(machine["disks"][0]["serial"], "S3Z9NB0K");
    assert_eq!(lab.get("/machines/lab-3")["waits-at"], 2);

    // The queue is reordered.
    let moved = lab.ask(
        "PATCH",
        &format!("/jobs/{}", ids[2]),
        Some(&value!({"before": ids[1]})),
    );
    assert_eq!(names(&json(&moved), "waiting", "name"), [""; 0]);
    lab.check_in(&ids[2], "20261128-213000-aaaaa3", READY);
    assert_eq!(
        names(&lab.get("/queue"), "queued", "name"),
        ["lab-3", "lab-2"]
    );

    // One is cancelled, one fails and is set again.
    let answer = lab.ask("DELETE", &format!("/jobs/{}", ids[1]), None);
    assert_eq!(
        (answer.status, &json(&answer)["jobs"][0]["state"]),
        (200, &"cancelled".into())
    );
    lab.refused("DELETE", &format!("/jobs/{}", ids[1]), None, 409);
    lab.check_in(
        &ids[0],
        RUN,
        "\"state\":\"failed\",\"reason\":\"no disk\",\"again\":false",
    );
    lab.report(
        &ids[0],
        "0A00000B.toml",
        RUN,
        &[BEGIN, PLAN, HALF, LOG, FAILED],
    );
    let machine = lab.get("/machines/lab-1");
    assert_eq!(
        (&machine["state"], &machine["last"]["reason"]),
        (&"failed".into(), &"no disk".into())
    );
    assert_eq!(
        lab.get(&format!("/jobs/{}", ids[0]))["tries"][0]["state"],
        "failed"
    );
    let answer = lab.ask("POST", &format!("/jobs/{}/retry", ids[0]), None);
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(
        names(&lab.get("/history"), "history", "state"),
        ["cancelled", "failed"]
    );
}

#[test]
fn runs_and_their_logs_are_read_whole_and_in_parts() {
    let lab = Lab::new();
    let wish = value!({"machines": ["10.0.0.11"], "action": "backup-again"});
    let id = names(&lab.post("/jobs", &wish), "jobs", "id").remove(0);
    lab.check_in(&id, RUN, READY);
    lab.report(&id, "0A00000B.toml", RUN, &[BEGIN, PLAN, HALF, LOG]);
    let later = "20261128-213000-aaaaa9";
    lab.report(&id, "0A00000B.toml", later, &[BEGIN]);

    let first = lab.get("/runs?last=1");
    assert_eq!(names(&first, "runs", "run"), [later]);
    let rest = lab.get(&format!(
        "/runs?last=1&after={}",
        first["next"].as_str().unwrap()
    ));
    assert_eq!(
        (names(&rest, "runs", "run"), rest.get("next")),
        (vec![RUN.to_owned()], None)
    );
    assert_eq!(
        names(&lab.get(&format!("/runs?job={id}")), "runs", "run").len(),
        2
    );

    let log = lab.ask("GET", &format!("/runs/{RUN}/log"), None);
    assert!(log.text().contains("warning: slow"), "{}", log.text());
    let part = lab.send(
        "GET",
        &format!("/runs/{RUN}/log"),
        "Range: bytes=5-\r\n",
        None,
    );
    assert_eq!((part.status, part.body.as_slice()), (206, &log.body[5..]));
    let behind = format!("Range: bytes={}-\r\n", log.body.len());
    assert_eq!(
        lab.send("GET", &format!("/runs/{RUN}/log"), &behind, None)
            .status,
        416
    );
    assert_eq!(lab.get(&format!("/runs/{RUN}"))["log"], log.text());

    // Followed, it goes on until the run is over.
    let mut stream = lab.server.connect();
    write!(
        stream,
        "GET /api/v1/runs/{RUN}/log HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n\r\n",
        lab.server.http
    )
    .unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("warning: slow")));
    lab.report(&id, "0A00000B.toml", RUN, &[BEGIN, PLAN, HALF, LOG, FAILED]);
    assert!(lines.any(|line| line.contains("result failed")));
    assert!(lines.any(|line| line == "event: end"));
}

#[test]
fn an_image_is_told_and_checked() {
    let lab = Lab::new();
    lab.make_image();
    let found = lab.get("/images");
    assert_eq!(names(&found, "images", "path"), ["10.0.0.11/sda.raw.gz"]);
    let image = lab.get("/images/10.0.0.11/sda.raw.gz");
    assert_eq!(
        (&image["raw-size"], &image["disk"]["size"]),
        (&1_048_576.into(), &1_048_576.into())
    );
    assert!(image.get("verified").is_none());
    let check = || lab.ask("POST", "/images/10.0.0.11/sda.raw.gz/verify", None);
    assert_eq!(check().status, 202);
    let verified = || lab.get("/images/10.0.0.11/sda.raw.gz")["verified"].clone();
    wait_until("the check", || verified()["state"] != "running");
    assert_eq!(verified()["state"], "ok", "{}", verified());
    // Another file of the same name was not checked; a broken one is told.
    let path = lab.path().join("share/10.0.0.11/sda.raw.gz");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(verified(), Value::Null);
    assert_eq!(check().status, 202);
    wait_until("the check", || verified()["state"] == "failed");
    lab.refused("POST", "/images/10.0.0.11/sdb.raw.gz/verify", None, 404);
    lab.refused("GET", "/images/10.0.0.11/machine.toml", None, 404);
}

#[test]
fn the_fleet_and_the_schedule_are_told_with_their_reasons() {
    let lab = Lab::new();
    let fleet = lab.get("/fleet");
    assert_eq!(fleet["groups"][0]["machines"], 3);
    let one = lab.get("/fleet/lab-2");
    assert_eq!(one[0]["settings"]["ip"]["value"], "10.0.0.12");
    assert_eq!(one[0]["settings"]["ip"]["layer"], "host.\"lab-[1-3]\"");
    assert_eq!(lab.get("/machines/PF123")["id"], "other");
    let every =
        value!({"machines": ["other"], "action": "rescue", "every": "0 22 * * *", "power": "none"});
    lab.post("/jobs", &every);
    let schedule = lab.get("/schedule");
    assert_eq!(schedule["schedule"][0]["every"], "0 22 * * *");
    assert!(schedule["schedule"][0]["at"].is_string());
    assert_eq!(
        lab.get("/machines?state=scheduled")["machines"][0]["id"],
        "other"
    );
    let power = lab.post("/power", &value!({"machines": ["other"], "act": "status"}));
    assert!(
        power["results"][0]["error"]
            .as_str()
            .unwrap()
            .contains("by hand")
    );
    let server = lab.get("/server");
    assert_eq!(
        (&server["users"], &server["you"]["role"]),
        (&false.into(), &"admin".into())
    );
    assert!(
        server["job-keys"]
            .as_array()
            .unwrap()
            .contains(&"grow".into())
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of requests")]
fn what_is_wrong_is_refused_with_a_sentence() {
    let lab = Lab::new();
    let jobs = |body: Value, status| lab.refused("POST", "/jobs", Some(&body), status);
    let machine = value!(["10.0.0.11"]);
    for (body, status, why) in [
        (
            value!({"machines": machine, "action": "backup", "imgae": "x"}),
            400,
            "unknown key \"imgae\"",
        ),
        (
            value!({"machines": machine, "action": "melt"}),
            400,
            "unknown action \"melt\"",
        ),
        (
            value!({"machines": machine, "action": "backup", "grow": true}),
            400,
            "grow",
        ),
        (
            value!({"machines": ["@lba"], "action": "backup"}),
            400,
            "did you mean lab?",
        ),
        (
            value!({"machines": machine, "action": "restore"}),
            409,
            "there is no image",
        ),
        (
            value!({"machines": machine, "action": "wipe", "method": "discard"}),
            400,
            "every fixed disk",
        ),
        (
            value!({"action": "backup"}),
            400,
            "missing field `machines`",
        ),
    ] {
        let told = jobs(body.clone(), status);
        assert!(told.contains(why), "{body}: {told}");
    }
    let answer = lab.send(
        "POST",
        "/jobs",
        "Content-Type: application/json\r\n",
        Some("{\n\"machines\": [}"),
    );
    assert_eq!(answer.status, 400);
    let told = json(&answer)["error"].as_str().unwrap().to_owned();
    assert!(told.contains("line 2 column"), "{told}");
    let form = lab.send(
        "POST",
        "/jobs",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        Some("machines=a"),
    );
    assert_eq!(form.status, 415);
    assert_eq!(lab.get("/jobs")["jobs"], value!([]), "nothing was set");

    for path in [
        "/nothing",
        "/machines/lab-9",
        "/jobs/20261128-213000-aaaaaa",
        "/runs/x",
        "/fleet/lab-9",
    ] {
        lab.refused("GET", path, None, 404);
    }
    assert!(
        lab.refused("GET", "/jobs?stat=x", None, 400)
            .contains("there is no stat")
    );
    for (path, allowed) in [
        ("/jobs", vec!["GET", "HEAD", "POST"]),
        ("/machines", vec!["GET", "HEAD"]),
        ("/power", vec!["POST"]),
    ] {
        let answer = lab.ask("PUT", path, Some(&value!({})));
        assert_eq!(answer.status, 405, "{path}");
        let mut told: Vec<&str> = answer
            .header("allow")
            .unwrap()
            .split(',')
            .map(str::trim)
            .collect();
        told.sort_unstable();
        assert_eq!(told, allowed, "{path}");
        assert!(json(&answer)["error"].is_string());
    }
    let head = lab.ask("HEAD", "/machines", None);
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(
        head.header("content-length")
            .unwrap()
            .parse::<usize>()
            .unwrap()
            > 10
    );
    let parts = lab.get("/machines?last=3");
    assert_eq!(
        (parts["machines"].as_array().unwrap().len(), &parts["next"]),
        (3, &"lab-3".into())
    );
    let rest = lab.get("/machines?last=3&after=lab-3");
    assert_eq!(names(&rest, "machines", "id"), ["other"]);
}

/// Tells that it ends, however it does.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Opens `/events` and reads until the line that `wanted` takes. Returns the last id that came before it.
fn heard(
    lab: &Lab,
    last: Option<&str>,
    act: impl FnOnce(),
    wanted: impl Fn(&str) -> bool,
) -> String {
    let mut stream = lab.server.connect();
    let header = last
        .map(|id| format!("Last-Event-ID: {id}\r\n"))
        .unwrap_or_default();
    write!(
        stream,
        "GET /events HTTP/1.1\r\nHost: {}\r\n{header}\r\n",
        lab.server.http
    )
    .unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.is_empty()), "the head of the answer");
    act();
    let mut id = String::new();
    let began = std::time::Instant::now();
    for line in lines {
        assert!(began.elapsed() < PATIENCE, "it was not heard");
        if let Some(told) = line.strip_prefix("id: ") {
            told.clone_into(&mut id);
        }
        if wanted(&line) {
            return id;
        }
    }
    panic!("the stream ended");
}

#[test]
fn changes_come_as_events_and_what_was_missed_is_made_up_for() {
    let lab = Lab::new();
    let wish = value!({"machines": ["10.0.0.11"], "action": "rescue"});
    let first = heard(
        &lab,
        None,
        || drop(lab.post("/jobs", &wish)),
        |line| line.starts_with("data: ") && line.contains("\"action\":\"rescue\""),
    );
    let put = || {
        assert_eq!(
            lab.server.put("/share/10.0.0.12/sda.raw.gz", b"x").status,
            201
        );
    };
    heard(&lab, None, put, |line| {
        line.contains("\"path\":\"10.0.0.12/sda.raw.gz\"")
    });
    // A page that comes back hears what it missed; one of another start asks anew.
    heard(
        &lab,
        Some(&first),
        || {},
        |line| line.contains("\"path\":\"10.0.0.12/sda.raw.gz\""),
    );
    heard(&lab, Some("0-1"), || {}, |line| line == "event: resync");
    // A job that the command sets on the files is heard of as well.
    let set = || {
        assert!(
            lab.here(&["host", "set", "lab-2", "rescue"])
                .status
                .success()
        );
    };
    heard(&lab, None, set, |line| {
        line.contains("\"name\":\"lab-2\"") && line.contains("waiting")
    });
    // How machines are is known once somebody has looked for a moment: it changes until that was so.
    let is_heard = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = End(&is_heard);
        scope.spawn(|| {
            while !is_heard.load(Ordering::SeqCst) {
                lab.here(&["host", "clear", "lab-2"]);
                lab.here(&["host", "set", "lab-2", "rescue"]);
            }
        });
        heard(&lab, None, || {}, |line| line == "event: machine");
    });
}
