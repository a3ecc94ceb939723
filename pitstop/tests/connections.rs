//! Clients that say nothing, or too slowly, keep nobody else waiting.

mod common;

use common::{Answer, PATIENCE, Server, wait_until};
use std::fs;
use std::io::{Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[test]
fn silent_connections_do_not_take_the_places_of_machines() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start_limited(root.path(), 256);
    fs::write(server.path("hosts/default.toml"), "x").unwrap();
    let mut upload = server.connect();
    write!(
        upload,
        "PUT /share/new/x HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\nConnection: close\r\n\r\nhalf"
    )
    .unwrap();
    wait_until("the upload to begin", || server.path("share/new").exists());
    let silent: Vec<TcpStream> = (0..300).map(|_| server.connect()).collect();
    for _ in 0..20 {
        assert_eq!(server.get("/hosts/default.toml").status, 200);
    }
    upload.write_all(b"half").unwrap();
    assert_eq!(Answer::read(upload).status, 201);
    drop(silent);
    let page = server.get("/journal").text();
    assert!(
        page.contains("too many connections: a silent one of 127.0.0.1 is closed"),
        "{page}"
    );
}

/// Bytes of the upload of who is slow: more than it sends one by one.
const SLOW: usize = 10_000;

#[test]
fn who_says_nothing_is_hung_up_on_and_who_is_slow_is_served() {
    let server = Server::start();
    let began = Instant::now();
    let mut silent = server.connect();
    let mut dripping = server.connect();
    let mut kept = server.connect();
    let mut slow = server.connect();
    write!(dripping, "GET / HTTP/1.1\r\nX: ").unwrap();
    write!(kept, "GET /none HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    write!(
        slow,
        "PUT /share/slow HTTP/1.1\r\nHost: x\r\nContent-Length: {SLOW}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut sent = 0;
    while dripping.write_all(b"x").is_ok() {
        assert!(began.elapsed() < PATIENCE, "nobody hung up");
        slow.write_all(b".").unwrap();
        sent += 1;
        std::thread::sleep(Duration::from_secs(1));
    }
    let after = began.elapsed().as_secs();
    assert!(after >= 30, "{after}");
    slow.write_all(&vec![b'.'; SLOW - sent]).unwrap();
    assert_eq!(Answer::read(slow).status, 201);
    let end = silent.read(&mut [0]);
    let is_reset = |error: &Error| error.kind() == ErrorKind::ConnectionReset;
    assert!(
        end.as_ref().map_or_else(is_reset, |count| *count == 0),
        "{end:?}"
    );
    // Between two requests a machine may think for longer.
    let mut head = [0; 12];
    kept.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 404");
    let _ = write!(
        kept,
        "GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    );
    let mut rest = String::new();
    let answered = kept.read_to_string(&mut rest);
    let too_long = began.elapsed() >= Duration::from_secs(120);
    assert!(
        answered.is_ok() && rest.contains("HTTP/1.1 404") || too_long,
        "{answered:?}: {rest}"
    );
    // Of lines that come at once the journal has one.
    wait_until("the line in the journal", || {
        let journal = server.get("/journal").text();
        ["asked nothing for 20 s", "sent no whole request in 30 s"]
            .iter()
            .any(|why| journal.contains(&format!("127.0.0.1 {why}: the connection is closed")))
    });
}
