//! The table of docs/access.md, cell by cell, asked of the real server; and what machines may with the token of their run.

mod common;
mod people_common;

use common::{Server, pitstop};
use people_common::{add, bearer, send, token};
use std::path::Path;

const WHO: [&str; 5] = ["nobody", "viewer", "operator", "admin", "machine"];

/// A cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Yes,
    No,
    LogIn,
}

/// The rows of the table: act, and who may do it.
fn table() -> Vec<(String, [Told; 5])> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/access.md");
    let page = std::fs::read_to_string(page).unwrap();
    let lines = page
        .lines()
        .skip_while(|line| !line.starts_with("| act |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let told = |cell: &str| match cell {
                "yes" => Told::Yes,
                "no" => Told::No,
                "log in" => Told::LogIn,
                other => panic!("{line}: {other:?}"),
            };
            let [act, cells @ ..] = &cells[..] else {
                panic!("{line}");
            };
            let cells: Vec<Told> = cells.iter().map(|cell| told(cell)).collect();
            ((*act).to_owned(), cells.try_into().unwrap())
        })
        .collect()
}

/// A server that is strict, with a job that restores the image of another folder, and a user of each role.
struct Lab {
    folder: tempfile::TempDir,
    server: Server,
    /// The header that each of [`WHO`] shows.
    headers: [String; 5],
}

