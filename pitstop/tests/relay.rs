//! One image to many machines, each in a network of its own behind a link of 100 Mbit/s. What is asserted holds on a busy
//! computer too; how fast it is, `make bench-many` measures.

mod common;
mod relay_common;

use relay_common::{Program, Room};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
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

/// A disk of its own that can be made to stand still; as it was when dropped.
struct Freezing(std::path::PathBuf);

impl Freezing {
    /// Where a machine of `room` restores to is on it from now on.
    fn of(room: &Room, machine: usize) -> Self {
        let folder = room.root.path().join("freezing");
        let disk = room.root.path().join("freezing.img");
        fs::create_dir(&folder).unwrap();
        fs::File::create(&disk).unwrap().set_len(96 << 20).unwrap();
        tool("mkfs.ext4", &["-q".as_ref(), disk.as_os_str()]);
        tool(
            "mount",
            &[
                "-o".as_ref(),
                "loop".as_ref(),
                disk.as_os_str(),
                folder.as_os_str(),
            ],
        );
        let here = Self(folder);
        let file = here.0.join("disk");
        fs::File::create(&file).unwrap();
        symlink(file, room.disk(machine)).unwrap();
        here
    }

    /// It stands still for as long as the value lives.
    fn freeze(&self) -> StandsStill<'_> {
        tool("fsfreeze", &["-f".as_ref(), self.0.as_os_str()]);
        StandsStill(self)
    }
}

/// Who writes to such a disk cannot even be killed: it has to run before anybody is waited for, also where the test fails.
struct StandsStill<'a>(&'a Freezing);

impl Drop for StandsStill<'_> {
    fn drop(&mut self) {
        let thawed = Command::new("fsfreeze").arg("-u").arg(&self.0.0).output();
        let is_well = thawed.is_ok_and(|it| it.status.success());
        assert!(
            is_well || thread::panicking(),
            "the disk still stands still"
        );
    }
}

impl Drop for Freezing {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn tool(program: &str, arguments: &[&OsStr]) {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("`{program}` is needed (root?): {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
}

#[test]
fn one_whose_own_disk_stands_still_blames_nobody() {
    let room = Room::new(&[50; 3], DATA);
    let server = room.serve();
    let disk = Freezing::of(&room, 2);
    let mut machines = Vec::new();
    for machine in 1..=3 {
        machines.extend(start(&room, [machine]));
        server.wait_for(&format!("10.78.0.{} takes part", machine + 1));
    }
    room.wait_until_has(2, 1);
    let standing_still = disk.freeze();
    // Two seconds and more, at that rate.
    room.wait_until_has(1, 20);
    drop(standing_still);
    for (machine, program) in &mut machines {
        assert!(
            program.ends_well(),
            "machine {machine}:\n{}",
            program.said()
        );
    }
    let said = server.said();
    // It may be named itself: who is behind it goes on with another, and it behind that one.
    for other in ["10.78.0.2", "10.78.0.4"] {
        assert!(!said.contains(&format!("{other} gave ")), "{said}");
    }
    let own = machines[1].1.said();
    assert!(!own.contains("is left"), "{own}");
    all_are_right(&room, machines);
}

#[test]
fn a_server_that_starts_anew_meanwhile_fails_nobody() {
    let room = Room::new(&[100; 3], DATA);
    let mut server = room.serve();
    let machines = start(&room, 1..=3);
    // On a busy computer one may come so late that there is no server to join.
    for machine in 1..=3 {
        server.wait_for(&format!("10.78.0.{} takes part", machine + 1));
    }
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
