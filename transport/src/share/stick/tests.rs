//! On a filesystem of its own, in a file.

use super::*;
use crate::fetch::fake::patient;
use crate::share::{Carriers, connect, delete};
use pitstop_protocol::job::DeleteTarget;
use pitstop_protocol::share_url::ShareUrl;
use pitstop_testing::mounts::unmount;
use std::fs;
use std::process::Command;
use std::sync::LazyLock;

/// A small ext4, made once.
static FORMATTED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ext4");
    File::create(&file).unwrap().set_len(2 << 20).unwrap();
    run(Command::new("mkfs.ext4")
        .args(["-q", "-O", "^has_journal"])
        .arg(&file));
    fs::read(&file).unwrap()
});

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(
        done.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Mounted read-only; unmounted when dropped.
struct Plugged {
    folder: tempfile::TempDir,
}

impl Plugged {
    fn new() -> Self {
        let plugged = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let file = plugged.folder.path().join("file");
        fs::write(&file, &*FORMATTED).unwrap();
        fs::create_dir(plugged.root()).unwrap();
        // A loop device for a filesystem that is mounted read-only would be read-only itself.
        run(Command::new("mount")
            .args(["-o", "loop,nosuid,nodev,noexec,noatime"])
            .arg(&file)
            .arg(plugged.root()));
        run(Command::new("mount")
            .args(["-o", "remount,ro,nosuid,nodev,noexec,noatime"])
            .arg(plugged.root()));
        plugged
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn carriers(&self) -> Carriers {
        Carriers {
            http: patient(),
            mounts: self.folder.path().to_owned(),
            address: "0.0.0.0".parse().unwrap(),
            sign_at: None,
            stick: Stick::at(&self.root()),
        }
    }

    fn is_read_only(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let root = self.root();
        let line = mounts
            .lines()
            .find(|line| line.contains(root.to_str().unwrap()));
        line.unwrap().split(' ').nth(3).unwrap().starts_with("ro,")
    }
}

impl Drop for Plugged {
    fn drop(&mut self) {
        let _ = unmount(&self.root());
    }
}

#[test]
fn a_stick_is_writable_only_while_something_is_written() {
    let plugged = Plugged::new();
    let carriers = plugged.carriers();
    let share = connect(&ShareUrl::Directory(plugged.root()), &carriers).unwrap();
    assert!(plugged.is_read_only());
    let mut image = share.create("m/sda.raw.gz").unwrap();
    image.write_all(b"image").unwrap();
    assert!(!plugged.is_read_only());
    // A log line meanwhile does not close it under the image.
    share.append("maintenance.log", "hi\n").unwrap();
    assert!(!plugged.is_read_only());
    image.finish().unwrap();
    assert!(plugged.is_read_only());
    share.rename("m/sda.raw.gz", "m/b").unwrap();
    share.remove("m/nothing").unwrap();
    assert!(plugged.is_read_only());
    assert_eq!(fs::read(plugged.root().join("m/b")).unwrap(), b"image");
    assert_eq!(share.stat("m/b").unwrap().unwrap().size, 5);
    let mut half = share.create("m/c").unwrap();
    half.write_all(b"half").unwrap();
    drop(half);
    assert!(plugged.is_read_only());
    assert!(!plugged.root().join("m/c.part").exists());
}

#[test]
fn a_host_file_of_the_stick_can_be_deleted_and_stays_the_same_until_then() {
    let plugged = Plugged::new();
    let carriers = plugged.carriers();
    let share = connect(&ShareUrl::Directory(plugged.root()), &carriers).unwrap();
    share.append("hosts/a.toml", "version = 1\n").unwrap();
    let file = plugged.root().join("hosts/a.toml");
    let target: DeleteTarget = format!("file://{}", file.display()).parse().unwrap();
    let seen = delete::look(&target, &carriers).unwrap();
    delete::check(std::slice::from_ref(&target), &carriers).unwrap();
    assert!(plugged.is_read_only());
    assert_eq!(delete::look(&target, &carriers).unwrap(), seen);
    delete::delete(&[target], &carriers).unwrap();
    assert!(plugged.is_read_only() && !file.exists());
}

#[test]
fn a_full_stick_and_one_that_is_not_there_are_told() {
    let plugged = Plugged::new();
    let share = connect(&ShareUrl::Directory(plugged.root()), &plugged.carriers()).unwrap();
    let mut image = share.create("big").unwrap();
    let error = loop {
        if let Err(error) = image.write_all(&vec![7; 64 << 10]) {
            break error;
        }
    };
    assert!(
        error
            .to_string()
            .contains("the stick is full: make room on it"),
        "{error}"
    );
    drop(image);
    share
        .append("maintenance.log", "there is room again\n")
        .unwrap();
    unmount(&plugged.root()).unwrap();
    let error = format!("{:#}", share.append("maintenance.log", "x").unwrap_err());
    assert_eq!(
        error,
        "writing to the stick: no stick is mounted (EINVAL: Invalid argument)"
    );
}
