//! Users, log-ins and tokens: the real commands and the real server.

mod common;
#[path = "dhcp_common/mod.rs"]
mod lab;
mod people_common;

use common::Server;
use people_common::{add, bearer, done, form, log_in, send, token};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

const RUNS: &str = "/api/v1/runs";

#[test]
fn from_no_users_to_a_viewer_with_a_token() {
    let server = Server::start();
    let root = server.path("");
    assert_eq!(server.get(RUNS).status, 200);
    assert_eq!(server.get("/").status, 200);
    let said = done(&root, "user add ann --role viewer --password-stdin", "pw\n");
    assert!(
        said.contains("ask for a log-in") && said.contains("no admin"),
        "{said}"
    );
    let nobody = server.get(RUNS);
    assert_eq!(nobody.status, 401);
    assert_eq!(nobody.header("www-authenticate"), Some("Bearer"));
    assert!(
        nobody.text().starts_with("{\"error\":\"log in first"),
        "{}",
        nobody.text()
    );
    assert_eq!(server.get("/events").status, 401);
    let ann = bearer(&token(&root, "--user ann"));
    assert_eq!(server.request("GET", RUNS, &ann, b"").status, 200);
    assert_eq!(server.request("GET", "/", &ann, b"").status, 200);
    let users = server.request("GET", "/api/v1/users", &ann, b"");
    assert_eq!(users.status, 403);
    assert!(users.text().contains("ann is a viewer"), "{}", users.text());
    let made = r#"{"name":"eve","role":"admin","password":"pw"}"#;
    let json = format!("{ann}Content-Type: application/json\r\n");
    assert_eq!(
        send(&server, "POST", "/api/v1/users", &json, made).status,
        403
    );
    for wrong in ["Bearer pitstop_00000000_00", "Bearer x", "Basic YTpi"] {
        let header = format!("Authorization: {wrong}\r\n");
        assert_eq!(server.request("GET", RUNS, &header, b"").status, 401);
    }
    // Machines see nothing of it.
    assert_eq!(server.get("/hosts/").status, 200);
    assert_eq!(server.put("/share/10.0.2.15/x", b"x").status, 201);
    assert_eq!(server.get("/ipxe").status, 200);
}

#[test]
fn a_form_begins_a_session_and_a_button_ends_it() {
    let server = Server::start();
    let root = server.path("");
    add(&root, "ann", "admin");
    let page = server.request("GET", "/?a=1", "Accept: text/html\r\n", b"");
    assert_eq!(page.status, 303);
    assert_eq!(page.header("location"), Some("/login?next=%2F%3Fa%3D1"));
    let shown = server.get("/login?next=%2F%3Fa%3D1");
    assert_eq!(shown.status, 200);
    let markup = shown.text();
    for part in [
        "name=\"user\"",
        "type=\"password\"",
        "value=\"/?a=1\"",
        "method=\"post\"",
    ] {
        assert!(markup.contains(part), "{markup}");
    }
    let wrong = form(&server, "/login", "", "user=ann&password=wrong&next=/");
    assert_eq!(wrong.status, 401);
    assert!(wrong.header("set-cookie").is_none());
    assert!(wrong.text().contains("the name or the password is wrong"));
    let right = form(
        &server,
        "/login",
        "",
        "user=ann&password=long+enough&next=%2Fapi%2Fv1%2Fruns",
    );
    assert_eq!(right.status, 303);
    assert_eq!(right.header("location"), Some(RUNS));
    let cookie = right.header("set-cookie").unwrap();
    for part in ["pitstop_session=", "HttpOnly", "SameSite=Lax", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Secure"), "{cookie}");
    let elsewhere = "user=ann&password=long+enough&next=//evil.example/";
    assert_eq!(
        form(&server, "/login", "", elsewhere).header("location"),
        Some("/")
    );

    let ann = log_in(&server, "ann", "long enough");
    let inside = server.request("GET", RUNS, &ann, b"");
    assert_eq!(inside.status, 200);
    assert_eq!(inside.header("cache-control"), Some("no-store"));
    // Without the CSRF token nothing is changed, not even the session.
    let out = form(&server, "/logout", &ann, "");
    assert_eq!(out.status, 403, "{}", out.text());
    let csrf = csrf(&ann);
    let out = form(&server, "/logout", &ann, &format!("csrf={csrf}"));
    assert_eq!(out.status, 303);
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(server.request("GET", RUNS, &ann, b"").status, 401);
    let log = done(&root, "user audit", "");
    for act in ["log in", "log out", "add user"] {
        assert!(log.contains(act), "{log}");
    }
    assert!(
        log.contains("refused") && log.contains("127.0.0.1"),
        "{log}"
    );
}

/// What the pages of this session have in their forms.
fn csrf(cookie: &str) -> String {
    let secret = cookie.trim().rsplit('=').next().unwrap();
    let secret = pitstop_people::Secret::parse(secret).unwrap();
    secret.csrf().to_string()
}

#[test]
fn sessions_outlive_a_restart_and_end_with_the_password_and_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    add(root, "ann", "admin");
    add(root, "kim", "viewer");
    let server = Server::start_in(root, &[]);
    let (ann, kim) = (
        log_in(&server, "ann", "long enough"),
        log_in(&server, "kim", "long enough"),
    );
    drop(server);
    let server = Server::start_in(root, &[]);
    let status = |cookie: &str| server.request("GET", RUNS, cookie, b"").status;
    assert_eq!((status(&ann), status(&kim)), (200, 200));
    done(root, "user password ann --password-stdin", "another one\n");
    assert_eq!((status(&ann), status(&kim)), (401, 200));
    let kims = bearer(&token(root, "--user kim"));
    assert_eq!(status(&kims), 200);
    done(root, "user remove kim", "");
    assert_eq!((status(&kim), status(&kims)), (401, 401));
    log_in(&server, "ann", "another one");
}

