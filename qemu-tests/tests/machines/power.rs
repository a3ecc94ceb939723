//! Power cuts: never a disk that boots half an image, never an image lost, and the next boot does the job.

use anyhow::{Result, ensure};
use qemu_tests::disks::Disk;
use qemu_tests::golden::noise;
use qemu_tests::proxy::Fault;
use qemu_tests::scene::{IMAGE, Scene, expect_success};
use qemu_tests::vm::{ADDRESS, End, PATIENCE};
use qemu_tests::{compare, disks, small, tools};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

const MIB: u64 = 1 << 20;

/// The small disk with a third partition, full of noise: a restore that comes far enough to go on from there.
fn disk() -> Result<Disk> {
    const NOISE: u64 = 24 * MIB;
    let disk = small::disk(512)?;
    disk.lengthen(2 * small::SIZE)?;
    let partition = format!("--new=3:{}:+{}M", small::END / 512, NOISE / MIB);
    let change = ["--move-second-header", &partition].map(Path::new);
    tools::run("sgdisk", change.into_iter().chain([disk.path()]))?;
    let file = File::options().write(true).open(disk.path())?;
    file.write_all_at(&noise(NOISE, 64), small::END)?;
    Ok(disk)
}

/// The power goes when so much of the image has come; the transfer stands still meanwhile, so that nothing depends on
/// how fast anything is. The boot after the last cut does the job, and goes on where the disk had something.
fn cut_during_a_restore(cuts: &[u64]) -> Result<()> {
    let scene = Scene::with(disk()?)?;
    scene.make_image()?;
    scene.disk.wreck()?;
    scene.job("restore", "attempts = 9")?;
    let length = fs::metadata(scene.image())?.len();
    for percent in cuts {
        let come = Fault::StallDownload(length * percent / 100);
        scene.proxy.break_requests("GET", IMAGE, come);
        let vm = scene.boot(&format!("power-restore-{percent}"))?;
        scene.proxy.wait_for_stall(PATIENCE)?;
        vm.cut_power()?;
        scene.disk_boots_nothing()?;
        ensure!(scene.configuration().exists(), "the configuration is gone");
        scene.proxy.heal();
    }
    let mut vm = scene.boot(&format!("power-restore-after-{}-cuts", cuts.len()))?;
    let line = vm.sees(" right already, ")?;
    ensure!(
        !line.contains(", 0 B right already"),
        "the restore began anew: {line}"
    );
    expect_success(&mut vm, "restore")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);
    ensure!(
        !scene.configuration().exists(),
        "the restore is done and its configuration is still there"
    );
    scene.disk_untouched()?;
    compare::zcat_equals(&scene.image(), scene.disk.path())
}

#[test]
fn power_cuts_at_1_and_then_at_50_percent_of_a_restore() -> Result<()> {
    cut_during_a_restore(&[1, 50])
}

#[test]
fn a_power_cut_at_99_percent_of_a_restore() -> Result<()> {
    cut_during_a_restore(&[99])
}

#[test]
fn a_power_cut_in_the_middle_of_a_backup_loses_no_image() -> Result<()> {
    let scene = Scene::new()?;
    fs::create_dir_all(scene.folder())?;
    fs::write(scene.image(), noise(1 << 20, 63))?;
    let old = scene.image_digest()?;
    // Compressed by the clock (`auto`) the bytes would be others, and what is there of no use.
    scene.job("backup-again", "level = \"fast\"")?;
    // Segments of 2 MiB: the fifth of eight.
    let middle = Fault::StallUpload(1 << 20);
    scene.proxy.break_requests_after(4, "PUT", IMAGE, middle);
    let vm = scene.boot("power-backup")?;
    scene.proxy.wait_for_stall(PATIENCE)?;
    vm.cut_power()?;
    ensure!(
        scene.image_digest()? == old,
        "the image before is not whole"
    );
    ensure!(scene.configuration().exists(), "the configuration is gone");

    scene.proxy.heal();
    let mut vm = scene.boot("power-backup-again")?;
    expect_success(&mut vm, "backup-again")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);
    let put = format!("PUT /share/{ADDRESS}/{IMAGE}.new.part");
    let requests = scene.proxy.requests();
    let sent = requests.iter().filter(|line| line.contains(&put)).count();
    ensure!(
        sent < 5 + 8,
        "the backup sent {sent} segments: it began anew"
    );
    compare::zcat_equals(&scene.image(), scene.disk.path())?;
    let kept = scene.folder().join(format!("{IMAGE}.old"));
    ensure!(disks::digest(&kept)? == old, "the image before is gone");
    scene.nothing_half_made()?;
    scene.disk_untouched()
}
