//! A server that lets machines in by the token of their run alone.

use anyhow::{Result, ensure};
use qemu_tests::disks::Disk;
use qemu_tests::scene::{expect_success, payload};
use qemu_tests::servers::{Dnsmasq, Namespace, Server};
use qemu_tests::vm::{Bus, End, Network, PATIENCE, Spec, Vm};
use std::fs;

const MAC: &str = "52:54:00:77:03:01";
const ADDRESS: &str = "10.77.0.50";
const FLEET: &str =
    "version = 1\n[network.\"10.77.0.0/24\"]\n[host.lab-1]\nmac = \"52:54:00:77:03:01\"\n";

/// Does a job of the machine from its network boot to the reboot.
fn run(network: &Namespace, server: &Server, disk: &Disk, action: &str) -> Result<()> {
    server.host(&["set", "lab-1", action])?;
    let text = fs::read_to_string(server.hosts().join("01-52-54-00-77-03-01.toml"))?;
    ensure!(text.contains("\ntoken = "), "{text}");
    let interface = format!("tap{}", action.len());
    network.tap(&interface)?;
    let host = format!("pitstop.host=http://{}:8080/hosts/", Namespace::ADDRESS);
    let spec = Spec::new(&format!("token-{action}"), payload(&host)?)
        .disk(disk, Bus::Virtio, "TOKEN1")
        .network(Network::Tap {
            namespace: network.path(),
            interface,
            mac: MAC.into(),
        });
    let mut vm = Vm::start(spec)?;
    expect_success(&mut vm, action)?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    ensure!(
        fs::read_dir(server.hosts())?.next().is_none(),
        "the {action} is done, and its host file is still there"
    );
    Ok(())
}

#[test]
fn a_machine_backs_up_and_restores_by_the_token_in_its_host_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("root");
    fs::create_dir(&root)?;
    fs::write(root.join("fleet.toml"), FLEET)?;
    let network = Namespace::new()?;
    let range = format!("--dhcp-range={ADDRESS},{ADDRESS},1h");
    let _dnsmasq = Dnsmasq::run(&network, &[&range])?;
    let server = Server::start_strict(&root, &network)?;
    let disk = Disk::noise(16 << 20, 11)?;
    let before = disk.digest()?;
    run(&network, &server, &disk, "backup")?;
    let image = server.share().join(ADDRESS).join("vda.raw.gz");
    ensure!(image.is_file(), "there is no {}", image.display());
    run(&network, &server, &disk, "restore")?;
    ensure!(disk.digest()? == before, "the disk is not as it was");
    let log = fs::read_to_string(server.share().join("maintenance.log"))?;
    for action in ["backup", "restore"] {
        ensure!(log.contains(action), "{log}");
    }
    let others = log.lines().find(|line| !line.contains(ADDRESS));
    ensure!(
        others.is_none() && !log.contains("it sent the line"),
        "{log}"
    );
    Ok(())
}
