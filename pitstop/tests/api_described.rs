//! The API against its description and its documentation: every route is described, every description is a route, answers
//! are as they are described, and the curl lines of docs/api.md work.

mod api_common;
mod common;

use api_common::{BEGIN, FAILED, HALF, LOG, Lab, PLAN, json};
use common::wait_until;
use serde_json::{Value, json as value};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const RUN: &str = "20261128-213000-aaaaa1";
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust file below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// Routes of a path of several parts, what their handlers take behind it, and whether they take the path alone as well: a router
/// has nothing behind such a path.
const BEHIND: [(&str, &str, bool); 2] = [
    ("POST /api/v1/images/{path}", "/verify", false),
    ("GET /api/v1/images/{path}", "/files/{volume}/{file}", true),
];

/// `GET /api/v1/machines` of each `.route("/api/v1/machines", get(…))` in the server's source: a router does not tell its routes.
fn routes() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&workspace().join("server/src"), &mut files);
    let mut routes = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for route in text.split(".route(").skip(1) {
            let route = route.trim_start();
            let Some((path, rest)) = route
                .strip_prefix('"')
                .and_then(|rest| rest.split_once('"'))
            else {
                continue;
            };
            if !path.starts_with("/api/v1/") && path != "/events" {
                continue;
            }
            // Up to the bracket that closes `.route(`.
            let mut depth = 1;
            let end = rest.find(|c| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                depth == 0
            });
            let handlers = &rest[..end.unwrap_or(rest.len())];
            let words =
                handlers.split(|c: char| !c.is_ascii_alphanumeric() && c != '(' && c != '_');
            let methods: Vec<&str> = words
                .filter_map(|word| {
                    METHODS
                        .into_iter()
                        .find(|method| word.starts_with(&format!("{method}(")))
                })
                .collect();
            assert!(
                !methods.is_empty(),
                "{}: no method of {path}: {handlers}",
                file.display()
            );
            for method in methods {
                let path = path.replace("{*", "{");
                let method = method.to_uppercase();
                let behind = BEHIND
                    .iter()
                    .filter(|(of, ..)| *of == format!("{method} {path}"));
                let behind: Vec<_> = behind.collect();
                for (_, end, _) in &behind {
                    routes.insert(format!("{method} {path}{end}"));
                }
                if behind.iter().all(|(.., also_alone)| *also_alone) {
                    routes.insert(format!("{method} {path}"));
                }
            }
        }
    }
    routes
}

fn described(api: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, operations) in api["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            found.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    found
}

#[test]
fn every_route_is_described_and_every_description_is_a_route() {
    let lab = Lab::new();
    let routes = routes();
    assert!(routes.len() > 20, "{routes:?}");
    assert_eq!(described(&lab.get("/openapi.json")), routes);
}

/// Answers of a real server, for the check.
struct Answers<'a> {
    lab: &'a Lab,
    found: Vec<Value>,
}

impl Answers<'_> {
    /// Asks for `path`, which the description has as `template`.
    fn ask(&mut self, method: &str, template: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self.lab.ask(method, path, body);
        let body = json(&answer);
        self.found.push(value!({
            "method": method, "path": format!("/api/v1{template}"), "status": answer.status, "body": body
        }));
        body
    }

    fn get(&mut self, path: &str) -> Value {
        self.ask("GET", path, path, None)
    }
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one request after the other, an answer of each kind"
)]
fn real_answers_are_as_they_are_described() {
    let lab = Lab::new();
    lab.make_image();
    let mut answers = Answers {
        lab: &lab,
        found: Vec::new(),
    };
    let wish = value!({"machines": ["@lab"], "action": "backup-again", "slots": 1});
    answers.ask(
        "POST",
        "/jobs",
        "/jobs",
        Some(&value!({"machines": ["lab-1"], "action": "restore", "dry-run": true})),
    );
    let set = answers.ask("POST", "/jobs", "/jobs", Some(&wish));
    let id = |at: usize| set["jobs"][at]["id"].as_str().unwrap().to_owned();
    answers.ask(
        "POST",
        "/jobs",
        "/jobs",
        Some(&value!({"machines": ["other"], "action": "rescue", "every": "0 22 * * *"})),
    );
    answers.ask(
        "POST",
        "/jobs",
        "/jobs",
        Some(&value!({"machines": ["x y"], "action": "rescue"})),
    );
    lab.check_in(&id(0), RUN, "\"state\":\"ready\"");
    lab.check_in(&id(1), "20261128-213000-aaaaa2", "\"state\":\"ready\"");
    lab.report(&id(0), "0A00000B.toml", RUN, &[BEGIN, PLAN, HALF, LOG]);
    for path in [
        "/machines",
        "/jobs",
        "/queue",
        "/schedule",
        "/history",
        "/host-files",
        "/runs",
        "/images",
        "/fleet",
        "/server",
    ] {
        answers.get(path);
    }
    answers.ask("GET", "/machines/{name}", "/machines/lab-1", None);
    answers.ask("GET", "/machines/{name}", "/machines/nobody", None);
    answers.ask("GET", "/jobs/{id}", "/jobs/lab-1", None);
    answers.ask("GET", "/runs/{run}", &format!("/runs/{RUN}"), None);
    answers.ask(
        "GET",
        "/images/{path}",
        "/images/10.0.0.11/sda.raw.gz",
        None,
    );
    answers.ask(
        "POST",
        "/images/{path}/verify",
        "/images/10.0.0.11/sda.raw.gz/verify",
        None,
    );
    answers.ask("GET", "/fleet/{selector}", "/fleet/lab-1", None);
    answers.ask(
        "POST",
        "/power",
        "/power",
        Some(&value!({"machines": ["other"], "act": "status"})),
    );
    answers.ask(
        "PATCH",
        "/jobs/{id}",
        &format!("/jobs/{}", id(2)),
        Some(&value!({"before": id(1)})),
    );
    answers.ask("DELETE", "/jobs/{id}", &format!("/jobs/{}", id(1)), None);
    lab.report(
        &id(0),
        "0A00000B.toml",
        RUN,
        &[BEGIN, PLAN, HALF, LOG, FAILED],
    );
    lab.check_in(
        &id(0),
        RUN,
        "\"state\":\"failed\",\"reason\":\"x\",\"again\":false",
    );
    answers.get("/machines");
    answers.get("/history");
    answers.ask(
        "POST",
        "/jobs/{id}/retry",
        &format!("/jobs/{}/retry", id(0)),
        None,
    );
    answers.ask(
        "POST",
        "/jobs/cancel",
        "/jobs/cancel",
        Some(&value!({"jobs": ["lab-1", "lab-3"]})),
    );
    answers.ask(
        "POST",
        "/jobs/retry",
        "/jobs/retry",
        Some(&value!({"jobs": ["lab-3"]})),
    );
    answers.ask("DELETE", "/host-files", "/host-files?machine=lab-3", None);

    let work = tempfile::tempdir().unwrap();
    let (description, found) = (
        work.path().join("api.json"),
        work.path().join("answers.json"),
    );
    fs::write(&description, lab.get("/openapi.json").to_string()).unwrap();
    fs::write(&found, Value::Array(answers.found).to_string()).unwrap();
    let python = workspace().join("target/tools/openapi/bin/python");
    let output = Command::new(&python)
        .arg(workspace().join("pitstop/tests/api_common/validate.py"))
        .args([&description, &found])
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}: run .ci/setup test", python.display()));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The curl lines of the page: those in blocks, and those in its first table.
fn lines(page: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut in_block = false;
    for line in page.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if in_block && line.starts_with("curl ") {
            lines.push(line.to_owned());
        } else if let Some((_, rest)) = line.split_once("| `curl ") {
            let (command, _) = rest.split_once('`').unwrap();
            lines.push(format!("curl {command}"));
        }
    }
    lines
}

