//! Boot media: the payload on a CD, on a USB stick, and as one UEFI program.

use anyhow::{Result, ensure};
use qemu_tests::compare;
use qemu_tests::disks::Disk;
use qemu_tests::media::mkimage;
use qemu_tests::scene::{Scene, expect_success};
use qemu_tests::servers::{Dnsmasq, Namespace};
use qemu_tests::vm::{Boot, Bus, End, Network, PATIENCE, Spec, Vm};
use std::fs;
use std::path::{Path, PathBuf};

/// A medium with a host file that backs up to the scene's share.
fn medium(scene: &Scene, folder: &Path) -> Result<PathBuf> {
    let host = folder.join("host.toml");
    let share = scene.url("/share");
    fs::write(
        &host,
        format!("version = 1\naction = \"backup\"\nshare = \"{share}\"\nfailure-delay = \"2s\"\n"),
    )?;
    let image = folder.join("pitstop.iso");
    mkimage("iso", "", &[Path::new("--host-file"), &host], &image)?;
    Ok(image)
}

/// The machine of the scene, which boots from the medium that `device` attaches.
fn backs_up_from(name: &str, boot: Boot, device: &[&str]) -> Result<()> {
    let scene = Scene::new()?;
    let folder = tempfile::tempdir()?;
    let image = medium(&scene, folder.path())?;
    let before = qemu_tests::disks::digest(&image)?;
    let drive = format!("if=none,id=medium,format=raw,file={}", image.display());
    let spec = Spec::new(name, boot)
        .network(Network::None)
        .disk(&scene.disk, Bus::Virtio, "MEDIA0")
        .extra(&["-netdev", "user,id=wire"])
        .extra(&["-device", "virtio-net-pci,netdev=wire,romfile="])
        .extra(&["-drive", &drive])
        .extra(device);
    let mut vm = Vm::start(spec)?;
    vm.sees("the host file is file:///run/medium/pitstop/host.toml")?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    compare::zcat_equals(&scene.image(), scene.disk.path())?;
    // The medium is no disk of the machine: neither in the backup nor written to.
    ensure!(!scene.folder().join("sda.raw.gz").exists());
    ensure!(qemu_tests::disks::digest(&image)? == before);
    scene.disk_untouched()
}

#[test]
fn a_cd_under_seabios_brings_its_job() -> Result<()> {
    let device = ["-device", "ide-cd,drive=medium,bootindex=0"];
    backs_up_from("media-cd", Boot::SeaBios, &device)
}

#[test]
fn a_usb_stick_under_ovmf_brings_its_job_and_is_no_target() -> Result<()> {
    let stick = "usb-storage,drive=medium,bootindex=0";
    let device = ["-device", "qemu-xhci", "-device", stick];
    backs_up_from("media-usb", Boot::Ovmf, &device)
}

#[test]
fn firmware_boots_the_unified_image_over_http() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let network = Namespace::new()?;
    network.tap("tap0")?;
    let root = folder.path().join("root");
    let server = qemu_tests::servers::Server::start_in(&root, Some(&network))?;
    let base = format!("http://{}:8080", Namespace::ADDRESS);
    let image = root.join("boot/pitstop.efi");
    mkimage("uki", &format!("pitstop.host={base}/hosts/"), &[], &image)?;
    let (mac, address) = ("52:54:00:77:00:51", "10.77.0.51");
    let url = format!("{base}/boot/pitstop.efi");
    let _dhcp = Dnsmasq::start(&network, mac, address, None, &url)?;
    server.host(&["set", address, "backup"])?;

    let disk = Disk::noise(8 << 20, 51)?;
    let spec = Spec::new("media-http", Boot::OvmfHttp)
        .memory(768)
        .network(Network::Tap {
            namespace: network.path(),
            interface: "tap0".into(),
            mac: mac.into(),
        })
        .disk(&disk, Bus::Virtio, "HTTP0001");
    let mut vm = Vm::start(spec)?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    let image = server.share().join(address).join("vda.raw.gz");
    compare::zcat_equals(&image, disk.path())
}
