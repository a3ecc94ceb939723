//! The BMC of a machine: `OpenIPMI`'s simulator. What it is told lies in files; whoever drives the machine does it, and
//! says what is.

use crate::servers::{Service, free_port};
use crate::tools;
use crate::vm::PATIENCE;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

pub const USER: &str = "admin";
pub const PASSWORD: &str = "hush-hush-7";

/// Stands for the mainboard: `get power` tells what is, `set power 1` notes what is wanted.
const BOARD: &str = "#!/bin/sh\nhere=$(dirname \"$0\")\nshift\nwhat=$1\nshift\ncase $what in\n\
                     get) echo \"$1:$(cat \"$here/is-$1\")\" ;;\nset) echo $2 > \"$here/wants-$1\" ;;\nesac\n";
const COMMANDS: &str = "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
                        sel_enable 0x20 1000 0x0a\nmc_enable 0x20\n";

/// It runs until dropped.
pub struct Bmc {
    _service: Service,
    folder: tempfile::TempDir,
    port: u16,
}

impl Bmc {
    /// Of a machine that runs, or does not.
    pub fn start(runs: bool) -> Result<Bmc> {
        let folder = tempfile::tempdir()?;
        let port = free_port()?;
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("state"))?;
        fs::write(path("board"), BOARD)?;
        fs::set_permissions(path("board"), fs::Permissions::from_mode(0o755))?;
        fs::write(path("is-power"), if runs { "1" } else { "0" })?;
        fs::write(path("is-boot"), "default")?;
        fs::write(path("commands"), COMMANDS)?;
        let configuration = format!(
            "name \"sim\"\nset_working_mc 0x20\nstartlan 1\n  addr 127.0.0.1 {port}\n  priv_limit admin\n  \
             allowed_auths_admin none md2 md5 straight\n  guid a123456789abcdefa123456789abcdef\nendlan\n\
             chassis_control \"{} 0x20\"\nuser 2 true \"{USER}\" \"{PASSWORD}\" admin 10 none md2 md5 straight\n",
            path("board").display()
        );
        fs::write(path("lan.conf"), configuration)?;
        let mut command = tools::command("ipmi_sim")?;
        command.arg("-n");
        for (option, name) in [("-c", "lan.conf"), ("-f", "commands"), ("-s", "state")] {
            command.arg(option).arg(path(name));
        }
        let mut service = Service::start(command, path("log"))?;
        let listens = format!(":{port:04X} 00000000:0000 07");
        service.wait_until("ipmi_sim", || {
            fs::read_to_string("/proc/net/udp").is_ok_and(|sockets| sockets.contains(&listens))
        })?;
        Ok(Bmc {
            _service: service,
            folder,
            port,
        })
    }

    /// What `power` is in a fleet file.
    pub fn url(&self) -> String {
        format!("ipmi://127.0.0.1:{}?cipher=3", self.port)
    }

    /// Waits until it is told to switch the machine on, or off.
    pub fn is_told(&self, on: bool) -> Result<()> {
        let wanted = if on { "1" } else { "0" };
        let began = Instant::now();
        while self.wants("power").unwrap_or_default() != wanted {
            ensure!(
                began.elapsed() < PATIENCE,
                "the BMC was not told to switch to {wanted}"
            );
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Tells it that the machine runs now, or does not.
    pub fn is_now(&self, on: bool) -> Result<()> {
        let path = self.folder.path().join("is-power");
        fs::write(&path, if on { "1" } else { "0" })
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Whether the next boot is to be from the network.
    pub fn next_boot_is_from_the_network(&self) -> bool {
        self.wants("boot").is_ok_and(|boot| boot == "pxe")
    }

    fn wants(&self, what: &str) -> Result<String> {
        let path = self.folder.path().join(format!("wants-{what}"));
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(text.trim().to_owned())
    }
}
