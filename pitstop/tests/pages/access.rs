//! Who sees which buttons, logging in and out.

use crate::browser::{Browser, Looks};
use crate::common::pitstop;
use crate::lab::Lab;
use std::io::Write as _;
use std::process::Stdio;

const PASSWORD: &str = "correct horse battery";

pub fn user(lab: &Lab, name: &str, role: &str) {
    let mut child = pitstop()
        .args([
            "user",
            "add",
            name,
            "--role",
            role,
            "--password-stdin",
            "--root",
        ])
        .arg(lab.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
}

pub fn log_in(browser: &Browser, name: &str) {
    browser.type_into("#user", name);
    browser.type_into("#password", PASSWORD);
    browser.click("main button");
}

#[test]
fn a_viewer_looks_and_an_operator_acts() {
    let lab = Lab::new();
    lab.image("10.0.0.14");
    lab.set("lab-2", "backup");
    user(&lab, "vera", "viewer");
    user(&lab, "otto", "operator");
    let browser = Browser::open(lab.server.http, Looks::default());
    browser.go("/machines/lab-1");
    assert!(
        browser.path().starts_with("/login?next="),
        "{}",
        browser.path()
    );
    browser.type_into("#user", "vera");
    browser.type_into("#password", "wrong");
    browser.click("main button");
    browser.until("document.querySelector('.note.bad')");
    browser.type_into("#password", PASSWORD);
    browser.click("main button");
    browser.until("location.pathname === '/machines/lab-1'");
    assert!(browser.text(".who").contains("vera"));
    for path in [
        "/",
        "/machines/lab-1",
        "/machines/lab-2",
        "/queue",
        "/images",
        "/images/10.0.0.14/sda.raw.gz",
    ] {
        browser.go(path);
        assert_eq!(browser.count("main form[method=post]"), 0, "{path}");
        // The stream is hers as well.
        browser.until("document.getElementById('live').dataset.state === 'on'");
    }
    // What no button offers is refused all the same.
    let answer = browser.js_async(
        "const body = new URLSearchParams({action: 'backup', csrf: document.querySelector('input[name=csrf]').value});
         return (await fetch('/machines/lab-1/job', {method: 'POST', body})).status;",
        Vec::new(),
    );
    assert_eq!(answer, 403);
    browser.click(".who button");
    browser.arrives_below("/login");
    browser.go("/");
    assert!(browser.path().starts_with("/login"), "{}", browser.path());

    log_in(&browser, "otto");
    browser.until("location.pathname === '/'");
    browser.go("/machines/lab-1");
    // Without what only this session knows nothing is taken.
    let answer = browser.js_async(
        "return (await fetch('/machines/lab-1/job', {method: 'POST', body: new URLSearchParams({action: 'backup'})})).status;",
        Vec::new(),
    );
    assert_eq!(answer, 403);
    browser.click("form:has(input[value=refresh-info]) button");
    browser.until("location.search === '?done=set'");
    assert!(lab.does(&["job", "show", "lab-1"]).contains("otto"));
}

#[test]
fn the_content_policy_lets_nothing_inline_run() {
    let lab = Lab::new();
    let browser = Browser::open(lab.server.http, Looks::default());
    browser.go("/");
    let ran = browser.js_async(
        "const script = document.createElement('script'); script.textContent = 'window.ran = true'; document.head.append(script);
         const image = document.createElement('img'); image.src = 'data:,'; image.setAttribute('onerror', 'window.ran = true');
         document.body.append(image);
         await new Promise((then) => setTimeout(then, 300));
         return window.ran ?? 'nothing ran';",
        Vec::new(),
    );
    assert_eq!(ran, "nothing ran");
    let headers = lab.server.get("/").head.to_ascii_lowercase();
    for header in [
        "content-security-policy: default-src 'self'",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
    ] {
        assert!(headers.contains(header), "{headers}");
    }
    assert!(
        headers.contains("referrer-policy: same-origin"),
        "{headers}"
    );
}
