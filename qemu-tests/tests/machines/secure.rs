//! Secure Boot as machines are sold: Microsoft's keys in the firmware, nothing enrolled, nothing of ours signed.

use anyhow::{Result, ensure};
use qemu_tests::compare;
use qemu_tests::scene::image_of;
use qemu_tests::servers::{Dnsmasq, Namespace, Server};
use qemu_tests::shim;
use qemu_tests::vm::{Boot, Bus, End, Network, PATIENCE, Spec, Vm};
use std::fs;

const MAC: &str = "52:54:00:77:01:21";
const ADDRESS: &str = "10.77.0.21";

/// PXE, shim, GRUB, Debian's kernel, the job; then home by the restored disk's own shim, because the server tells the firmware
/// that there is nothing to load.
#[test]
fn a_machine_as_it_is_sold_is_restored_and_goes_home() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("root");
    fs::create_dir(&root)?;
    fs::write(
        root.join("fleet.toml"),
        format!(
            "version = 1\n[network.\"10.77.0.0/24\"]\n[host.sold]\nmac = \"{MAC}\"\nip = \"{ADDRESS}\"\n"
        ),
    )?;
    let network = Namespace::new()?;
    network.tap("tap0")?;
    let server = Server::start_with_dhcp(&root, &network, "server")?;
    // On its way home the firmware asks who boots it over IPv6: where nobody gives addresses, it asks for minutes.
    let beside = network.beside()?;
    beside.add_ipv6()?;
    let range = "--dhcp-range=2001:db8:77::50,2001:db8:77::60,64,1h";
    let _addresses = Dnsmasq::run(&beside, &["--enable-ra", range])?;
    let disk = shim::disk()?;
    let image = server.share().join(ADDRESS).join("vda.raw.gz");
    image_of(&disk, &image)?;
    disk.wreck()?;
    server.host(&["set", MAC, "restore"])?;
    let spec = Spec::new("secure", Boot::OvmfAsSold)
        .memory(768)
        .network(Network::Tap {
            namespace: network.path(),
            interface: "tap0".into(),
            mac: MAC.into(),
        })
        .disk(&disk, Bus::Virtio, "SOLD0001")
        .keep_going();
    let mut vm = Vm::start(spec)?;
    // Without the lockdown nothing here is proven.
    vm.sees("Kernel is locked down from EFI Secure Boot")?;
    vm.sees("pitstop: result ok restore")?;
    vm.wait_for_reset(PATIENCE)?;
    // By the entry that the restore made.
    vm.sees("\"UEFI vda\" from HD(1,GPT,")?;
    vm.sees(shim::HOME)?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::PowerOff);
    compare::zcat_equals(&image, disk.path())
}
