//! `pitstop plan` on a machine made of plain files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

const MIB: usize = 1 << 20;

/// A sysfs with one virtio disk of 1 MiB, and its bytes.
fn machine(root: &Path) {
    let block = root.join("sys/devices/pci0/virtio1/block/vda");
    fs::create_dir_all(block.join("queue")).unwrap();
    fs::create_dir_all(root.join("sys/block")).unwrap();
    fs::create_dir_all(root.join("dev")).unwrap();
    fs::write(block.join("size"), "2048\n").unwrap();
    fs::write(block.join("serial"), "DISK0001\n").unwrap();
    symlink(&block, root.join("sys/block/vda")).unwrap();
    fs::write(root.join("dev/vda"), vec![0; MIB]).unwrap();
}

fn plan(root: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pitstop"))
        .args(["plan", "--address", "10.0.2.15", "--sysfs"])
        .arg(root.join("sys"))
        .arg("--procfs")
        .arg(root.join("proc"))
        .arg("--dev")
        .arg(root.join("dev"))
        .args(more)
        .output()
        .unwrap()
}

#[test]
fn a_restore_is_planned_as_text_and_as_json_and_nothing_is_written() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    machine(root);
    let folder = root.join("share/10.0.2.15");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("vda.raw"), vec![7; MIB]).unwrap();
    let image = folder.to_str().unwrap();

    let text = plan(root, &["--action", "restore", "--image", image]);
    let shown = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.status.success(), "{text:?}");
    assert!(
        shown.contains("write vda.raw to vda (serial DISK0001, 1.0 MiB)"),
        "{shown}"
    );
    assert!(
        shown.contains("vda is chosen: the job names no disk"),
        "{shown}"
    );

    let json = plan(root, &["--action", "restore", "--image", image, "--json"]);
    let value: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let step = &value["steps"][0];
    assert_eq!(
        (&step["do"], &step["file"]),
        (&"write".into(), &"vda.raw".into())
    );
    assert_eq!(step["disk"]["transport"], "virtio");
    assert_eq!(fs::read(root.join("dev/vda")).unwrap(), vec![0; MIB]);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}

#[test]
fn a_host_file_is_planned_and_its_errors_are_told() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    machine(root);
    fs::create_dir_all(root.join("share")).unwrap();
    let share = root.join("share");
    let file = root.join("job.toml");
    let write = |more: &str| {
        let text = format!(
            "version = 1\naction = \"wipe\"\nshare = {:?}\n{more}\n",
            share.to_str().unwrap()
        );
        fs::write(&file, text).unwrap();
    };
    let path = file.to_str().unwrap();
    write("method = \"zero\"\ndisks = [{ serial = \"DISK0001\" }]");
    let good = plan(root, &["--host-file", path]);
    let shown = String::from_utf8_lossy(&good.stdout).into_owned();
    assert!(
        shown.contains("wipe (zero): write zeros over every byte of vda"),
        "{shown} {good:?}"
    );

    write("");
    let bad = plan(root, &["--host-file", path]);
    assert_eq!(bad.status.code(), Some(1));
    let told = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(told.contains("a wipe needs a method"), "{told}");

    let neither = plan(root, &[]);
    assert_eq!(neither.status.code(), Some(2));
}
