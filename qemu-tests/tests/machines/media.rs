//! Boot media: the payload on a CD, on a USB stick, and as one UEFI program.

use anyhow::{Result, ensure};
use qemu_tests::compare;
use qemu_tests::disks::Disk;
use qemu_tests::media::{mkimage, mkimage_of};
use qemu_tests::paths::Payload;
use qemu_tests::scene::{Scene, expect_success, image_of};
use qemu_tests::servers::{Dnsmasq, Namespace};
use qemu_tests::tools::output;
use qemu_tests::vm::{Boot, Bus, End, Network, PATIENCE, Spec, Vm};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// A share for a stick: every machine gets the image of `golden`, once.
fn golden_share(folder: &Path, golden: &Disk) -> Result<PathBuf> {
    let share = folder.join("share");
    fs::create_dir_all(share.join("hosts"))?;
    fs::write(
        share.join("hosts/default.toml"),
        "version = 1\naction = \"restore\"\nimage = \"golden\"\nround = \"lab\"\non-success = \"poweroff\"\n",
    )?;
    image_of(golden, &share.join("golden/vda.raw.gz"))?;
    Ok(share)
}

#[test]
fn a_usb_stick_under_ovmf_serves_a_machine_without_a_network_and_is_no_target() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let golden = Disk::noise(8 << 20, 76)?;
    let disk = Disk::noise(8 << 20, 77)?;
    let share = golden_share(folder.path(), &golden)?;
    let image = folder.path().join("pitstop.iso");
    mkimage(
        "iso",
        "pitstop.menu=3",
        &[Path::new("--data"), &share],
        &image,
    )?;
    let before = fs::read(&image)?;
    let drive = format!("if=none,id=medium,format=raw,file={}", image.display());
    let stick = "usb-storage,drive=medium,bootindex=0";
    // QEMU's machines have neither a UUID nor a serial number, and this one has no card: something must tell it from others.
    let uuid = "7b3c5ad0-7a1e-4b63-9d57-000000000076";
    let spec = Spec::new("media-usb", Boot::Ovmf)
        .network(Network::None)
        .disk(&disk, Bus::Virtio, "MEDIA0")
        .extra(&["-uuid", uuid])
        .extra(&["-drive", &drive])
        .extra(&["-device", "qemu-xhci", "-device", stick]);
    let mut vm = Vm::start(spec)?;
    vm.sees("no network is used (ip=off); this machine is 02:00:00:00:00:76")?;
    vm.sees("menu: o starts by itself in ")?;
    expect_success(&mut vm, "restore")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::PowerOff);
    ensure!(disk.digest()? == golden.digest()?);

    // The share is its third partition. That the machine is through is noted there, and the filesystem is whole.
    let after = fs::read(&image)?;
    let entry = 446 + 2 * 16 + 8;
    let start = u32::from_le_bytes(after[entry..entry + 4].try_into()?);
    let (medium, data) = after.split_at(usize::try_from(start)? * 512);
    ensure!(
        *medium == before[..medium.len()],
        "the medium itself was written to"
    );
    let noted = b"finished = ";
    ensure!(data.windows(noted.len()).any(|part| part == noted));
    let filesystem = folder.path().join("data");
    fs::write(&filesystem, data)?;
    output(Command::new("fsck.exfat").arg("-n").arg(&filesystem))?;
    Ok(())
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
    let parameters = format!("pitstop.host={base}/hosts/");
    mkimage_of(Payload::Cloud, "uki", &parameters, &[], &image)?;
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
