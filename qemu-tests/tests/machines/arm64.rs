//! Machines of arm64 and others off one server.

use anyhow::{Context, Result, bail, ensure};
use qemu_tests::compare;
use qemu_tests::disks::Disk;
use qemu_tests::golden;
use qemu_tests::media::mkimage_of;
use qemu_tests::paths::Payload;
use qemu_tests::servers::{Dnsmasq, Namespace, Server};
use qemu_tests::vm::{Boot, Bus, End, Network, PATIENCE, Spec, Vm};
use std::fs;
use std::path::PathBuf;

const SERVER: &str = "http://10.77.0.1:8080";

/// A server for machines of both architectures, beside a DHCP server that knows nothing of booting.
struct Lab {
    server: Server,
    network: Namespace,
    _addresses: (Dnsmasq, Namespace),
    /// Dropped last.
    _folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Result<Lab> {
        let folder = tempfile::tempdir()?;
        let root = folder.path().join("root");
        let boot = root.join("boot/arm64");
        fs::create_dir_all(&boot)?;
        for name in ["vmlinuz", "initramfs.img"] {
            fs::copy(Payload::Arm64Cloud.file(name)?, boot.join(name))?;
        }
        let parameters = format!("pitstop.host={SERVER}/hosts/");
        let program = boot.join("pitstop.efi");
        mkimage_of(Payload::Arm64Cloud, "uki", &parameters, &[], &program)?;
        let fleet = format!(
            "version = 1\n[server]\nloader-efi-arm64 = \"arm64/pitstop.efi\"\n\
             loader-http-arm64 = \"{SERVER}/boot/arm64/pitstop.efi\"\n"
        );
        fs::write(root.join("fleet.toml"), fleet)?;
        let network = Namespace::new()?;
        let server = Server::start_with_dhcp(&root, &network, "proxy")?;
        let beside = network.beside()?;
        let dnsmasq = Dnsmasq::run(&beside, &["--dhcp-range=10.77.0.50,10.77.0.60,1h"])?;
        Ok(Lab {
            server,
            network,
            _addresses: (dnsmasq, beside),
            _folder: folder,
        })
    }

    /// A machine with this last number in its card's address, and this job.
    fn machine(&self, name: &str, boot: Boot, number: u8, job: &[&str]) -> Result<Spec> {
        let mac = format!("52:54:00:77:02:{number:02x}");
        let interface = format!("tap{number}");
        self.network.tap(&interface)?;
        self.server.host(&[&["set", &mac], job].concat())?;
        let network = Network::Tap {
            namespace: self.network.path(),
            interface,
            mac,
        };
        Ok(Spec::new(name, boot).memory(1024).network(network))
    }

    /// The folder on the share of the machine whose console said its address so: `pitstop: eth0 is 10.77.0.50/24 by …`.
    fn folder(&self, said: &str) -> Result<PathBuf> {
        let (_, rest) = said.split_once("eth0 is ").context("no address")?;
        let (address, _) = rest.split_once('/').context("no prefix length")?;
        Ok(self.server.share().join(address))
    }

    fn said(&self, what: &str) -> Result<()> {
        let log = fs::read_to_string(self.server.root().join("serve.log"))?;
        ensure!(log.contains(what), "nothing of {what:?} in:\n{log}");
        Ok(())
    }
}

/// Sees the machine do its job; the folder of its image.
fn works(lab: &Lab, vm: &mut Vm, action: &str) -> Result<PathBuf> {
    let said = vm.sees("pitstop: eth0 is ")?;
    ensure!(said.contains("by DHCP from 10.77.0.2"), "{said}");
    vm.sees(&format!("pitstop: result ok {action}"))?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    lab.folder(&said)
}

/// Boots what is on the disk, without a network.
fn goes_home(name: &str, disk: &Disk) -> Result<()> {
    let spec = Spec::new(name, Boot::Aavmf).memory(1024);
    let spec = spec
        .network(Network::None)
        .disk(disk, Bus::Virtio, "GOLD0001");
    let mut vm = Vm::start(spec)?;
    vm.sees(golden::UP)?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::PowerOff);
    Ok(())
}

#[test]
fn one_server_serves_bios_uefi_and_arm64_and_brings_the_arm64_machine_home() -> Result<()> {
    let lab = Lab::new()?;
    let original = golden::arm64()?;
    let arm64 = Disk::copy_of(&original)?;
    let others = [Disk::noise(16 << 20, 21)?, Disk::noise(16 << 20, 22)?];
    // That of arm64 is the slowest by far: the first to start.
    let kinds = [
        (
            "mixed-arm64",
            Boot::Aavmf,
            &arm64,
            "UEFI arm64 is to load arm64/pitstop.efi from 10.77.0.1",
        ),
        (
            "mixed-bios",
            Boot::SeaBios,
            &others[0],
            "iPXE is to load http://10.77.0.1:8080/boot.ipxe",
        ),
        (
            "mixed-uefi",
            Boot::OvmfPxe,
            &others[1],
            "UEFI x86_64 is to load",
        ),
    ];
    let mut machines: Vec<Vm> = Vec::new();
    for (number, (name, boot, disk, _)) in (1..).zip(&kinds) {
        let spec = lab.machine(name, boot.clone(), number, &["backup"])?;
        let spec = spec.disk(disk, Bus::Virtio, "MIXED001");
        machines.push(match machines.first() {
            Some(first) => first.start_beside(spec)?,
            None => Vm::start(spec)?,
        });
    }
    // Read in the order in which they are done.
    let [vm, others @ ..] = machines.as_mut_slice() else {
        bail!("there are three machines");
    };
    for (vm, (_, _, disk, told)) in others.iter_mut().zip(&kinds[1..]) {
        let folder = works(&lab, vm, "backup")?;
        compare::zcat_equals(&folder.join("vda.raw.gz"), disk.path())?;
        lab.said(told)?;
    }
    let folder = works(&lab, vm, "backup")?;
    lab.said(kinds[0].3)?;
    let description = fs::read_to_string(folder.join("vda.raw.gz.toml"))?;
    ensure!(
        description.contains("path = '\\EFI\\BOOT\\BOOTAA64.EFI'"),
        "the image does not tell its loader:\n{description}"
    );
    let facts = fs::read_to_string(folder.join("testbox-info.txt"))?;
    ensure!(facts.contains("Firmware: UEFI"), "{facts}");
    // Its turn is over.
    drop(machines);

    arm64.wreck()?;
    let image = folder.file_name().context("a folder has a name")?;
    let job = ["restore", "--image", &image.to_string_lossy()];
    let spec = lab.machine("arm64-restore", Boot::AavmfHttp, 9, &job)?;
    let mut vm = Vm::start(spec.disk(&arm64, Bus::Virtio, "MIXED001"))?;
    works(&lab, &mut vm, "restore")?;
    lab.said(&format!(
        "UEFI arm64 over HTTP is to load {SERVER}/boot/arm64/pitstop.efi"
    ))?;
    drop(vm);
    compare::golden_disk(&original, arm64.path())?;
    goes_home("arm64-home", &arm64)
}
