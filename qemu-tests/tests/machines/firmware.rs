//! The main job on real firmware: backup, wreck, restore, and home to a disk that boots.

use anyhow::{Result, ensure};
use qemu_tests::disks::Disk;
use qemu_tests::golden;
use qemu_tests::paths::Payload;
use qemu_tests::site::{Firmware, Site};
use qemu_tests::story::{Silence, Story};
use std::fs;

/// Runs the story of one machine and returns its site.
fn story(
    name: &str,
    firmware: Firmware,
    payload: Payload,
    memory_mib: u32,
    entry: Option<&str>,
) -> Result<(Site, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    let site = Site::new(&folder.path().join("root"), firmware, payload)?;
    let original = golden::gpt()?;
    let disk = Disk::copy_of(&original)?;
    Story {
        name,
        site: &site,
        disk: &disk,
        original,
        memory_mib,
        processors: 1,
        home_twice: false,
        entry,
        teller: &Silence,
    }
    .run()?;
    Ok((site, folder))
}

#[test]
fn seabios_with_ipxe_in_256_mb() -> Result<()> {
    let firmware = Firmware::SeaBiosIpxe;
    story("seabios-ipxe", firmware, Payload::Debian, 256, None).map(drop)
}

#[test]
fn seabios_with_pxelinux() -> Result<()> {
    let firmware = Firmware::SeaBiosPxelinux;
    story("seabios-pxelinux", firmware, Payload::Cloud, 512, None).map(drop)
}

/// The image tells of its loader, and the firmware that restores it, which has never seen the disk, gets the entry.
/// The network is first still: it sends the machine home.
#[test]
fn ovmf_with_ipxe_in_256_mb_where_the_disk_gets_its_boot_entry_behind_the_network() -> Result<()> {
    // What a disk without a model is called.
    let entry = Some("UEFI vda");
    let firmware = Firmware::OvmfIpxe;
    let (site, _folder) = story("ovmf-ipxe", firmware, Payload::Debian, 256, entry)?;
    let description = fs::read_to_string(site.folder().join("vda.raw.gz.toml"))?;
    ensure!(
        description.contains("path = '\\EFI\\BOOT\\BOOTX64.EFI'"),
        "the image does not tell its loader:\n{description}"
    );
    let log = fs::read_to_string(site.folder().join("maintenance.log"))?;
    let made = "\"UEFI vda\" for \\EFI\\BOOT\\BOOTX64.EFI on partition 1 is made";
    ensure!(log.contains(made), "nothing of the entry in:\n{log}");
    ensure!(
        !log.contains("the kernel sees other partitions"),
        "the kernel's partitions are not the table's:\n{log}"
    );
    Ok(())
}
