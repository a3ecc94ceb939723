//! One image to many machines, each in a network of its own behind a link of 100 Mbit/s. What is asserted holds on a busy
//! computer too; how fast it is, `make bench-many` measures.

mod common;
mod relay_common;

use relay_common::{Program, Room};
use std::thread;
use std::time::Duration;

const DATA: usize = 24;

fn all_are_right(room: &Room, mut machines: Vec<(usize, Program)>) {
    for (machine, program) in &mut machines {
        assert!(
            program.ends_well(),
            "machine {machine}:\n{}",
            program.said()
        );
        assert!(room.is_right(*machine), "machine {machine}");
    }
}

fn start(room: &Room, machines: impl IntoIterator<Item = usize>) -> Vec<(usize, Program)> {
    let machines = machines.into_iter();
    machines.map(|it| (it, room.restore(it))).collect()
}

#[test]
fn a_room_gets_an_image_that_leaves_the_server_about_once() {
    let room = Room::new(&[100; 6], DATA);
    let server = room.serve();
    all_are_right(&room, start(&room, 1..=6));
    let left = room.left_server();
    assert!(
        left < 1.5,
        "{left} of the image left the server:\n{}",
        server.said()
    );
    assert_eq!(server.said().matches(" takes part").count(), 6);
}

#[test]
fn one_that_crashes_and_one_that_comes_late_hold_up_nobody() {
    let room = Room::new(&[100; 4], DATA);
    let server = room.serve();
    let mut machines = start(&room, [1]);
    // In this order in the chain.
    server.wait_for("10.78.0.2 takes part");
    let mut crashes = room.restore(2);
    server.wait_for("10.78.0.3 takes part");
    machines.extend(start(&room, [3]));
    room.wait_until_has(3, 8);
    crashes.kill();
    machines.extend(start(&room, [4]));
    all_are_right(&room, machines);
    let left = room.left_server();
    assert!(
        left < 2.0,
        "{left} of the image left the server:\n{}",
        server.said()
    );
}

#[test]
fn a_slow_one_in_the_middle_gets_it_too() {
    let room = Room::new(&[100, 20, 100, 100], DATA);
    let server = room.serve();
    let mut machines = Vec::new();
    for machine in 1..=4 {
        machines.extend(start(&room, [machine]));
        server.wait_for(&format!("10.78.0.{} takes part", machine + 1));
    }
    all_are_right(&room, machines);
    let left = room.left_server();
    assert!(
        left < 2.0,
        "{left} of the image left the server:\n{}",
        server.said()
    );
}

#[test]
fn a_server_that_starts_anew_meanwhile_fails_nobody() {
    let room = Room::new(&[100; 3], DATA);
    let mut server = room.serve();
    let machines = start(&room, 1..=3);
    room.wait_until_has(3, 4);
    server.kill();
    thread::sleep(Duration::from_secs(3));
    let server = room.serve();
    all_are_right(&room, machines);
    let left = room.left_server();
    assert!(
        left < 2.0,
        "{left} of the image left the server:\n{}",
        server.said()
    );
}
