//! `pitstop tree update` of a root on Btrfs, cut off at any point, twice; and `pitstop tree rollback`. As root.

mod common;

use common::{fails, pitstop, run, text};
use pitstop_testing::mounts::unmount;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const FSTAB: &str = "LABEL=r / btrfs subvol=@ 0 0\nLABEL=s /srv ext4 defaults 0 2\n";

fn tool(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    text(&output)
}

/// A root that is the subvolume `@`, `/srv` on another filesystem, and two images.
struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for (file, size) in [("root.img", 160 << 20), ("srv.img", 32 << 20)] {
            fs::File::create(lab.at(file))
                .unwrap()
                .set_len(size)
                .unwrap();
        }
        tool(Command::new("mkfs.btrfs").arg("-q").arg(lab.at("root.img")));
        tool(Command::new("mkfs.ext4").arg("-qF").arg(lab.at("srv.img")));
        for folder in ["top", "machine", "tmp"] {
            fs::create_dir(lab.at(folder)).unwrap();
        }
        // Of one file there is one device: a filesystem is not mounted from two.
        let shown = Command::new("losetup")
            .args(["-f", "--show"])
            .arg(lab.at("root.img"))
            .output();
        let device = text(&shown.unwrap()).trim().to_owned();
        let mount = |options: &str, on: &str| {
            tool(
                Command::new("mount")
                    .args(["-o", options, &device])
                    .arg(lab.at(on)),
            );
        };
        fs::write(lab.at("device"), &device).unwrap();
        mount("subvolid=5", "top");
        tool(
            Command::new("btrfs")
                .args(["-q", "subvolume", "create"])
                .arg(lab.at("top/@")),
        );
        mount("subvol=@", "machine");
        fs::create_dir_all(lab.at("machine/etc")).unwrap();
        fs::create_dir_all(lab.at("machine/srv")).unwrap();
        fs::write(lab.at("machine/etc/fstab"), FSTAB).unwrap();
        tool(
            Command::new("mount")
                .args(["-o", "loop"])
                .arg(lab.at("srv.img"))
                .arg(lab.at("machine/srv")),
        );
        for tree in ["a", "b"] {
            make_tree(&lab.at(tree), tree);
            let image = lab.path(&format!("{tree}.tar.gz"));
            text(&run(&["tree", "capture", &lab.path(tree), &image]));
        }
        text(&lab.update("a", &["--changes", "replace"]));
        lab
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn path(&self, path: &str) -> String {
        self.at(path).to_str().unwrap().to_owned()
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_default()
    }

    fn arguments(&self, tree: &str) -> [String; 4] {
        [
            "tree".into(),
            "update".into(),
            self.path(&format!("{tree}.tar.gz")),
            self.path("machine"),
        ]
    }

    fn update(&self, tree: &str, options: &[&str]) -> Output {
        pitstop()
            .args(self.arguments(tree))
            .args(options)
            .env("TMPDIR", self.at("tmp"))
            .output()
            .unwrap()
    }

    /// Which tree the root is, and `/srv`.
    fn is(&self) -> (String, String) {
        let root: Vec<String> = (0..8)
            .map(|number| self.read(&format!("machine/usr/file{number}")))
            .collect();
        assert!(root.iter().all(|it| *it == root[0]), "{root:?}");
        (root[0].clone(), self.read("machine/srv/file"))
    }

    /// Updates until the nth call of `syscall`, where it is killed. Whether it came to that.
    fn cut(&self, syscall: &str, nth: u32) -> bool {
        let mut strace = Command::new("strace");
        strace.args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={syscall}"),
        ]);
        strace.args(["-e", &format!("inject={syscall}:signal=SIGKILL:when={nth}")]);
        let output = strace
            .arg(pitstop().get_program())
            .args(self.arguments("b"))
            .env("TMPDIR", self.at("tmp"))
            .output()
            .unwrap();
        output.status.signal() == Some(9) || output.status.code() == Some(137)
    }

    /// As it was deployed.
    fn reset(&self) {
        text(&run(&["tree", "rollback", &self.path("machine")]));
        fs::write(self.at("machine/srv/file"), "a").unwrap();
        old_time(&self.at("machine/srv/file"));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for on in ["machine/srv", "machine", "top"] {
            let _ = Command::new("umount").arg("-l").arg(self.at(on)).status();
        }
        let _ = Command::new("losetup")
            .args(["-d", &self.read("device")])
            .status();
    }
}

