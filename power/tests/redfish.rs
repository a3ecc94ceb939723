//! Redfish against `OpenStack`'s emulator; where that cannot misbehave, against a small server that does.

mod common;

use common::{PASSWORD, SYSTEM, Sushy, credentials, limits, login, power, target};
use pitstop_power::{Act, Credentials, PowerError, State};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn a_machine_that_takes_its_time_is_switched_and_asked_about() {
    let sushy = Sushy::start(false);
    let root = tempfile::tempdir().unwrap();
    let logins = credentials(root.path(), &login());
    let does = |act| {
        sushy
            .power()
            .act_within(act, &target(), &logins, &limits(180, 180))
            .unwrap()
    };
    assert_eq!(does(Act::Status), State::Off);
    assert_eq!(does(Act::On), State::On);
    assert_eq!(does(Act::Pxe), State::On);
    assert_eq!(does(Act::Cycle), State::On);
    assert_eq!(does(Act::Off), State::Off);
    // The only machine of a service needs no name.
    let short = power(&format!("redfish+http://127.0.0.1:{}", sushy.port));
    assert_eq!(
        short.act(Act::Status, &target(), &logins).unwrap(),
        State::Off
    );
    let wrong = power(&format!(
        "redfish+http://127.0.0.1:{}/redfish/v1/Systems/7",
        sushy.port
    ));
    let error = wrong.act(Act::Status, &target(), &logins).unwrap_err();
    assert!(
        error.to_string().contains("127.0.0.1 refused: 404"),
        "{error}"
    );
}

#[test]
fn a_password_that_is_wrong_or_missing_is_told() {
    let sushy = Sushy::start(false);
    let root = tempfile::tempdir().unwrap();
    let fails = |logins: &Credentials| {
        sushy
            .power()
            .act(Act::Status, &target(), logins)
            .unwrap_err()
    };
    let error = fails(&credentials(
        root.path(),
        &login().replace(PASSWORD, "hush-wrong"),
    ));
    assert!(matches!(error, PowerError::Login { .. }), "{error:?}");
    let error = fails(&credentials(root.path(), ""));
    assert!(
        error
            .to_string()
            .contains("nothing says user and password for 127.0.0.1"),
        "{error}"
    );
}

