//! Systems as files: a machine that runs one, and one whose system is captured, deployed to another disk and brought up to date.

use anyhow::{Context, Result, ensure};
use qemu_tests::disks::Disk;
use qemu_tests::golden::{self, Part};
use qemu_tests::media::build_for_cloud;
use qemu_tests::scene::{Scene, expect_success};
use qemu_tests::vm::{Boot, Bus, End, KERNEL_PARAMETERS, Network, PATIENCE, Spec, Vm};
use qemu_tests::{paths, tools};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// The first program of the small tree: it tells what it found, and ends the machine.
const INIT: &str = "#!/bin/sh
exec </dev/console >/dev/console 2>&1
b=/bin/busybox
echo \"tree: up as $($b hostname -F /etc/hostname; $b hostname) with $($b cat /etc/motd)\"
echo \"tree: root is $($b stat -f -c %T /), pid $$, $($b ls / | $b tr '\\n' ' ')\"
$b grep -q Pitstop /proc/1/comm && echo 'tree: BROKEN'
$b reboot -f
";

/// A tree of busybox alone.
fn small_tree(folder: &Path) -> Result<()> {
    for name in ["bin", "sbin", "etc", "dev", "proc", "sys", "run", "tmp"] {
        fs::create_dir_all(folder.join(name))?;
    }
    fs::copy(tools::find("busybox")?, folder.join("bin/busybox"))?;
    symlink("busybox", folder.join("bin/sh"))?;
    fs::write(folder.join("sbin/init"), INIT)?;
    fs::set_permissions(folder.join("sbin/init"), fs::Permissions::from_mode(0o755))?;
    fs::write(folder.join("etc/motd"), "the tree's own words\n")?;
    fs::write(folder.join("etc/fstab"), "UUID=none / ext4 defaults 0 1\n")?;
    Ok(())
}

/// `pitstop tree COMMAND … --share` of the scene's share.
fn tree(scene: &Scene, arguments: &[&Path]) -> Result<String> {
    let mut command = Command::new(paths::built_for_cloud("pitstop")?);
    command.arg("tree").args(arguments);
    tools::output(command.arg("--share").arg(scene.server.share()))
}

#[test]
fn a_machine_goes_on_in_a_tree_with_a_layer_and_its_job_stays() -> Result<()> {
    let scene = Scene::new()?;
    let folder = tempfile::tempdir()?;
    small_tree(folder.path())?;
    tree(
        &scene,
        &[Path::new("import"), folder.path(), Path::new("kiosk")],
    )?;
    let layer = scene.server.share().join("layers/lab/etc");
    fs::create_dir_all(&layer)?;
    fs::write(layer.join("motd"), "words of the layer\n")?;
    scene.job(
        "run",
        "tree = \"kiosk\"\noverrides = [\"layers/lab\"]\nhostname = \"kiosk-{hexip}\"",
    )?;
    let mut vm = scene.boot("tree-run")?;
    expect_success(&mut vm, "run")?;
    vm.sees("tree: up as kiosk-0A00020F with words of the layer")?;
    vm.sees("tree: root is tmpfs, pid 1")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    ensure!(scene.configuration().exists(), "a run's job is gone");
    scene.disk_untouched()
}

/// Works in a partition of a disk that no machine has.
fn in_partition(disk: &Disk, part: Part, work: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let options = format!("loop,offset={},sizelimit={}", part.start, part.size);
    let options = Path::new(&options);
    tools::run(
        "mount",
        [Path::new("-o"), options, disk.path(), folder.path()],
    )?;
    let outcome = work(folder.path());
    tools::run("umount", [folder.path()])?;
    outcome
}

