//! Hardware besides virtio, and hardware that comes late.

use anyhow::{Result, ensure};
use qemu_tests::compare;
use qemu_tests::disks::Disk;
use qemu_tests::paths;
use qemu_tests::scene::{Scene, expect_success, full_payload, shell_works};
use qemu_tests::tools;
use qemu_tests::vm::{Bus, End, Network, PATIENCE, Vm};
use serde_json::json;
use std::process::Command;

/// What the driver of QEMU's `i82551` asks for when the card is switched on, in vain: Debian has it in non-free-firmware alone.
const LACKING: &str = "did not come up: its driver e100 asked for the firmware e100/d102e_ucode.bin, which is not in this image";

#[test]
fn sata_and_nvme_disks_behind_an_intel_nic_beside_one_without_its_firmware() -> Result<()> {
    let mut list = Command::new(paths::built("mkimage")?);
    let list = tools::output(list.arg("list").arg(paths::built("initramfs.img")?))?;
    ensure!(
        !list.contains("d102e_ucode"),
        "the image has the card's firmware: `make image` found it in /lib/firmware"
    );
    let scene = Scene::new()?;
    scene.job("backup", "")?;
    let (sata, nvme) = (Disk::noise(8 << 20, 13)?, Disk::noise(8 << 20, 14)?);
    let mut spec = scene.spec("sata-nvme")?.network(Network::None);
    spec.boot = full_payload(&format!("pitstop.host={}", scene.url("/hosts/")))?;
    spec.disks.clear();
    let spec = spec
        .disk(&sata, Bus::Sata, "SATA0001")
        .disk(&nvme, Bus::Nvme, "NVME0001")
        .extra(&[
            "-netdev",
            "user,id=wire",
            "-device",
            "e1000e,id=card,netdev=wire,romfile=",
            "-device",
            "i82551,romfile=",
        ]);
    // The one card has its cable when the other has been tried: else the machine may have its address before.
    let mut vm = Vm::start(spec.extra(&["-S"]))?;
    vm.unplug_cable("card")?;
    vm.goes_on()?;
    let told = vm.sees(LACKING)?;
    ensure!(told.contains("switching eth"), "{told}");
    vm.plug_cable_in("card")?;
    let told = vm.sees(LACKING)?;
    ensure!(
        told.contains("warning: the network card") && told.contains("FIRMWARE=misc-nonfree"),
        "{told}"
    );
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    compare::zcat_equals(&scene.folder().join("sda.raw.gz"), sata.path())?;
    compare::zcat_equals(&scene.folder().join("nvme0n1.raw.gz"), nvme.path())
}

#[test]
fn a_disk_that_comes_late_is_waited_for() -> Result<()> {
    let scene = Scene::new()?;
    scene.job("backup", "disks = [{ serial = \"LATE0001\" }]")?;
    let late = Disk::noise(8 << 20, 15)?;
    let drive = format!("if=none,id=late,format=raw,file={}", late.path().display());
    let spec = scene.spec("late-disk")?.extra(&[
        "-device",
        "pcie-root-port,id=port0,chassis=1",
        "-drive",
        &drive,
    ]);
    let mut vm = Vm::start(spec)?;
    // The machine is past its first look at the hardware when it has a network.
    vm.sees("10.0.2.15")?;
    let device =
        json!({"driver": "virtio-blk-pci", "drive": "late", "serial": "LATE0001", "bus": "port0"});
    vm.qmp.execute("device_add", &device)?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    compare::zcat_equals(&scene.folder().join("vdb.raw.gz"), late.path())?;
    scene.disk_untouched()
}

#[test]
fn a_machine_that_hangs_is_reset_by_its_watchdog() -> Result<()> {
    let scene = Scene::new()?;
    scene.job("rescue", "")?;
    let mut spec = scene.spec("watchdog")?;
    spec.boot = full_payload(&format!("pitstop.host={}", scene.url("/hosts/")))?;
    let mut vm = Vm::start(spec.extra(&["-device", "i6300esb"]))?;
    vm.sees("rescue")?;
    shell_works(&mut vm)?;
    let fed = "until ls -l /proc/1/fd | grep -q /dev/watchdog; do sleep 1; done";
    vm.console
        .type_line(&format!("{fed}; echo fed-$((6*7))-times"))?;
    vm.sees("fed-42-times")?;
    // A kernel that panics does nothing any more, and this one was not told to reboot.
    vm.console.type_line("echo c > /proc/sysrq-trigger")?;
    let fired = vm.qmp.wait_for("WATCHDOG", PATIENCE)?;
    ensure!(fired["action"] == "reset", "{fired}");
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    scene.disk_untouched()
}