#[test]
fn a_certificate_is_trusted_by_its_fingerprint_or_not_at_all() {
    let sushy = Sushy::start(true);
    let root = tempfile::tempdir().unwrap();
    let status = |more: &str| {
        let logins = credentials(root.path(), &(login() + more));
        sushy
            .power()
            .act_within(Act::Status, &target(), &logins, &limits(180, 1))
    };
    let error = status("").unwrap_err().to_string();
    let print = error
        .split('"')
        .nth(1)
        .unwrap_or_else(|| panic!("{error}"))
        .to_owned();
    assert!(
        print.starts_with("sha256:")
            && error.contains("insecure = true takes any")
            && !error.contains(PASSWORD),
        "{error}"
    );
    let openssl = std::process::Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(sushy.folder.path().join("cert.pem"))
        .output()
        .expect("this test needs openssl");
    let theirs = String::from_utf8(openssl.stdout).unwrap();
    let theirs = theirs.trim().rsplit('=').next().unwrap();
    assert_eq!(
        print,
        format!("sha256:{}", theirs.replace(':', "").to_lowercase())
    );
    for good in [&print, theirs] {
        assert_eq!(
            status(&format!("fingerprint = \"{good}\"\n")).unwrap(),
            State::Off
        );
    }
    assert_eq!(status("insecure = true\n").unwrap(), State::Off);
    let other = format!(
        "fingerprint = \"sha256:{}\"\ninsecure = true\n",
        "ab".repeat(32)
    );
    let error = status(&other).unwrap_err();
    assert!(
        matches!(error, PowerError::OtherCertificate { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains(&print), "{error}");
}

/// A service that answers as it is told.
struct Odd {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

/// Method, path, and the whole request.
type Answers = dyn Fn(&str, &str, &str) -> (String, String) + Send;

impl Odd {
    fn start(answers: Box<Answers>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let Some(request) = read(&stream) else {
                    continue;
                };
                let mut words = request.split(' ');
                let (method, path) = (words.next().unwrap(), words.next().unwrap());
                let (head, body) = answers(method, path, &request);
                log.lock().unwrap().push(request.clone());
                let _ = write!(
                    stream,
                    "HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Self { port, asked }
    }

    fn act(&self, act: Act, logins: &Credentials) -> Result<State, PowerError> {
        self.act_within(act, logins, 180)
    }

    fn act_within(&self, act: Act, logins: &Credentials, call: u64) -> Result<State, PowerError> {
        let power = power(&format!("redfish+http://127.0.0.1:{}{SYSTEM}", self.port));
        power.act_within(act, &target(), logins, &limits(call, 1))
    }

    fn asked(&self, what: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .filter(|request| request.contains(what))
            .count()
    }
}

fn read(stream: &TcpStream) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        line.to_lowercase()
            .strip_prefix("content-length: ")?
            .parse()
            .ok()
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(head + &String::from_utf8(body).ok()?)
}

fn system(state: &str, types: &str, boot: &str) -> String {
    format!(
        r##"{{"PowerState": "{state}", "Boot": {boot}, "Actions": {{"#ComputerSystem.Reset": {{"target": "{SYSTEM}/Actions/Reset", "ResetType@Redfish.AllowableValues": [{types}]}}}}}}"##
    )
}

const ALL: &str = r#""On", "ForceOff""#;

fn ok(body: String) -> (String, String) {
    ("200 OK".into(), body)
}

#[test]
fn a_service_that_takes_orders_and_does_nothing_is_found_out() {
    let odd = Odd::start(Box::new(|_, _, _| {
        ok(system("Off", ALL, r#"{"BootSourceOverrideTarget": "Hdd"}"#))
    }));
    let logins = Credentials::default();
    let error = odd.act(Act::On, &logins).unwrap_err();
    assert!(matches!(error, PowerError::Stays { .. }), "{error:?}");
    assert_eq!(odd.asked(r#"{"ResetType":"On"}"#), 1);
    let error = odd.act(Act::Pxe, &logins).unwrap_err();
    assert!(
        error.to_string().ends_with("still says Hdd, nothing"),
        "{error}"
    );
    assert_eq!(odd.asked("PATCH"), 1);
}

#[test]
fn orders_are_those_that_the_service_has() {
    let only_restart = Odd::start(Box::new(|_, _, _| {
        ok(system("On", r#""ForceRestart""#, "{}"))
    }));
    let logins = Credentials::default();
    assert_eq!(only_restart.act(Act::Cycle, &logins).unwrap(), State::On);
    assert_eq!(only_restart.asked(r#"{"ResetType":"ForceRestart"}"#), 1);
    let error = only_restart.act(Act::Off, &logins).unwrap_err();
    assert_eq!(
        error.to_string(),
        "127.0.0.1 offers no way to do off: it has ForceRestart"
    );
    // Its words are its own; a refusal of an order that says why is passed on in short.
    let refuses = Odd::start(Box::new(|method, _, _| {
        match method {
        "POST" => (
            "409 Conflict".into(),
            r#"{"error": {"message": "general", "@Message.ExtendedInfo": [{"Message": "The chassis is open."}]}}"#.into(),
        ),
        _ => ok(system("Off", ALL, "{}")),
    }
    }));
    let error = refuses.act(Act::On, &logins).unwrap_err();
    assert_eq!(
        error.to_string(),
        "127.0.0.1 refused: 409 Conflict: The chassis is open."
    );
}

#[test]
fn a_session_is_opened_used_and_closed() {
    let odd = Odd::start(Box::new(|method, path, request| match (method, path) {
        ("POST", "/redfish/v1/SessionService/Sessions") => (
            "201 Created\r\nX-Auth-Token: t0ken\r\nLocation: /redfish/v1/SessionService/Sessions/9"
                .into(),
            "{}".into(),
        ),
        _ if !request.to_lowercase().contains("x-auth-token: t0ken") => {
            ("401 Unauthorized".into(), String::new())
        }
        ("DELETE", _) => ("204 No Content".into(), String::new()),
        _ => ok(system("On", ALL, "{}")),
    }));
    let root = tempfile::tempdir().unwrap();
    let logins = credentials(root.path(), &(login() + "auth = \"session\"\n"));
    assert_eq!(odd.act(Act::Status, &logins).unwrap(), State::On);
    assert_eq!(odd.asked("DELETE /redfish/v1/SessionService/Sessions/9"), 1);
    assert_eq!(odd.asked("authorization: Basic"), 0);
}

#[test]
fn a_service_that_wants_a_slash_at_the_end_gets_it() {
    let slash = format!("{SYSTEM}/");
    let odd = Odd::start(Box::new(move |method, path, _| match (method, path) {
        ("GET", SYSTEM) => (
            format!("308 Permanent Redirect\r\nLocation: {slash}"),
            String::new(),
        ),
        (_, SYSTEM) => ("405 Method Not Allowed".into(), String::new()),
        _ => ok(system("On", ALL, "{}")),
    }));
    let logins = Credentials::default();
    assert_eq!(odd.act(Act::Pxe, &logins).unwrap(), State::On);
    assert_eq!(odd.asked(&format!("PATCH {SYSTEM}/ ")), 1);
    let endless = Odd::start(Box::new(|_, path, _| {
        (format!("307 x\r\nLocation: {path}"), String::new())
    }));
    let error = endless.act(Act::Status, &logins).unwrap_err();
    assert!(error.to_string().contains("refused: 307"), "{error}");
    assert_eq!(endless.asked("GET"), 4);
}

#[test]
fn a_password_goes_to_nobody_else() {
    let other = Odd::start(Box::new(|_, _, _| ok("{}".into())));
    let place = format!("http://127.0.0.1:{}/x", other.port);
    let moved = place.clone();
    let odd = Odd::start(Box::new(move |_, _, _| {
        (format!("302 Found\r\nLocation: {moved}"), String::new())
    }));
    let root = tempfile::tempdir().unwrap();
    let logins = credentials(root.path(), &login());
    let error = odd.act(Act::Status, &logins).unwrap_err();
    assert!(error.to_string().contains("refused: 302"), "{error}");
    let odd = Odd::start(Box::new(move |_, _, _| {
        ok(system("Off", ALL, "{}").replace(&format!("{SYSTEM}/Actions/Reset"), &place))
    }));
    let error = odd.act(Act::On, &logins).unwrap_err();
    assert!(
        error.to_string().contains("a place that is not its own"),
        "{error}"
    );
    assert_eq!(other.asked(""), 0);
}

#[test]
fn what_is_slow_or_no_redfish_is_given_up() {
    let logins = Credentials::default();
    // Takes the connection, and says nothing; or one byte a moment.
    for trickles in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // An answer before the question is another error.
            let _ = read(&stream);
            let head: &[u8] = if trickles {
                b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
            } else {
                b""
            };
            let _ = stream.write_all(head);
            for _ in 0..1200 {
                std::thread::sleep(Duration::from_millis(100));
                if trickles && stream.write_all(b" ").is_err() {
                    return;
                }
            }
        });
        let odd = Odd {
            port,
            asked: Arc::default(),
        };
        let error = odd.act_within(Act::Status, &logins, 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            "127.0.0.1 did not answer within 2s",
            "{trickles}"
        );
    }
    for (body, why) in [
        ("<html>".to_owned(), "its answer is not JSON"),
        ("{}".into(), "there is no PowerState"),
        (" ".repeat(2 << 20), "its answer has no end"),
    ] {
        let odd = Odd::start(Box::new(move |_, _, _| ok(body.clone())));
        let error = odd.act(Act::Status, &logins).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    // What speaks no TLS, and who is not there.
    let odd = Odd::start(Box::new(|_, _, _| ok("{}".into())));
    let tls = power(&format!("redfish://127.0.0.1:{}{SYSTEM}", odd.port));
    let error = tls
        .act_within(Act::Status, &target(), &logins, &limits(180, 1))
        .unwrap_err();
    assert!(error.to_string().starts_with("127.0.0.1 "), "{error}");
    let gone = power(&format!("redfish+http://127.0.0.1:1{SYSTEM}"));
    let error = gone.act(Act::Status, &target(), &logins).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("cannot be asked: Connection refused"),
        "{error}"
    );
}
