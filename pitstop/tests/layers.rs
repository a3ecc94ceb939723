//! Files by layer: `pitstop fleet show NAME --files`, and what `fleet check` says of folders that nobody has.

mod common;

use common::pitstop;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;

const FLEET: &str = "version = 1\n[network.\"10.0.2.0/24\"]\n[group.front]\nmatch = \"desk*\"\n\
                     [host.\"desk-[1-2]\"]\nip = \"10.0.2.[1-2]\"\n";

struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Self {
        let lab = Self(tempfile::tempdir().unwrap());
        fs::write(lab.0.path().join("fleet.toml"), FLEET).unwrap();
        lab
    }

    fn path(&self, below: &str) -> PathBuf {
        let path = self.0.path().join("share/layers").join(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn file(&self, below: &str, text: &str) {
        fs::write(self.path(below), text).unwrap();
    }

    fn run(&self, words: &[&str]) -> Output {
        let root: &Path = self.0.path();
        pitstop()
            .arg("fleet")
            .args(words)
            .arg("--root")
            .arg(root)
            .output()
            .unwrap()
    }

    #[track_caller]
    fn does(&self, words: &[&str]) -> (String, String) {
        let output = self.run(words);
        assert!(output.status.success(), "{output:?}");
        (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    #[track_caller]
    fn fails(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

#[test]
fn each_file_is_shown_with_the_layer_that_gave_it() {
    let lab = Lab::new();
    assert_eq!(
        lab.does(&["show", "desk-1", "--files"]).0,
        "desk-1\n  no files\n"
    );
    lab.file("base/etc/motd", "all");
    lab.file("base/etc/profile.d/x.sh", "");
    lab.file("network/10.0.2.0_24/etc/resolv.conf", "");
    lab.file("group/front/etc/motd", "front");
    lab.file("host/desk-2/etc/motd", "two");
    symlink(
        "/usr/share/zoneinfo/UTC",
        lab.path("ip/10.0.2.2/etc/localtime"),
    )
    .unwrap();
    assert_eq!(
        lab.does(&["show", "desk-2", "--files"]).0,
        "desk-2\n  \
         /etc/localtime -> /usr/share/zoneinfo/UTC  ip/10.0.2.2\n  \
         /etc/motd                                  host/desk-2, over group/front, base\n  \
         /etc/profile.d/x.sh                        base\n  \
         /etc/resolv.conf                           network/10.0.2.0_24\n"
    );
    let one: serde_json::Value =
        serde_json::from_str(&lab.does(&["show", "desk-1", "--files", "--json"]).0).unwrap();
    assert_eq!(
        one["files"][0],
        serde_json::json!({"path": "/etc/motd", "kind": "file", "layer": "group/front", "hides": ["base"], "size": 5})
    );
    let many: serde_json::Value =
        serde_json::from_str(&lab.does(&["show", "@front", "--files", "--json"]).0).unwrap();
    assert_eq!(many.as_array().map(Vec::len), Some(2));
    assert_eq!(lab.does(&["check"]).1, "");
}

#[test]
fn what_is_odd_about_the_folders_is_told() {
    let lab = Lab::new();
    lab.file("base/etc/motd", "");
    lab.file("host/desk-1/etc", "a file where a folder is");
    lab.file("group/back/x", "");
    lab.file("hots/desk-1/x", "");
    lab.file("readme", "");
    symlink("../../../etc", lab.path("base/out")).unwrap();
    let (_, warnings) = lab.does(&["check"]);
    for what in [
        "pitstop: warning: layers/group/back is for no machine: nobody defined the group \"back\"",
        "layers/hots/desk-1 is for no machine: there are base, network, group, host and ip",
        "layers/readme is for no machine",
        "layers/base/out is a link that leads out of the machine's own files: ../../../etc",
        "layers/host/desk-1/etc is a file, and layers/base/etc is a folder: one cannot lie over the other",
    ] {
        assert_eq!(warnings.matches(what).count(), 1, "{what}: {warnings}");
    }
    let errors = lab.fails(&["show", "desk-1", "--files"]);
    assert!(errors.contains("one cannot lie over the other"), "{errors}");
    // A folder of a layer that is itself a way out of the share.
    fs::remove_dir_all(lab.path("host")).unwrap();
    fs::remove_file(lab.path("base/out")).unwrap();
    symlink("/etc", lab.path("host/desk-1")).unwrap();
    let errors = lab.fails(&["show", "desk-1", "--files"]);
    assert!(errors.contains("layers/host/desk-1: "), "{errors}");
}