fn old_time(path: &Path) {
    tool(Command::new("touch").args(["-d", "@1700000000"]).arg(path));
}

fn make_tree(root: &Path, tree: &str) {
    for folder in ["etc", "usr", "srv", "boot", "var/lib"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("etc/fstab"), FSTAB).unwrap();
    fs::write(root.join("srv/file"), tree).unwrap();
    old_time(&root.join("srv/file"));
    for number in 0..8 {
        fs::write(root.join(format!("usr/file{number}")), tree).unwrap();
    }
}

/// Points of a run that are told apart by what the program asks the kernel for: the snapshot and its mounts; staging; the journals,
/// every file's place, the snapshot that is put aside; the exchange.
const CUTS: [(&str, &[u32]); 6] = [
    ("move_mount", &[1, 2]),
    ("mkdirat", &[1, 2, 3]),
    ("syncfs", &[1, 2, 3, 5, 7]),
    ("renameat", &[1, 2, 3, 4, 8, 12]),
    ("renameat2", &[1, 2]),
    ("unlinkat", &[1, 3, 5, 7]),
];

#[test]
fn a_power_cut_at_any_point_leaves_a_whole_root_and_the_next_run_ends_it() {
    let lab = Lab::new();
    assert_eq!(lab.is(), ("a".into(), "a".into()));
    let (mut before, mut after) = (0, 0);
    for (syscall, points) in CUTS {
        for nth in points {
            if !lab.cut(syscall, *nth) {
                // It has fewer of these, and ran to its end.
                assert_eq!(lab.is(), ("b".into(), "b".into()), "{syscall} {nth}");
                lab.reset();
                continue;
            }
            // What is mounted is the old one, untouched; what is the root is one of the two.
            assert_eq!(lab.is().0, "a", "{syscall} {nth}");
            let root = lab.read("top/@/usr/file0");
            assert!(root == "a" || root == "b", "{syscall} {nth}");
            if lab.at("top/.pitstop-snapshots/swap.toml").exists() {
                after += 1;
                if root == "a" {
                    let refused = fails(&lab.update("b", &["--dry-run"]));
                    assert!(refused.contains("was cut off"), "{refused}");
                }
            } else {
                before += 1;
            }
            // Cut off once more on the way.
            lab.cut(syscall, nth / 2 + 1);
            if lab.read("top/@/usr/file0") == "b" {
                // The old one is mounted still, as after a power cut it would not be.
                for point in ["machine/srv", "machine"] {
                    unmount(&lab.at(point)).unwrap();
                }
                let device = lab.read("device");
                tool(
                    Command::new("mount")
                        .args(["-o", "subvol=@", &device])
                        .arg(lab.at("machine")),
                );
                tool(
                    Command::new("mount")
                        .args(["-o", "loop"])
                        .arg(lab.at("srv.img"))
                        .arg(lab.at("machine/srv")),
                );
            }
            text(&lab.update("b", &[]));
            assert_eq!(lab.is(), ("b".into(), "b".into()), "{syscall} {nth}");
            assert_eq!(
                lab.read("top/.pitstop-snapshots/old/usr/file0"),
                "a",
                "{syscall} {nth}"
            );
            let left: Vec<_> = fs::read_dir(lab.at("top/.pitstop-snapshots"))
                .unwrap()
                .collect();
            assert_eq!(left.len(), 1, "{syscall} {nth}: {left:?}");
            assert!(
                !lab.at("machine/srv/.pitstop-update").exists(),
                "{syscall} {nth}"
            );
            // What the killed ones had mounted is let go.
            let left = common::everything_in(&lab.at("tmp"));
            let left = left.iter().find(|name| name.starts_with("pitstop-update-"));
            assert_eq!(left, None, "{syscall} {nth}");
            lab.reset();
        }
    }
    assert!(before >= 5 && after >= 5, "{before} before, {after} after");
    let error = fails(&run(&["tree", "rollback"]));
    assert!(error.contains("say --live"), "{error}");
}
