//! SSH into a machine that the server knows. Needs root: the test's dropbear is given an `authorized_keys` of its own in a mount
//! namespace.

mod common;

use common::run;
use pitstop_testing::daemon::Daemon;
use pitstop_testing::ports::free_port;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

const RUN: &str = "20261128-213000-a1b2c3";

/// What stands for a machine in rescue: dropbear on the loopback.
struct Machine {
    folder: tempfile::TempDir,
    _dropbear: Daemon,
    port: u16,
    key: String,
}

fn program(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error} (the packages dropbear-bin and openssh-client)")
    });
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes a host key and returns its public half.
fn host_key(path: &Path) -> String {
    let path = path.to_str().unwrap();
    program(Command::new("dropbearkey").args(["-t", "ed25519", "-f", path]));
    let text = program(Command::new("dropbearkey").args(["-y", "-f", path]));
    let line = text.lines().find(|line| line.starts_with("ssh-ed25519 "));
    let words: Vec<&str> = line.unwrap().split(' ').take(2).collect();
    words.join(" ")
}

impl Machine {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let key = host_key(&at("host"));
        let user = at("user").display().to_string();
        program(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &user]));
        fs::create_dir(at("ssh")).unwrap();
        fs::set_permissions(at("ssh"), Permissions::from_mode(0o700)).unwrap();
        fs::copy(at("user.pub"), at("ssh/authorized_keys")).unwrap();
        fs::set_permissions(at("ssh/authorized_keys"), Permissions::from_mode(0o600)).unwrap();
        let port = free_port();
        // What other tests have mounted is theirs alone.
        let script = "awk '$2 ~ \"^/tmp/\" { print $2 }' /proc/self/mounts | while read -r point; do umount -l \"$point\" || true; done\n\
                      mkdir -p /root/.ssh; mount --bind \"$1/ssh\" /root/.ssh\n\
                      exec dropbear -F -E -s -P \"$1/pid\" -r \"$1/host\" -p \"127.0.0.1:$2\"";
        let mut dropbear = Command::new("unshare");
        dropbear
            .args(["-m", "sh", "-ec", script, "sh"])
            .arg(folder.path())
            .arg(port.to_string())
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let dropbear = Daemon::listening(&mut dropbear, port);
        let machine = Self {
            folder,
            _dropbear: dropbear,
            port,
            key,
        };
        machine.tells(&machine.key);
        machine
    }

    /// What the server has of the machine's run.
    fn tells(&self, key: &str) {
        let folder = self.folder.path().join("root/runs").join(RUN);
        fs::create_dir_all(&folder).unwrap();
        let summary = format!(
            "version = 1\nrun = \"{RUN}\"\nmachine = \"lab7\"\naddress = \"127.0.0.1\"\nhost-key = \"{key}\"\n\
             action = \"rescue\"\nbegan = \"2026-11-28T21:30:00Z\"\nended = \"2026-11-28T21:30:09Z\"\n"
        );
        fs::write(folder.join("run.toml"), summary).unwrap();
        let line = format!(
            "{{\"v\":1,\"run\":\"{RUN}\",\"seq\":1,\"time\":\"2026-11-28T21:30:00Z\",\"type\":\"log\",\"level\":\"info\",\
             \"text\":\"a word of it\"}}\n"
        );
        fs::write(folder.join("events.ndjson"), line).unwrap();
    }

    fn host(&self, command: &str, more: &[&str]) -> Output {
        let root = self.folder.path().join("root").display().to_string();
        run(&[&["host", command, "127.0.0.1", "--root", &root], more].concat())
    }

    fn run(&self, words: &[&str]) -> Output {
        let user = self.folder.path().join("user").display().to_string();
        let port = self.port.to_string();
        self.host("run", &[&["-i", &user, "-p", &port, "--"], words].concat())
    }
}

#[test]
fn a_machine_in_rescue_is_known_by_the_key_that_its_run_told() {
    let machine = Machine::start();
    let said = machine.run(&["echo", "a  b", "it's"]);
    assert!(said.status.success(), "{said:?}");
    assert_eq!(String::from_utf8_lossy(&said.stdout), "a  b it's\n");
    let line = machine.run(&["echo one | tr a-z A-Z; exit 3"]);
    assert_eq!(line.status.code(), Some(3), "{line:?}");
    assert_eq!(String::from_utf8_lossy(&line.stdout), "ONE\n");

    // Somebody else answers in its place.
    machine.tells(&host_key(&machine.folder.path().join("other")));
    let touched = machine.folder.path().join("touched");
    let refused = machine.run(&["touch", touched.to_str().unwrap()]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(255), "{why}");
    assert!(why.contains("Host key verification failed"), "{why}");
    assert!(!touched.exists());

    machine.tells("ssh-ed25519 nonsense");
    let none = machine.run(&["true"]);
    let why = String::from_utf8_lossy(&none.stderr).into_owned();
    assert_eq!(none.status.code(), Some(1), "{why}");
    assert!(why.contains("has told no SSH host key"), "{why}");
}

#[test]
fn the_log_of_a_machine_is_that_of_its_last_run() {
    let machine = Machine::start();
    let log = machine.host("log", &["-f"]);
    assert!(log.status.success(), "{log:?}");
    assert!(
        String::from_utf8_lossy(&log.stdout).contains("a word of it"),
        "{log:?}"
    );
    let root = machine.folder.path().join("root").display().to_string();
    let none = run(&["host", "log", "127.0.0.2", "--root", &root]);
    assert!(
        String::from_utf8_lossy(&none.stderr).contains("has reported no run"),
        "{none:?}"
    );
}
