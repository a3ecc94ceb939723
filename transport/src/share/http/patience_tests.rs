//! The share against servers that come and go, and who may see its credentials.

use super::segments::SEGMENT;
use super::tests::{error, noise, read_all, share, share_by, upload};
use super::*;
use crate::fetch::fake::{FakeServer, Fault, impatient, patient, wary};
use crate::fetch::{HttpFailure, Settings};
use crate::share::TakenOver;
use pitstop_imaging::source::ReadAt;
use pitstop_protocol::credentials::{Access, Credentials};
use std::io::Write as _;
use std::time::{Duration, Instant};

#[test]
fn a_server_that_restarts_within_the_limit_is_waited_for() {
    let server = FakeServer::start();
    let share = share(&server);
    let bytes = noise(100_000);
    server.put("/share/x", &bytes);
    server.put("/share/log", b"");
    share.stat("x").unwrap();
    server.down(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            server.down(false);
        });
        assert_eq!(read_all(&share, "x").unwrap(), bytes);
    });
    server.fail("PUT", Fault::Mute);
    share.append("log", "one line\n").unwrap();
    assert_eq!(server.get("/share/log").unwrap(), b"one line\n");
}

#[test]
fn a_new_name_whose_answer_was_lost_is_told_from_somebody_elses() {
    let server = FakeServer::start();
    let share = share(&server);
    let new = || {
        let mut pending = share.create("x").unwrap();
        pending.write_all(b"ours").unwrap();
        pending.finish_new()
    };
    // As nginx: that the new name is there is looked for before that the old one is.
    let done_before = [
        &[Fault::Moved(502)][..],
        &[Fault::Mute],
        // The server was at it still when it was asked once more.
        &[Fault::HangUp(0), Fault::Moved(412)],
    ];
    for faults in done_before {
        for fault in faults {
            server.fail("MOVE", *fault);
        }
        new().unwrap_or_else(|e| panic!("{faults:?}: {e:#}"));
        assert_eq!(server.names(), ["/share/x"]);
        assert_eq!(server.get("/share/x").unwrap(), b"ours");
        share.remove("x").unwrap();
    }
    server.put("/share/x", b"somebody else's");
    for faults in [&[][..], &[Fault::HangUp(0)], &[Fault::Status(502)]] {
        for fault in faults {
            server.fail("MOVE", *fault);
        }
        let said = error(new());
        assert!(said.contains("is there by now"), "{faults:?}: {said}");
        assert_eq!(server.names(), ["/share/x"]);
        assert_eq!(server.get("/share/x").unwrap(), b"somebody else's");
    }
}

#[test]
fn a_file_that_was_there_before_is_not_taken_for_the_one_that_was_to_come() {
    let server = FakeServer::start();
    let share = share(&server);
    // As long as ours.
    server.put("/share/y", b"old");
    server.put("/share/x", b"new");
    server.fail("MOVE", Fault::Robbed);
    let said = error(share.rename("x", "y"));
    assert!(
        said.contains("is what it was: somebody else writes there too"),
        "{said}"
    );
    assert_eq!(server.get("/share/y").unwrap(), b"old");
}

#[test]
fn credentials_go_to_their_own_server_and_are_shown_nowhere() {
    let (server, other) = (FakeServer::start(), FakeServer::start());
    let credentials = Credentials::Bearer {
        token: "s3cret".into(),
    };
    let settings = Settings {
        access: Some(Access::new(credentials, [&server.url("/hosts/x")])),
        ..patient().settings().clone()
    };
    let http = HttpClient::new(settings).unwrap();
    server.put("/share/x", b"1");
    for server in [&server, &other] {
        let share = HttpShare::new(&server.url("/share/"), &http);
        let _ = share.stat("x");
        let _ = upload(&share, "y", b"2");
    }
    let seen = server.seen("authorization");
    assert!(seen.len() >= 3, "{seen:?}");
    assert!(
        seen.iter().all(|header| header == "Bearer s3cret"),
        "{seen:?}"
    );
    assert_eq!(other.seen("authorization"), [""; 0]);
    server.fail(
        "HEAD",
        Fault::Redirect(other.url("/share/x").port().unwrap_or_default()),
    );
    let redirected = HttpShare::new(&server.url("/share/"), &http).stat("x");
    drop(redirected);
    assert_eq!(
        other.seen("authorization"),
        [""; 0],
        "a redirect takes nothing along"
    );
    server.fail("HEAD", Fault::Status(401));
    let refused = error(HttpShare::new(&server.url("/share/"), &http).stat("x"));
    assert!(refused.contains("wants other credentials"), "{refused}");
    assert!(!format!("{refused} {http:?}").contains("s3cret"));
}

