//! Servers that fail: nothing that was whole is lost, nothing half-made stays. Images that are not whole, and shares that
//! fill up, are in `payload`'s and `pitstop`'s tests.

use anyhow::{Result, ensure};
use qemu_tests::disks::Disk;
use qemu_tests::proxy::Fault;
use qemu_tests::scene::{IMAGE, Scene, expect_failure, expect_success};
use qemu_tests::servers::Server;
use qemu_tests::tools;
use qemu_tests::vm::{End, PATIENCE, Vm};
use std::fs;
use std::path::{Path, PathBuf};

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

/// A server that is away is soon given up.
const SOON: &str = "retry-for = \"5s\"";

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
