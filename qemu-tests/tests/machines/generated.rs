//! Configurations that `pitstop fleet generate` made, each proven by a boot: the server that it is for gives a machine
//! its address, its name and the right boot loader.

use anyhow::{Result, ensure};
use qemu_tests::generated::{Daemon, Generated};
use qemu_tests::scene::expect_success;
use qemu_tests::servers::{Namespace, Server};
use qemu_tests::vm::{Boot, End, Network, PATIENCE, Spec, Vm};
use std::fs;

const MAC: &str = "52:54:00:77:00:50";
const FLEET: &str = r#"version = 1
[network."10.77.0.0/24"]
router = "10.77.0.1"
dns = ["10.77.0.1"]
domain = "lab.example"
range = "10.77.0.150-10.77.0.199"
[group.lab3]
match = "lab3-*"
[host.lab3-01]
mac = ["52:54:00:77:00:50"]
ip = "10.77.0.50"
[host."lab3-[02-40]"]
mac = ["52:54:00:77:01:[02-40]"]
ip = "10.77.0.[102-140]"
"#;

/// What OVMF does when nothing can be booted.
const GAVE_UP: &str = "UEFI Interactive Shell";

/// A machine that knows nothing but its firmware does a job and says whom it took itself for.
fn boots(name: &str, daemon: Daemon, boot: &Boot) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let network = Namespace::new()?;
    network.tap("tap0")?;
    let server = Server::start_in(&folder.path().join("root"), Some(&network))?;
    fs::write(server.root().join("fleet.toml"), FLEET)?;
    let _daemon = Generated::start(daemon, &server, &network)?;
    server.host(&["set", "lab3-01", "refresh-info"])?;
    let start = || {
        let spec = Spec::new(name, boot.clone()).network(Network::Tap {
            namespace: network.path(),
            interface: "tap0".into(),
            mac: MAC.into(),
        });
        Vm::start(spec)
    };
    // OVMF waits five seconds for a server, and this computer may have other things to do.
    let mut tries = 1;
    let mut vm = loop {
        let mut vm = start()?;
        let came = vm
            .console
            .wait_for_any(&["pitstop: version", GAVE_UP], PATIENCE)?;
        if !came.contains(GAVE_UP) || tries == 5 {
            break vm;
        }
        tries += 1;
    };
    expect_success(&mut vm, "refresh-info")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    let own = server.share().join("10.77.0.50");
    for file in ["lab3-01", "0A4D0032", "testbox-info.txt"] {
        ensure!(own.join(file).is_file(), "{daemon:?} gave no {file}");
    }
    Ok(())
}

#[test]
fn dnsmasq_boots_seabios_with_ipxe() -> Result<()> {
    boots("generated-dnsmasq", Daemon::Dnsmasq, &Boot::SeaBios)
}

#[test]
fn isc_dhcpd_boots_uefi_over_pxe() -> Result<()> {
    boots("generated-dhcpd", Daemon::Dhcpd, &Boot::OvmfPxe)
}

#[test]
fn kea_boots_uefi_over_http() -> Result<()> {
    boots("generated-kea", Daemon::Kea, &Boot::OvmfHttp)
}
