//! Restores whose chunks come from mirrors: right ones, and every kind of wrong.

mod common;
mod mirrors_common;
mod store_common;

use common::{Server, pitstop, run};
use mirrors_common::{Image, MIB, PATH, fake, url};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use store_common::{Machine, as_loopback};

/// The lines that tell of mirrors.
fn about_mirrors(said: &str) -> String {
    let lines = said.lines().filter(|line| line.contains("mirror"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_mirror_that_is_wrong_in_any_way_is_named_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::new(folder.path(), 1, 8);
    let other = Image::new(folder.path(), 2, 8);
    let server = Server::start();
    image.onto(&server);
    let another = fake(&format!("/{PATH}"), &other.file);
    let lies = fake(&image.by_digest(), &image.flipped());
    let right = fake(&image.by_digest(), &image.file);
    let mirrors = [
        "http://127.0.0.1:1".into(),
        url(&another),
        url(&lies),
        url(&right),
    ];
    let mut arguments = Vec::new();
    for mirror in &mirrors {
        arguments.extend(["--mirror", mirror.as_str()]);
    }
    let from = format!("http://{}/share/{PATH}", server.http);
    let said = image.restore(&from, folder.path(), &arguments);
    for mirror in &mirrors[..3] {
        let told = said
            .lines()
            .any(|line| line.contains(mirror) && line.ends_with("it is left out"));
        assert!(told, "{mirror}: {said}");
    }
    assert!(said.contains("are not what the index says"), "{said}");
    let last = said.lines().last().unwrap();
    assert!(
        last.contains(&format!("from mirror {}", mirrors[3])) && last.contains("from the share"),
        "{said}"
    );
    // A part of it alone, by comparison with what is there.
    let disk = folder.path().join("target");
    let mut changed = image.raw.clone();
    changed[5 << 20] ^= 1;
    fs::write(&disk, changed).unwrap();
    let done = pitstop()
        .args(["restore", "--delta", &from, disk.to_str().unwrap()])
        .args(["--mirror", &mirrors[3]])
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    assert!(image.is_on(&disk));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("from mirror"), "{said}");
}

/// The address of somebody who passes on what `near` sends, and kills it once that is so many bytes.
fn killed_after(near: Server, bytes: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, at) = (listener.local_addr().unwrap(), near.http);
    let left = Arc::new(Mutex::new((bytes, Some(near))));
    thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(at)) else {
                return;
            };
            let left = Arc::clone(&left);
            let (from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut &from, &mut to));
            thread::spawn(move || pass_down(server, client, &left));
        }
    });
    address
}

fn pass_down(mut server: TcpStream, mut client: TcpStream, left: &Mutex<(usize, Option<Server>)>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read) = server.read(&mut buffer) {
        let rest = {
            let mut left = left.lock().unwrap();
            left.0 = left.0.saturating_sub(read);
            if left.0 == 0 {
                drop(left.1.take());
            }
            left.0
        };
        if rest == 0 || read == 0 || client.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

#[test]
fn a_mirror_that_is_killed_half_way_leaves_the_rest_to_the_share() {
    let folder = tempfile::tempdir().unwrap();
    // More than the buffers of a connection hold when it ends.
    let image = Image::new(folder.path(), 3, 32);
    let (server, near) = (Server::start(), Server::start());
    image.onto(&server);
    image.onto(&near);
    let mirror = format!("http://{}", killed_after(near, 8 * MIB));
    let from = format!("http://{}/share/{PATH}", server.http);
    let said = image.restore(&from, folder.path(), &["--mirror", &mirror]);
    let told = about_mirrors(&said);
    assert!(told.contains("it is left out"), "{said}");
    assert!(
        told.contains("comes from the share: no mirror is left"),
        "{said}"
    );
    assert!(
        said.lines().last().unwrap().contains("from the share"),
        "{said}"
    );
}

#[test]
fn who_names_mirrors_is_in_no_chain_with_who_names_none() {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::new(folder.path(), 4, 12);
    let (server, near) = (Server::start(), Server::start());
    image.onto(&server);
    image.onto(&near);
    // A machine of another site is at work, and its mirrors are none.
    let other = format!(
        r#"{{"version":1,"image":"/share/{PATH}","digest":"{}","node":"{:032x}","port":1,"stage":"working",
        "chunks":12,"done":1,"received":0,"sent":0,"source":"server"}}"#,
        image.digest, 7
    );
    let length = format!("Content-Length: {}\r\n", other.len());
    let answer = server.request("POST", "/relay", &length, other.as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
    let mirror = format!("http://{}", near.http);
    let from = format!("http://{}/share/{PATH}", server.http);
    let arguments = ["--mirror", &mirror, "--distribute", "swarm"];
    let said = image.restore(&from, folder.path(), &arguments);
    assert!(said.contains("chunks come from a mirror"), "{said}");
    assert!(!said.contains("chunks come from the machine"), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.contains(&format!("from mirror {mirror}")), "{said}");
}

#[test]
fn a_machine_tells_in_its_plan_and_its_log_where_the_image_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let image = Image::new(folder.path(), 4, 4);
    let server = Server::start();
    as_loopback(&server);
    image.onto(&server);
    let lies = fake(&image.by_digest(), &image.flipped());
    let right = fake(&image.by_digest(), &image.file);
    let (lies, right) = (url(&lies), url(&right));
    let set = pitstop()
        .args(["host", "set", "10.0.2.15", "restore", "--image", "golden"])
        .args(["--mirror", &lies, "--mirror", &right, "--root"])
        .arg(server.path(""))
        .output()
        .unwrap();
    assert!(set.status.success(), "{set:?}");
    let machine = Machine::new();
    let disk = machine.disk(&vec![0xee; image.raw.len()]);
    let ended = machine.succeeds_at(&server, "restore");
    assert!(image.is_on(&disk));
    let log = server.get("/share/10.0.2.15/maintenance.log").text();
    for told in [&ended.console, &log] {
        assert!(
            told.contains(&format!(
                "its chunks come from mirror {lies}, its index from the share"
            )),
            "{told}"
        );
        assert!(
            told.contains(&format!("mirror {lies}: its bytes ")),
            "{told}"
        );
        assert!(told.contains(&format!("from mirror {right}, ")), "{told}");
    }
}

#[test]
fn what_is_no_mirror_is_refused_early() {
    let refused = |arguments: &[&str], why: &str| {
        let all = [
            &["restore", "http://127.0.0.1:1/x.raw.gz", "/nonexistent"],
            arguments,
        ]
        .concat();
        let done = run(&all);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains(why), "{said}");
    };
    refused(
        &["--mirror", "http://me:s3cret@mirror/"],
        "gets no credentials",
    );
    refused(&["--mirror", "ftp://mirror/"], "over http or https");
    refused(&["--mirror", "http://mirror"].repeat(17), "16 at most");
    let path = run(&[
        "restore",
        "Cargo.toml",
        "/nonexistent",
        "--mirror",
        "http://mirror",
    ]);
    let said = String::from_utf8_lossy(&path.stderr).into_owned();
    assert!(said.contains("Cargo.toml is a path"), "{said}");
}
