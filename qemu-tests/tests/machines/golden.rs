//! The golden disks boot by themselves: what every later test takes for granted.

use anyhow::{Result, ensure};
use qemu_tests::disks::Disk;
use qemu_tests::golden;
use qemu_tests::vm::{Boot, Bus, End, Network, PATIENCE, Spec, Vm};
use std::path::Path;

fn boots(name: &str, original: &Path, boot: Boot) -> Result<()> {
    let disk = Disk::copy_of(original)?;
    let before = disk.digest()?;
    let spec = Spec::new(name, boot)
        .memory(256)
        .network(Network::None)
        .disk(&disk, Bus::Virtio, "GOLD");
    let mut vm = Vm::start(spec)?;
    vm.sees(golden::UP)?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::PowerOff);
    ensure!(
        disk.digest()? == before,
        "booting the golden disk changed it"
    );
    Ok(())
}

#[test]
fn golden_gpt_boots_under_seabios() -> Result<()> {
    boots("golden-gpt-seabios", &golden::gpt()?, Boot::SeaBios)
}

#[test]
fn golden_gpt_boots_under_ovmf() -> Result<()> {
    boots("golden-gpt-ovmf", &golden::gpt()?, Boot::Ovmf)
}

#[test]
fn golden_mbr_boots_under_seabios() -> Result<()> {
    boots("golden-mbr-seabios", &golden::mbr()?, Boot::SeaBios)
}
