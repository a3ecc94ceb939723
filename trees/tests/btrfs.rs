//! A running system on Btrfs is captured as it was at one moment. As root: the system that runs is a chroot.

mod common;

use common::{capture_to, entries, extract_to, options, run};
use pitstop_imaging::event::Silent;
use pitstop_testing::mounts::unmount;
use pitstop_trees::btrfs::{SNAPSHOTS, Shelf};
use pitstop_trees::{CaptureOptions, Consistency, Meta, capture};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The size of a file that is read in several parts.
const BIG: u64 = 12 << 20;

fn btrfs(act: &[&str], paths: &[&Path]) {
    run(Command::new("btrfs")
        .args(["-q", "subvolume"])
        .args(act)
        .args(paths));
}

/// A Btrfs with a system in `@`, another subvolume in that, `@home`, and a chroot of them.
struct Running {
    folder: tempfile::TempDir,
    device: String,
}

impl Running {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk");
        File::create(&file).unwrap().set_len(256 << 20).unwrap();
        run(Command::new("mkfs.btrfs").arg("-q").arg(&file));
        let shown = run(Command::new("losetup").args(["-f", "--show"]).arg(&file));
        let device = String::from_utf8(shown.stdout).unwrap().trim().to_owned();
        let this = Self { folder, device };
        let top = this.at("top");
        fs::create_dir(&top).unwrap();
        this.mount("subvolid=5", &top);
        for name in ["@", "@/nested", "@/nested/deeper", "@home"] {
            btrfs(&["create"], &[&top.join(name)]);
        }
        for folder in ["@/etc", "@/home", "@/proc", "@/dev"] {
            fs::create_dir(top.join(folder)).unwrap();
        }
        let fstab = "LABEL=x / btrfs subvol=@ 0 0\nLABEL=x /home btrfs subvol=@home 0 0\n";
        fs::write(top.join("@/etc/fstab"), fstab).unwrap();
        for file in [
            "@/file",
            "@/nested/file",
            "@/nested/deeper/file",
            "@home/file",
        ] {
            fs::write(top.join(file), "before").unwrap();
        }
        File::create(top.join("@/big"))
            .unwrap()
            .write_all(&vec![0; usize::try_from(BIG).unwrap()])
            .unwrap();
        this
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn mount(&self, options: &str, at: &Path) {
        run(Command::new("mount")
            .args(["-o", options, &self.device])
            .arg(at));
    }

    /// Does something in the system that runs.
    fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let root = self.at("root");
        let _ = fs::create_dir(&root);
        std::thread::scope(|scope| {
            let apart = || {
                // SAFETY: a plain call to the kernel, about this thread alone.
                let apart = unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) };
                assert_eq!(apart, 0, "this test needs root");
                run(Command::new("mount").args(["--make-rprivate", "/"]));
                self.mount("subvol=@", &root);
                self.mount("subvol=@home", &root.join("home"));
                run(Command::new("mount")
                    .args(["-t", "proc", "proc"])
                    .arg(root.join("proc")));
                run(Command::new("mount")
                    .args(["--bind", "/dev"])
                    .arg(root.join("dev")));
                std::os::unix::fs::chroot(&root).unwrap();
                std::env::set_current_dir("/").unwrap();
                act()
            };
            scope.spawn(apart).join().unwrap()
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = unmount(&self.at("top"));
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
    }
}

