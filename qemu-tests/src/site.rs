//! A site as an admin has it: a server, a network that boots from it, and a machine with a golden disk.

use crate::disks::Disk;
use crate::paths::Payload;
use crate::servers::{Dnsmasq, Namespace, Server, put_payload};
use crate::tools;
use crate::vm::{self, Boot, Bus, Network, Spec};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;

const MAC: &str = "52:54:00:77:00:50";
const INTERFACE: &str = "tap0";

/// How machines of a site get at their first program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// `SeaBIOS` and the iPXE in the NIC's ROM, which fetches a script over HTTP.
    SeaBiosIpxe,
    /// `SeaBIOS`, a plain PXE ROM's DHCP and TFTP, `pxelinux.0`.
    SeaBiosPxelinux,
    /// OVMF and the iPXE in the NIC's ROM.
    OvmfIpxe,
}

/// Everything but the machine itself.
pub struct Site {
    pub server: Server,
    /// The machine's address: names its job and its folder on the share.
    pub address: String,
    boot: Boot,
    network: Network,
    /// Dropped last: the programs run in it.
    _network: Option<(Dnsmasq, Namespace)>,
}

impl Site {
    /// A site whose server keeps its files under `root` and has this payload for its machines.
    pub fn new(root: &Path, firmware: Firmware, payload: Payload) -> Result<Site> {
        put_payload(payload, root)?;
        match firmware {
            Firmware::SeaBiosIpxe => Site::behind_qemu(root, Boot::SeaBios),
            Firmware::OvmfIpxe => Site::behind_qemu(root, Boot::Ovmf),
            Firmware::SeaBiosPxelinux => Site::with_dhcp_and_tftp(root),
        }
    }

    fn behind_qemu(root: &Path, boot: Boot) -> Result<Site> {
        let server = Server::start_in(root, None)?;
        let bootfile = format!("http://{}:{}/boot.ipxe", vm::HOST, server.port());
        let network = Network::User {
            bootfile: Some(bootfile),
            tftp: None,
        };
        Ok(Site {
            server,
            address: vm::ADDRESS.into(),
            boot,
            network,
            _network: None,
        })
    }

    fn with_dhcp_and_tftp(root: &Path) -> Result<Site> {
        let address = "10.77.0.50";
        let namespace = Namespace::new()?;
        namespace.tap(INTERFACE)?;
        let dnsmasq = Dnsmasq::start(&namespace, MAC, address, Some("goldie"), "pxelinux.0")?;
        let boot = root.join("boot");
        fs::create_dir_all(&boot)?;
        let modules = "/usr/lib/syslinux/modules/bios";
        for (source, package) in [
            ("/usr/lib/PXELINUX/pxelinux.0".to_owned(), "pxelinux"),
            (format!("{modules}/ldlinux.c32"), "syslinux-common"),
            (format!("{modules}/libutil.c32"), "syslinux-common"),
            (format!("{modules}/libcom32.c32"), "syslinux-common"),
        ] {
            let source = tools::packaged(&source, package)?;
            let name = source.file_name().context("a file has a name")?;
            fs::copy(&source, boot.join(name))?;
        }
        let server = Server::start_in(root, Some(&namespace))?;
        let network = Network::Tap {
            namespace: namespace.path(),
            interface: INTERFACE.into(),
            mac: MAC.into(),
        };
        Ok(Site {
            server,
            address: address.into(),
            boot: Boot::SeaBios,
            network,
            _network: Some((dnsmasq, namespace)),
        })
    }

    /// A machine that boots from the network first, then from this disk, and whose reboots happen.
    pub fn machine(&self, name: &str, disk: &Disk) -> Spec {
        Spec::new(name, self.boot.clone())
            .network(self.network.clone())
            .disk(disk, Bus::Virtio, "GOLD0001")
            .keep_going()
    }

    /// The machine's folder on the share.
    pub fn folder(&self) -> std::path::PathBuf {
        self.server.share().join(&self.address)
    }
}
