//! `pitstop power` and `host set --power` from outside. The BMC is `OpenIPMI`'s simulator; what wakes is caught in a network
//! of its own.

mod common;

use common::pitstop;
use pitstop_power::fake::{IpmiSim, PASSWORD};
use pitstop_testing::running::Running;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

struct Lab(tempfile::TempDir);

impl Lab {
    fn new(fleet: &str) -> Self {
        let lab = Self(tempfile::tempdir().unwrap());
        fs::write(lab.path("fleet.toml"), format!("version = 1\n{fleet}")).unwrap();
        lab.credentials(0o600);
        fs::create_dir(lab.path("share")).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn credentials(&self, mode: u32) {
        let path = self.path("credentials.toml");
        fs::write(
            &path,
            format!("[default]\nuser = \"admin\"\npassword = \"{PASSWORD}\"\n"),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn run(&self, words: &[&str]) -> Output {
        let output = pitstop()
            .args(words)
            .arg("--root")
            .arg(self.0.path())
            .env(
                "PATH",
                format!(
                    "{}:{}",
                    self.0.path().display(),
                    std::env::var("PATH").unwrap()
                ),
            )
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = format!("{output:?}");
        assert!(!said.contains("hush"), "{said}");
        output
    }

    #[track_caller]
    fn does(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn fails(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn machines_are_switched_side_by_side_and_the_ones_that_fail_are_named() {
    let bmc = IpmiSim::start(false);
    let lab = Lab::new(&format!(
        "[base]\npower = {:?}\n[group.g]\nmatch = \"a*\"\n[host.a1]\n[host.a2]\npower = \"none\"\n[host.a3]\npower = \"wol\"\n\
         [host.a4]\nmac = \"52:54:00:12:34:56\"\npower = [\"sh\", \"-c\", \"echo it is $1\", \"sh\", \"{{act}}\"]\n[host.b1]\n",
        bmc.url()
    ));
    // The real ipmitool, with its arguments written down: passwords have no place there.
    executable(
        &lab.path("ipmitool"),
        &format!(
            "#!/bin/sh\necho \"$@\" >> '{}'\nexec /usr/bin/ipmitool \"$@\"\n",
            lab.path("arguments").display()
        ),
    );
    assert_eq!(lab.does(&["power", "a1", "status"]), "a1  off\n");
    assert_eq!(lab.does(&["power", "a1", "on"]), "a1  on\n");
    assert_eq!(lab.does(&["power", "a4", "off"]), "a4  off\n");
    assert_eq!(
        lab.does(&["power", "a1", "pxe"]),
        "a1  boots from the network next\n"
    );
    assert_eq!(
        (bmc.says("power").as_str(), bmc.says("boot").as_str()),
        ("1", "pxe")
    );
    let output = lab.run(&["power", "@g", "off"]);
    assert_eq!(output.status.code(), Some(1));
    let (said, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        said.contains("a1  off\n") && said.contains("a4  off\n"),
        "{said}"
    );
    for words in [
        "a2: power = \"none\" cannot do off: this machine is switched by hand",
        "a3: Wake-on-LAN cannot do off: it only wakes",
        "pitstop: error: 2 of 4 failed: a2, a3",
    ] {
        assert!(errors.contains(words), "{words}: {errors}");
    }
    let output = lab.run(&["power", "a1,a2", "52:54:00:12:34:56", "on", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&json[0]["power"], &json[1]["power"], &json[2]["name"]),
        (&"on".into(), &serde_json::Value::Null, &"a4".into())
    );
    assert!(
        json[1]["error"].as_str().unwrap().contains("by hand"),
        "{json}"
    );
    let arguments = fs::read_to_string(lab.path("arguments")).unwrap();
    assert!(
        arguments.contains("chassis bootdev pxe") && !arguments.contains("hush"),
        "{arguments}"
    );
    for (words, what) in [
        (
            &["power", "status"][..],
            "nothing says which machine does status",
        ),
        (&["power", "a1"], "there are on, off, cycle"),
        (&["power", "a1", "reset"], "there are on, off, cycle"),
        (&["power", "a1", "on", "--all"], "none is named beside"),
    ] {
        let output = lab.run(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(2) && errors.contains(what),
            "{errors}"
        );
    }
    assert!(
        lab.fails(&["power", "zzz", "on"])
            .contains("no machine is named zzz")
    );
}

#[test]
fn a_credentials_file_that_others_may_read_stops_everything() {
    let lab = Lab::new("[host.a]\nmac = \"52:54:00:12:34:56\"\n");
    lab.credentials(0o640);
    let errors = lab.fails(&["power", "a", "on"]);
    let file = lab.path("credentials.toml");
    assert!(
        errors.contains(&format!("chmod 600 {}", file.display())),
        "{errors}"
    );
}

#[test]
fn a_job_brings_its_machines_to_the_network_boot_that_begins_it() {
    let bmc = IpmiSim::start(false);
    let lab = Lab::new(&format!(
        "[network.\"10.0.2.0/24\"]\n[host.a]\nip = \"10.0.2.15\"\npower = {:?}\n[host.b]\nip = \"10.0.2.16\"\n",
        bmc.url()
    ));
    // What cannot be done is found before anything is.
    let errors = lab.fails(&["host", "set", "a", "b", "rescue", "--power", "cycle"]);
    assert!(
        errors.contains("b: Wake-on-LAN cannot do cycle"),
        "{errors}"
    );
    assert_eq!(fs::read_dir(lab.path("hosts")).unwrap().count(), 0);
    bmc.set("power", "1");
    let said = lab.does(&["host", "set", "a", "rescue", "--power", "cycle"]);
    assert!(
        said.contains("At its next network boot a (10.0.2.15) does: rescue")
            && said.ends_with("a  on\n"),
        "{said}"
    );
    assert!(lab.path("hosts/0A00020F.toml").exists());
    assert_eq!(
        (bmc.says("power").as_str(), bmc.says("boot").as_str()),
        ("1", "pxe")
    );
    let log = bmc.says("log");
    let mut orders: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("set power"))
        .collect();
    // On a busy computer the answer may come so late that ipmitool says it again.
    orders.dedup();
    assert_eq!(orders, ["0x20 set power 0", "0x20 set power 1"]);
    // A BMC that is gone: the job stays, and the failure is told.
    drop(bmc);
    let errors = lab.fails(&["host", "set", "a", "rescue", "--power", "on"]);
    assert!(
        errors.contains("the jobs are set, but not every machine is switched"),
        "{errors}"
    );
    assert!(lab.path("hosts/0A00020F.toml").exists());
}

/// A network namespace, and the other end of its only cable in another one.
struct Cable([String; 2]);

impl Cable {
    fn lay() -> Self {
        let id = std::process::id();
        let cable = Self([format!("psw{id}a"), format!("psw{id}b")]);
        let [near, far] = &cable.0;
        for name in [near, far] {
            ip(&["netns", "add", name]);
        }
        ip(&[
            "-n", near, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns",
            far,
        ]);
        for (name, address) in [(near, "10.77.0.1/24"), (far, "10.77.0.2/24")] {
            ip(&[
                "-n",
                name,
                "addr",
                "add",
                address,
                "broadcast",
                "10.77.0.255",
                "dev",
                "cable",
            ]);
            ip(&["-n", name, "link", "set", "cable", "up"]);
        }
        cable
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

fn ip(words: &[&str]) {
    let output = Command::new("ip")
        .args(words)
        .output()
        .expect("this test needs iproute2");
    assert!(
        output.status.success(),
        "{words:?}: {output:?}; namespaces need root"
    );
}

/// Prints the port and the bytes of each packet that comes, until two ports and both cards have been seen.
const LISTENER: &str = r"
import select, socket
sockets = []
for port in (7, 9):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(('', port))
    sockets.append(s)
print('ready', flush=True)
seen = set()
while len(seen) < 4:
    ready, _, _ = select.select(sockets, [], [], 120)
    if not ready:
        break
    for s in ready:
        seen.add((s.getsockname()[1], s.recv(2000).hex()))
for port, data in sorted(seen):
    print(port, data)
";

#[test]
fn a_magic_packet_reaches_the_network_of_the_machine() {
    let cable = Cable::lay();
    let [near, far] = &cable.0;
    let listener = Command::new("ip")
        .args(["netns", "exec", far, "python3", "-c", LISTENER])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut listener = Running::new(listener);
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(listener.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let lab = Lab::new(
        "[network.\"10.77.0.0/24\"]\n[host.a]\nip = \"10.77.0.2\"\nmac = [\"52:54:00:12:34:56\", \"52:54:00:12:34:57\"]\n",
    );
    let output = Command::new("ip")
        .args([
            "netns",
            "exec",
            near,
            env!("CARGO_BIN_EXE_pitstop"),
            "power",
            "a",
            "on",
            "--root",
        ])
        .arg(lab.0.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        said,
        "a  is sent a magic packet: nothing tells whether it wakes\n"
    );
    let packet = |mac: &str| format!("{}{}", "ff".repeat(6), mac.repeat(16));
    let expected: Vec<String> = ["7", "9"]
        .iter()
        .flat_map(|port| {
            ["525400123456", "525400123457"].map(|mac| format!("{port} {}", packet(mac)))
        })
        .collect();
    let seen: Vec<String> = lines.map(Result::unwrap).collect();
    listener.wait().unwrap();
    assert_eq!(seen, expected);
}