#[test]
fn an_image_behind_a_presigned_url_is_read_and_its_signature_is_not_shown() {
    let server = FakeServer::start();
    server.put("/b/x?sig=s3cret", &noise(1000));
    server.fail("HEAD", Fault::Status(403));
    let url = server.url("/b/x?sig=s3cret");
    let image = HttpImage::open(&patient(), &url).unwrap();
    let mut part = [0; 10];
    image.read_exact_at(&mut part, 7).unwrap();
    assert_eq!(part, noise(1000)[7..17]);
    server.fail("GET", Fault::Status(403));
    let refused = image.read_exact_at(&mut part, 7).unwrap_err().to_string();
    assert!(
        refused.contains("/b/x?…: the server does not allow it"),
        "{refused}"
    );
}

/// Bytes of several segments, the last one short.
fn long() -> Vec<u8> {
    noise(7_000_000)
}

fn puts(server: &FakeServer) -> Vec<String> {
    server.seen("content-range")
}

#[test]
fn a_broken_upload_goes_on_where_the_server_can_append() {
    let server = FakeServer::start();
    server.appending();
    // Not taken; taken without an answer; the server restarts meanwhile; a proxy before it says so.
    for fault in [
        Fault::HangUp(1_000_000),
        Fault::Mute,
        Fault::Deaf(500_000),
        Fault::Status(503),
    ] {
        let is_silent = matches!(fault, Fault::Deaf(_));
        let client = if is_silent { wary() } else { patient() };
        let share = share_by(&server, &client);
        let before = puts(&server).len();
        server.fail("PUT", fault);
        server.fail("PUT", Fault::Status(502));
        server.fail("PUT", Fault::HangUp(5));
        upload(&share, "m/x", &long()).unwrap();
        assert_eq!(server.get("/share/m/x").unwrap(), long(), "{fault:?}");
        assert_eq!(server.names(), ["/share/m/x"]);
        let wanted = if fault == Fault::Mute { 6 } else { 7 };
        let sent = puts(&server).len() - before;
        assert!(sent == wanted || is_silent && sent > wanted, "{fault:?}");
    }
}

#[test]
fn an_upload_that_broke_off_goes_on_from_what_is_proven() {
    let server = FakeServer::start();
    server.appending();
    let share = share(&server);
    let mut left = long()[..5_000_000].to_vec();
    server.put("/share/m/x.part", &left);
    upload(&share, "m/x", &long()).unwrap();
    assert_eq!(server.get("/share/m/x").unwrap(), long());
    assert_eq!(
        puts(&server),
        ["bytes 4194304-6291455/*", "bytes 6291456-6999999/*"]
    );
    // One byte differs: from its segment on all is sent again.
    left[3_000_000] ^= 1;
    server.put("/share/m/x.part", &left);
    upload(&share, "m/x", &long()).unwrap();
    assert_eq!(server.get("/share/m/x").unwrap(), long());
    assert_eq!(puts(&server)[2], "bytes 2097152-4194303/*");
}

#[test]
fn of_two_that_are_at_the_same_the_later_one_goes_on() {
    let server = FakeServer::start();
    server.appending();
    let share = share(&server);
    let mut left = long()[..5_000_000].to_vec();
    server.put("/share/m/x.part", &left);
    let mut pending = share.create("m/x").unwrap();
    // Two segments are there. Then the other one sends its next.
    pending.write_all(&long()[..2 * SEGMENT]).unwrap();
    left.resize(left.len() + 3_000_000, 7);
    server.put("/share/m/x.part", &left);
    pending.write_all(&long()[2 * SEGMENT..]).unwrap();
    pending.finish().unwrap();
    assert!(server.get("/share/m/x").unwrap() == long());
    // What was there is another's by now: nothing is mixed.
    server.put("/share/m/x.part", &long()[..5_000_000]);
    let mut pending = share.create("m/x").unwrap();
    pending.write_all(&long()[..2 * SEGMENT]).unwrap();
    left[1_000_000] ^= 1;
    server.put("/share/m/x.part", &left);
    let failed = match pending.write_all(&long()[2 * SEGMENT..]) {
        Err(error) => error.to_string(),
        Ok(()) => error(pending.finish()),
    };
    assert!(failed.contains("is not as this upload left it"), "{failed}");
    assert!(server.get("/share/m/x.part").unwrap() == left);
}

