//! Pages that stay open: what happens is seen, by everybody, and after a server that was away.

use crate::browser::{Browser, Looks};
use crate::common::pitstop;
use crate::lab::Lab;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pitstop_testing::ports::free_port;
use pitstop_testing::running::Running;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[test]
fn two_people_see_the_same_machine_at_work_without_asking_again() {
    let lab = Lab::new();
    let list = Browser::open(lab.server.http, Looks::default());
    let machine_page = Browser::open(lab.server.http, Looks::default());
    list.go("/");
    list.until("document.getElementById('live').dataset.state === 'on'");
    // What was there stays there: the page is not loaded anew.
    list.js("window.same = true; document.getElementById('filter').focus()");
    let mut machine = lab.set("lab-3", "backup");
    list.until("document.getElementById('m-lab-3').innerText.includes('when it boots')");
    machine.begin(&lab.server, "backup");
    machine_page.go("/machines/lab-3");
    machine_page.until("document.getElementById('live').dataset.state === 'on'");
    machine.progress(&lab.server, "backup", 25);
    machine.log(&lab.server, "a line that comes later");
    list.until("document.querySelector('#m-lab-3 progress')?.value === 25");
    list.until("document.querySelector('#machines tbody tr').id === 'm-lab-3'");
    machine_page.until("document.querySelector('#now progress')?.value === 25");
    machine_page
        .until("document.getElementById('log').textContent.includes('a line that comes later')");
    machine.progress(&lab.server, "backup", 80);
    list.until("document.querySelector('#m-lab-3 progress')?.value === 80");
    machine.end(&lab.server, "backup", Some("the disk is dead"));
    list.until(
        "document.querySelector('#m-lab-3.is-failed')?.innerText.includes('the disk is dead')",
    );
    list.until("document.getElementById('said').textContent.includes('lab-3 has failed')");
    list.until("document.getElementById('summary').textContent.includes('1 failed')");
    machine_page.until("document.getElementById('now').innerText.includes('the disk is dead')");
    assert_eq!(
        list.js("return window.same && document.activeElement.id"),
        "filter"
    );
}

#[test]
fn a_filter_stays_while_rows_change() {
    let lab = Lab::new();
    let browser = Browser::open(lab.server.http, Looks::default());
    browser.go("/");
    browser.until("document.getElementById('live').dataset.state === 'on'");
    browser.type_into("#filter", "lab-2");
    browser.until("document.querySelectorAll('#machines tbody tr:not([hidden])').length === 1");
    let mut machine = lab.set("lab-2", "backup");
    machine.begin(&lab.server, "backup");
    machine.progress(&lab.server, "backup", 10);
    lab.set("lab-4", "backup");
    browser.until("document.querySelector('#m-lab-2 progress')?.value === 10");
    browser.until("document.getElementById('m-lab-4').textContent.includes('backup')");
    assert_eq!(browser.count("#machines tbody tr:not([hidden])"), 1);
    assert_eq!(browser.path(), "/?q=lab-2");
}

/// A server on a port that it has again after it was away.
struct Again {
    port: u16,
    child: Running,
}

impl Again {
    fn start(lab: &Lab, port: u16) -> Self {
        let child = pitstop()
            .args(["serve", "--quiet", "--tftp", "off", "--root"])
            .arg(lab.root())
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Running::new(child);
        let said = BufReader::new(child.stdout.take().unwrap()).lines().next();
        assert!(said.unwrap().unwrap().contains("serving"));
        Self { port, child }
    }

    fn stop(&mut self) {
        self.child.end();
    }
}

#[test]
fn a_server_that_restarts_under_open_pages_is_found_again() {
    let mut lab = Lab::new();
    // A root has one server; this one comes on the same port again.
    kill(Pid::from_raw(lab.server.pid()), Signal::SIGTERM).unwrap();
    lab.server.wait();
    let port = free_port();
    let mut server = Again::start(&lab, port);
    let list = Browser::open(format!("127.0.0.1:{port}"), Looks::default());
    let queue = Browser::open(format!("127.0.0.1:{port}"), Looks::default());
    list.go("/");
    queue.go("/queue");
    for page in [&list, &queue] {
        page.until("document.getElementById('live').dataset.state === 'on'");
        page.js("window.same = true");
    }
    server.stop();
    for page in [&list, &queue] {
        page.until("document.getElementById('live').dataset.state === 'off'");
        page.until("document.getElementById('said').textContent.includes('does not answer')");
    }
    // Meanwhile something happens that no stream tells of.
    lab.set("lab-5", "backup");
    let _server = Again::start(&lab, server.port);
    list.until("document.getElementById('m-lab-5').innerText.includes('backup')");
    queue.until("document.getElementById('waiting').innerText.includes('lab-5')");
    for page in [&list, &queue] {
        page.until("document.getElementById('live').dataset.state === 'on'");
        assert_eq!(page.js("return window.same"), true);
    }
}
