//! Disks that fail, and disks that are large for the machine's memory.

use anyhow::{Context, Result, ensure};
use qemu_tests::disks::Disk;
use qemu_tests::proxy::Fault;
use qemu_tests::scene::{IMAGE, Scene, expect_failure, expect_success};
use qemu_tests::servers::Server;
use qemu_tests::tools;
use qemu_tests::vm::{End, PATIENCE, Spec, Vm};
use serde_json::json;
use std::fs;
use std::path::Path;

/// A sector in the middle of the scene's disk of 16 MiB.
const BAD_SECTOR: u64 = 20_000;
const SECTOR: u64 = 512;

/// The scene's machine, whose disk fails each time that the bad sector is read or written.
fn failing(scene: &Scene, name: &str, folder: &Path, what: &str) -> Result<Spec> {
    let rules = folder.join("rules");
    let text = format!(
        "[inject-error]\nevent = \"none\"\niotype = \"{what}\"\nerrno = \"5\"\nsector = \"{BAD_SECTOR}\"\n"
    );
    fs::write(&rules, text)?;
    let mut spec = scene.spec(name)?;
    spec.disks.clear();
    let drive = format!(
        "if=none,id=bad,format=raw,werror=report,rerror=report,file=blkdebug:{}:{}",
        rules.display(),
        scene.disk.path().display()
    );
    Ok(spec.extra(&[
        "-drive",
        &drive,
        "-device",
        "virtio-blk-pci,drive=bad,serial=SCENE0",
    ]))
}

#[test]
fn a_sector_that_cannot_be_read_fails_the_backup_unless_it_is_to_be_recorded() -> Result<()> {
    let scene = Scene::new()?;
    let folder = tempfile::tempdir()?;
    scene.job("backup", "")?;
    let mut vm = Vm::start(failing(&scene, "read-error", folder.path(), "read")?)?;
    scene.fails(&mut vm, "backup", &["vda", "read"])?;
    drop(vm);
    ensure!(!scene.image().exists(), "an image is there all the same");

    scene.job("backup", "read-errors = \"record\"")?;
    let mut vm = Vm::start(failing(&scene, "read-error-kept", folder.path(), "read")?)?;
    expect_success(&mut vm, "backup")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    let described = fs::read_to_string(scene.folder().join(format!("{IMAGE}.toml")))?;
    ensure!(
        described.contains("read_errors") || described.contains("read-errors"),
        "the description does not tell of the bad sector:\n{described}"
    );
    // Only what could not be read differs, and reads as zeros.
    let restored = folder.path().join("restored");
    fs::File::create(&restored)?.set_len(16 << 20)?;
    tools::output(
        std::process::Command::new(qemu_tests::paths::built("pitstop")?)
            .arg("restore")
            .args([scene.image().as_path(), restored.as_path()]),
    )?;
    let (mut wanted, got) = (fs::read(scene.disk.path())?, fs::read(&restored)?);
    let lost = wanted
        .iter()
        .zip(&got)
        .filter(|(one, other)| one != other)
        .count();
    ensure!(lost > 0, "the bad sector was read after all");
    let at = usize::try_from(BAD_SECTOR * SECTOR)?;
    // Linux reads pages: up to a page around the sector is lost with it.
    let page = at / 4096 * 4096;
    wanted
        .get_mut(page..page + 4096)
        .context("the page of the bad sector")?
        .copy_from_slice(&got[page..page + 4096]);
    ensure!(wanted == got, "more than the bad page was lost");
    ensure!(
        got[at..at + 512].iter().all(|byte| *byte == 0),
        "the bad sector is not zeros"
    );
    Ok(())
}

#[test]
fn a_disk_that_cannot_be_written_is_told_and_stays_unbootable() -> Result<()> {
    let scene = Scene::new()?;
    scene.make_image()?;
    scene.disk.zero()?;
    let folder = tempfile::tempdir()?;
    scene.job("restore", "")?;
    let mut vm = Vm::start(failing(&scene, "write-error", folder.path(), "write")?)?;
    expect_failure(&mut vm, "restore", &["vda", "writ"])?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    scene.logged(&["vda"])?;
    ensure!(scene.configuration().exists(), "the configuration is gone");
    scene.disk_boots_nothing()
}

#[test]
fn a_disk_of_64_gib_goes_through_a_machine_of_256_mb() -> Result<()> {
    let disk = Disk::blank(64 << 30)?;
    let mut mkfs = tools::command("mke2fs")?;
    tools::output(mkfs.args(["-q", "-F", "-t", "ext4"]).arg(disk.path()))?;
    let scene = Scene::with_large(Server::start()?, disk)?;
    for action in ["backup", "restore"] {
        scene.job(action, "")?;
        let mut vm = Vm::start(scene.spec(&format!("large-{action}"))?.memory(256))?;
        expect_success(&mut vm, action)?;
        ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    }
    let image = fs::metadata(scene.image())?.len();
    // RFC 1951 packs at most 258 bytes into two bits: zeros shrink to a thousandth, no further.
    ensure!(image < 80 << 20, "64 GiB of nothing are {image} bytes");
    let used = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(scene.disk.path())?) * SECTOR;
    ensure!(
        used < 256 << 20,
        "the restore wrote {used} bytes of zeros to the disk"
    );
    let mut fsck = tools::command("e2fsck")?;
    tools::output(fsck.args(["-f", "-n"]).arg(scene.disk.path()))?;
    Ok(())
}

#[test]
fn a_disk_that_hangs_is_a_failed_attempt_and_the_machine_leaves_it_behind() -> Result<()> {
    let scene = Scene::new()?;
    scene.job("backup", "progress-timeout = \"10s\"")?;
    // The backup waits in its middle until the disk hangs: it must not be over before.
    let middle = Fault::StallUpload(1 << 20);
    scene.proxy.break_requests("PUT", IMAGE, middle);
    let mut vm = Vm::start(scene.spec("hung-disk")?.idle())?;
    scene.proxy.wait_for_stall(PATIENCE)?;
    // A byte a second: requests come to no end that anybody would wait for.
    let none = ["bps", "bps_wr", "iops", "iops_rd", "iops_wr"].map(|limit| (limit, json!(0)));
    let mut limits: serde_json::Map<_, _> = none
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    limits.insert("bps_rd".to_owned(), json!(1));
    limits.insert("device".to_owned(), json!("disk0"));
    vm.qmp
        .execute("block_set_io_throttle", &serde_json::Value::Object(limits))?;
    scene.proxy.heal();
    expect_failure(&mut vm, "backup", &["nothing moved for 10s"])?;
    // The last sync hangs as well, and is waited for a minute.
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    scene.logged(&["nothing moved for 10s"])?;
    ensure!(scene.configuration().exists(), "the configuration is gone");
    scene.disk_untouched()
}
