//! The DHCP servers of a site as `pitstop fleet generate` sets them up.

use crate::paths;
use crate::servers::{Namespace, Server, Service};
use crate::tools;
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A DHCP server that has a format of `pitstop fleet generate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    Dnsmasq,
    Dhcpd,
    Kea,
}

impl Daemon {
    fn format(self) -> &'static str {
        match self {
            Daemon::Dnsmasq => "dnsmasq",
            Daemon::Dhcpd => "dhcpd",
            Daemon::Kea => "kea",
        }
    }

    /// What it says when it serves.
    fn ready(self) -> &'static str {
        match self {
            Daemon::Dnsmasq => "started",
            Daemon::Dhcpd => "Server starting service",
            Daemon::Kea => "DHCP4_STARTED",
        }
    }

    /// It in a network, with this configuration and nothing else of this computer's.
    fn command(self, network: &Namespace, configuration: &Path, folder: &Path) -> Result<Command> {
        let inside = |program| Namespace::command_in(&network.path(), program);
        let (leases, pid) = (folder.join("leases"), folder.join("pid"));
        Ok(match self {
            Daemon::Dnsmasq => {
                let mut command = inside("dnsmasq")?;
                command.args(["--keep-in-foreground", "--log-facility=-", "--port=0"]);
                command.args(["--user=root", "--interface=br0", "--bind-interfaces"]);
                command.arg(format!("--conf-file={}", configuration.display()));
                command.arg(format!("--dhcp-leasefile={}", leases.display()));
                command.arg(format!("--pid-file={}", pid.display()));
                command
            }
            Daemon::Dhcpd => {
                // It makes none itself.
                fs::write(&leases, "")?;
                let mut command = inside("dhcpd")?;
                command
                    .args(["-4", "-f", "-d"])
                    .arg("-cf")
                    .arg(configuration);
                command
                    .arg("-lf")
                    .arg(&leases)
                    .arg("-pf")
                    .arg(&pid)
                    .arg("br0");
                command
            }
            Daemon::Kea => {
                let mut command = inside("kea-dhcp4")?;
                command.env("KEA_PIDFILE_DIR", folder);
                command.env("KEA_LOCKFILE_DIR", folder);
                command.arg("-c").arg(configuration);
                command
            }
        })
    }
}

/// It runs until dropped.
pub struct Generated {
    _service: Service,
    _folder: tempfile::TempDir,
}

impl Generated {
    /// Makes the configuration of what the server's `fleet.toml` says, and starts the daemon with it.
    pub fn start(daemon: Daemon, server: &Server, network: &Namespace) -> Result<Generated> {
        let folder = tempfile::tempdir()?;
        let configuration = folder.path().join("configuration");
        let mut pitstop = Command::new(paths::built("pitstop")?);
        pitstop.args(["fleet", "generate", daemon.format(), "-o"]);
        pitstop.arg(&configuration).arg("--root").arg(server.root());
        tools::output(&mut pitstop)?;
        if daemon == Daemon::Kea {
            keep_leases_in(folder.path(), &configuration)?;
        }
        let log = folder.path().join("log");
        let command = daemon.command(network, &configuration, folder.path())?;
        let mut service = Service::start(command, log.clone())?;
        service
            .wait_until(daemon.format(), || {
                fs::read_to_string(&log).is_ok_and(|said| said.contains(daemon.ready()))
            })
            .with_context(|| format!("with {}", configuration.display()))?;
        Ok(Generated {
            _service: service,
            _folder: folder,
        })
    }
}

/// Kea is told in its configuration alone where its leases go, which is else a folder of this computer's.
fn keep_leases_in(folder: &Path, configuration: &Path) -> Result<()> {
    let mut kea: Value = serde_json::from_slice(&fs::read(configuration)?)?;
    kea["Dhcp4"]["lease-database"]["name"] = folder.join("leases").to_string_lossy().into();
    fs::write(configuration, kea.to_string())?;
    Ok(())
}
