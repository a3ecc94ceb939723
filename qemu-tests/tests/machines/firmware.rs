//! The main job on real firmware: backup, wreck, restore, and home to a disk that boots.

use anyhow::Result;
use qemu_tests::disks::Disk;
use qemu_tests::golden;
use qemu_tests::site::{Firmware, Site};
use qemu_tests::story::{Silence, Story};

fn story(name: &str, firmware: Firmware, memory_mib: u32) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let site = Site::new(&folder.path().join("root"), firmware)?;
    let original = golden::gpt()?;
    let disk = Disk::copy_of(&original)?;
    Story {
        name,
        site: &site,
        disk: &disk,
        original,
        memory_mib,
        teller: &Silence,
    }
    .run()
}

#[test]
fn seabios_with_ipxe_in_256_mb() -> Result<()> {
    story("seabios-ipxe", Firmware::SeaBiosIpxe, 256)
}

#[test]
fn seabios_with_pxelinux() -> Result<()> {
    story("seabios-pxelinux", Firmware::SeaBiosPxelinux, 512)
}

#[test]
fn ovmf_with_ipxe_in_256_mb() -> Result<()> {
    story("ovmf-ipxe", Firmware::OvmfIpxe, 256)
}
