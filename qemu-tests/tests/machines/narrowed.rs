//! Jobs that name no disk mean every fixed one: what would narrow the set in silence is an error, and one disk with two
//! names is one.

use anyhow::{Result, ensure};
use qemu_tests::disks::Disk;
use qemu_tests::scene::{Scene, expect_failure, expect_success};
use qemu_tests::vm::{End, PATIENCE, Spec, Vm};

/// The scene's machine with a second, write-protected disk.
fn protected(scene: &Scene, second: &Disk, name: &str) -> Result<Spec> {
    let drive = format!(
        "if=none,id=protected,format=raw,readonly=on,file={}",
        second.path().display()
    );
    let device = "virtio-blk-pci,drive=protected,serial=PROTECTED";
    Ok(scene
        .spec(name)?
        .extra(&["-drive", &drive, "-device", device]))
}

#[test]
fn a_write_protected_disk_is_no_success() -> Result<()> {
    let scene = Scene::with(Disk::noise(8 << 20, 41)?)?;
    let second = Disk::noise(8 << 20, 42)?;
    let before = second.digest()?;
    scene.job("backup", "")?;
    let mut vm = Vm::start(protected(&scene, &second, "protected-backup")?)?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);
    ensure!(scene.folder().join("vdb.raw.gz").exists());

    let reason = ["vdb (serial PROTECTED", "is read-only", "`disks`"];
    scene.job("restore", "")?;
    let mut vm = Vm::start(protected(&scene, &second, "protected")?)?;
    scene.fails(&mut vm, "restore", &reason)?;
    drop(vm);
    ensure!(second.digest()? == before);
    Ok(())
}

/// One LUN on two SCSI addresses, as the kernel sees it without multipath.
fn two_paths(scene: &Scene, name: &str) -> Result<Spec> {
    let mut spec = scene.spec(name)?;
    spec.disks.clear();
    let mut spec = spec.extra(&["-device", "virtio-scsi-pci,id=san"]);
    for path in ["one", "two"] {
        let drive = format!(
            "if=none,id={path},format=raw,cache=writethrough,file.locking=off,file={}",
            scene.disk.path().display()
        );
        let device = format!(
            "scsi-hd,bus=san.0,drive={path},share-rw=on,serial=LUN0001,wwn=0x600140500000000a"
        );
        spec = spec.extra(&["-drive", &drive, "-device", &device]);
    }
    Ok(spec)
}

#[test]
fn one_disk_by_two_paths_is_backed_up_once() -> Result<()> {
    let scene = Scene::with(Disk::noise(8 << 20, 43)?)?;
    scene.job("backup", "")?;
    let mut vm = Vm::start(two_paths(&scene, "paths-backup")?)?;
    vm.sees("another path to sda: one disk, done once")?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);
    ensure!(scene.folder().join("sda.raw.gz").exists());
    ensure!(!scene.folder().join("sdb.raw.gz").exists());
    Ok(())
}

/// Two disks with one serial and the same content: one by two paths, or two. Nobody can tell.
#[test]
fn two_disks_that_cannot_be_told_apart_are_for_the_job_to_name() -> Result<()> {
    let scene = Scene::with(Disk::noise(8 << 20, 44)?)?;
    let copy = Disk::copy_of(scene.disk.path())?;
    let plugged = |name: &str| -> Result<Vm> {
        let drive = format!("if=none,id=copy,format=raw,file={}", copy.path().display());
        let device = "virtio-blk-pci,drive=copy,serial=SCENE0";
        let spec = scene.spec(name)?;
        Vm::start(spec.extra(&["-drive", &drive, "-device", device]))
    };
    scene.job("wipe", "method = \"zero\"")?;
    let mut vm = plugged("doubles-wipe")?;
    let reason = [
        "vda (serial SCENE0",
        "may be one disk by two paths",
        "disks = [\"vda\"]",
    ];
    expect_failure(&mut vm, "wipe", &reason)?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);
    scene.disk_untouched()
}
