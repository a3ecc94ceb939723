//! `pitstop tree deploy` by the real command: what it says, what it leaves, and what is left when it is killed. As root, with loop
//! devices.

mod common;
#[path = "../../deploy/tests/common/mod.rs"]
mod golden;
mod relay_common;

use golden::disk_file::DiskFile;
use golden::{Golden, GoldenTree, MIB, differences};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pitstop_imaging::disk::busy_loop_of;
use pitstop_testing::ports::free_port;
use relay_common::{TREE, here, serve};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(180);

fn command(image: &Path, disk: &Path, more: &[&str]) -> Command {
    let mut command = Command::new("env");
    // Whoever runs the tests in the background may have it ignore them.
    command
        .args([
            "--default-signal=INT,TERM,HUP",
            env!("CARGO_BIN_EXE_pitstop"),
        ])
        .args(["tree", "deploy"])
        .args([image, disk])
        .args(more)
        .stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(both).unwrap()
}

fn small() -> Golden {
    Golden {
        everything: false,
        ..Golden::gpt("ext4")
    }
}

/// All files are there as they were.
fn assert_whole(golden: &GoldenTree, disk: &DiskFile) {
    let mounted = disk.mount(&[(3, "/", "rw")]);
    let found = differences(
        &golden.entries,
        &mounted.path,
        &["boot/efi", "var/lib/pitstop", "etc/machine-id"],
    );
    assert_eq!(found, [""; 0]);
}

#[test]
fn the_command_shows_its_plan_lays_files_over_and_runs_hooks() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let image = at("image.tar.gz");
    small().capture(&image);
    let disk = DiskFile::new(800 * MIB);
    let dry = command(&image, &disk.path, &["--dry-run"])
        .output()
        .unwrap();
    assert!(dry.status.success(), "{dry:?}");
    let plan = String::from_utf8(dry.stdout).unwrap();
    assert!(
        plan.contains("by BIOS: the tree's GRUB, as it is"),
        "{plan}"
    );
    assert_eq!(disk.bytes(0, 4096), [0; 4096]);
    fs::create_dir_all(at("layer/etc")).unwrap();
    fs::write(at("layer/etc/motd"), b"laid over").unwrap();
    let layer = at("layer").display().to_string();
    let more = ["--overrides", &layer, "--hostname", "web-07"];
    let done = command(&image, &disk.path, &more).output().unwrap();
    assert!(done.status.success(), "{}", said(&done));
    let mounted = disk.mount(&[(3, "/", "rw")]);
    let read = |path: &str| fs::read_to_string(mounted.path.join(path)).unwrap();
    assert_eq!(read("etc/motd"), "laid over");
    assert_eq!(read("etc/hostname"), "web-07\n");
    assert!(mounted.path.join("var/lib/pitstop/tree/index").exists());
    drop(mounted);
    // Without a table of its own, and mounted, it is refused.
    let held = disk.mount(&[(3, "/", "rw")]);
    let busy = command(&image, &disk.path, &[]).output().unwrap();
    assert_eq!(busy.status.code(), Some(1));
    assert!(said(&busy).contains("is in use"), "{}", said(&busy));
    drop(held);
    let wrong = command(&image, &disk.path, &["--boot", "magic"])
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_tree_that_machines_pass_on_is_deployed_as_ever() {
    let root = tempfile::tempdir().unwrap();
    let image = root.path().join(TREE);
    fs::create_dir_all(image.parent().unwrap()).unwrap();
    let golden = small().capture(&image);
    let address = format!("127.0.0.1:{}", free_port());
    let _server = serve(here, root.path(), &address);
    let url = format!("http://{address}/{TREE}");
    let disk = DiskFile::new(800 * MIB);
    let more = ["--identity", "keep", "--distribute", "swarm"];
    let done = command(Path::new(&url), &disk.path, &more)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", said(&done));
    let shared = "is shared with other machines that get it too";
    assert!(said(&done).contains(shared), "{}", said(&done));
    assert!(disk.boots());
    assert_whole(&golden, &disk);
}

#[test]
fn one_that_is_killed_leaves_a_disk_that_does_not_boot_and_another_one_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.tar.gz");
    let golden = small().capture(&image);
    let disk = DiskFile::new(800 * MIB);
    let begun = Instant::now();
    let more = ["--identity", "keep"];
    let done = command(&image, &disk.path, &more).output().unwrap();
    assert!(done.status.success(), "{}", said(&done));
    let mut whole = begun.elapsed();
    assert!(disk.boots());
    assert_whole(&golden, &disk);
    let mut cut = 0;
    for _ in 0..20 {
        let mut running = command(&image, &disk.path, &more)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        sleep(whole.mul_f64(fastrand::f64()));
        let ended = running.try_wait().unwrap();
        running.kill().unwrap();
        running.wait().unwrap();
        let until = Instant::now() + PATIENCE;
        // Its mounts are gone with it, a moment later.
        while busy_loop_of(&disk.path).unwrap().is_some() {
            assert!(Instant::now() < until, "a loop device is left");
            sleep(Duration::from_millis(20));
        }
        cut += u32::from(ended.is_none());
        if ended.is_some() {
            // The computer is less busy than it was.
            whole /= 2;
        }
        // Either nothing starts, or everything is there: before its first write, and after its last one.
        if disk.boots() {
            assert_whole(&golden, &disk);
        }
    }
    assert!(cut > 0, "none was cut off");
    let again = command(&image, &disk.path, &more).output().unwrap();
    assert!(again.status.success(), "{}", said(&again));
    assert!(disk.boots());
    assert_whole(&golden, &disk);
}

#[test]
fn one_that_a_signal_ends_lets_go_of_everything_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let image = at("image.tar.gz");
    let golden = small().capture(&image);
    let disk = DiskFile::new(800 * MIB);
    // A shell that needs no libraries, and a hook that never ends by itself.
    for program in ["sh", "sleep"] {
        fs::create_dir_all(at("layer/bin")).unwrap();
        fs::copy("/bin/busybox", at("layer/bin").join(program)).unwrap();
    }
    fs::write(
        at("hook"),
        "#!/bin/sh\necho at work\nexec /bin/sleep 100000\n",
    )
    .unwrap();
    let (layer, hook) = (at("layer"), at("hook"));
    let more = [
        "--identity",
        "keep",
        "--overrides",
        layer.to_str().unwrap(),
        "--hook",
        hook.to_str().unwrap(),
    ];
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut running = command(&image, &disk.path, &more)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = String::new();
        let mut lines = BufReader::new(running.stderr.take().unwrap());
        while !told.contains("at work") {
            assert!(lines.read_line(&mut told).unwrap() > 0, "{told}");
        }
        kill(Pid::from_raw(running.id().cast_signed()), signal).unwrap();
        lines.read_to_string(&mut told).unwrap();
        let ended = running.wait().unwrap();
        assert_eq!(ended.code(), Some(1), "{told}");
        assert!(told.contains("ended by a signal"), "{told}");
        // When it has ended, and not a moment later.
        assert_eq!(busy_loop_of(&disk.path).unwrap(), None);
        assert!(!disk.boots());
    }
    let again = command(&image, &disk.path, &more[..2]).output().unwrap();
    assert!(again.status.success(), "{}", said(&again));
    assert_whole(&golden, &disk);
}
