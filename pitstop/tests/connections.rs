//! Clients that say nothing, or too slowly, keep nobody else waiting.

mod common;

use common::{Answer, PATIENCE, Server, wait_until};
use std::fs;
use std::io::{Read, Write};
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
        "PUT /share/x HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\nConnection: close\r\n\r\nhalf"
    )
    .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let silent: Vec<TcpStream> = (0..300).map(|_| server.connect()).collect();
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(server.get("/hosts/default.toml").status, 200);
    }
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
    upload.write_all(b"half").unwrap();
    assert_eq!(Answer::read(upload).status, 201);
    drop(silent);
    let page = server.get("/journal").text();
    assert!(
        page.contains("too many connections: a silent one of 127.0.0.1 is closed"),
        "{page}"
    );
}

#[test]
fn who_says_nothing_is_hung_up_on_and_who_is_slow_is_served() {
    let server = Server::start();
    let began = Instant::now();
    let mut silent = server.connect();
    silent.set_read_timeout(Some(PATIENCE * 2)).unwrap();
    let mut dripping = server.connect();
    let mut kept = server.connect();
    let mut slow = server.connect();
    write!(dripping, "GET / HTTP/1.1\r\nX: ").unwrap();
    write!(kept, "GET /none HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    write!(
        slow,
        "PUT /share/slow HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut hung_up = None;
    for _ in 0..40 {
        std::thread::sleep(Duration::from_secs(1));
        slow.write_all(b".").unwrap();
        if hung_up.is_none() && dripping.write_all(b"x").is_err() {
            hung_up = Some(began.elapsed().as_secs());
        }
    }
    assert_eq!(Answer::read(slow).status, 201);
    assert!(
        hung_up.is_some_and(|after| (28..38).contains(&after)),
        "{hung_up:?}"
    );
    assert!(matches!(silent.read(&mut [0]), Ok(0) | Err(_)));
    // Between two requests a machine may think for longer.
    let mut head = [0; 12];
    kept.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 404");
    write!(
        kept,
        "GET /none HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut rest = String::new();
    kept.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("HTTP/1.1 404"), "{rest}");
    wait_until("the line in the journal", || {
        server
            .get("/journal")
            .text()
            .contains("127.0.0.1 asked nothing for 20 s: the connection is closed")
    });
}
