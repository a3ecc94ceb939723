//! `pitstop mount`: single files come back from an image, over FUSE.

mod common;

use common::{PATIENCE, Server, pitstop, run};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pitstop_testing::mounts::{self, unmount};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const ROOT_AT: u64 = 8 * MIB;
const ROOT_SIZE: u64 = 48 * MIB;

/// Runs a program that must succeed; what it printed.
fn tool(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("{program} cannot be run ({error}): see .ci/setup"));
    assert!(output.status.success(), "{program}: {output:?}");
    output.stdout
}

/// What does not compress, so that a file fills chunks of its own.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// A disk with a GPT and an ext4 with files in partition 2; its image; what the image reads as.
struct Scene {
    _folder: TempDir,
    image: PathBuf,
    raw: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        File::create(&disk).unwrap().set_len(64 * MIB).unwrap();
        let path = disk.to_str().unwrap();
        tool("sgdisk", &["-n", "1:2M:+4M", "-n", "2:8M:+48M", path]);
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::write(tree.join("etc/hostname"), "pitstop\n").unwrap();
        fs::write(tree.join("big"), noise(9 << 20)).unwrap();
        let offset = format!("offset={ROOT_AT}");
        let size = format!("{}k", ROOT_SIZE / 1024);
        let tree = tree.to_str().unwrap();
        let options = [
            "-q", "-F", "-t", "ext4", "-d", tree, "-E", &offset, path, &size,
        ];
        tool("mke2fs", &options);
        let image = folder.path().join("sda.raw.gz");
        let output = run(&["backup", path, image.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
        let raw = tool("zcat", &[image.to_str().unwrap()]);
        Self {
            _folder: folder,
            image,
            raw,
        }
    }

    fn root(&self) -> &[u8] {
        let start = usize::try_from(ROOT_AT).unwrap();
        &self.raw[start..][..usize::try_from(ROOT_SIZE).unwrap()]
    }
}

/// `pitstop mount` as a child; unmounted when dropped.
struct Mounted {
    child: Child,
    dir: TempDir,
    line: String,
}

impl Mounted {
    fn new(image: &str) -> Self {
        Self::on(tempfile::tempdir().unwrap(), image)
    }