/// Our snapshots.
fn snapshots(top: &Path) -> Vec<String> {
    let Ok(found) = fs::read_dir(top.join(SNAPSHOTS)) else {
        return Vec::new();
    };
    let names = found.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// Changes files, once, when the first bytes of the image are written.
struct Out {
    file: File,
    /// Open: whoever writes is in a chroot.
    top: File,
    seen: Option<Vec<String>>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.seen.is_none() {
            let top = PathBuf::from(format!("/proc/self/fd/{}", self.top.as_raw_fd()));
            self.seen = Some(snapshots(&top));
            let big = File::options().write(true).open(top.join("@/big"))?;
            big.write_all_at(&vec![b'x'; 1 << 20], BIG - (1 << 20))?;
            fs::write(top.join("@home/new"), "x")?;
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Captures it to `image`. Returns what is said of it, and the snapshots that there were meanwhile.
fn captured(running: &Running, image: &Path) -> (Meta, Vec<String>) {
    let mut out = Out {
        file: File::create(image).unwrap(),
        top: File::open(running.at("top")).unwrap(),
        seen: None,
    };
    let meta = running.within(|| capture(Path::new("/"), &options(), &mut out, &Silent).unwrap());
    (meta, out.seen.unwrap())
}

#[test]
fn a_running_system_on_btrfs_is_captured_as_it_was_at_one_moment() {
    let running = Running::new();
    let image = running.at("image.tar.gz");
    // What a capture that was killed has left, and what is somebody's own.
    fs::create_dir(running.at("top").join(SNAPSHOTS)).unwrap();
    let (left, own) = (format!("top/{SNAPSHOTS}/capture-7"), "top/capture-8");
    btrfs(
        &["snapshot", "-r"],
        &[&running.at("top/@"), &running.at(&left)],
    );
    btrfs(
        &["snapshot", "-r"],
        &[&running.at("top/@"), &running.at(own)],
    );
    let (meta, mut seen) = captured(&running, &image);
    seen.sort();
    assert_eq!(seen, ["capture-0", "capture-1", "capture-2", "capture-3"]);
    assert!(!running.at("top").join(SNAPSHOTS).exists() && running.at(own).exists());
    assert_eq!(meta.consistency, Consistency::Snapshot);
    assert_eq!(meta.changed, [""; 0]);
    assert_eq!(meta.filesystems[0].subvolume, "/@");
    let back = running.at("back");
    extract_to(&image, &back).unwrap();
    for file in ["file", "nested/file", "nested/deeper/file", "home/file"] {
        assert_eq!(
            fs::read_to_string(back.join(file)).unwrap(),
            "before",
            "{file}"
        );
    }
    assert!(
        fs::read(back.join("big"))
            .unwrap()
            .iter()
            .all(|byte| *byte == 0)
    );
    assert!(!back.join("home/new").exists());
    assert!(!back.join("proc/self").exists());
}

#[test]
fn where_there_can_be_no_snapshot_it_is_read_as_it_is() {
    let running = Running::new();
    let image = running.at("image.tar.gz");
    let held = Shelf::open(Path::new(&running.device)).unwrap();
    let (meta, seen) = captured(&running, &image);
    assert_eq!(meta.consistency, Consistency::Live);
    assert_eq!(seen, [""; 0]);
    drop(held);
    assert_eq!(
        entries(&running.at("top/@")).len() + 1,
        usize::try_from(meta.entries).unwrap()
    );
    // Something else has the name.
    fs::remove_dir(running.at("top").join(SNAPSHOTS)).unwrap();
    fs::write(running.at("top").join(SNAPSHOTS), "mine").unwrap();
    let (meta, _) = captured(&running, &image);
    assert_eq!(meta.consistency, Consistency::Live);
    assert_eq!(
        fs::read_to_string(running.at("top").join(SNAPSHOTS)).unwrap(),
        "mine"
    );
}

#[test]
fn nothing_is_captured_while_something_is_installed() {
    let running = Running::new();
    let lock = running.at("top/@/var/lib/dpkg/lock-frontend");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let held = File::create(&lock).unwrap();
    // SAFETY: plain numbers, for which zeros stand for the whole file.
    let mut whole: libc::flock = unsafe { std::mem::zeroed() };
    whole.l_type = libc::F_WRLCK.try_into().unwrap();
    // SAFETY: the file is open, and the structure lives through the call.
    let locked = unsafe { libc::fcntl(held.as_raw_fd(), libc::F_OFD_SETLK, &raw const whole) };
    assert_eq!(locked, 0);
    let captured = |allow_changed: bool| {
        let options = CaptureOptions {
            allow_changed,
            ..options()
        };
        running.within(|| capture(Path::new("/"), &options, &mut io::sink(), &Silent))
    };
    let error = captured(false).unwrap_err().to_string();
    assert!(error.contains("lock-frontend is held"), "{error}");
    captured(true).unwrap();
    drop(held);
    captured(false).unwrap();
}

#[test]
fn compression_of_files_and_folders_comes_back_on_btrfs_and_other_filesystems_pass_over_it() {
    let running = Running::new();
    let top = running.at("top");
    let tree = top.join("tree");
    fs::create_dir_all(tree.join("folder")).unwrap();
    fs::write(tree.join("file"), "data").unwrap();
    for (path, kind) in [("folder", "zstd"), ("file", "lzo")] {
        run(Command::new("btrfs")
            .args(["property", "set"])
            .arg(tree.join(path))
            .args(["compression", kind]));
    }
    let image = running.at("image.tar.gz");
    capture_to(&tree, &image, &options()).unwrap();
    extract_to(&image, &top.join("again")).unwrap();
    for (path, kind) in [("folder", "zstd"), ("file", "lzo")] {
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(
            top.join("again").join(path),
            "btrfs.compression",
            &mut value,
        );
        assert_eq!(&value[..length.unwrap()], kind.as_bytes(), "{path}");
    }
    let other = common::Disk::new(32 << 20, &[]);
    extract_to(&image, &other.join("elsewhere")).unwrap();
}
