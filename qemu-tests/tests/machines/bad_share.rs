//! Images and servers that fail: nothing that was whole is lost, nothing half-made stays.

use anyhow::{Result, ensure};
use qemu_tests::disks::{Disk, flip_bit};
use qemu_tests::golden::noise;
use qemu_tests::proxy::Fault;
use qemu_tests::scene::{IMAGE, Scene, expect_failure, expect_success};
use qemu_tests::servers::Server;
use qemu_tests::tools;
use qemu_tests::vm::{ADDRESS, Bus, End, PATIENCE, Vm};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn a_backup_does_not_replace_an_image() -> Result<()> {
    let scene = Scene::new()?;
    scene.make_image()?;
    let image = scene.image_digest()?;
    scene.job("backup", "")?;
    let mut vm = scene.boot("image-exists")?;
    scene.fails(&mut vm, "backup", &[IMAGE, "backup-again"])?;
    ensure!(scene.image_digest()? == image, "the image changed");
    Ok(())
}

#[test]
fn a_restore_without_an_image_names_it() -> Result<()> {
    let scene = Scene::new()?;
    scene.job("restore", "")?;
    let mut vm = scene.boot("image-missing")?;
    scene.fails(&mut vm, "restore", &["vda", ADDRESS])
}

#[test]
fn an_image_that_is_not_gzip_touches_nothing() -> Result<()> {
    let scene = Scene::new()?;
    fs::create_dir_all(scene.folder())?;
    fs::write(scene.image(), b"<html>404 but with status 200</html>")?;
    scene.job("restore", "")?;
    let mut vm = scene.boot("not-gzip")?;
    scene.fails(&mut vm, "restore", &[IMAGE])
}

#[test]
fn a_truncated_image_touches_nothing() -> Result<()> {
    let scene = Scene::new()?;
    scene.make_image()?;
    let length = fs::metadata(scene.image())?.len();
    fs::File::options()
        .write(true)
        .open(scene.image())?
        .set_len(length / 2)?;
    scene.job("restore", "")?;
    let mut vm = scene.boot("truncated")?;
    // Its index is gone with its end, so that is known before the first write.
    scene.fails(&mut vm, "restore", &[IMAGE])
}

#[test]
fn a_flipped_bit_is_found_and_the_disk_stays_unbootable() -> Result<()> {
    let scene = Scene::new()?;
    scene.make_image()?;
    let length = fs::metadata(scene.image())?.len();
    flip_bit(&scene.image(), length / 2)?;
    scene.disk.zero()?;
    scene.job("restore", "")?;
    let mut vm = scene.boot("flipped")?;
    expect_failure(&mut vm, "restore", &[IMAGE])?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    scene.logged(&[IMAGE])?;
    ensure!(scene.configuration().exists(), "the configuration is gone");
    scene.disk_boots_nothing()
}

#[test]
fn a_bit_flipped_on_the_wire_is_found_and_the_chunk_fetched_again() -> Result<()> {
    let scene = Scene::new()?;
    scene.make_image()?;
    scene.disk.wreck()?;
    scene.job("restore", "attempts = 1")?;
    // Only the long answer, of all chunks, is as long.
    scene
        .proxy
        .break_requests("GET", IMAGE, Fault::FlipDownload(6 << 20));
    let mut vm = scene.boot("flipped-wire")?;
    let line = vm.sees("it is read once more")?;
    ensure!(line.contains("chunk") && line.contains(IMAGE), "{line}");
    expect_success(&mut vm, "restore")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);
    scene.disk_untouched()
}

#[test]
fn a_disk_smaller_than_the_image_is_left_alone() -> Result<()> {
    let large = Scene::with(Disk::noise(24 << 20, 9)?)?;
    large.make_image()?;
    let scene = Scene::new()?;
    fs::create_dir_all(scene.folder())?;
    fs::copy(large.image(), scene.image())?;
    scene.job("restore", "")?;
    let mut vm = scene.boot("too-small")?;
    scene.fails(&mut vm, "restore", &["vda", "small"])
}

/// A server that is away is soon given up. Uploads go in segments of 2 MiB: what is to break one breaks it earlier.
const SOON: &str = "retry-for = \"5s\"";

/// The image before and the disk survive a backup that fails as `fault` says; afterwards the backup works.
fn failed_backup(name: &str, fault: Fault, reason: &[&str]) -> Result<()> {
    let scene = Scene::new()?;
    fs::create_dir_all(scene.folder())?;
    fs::write(scene.image(), noise(1 << 20, 5))?;
    let old = scene.image_digest()?;
    scene.job("backup-again", SOON)?;
    scene.proxy.break_requests("PUT", IMAGE, fault);
    let mut vm = scene.boot(name)?;
    scene.fails(&mut vm, "backup-again", reason)?;
    drop(vm);
    ensure!(
        scene.image_digest()? == old,
        "the image that was there is not whole any more"
    );
    ensure!(
        !scene.folder().join(format!("{IMAGE}.old")).exists(),
        "the image that was there was put aside"
    );
    Ok(())
}

