//! Disks with filesystems on them, and images of them that shrink.
#![allow(dead_code, reason = "each test program uses a part of what they share")]

use crate::common::{everything_in, run as pitstop_run};
use crate::used_common::{Loop, MIB, Mount, Tree, content, copy_data, populate, run, sparse, tree};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

pub const EXT4: [&str; 6] = ["mke2fs", "-q", "-t", "ext4", "-b", "4096"];
pub const GPT: &str = "label: gpt\nstart=1MiB, size=8MiB, type=uefi\nstart=9MiB, size=300MiB, type=linux, name=root\n";

/// A disk, and images of it, in a folder of their own.
pub struct Bench {
    pub dir: TempDir,
}

impl Bench {
    /// With the disk's table made.
    pub fn new(size: u64, table: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let disk = sparse(&dir, "disk", size);
        if !table.is_empty() {
            let script = dir.path().join("table");
            fs::write(&script, table).unwrap();
            let command = format!("sfdisk -q {} < {}", disk.display(), script.display());
            run("sh", &["-c", &command]);
            fs::remove_file(script).unwrap();
        }
        Self { dir }
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Puts what `make` makes of a file to a place of the disk.
    pub fn put(&self, start: u64, size: u64, make: impl FnOnce(&Path)) {
        let part = sparse(&self.dir, "part", size);
        make(&part);
        let disk = OpenOptions::new()
            .write(true)
            .open(self.path("disk"))
            .unwrap();
        copy_data(&File::open(&part).unwrap(), &disk, start);
        fs::remove_file(part).unwrap();
    }

    /// A filesystem that was full once, so that its files lie all over it; what is left of them.
    pub fn fill(&self, start: u64, size: u64, mkfs: &[&str], mount: fn(&Path) -> Mount) -> Tree {
        let mut files = Tree::new();
        self.put(start, size, |part| {
            make(mkfs, part);
            let mounted = mount(part);
            let blocks = usize::try_from(size * 6 / 10 / (2 * MIB)).unwrap();
            let name = |number: usize| mounted.path().join(format!("block{number}"));
            for number in 0..blocks {
                fs::write(name(number), content(number, 2 << 20)).unwrap();
            }
            populate(mounted.path(), 40);
            for number in (0..blocks).filter(|number| number % 5 != 4) {
                fs::remove_file(name(number)).unwrap();
            }
            files = tree(mounted.path());
        });
        files
    }

    pub fn swap(&self, start: u64, size: u64) {
        self.put(start, size, |part| {
            run("mkswap", &["-L", "spare", part.to_str().unwrap()]);
        });
    }

    pub fn backup(&self) {
        done(&["backup", &self.path("disk"), &self.path("disk.raw.gz")]);
        fs::remove_file(self.path("disk")).unwrap();
    }

    /// Shrinks the image; what was told, and the size of the new disk.
    pub fn shrink(&self, more: &[&str]) -> (String, u64) {
        let (from, to) = (self.path("disk.raw.gz"), self.path("small.raw.gz"));
        let told = done(&[&["shrink", &from, &to], more].concat());
        let described = fs::read_to_string(to + ".toml").unwrap();
        let (_, size) = described.split_once("\nsize = ").unwrap();
        let (size, _) = size.split_once('\n').unwrap();
        (told, size.parse().unwrap())
    }

    /// What a shrink that must not be says; nothing of it stays.
    pub fn refused(&self, from: &str, to: &str, more: &[&str]) -> String {
        let before = everything_in(self.dir.path());
        let output = pitstop_run(&[&["shrink", &self.path(from), &self.path(to)], more].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(everything_in(self.dir.path()), before);
        let told = String::from_utf8(output.stderr).unwrap();
        let (_, error) = told
            .split_once("pitstop: error: ")
            .unwrap_or_else(|| panic!("{told}"));
        error.trim_end().to_owned()
    }

    /// A disk of `size` bytes with the small image on it.
    pub fn restored(&self, size: u64, more: &[&str]) -> PathBuf {
        let target = sparse(&self.dir, "target", size);
        let device = Loop::new(&target);
        let shown = device.device.to_str().unwrap();
        done(
            &[
                &["restore", &self.path("small.raw.gz"), shown, "--verify"],
                more,
            ]
            .concat(),
        );
        drop(device);
        let text = run("sfdisk", &["--verify", target.to_str().unwrap()]);
        assert!(text.contains("No errors detected"), "{text}");
        target
    }
}

/// Runs `pitstop`, which must succeed; what it said.
pub fn done(arguments: &[&str]) -> String {
    let output = pitstop_run(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {told}");
    told
}

pub fn make(mkfs: &[&str], part: &Path) {
    let (program, arguments) = mkfs.split_first().unwrap();
    let arguments: Vec<&str> = arguments.iter().copied().chain(part.to_str()).collect();
    run(program, &arguments);
}

pub fn native(path: &Path) -> Mount {
    Mount::new(path, "rw")
}

pub fn ntfs(path: &Path) -> Mount {
    Mount::fuse("ntfs-3g", path, "rw")
}

/// A partition of a disk as a file, by what sfdisk says of its place.
pub fn cut(disk: &Path, number: &str) -> (PathBuf, u64) {
    let text = run("sfdisk", &["--dump", disk.to_str().unwrap()]);
    let name = format!("{}{number} ", disk.display());
    let line = text.lines().find(|line| line.starts_with(&name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    let field = |key: &str| -> u64 {
        let (_, value) = line.split_once(key).unwrap();
        let (value, _) = value.trim().split_once(',').unwrap();
        value.parse::<u64>().unwrap() * 512
    };
    let (start, size) = (field("start="), field("size="));
    let part = disk.with_extension(format!("p{number}"));
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    let disk = fs::File::open(disk).unwrap();
    disk.read_exact_at(&mut bytes, start).unwrap();
    fs::write(&part, bytes).unwrap();
    (part, start + size)
}

pub fn is_whole_ext(part: &Path, files: &Tree) {
    run("e2fsck", &["-f", "-n", part.to_str().unwrap()]);
    assert!(tree(native(part).path()) == *files);
}