/// The golden disk, as a system that can be told from data.
fn golden_system() -> Result<Disk> {
    let disk = Disk::copy_of(&golden::gpt()?)?;
    in_partition(&disk, golden::ROOT, |root| {
        fs::create_dir_all(root.join("etc"))?;
        fs::create_dir_all(root.join("boot/efi"))?;
        fs::write(
            root.join("etc/os-release"),
            "ID=golden\nPRETTY_NAME=\"Golden 1\"\n",
        )?;
        let fstab = "LABEL=golden / ext4 defaults 0 1\nLABEL=GOLDESP /boot/efi vfat defaults 0 2\n";
        fs::write(root.join("etc/fstab"), fstab)?;
        Ok(fs::write(root.join("etc/motd"), "version 1\n")?)
    })?;
    Ok(disk)
}

/// A machine with this disk that has the programs which make filesystems.
fn machine(scene: &Scene, name: &str, initrd: &Path, disk: &Disk) -> Result<Vm> {
    let boot = Boot::Direct {
        kernel: paths::built_for_cloud("vmlinuz")?,
        initrd: initrd.to_owned(),
        command_line: format!("{KERNEL_PARAMETERS} pitstop.host={}", scene.url("/hosts/")),
    };
    Vm::start(Spec::new(name, boot).disk(disk, Bus::Virtio, "TREE0"))
}

fn does(scene: &Scene, initrd: &Path, disk: &Disk, action: &str, more: &str) -> Result<()> {
    scene.job(action, &format!("tree = \"gold\"\n{more}"))?;
    let mut vm = machine(scene, &format!("tree-{action}"), initrd, disk)?;
    expect_success(&mut vm, action)?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    ensure!(
        !scene.configuration().exists(),
        "the job of {action} is still there"
    );
    Ok(())
}

#[test]
fn a_system_is_captured_deployed_to_another_disk_boots_there_and_is_brought_up_to_date()
-> Result<()> {
    let scene = Scene::new()?;
    let work = tempfile::tempdir()?;
    let initrd = work.path().join("initramfs.img");
    let mut mkimage = build_for_cloud("virtio,filesystems")?;
    for program in ["mkfs.ext4", "mkfs.vfat", "mkswap"] {
        mkimage.arg("--program").arg(tools::find(program)?);
    }
    tools::output(mkimage.arg("-o").arg(&initrd))?;

    let golden = golden_system()?;
    let before = golden.digest()?;
    does(&scene, &initrd, &golden, "capture", "")?;
    ensure!(golden.digest()? == before, "a capture wrote to the disk");

    // Larger, and boot loaders are the firmware's own matter here: it finds the one on the ESP.
    let disk = Disk::blank(golden::SIZE + (64 << 20))?;
    let named = "disks = [{ serial = \"TREE0\" }]\nboot = \"none\"\ninitrd = \"keep\"";
    does(&scene, &initrd, &disk, "deploy", named)?;
    let spec = Spec::new("tree-boots", Boot::Ovmf)
        .memory(256)
        .network(Network::None)
        .disk(&disk, Bus::Virtio, "TREE0");
    let mut vm = Vm::start(spec)?;
    vm.sees(golden::UP)?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::PowerOff);
    drop(vm);

    in_partition(&golden, golden::ROOT, |root| {
        Ok(fs::write(root.join("etc/motd"), "version 2\n")?)
    })?;
    does(&scene, &initrd, &golden, "capture", "")?;
    does(&scene, &initrd, &disk, "update", "initrd = \"keep\"")?;
    let listed = tools::run("sfdisk", [Path::new("--dump"), disk.path()])?;
    let root = listed
        .lines()
        .find(|line| line.contains("name=\"golden\""))
        .with_context(|| format!("no root in:\n{listed}"))?;
    let number = |key: &str| -> Result<u64> {
        let rest = root.split_once(key).with_context(|| root.to_owned())?.1;
        let digits = rest.trim_start().split(',').next().unwrap_or_default();
        Ok(512 * digits.trim().parse::<u64>()?)
    };
    let part = Part {
        start: number("start=")?,
        size: number("size=")?,
    };
    in_partition(&disk, part, |root| {
        let motd = fs::read_to_string(root.join("etc/motd"))?;
        ensure!(motd == "version 2\n", "the update did not come: {motd}");
        Ok(())
    })
}