/// A run of its own for each line.
fn run(number: usize) -> String {
    format!("20261128-213000-b{number:05x}")
}

const DOCS_LAB: &str = "version = 1\n[network.\"192.168.1.0/24\"]\n[group.lab3]\nmatch = \"lab3-*\"\n\
    [host.\"lab3-[01-03]\"]\nip = \"192.168.1.[101-103]\"\nmac = \"52:54:00:00:01:[01-03]\"\npower = [\"/bin/true\", \"{act}\"]\n";

#[test]
fn the_curl_lines_of_the_page_work() {
    let page = fs::read_to_string(workspace().join("docs/api.md")).unwrap();
    let lines = lines(&page);
    assert!(lines.len() > 30, "{lines:?}");
    let lab = Lab::of(DOCS_LAB, "192.168.1.101");
    lab.make_image();
    let set = |machine: &str| {
        let wish = value!({"machines": [machine], "action": "backup-again"});
        let set = lab.post("/jobs", &wish);
        set["jobs"][0]["id"].as_str().unwrap().to_owned()
    };
    // One that failed is there, and one with a run.
    let failed = set("lab3-03");
    lab.check_in(&failed, "20261128-213000-aaaaa3", "\"state\":\"ready\"");
    lab.check_in(
        &failed,
        "20261128-213000-aaaaa3",
        "\"state\":\"failed\",\"reason\":\"x\",\"again\":false",
    );
    // One that does not report has its log on the share.
    let share = lab.path().join("share/192.168.1.102");
    fs::create_dir_all(&share).unwrap();
    let log = "2099-01-01T00:00:00+00:00: 192.168.1.102: info: hi\n";
    fs::write(share.join("maintenance.log"), log).unwrap();
    let mut asked = 0;
    for line in lines {
        if line.contains("server.lab.example") {
            continue;
        }
        // What an earlier line took away is there again.
        let (job, other) = (set("lab3-01"), set("lab3-02"));
        lab.report(
            &job,
            "C0A80165.toml",
            &run(asked),
            &[BEGIN, PLAN, HALF, LOG, FAILED],
        );
        if line.contains("FAILED") {
            // An earlier line may have given its machine another job.
            lab.ask("DELETE", "/jobs/lab3-03", None);
        }
        if line.ends_with("/jobs/retry") {
            assert_eq!(
                lab.ask("DELETE", &format!("/jobs/{other}"), None).status,
                200
            );
        }
        let command = line
            .replace("http://127.0.0.1:8080", &lab.url())
            .replace("FAILED", &failed)
            .replace("OTHER", &other)
            .replace("JOB", &job)
            .replace("RUN", &run(asked));
        // `--json` is of curl 7.82; Debian 12 has it.
        let is_stream = command.contains("curl -N");
        let limit = if is_stream { "--max-time 3 " } else { "" };
        let command = command.replacen("curl ", &format!("curl -sS --fail-with-body {limit}"), 1);
        let output = Command::new("bash")
            .args(["-c", &command])
            .output()
            .unwrap();
        let code = output.status.code();
        // A stream that goes on is ended by the limit (28).
        let fine = code == Some(0) || (is_stream && code == Some(28));
        assert!(fine, "{command}: {output:?}");
        asked += 1;
    }
    wait_until("the check of the image", || {
        lab.get("/images/192.168.1.101/sda.raw.gz")["verified"]["state"] == "ok"
    });
}