#[test]
fn who_is_logged_out_hears_no_more_events() {
    let server = Server::start();
    let root = server.path("");
    add(&root, "ann", "admin");
    add(&root, "kim", "viewer");
    let kim = log_in(&server, "kim", "long enough");
    let mut stream = server.connect();
    let host = server.http;
    write!(
        stream,
        "GET /events HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{kim}\r\n"
    )
    .unwrap();
    let mut line = [0; 15];
    stream.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"HTTP/1.1 200 OK");
    done(&root, "user remove kim", "");
    // It ends, within the patience of the test.
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
}

#[test]
fn wrong_passwords_make_who_tries_wait() {
    let server = Server::start();
    let root = server.path("");
    add(&root, "ann", "admin");
    let wrong = |name: &str| {
        let fields = format!("user={name}&password=wrong");
        form(&server, "/login", "", &fields)
    };
    // Each wait is longer than the one before, so that one comes that this test sees, however busy the computer is.
    let has_to_wait = |name: &str| {
        common::wait_until("a long wait", || {
            let late = wrong(name);
            let wait = late.header("retry-after").map(str::parse::<u32>);
            assert_eq!(late.status, if wait.is_some() { 429 } else { 401 });
            wait.is_some_and(|wait| wait.unwrap() >= 4)
        });
    };
    for name in ["nobody", "ann"] {
        for _ in 0..5 {
            assert_eq!(wrong(name).status, 401);
        }
        has_to_wait(name);
    }
    // The right one, too: that is the point. Where it comes so late that the wait is over, all begins anew.
    common::wait_until("the right one to be refused", || {
        let right = form(&server, "/login", "", "user=ann&password=long+enough");
        if right.status == 303 {
            has_to_wait("ann");
        }
        right.status == 429
    });
    let token = bearer(&token(&root, "--user ann"));
    assert_eq!(server.request("GET", RUNS, &token, b"").status, 200);
}

#[test]
fn pages_of_other_sites_can_do_nothing() {
    let server = Server::start();
    let evil = "Origin: http://evil.example\r\n";
    let cross = "Sec-Fetch-Site: cross-site\r\n";
    // Without users: what a page elsewhere, or a name that is pointed here, makes a browser send.
    for path in [RUNS, "/events", "/"] {
        for headers in [evil, cross] {
            let answer = server.request("GET", path, headers, b"");
            assert_eq!(answer.status, 403, "{path} {headers}");
        }
        let mut stream = server.connect();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        assert_eq!(common::Answer::read(stream).status, 403);
    }
    let proxied = server.request("GET", RUNS, "X-Forwarded-For: 192.0.2.9\r\n", b"");
    assert_eq!(proxied.status, 403);
    let order = r#"{"name":"eve","role":"admin","password":"pw"}"#;
    let json = "Content-Type: application/json\r\n";
    let plain = "Content-Type: text/plain\r\n";
    for headers in [format!("{json}{evil}"), format!("{plain}{cross}")] {
        let answer = send(&server, "POST", "/api/v1/users", &headers, order);
        assert_eq!(answer.status, 403, "{headers}");
    }
    assert_eq!(
        send(&server, "POST", "/api/v1/users", json, order).status,
        201
    );
    // With a session: its cookie goes along, and nothing else.
    let eve = log_in(&server, "eve", "pw");
    let order = order.replace("eve", "kim");
    for headers in [
        format!("{json}{eve}"),
        format!("{json}{eve}X-CSRF-Token: 00\r\n"),
    ] {
        let answer = send(&server, "POST", "/api/v1/users", &headers, &order);
        assert_eq!(answer.status, 403, "{headers}");
    }
    let own = format!("{json}{eve}X-CSRF-Token: {}\r\n", csrf(&eve));
    let answer = send(
        &server,
        "POST",
        "/api/v1/users",
        &format!("{own}{evil}"),
        &order,
    );
    assert_eq!(answer.status, 403);
    assert_eq!(
        send(&server, "POST", "/api/v1/users", &own, &order).status,
        201
    );
    let log_in = form(&server, "/login", evil, "user=eve&password=pw");
    assert_eq!(log_in.status, 403);
}

fn get_at(address: SocketAddr, path: &str) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn from_elsewhere_there_is_nothing_to_see_until_there_is_a_user() {
    let lab = lab::Lab::new();
    let elsewhere = lab.join(Some(Ipv4Addr::new(10, 77, 0, 9)));
    let _server = lab.serve(&["--tftp", "off"]);
    let address = SocketAddr::from((lab::SERVER, 8080));
    let ask = |path: &str| elsewhere.at(|| get_at(address, path));
    for path in [RUNS, "/events", "/", "/login", "/api/v1/users"] {
        assert_eq!(ask(path), 403, "{path}");
    }
    assert_eq!(
        (ask("/hosts/"), ask("/share/"), ask("/ipxe")),
        (200, 200, 200)
    );
    let own = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    assert_eq!(lab.bridge.at(|| get_at(own, RUNS)), 200);
    add(&lab.root(), "ann", "viewer");
    for path in [RUNS, "/events", "/api/v1/users"] {
        assert_eq!(ask(path), 401, "{path}");
    }
    assert_eq!(ask("/login"), 200);
    assert_eq!(lab.bridge.at(|| get_at(own, RUNS)), 401);
}
