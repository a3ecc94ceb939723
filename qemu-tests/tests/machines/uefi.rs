//! Boot entries in a UEFI firmware: recorded by a backup, made anew by a restore.

use anyhow::{Result, ensure};
use qemu_tests::disks::Disk;
use qemu_tests::golden;
use qemu_tests::site::{Firmware, Site};
use qemu_tests::vm::{End, PATIENCE, Vm};
use std::fs;

/// What a disk without a model is called.
const ENTRY: &str = "UEFI vda";

/// Another machine restores the image: its firmware has never seen the disk.
#[test]
fn a_restored_disk_has_its_boot_entry_right_behind_the_network() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let site = Site::new(&folder.path().join("root"), Firmware::OvmfIpxe)?;
    let disk = Disk::copy_of(&golden::gpt()?)?;
    site.server.host(&["set", &site.address, "backup"])?;
    let mut vm = Vm::start(site.machine("uefi-backup", &disk))?;
    vm.sees("pitstop: result ok backup")?;
    vm.wait_for_reset(PATIENCE)?;
    drop(vm);
    let description = fs::read_to_string(site.folder().join("vda.raw.gz.toml"))?;
    ensure!(
        description.contains("path = '\\EFI\\BOOT\\BOOTX64.EFI'"),
        "the image does not tell its loader:\n{description}"
    );

    disk.wreck()?;
    site.server.host(&["set", &site.address, "restore"])?;
    let mut vm = Vm::start(site.machine("uefi-restore", &disk))?;
    vm.sees(&format!(
        "\"{ENTRY}\" for \\EFI\\BOOT\\BOOTX64.EFI on partition 1 is made"
    ))?;
    vm.sees("the firmware's boot order is ")?;
    vm.sees("pitstop: result ok restore")?;
    vm.wait_for_reset(PATIENCE)?;
    ensure!(
        vm.firmware_knows(ENTRY)?,
        "the entry is not in the firmware"
    );
    // The network is first still: it sends the machine home to its disk.
    vm.sees(golden::UP)?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::PowerOff);
    let log = fs::read_to_string(site.folder().join("maintenance.log"))?;
    ensure!(
        !log.contains("the kernel sees other partitions"),
        "the kernel's partitions are not the table's:\n{log}"
    );
    Ok(())
}
