//! A tree with every kind of file and attribute that a tar can hold and Linux needs, made as root; and what of it is where.

// Each test file is a program of its own, and none uses everything.
#![allow(dead_code, reason = "shared by several test programs")]

use pitstop_imaging::event::{Level, Reporter, Silent};
use pitstop_imaging::image::{FileSource, Level as Effort};
use pitstop_trees::entry::{Attributes, Entry};
use pitstop_trees::{CaptureOptions, Excludes, Meta, Packing, TreeImage, capture, extract};
use rustix::fs::{
    AtFlags, CWD, FileType, IFlags, Mode, OFlags, Timespec, Timestamps, XattrFlags, makedev,
    mknodat, open, utimensat,
};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;

/// `VFS_CAP_REVISION_2` with `CAP_NET_RAW`, permitted and effective (linux/capability.h).
pub const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];
pub const LABEL: &[u8] = b"system_u:object_r:bin_t:s0\0";

pub fn options() -> CaptureOptions {
    CaptureOptions {
        packing: Packing {
            level: Effort::Fast,
            threads: 2,
        },
        excludes: Excludes::new(&[]).unwrap(),
        keep_identity: false,
        allow_changed: false,
        skipped: Vec::new(),
        meta: Meta::default(),
    }
}

/// A folder on a filesystem that keeps everything: ext4 in a file, mounted.
pub struct Disk {
    // Unmounted before it is removed.
    pub path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Disk {
    pub fn new(size: u64, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (file, path) = (folder.path().join("disk"), folder.path().join("mnt"));
        File::create(&file).unwrap().set_len(size).unwrap();
        run(Command::new("mkfs.ext4")
            .arg("-qF")
            .args(options)
            .arg(&file));
        fs::create_dir(&path).unwrap();
        run(Command::new("mount")
            .args(["-o", "loop,acl,user_xattr"])
            .arg(&file)
            .arg(&path));
        Self {
            path,
            _folder: folder,
        }
    }

    pub fn join(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Immutable files of a test that failed do not keep it mounted.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

pub fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

pub fn capture_to(root: &Path, image: &Path, options: &CaptureOptions) -> anyhow::Result<Meta> {
    let mut out = File::create(image).unwrap();
    capture(root, options, &mut out, &Silent)
}

pub fn extract_to(image: &Path, folder: &Path) -> anyhow::Result<()> {
    let source = FileSource::open(image)?;
    extract(&TreeImage::open(&source)?, folder, 2, &Silent)
}

/// Every entry of a tree, by capturing it: what else reads all that matters?
pub fn entries(root: &Path) -> Vec<Entry> {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("x.tar.gz");
    let options = CaptureOptions {
        keep_identity: true,
        ..options()
    };
    capture_to(root, &image, &options).unwrap();
    let source = FileSource::open(&image).unwrap();
    let mut entries: Vec<Entry> = TreeImage::open(&source)
        .unwrap()
        .index
        .entries()
        .cloned()
        .collect();
    // Of a filesystem of its own, and of no tree.
    entries.retain(|entry| !entry.path.is_within(b"lost+found"));
    entries
}

/// What differs between two lists of entries, for a message.
pub fn differences(
    one: &[Entry],
    other: &[Entry],
    ignore: impl Fn(&mut Attributes),
) -> Vec<String> {
    let plain = |entries: &[Entry]| -> Vec<Entry> {
        let mut entries = entries.to_vec();
        for entry in &mut entries {
            ignore(&mut entry.attributes);
        }
        entries
    };
    let (one, other) = (plain(one), plain(other));
    let mut found = Vec::new();
    for entry in &one {
        match other.iter().find(|it| it.path == entry.path) {
            Some(it) if it == entry => {}
            Some(it) => found.push(format!("{entry:?}\n  is {it:?}")),
            None => found.push(format!("{} is missing", entry.path)),
        }
    }
    for entry in &other {
        if !one.iter().any(|it| it.path == entry.path) {
            found.push(format!("{} is new", entry.path));
        }
    }
    found
}

fn time(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanos,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
        .unwrap_or_else(|error| panic!("{name} of {}: {error}", path.display()));
}

/// An ACL with one more user and one more group, as the kernel has it. GNU tar writes names where this computer knows some.
pub fn acl(permissions: u16) -> Vec<u8> {
    let none = u32::MAX;
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, bits, id) in [
        (0x01u16, 7u16, none),
        (0x02, permissions, 61_234),
        (0x04, 5, none),
        (0x08, 4, 62_345),
        (0x10, 7, none),
        (0x20, 1, none),
    ] {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&bits.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    acl
}

/// Makes the tree. On ext4, as root.
pub fn make_everything(root: &Path) {
    let at = |path: &str| root.join(path);
    for folder in [
        "etc",
        "usr/bin",
        "var/log",
        "a",
        "a/b",
        "dev",
        "d\u{e9}j\u{e0} vu",
        "setgid",
    ] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    kinds(root);
    names(root);
    contents(root);
    owners_and_attributes(root);
    // Folders last: what is made in them changes their times.
    fs::set_permissions(at("setgid"), fs::Permissions::from_mode(0o2775)).unwrap();
    fs::set_permissions(at("a"), fs::Permissions::from_mode(0o1777)).unwrap();
    chown(at("a/b"), Some(1234), Some(5678)).unwrap();
    for (number, folder) in (0..).zip([
        "a/b", "a", "etc", "usr/bin", "usr", "var/log", "var", "dev", "",
    ]) {
        time(&at(folder), 1_000_000_000 + number, 123_456_789);
    }
}

fn kinds(root: &Path) {
    let at = |path: &str| root.join(path);
    symlink("../usr/bin/tool", at("etc/link")).unwrap();
    lchown(at("etc/link"), Some(1001), Some(1002)).unwrap();
    time(&at("etc/link"), 1_111_111_111, 5);
    symlink("/nowhere/at/all", at("etc/dangling")).unwrap();
    symlink("x".repeat(300), at("etc/long-target")).unwrap();
    let mode = Mode::from_raw_mode(0o640);
    mknodat(
        CWD,
        at("dev/console"),
        FileType::CharacterDevice,
        mode,
        makedev(5, 1),
    )
    .unwrap();
    mknodat(
        CWD,
        at("dev/sda"),
        FileType::BlockDevice,
        mode,
        makedev(8, 0),
    )
    .unwrap();
    // As overlayfs has what is not there any more.
    mknodat(
        CWD,
        at("a/whiteout"),
        FileType::CharacterDevice,
        Mode::empty(),
        makedev(0, 0),
    )
    .unwrap();
    mknodat(CWD, at("dev/fifo"), FileType::Fifo, mode, 0).unwrap();
    fs::write(at("usr/bin/tool"), b"#!/bin/sh\n").unwrap();
    fs::hard_link(at("usr/bin/tool"), at("a/hard")).unwrap();
    fs::hard_link(at("etc/dangling"), at("etc/dangling-too")).unwrap();
    fs::hard_link(at("dev/fifo"), at("dev/fifo-too")).unwrap();
    fs::write(at("etc/empty"), b"").unwrap();
}

fn names(root: &Path) {
    let at = |name: &[u8]| root.join(OsStr::from_bytes(name));
    fs::write(at(b"a/caf\xe9 \xff"), b"latin-1").unwrap();
    fs::write(at(b"a/two\nlines\ttab \\ \"quote\""), b"odd").unwrap();
    fs::write(at(&[b"a/", &[b'n'; 255][..]].concat()), b"long").unwrap();
    fs::write(
        at(&[b"a/", &[0xe9; 200][..]].concat()),
        b"long and no UTF-8",
    )
    .unwrap();
    fs::write(at("d\u{e9}j\u{e0} vu/\u{1f980}".as_bytes()), b"crab").unwrap();
    let deep = format!("a/{}", vec!["d".repeat(60); 12].join("/"));
    fs::create_dir_all(at(deep.as_bytes())).unwrap();
    fs::write(at(format!("{deep}/file").as_bytes()), b"deep").unwrap();
    fs::write(at(b"a-b"), b"sorts between a and a/ by bytes").unwrap();
}

fn contents(root: &Path) {
    let at = |path: &str| root.join(path);
    let noise = |length: usize| -> Vec<u8> {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u8::try_from(state >> 24).unwrap()
        };
        (0..length).map(|_| next()).collect()
    };
    fs::write(at("usr/bin/large"), noise((5 << 20) + 4321)).unwrap();
    fs::write(at("usr/bin/exact"), noise(1 << 20)).unwrap();
    fs::write(at("usr/bin/two"), vec![7; 2 << 20]).unwrap();
    fs::write(at("usr/bin/group"), noise(256 << 10)).unwrap();
    for number in 0..300 {
        fs::write(at(&format!("usr/small-{number}")), noise(number * 37)).unwrap();
    }
    let giant = File::create(at("var/log/lastlog")).unwrap();
    giant.set_len(1 << 38).unwrap();
    giant.write_all_at(b"login", 1 << 32).unwrap();
    let holes = File::create(at("var/log/holes")).unwrap();
    holes.write_all_at(&noise(3 << 20), 1 << 20).unwrap();
    holes.write_all_at(b"end", 40 << 20).unwrap();
    File::create(at("var/log/nothing"))
        .unwrap()
        .set_len(10 << 20)
        .unwrap();
}

fn owners_and_attributes(root: &Path) {
    let at = |path: &str| root.join(path);
    let file = |path: &str| {
        File::create(at(path))
            .unwrap()
            .write_all(path.as_bytes())
            .unwrap();
        at(path)
    };
    let suid = file("usr/bin/su");
    chown(&suid, Some(65_534), Some(3_000_000_000)).unwrap();
    fs::set_permissions(&suid, fs::Permissions::from_mode(0o6711)).unwrap();
    let ping = file("usr/bin/ping");
    chown(&ping, Some(0), Some(42)).unwrap();
    xattr(&ping, "security.capability", &CAPABILITY);
    xattr(&ping, "security.selinux", LABEL);
    xattr(&at("etc/link"), "security.selinux", LABEL);
    let tagged = file("etc/tagged");
    xattr(&tagged, "user.empty", b"");
    xattr(&tagged, "user.binary", b"\0\xff\n=\0");
    xattr(&tagged, "user.with=equals%", b"x");
    xattr(&tagged, "trusted.overlay.opaque", b"y");
    xattr(&file("etc/shared"), "system.posix_acl_access", &acl(6));
    xattr(&at("setgid"), "system.posix_acl_access", &acl(7));
    xattr(&at("setgid"), "system.posix_acl_default", &acl(5));
    fs::set_permissions(file("etc/none"), fs::Permissions::from_mode(0o000)).unwrap();
    for (name, seconds, nanos) in [
        ("etc/before-1970", -86_400, 250_000_000),
        ("etc/long-ago", -2_000_000_000, 0),
        ("etc/future", 7_000_000_000, 999_999_999),
        ("etc/epoch", 0, 0),
    ] {
        time(&file(name), seconds, nanos);
    }
    for (name, bits) in [
        ("etc/immutable", 0x10),
        ("var/log/append", 0x20),
        ("etc/nodump", 0x40 | 0x80),
    ] {
        let path = file(name);
        let opened = open(&path, OFlags::RDONLY, Mode::empty()).unwrap();
        let has = rustix::fs::ioctl_getflags(&opened).unwrap();
        rustix::fs::ioctl_setflags(&opened, has | IFlags::from_bits_retain(bits)).unwrap();
    }
}

/// Lets a tree be removed that has immutable files.
pub fn soften(root: &Path) {
    run(Command::new("chattr")
        .args(["-R", "-f", "-i", "-a"])
        .arg(root));
}

/// Keeps what was said.
#[derive(Default)]
pub struct Said(pub Mutex<Vec<String>>);

impl Reporter for Said {
    fn event(&self, event: &pitstop_imaging::event::Event) {
        if let pitstop_imaging::event::Event::Message { level, text } = event
            && *level >= Level::Info
        {
            self.0.lock().unwrap().push(text.clone());
        }
    }
}
