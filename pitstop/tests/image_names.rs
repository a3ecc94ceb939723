//! Images under every name that a file may have, disks that are in use, and folders that are none for images.

mod common;

use common::{Server, run};
use pitstop_testing::mounts::unmount;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn names_with_signs_that_urls_give_a_meaning_are_images_of_their_own() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    // As they are typed, and as the file is called then.
    let names = [
        ("a#1.raw.gz", "a#1.raw.gz"),
        ("a#2.raw.gz", "a#2.raw.gz"),
        ("100%.raw.gz", "100%.raw.gz"),
        ("what%3F.raw.gz", "what?.raw.gz"),
        ("with a space.raw.gz", "with a space.raw.gz"),
        ("Büro.raw.gz", "Büro.raw.gz"),
    ];
    for (number, (typed, name)) in names.iter().enumerate() {
        let disk = vec![u8::try_from(number).unwrap() + 1; 1 << 20];
        fs::write(at("disk"), &disk).unwrap();
        let url = format!("http://{}/share/10.0.2.15/{typed}", server.http);
        let up = run(&["backup", &at("disk"), &url]);
        assert!(up.status.success(), "{name}: {}", told(&up));
        for file in [(*name).to_owned(), format!("{name}.toml")] {
            let file = server.path("share/10.0.2.15").join(file);
            assert!(file.exists(), "{}", file.display());
        }
    }
    for (number, (typed, name)) in names.iter().enumerate() {
        let url = format!("http://{}/share/10.0.2.15/{typed}", server.http);
        let back = at(&format!("back {number}"));
        let down = run(&["restore", &url, &back]);
        assert!(down.status.success(), "{name}: {}", told(&down));
        let disk = fs::read(&back).unwrap();
        assert!(
            disk.iter().all(|byte| usize::from(*byte) == number + 1),
            "{name}"
        );
    }
    // The same names as files.
    for (_, name) in names {
        let image = at(name);
        assert!(run(&["backup", &at("disk"), &image]).status.success());
        assert!(run(&["verify", &image]).status.success(), "{name}");
    }
}

#[test]
fn a_mistyped_device_is_not_made_as_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    fs::write(&disk, vec![1; 1 << 20]).unwrap();
    let disk = disk.to_str().unwrap();
    for arguments in [
        ["backup", disk, "/dev/pitstop-typo"],
        ["convert", disk, "/dev/pitstop-typo.gz"],
        ["convert", disk, "/dev/pitstop-typo.raw"],
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let told = told(&output);
        assert!(
            told.contains(&format!("there is no {}", arguments[2])),
            "{told}"
        );
        assert!(!Path::new(arguments[2]).exists());
    }
}

/// An ext4 in a file, mounted by the kernel through a loop device.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = fs::File::create(folder.path().join("disk")).unwrap();
        file.set_len(16 << 20).unwrap();
        fs::create_dir(folder.path().join("a b")).unwrap();
        let mounted = Self(folder);
        mounted.must("mke2fs", &["-q", "-F", "-t", "ext4", "disk"]);
        mounted.must("mount", &["-o", "loop", "disk", "a b"]);
        mounted
    }

    fn must(&self, program: &str, arguments: &[&str]) {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(self.0.path())
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .output()
            .unwrap();
        assert!(output.status.success(), "{program}: {}", told(&output));
    }

    fn backup(&self) -> String {
        let at = |name: &str| self.0.path().join(name).display().to_string();
        let output = run(&["backup", &at("disk"), &at("disk.raw.gz"), "--force"]);
        assert!(output.status.success(), "{}", told(&output));
        told(&output)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let folder = self.0.path().join("a b");
        if let Err(error) = unmount(&folder) {
            eprintln!("{error}");
        }
    }
}

#[test]
fn a_filesystem_that_is_mounted_for_writing_is_warned_of() {
    let disk = Mounted::new();
    let place = fs::canonicalize(disk.0.path().join("a b")).unwrap();
    let warning = format!("is mounted for writing at {}", place.display());
    let warned = disk.backup();
    assert!(warned.contains(&warning), "{warned}");
    disk.must("mount", &["-o", "remount,ro", "a b"]);
    let quiet = disk.backup();
    assert!(!quiet.contains("mounted for writing"), "{quiet}");
}
