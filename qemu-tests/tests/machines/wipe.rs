//! Disks that are wiped, and what the share is told of it.

use anyhow::{Context, Result, ensure};
use qemu_tests::disks::Disk;
use qemu_tests::scene::{Scene, expect_failure, expect_success};
use qemu_tests::vm::{Bus, End, PATIENCE, Vm};
use std::fs;

/// The record of the only wipe of this machine.
fn record(scene: &Scene) -> Result<String> {
    let record = fs::read_dir(scene.folder())?
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().starts_with("wipe-"))
        .context("there is no record of the wipe")?;
    Ok(fs::read_to_string(record.path())?)
}

fn is_zero(disk: &Disk) -> Result<bool> {
    let bytes = fs::read(disk.path())?;
    Ok(bytes == vec![0; bytes.len()])
}

#[test]
fn zeros_are_written_over_the_disk_that_is_named_and_no_other() -> Result<()> {
    let scene = Scene::new()?;
    let other = Disk::noise(8 << 20, 31)?;
    let kept = other.digest()?;
    scene.job(
        "wipe",
        "method = \"zero\"\ndisks = [{ serial = \"SCENE0\" }]",
    )?;
    let spec = scene.spec("wipe-zero")?.disk(&other, Bus::Virtio, "OTHER");
    let mut vm = Vm::start(spec)?;
    vm.sees("wipe (zero)")?;
    expect_success(&mut vm, "wipe")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);
    ensure!(is_zero(&scene.disk)?, "the disk is not all zeros");
    ensure!(other.digest()? == kept, "the other disk was written to");
    ensure!(!scene.configuration().exists());
    let record = record(&scene)?;
    for part in [
        "result = \"ok\"",
        "serial = \"SCENE0\"",
        "method = \"zero\"",
    ] {
        ensure!(record.contains(part), "no {part} in:\n{record}");
    }
    let plan = fs::read_to_string(scene.folder().join("plan.json"))?;
    ensure!(plan.contains("\"wipe\""), "{plan}");
    Ok(())
}

#[test]
fn an_nvme_drive_erases_itself_and_a_virtio_disk_cannot() -> Result<()> {
    let scene = Scene::new()?;
    let drive = Disk::noise(16 << 20, 32)?;
    let job = "method = \"secure\"\ndisks = [{ serial = \"NVME0001\" }]";
    scene.job("wipe", job)?;
    let spec = scene
        .spec("wipe-secure")?
        .disk(&drive, Bus::Nvme, "NVME0001");
    let mut vm = Vm::start(spec)?;
    expect_success(&mut vm, "wipe")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);
    ensure!(is_zero(&drive)?, "the drive still holds something");
    let told = record(&scene)?;
    ensure!(told.contains("NVMe Format with user data erase"), "{told}");
    scene.disk_untouched()?;

    // Both are asked for; what one cannot do must not begin on the other.
    let drive = Disk::noise(16 << 20, 33)?;
    let before = drive.digest()?;
    scene.job("wipe", "method = \"secure\"")?;
    let spec = scene
        .spec("wipe-cannot")?
        .disk(&drive, Bus::Nvme, "NVME0001");
    let mut vm = Vm::start(spec)?;
    expect_failure(&mut vm, "wipe", &["/dev/vda", "cannot be erased securely"])?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);
    ensure!(
        drive.digest()? == before,
        "nothing may be wiped in its place"
    );
    scene.disk_untouched()
}
