//! Against moto, an S3 server that keeps objects in memory, with a proxy before it that breaks what the test orders.

use super::faults::{Fault, Faults, proxy};
use super::sign::Signer;
use super::unfinished::newest_upload;
use super::*;
use crate::fetch::Settings;
use crate::share::TakenOver;
use pitstop_imaging::image::Held;
use pitstop_imaging::image::members::{Deflater, Method, member_bound};
use pitstop_testing::moto::{Moto, exchange};
use std::time::Duration;

mod lost_answers;

/// Larger than a part, so that it goes in two.
const LARGE: usize = 9 << 20;

/// Asks the store to make the object of its parts, and nothing else before that.
const COMPLETE: &str = "SignedHeaders=host&uploadId=";

fn share(port: u16) -> S3Share {
    let url = format!("s3://lab/room?endpoint=http://127.0.0.1:{port}&region=us-east-1");
    let url = S3Url::from_url(&Url::parse(&url).unwrap()).unwrap();
    let settings = Settings {
        first_wait: Duration::from_millis(10),
        ..Settings::default()
    };
    let signer = Signer::new(&url, &Keys::new("AKID", "s3cret")).unwrap();
    S3Share::new(&url, &HttpClient::new(settings).unwrap(), signer)
}

fn bytes(length: usize) -> Vec<u8> {
    noise(7, length)
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

fn put(share: &S3Share, path: &str, data: &[u8]) -> anyhow::Result<()> {
    let mut pending = share.create(path)?;
    pending.write_all(data)?;
    pending.finish()
}

fn get(share: &S3Share, path: &str) -> Vec<u8> {
    let mut data = Vec::new();
    share.open(path).unwrap().read_to_end(&mut data).unwrap();
    data
}

#[test]
fn a_store_is_a_share() {
    let moto = Moto::start();
    let share = share(moto.port);
    assert_eq!(share.stat("a/sda.raw.gz").unwrap(), None);
    let (small, large) = (bytes(1000), bytes(LARGE));
    put(&share, "a/sda.raw.gz", &small).unwrap();
    assert_eq!(get(&share, "a/sda.raw.gz"), small);
    put(&share, "a/b c+d.gz", &large).unwrap();
    assert_eq!(
        share.stat("a/b c+d.gz").unwrap().unwrap().size,
        LARGE as u64
    );
    let image = share.image("a/b c+d.gz").unwrap();
    let mut part = [0; 100];
    image.read_exact_at(&mut part, 8_999_000).unwrap();
    assert_eq!(part, large[8_999_000..8_999_100]);
    share.rename("a/b c+d.gz", "a/b c+d.gz.old").unwrap();
    assert_eq!(share.stat("a/b c+d.gz").unwrap(), None);
    assert_eq!(get(&share, "a/b c+d.gz.old"), large);
    share.remove("a/b c+d.gz.old").unwrap();
    share.remove("a/b c+d.gz.old").unwrap();
    put(&share, "empty", b"").unwrap();
    assert_eq!(share.stat("empty").unwrap().unwrap().size, 0);
    let error = share.image("none").err().unwrap().to_string();
    assert!(
        error.contains("there is no such file") && !error.contains("Signature"),
        "{error}"
    );
}

#[test]
fn nothing_appears_of_what_was_not_finished() {
    let moto = Moto::start();
    let share = share(moto.port);
    let mut pending = share.create("sda.raw.gz").unwrap();
    pending.write_all(&bytes(LARGE + PART_AND_MORE)).unwrap();
    drop(pending);
    assert_eq!(share.stat("sda.raw.gz").unwrap(), None);
    let open = share
        .store
        .ask(&Ask::Uploads, "room/sda.raw.gz", &Bytes::new())
        .unwrap();
    assert_eq!(newest_upload(open, "room/sda.raw.gz").unwrap(), None);
}

const PART_AND_MORE: usize = 9 << 20;

#[test]
fn an_upload_goes_on_where_a_run_that_died_stopped() {
    let moto = Moto::start();
    let faults = Faults::default();
    let share = share(proxy(moto.port, &faults));
    let data = bytes(2 * LARGE);
    let mut pending = share.create("sda.raw.gz").unwrap();
    pending.write_all(&data[..LARGE + PART_AND_MORE]).unwrap();
    // As when the machine loses its power: nobody takes the upload back.
    faults.lock().unwrap().push_back(("DELETE", Fault::Cut));
    drop(pending);
    // What the store has already would be broken if it were sent again.
    for _ in 0..20 {
        faults
            .lock()
            .unwrap()
            .push_back(("partNumber=1&", Fault::Cut));
    }
    put(&share, "sda.raw.gz", &data).unwrap();
    assert_eq!(faults.lock().unwrap().len(), 20, "part 1 was sent again");
    assert_eq!(get(&share, "sda.raw.gz"), data);
}

#[test]
fn what_is_sent_before_a_copy_leaves_no_part_that_is_too_small() {
    let moto = Moto::start();
    let share = share(moto.port);
    let (mut before, mut members) = (Vec::new(), Vec::new());
    for raw in bytes(16 << 20).chunks(4 << 20) {
        let mut member = vec![0; member_bound(raw.len())];
        let size = Deflater::default().member(Method::Isal(1), raw, &mut member);
        members.push(Held {
            hash: *blake3::hash(raw).as_bytes(),
            offset: before.len() as u64,
            size: u32::try_from(size).unwrap(),
        });
        before.extend_from_slice(&member[..size]);
    }
    put(&share, "old", &before).unwrap();
    // Too few for a part, and with a member of those behind them more than a usual one.
    let new = bytes(9 << 19);
    let again = share.create_again("new", "old").unwrap().unwrap();
    let mut pending = again.pending;
    pending.write_all(&new).unwrap();
    for member in &members {
        pending.member(member).unwrap();
    }
    pending.finish().unwrap();
    assert!(get(&share, "new") == [new, before].concat());
}

#[test]
fn two_who_write_one_name_do_not_take_each_others_parts() {
    let moto = Moto::start();
    let (one, two) = (share(moto.port), share(moto.port));
    let data = bytes(2 * LARGE);
    let mut slow = one.create_if("sda.raw.gz", Condition::None).unwrap();
    slow.write_all(&bytes(LARGE + PART_AND_MORE)).unwrap();
    let mut pending = two.create_if("sda.raw.gz", Condition::None).unwrap();
    pending.write_all(&data[..LARGE + PART_AND_MORE]).unwrap();
    // The machine has gone from the one server to the other, and the one notices late.
    drop(slow);
    pending.write_all(&data[LARGE + PART_AND_MORE..]).unwrap();
    pending.finish().unwrap();
    assert_eq!(get(&two, "sda.raw.gz"), data);
}

/// Either alone goes on with what a run left that died: neither knows that the other lives.
#[test]
fn of_two_backups_of_one_name_the_later_one_makes_it_and_the_other_says_why() {
    let moto = Moto::start();
    let (one, two) = (share(moto.port), share(moto.port));
    let ours = noise(9, 3 * LARGE);
    for theirs in [bytes(3 * LARGE), ours.clone()] {
        let mut first = one.create("sda.raw.gz").unwrap();
        first.write_all(&theirs[..LARGE + PART_AND_MORE]).unwrap();
        let mut second = two.create("sda.raw.gz").unwrap();
        second.write_all(&ours[..LARGE]).unwrap();
        // Both are at it now.
        first.write_all(&theirs[LARGE + PART_AND_MORE..]).unwrap();
        second.write_all(&ours[LARGE..]).unwrap();
        let told = first.finish().unwrap_err();
        let told = TakenOver::behind(&told).unwrap().to_string();
        assert!(told.contains("room/sda.raw.gz: another backup"), "{told}");
        second.finish().unwrap();
        assert!(get(&two, "sda.raw.gz") == ours);
        two.remove("sda.raw.gz").unwrap();
    }
}

#[test]
fn a_run_whose_upload_another_finished_says_so() {
    let moto = Moto::start();
    let (one, two) = (share(moto.port), share(moto.port));
    let data = bytes(2 * LARGE);
    let mut first = one.create("sda.raw.gz").unwrap();
    first.write_all(&data[..LARGE + PART_AND_MORE]).unwrap();
    put(&two, "sda.raw.gz", &data).unwrap();
    let told = first
        .write_all(&bytes(3 * LARGE))
        .map_err(anyhow::Error::from)
        .and_then(|()| first.finish())
        .unwrap_err();
    let told = TakenOver::behind(&told).unwrap().to_string();
    assert!(told.contains("another backup"), "{told}");
    assert!(get(&two, "sda.raw.gz") == data);
}

#[test]
fn whatever_breaks_on_the_way_the_object_is_whole() {
    let moto = Moto::start();
    let faults = Faults::default();
    let share = share(proxy(moto.port, &faults));
    let data = bytes(2 * LARGE);
    for fault in [Fault::SlowDown, Fault::Cut, Fault::AnswerLost] {
        for step in [
            "uploads",
            "partNumber=1&",
            "partNumber=2&",
            "partNumber=3&",
            COMPLETE,
            "HEAD",
        ] {
            faults.lock().unwrap().push_back((step, fault));
            put(&share, "x", &data).unwrap_or_else(|e| panic!("{fault:?} at {step}: {e:#}"));
            assert_eq!(get(&share, "x"), data, "{fault:?} at {step}");
            faults.lock().unwrap().clear();
            share.remove("x").unwrap();
        }
    }
    faults
        .lock()
        .unwrap()
        .push_back(("partNumber=2&", Fault::WrongTag));
    put(&share, "x", &data).unwrap();
    assert_eq!(get(&share, "x"), data);
    for _ in 0..5 {
        faults
            .lock()
            .unwrap()
            .push_back(("partNumber=2&", Fault::WrongTag));
    }
    share.remove("x").unwrap();
    let error = put(&share, "x", &data).unwrap_err().to_string();
    assert!(error.contains("part 2 of room/x: its tag is"), "{error}");
    assert_eq!(share.stat("x").unwrap(), None);
}

/// The smallest part that a store takes.
const SMALL: u64 = 5 << 20;

#[test]
fn what_somebody_puts_under_a_name_while_it_changes_is_neither_mixed_in_nor_removed() {
    let moto = Moto::start();
    let faults = Faults::default();
    let share = share(proxy(moto.port, &faults));
    let data = bytes(LARGE);
    let steps = ["partNumber=1&", "partNumber=2&", "HEAD /lab/room/x.old"];
    for (step, at_once) in steps.into_iter().map(|step| (step, SMALL)).chain([
        ("PUT /lab/room/x.old", COPIED),
        ("HEAD /lab/room/x.old", COPIED),
    ]) {
        put(&share, "x", &data).unwrap();
        put(&share, "x.old", b"older").unwrap();
        let replaced = (step, Fault::Replaces("room/x"));
        faults.lock().unwrap().push_back(replaced);
        let renamed = share
            .store
            .rename("room/x", "room/x.old", None, at_once)
            .unwrap_err();
        assert!(renamed.is::<Changed>(), "{step}: {renamed:#}");
        assert!(faults.lock().unwrap().is_empty(), "{step}");
        assert_eq!(get(&share, "x"), b"another writer's", "{step}");
        // One of the images, and whole: moto copies at once whatever the condition says.
        let old = get(&share, "x.old");
        match step {
            "PUT /lab/room/x.old" => assert_eq!(old, b"another writer's"),
            "HEAD /lab/room/x.old" => assert!(old == data, "{} bytes", old.len()),
            _ => assert_eq!(old, b"older", "{step}"),
        }
    }
}

#[test]
fn a_copy_that_breaks_behind_the_stores_word_is_made_again() {
    let moto = Moto::start();
    let faults = Faults::default();
    let share = share(proxy(moto.port, &faults));
    let data = bytes(LARGE);
    for (step, at_once) in [("partNumber=2&", SMALL), ("PUT /lab/room/x.old", COPIED)] {
        put(&share, "x", &data).unwrap();
        for _ in 0..2 {
            faults.lock().unwrap().push_back((step, Fault::LateError));
        }
        let renamed = share.store.rename("room/x", "room/x.old", None, at_once);
        renamed.unwrap_or_else(|e| panic!("{step}: {e:#}"));
        assert!(faults.lock().unwrap().is_empty(), "{step}");
        assert!(get(&share, "x.old") == data, "{step}");
        assert_eq!(share.stat("x").unwrap(), None, "{step}");
    }
    put(&share, "x", &data).unwrap();
    for _ in 0..9 {
        let late = ("PUT /lab/room/x.old", Fault::LateError);
        faults.lock().unwrap().push_back(late);
    }
    let error = share.rename("x", "x.old").unwrap_err().to_string();
    assert!(
        error.contains("the store gave up: InternalError"),
        "{error}"
    );
    assert!(get(&share, "x") == data);
}

#[test]
fn an_object_is_removed_if_it_is_the_one_that_is_meant() {
    let moto = Moto::start();
    let share = share(moto.port);
    put(&share, "x", b"one").unwrap();
    let tag = share.object("x").unwrap().unwrap().tag.unwrap();
    put(&share, "x", b"another").unwrap();
    let error = share.remove_if("x", &tag).unwrap_err();
    assert!(error.is::<Changed>(), "{error:#}");
    let error = share.rename_if("x", "y", Some(&tag)).unwrap_err();
    assert!(error.is::<Changed>(), "{error:#}");
    let tag = share.object("x").unwrap().unwrap().tag.unwrap();
    share.rename_if("x", "y", Some(&tag)).unwrap();
    share.remove_if("y", &tag).unwrap();
    assert_eq!(share.stat("y").unwrap(), None);
}

#[test]
fn a_clock_that_is_wrong_is_told_with_both_times() {
    let moto = Moto::start();
    let faults = Faults::default();
    let share = share(proxy(moto.port, &faults));
    // The one has no words, the other has.
    for step in ["HEAD", "PUT"] {
        faults.lock().unwrap().push_back((step, Fault::Skewed));
        let error = match step {
            "HEAD" => share.stat("x").unwrap_err(),
            _ => put(&share, "x", b"x").unwrap_err(),
        };
        let error = error.to_string();
        for part in [
            "this machine's clock says",
            "the store's Sun, 06 Nov 1994 08:49:37 GMT: set the clock",
        ] {
            assert!(error.contains(part), "{step}: {error}");
        }
    }
}

#[test]
fn each_run_has_its_own_object_of_a_log() {
    let moto = Moto::start();
    let (one, two) = (share(moto.port), share(moto.port));
    one.append("maintenance.log", "a\n").unwrap();
    two.append("maintenance.log", "b\n").unwrap();
    one.append("maintenance.log", "c\n").unwrap();
    let request =
        b"GET /lab?prefix=room/maintenance.log.d/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let listed = String::from_utf8(exchange(moto.port, request)).unwrap();
    let keys: Vec<&str> = listed
        .split("<Key>")
        .skip(1)
        .map(|rest| rest.split('<').next().unwrap())
        .collect();
    let mut logs: Vec<Vec<u8>> = keys
        .iter()
        .map(|key| get(&one, key.strip_prefix("room/").unwrap()))
        .collect();
    logs.sort();
    assert_eq!(logs, [b"a\nc\n".to_vec(), b"b\n".to_vec()]);
}
