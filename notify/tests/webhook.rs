//! Webhooks against a server that takes, refuses, falls silent and is away.

mod common;

use common::{PATIENCE, Post, Scene, notice, receiver};
use pitstop_notify::{Event, Notice};
use std::fmt::Write as _;
use std::fs;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

fn next(posts: &Receiver<Post>) -> Post {
    posts.recv_timeout(PATIENCE).unwrap()
}

fn hook(name: &str, port: u16, more: &str) -> String {
    format!(
        "[[webhook]]\nname = \"{name}\"\nurl = \"http://127.0.0.1:{port}/hook/s3cret\"\n{more}\n"
    )
}

#[test]
fn a_failure_is_posted_with_its_id_and_signature() {
    let (port, received) = receiver(&[204]);
    let scene = Scene::new("");
    let secret = scene.root.path().join("secret");
    fs::write(&secret, "Jefe\n").unwrap();
    scene.write(&hook(
        "ops",
        port,
        &format!("secret-file = \"{}\"", secret.display()),
    ));
    let notifier = scene.start();
    // Of what nobody asked for nobody is told.
    notifier.notice(notice(1, Event::Done));
    let failed = notice(2, Event::Failed);
    notifier.notice(failed.clone());
    let sent = next(&received);
    assert!(sent.head.starts_with("POST /hook/s3cret HTTP/1.1\r\n"));
    let read: Notice = serde_json::from_str(&sent.body).unwrap();
    assert_eq!(read, failed);
    assert_eq!(sent.header("x-pitstop-id"), Some(failed.id.as_str()));
    assert_eq!(sent.header("x-pitstop-event"), Some("failed"));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"Jefe");
    let tag = ring::hmac::sign(&key, sent.body.as_bytes());
    let hex = tag.as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    assert_eq!(
        sent.header("x-pitstop-signature"),
        Some(format!("sha256={hex}").as_str())
    );
}

#[test]
fn a_receiver_that_is_broken_for_a_while_is_told_later_and_once() {
    let (port, posts) = receiver(&[503, 429, 200]);
    let scene = Scene::new(&hook("ops", port, ""));
    let notifier = scene.start();
    notifier.notice(notice(1, Event::Failed));
    for _ in 0..3 {
        assert!(next(&posts).body.contains("reason 1"));
    }
    scene.wait_for("ops takes them again");
    scene.wait_until_none_waits("ops");
    // No more than that is told of it, and nothing that is a secret.
    let told = scene.told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("it answered 503"), "{told:?}");
    assert!(!told.concat().contains("s3cret"), "{told:?}");
}

#[test]
fn what_is_refused_for_good_is_given_up_and_told() {
    let (port, posts) = receiver(&[404, 200]);
    let scene = Scene::new(&hook("ops", port, ""));
    let notifier = scene.start();
    notifier.notice(notice(1, Event::Failed));
    notifier.notice(notice(2, Event::Failed));
    assert!(next(&posts).body.contains("reason 1"));
    assert!(next(&posts).body.contains("reason 2"));
    scene.wait_for("ops was not told that lab3-01 failed at backup: reason 1: it answered 404");
}

#[test]
fn a_silent_receiver_and_a_dead_one_slow_nothing() {
    let (silent, _never) = receiver(&[0]);
    let (port, posts) = receiver(&[200]);
    let mut config = hook("silent", silent, "");
    // Nobody listens there.
    config += &hook("dead", 1, "");
    config += &hook("well", port, "");
    let scene = Scene::new(&config);
    let notifier = scene.start();
    let began = Instant::now();
    for number in 0..50 {
        notifier.notice(notice(number, Event::Failed));
    }
    for _ in 0..50 {
        next(&posts);
    }
    // Had each waited for the silent one, that would be a quarter of an hour.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(600), "{took:?}");
    scene.wait_for("dead cannot be told now");
    assert!(
        !scene.told().concat().contains("s3cret"),
        "{:?}",
        scene.told()
    );
}

#[test]
fn what_is_not_delivered_survives_a_restart() {
    let scene = Scene::new(&hook("ops", 1, ""));
    let notifier = scene.start();
    notifier.notice(notice(1, Event::Failed));
    scene.wait_for("ops cannot be told now");
    drop(notifier);
    let (port, posts) = receiver(&[200]);
    scene.write(&hook("ops", port, ""));
    let _notifier = scene.start();
    assert!(next(&posts).body.contains("reason 1"));
    // What lies there for somebody whom the file has no more is dropped, and told.
    let scene = Scene::new(&hook("old", 1, ""));
    let notifier = scene.start();
    notifier.notice(notice(1, Event::Failed));
    scene.wait_for("old cannot be told now");
    drop(notifier);
    scene.write("");
    let _notifier = scene.start();
    scene.wait_for("old is in notify.toml no more: 1 for it are dropped");
}

#[test]
fn a_change_of_the_file_counts_at_once_and_a_wrong_one_changes_nothing() {
    let (first, posts) = receiver(&[200]);
    let scene = Scene::new(&hook("ops", first, ""));
    let notifier = scene.start();
    // Once it has told something, it has read the file as it was.
    notifier.notice(notice(0, Event::Failed));
    assert!(next(&posts).body.contains("reason 0"));
    scene.write(&hook("ops", first, "colour = \"red\""));
    scene.wait_for("colour");
    notifier.notice(notice(1, Event::Failed));
    assert!(next(&posts).body.contains("reason 1"));
    let (second, others) = receiver(&[200]);
    let body = "on = [\"done\"]\nbody = '{\"text\": {{ summary | tojson }}}'";
    scene.write(&hook("ops", second, body));
    notifier.notice(notice(2, Event::Done));
    let post = next(&others);
    assert_eq!(
        post.body,
        "{\"text\": \"lab3-01 is done with backup: reason 2\"}"
    );
    assert!(posts.try_recv().is_err());
}
