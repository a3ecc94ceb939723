//! Machines without a job.

use anyhow::{Result, ensure};
use qemu_tests::disks::Disk;
use qemu_tests::golden;
use qemu_tests::site::{Firmware, Site};
use qemu_tests::vm::{End, PATIENCE, Vm};

/// The network boot hands the machine on to its own disk.
fn goes_home(name: &str, firmware: Firmware) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let site = Site::new(&folder.path().join("root"), firmware)?;
    let disk = Disk::copy_of(&golden::gpt()?)?;
    let mut vm = Vm::start(site.machine(name, &disk).memory(256))?;
    vm.sees("Pitstop: no job")?;
    vm.sees(golden::UP)?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::PowerOff);
    Ok(())
}

#[test]
fn without_a_job_under_seabios_with_ipxe() -> Result<()> {
    goes_home("local-seabios", Firmware::SeaBiosIpxe)
}

#[test]
fn without_a_job_under_seabios_with_pxelinux() -> Result<()> {
    goes_home("local-pxelinux", Firmware::SeaBiosPxelinux)
}

#[test]
fn without_a_job_under_ovmf_with_ipxe() -> Result<()> {
    goes_home("local-ovmf", Firmware::OvmfIpxe)
}
