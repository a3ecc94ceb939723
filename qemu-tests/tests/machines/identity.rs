//! The right disk: what a disk says of itself counts, not what it is called at this boot.

use anyhow::{Result, ensure};
use qemu_tests::disks::Disk;
use qemu_tests::scene::{Scene, expect_success};
use qemu_tests::vm::{Bus, End, PATIENCE, Vm};

#[test]
fn disks_that_changed_places_are_restored_by_serial() -> Result<()> {
    let scene = Scene::with(Disk::noise(8 << 20, 21)?)?;
    let first = &scene.disk;
    let second = Disk::noise(8 << 20, 22)?;
    let (before_first, before_second) = (first.digest()?, second.digest()?);
    let plugged = |name: &str, disks: [(&Disk, &str); 2]| -> Result<Vm> {
        let mut spec = scene.spec(name)?;
        spec.disks.clear();
        for (disk, serial) in disks {
            spec = spec.disk(disk, Bus::Virtio, serial);
        }
        Vm::start(spec)
    };

    scene.job("backup", "")?;
    let mut vm = plugged("swap-backup", [(first, "FIRST01"), (&second, "SECOND02")])?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);

    first.wreck()?;
    second.wreck()?;
    scene.job("restore", "")?;
    let mut vm = plugged("swap-restore", [(&second, "SECOND02"), (first, "FIRST01")])?;
    let line = vm.sees("write vdb.raw.gz to ")?;
    ensure!(line.contains("vda (serial SECOND02"), "{line}");
    expect_success(&mut vm, "restore")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);
    ensure!(first.digest()? == before_first, "the first disk");
    ensure!(second.digest()? == before_second, "the second disk");
    Ok(())
}
