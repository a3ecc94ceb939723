//! The share against a server that misbehaves.

use super::*;
use crate::fetch::Settings;
use crate::fetch::fake::{FakeServer, Fault, impatient, patient, wary};
use std::io::Write as _;
use std::time::Duration;

pub(super) fn share(server: &FakeServer) -> HttpShare {
    share_by(server, &patient())
}

/// The same, by a client with its own patience.
pub(super) fn share_by(server: &FakeServer, client: &HttpClient) -> HttpShare {
    HttpShare::new(&server.url("/share/"), client)
}

/// Bytes that differ from place to place.
pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"noise");
    let mut bytes = vec![0; length];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

pub(super) fn read_all(share: &HttpShare, path: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    share.open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes as the engine does, in pieces, until something breaks.
pub(super) fn upload(share: &HttpShare, path: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let mut pending = share.create(path)?;
    for piece in bytes.chunks(100_000) {
        pending.write_all(piece)?;
    }
    pending.finish()
}

pub(super) fn error<T>(outcome: anyhow::Result<T>) -> String {
    match outcome {
        Ok(_) => panic!("it worked"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let server = FakeServer::start();
    let share = share(&server);
    let bytes = noise(3_000_000);
    let mut pending = share.create("10.0.2.15/sda.raw.gz").unwrap();
    pending.write_all(&bytes).unwrap();
    assert_eq!(share.stat("10.0.2.15/sda.raw.gz").unwrap(), None);
    pending.finish().unwrap();
    assert_eq!(server.names(), ["/share/10.0.2.15/sda.raw.gz"]);
    assert_eq!(read_all(&share, "10.0.2.15/sda.raw.gz").unwrap(), bytes);
    let size = share
        .stat("10.0.2.15/sda.raw.gz")
        .unwrap()
        .map(|stat| stat.size);
    assert_eq!(size, Some(3_000_000));
}

#[test]
fn a_file_that_is_to_be_new_replaces_none_that_came_meanwhile() {
    let server = FakeServer::start();
    let folder = tempfile::tempdir().unwrap();
    let shares: [Box<dyn Share>; 2] = [
        Box::new(share(&server)),
        Box::new(crate::share::DirectoryShare::open(folder.path()).unwrap()),
    ];
    for share in shares {
        for length in [1000, 9_000_000] {
            let name = format!("trees/web/{length}.tar.gz");
            let write = |bytes: &[u8]| {
                let mut pending = share.create(&name).unwrap();
                pending.write_all(bytes).unwrap();
                pending
            };
            let late = write(&noise(length));
            // Another one, whose temporary name is its own.
            let mut faster = share.create("other").unwrap();
            faster.write_all(b"faster").unwrap();
            faster.finish().unwrap();
            share.rename("other", &name).unwrap();
            let told = error(late.finish_new());
            assert!(told.contains("is there by now"), "{told}");
            let stat = share.stat(&name).unwrap();
            assert_eq!(stat.map(|stat| stat.size), Some(6));
            share.remove(&name).unwrap();
            write(&noise(length)).finish_new().unwrap();
            assert!(share.stat(&name).unwrap().is_some());
        }
    }
}

#[test]
fn an_upload_that_is_dropped_leaves_nothing() {
    let server = FakeServer::start();
    let share = share(&server);
    server.put("/share/x", b"old");
    let mut pending = share.create("x").unwrap();
    pending.write_all(&noise(2_000_000)).unwrap();
    drop(pending);
    assert_eq!(server.names(), ["/share/x"]);
    assert_eq!(server.get("/share/x").unwrap(), b"old");
}

#[test]
fn a_full_share_is_said_to_be_full_and_the_old_image_stays() {
    let server = FakeServer::start();
    let share = share(&server);
    server.put("/share/x", b"old");
    for fault in [Fault::Early(1_000_000, 507), Fault::Status(507)] {
        server.fail("PUT", fault);
        let error = error(upload(&share, "x", &noise(9_000_000)));
        assert!(
            error.contains("the share is full (HTTP 507)"),
            "{fault:?}: {error}"
        );
        assert_eq!(server.names(), ["/share/x"]);
    }
    assert_eq!(server.get("/share/x").unwrap(), b"old");
}

#[test]
fn whoever_writes_on_after_a_refusal_is_told_the_same_again() {
    let server = FakeServer::start();
    let share = share(&server);
    server.fail("PUT", Fault::Early(1_000_000, 507));
    let mut pending = share.create("x").unwrap();
    let first = pending.write_all(&noise(9_000_000)).unwrap_err();
    let second = pending.write_all(&noise(9_000_000)).unwrap_err();
    assert!(first.to_string().contains("(HTTP 507)"), "{first}");
    assert_eq!(first.to_string(), second.to_string());
    let last = pending.finish().unwrap_err();
    assert!(last.to_string().contains("(HTTP 507)"), "{last:#}");
}

#[test]
fn a_server_that_hangs_up_or_falls_silent_ends_the_upload() {
    let server = FakeServer::start();
    let share = share(&server);
    server.fail("PUT", Fault::HangUp(1_000_000));
    let broken = error(upload(&share, "x", &noise(20_000_000)));
    assert!(
        broken.contains("closed the connection after about"),
        "{broken}"
    );
    server.fail("PUT", Fault::Deaf(500_000));
    let share = share_by(&server, &impatient());
    let silent = error(upload(&share, "x", &noise(50_000_000)));
    assert!(
        silent.contains("silent") || silent.contains("closed the connection"),
        "{silent}"
    );
    assert_eq!(server.names(), [""; 0]);
}

#[test]
fn a_lost_answer_to_a_move_is_made_out_from_the_files() {
    let server = FakeServer::start();
    let share = share(&server);
    server.put("/share/x", b"new");
    server.put("/share/y", b"old");
    // Lost by the connection, before or after it was done, or by a proxy.
    for fault in [Fault::Mute, Fault::HangUp(0), Fault::Moved(502)] {
        server.put("/share/x", b"new");
        server.fail("MOVE", fault);
        share.rename("x", "y").unwrap();
        assert_eq!(server.names(), ["/share/y"]);
        assert_eq!(server.get("/share/y").unwrap(), b"new");
    }
    // The server was at it still when it was asked once more.
    server.put("/share/x", b"newer");
    server.fail("MOVE", Fault::HangUp(0));
    server.fail("MOVE", Fault::Moved(404));
    share.rename("x", "y").unwrap();
    assert_eq!(server.get("/share/y").unwrap(), b"newer");
    server.put("/share/x", b"new");
    // Whatever the destination looks like.
    server.fail("MOVE", Fault::Status(403));
    server.fail("MOVE", Fault::Status(403));
    let error = error(share.rename("x", "y"));
    assert!(error.contains("403"), "{error}");
}

#[test]
fn a_move_may_take_longer_than_other_answers() {
    let server = FakeServer::start();
    let share = share_by(&server, &wary());
    server.put("/share/x", b"new");
    let late = Duration::from_secs(2);
    assert!(late > wary().settings().stall);
    server.fail("MOVE", Fault::Late(late));
    share.rename("x", "y").unwrap();
    let log = server.log();
    let moves = log.iter().filter(|line| line.starts_with("MOVE "));
    assert_eq!(moves.count(), 1, "{log:?}");
}

#[test]
fn a_server_behind_a_proxy_that_ends_tls_moves_by_the_path_alone() {
    let server = FakeServer::start();
    let share = share(&server);
    for status in [502, 400] {
        server.put("/share/a%20b", b"new");
        server.fail("MOVE", Fault::Status(status));
        share.rename("a b", "c d").unwrap();
        assert_eq!(server.names(), ["/share/c%20d"]);
        let last = server.seen("destination").pop();
        assert_eq!(last.as_deref(), Some("/share/c%20d"));
    }
    server.put("/share/x", b"new");
    for _ in 0..2 {
        server.fail("MOVE", Fault::Status(400));
    }
    let said = error(share.rename("x", "y"));
    for part in [
        "(HTTP 400)",
        "for the Destination http://127.0.0.1",
        "for /share/y alone 400",
        "the header Host",
    ] {
        assert!(said.contains(part), "{said}");
    }
    // 502 is what a proxy says of a server that is away, too: that passes.
    for _ in 0..4 {
        server.fail("MOVE", Fault::Status(502));
    }
    share.rename("x", "y").unwrap();
}

#[test]
fn every_folder_on_the_way_is_made_where_the_server_makes_none() {
    let server = FakeServer::start();
    let share = share(&server);
    server.with_folders();
    server.put("/share/", b"");
    upload(&share, "lab/row 1/pc/x", b"bytes").unwrap();
    assert_eq!(server.get("/share/lab/row%201/pc/x").unwrap(), b"bytes");
    let before = server.log().len();
    upload(&share, "lab/row 1/pc/y", b"bytes").unwrap();
    let log = server.log().split_off(before);
    assert!(!log.iter().any(|line| line.starts_with("MKCOL")), "{log:?}");
}

#[test]
fn a_server_that_was_given_up_is_asked_once_until_it_answers() {
    let server = FakeServer::start();
    let settings = Settings {
        retry_for: Duration::from_secs(15),
        ..patient().settings().clone()
    };
    let share = share_by(&server, &HttpClient::new(settings).unwrap());
    server.put("/share/x", b"1");
    let stat = || {
        let before = server.log().len();
        let found = share.stat("x").map(|_| ());
        (found, server.log().len() - before)
    };
    server.down(true);
    let (given_up, tries) = stat();
    let given_up = error(given_up);
    assert!(
        given_up.contains(&format!("given up after {tries} tries in ")),
        "{given_up}"
    );
    assert_eq!(stat().1, 1, "no patience with what is gone");
    server.down(false);
    assert!(stat().0.is_ok());
    for _ in 0..4 {
        server.fail("HEAD", Fault::HangUp(0));
    }
    let (found, tries) = stat();
    found.unwrap();
    assert_eq!(tries, 5, "it is back");
}

#[test]
fn a_move_that_is_answered_but_not_done_is_an_error() {
    let server = FakeServer::start();
    let share = share(&server);
    server.fail("MOVE", Fault::Lie);
    let said = error(upload(&share, "x", b"bytes"));
    assert!(said.contains("it did not: does it know MOVE?"), "{said}");
    server.put("/share/a", b"1");
    server.put("/share/b", b"2");
    server.fail("MOVE", Fault::Lie);
    let said = error(share.rename("a", "b"));
    assert!(said.contains("it did not: does it know MOVE?"), "{said}");
}

#[test]
fn a_server_that_hangs_up_on_mkcol_still_takes_files() {
    let server = FakeServer::start();
    let share = share(&server);
    for _ in 0..5 {
        server.fail("MKCOL", Fault::HangUp(0));
    }
    upload(&share, "a/x", b"bytes").unwrap();
    assert_eq!(server.get("/share/a/x").unwrap(), b"bytes");
}

#[test]
fn a_server_that_loses_bytes_or_cannot_move_keeps_the_old_file() {
    let server = FakeServer::start();
    let share = share(&server);
    server.put("/share/x", b"old");
    server.lack("MOVE");
    let error_text = error(upload(&share, "x", b"new"));
    assert!(
        error_text.contains("MOVE") && error_text.contains("(HTTP 405)"),
        "{error_text}"
    );
    assert_eq!(server.names(), ["/share/x"]);
    // The HEAD that proves the size speaks of another file than was sent.
    let pending = share.create("y").unwrap();
    server.fail("HEAD", Fault::Status(404));
    let error_text = error(pending.finish());
    assert!(
        error_text.contains("took it, but does not have it"),
        "{error_text}"
    );
}

#[test]
fn a_broken_download_goes_on_where_it_stopped() {
    let server = FakeServer::start();
    let share = share_by(&server, &wary());
    let bytes = noise(1_000_000);
    server.put("/share/x", &bytes);
    server.fail("GET", Fault::Cut(300_000));
    server.fail("GET", Fault::Stall(200_000));
    server.fail("GET", Fault::Status(503));
    assert_eq!(read_all(&share, "x").unwrap(), bytes);
    let ranges = server.seen("range");
    let goes_on = |range: &String| range.starts_with("bytes=300000-");
    assert!(ranges.iter().any(goes_on), "{ranges:?}");
}

#[test]
fn a_download_that_keeps_breaking_ends_with_the_place() {
    let server = FakeServer::start();
    let share = share_by(&server, &impatient());
    server.put("/share/x", &noise(1000));
    for _ in 0..200 {
        server.fail("GET", Fault::Cut(0));
    }
    let error = error(read_all(&share, "x"));
    assert!(
        error.contains("at byte 0 of 1000 (given up after "),
        "{error}"
    );
}

#[test]
fn a_file_that_changes_under_the_reader_is_an_error() {
    let server = FakeServer::start();
    let share = share(&server);
    for tags in [true, false] {
        if !tags {
            server.without_tags();
        }
        server.put("/share/x", &noise(1000));
        let image = share.image("x").unwrap();
        server.put("/share/x", &noise(1001));
        let error = image
            .read_exact_at(&mut [0; 10], 0)
            .unwrap_err()
            .to_string();
        assert!(error.contains("changed while it was read"), "{error}");
    }
}

#[test]
fn parts_are_read_and_a_server_without_range_is_told_from_one_with() {
    let server = FakeServer::start();
    let share = share(&server);
    let bytes = noise(10_000);
    server.put("/share/x", &bytes);
    let image = share.image("x").unwrap();
    let mut part = [0; 100];
    image.read_exact_at(&mut part, 5000).unwrap();
    assert_eq!(part, bytes[5000..5100]);
    let beyond = image.read_exact_at(&mut part, 9950).unwrap_err();
    assert_eq!(beyond.kind(), std::io::ErrorKind::UnexpectedEof);
    server.fail("GET", Fault::NoRange);
    let error = image.read_exact_at(&mut part, 1).unwrap_err().to_string();
    assert!(error.contains("no Range support"), "{error}");
    server.fail("GET", Fault::NoRange);
    let mut whole = Vec::new();
    image
        .stream_from(0)
        .unwrap()
        .read_to_end(&mut whole)
        .unwrap();
    assert_eq!(whole, bytes);
}

#[test]
fn a_server_that_redirects_in_circles_is_not_asked_again_and_again() {
    let server = FakeServer::start();
    let share = share(&server);
    let own = server.url("/").port().unwrap();
    for _ in 0..40 {
        server.fail("HEAD", Fault::Redirect(own));
    }
    let error = error(share.stat("x"));
    assert!(error.contains("redirects in circles"), "{error}");
    let asked = server.log().len();
    assert!(asked < 10, "{asked} requests");
}

#[test]
fn where_head_is_not_allowed_get_tells_the_size() {
    let server = FakeServer::start();
    let share = share(&server);
    server.put("/share/x", b"bytes");
    server.fail("HEAD", Fault::Status(403));
    assert_eq!(share.stat("x").unwrap().map(|stat| stat.size), Some(5));
    for method in ["HEAD", "GET"] {
        server.fail(method, Fault::Status(403));
    }
    let error = error(share.stat("x"));
    assert!(error.contains("does not allow it"), "{error}");
}

#[test]
fn of_a_server_that_sends_less_than_it_was_asked_for_the_rest_is_asked_for() {
    let server = FakeServer::start();
    let share = share(&server);
    let bytes = noise(10_000);
    server.put("/share/x", &bytes);
    let image = share.image("x").unwrap();
    for most in [4000, 1] {
        server.fail("GET", Fault::Less(most));
    }
    let mut all = Vec::new();
    image
        .stream_from(1000)
        .unwrap()
        .read_to_end(&mut all)
        .unwrap();
    assert!(all == bytes[1000..]);
    let asked = server
        .log()
        .iter()
        .filter(|line| line.starts_with("GET"))
        .count();
    assert_eq!(asked, 3);
}

#[test]
fn a_server_with_neither_head_nor_mkcol_will_do() {
    let server = FakeServer::start();
    let share = share(&server);
    server.lack("HEAD");
    server.lack("MKCOL");
    upload(&share, "a/b/x", b"content").unwrap();
    assert_eq!(share.stat("a/b/x").unwrap(), Some(Stat { size: 7 }));
    assert_eq!(share.stat("a/b/y").unwrap(), None);
    share.rename("a/b/x", "a/b/x.old").unwrap();
    share.remove("a/b/x.old").unwrap();
    share.remove("a/b/x.old").unwrap();
    assert_eq!(server.names(), [""; 0]);
}

#[test]
fn machines_that_append_at_once_all_get_their_lines_in() {
    let server = FakeServer::start();
    let share = share(&server);
    std::thread::scope(|scope| {
        for machine in 0..4 {
            let share = &share;
            scope.spawn(move || {
                for line in 0..5 {
                    let line = format!("machine {machine} line {line}\n");
                    share.append("maintenance.log", &line).unwrap();
                }
            });
        }
    });
    let log = String::from_utf8(server.get("/share/maintenance.log").unwrap()).unwrap();
    assert_eq!(log.lines().count(), 20);
    server.without_tags();
    share.append("maintenance.log", "last\n").unwrap();
    assert!(
        server
            .get("/share/maintenance.log")
            .unwrap()
            .ends_with(b"last\n")
    );
}

#[test]
fn names_with_odd_characters_and_escapes_are_kept_apart() {
    let server = FakeServer::start();
    let share = share(&server);
    upload(&share, "a b/c%2f?#", b"x").unwrap();
    assert_eq!(server.names(), ["/share/a%20b/c%252f%3F%23"]);
    let error = error(share.stat("../x"));
    assert!(error.contains("must not contain"), "{error}");
}

#[test]
fn a_server_that_is_away_is_named() {
    let server = FakeServer::start();
    let url = server.url("/share/");
    let at = (url.host_str().unwrap(), url.port().unwrap());
    drop(server);
    // It ends a moment later.
    while std::net::TcpStream::connect(at).is_ok() {}
    let share = HttpShare::new(&url, &impatient());
    let error = error(share.stat("x"));
    assert!(
        error.contains("/share/x: ") && error.contains("refused"),
        "{error}"
    );
}
