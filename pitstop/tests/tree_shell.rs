//! `pitstop tree shell` by the real command: name servers in a tree, and what is left when it is ended. As root.

mod common;

use common::{fails, run, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const OURS: &str = "/etc/resolv.conf";

/// A tree of busybox, its image, and a folder to work in.
struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for folder in [
            "work",
            "system/bin",
            "system/etc",
            "system/usr/bin",
            "system/proc",
            "system/sys",
            "system/dev",
            "system/run",
            "system/tmp",
        ] {
            fs::create_dir_all(lab.at(folder)).unwrap();
        }
        fs::copy("/bin/busybox", lab.at("system/bin/busybox")).expect("install busybox-static");
        for program in ["bin/sh", "bin/cat", "bin/sleep", "bin/true", "usr/bin/env"] {
            symlink("/bin/busybox", lab.at(&format!("system/{program}"))).unwrap();
        }
        lab
    }

    fn at(&self, path: &str) -> String {
        self.folder.path().join(path).to_str().unwrap().to_owned()
    }

    fn capture(&self) {
        text(&run(&[
            "tree",
            "capture",
            &self.at("system"),
            &self.at("a.tar.gz"),
            "--force",
        ]));
    }

    fn arguments(&self, command: &[&str]) -> Vec<String> {
        let [image, to, work] = ["a.tar.gz", "b.tar.gz", "work"].map(|path| self.at(path));
        let own = [
            "tree", "shell", &image, "--to", &to, "--force", "--work", &work, "--",
        ];
        let all = own.iter().chain(command);
        all.map(|it| (*it).to_owned()).collect()
    }

    /// Runs it to its end.
    fn shell(&self, command: &[&str]) -> String {
        let arguments = self.arguments(command);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        text(&run(&arguments))
    }

    /// One that says when it has begun, and then goes on for long.
    fn begin(&self) -> (Child, BufReader<ChildStdout>) {
        let mut child = Command::new("env")
            // Whoever runs the tests in the background may have it ignore them.
            .args([
                "--default-signal=INT,TERM,HUP",
                env!("CARGO_BIN_EXE_pitstop"),
            ])
            .args(self.arguments(&["sh", "-c", "echo began; sleep 9999; echo over"]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        told.read_line(&mut line).unwrap();
        assert_eq!(line, "began\n");
        (child, told)
    }

    fn left(&self) -> usize {
        fs::read_dir(self.at("work")).unwrap().count()
    }
}

#[test]
fn a_tree_has_the_name_servers_of_this_computer_wherever_it_looks_for_them() {
    let ours = fs::read_to_string(OURS).unwrap();
    let lab = Lab::new();
    let file = lab.at("system/etc/resolv.conf");
    let look = || {
        lab.capture();
        assert_eq!(lab.shell(&["cat", OURS]), ours);
        // Nothing of it stays.
        assert_eq!(
            text(&run(&[
                "tree",
                "diff",
                &lab.at("a.tar.gz"),
                &lab.at("b.tar.gz")
            ])),
            ""
        );
    };
    look();
    for target in [
        "../run/systemd/resolve/stub-resolv.conf",
        "/run/resolv.conf",
    ] {
        symlink(target, &file).unwrap();
        look();
        fs::remove_file(&file).unwrap();
    }
    fs::write(lab.at("system/usr/servers"), "none\n").unwrap();
    symlink("/usr/servers", &file).unwrap();
    look();
    fs::remove_file(&file).unwrap();
    fs::write(&file, "none\n").unwrap();
    look();
}

#[test]
fn one_that_a_signal_ends_leaves_no_program_and_no_tree() {
    let lab = Lab::new();
    lab.capture();
    for signal in [
        Signal::SIGHUP,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGKILL,
    ] {
        let (child, mut told) = lab.begin();
        assert_eq!(lab.left(), 1);
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        // The pipe ends with the last program that has it.
        let (sender, ended) = channel();
        let reader = thread::spawn(move || {
            let mut rest = String::new();
            told.read_to_string(&mut rest).unwrap();
            let _ = sender.send(rest);
        });
        assert_eq!(ended.recv_timeout(PATIENCE).expect("it goes on"), "");
        reader.join().unwrap();
        let output = child.wait_with_output().unwrap();
        if signal == Signal::SIGKILL {
            assert_eq!(lab.left(), 1);
        } else {
            let error = fails(&output);
            assert!(
                error.contains("no version is made: it was ended by a signal"),
                "{error}"
            );
            assert_eq!(lab.left(), 0);
        }
        assert!(!fs::exists(lab.at("b.tar.gz")).unwrap());
    }
    // What the one that was killed has left, the next one removes.
    lab.shell(&["true"]);
    assert_eq!(lab.left(), 0);
}

#[test]
fn the_next_version_leaves_alone_what_the_one_before_did_and_keeps_what_it_kept() {
    let lab = Lab::new();
    fs::create_dir_all(lab.at("system/srv/data")).unwrap();
    fs::create_dir_all(lab.at("system/etc/ssh")).unwrap();
    fs::write(lab.at("system/srv/data/mine"), "mine").unwrap();
    let key = "system/etc/ssh/ssh_host_ed25519_key";
    fs::write(lab.at(key), "secret").unwrap();
    let (system, image, next) = (lab.at("system"), lab.at("a.tar.gz"), lab.at("b.tar.gz"));
    let excludes = || {
        let inspected = text(&run(&["tree", "inspect", &next, "--json"]));
        let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
        inspected["meta"]["excludes"].clone()
    };
    let capture = |more: &[&str]| {
        let own = ["tree", "capture", &system, &image, "--force"];
        text(&run(&[&own, more].concat()))
    };
    capture(&["--exclude", "/srv/*"]);
    lab.shell(&["sh", "-c", "echo new > /etc/ssh/ssh_host_rsa_key"]);
    assert_eq!(excludes(), serde_json::json!(["/srv/*"]));
    assert!(!text(&run(&["tree", "list", &next])).contains("ssh_host"));
    // What no version had, an update of one that was made so does not take away.
    let machine = lab.at("machine");
    text(&run(&["tree", "extract", &image, &machine]));
    fs::write(lab.at("machine/etc/fstab"), "").unwrap();
    fs::create_dir_all(lab.at("machine/srv/data")).unwrap();
    fs::write(lab.at("machine/srv/data/theirs"), "theirs").unwrap();
    text(&run(&[
        "tree",
        "update",
        &next,
        &machine,
        "--strangers",
        "delete",
    ]));
    assert!(fs::exists(lab.at("machine/srv/data/theirs")).unwrap());
    capture(&["--keep-identity"]);
    lab.shell(&["true"]);
    let listed = text(&run(&["tree", "list", &next]));
    assert!(listed.contains("ssh_host_ed25519_key"), "{listed}");
}

#[test]
fn nobody_else_gets_into_the_unpacked_tree() {
    let lab = Lab::new();
    lab.capture();
    let (mut child, _) = lab.begin();
    let work = fs::read_dir(lab.at("work")).unwrap().next().unwrap();
    let mode = work.unwrap().metadata().unwrap().permissions().mode();
    kill(
        Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    child.wait().unwrap();
    assert_eq!(mode & 0o7777, 0o700);
}

/// Two work in one tree at a time: who ends later has nothing of the other's.
#[test]
fn a_version_that_lacks_what_somebody_else_did_meanwhile_is_not_the_current_one() {
    let lab = Lab::new();
    fs::create_dir_all(lab.at("root/share")).unwrap();
    fs::write(lab.at("root/share/pitstop-share"), "").unwrap();
    let (root, work, system) = (lab.at("root"), lab.at("work"), lab.at("system"));
    let tree = |words: &[&str]| run(&[&["tree"], words, &["--root", &root]].concat());
    let current = || fs::read_to_string(lab.at("root/share/trees/web/current")).unwrap();
    text(&tree(&["import", &system, "web@1"]));
    let mut later = Command::new(env!("CARGO_BIN_EXE_pitstop"))
        .args([
            "tree", "shell", "web", "--to", "web@3", "--root", &root, "--work", &work,
        ])
        .args(["--", "sh", "-c", "echo began; cat; echo later > /etc/later"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(later.stdout.take().unwrap());
    told.read_line(&mut String::new()).unwrap();
    let shell = ["shell", "web", "--work", &work, "--root", &root];
    text(&run(&[
        &["tree"],
        &shell[..],
        &["--to", "web@2", "--", "sh", "-c", "echo 2 > /etc/two"],
    ]
    .concat()));
    assert_eq!(current(), "2\n");
    drop(later.stdin.take());
    let error = fails(&later.wait_with_output().unwrap());
    assert!(
        error.contains("web@3 is made of web@1, and web@2 became the current version meanwhile"),
        "{error}"
    );
    assert_eq!(current(), "2\n");
    assert_eq!(text(&tree(&["cat", "web@3", "/etc/later"])), "later\n");
    // Of an older one on purpose.
    text(&run(&[
        &["tree", "shell", "web@1", "--to", "web@4"],
        &shell[2..],
        &["--", "true"],
    ]
    .concat()));
    assert_eq!(current(), "4\n");
}
