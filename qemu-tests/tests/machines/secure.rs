//! Secure Boot as machines are sold: Microsoft's keys in the firmware, nothing enrolled, nothing of ours signed.

use anyhow::{Result, ensure};
use qemu_tests::compare;
use qemu_tests::media::build_for;
use qemu_tests::paths::Payload;
use qemu_tests::servers::{Dnsmasq, Namespace, Server};
use qemu_tests::shim;
use qemu_tests::tools;
use qemu_tests::vm::{Boot, Bus, End, Network, PATIENCE, Spec, Vm};
use std::fs;
use std::path::Path;

const MAC: &str = "52:54:00:77:01:21";
const ADDRESS: &str = "10.77.0.21";

/// PXE, shim, GRUB, Debian's kernel and the job, for a backup and for a restore; then home by the restored disk's own shim, because
/// the server tells the firmware that there is nothing to load.
#[test]
fn a_machine_as_it_is_sold_is_backed_up_restored_and_goes_home() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("root");
    fs::create_dir(&root)?;
    fs::write(
        root.join("fleet.toml"),
        format!(
            "version = 1\n[network.\"10.77.0.0/24\"]\n[host.sold]\nmac = \"{MAC}\"\nip = \"{ADDRESS}\"\n"
        ),
    )?;
    put_small_payload(&root.join("boot"))?;
    let network = Namespace::new()?;
    network.tap("tap0")?;
    let server = Server::start_with_dhcp(&root, &network, "server")?;
    // On its way home the firmware asks who boots it over IPv6: where nobody gives addresses, it asks for minutes.
    let beside = network.beside()?;
    beside.add_ipv6()?;
    let range = "--dhcp-range=2001:db8:77::50,2001:db8:77::60,64,1h";
    let _addresses = Dnsmasq::run(&beside, &["--enable-ra", range])?;
    let disk = shim::disk()?;
    let machine = |name| {
        let wire = Network::Tap {
            namespace: network.path(),
            interface: "tap0".into(),
            mac: MAC.into(),
        };
        let spec = Spec::new(name, Boot::OvmfAsSold).memory(768).network(wire);
        spec.disk(&disk, Bus::Virtio, "SOLD0001")
    };

    server.host(&["set", MAC, "backup"])?;
    let mut vm = Vm::start(machine("secure-backup"))?;
    works(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);
    let image = server.share().join(ADDRESS).join("vda.raw.gz");
    compare::zcat_equals(&image, disk.path())?;

    disk.wreck()?;
    server.host(&["set", MAC, "restore"])?;
    let mut vm = Vm::start(machine("secure").keep_going())?;
    works(&mut vm, "restore")?;
    vm.wait_for_reset(PATIENCE)?;
    // By the entry that the restore made.
    vm.sees("\"UEFI vda\" from HD(1,GPT,")?;
    vm.sees(shim::HOME)?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::PowerOff);
    compare::zcat_equals(&image, disk.path())
}

/// The delivered kernel with the drivers of this machine alone: over TFTP each kilobyte waits for an answer, on a busy computer for long.
fn put_small_payload(boot: &Path) -> Result<()> {
    fs::create_dir(boot)?;
    fs::copy(Payload::Debian.file("vmlinuz")?, boot.join("vmlinuz"))?;
    let mut mkimage = build_for(Payload::Debian, "virtio")?;
    mkimage.args(["--module", "efivarfs", "-o"]);
    tools::output(mkimage.arg(boot.join("initramfs.img")))?;
    Ok(())
}

/// Sees the machine do its job under lockdown: a kernel that the firmware has proven lets nothing past itself, neither modules that
/// its makers have not signed nor another kernel, nor looks into memory and ports (`man kernel_lockdown`). Without the line nothing
/// here is proven.
fn works(vm: &mut Vm, action: &str) -> Result<()> {
    vm.sees("Kernel is locked down from EFI Secure Boot")?;
    vm.sees(&format!("pitstop: result ok {action}"))?;
    Ok(())
}
