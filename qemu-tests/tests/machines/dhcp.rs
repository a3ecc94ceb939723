//! Machines that boot by Pitstop's own DHCP to a shell.

use anyhow::{Context, Result, ensure};
use qemu_tests::servers::{Dnsmasq, Namespace, Server};
use qemu_tests::vm::{Boot, Network, Spec, Vm};
use std::fs;
use std::path::Path;

/// A network with a machine in it that has a job, by its card.
struct Lab {
    network: Namespace,
    server: Server,
    /// Dropped last.
    _folder: tempfile::TempDir,
}

impl Lab {
    /// `pitstop serve --dhcp MODE` with this fleet file.
    fn new(mode: &str, fleet: &str) -> Result<Lab> {
        let folder = tempfile::tempdir()?;
        let root = folder.path().join("root");
        fs::create_dir(&root)?;
        if !fleet.is_empty() {
            fs::write(root.join("fleet.toml"), format!("version = 1\n{fleet}"))?;
        }
        let network = Namespace::new()?;
        let server = Server::start_with_dhcp(&root, &network, mode)?;
        Ok(Lab {
            network,
            server,
            _folder: folder,
        })
    }

    /// Boots a machine with this last number in its card's address, which has to come to its shell; what its console
    /// said of its address.
    fn boots(&self, name: &str, boot: Boot, number: u8) -> Result<String> {
        let mac = format!("52:54:00:77:01:{number:02x}");
        let interface = format!("tap{number}");
        self.network.tap(&interface)?;
        self.server.host(&["set", &mac, "rescue"])?;
        let network = Network::Tap {
            namespace: self.network.path(),
            interface,
            mac,
        };
        let mut vm = Vm::start(Spec::new(name, boot).network(network))?;
        let address = vm.sees("pitstop: eth0 is ").with_context(|| {
            let log = self.log().unwrap_or_default();
            format!("{name} did not boot; the server said:\n{log}")
        })?;
        vm.sees("pitstop: result ok rescue")?;
        Ok(address)
    }

    fn log(&self) -> Result<String> {
        let log: &Path = &self.server.root().join("serve.log");
        fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))
    }

    fn said(&self, what: &str) -> Result<()> {
        let log = self.log()?;
        ensure!(log.contains(what), "nothing of {what:?} in:\n{log}");
        Ok(())
    }
}

/// Gives addresses and knows nothing of booting.
fn addresses(network: &Namespace) -> Result<(Dnsmasq, Namespace)> {
    let beside = network.beside()?;
    let dnsmasq = Dnsmasq::run(&beside, &["--dhcp-range=10.77.0.50,10.77.0.60,1h"])?;
    Ok((dnsmasq, beside))
}

/// The other kinds of firmware are those of the lab with machines of both architectures.
#[test]
fn beside_a_server_of_addresses_uefi_boots_over_http() -> Result<()> {
    let lab = Lab::new("proxy", "")?;
    let _dnsmasq = addresses(&lab.network)?;
    let address = lab.boots("proxy-http", Boot::OvmfHttp, 3)?;
    ensure!(address.contains("by DHCP from 10.77.0.2"), "{address}");
    let url = format!("http://{}:8080/boot/ipxe.efi", Namespace::ADDRESS);
    lab.said(&format!(
        "52:54:00:77:01:03 DHCP on br0: UEFI x86_64 over HTTP is to load {url}"
    ))
}

#[test]
fn as_the_only_server_it_gives_addresses_and_boots() -> Result<()> {
    // The way by shim, which takes longer, is that of machines as they are sold.
    let fleet = "[server]\nloader-efi-x64 = \"ipxe.efi\"\n\
         [network.\"10.77.0.0/24\"]\nrange = \"10.77.0.100-10.77.0.120\"\n\
         [host.named]\nmac = \"52:54:00:77:01:05\"\nip = \"10.77.0.20\"\n";
    let lab = Lab::new("server", fleet)?;
    let address = lab.boots("server-bios", Boot::SeaBios, 5)?;
    ensure!(
        address.contains("eth0 is 10.77.0.20/24 by DHCP from 10.77.0.1"),
        "{address}"
    );
    let address = lab.boots("server-efi", Boot::OvmfPxe, 6)?;
    ensure!(address.contains("eth0 is 10.77.0.1"), "{address}");
    // The loader, the boot loader and the system of a machine are one client to it.
    let leases = fs::read_to_string(lab.server.root().join("leases.toml"))?;
    ensure!(leases.matches("[[lease]]").count() == 1, "{leases}");
    Ok(())
}
