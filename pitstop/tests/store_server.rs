//! `pitstop serve --share s3://…`: machines that speak plain HTTP, a server that keeps nothing, and moto behind it.

mod common;
#[path = "../../transport/src/share/s3/faults.rs"]
mod faults;
mod store_common;

use common::{Server, pitstop};
use faults::{Fault, Faults, proxy};
use pitstop_testing::moto::Moto;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use store_common::{HOST_FILE, Machine, before, noise, objects};

const MIB: usize = 1 << 20;

fn set(server: &Server, words: &[&str]) {
    let output = pitstop()
        .args(["host", "set", "10.0.2.15"])
        .args(words)
        .args(["--retry-for", "60s", "--root"])
        .arg(server.path(""))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// `pitstop image` at the server's root, with no keys but those that are named.
fn image(server: &Server, words: &[&str]) -> Output {
    let mut command = pitstop();
    command.arg("image").args(words);
    command.arg("--root").arg(server.path(""));
    command.env_remove("AWS_ACCESS_KEY_ID");
    command.env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent");
    command.output().unwrap()
}

#[test]
fn machines_that_speak_plain_http_work_unchanged() {
    let moto = Moto::start();
    let folder = tempfile::tempdir().unwrap();
    let server = before(moto.port, folder.path());
    assert_eq!(objects(&moto), ["room/pitstop-share"]);
    let machine = Machine::new();
    let first = noise(1, 20 * MIB);
    let disk = machine.disk(&first);
    set(&server, &["backup"]);
    machine.succeeds_at(&server, "backup");
    let second = noise(2, 20 * MIB);
    fs::write(&disk, &second).unwrap();
    set(&server, &["backup-again"]);
    machine.succeeds_at(&server, "backup-again");
    fs::write(&disk, vec![0xee; 20 * MIB]).unwrap();
    set(&server, &["restore"]);
    machine.succeeds_at(&server, "restore");
    assert!(fs::read(&disk).unwrap() == second);
    set(&server, &["refresh-info"]);
    machine.succeeds_at(&server, "refresh-info");
    let half = |name: &&String| [".new", ".part"].iter().any(|half| name.ends_with(half));
    assert_eq!(objects(&moto).iter().find(half), None);
    let log = server.get("/share/10.0.2.15/maintenance.log").text();
    assert_eq!(log.matches("result ok").count(), 4, "{log}");
    let keys = folder.path().join("store.keys");
    let keys = ["list", "--json", "--store-keys", keys.to_str().unwrap()];
    let listed = image(&server, &keys);
    assert!(listed.status.success(), "{listed:?}");
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let told: Value = serde_json::from_str(&server.get("/api/v1/images").text()).unwrap();
    assert_eq!(listed, told["images"]);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    for words in [&["list"][..], &["prune", "--keep-last", "1"]] {
        let done = image(&server, words);
        assert_eq!(done.status.code(), Some(1), "{done:?}");
        let error = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(error.contains("is the store s3://lab/room"), "{error}");
        assert!(error.contains("needs keys: --store-keys FILE"), "{error}");
    }
    // Nothing is kept beside the store.
    let kept = common::everything_in(&server.path("share"));
    assert_eq!(kept, ["pitstop-share"]);
    // The images are told as those of a folder are, and can be looked into.
    let images = server.get("/api/v1/images").text();
    assert!(images.contains("10.0.2.15/sda.raw.gz\""), "{images}");
    assert!(images.contains("QEMU HARDDISK"), "{images}");
    let one = server.get("/api/v1/images/10.0.2.15/sda.raw.gz");
    assert_eq!(one.status, 200, "{}", one.text());
}

#[test]
fn the_share_is_as_a_folders() {
    let moto = Moto::start();
    let folder = tempfile::tempdir().unwrap();
    let server = before(moto.port, folder.path());
    let data = noise(3, 9 * MIB);
    let put = server.put("/share/a/b%20c.bin", &data);
    assert_eq!(put.status, 201, "{}", put.text());
    let tag = put.header("etag").unwrap().to_owned();
    let part = server.request(
        "GET",
        "/share/a/b%20c.bin",
        "Range: bytes=8999000-8999999\r\n",
        b"",
    );
    assert_eq!(part.status, 206);
    assert!(part.body == data[8_999_000..9_000_000]);
    assert_eq!(server.get("/share/a/b%20c.bin").body.len(), data.len());
    let head = server.request("HEAD", "/share/a/b%20c.bin", "", b"");
    assert_eq!(head.header("content-length"), Some("9437184"));
    assert_eq!(head.header("etag"), Some(tag.as_str()));
    let same = server.request(
        "GET",
        "/share/a/b%20c.bin",
        &format!("If-None-Match: {tag}\r\n"),
        b"",
    );
    assert_eq!(same.status, 304);
    let again = server.request("PUT", "/share/a/b%20c.bin", "If-None-Match: *\r\n", b"x");
    assert_eq!(again.status, 412);
    assert_eq!(server.put("/share/a/b%20c.bin", b"small").status, 204);
    let old = server.request(
        "PUT",
        "/share/a/b%20c.bin",
        &format!("If-Match: {tag}\r\n"),
        b"y",
    );
    assert_eq!(old.status, 412, "somebody else changed it");
    assert_eq!(server.get("/share/a").status, 301);
    let listed = server
        .request("GET", "/share/", "Accept: application/json\r\n", b"")
        .text();
    assert!(listed.contains("\"a\",\"type\":\"folder\""), "{listed}");
    assert!(server.get("/share/a/").text().contains("b c.bin"));
    let to = "Destination: /share/a/d\r\n";
    assert_eq!(
        server.request("MOVE", "/share/a/b%20c.bin", to, b"").status,
        201
    );
    assert_eq!(
        server.request("MOVE", "/share/a/b%20c.bin", to, b"").status,
        404
    );
    assert_eq!(server.get("/share/a/d").body, b"small");
    assert_eq!(server.request("DELETE", "/share/a", "", b"").status, 409);
    assert_eq!(
        server
            .request("DELETE", "/share/pitstop-share", "", b"")
            .status,
        403
    );
    assert_eq!(server.request("DELETE", "/share/a/d", "", b"").status, 204);
    assert_eq!(server.request("DELETE", "/share/a/d", "", b"").status, 404);
    assert_eq!(server.get("/share/../x").status, 400);
    // A body that breaks off leaves nothing.
    let mut stream = server.connect();
    let begun = "PUT /share/half HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n";
    stream.write_all(begun.as_bytes()).unwrap();
    stream.write_all(&data).unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(server.get("/share/half").status, 404);
}

#[test]
fn whatever_breaks_behind_the_server_a_machine_sees_a_whole_image_or_a_reason() {
    let moto = Moto::start();
    let faults = Faults::default();
    let folder = tempfile::tempdir().unwrap();
    let server = before(proxy(moto.port, &faults), folder.path());
    let machine = Machine::new();
    let mut content = Vec::new();
    let disk = machine.disk(&noise(5, 20 * MIB));
    for (fault, seed) in [
        (Fault::SlowDown, 6),
        (Fault::Cut, 7),
        (Fault::AnswerLost, 8),
        (Fault::WrongTag, 9),
    ] {
        // All of it is sent.
        content = noise(seed, 20 * MIB);
        fs::write(&disk, &content).unwrap();
        for step in ["partNumber=1&", "partNumber=2&", "partNumber=3&"] {
            faults.lock().unwrap().push_back((step, fault));
        }
        set(&server, &["backup-again"]);
        machine.succeeds_at(&server, "backup-again");
        assert_eq!(faults.lock().unwrap().len(), 0, "{fault:?} did not come");
    }
    fs::write(&disk, vec![0xee; 20 * MIB]).unwrap();
    set(&server, &["restore"]);
    machine.succeeds_at(&server, "restore");
    assert!(fs::read(&disk).unwrap() == content);
    faults.lock().unwrap().push_back(("HEAD", Fault::Skewed));
    let told = server.get("/share/pitstop-share");
    assert_eq!(told.status, 500);
    assert!(told.text().contains("set the clock"), "{}", told.text());
}

/// Passes connections on to the first of `servers` that takes them. `passes` is told how much it has passed to them, before more is.
fn forward(servers: Vec<SocketAddr>, passes: impl Fn(u64) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let meter = Arc::new((AtomicU64::new(0), passes));
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let Some(server) = servers.iter().find_map(|at| TcpStream::connect(at).ok()) else {
                continue;
            };
            let meter = Arc::clone(&meter);
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                let (sent, passes) = &*meter;
                copy(from, to, |read| {
                    passes(sent.fetch_add(read, Ordering::SeqCst));
                });
            });
            thread::spawn(move || copy(server, client, drop));
        }
    });
    port
}