#[test]
fn a_share_that_is_full_loses_nothing() -> Result<()> {
    failed_backup(
        "full-507",
        Fault::AnswerAfter(1 << 20, 507),
        &[IMAGE, "507"],
    )
}

/// A filesystem of its own that holds few bytes, mounted on a folder until dropped.
struct SmallFilesystem(PathBuf);

impl SmallFilesystem {
    fn on(folder: &Path, size: &str) -> Result<Self> {
        let mut mount = tools::command("mount")?;
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        tools::output(mount.arg(folder))?;
        Ok(Self(folder.to_owned()))
    }
}

impl Drop for SmallFilesystem {
    fn drop(&mut self) {
        // Best effort: it is the test's own folder.
        let _ = tools::command("umount").and_then(|mut umount| tools::output(umount.arg(&self.0)));
    }
}

#[test]
fn a_filesystem_that_is_full_keeps_the_image_before() -> Result<()> {
    let root = tempfile::tempdir()?;
    fs::create_dir(root.path().join("share"))?;
    // Before the server opens its folders; and unmounted after it has ended.
    let _small = SmallFilesystem::on(&root.path().join("share"), "6m")?;
    let server = Server::start_in(root.path(), None)?;
    let scene = Scene::served_by(server, Disk::noise(16 << 20, 7)?)?;
    fs::create_dir_all(scene.folder())?;
    fs::write(scene.image(), noise(1 << 20, 5))?;
    let old = scene.image_digest()?;
    scene.job("backup-again", "")?;
    let mut vm = scene.boot("full-filesystem")?;
    // The logs need room as well, which the half image has given back by then.
    scene.fails(&mut vm, "backup-again", &[IMAGE, "507"])?;
    ensure!(scene.image_digest()? == old, "the old image changed");
    Ok(())
}

#[test]
fn a_read_only_share_is_told_and_the_disk_stays() -> Result<()> {
    let root = tempfile::tempdir()?;
    let share = root.path().join("share");
    fs::create_dir(&share)?;
    let _small = SmallFilesystem::on(&share, "6m")?;
    let scene = Scene::served_by(
        Server::start_in(root.path(), None)?,
        Disk::noise(8 << 20, 7)?,
    )?;
    scene.job("backup", "")?;
    let mut mount = tools::command("mount")?;
    tools::output(mount.args(["-o", "remount,ro"]).arg(&share))?;
    let mut vm = scene.boot("read-only-share")?;
    expect_failure(&mut vm, "backup", &["/share/", "403"])?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    ensure!(scene.configuration().exists(), "the configuration is gone");
    scene.disk_untouched()
}

#[test]
fn a_connection_closed_during_a_backup_loses_nothing() -> Result<()> {
    failed_backup("cut-upload", Fault::CutUpload(1 << 20), &[IMAGE])
}

#[test]
fn a_server_gone_during_a_backup_is_an_error_and_the_next_try_works() -> Result<()> {
    let scene = Scene::new()?;
    scene.job("backup", SOON)?;
    scene
        .proxy
        .break_requests("PUT", IMAGE, Fault::DieDuringUpload(1 << 20));
    let mut vm = Vm::start(scene.spec("gone-backup")?.keep_going())?;
    expect_failure(&mut vm, "backup", &[IMAGE])?;
    ensure!(!scene.image().exists(), "half an image is on the share");
    scene.proxy.heal();
    vm.sees("pitstop: result ok backup")?;
    scene.nothing_half_made()?;
    qemu_tests::compare::zcat_equals(&scene.image(), scene.disk.path())
}

#[test]
fn a_server_gone_during_a_restore_is_an_error_and_the_next_try_works() -> Result<()> {
    let scene = Scene::new()?;
    scene.make_image()?;
    scene.disk.wreck()?;
    scene.job("restore", SOON)?;
    scene
        .proxy
        .break_requests("GET", IMAGE, Fault::DieDuringDownload(6 << 20));
    let mut vm = Vm::start(scene.spec("gone-restore")?.keep_going())?;
    expect_failure(&mut vm, "restore", &[IMAGE])?;
    ensure!(scene.configuration().exists(), "the configuration is gone");
    scene.proxy.heal();
    vm.sees("pitstop: result ok restore")?;
    drop(vm);
    scene.disk_untouched()
}

#[test]
fn backup_again_keeps_the_image_before() -> Result<()> {
    let scene = Scene::new()?;
    scene.make_image()?;
    let old = scene.image_digest()?;
    let changed = Disk::noise(16 << 20, 10)?;
    scene.job("backup-again", "")?;
    let mut spec = scene.spec("backup-again")?;
    spec.disks.clear();
    let mut vm = Vm::start(spec.disk(&changed, Bus::Virtio, "SCENE0"))?;
    vm.sees("pitstop: result ok backup-again")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    qemu_tests::compare::zcat_equals(&scene.image(), changed.path())?;
    let kept = scene.folder().join(format!("{IMAGE}.old"));
    ensure!(
        qemu_tests::disks::digest(&kept)? == old,
        "the image before is not what it was"
    );
    Ok(())
}