const OWN: &str = "10.0.2.15";
const HOST: &str = "0A00020F.toml";

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let server = Server::start_in(root, &["--machine-access", "token"]);
        let share = root.join("share");
        for name in [OWN, "10.0.2.16", "golden"] {
            std::fs::create_dir(share.join(name)).unwrap();
            std::fs::write(share.join(name).join("sda.raw.gz"), name).unwrap();
        }
        std::fs::write(share.join("maintenance.log"), "before\n").unwrap();
        let headers = WHO.map(|who| match who {
            "nobody" => String::new(),
            "machine" => bearer(&run_token(root)),
            role => {
                add(root, role, role);
                bearer(&token(root, &format!("--user {role}")))
            }
        });
        Self {
            folder,
            server,
            headers,
        }
    }

    fn header(&self, who: &str) -> &str {
        let at = WHO.iter().position(|other| *other == who).unwrap();
        &self.headers[at]
    }

    fn ask(&self, who: &str, method: &str, path: &str, more: &str, body: &str) -> u16 {
        let headers = format!("{}{more}", self.header(who));
        match (method, path) {
            // It does not end by itself.
            ("GET", "/events") => self.head(&headers),
            _ => send(&self.server, method, path, &headers, body).status,
        }
    }

    fn head(&self, headers: &str) -> u16 {
        use std::io::{BufRead, BufReader, Write};
        let mut stream = self.server.connect();
        let host = self.server.http;
        write!(
            stream,
            "GET /events HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n"
        )
        .unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn share(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("share").join(name)
    }

    /// Does what a row is about. Returns the status.
    fn act(&self, act: &str, who: &str) -> u16 {
        let json = "Content-Type: application/json\r\n";
        let get = |path: &str| self.ask(who, "GET", path, "", "");
        let put = |path: &str| self.ask(who, "PUT", path, "", "x");
        let other = format!("other-{who}");
        let ensure = |name: &str| add_once(self.folder.path(), name);
        match act {
            "log in" => get("/login"),
            "look at the page" => self.ask(who, "GET", "/", "Accept: application/json\r\n", ""),
            "read runs" => get("/api/v1/runs"),
            "list machines" => get("/api/v1/machines"),
            "list images" => get("/api/v1/images"),
            "search the inventory" => get("/api/v1/inventory"),
            "set jobs" => {
                let job = r#"{"machines":["10.0.2.20"],"action":"rescue"}"#;
                self.ask(who, "POST", "/api/v1/jobs", json, job)
            }
            "withdraw jobs" => {
                let job = "version = 1\naction = \"rescue\"\n";
                let file = self.folder.path().join("hosts/0A000214.toml");
                std::fs::write(file, job).unwrap();
                let path = "/api/v1/host-files?machine=10.0.2.20";
                self.ask(who, "DELETE", path, "", "")
            }
            "switch machines" => {
                let order = r#"{"machines":["10.0.2.20"],"act":"status"}"#;
                self.ask(who, "POST", "/api/v1/power", json, order)
            }
            "verify images" => {
                let path = "/api/v1/images/golden/sda.raw.gz/verify";
                self.ask(who, "POST", path, json, "")
            }
            "see events as they come" => get("/events"),
            "list users" => get("/api/v1/users"),
            "make users" => {
                let user = format!(r#"{{"name":"new-{who}","role":"viewer","password":"pw"}}"#);
                self.ask(who, "POST", "/api/v1/users", json, &user)
            }
            "change users" => {
                ensure(&other);
                let path = format!("/api/v1/users/{other}");
                self.ask(who, "PATCH", &path, json, r#"{"role":"operator"}"#)
            }
            "remove users" => {
                ensure(&other);
                self.ask(who, "DELETE", &format!("/api/v1/users/{other}"), "", "")
            }
            "list tokens" => get("/api/v1/tokens"),
            "make tokens" => self.ask(who, "POST", "/api/v1/tokens", json, r#"{"user":"viewer"}"#),
            "revoke tokens" => {
                let token = token(self.folder.path(), "--user viewer");
                let id = token.split('_').nth(1).unwrap();
                self.ask(who, "DELETE", &format!("/api/v1/tokens/{id}"), "", "")
            }
            "read the audit log" => get("/api/v1/audit"),
            "boot" => get("/ipxe?mac=52:54:00:00:00:01"),
            // All come from one address, which is this machine's: by it they are told apart elsewhere.
            "read its own host file" => get(&format!("/hosts/{HOST}")),
            "read an own file on the share" => get(&format!("/share/{OWN}/sda.raw.gz")),
            "write an own file on the share" => put(&format!("/share/{OWN}/{who}")),
            "read its job's image" => get("/share/golden/sda.raw.gz"),
            "write its job's image" => put(&format!("/share/golden/{who}")),
            "read another machine's file" => get("/share/10.0.2.16/sda.raw.gz"),
            "write another machine's file" => put(&format!("/share/10.0.2.16/{who}")),
            "move a file to another machine" => {
                std::fs::write(self.share(OWN).join("moved"), "x").unwrap();
                let to = format!("Destination: /share/10.0.2.16/moved-{who}\r\n");
                self.ask(who, "MOVE", &format!("/share/{OWN}/moved"), &to, "")
            }
            "delete another machine's file" => {
                std::fs::write(self.share("10.0.2.16/gone"), "x").unwrap();
                self.ask(who, "DELETE", "/share/10.0.2.16/gone", "", "")
            }
            "read the log of all machines" => get("/share/maintenance.log"),
            other => panic!("docs/access.md has the act {other:?}, and nothing here does it"),
        }
    }
}

fn add_once(root: &Path, name: &str) {
    let words = format!("user add {name} --role viewer --password-stdin");
    // It may be there from the row before.
    people_common::command(root, &words, "pw\n");
}

/// Sets the job of the machine, and reads its token as the machine does.
fn run_token(root: &Path) -> String {
    let output = pitstop()
        .args([
            "host", "set", OWN, "restore", "--image", "golden", "--force", "--root",
        ])
        .arg(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(root.join("hosts").join(HOST)).unwrap();
    let file: toml::Table = toml::from_str(&text).unwrap();
    let token = file["token"].as_str().unwrap();
    assert!(token.ends_with(file["report-token"].as_str().unwrap()));
    token.to_owned()
}

#[test]
fn every_cell_of_the_table_is_as_it_says() {
    let lab = Lab::new();
    let rows = table();
    assert!(rows.len() > 20, "{rows:?}");
    let mut wrong = Vec::new();
    for (act, cells) in &rows {
        for (who, told) in WHO.iter().zip(cells) {
            let status = lab.act(act, who);
            let found = match status {
                // It may, and it makes no sense here: nobody wrote down how the machine is switched.
                200..=399 | 400 | 409 => Told::Yes,
                401 => Told::LogIn,
                403 | 404 => Told::No,
                status => panic!("{act}, {who}: {status}"),
            };
            if found != *told {
                wrong.push(format!(
                    "{who}: {act}: {status}, and the page says {told:?}"
                ));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_machine_does_its_run_with_its_token_and_ends_in_nobody_elses_folder() {
    let lab = Lab::new();
    let machine = |method: &str, path: &str, more: &str, body: &str| {
        lab.ask("machine", method, path, more, body)
    };
    // The share is the share, and does not have everything.
    assert_eq!(machine("HEAD", "/share/pitstop-share", "", ""), 200);
    assert_eq!(machine("HEAD", "/share/never-there", "", ""), 404);
    assert_eq!(machine("OPTIONS", "/share/10.0.2.15/x.part", "", ""), 204);
    // An image as a machine writes one.
    assert_eq!(machine("MKCOL", "/share/10.0.2.15/inner", "", ""), 201);
    let segment = "Content-Range: bytes 0-2/*\r\n";
    let part = "/share/10.0.2.15/sda.raw.gz.new.part";
    assert_eq!(machine("PUT", part, segment, "abc"), 201);
    let to = |name: &str| format!("Destination: http://{}/share/{name}\r\n", lab.server.http);
    assert_eq!(machine("MOVE", part, &to("10.0.2.16/sda.raw.gz"), ""), 403);
    assert_eq!(machine("MOVE", part, &to("pitstop-share"), ""), 403);
    assert_eq!(machine("MOVE", part, &to("maintenance.log"), ""), 403);
    assert_eq!(machine("MOVE", part, &to("10.0.2.15/sda.raw.gz"), ""), 204);
    // Ways out.
    for path in [
        "/share/10.0.2.15/..%2f10.0.2.16/x",
        "/share/10.0.2.15/../10.0.2.16/x",
        "/share/%2e%2e/hosts/0A00020F.toml",
    ] {
        assert_eq!(machine("PUT", path, "", "x"), 400, "{path}");
    }
    assert_eq!(machine("PUT", "//share//10.0.2.16///x", "", "x"), 403);
    assert_eq!(machine("DELETE", "/share/10.0.2.15", "", ""), 409);
    assert_eq!(machine("GET", "/share/", "", ""), 403);
    assert_eq!(machine("DELETE", "/share/maintenance.log", "", ""), 403);
    for name in ["10.0.2.16", "golden"] {
        assert_eq!(common::everything_in(&lab.share(name)), ["sda.raw.gz"]);
    }
    // The log of all machines gets its lines, and another machine's name is no way to lie.
    let own = "2026-11-29T12:00:00+00:00: 10.0.2.15: info: hi\n";
    assert_eq!(
        machine("PUT", "/share/maintenance.log", "If-None-Match: *\r\n", own),
        204
    );
    let lie = own.replace("2.15", "2.16");
    assert_eq!(machine("PUT", "/share/maintenance.log", "", &lie), 204);
    let log = std::fs::read_to_string(lab.share("maintenance.log")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "before"), "{log}");
    assert_eq!(lines[1], own.trim_end());
    assert!(
        lines[2].contains(": 10.0.2.15: warning: it sent the line: "),
        "{log}"
    );
    // The API is not for machines, and a made-up token is none.
    assert_eq!(machine("GET", "/api/v1/runs", "", ""), 401);
    let forged = lab.header("machine").replace('.', ".0");
    let answer = lab
        .server
        .request("GET", "/share/10.0.2.15/sda.raw.gz", &forged, b"");
    assert_eq!(answer.status, 401);
}

#[test]
fn without_the_option_the_share_is_as_open_as_ever() {
    let server = Server::start();
    let root = server.path("");
    add(&root, "ann", "viewer");
    assert_eq!(server.put("/share/10.0.2.16/x", b"x").status, 201);
    assert_eq!(server.get("/share/10.0.2.16/x").status, 200);
    assert_eq!(server.get("/share/").status, 200);
    let output = pitstop()
        .args(["host", "set", OWN, "backup", "--root"])
        .arg(&root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = server.get(&format!("/hosts/{HOST}")).text();
    assert!(
        text.contains("report-token") && !text.contains("\ntoken"),
        "{text}"
    );
    // What a machine shows that was set up for another server is not looked at.
    let header = bearer("anything");
    assert_eq!(
        server
            .request("GET", "/share/10.0.2.16/x", &header, b"")
            .status,
        200
    );
}

/// Paths that machines ask, those before somebody is logged in, and whether the server lives.
const OPEN: [&str; 12] = [
    "/share",
    // Whoever may read the share; there is none but on a mirror.
    "/mirror",
    "/sign",
    "/unlock",
    "/images/blake3/",
    "/hosts",
    "/ipxe",
    "/check-in/",
    "/report/",
    "/static/",
    "/login",
    "/healthz",
];

/// The path of each `.route("/…", …)` in the server's source: a router does not tell its routes.
fn routes(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            routes(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for route in text.split(".route(").skip(1) {
            let quoted = route.trim_start().strip_prefix('"');
            if let Some((route, _)) = quoted.and_then(|rest| rest.split_once('"')) {
                found.push(route.to_owned());
            }
        }
    }
}

/// With a name for each part that a request fills in.
fn filled(route: &str) -> String {
    let parts = route.split('/').map(|part| match part.strip_prefix('{') {
        Some(part) if part.starts_with('*') => "a/b",
        Some(_) => "a",
        None => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

#[test]
fn no_route_forgets_to_ask_who_it_is() {
    let server = Server::start();
    add(&server.path(""), "ann", "admin");
    let mut found = Vec::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/src");
    routes(&source, &mut found);
    found
        .retain(|route| route.starts_with('/') && !OPEN.iter().any(|open| route.starts_with(open)));
    assert!(found.len() > 30, "{found:?}");
    let mut wrong = Vec::new();
    for route in found {
        for method in ["GET", "POST", "PATCH", "DELETE", "PUT"] {
            let answer = send(&server, method, &filled(&route), "", "");
            let to_log_in = answer.status == 303
                && answer
                    .header("location")
                    .is_some_and(|it| it.starts_with("/login"));
            if !matches!(answer.status, 401 | 405) && !to_log_in {
                wrong.push(format!("{method} {route}: {}", answer.status));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