fn copy(mut from: TcpStream, mut to: TcpStream, comes: impl Fn(u64)) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = from.read(&mut buffer) {
        comes(read as u64);
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

#[test]
fn of_two_servers_before_one_store_either_may_die_in_the_middle() {
    let moto = Moto::start();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = before(moto.port, folders[0].path());
    let second = before(moto.port, folders[1].path());
    let servers = vec![first.http, second.http];
    let first = Mutex::new(Some(first));
    let port = forward(servers, move |sent| {
        if sent >= 20 << 20 {
            drop(first.lock().unwrap().take());
        }
    });
    let machine = Machine::new();
    let content = noise(6, 40 * MIB);
    let disk = machine.disk(&content);
    let job = |action: &str, more: &str| {
        let text = format!(
            "version = 1\naction = \"{action}\"\nshare = \"http://127.0.0.1:{port}/share\"\nretry-for = \"10m\"\n{more}"
        );
        fs::write(second.path(HOST_FILE), text).unwrap();
    };
    job("backup", "");
    let ended = machine.succeeds_at(&second, "backup");
    assert!(
        ended.console.contains("the upload begins again"),
        "{}",
        ended.console
    );
    fs::write(&disk, vec![0xee; 40 * MIB]).unwrap();
    job("restore", "");
    machine.succeeds_at(&second, "restore");
    assert!(fs::read(&disk).unwrap() == content);
}

#[test]
fn a_share_that_is_no_store_and_one_without_keys_are_refused_at_the_start() {
    let root = tempfile::tempdir().unwrap();
    for (share, why) in [
        ("http://other/share", "a share elsewhere is a store"),
        ("s3://lab/room?endpoint=http://127.0.0.1:1", "needs keys"),
    ] {
        let output = pitstop()
            .env("HOME", root.path())
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--tftp",
                "off",
                "--share",
                share,
                "--root",
            ])
            .arg(root.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains(why), "{told}");
    }
}
