//! Users of a root, made by the command, and what they send.
#![allow(dead_code, reason = "each test program uses a part of what they share")]

use crate::common::{Answer, Server, pitstop};
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

/// Runs `pitstop WORDS --root ROOT` with `input` on its standard input.
pub fn command(root: &Path, words: &str, input: &str) -> Output {
    let mut child = pitstop()
        .args(words.split(' '))
        .arg("--root")
        .arg(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read may be over already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// The same, which must go well; what it said.
pub fn done(root: &Path, words: &str, input: &str) -> String {
    let output = command(root, words, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The same, which must fail; what it said.
pub fn refused(root: &Path, words: &str, input: &str) -> String {
    let output = command(root, words, input);
    assert_eq!(output.status.code(), Some(1), "{words} went well");
    String::from_utf8(output.stderr).unwrap()
}

pub fn add(root: &Path, name: &str, role: &str) {
    let words = format!("user add {name} --role {role} --password-stdin");
    done(root, &words, "long enough\n");
}

pub fn token(root: &Path, words: &str) -> String {
    let text = done(root, &format!("token new {words}"), "");
    text.trim_end().to_owned()
}

pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A request with a body, whatever its method is.
pub fn send(server: &Server, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let length = format!("{headers}Content-Length: {}\r\n", body.len());
    let length = if method == "PUT" { headers } else { &length };
    server.request(method, path, length, body.as_bytes())
}

/// A form as a browser sends it.
pub fn form(server: &Server, path: &str, headers: &str, fields: &str) -> Answer {
    let headers = format!(
        "{headers}Content-Type: application/x-www-form-urlencoded\r\nAccept: text/html\r\n"
    );
    send(server, "POST", path, &headers, fields)
}

/// Logs in; the cookie to send back.
pub fn log_in(server: &Server, name: &str, password: &str) -> String {
    let fields = format!("user={name}&password={}", password.replace(' ', "+"));
    let answer = form(server, "/login", "", &fields);
    assert_eq!(answer.status, 303, "{}", answer.text());
    let cookie = answer.header("set-cookie").unwrap();
    format!("Cookie: {}\r\n", cookie.split(';').next().unwrap())
}