#[test]
fn what_an_upload_left_stays_where_the_next_one_does_not_come_to_send() {
    let server = FakeServer::start();
    server.appending();
    let share = share(&server);
    let left = long()[..5_000_000].to_vec();
    server.put("/share/m/x.part", &left);
    server.fail("HEAD /share/m/x.part", Fault::Status(401));
    let failed = error(upload(&share, "m/x", &long()));
    assert!(failed.contains("wants other credentials"), "{failed}");
    assert!(server.get("/share/m/x.part").unwrap() == left);
}

#[test]
fn an_upload_that_is_cut_for_ever_ends_and_is_not_begun_again() {
    let server = FakeServer::start();
    server.appending();
    let share = share_by(&server, &impatient());
    for _ in 0..100 {
        server.fail("PUT", Fault::HangUp(1_000_000));
    }
    let failed = upload(&share, "m/x", &long()).unwrap_err();
    assert!(failed.to_string().contains("given up after "), "{failed:#}");
    assert!(HttpError::behind(&failed).is_none());
    assert_eq!(server.names(), [""; 0]);
}

#[test]
fn bytes_of_two_writers_never_mix() {
    let server = FakeServer::start();
    server.appending();
    let share = share(&server);
    server.put("/share/x", b"old");
    let mut pending = share.create("x").unwrap();
    pending.write_all(&long()[..5_000_000]).unwrap();
    server.put("/share/x.part", &noise(10));
    let failed = match pending.write_all(&long()[5_000_000..]) {
        Err(error) => error.into(),
        Ok(()) => pending.finish().unwrap_err(),
    };
    let failed = failed.context("backing up");
    let told = TakenOver::behind(&failed).map(ToString::to_string);
    let told = told.unwrap_or_else(|| panic!("{failed:#}"));
    assert!(told.contains("is not as this upload left it"), "{told}");
    assert_eq!(server.get("/share/x").unwrap(), b"old");
}

#[test]
fn what_somebody_else_has_begun_does_not_get_the_name_of_what_is_whole() {
    let server = FakeServer::start();
    server.appending();
    let share = share(&server);
    server.put("/share/x", b"old");
    let ours = noise(2 * SEGMENT);
    let mut pending = share.create("x").unwrap();
    pending.write_all(&ours).unwrap();
    let there = || server.get("/share/x.part").map_or(0, |part| part.len());
    let began = Instant::now();
    while there() < ours.len() {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    // As long as ours, so that its size tells nothing.
    let theirs = vec![7; ours.len()];
    server.put("/share/x.part", &theirs);
    let said = error(pending.finish());
    assert!(said.contains("somebody else wrote to it"), "{said}");
    assert_eq!(server.get("/share/x").unwrap(), b"old");
    assert!(server.get("/share/x.part").unwrap() == theirs);
}

#[test]
fn small_files_are_sent_again_and_large_ones_say_that_the_network_failed() {
    let server = FakeServer::start();
    let share = share(&server);
    server.fail("PUT", Fault::HangUp(10));
    server.fail("PUT", Fault::Mute);
    upload(&share, "x", &noise(1000)).unwrap();
    assert_eq!(server.get("/share/x").unwrap(), noise(1000));
    server.fail("PUT", Fault::HangUp(3_000_000));
    let failed = upload(&share, "x", &long()).unwrap_err();
    let behind = HttpError::behind(&failed.context("backing up")).map(|error| error.failure);
    assert_eq!(behind, Some(HttpFailure::Broken));
    // An answer is no trouble of the network, whether it comes before the end or at it.
    server.fail("PUT", Fault::Early(1_000_000, 507));
    let failed = upload(&share, "x", &noise(9_000_000)).unwrap_err();
    assert!(failed.to_string().contains("HTTP 507"), "{failed:#}");
    let passing = HttpError::behind(&failed).is_some_and(|error| error.failure.is_passing());
    assert!(!passing, "{failed:#}");
}
