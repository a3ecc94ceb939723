//! A BMC in software for tests, driven by the real protocol: `OpenIPMI`'s simulator.

use crate::setting::Power;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What its user `admin` has for a password.
pub const PASSWORD: &str = "hush-hush-7";

/// What the simulator's configuration file is without its places.
const LEVELS: &str = "  priv_limit admin\n  allowed_auths_admin none md2 md5 straight\n";
const COMMANDS: &str = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
                        sel_enable 0x20 1000 0x0a\nmc_enable 0x20\n";

/// The simulator. A script stands for the machine's mainboard: it keeps the state in files.
pub struct IpmiSim {
    folder: tempfile::TempDir,
    port: u16,
    process: Child,
}

impl IpmiSim {
    /// `lies`: it takes every order and does nothing.
    pub fn start(lies: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        drop(socket);
        write(folder.path(), port, lies);
        let path = |name: &str| folder.path().join(name);
        let process = Command::new("ipmi_sim")
            .arg("-n")
            .arg("-c")
            .arg(path("lan.conf"))
            .arg("-f")
            .arg(path("commands"))
            .arg("-s")
            .arg(path("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("this test needs ipmi_sim: apt-get install openipmi ipmitool");
        let sim = Self {
            folder,
            port,
            process,
        };
        // No answer tells when it listens; the kernel's list of sockets does.
        let listens = format!(":{port:04X} 00000000:0000 07");
        let began = Instant::now();
        while !fs::read_to_string("/proc/net/udp")
            .unwrap()
            .contains(&listens)
        {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "the simulator does not listen"
            );
            thread::sleep(Duration::from_millis(20));
        }
        sim
    }

    /// What `power` in the fleet file is for it.
    pub fn url(&self) -> String {
        // Without it ipmitool asks what there is, and the simulator does not answer that.
        format!("ipmi://127.0.0.1:{}?cipher=3", self.port)
    }

    pub fn power(&self) -> Power {
        Power::parse(&self.url().into()).unwrap()
    }

    /// The file `power`, `boot` or `log`.
    pub fn says(&self, name: &str) -> String {
        let text = fs::read_to_string(self.folder.path().join(name));
        text.unwrap().trim().to_owned()
    }

    /// Sets what the mainboard is.
    pub fn set(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }
}

fn write(folder: &Path, port: u16, lies: bool) {
    let path = |name: &str| folder.join(name);
    fs::create_dir(path("state")).unwrap();
    let set = if lies {
        "true"
    } else {
        "echo $2 > \"$here/$1\""
    };
    let script = format!(
        "#!/bin/sh\nhere=$(dirname \"$0\")\necho \"$@\" >> \"$here/log\"\nshift\nwhat=$1\nshift\ncase $what in\n\
         get) echo \"$1:$(cat \"$here/$1\")\" ;;\nset) {set} ;;\nesac\n"
    );
    fs::write(path("board"), script).unwrap();
    fs::set_permissions(path("board"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(path("power"), "0").unwrap();
    fs::write(path("boot"), "default").unwrap();
    let config = format!(
        "name \"sim\"\nset_working_mc 0x20\nstartlan 1\n  addr 127.0.0.1 {port}\n{LEVELS}  \
         guid a123456789abcdefa123456789abcdef\nendlan\nchassis_control \"{} 0x20\"\n\
         user 2 true \"admin\" \"{PASSWORD}\" admin 10 none md2 md5 straight\n",
        path("board").display()
    );
    fs::write(path("lan.conf"), config).unwrap();
    fs::write(path("commands"), COMMANDS).unwrap();
}

impl Drop for IpmiSim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
