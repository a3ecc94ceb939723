//! A BMC in software for tests, driven by the real protocol: `OpenIPMI`'s simulator.

use crate::setting::Power;
use pitstop_testing::daemon::Daemon;
use pitstop_testing::ports::free_port;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

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
    _process: Daemon,
}

impl IpmiSim {
    /// `lies`: it takes every order and does nothing.
    pub fn start(lies: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        write(folder.path(), port, lies);
        let path = |name: &str| folder.path().join(name);
        // Of the packages openipmi and ipmitool.
        let mut command = Command::new("ipmi_sim");
        command.arg("-n").arg("-c").arg(path("lan.conf"));
        command.arg("-f").arg(path("commands"));
        command.arg("-s").arg(path("state"));
        let mut process = Daemon::start(&mut command);
        // No answer tells when it listens; the kernel's list of sockets does.
        let listens = format!(":{port:04X} 00000000:0000 07");
        process.wait_until("ipmi_sim", || {
            let sockets = fs::read_to_string("/proc/net/udp").unwrap();
            sockets.contains(&listens)
        });
        Self {
            folder,
            port,
            _process: process,
        }
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
