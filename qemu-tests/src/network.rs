//! What a machine's NIC is plugged into.

use crate::arch::Architecture;
use crate::servers::Namespace;
use crate::tools;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// A network as QEMU reaches it.
#[derive(Debug, Clone)]
pub enum Network {
    /// No NIC at all.
    None,
    /// QEMU's own network: DHCP with this boot file name, TFTP from this folder.
    User {
        bootfile: Option<String>,
        tftp: Option<PathBuf>,
    },
    /// A tap device in a network namespace, which [`Namespace::tap`] made.
    Tap {
        namespace: PathBuf,
        interface: String,
        mac: String,
    },
}

impl Network {
    pub fn user() -> Network {
        Network::User {
            bootfile: None,
            tftp: None,
        }
    }

    /// QEMU where it reaches the network.
    pub(crate) fn qemu(&self, architecture: Architecture) -> Result<Command> {
        match self {
            Network::Tap { namespace, .. } => Namespace::command_in(namespace, architecture.qemu()),
            _ => tools::command(architecture.qemu()),
        }
    }

    /// QEMU's backend of this name for it.
    pub(crate) fn backend(&self, id: &str) -> Option<String> {
        match self {
            Network::None => None,
            Network::User { bootfile, tftp } => {
                let mut backend = format!("user,id={id}");
                if let Some(bootfile) = bootfile {
                    backend.push_str(",bootfile=");
                    backend.push_str(bootfile);
                }
                if let Some(tftp) = tftp {
                    backend.push_str(",tftp=");
                    backend.push_str(&tftp.to_string_lossy());
                }
                Some(backend)
            }
            Network::Tap { interface, .. } => Some(format!(
                "tap,id={id},ifname={interface},script=no,downscript=no"
            )),
        }
    }

    /// The address that the machine's NIC has to have there.
    pub(crate) fn mac(&self) -> Option<&str> {
        match self {
            Network::Tap { mac, .. } => Some(mac),
            _ => None,
        }
    }
}