    fn on(dir: TempDir, image: &str) -> Self {
        let mut child = pitstop()
            .args(["mount", image])
            .arg(dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut told = BufReader::new(child.stdout.take().unwrap());
        told.read_line(&mut line).unwrap();
        assert!(
            !line.is_empty(),
            "not mounted: {:?}",
            child.wait_with_output()
        );
        Self { child, dir, line }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn wait(&mut self) -> ExitStatus {
        let late = Instant::now() + PATIENCE;
        while Instant::now() < late {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("it goes on though it was unmounted");
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    /// All it said on standard error, once it ended.
    fn said(&mut self) -> String {
        let mut text = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What debugfs finds in a filesystem.
fn cat(image: &Path, file: &str) -> Vec<u8> {
    tool(
        "debugfs",
        &["-R", &format!("cat {file}"), image.to_str().unwrap()],
    )
}

#[test]
fn a_disk_and_its_partitions_are_files() {
    let scene = Scene::new();
    let mut mounted = Mounted::new(scene.image.to_str().unwrap());
    assert!(
        mounted.line.ends_with(": disk.raw, p1.raw, p2.raw\n"),
        "{}",
        mounted.line
    );
    assert_eq!(names(mounted.dir.path()), ["disk.raw", "p1.raw", "p2.raw"]);
    let root = mounted.path("p2.raw");
    assert_eq!(fs::metadata(&root).unwrap().len(), ROOT_SIZE);
    assert_eq!(cat(&root, "/etc/hostname"), b"pitstop\n");
    assert!(cat(&root, "/big") == noise(9 << 20));
    assert!(fs::read(mounted.path("disk.raw")).unwrap() == scene.raw);
    assert!(fs::read(&root).unwrap() == scene.root());
    assert_eq!(fs::metadata(mounted.path("p1.raw")).unwrap().len(), 4 * MIB);
    let err = fs::write(&root, b"x").unwrap_err();
    assert_eq!(err.raw_os_error(), Some(libc::EROFS));
    assert_eq!(
        fs::metadata(mounted.path("p9.raw"))
            .unwrap_err()
            .raw_os_error(),
        Some(libc::ENOENT)
    );
    // As systemd ends a service with `SendSIGHUP`.
    mounted.signal(Signal::SIGTERM);
    mounted.signal(Signal::SIGHUP);
    assert!(mounted.wait().success());
    assert_eq!(mounted.said(), "");
    assert_eq!(names(mounted.dir.path()), [""; 0]);
}

#[test]
fn reads_at_odd_places_are_right() {
    let scene = Scene::new();
    let mounted = Mounted::new(scene.image.to_str().unwrap());
    let root = File::open(mounted.path("p2.raw")).unwrap();
    for (at, length) in [
        (0, 1),
        (4095, 2),
        (MIB - 3, 5),
        (3 * MIB - 1, 4 << 20),
        (ROOT_SIZE - 7, 7),
    ] {
        let mut bytes = vec![0; length];
        root.read_exact_at(&mut bytes, at).unwrap();
        assert!(
            bytes == scene.root()[usize::try_from(at).unwrap()..][..length],
            "{at}"
        );
    }
    assert_eq!(root.read_at(&mut [0; 10], ROOT_SIZE - 4).unwrap(), 4);
    assert_eq!(root.read_at(&mut [0; 10], ROOT_SIZE + 4).unwrap(), 0);
}

#[test]
fn an_unmount_from_outside_ends_it_and_one_in_use_goes_on() {
    let scene = Scene::new();
    let mut mounted = Mounted::new(scene.image.to_str().unwrap());
    let mut file = File::open(mounted.path("disk.raw")).unwrap();
    mounted.signal(Signal::SIGTERM);
    // Still in use, so it must still be served.
    let mut sector = [0; 512];
    file.seek(SeekFrom::Start(512)).unwrap();
    file.read_exact(&mut sector).unwrap();
    assert_eq!(&sector[..8], b"EFI PART");
    thread::sleep(Duration::from_millis(300));
    assert!(mounted.child.try_wait().unwrap().is_none());
    drop(file);
    unmount(mounted.dir.path()).unwrap();
    assert!(mounted.wait().success());
    let said = mounted.said();
    assert!(
        said.contains("unmount what is mounted from it first"),
        "{said}"
    );
}

/// `umount --lazy`, and a service with a view of the mounts of its own, leave it so.
#[test]
fn what_is_unmounted_and_still_in_use_ends_by_signals() {
    let scene = Scene::new();
    let dir = tempfile::tempdir().unwrap();
    let below = mounts::Mounted::new(&["-t", "tmpfs", "none"], dir.path());
    fs::write(below.path().join("below"), "").unwrap();
    let mut mounted = Mounted::on(dir, scene.image.to_str().unwrap());
    let _file = File::open(mounted.path("disk.raw")).unwrap();
    tool("umount", &["--lazy", mounted.dir.path().to_str().unwrap()]);
    // Signals that come together count once.
    let late = Instant::now() + PATIENCE;
    while mounted.child.try_wait().unwrap().is_none() && Instant::now() < late {
        mounted.signal(Signal::SIGTERM);
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(mounted.wait().code(), Some(1));
    let said = mounted.said();
    assert!(said.contains("somebody had it still"), "{said}");
    // What else is mounted there is no concern of its.
    assert_eq!(names(below.path()), ["below"]);
    drop(below);
}

#[test]
fn an_image_on_a_server_is_mounted_as_well() {
    let scene = Scene::new();
    let server = Server::start();
    let put = server.put(
        "/share/10.0.0.1/sda.raw.gz",
        &fs::read(&scene.image).unwrap(),
    );
    assert_eq!(put.status, 201);
    let url = format!(
        "http://ann:s3cret@{}/share/10.0.0.1/sda.raw.gz",
        server.http
    );
    let mounted = Mounted::new(&url);
    // Every user of the machine reads what is mounted.
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(mounts.contains("/share/10.0.0.1/sda.raw.gz ") && !mounts.contains("s3cret"));
    assert_eq!(cat(&mounted.path("p2.raw"), "/etc/hostname"), b"pitstop\n");
    assert!(fs::read(mounted.path("p2.raw")).unwrap() == scene.root());
}

#[test]
fn a_flipped_bit_is_an_input_output_error_and_is_named() {
    let scene = Scene::new();
    let mut bytes = fs::read(&scene.image).unwrap();
    // Within the noise of /big, whose whole chunks are stored as they are.
    let noise = noise(9 << 20);
    let middle = &noise[4 << 20..][..64];
    let found = bytes.windows(64).position(|window| window == middle);
    bytes[found.unwrap()] ^= 1;
    fs::write(&scene.image, bytes).unwrap();
    let mut mounted = Mounted::new(scene.image.to_str().unwrap());
    let err = fs::read(mounted.path("p2.raw")).unwrap_err();
    assert_eq!(err.raw_os_error(), Some(libc::EIO));
    assert_eq!(cat(&mounted.path("p2.raw"), "/etc/hostname"), b"pitstop\n");
    mounted.signal(Signal::SIGTERM);
    assert!(mounted.wait().success());
    let said = mounted.said();
    assert!(said.starts_with("pitstop: error: p2.raw: chunk "), "{said}");
    assert!(said.contains("sda.raw.gz: its "), "{said}");
}

fn refused(arguments: &[&str]) -> String {
    let output: Output = run(arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn what_cannot_be_mounted_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let foreign = folder.path().join("old.gz");
    fs::write(
        &foreign,
        tool("sh", &["-c", "head -c 4096 /dev/zero | gzip"]),
    )
    .unwrap();
    let foreign = foreign.to_str().unwrap();
    assert!(refused(&["mount", foreign, dir]).ends_with("by `pitstop convert`\n"));
    let nowhere = folder.path().join("nowhere");
    let said = refused(&["mount", foreign, nowhere.to_str().unwrap()]);
    assert!(said.ends_with("is no folder: make it first\n"), "{said}");
}

#[test]
fn a_disk_without_a_table_is_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    File::create(&disk).unwrap().set_len(3 * MIB).unwrap();
    let image = folder.path().join("image.gz");
    let output = run(&["backup", disk.to_str().unwrap(), image.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let mounted = Mounted::new(image.to_str().unwrap());
    assert_eq!(names(mounted.dir.path()), ["disk.raw"]);
    assert!(fs::read(mounted.path("disk.raw")).unwrap() == vec![0; 3 << 20]);
}
