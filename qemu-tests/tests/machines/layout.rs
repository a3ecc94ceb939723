//! Disks that get a partition table by a layout on the share.

use anyhow::{Context, Result, ensure};
use qemu_tests::scene::{Scene, expect_failure};
use qemu_tests::tools;
use qemu_tests::vm::{End, PATIENCE};
use std::fs;

const TABLE: &str = r#"version = 1
table = "gpt"

[[partition]]
type = "efi"
size = "4MiB"

[[partition]]
type = "linux"
size = "fill"
name = "data"
"#;

fn give(scene: &Scene, layout: &str) -> Result<()> {
    fs::create_dir_all(scene.folder())?;
    fs::write(scene.folder().join("layout.toml"), layout).context("writing the layout")?;
    scene.job(
        "partition",
        "layout = \"layout.toml\"\ndisks = [{ serial = \"SCENE0\" }]",
    )
}

#[test]
fn a_layout_makes_a_table_once_and_a_missing_tool_makes_none() -> Result<()> {
    let scene = Scene::new()?;
    give(
        &scene,
        &TABLE.replace("name =", "filesystem = \"xfs\"\nname ="),
    )?;
    let mut vm = scene.boot("layout-tool")?;
    expect_failure(&mut vm, "partition", &["mkfs.xfs", "mkimage"])?;
    ensure!(vm.wait_for_end(PATIENCE)? == End::Reboot);
    drop(vm);
    scene.disk_untouched()?;

    give(&scene, TABLE)?;
    scene.succeeds("layout-made", "partition")?;
    let disk = scene.disk.path().to_str().context("the disk's path")?;
    let proven = tools::run("sgdisk", ["--verify", disk])?;
    ensure!(proven.contains("No problems found"), "{proven}");
    let listed = tools::run("sgdisk", ["--print", disk])?;
    for part in ["EF00", "8300", "data"] {
        ensure!(listed.contains(part), "no {part} in:\n{listed}");
    }

    let made = scene.disk.digest()?;
    give(&scene, TABLE)?;
    scene.succeeds("layout-again", "partition")?;
    ensure!(scene.disk.digest()? == made, "the second time wrote to it");
    Ok(())
}
