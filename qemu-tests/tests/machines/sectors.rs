//! Drives that were formatted to other sectors since their backup: what can be used there is restored by serial.

use anyhow::{Result, ensure};
use qemu_tests::disks::Disk;
use qemu_tests::scene::{Scene, expect_failure, expect_success};
use qemu_tests::vm::{Bus, End, PATIENCE, Vm};
use qemu_tests::{small, tools};
use std::fs;
use std::path::Path;

/// From the first partition of the small disk to the end of its second.
const PARTITIONS: std::ops::Range<usize> = 1 << 20..29 << 20;

#[test]
fn a_drive_with_other_sectors_gets_a_table_of_its_own_or_a_reason() -> Result<()> {
    let scene = Scene::new()?;
    let plugged = |name: &str, disks: [(&Disk, Bus, &str); 2]| -> Result<Vm> {
        let mut spec = scene.spec(name)?;
        spec.disks.clear();
        for (disk, bus, serial) in disks {
            spec = spec.disk(disk, bus, serial);
        }
        Vm::start(spec)
    };
    let (large, little) = (small::disk(4096)?, small::disk(512)?);
    scene.job("backup", "")?;
    let disks = [
        (&large, Bus::Nvme4Kn, "LARGE01"),
        (&little, Bus::Nvme, "LITTLE02"),
    ];
    let mut vm = plugged("sectors-backup", disks)?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);

    // The ESP of the little one has sectors of 512 bytes, which a kernel does not mount on larger ones.
    let (first, second) = (Disk::blank(small::SIZE)?, Disk::blank(small::SIZE)?);
    let blank = first.digest()?;
    scene.job("restore", "")?;
    let disks = [
        (&first, Bus::Nvme, "LARGE01"),
        (&second, Bus::Nvme4Kn, "LITTLE02"),
    ];
    let mut vm = plugged("sectors-refused", disks)?;
    let reason = ["partition 1 (esp, 18.0 MiB at 1048576), vfat, could not be used there"];
    expect_failure(&mut vm, "restore", &reason)?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);
    scene.logged(&reason)?;
    ensure!(
        first.digest()? == blank && second.digest()? == blank,
        "a disk was written to"
    );

    scene.job("restore", "disks = [{ serial = \"LARGE01\" }]")?;
    let mut vm = plugged("sectors-restore", disks)?;
    vm.sees("the table is made anew for sectors of 512 bytes")?;
    expect_success(&mut vm, "restore")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);
    let (before, now) = (fs::read(large.path())?, fs::read(first.path())?);
    ensure!(
        before[PARTITIONS] == now[PARTITIONS],
        "the partitions are not the image's"
    );
    let text = tools::run("sgdisk", [Path::new("-v"), first.path()])?;
    ensure!(text.contains("No problems found"), "{text}");
    let log = fs::read_to_string(scene.folder().join("maintenance.log"))?;
    ensure!(!log.contains("the kernel sees other partitions"), "{log}");
    Ok(())
}
