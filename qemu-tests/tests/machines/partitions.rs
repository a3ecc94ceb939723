//! A part of a disk: what is to be kept survives a restore, and single partitions come back by themselves.

use anyhow::{Result, ensure};
use qemu_tests::golden::noise;
use qemu_tests::scene::{Scene, expect_success};
use qemu_tests::small;
use qemu_tests::vm::{End, PATIENCE};
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Where the small disk has its ESP and its root.
const ESP: Range<usize> = 1 << 20..19 << 20;
const ROOT: Range<usize> = 19 << 20..29 << 20;

fn scribble(scene: &Scene, place: &Range<usize>, seed: u64) -> Result<()> {
    let disk = File::options().write(true).open(scene.disk.path())?;
    let at = u64::try_from(place.start)?;
    Ok(disk.write_all_at(&noise(u64::try_from(place.len())?, seed), at)?)
}

fn restore(scene: &Scene, name: &str, part: &str, told: &str) -> Result<Vec<u8>> {
    scene.job("restore", part)?;
    let mut vm = scene.boot(name)?;
    vm.sees(told)?;
    expect_success(&mut vm, "restore")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);
    Ok(fs::read(scene.disk.path())?)
}

#[test]
fn partitions_are_kept_by_name_and_come_back_by_number() -> Result<()> {
    let scene = Scene::with(small::disk(512)?)?;
    let original = fs::read(scene.disk.path())?;
    scene.make_image()?;

    scribble(&scene, &ESP, 81)?;
    scribble(&scene, &ROOT, 82)?;
    let kept = fs::read(scene.disk.path())?;
    let told = "everything on vda is lost but its partitions \"root\"";
    let disk = restore(&scene, "keep-root", "keep = [\"root\"]", told)?;
    ensure!(
        disk[ROOT] == kept[ROOT],
        "the kept partition was written to"
    );
    ensure!(
        disk[..ROOT.start] == original[..ROOT.start],
        "the rest is not the image's"
    );
    ensure!(
        disk[ROOT.end..] == original[ROOT.end..],
        "the end is not the image's"
    );

    scribble(&scene, &ESP, 83)?;
    let told = "write partitions 1 of vda.raw.gz to the same of vda";
    let disk = restore(&scene, "only-esp", "partitions = [1]", told)?;
    ensure!(
        disk[..ROOT.start] == original[..ROOT.start],
        "the ESP is not the image's"
    );
    ensure!(
        disk[ROOT.start..] == kept[ROOT.start..],
        "something else was written to"
    );
    Ok(())
}
