//! `pitstop tree shell` by the real command: name servers in a tree, and what is left when it is ended. As root.

mod common;

use common::{fails, run, text};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
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
