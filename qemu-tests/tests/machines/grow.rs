//! Larger disks, into which the last partition and its filesystem grow.

use anyhow::{Context, Result, ensure};
use qemu_tests::disks::Disk;
use qemu_tests::media::build_for_cloud;
use qemu_tests::scene::{Scene, expect_failure, expect_success};
use qemu_tests::vm::{Boot, Bus, End, KERNEL_PARAMETERS, PATIENCE, Spec, Vm};
use qemu_tests::{paths, small, tools};
use std::fs::{self, File};
use std::path::Path;

const MIB: u64 = 1 << 20;
const LARGER: u64 = 200 * MIB;
/// Where the small disk has its root, and where that ends on the larger one.
const ROOT: u64 = 19 * MIB;
const ROOT_END: u64 = 199 * MIB;
/// An XFS without a table, the smallest that its tools make.
const XFS: u64 = 300 * MIB;
const LARGER_XFS: u64 = 400 * MIB;

/// A scene with the image of the small disk and a larger one to restore it to.
fn larger() -> Result<Scene> {
    let mut scene = Scene::with(small::disk(512)?)?;
    scene.make_image()?;
    scene.disk = Disk::blank(LARGER)?;
    Ok(scene)
}

/// A partition, or a disk without any, as a file of its own.
fn cut(disk: &Path, start: u64, end: u64, to: &Path) -> Result<()> {
    let bytes = fs::read(disk)?;
    let range = usize::try_from(start)?..usize::try_from(end)?;
    fs::write(to, bytes.get(range).context("the disk is shorter")?)?;
    Ok(())
}

#[test]
fn a_missing_program_is_named_before_the_first_write() -> Result<()> {
    let scene = larger()?;
    let before = scene.disk.digest()?;
    scene.job("restore", "grow = true")?;
    let mut vm = scene.boot("grow-tool")?;
    let told = [
        "partition 2 (ext4) is to grow",
        "no e2fsck",
        "mkimage --program",
    ];
    expect_failure(&mut vm, "restore", &told)?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    ensure!(scene.disk.digest()? == before, "the disk was written to");
    Ok(())
}

#[test]
fn ext4_in_a_partition_and_a_whole_xfs_fill_their_larger_disks() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let scene = larger()?;
    let small_xfs = folder.path().join("xfs");
    File::create(&small_xfs)?.set_len(XFS)?;
    tools::output(tools::command("mkfs.xfs")?.arg("-q").arg(&small_xfs))?;
    let mut backup = std::process::Command::new(paths::built_for_cloud("pitstop")?);
    let image = scene.folder().join("vdb.raw.gz");
    tools::output(backup.arg("backup").arg(&small_xfs).arg(image))?;
    let xfs = Disk::blank(LARGER_XFS)?;

    let initrd = folder.path().join("initramfs.img");
    let mut mkimage = build_for_cloud("virtio,filesystems")?;
    for program in ["e2fsck", "resize2fs", "xfs_growfs"] {
        mkimage.arg("--program").arg(tools::find(program)?);
    }
    tools::output(mkimage.arg("-o").arg(&initrd))?;
    scene.job("restore", "grow = true\nverify = true")?;
    let boot = Boot::Direct {
        kernel: paths::built_for_cloud("vmlinuz")?,
        initrd,
        command_line: format!("{KERNEL_PARAMETERS} pitstop.host={}", scene.url("/hosts/")),
    };
    let spec = Spec::new("grow", boot).disk(&scene.disk, Bus::Virtio, "SCENE0");
    let mut vm = Vm::start(spec.disk(&xfs, Bus::Virtio, "SCENE1"))?;
    vm.sees("partition 2 (ext4) grows from 10.0 MiB to 180.0 MiB")?;
    expect_success(&mut vm, "restore")?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);

    let disk = scene.disk.path();
    let proven = tools::run("sgdisk", [Path::new("--verify"), disk])?;
    ensure!(proven.contains("No problems found"), "{proven}");
    let root = folder.path().join("root");
    cut(disk, ROOT, ROOT_END, &root)?;
    tools::run("e2fsck", [Path::new("-f"), Path::new("-n"), &root])?;
    let told = tools::run("dumpe2fs", [Path::new("-h"), &root])?;
    let blocks = (ROOT_END - ROOT) / 4096;
    ensure!(
        told.contains(&format!("Block count:              {blocks}")),
        "{told}"
    );
    let noise = folder.path().join("noise");
    let dump = format!("dump /some/folders/noise {}", noise.display());
    tools::run("debugfs", [Path::new("-R"), Path::new(&dump), &root])?;
    ensure!(fs::read(&noise)? == small::file(), "the file is another");

    tools::run("xfs_repair", [Path::new("-n"), xfs.path()])?;
    let mut superblock = [0; 16];
    std::os::unix::fs::FileExt::read_exact_at(&File::open(xfs.path())?, &mut superblock, 0)?;
    let blocks = superblock[8..].try_into().map(u64::from_be_bytes)?;
    ensure!(blocks == LARGER_XFS / 4096, "the XFS has {blocks} blocks");
    Ok(())
}
