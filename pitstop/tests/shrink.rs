//! Images that become those of smaller disks: filesystems made by their own tools, judged by their own checkers.

mod common;
#[path = "../../payload/tests/used_common/mod.rs"]
mod used_common;

use common::{everything_in, pitstop, run as pitstop_run};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;
use used_common::{Loop, MIB, Mount, Tree, content, populate, run, sparse, tree};

const EXT4: [&str; 6] = ["mke2fs", "-q", "-t", "ext4", "-b", "4096"];
const GPT: &str = "label: gpt\nstart=1MiB, size=8MiB, type=uefi\nstart=9MiB, size=300MiB, type=linux, name=root\n";

/// A disk, and images of it, in a folder of their own.
struct Bench {
    dir: TempDir,
}

impl Bench {
    /// With the disk's table made.
    fn new(size: u64, table: &str) -> Self {
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

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Puts what `make` makes of a file to a place of the disk.
    fn put(&self, start: u64, size: u64, make: impl FnOnce(&Path)) {
        let part = sparse(&self.dir, "part", size);
        make(&part);
        let disk = OpenOptions::new()
            .write(true)
            .open(self.path("disk"))
            .unwrap();
        disk.write_all_at(&fs::read(&part).unwrap(), start).unwrap();
        fs::remove_file(part).unwrap();
    }

    /// A filesystem that was full once, so that its files lie all over it; what is left of them.
    fn fill(&self, start: u64, size: u64, mkfs: &[&str], mount: fn(&Path) -> Mount) -> Tree {
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

    fn swap(&self, start: u64, size: u64) {
        self.put(start, size, |part| {
            run("mkswap", &["-L", "spare", part.to_str().unwrap()]);
        });
    }

    fn backup(&self) {
        done(&["backup", &self.path("disk"), &self.path("disk.raw.gz")]);
        fs::remove_file(self.path("disk")).unwrap();
    }

    /// Shrinks the image; what was told, and the size of the new disk.
    fn shrink(&self, more: &[&str]) -> (String, u64) {
        let (from, to) = (self.path("disk.raw.gz"), self.path("small.raw.gz"));
        let told = done(&[&["shrink", &from, &to], more].concat());
        let described = fs::read_to_string(to + ".toml").unwrap();
        let (_, size) = described.split_once("\nsize = ").unwrap();
        let (size, _) = size.split_once('\n').unwrap();
        (told, size.parse().unwrap())
    }

    /// What a shrink that must not be says; nothing of it stays.
    fn refused(&self, from: &str, to: &str, more: &[&str]) -> String {
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
    fn restored(&self, size: u64, more: &[&str]) -> PathBuf {
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
fn done(arguments: &[&str]) -> String {
    let output = pitstop_run(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {told}");
    told
}

fn make(mkfs: &[&str], part: &Path) {
    let (program, arguments) = mkfs.split_first().unwrap();
    let arguments: Vec<&str> = arguments.iter().copied().chain(part.to_str()).collect();
    run(program, &arguments);
}

fn native(path: &Path) -> Mount {
    Mount::new(path, "rw")
}

fn ntfs(path: &Path) -> Mount {
    Mount::fuse("ntfs-3g", path, "rw")
}

/// A partition of a disk as a file, by what sfdisk says of its place.
fn cut(disk: &Path, number: &str) -> (PathBuf, u64) {
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

fn is_whole_ext(part: &Path, files: &Tree) {
    run("e2fsck", &["-f", "-n", part.to_str().unwrap()]);
    assert!(tree(native(part).path()) == *files);
}

#[test]
fn ext4_with_swap_behind_it_fits_a_smaller_disk_and_grows_again() {
    let table = format!("{GPT}start=310MiB, size=20MiB, type=swap\n");
    let bench = Bench::new(332 * MIB, &table);
    let files = bench.fill(9 * MIB, 300 * MIB, &EXT4, native);
    bench.swap(310 * MIB, 20 * MIB);
    bench.backup();
    let image = fs::read(bench.path("disk.raw.gz")).unwrap();

    let target = sparse(&bench.dir, "target", 260 * MIB);
    let output = pitstop_run(&[
        "restore",
        &bench.path("disk.raw.gz"),
        target.to_str().unwrap(),
    ]);
    let advice = format!(
        "shrink it first: pitstop shrink {} smaller.raw.gz --to 260MiB\n",
        bench.path("disk.raw.gz")
    );
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.ends_with(&advice), "{told}");

    let (told, least) = bench.shrink(&[]);
    assert!(
        told.contains("partition 2 (ext4) shrinks from 300.0 MiB to "),
        "{told}"
    );
    assert!(
        told.contains("partition 3 (swap) moves behind it"),
        "{told}"
    );
    assert!(least < 260 * MIB, "{told}");
    let (_, size) = bench.shrink(&["--to", "260MiB", "--force"]);
    assert_eq!(size, 260 * MIB);
    assert!(image == fs::read(bench.path("disk.raw.gz")).unwrap());

    let disk = bench.restored(size, &[]);
    let (root, root_end) = cut(&disk, "2");
    let (swap, swap_end) = cut(&disk, "3");
    assert_eq!((root_end, swap_end), (239 * MIB, 259 * MIB));
    is_whole_ext(&root, &files);
    let text = run("swaplabel", &[swap.to_str().unwrap()]);
    assert!(text.contains("spare"), "{text}");

    let disk = bench.restored(500 * MIB, &["--grow"]);
    let (root, root_end) = cut(&disk, "2");
    assert_eq!((root_end, cut(&disk, "3").1), (479 * MIB, 499 * MIB));
    is_whole_ext(&root, &files);
    let text = run("dumpe2fs", &["-h", root.to_str().unwrap()]);
    let blocks = format!("Block count:              {}\n", 470 * MIB / 4096);
    assert!(text.contains(&blocks), "{text}");
}

#[test]
fn the_last_logical_partition_of_an_mbr_shrinks_and_swap_alone_in_an_extended_one_moves() {
    let logical = "label: dos\nstart=1MiB, size=8MiB, type=83, bootable\nstart=9MiB, type=5\n\
                   start=10MiB, size=20MiB, type=83\nstart=31MiB, size=229MiB, type=83\n";
    let swap = "label: dos\nstart=1MiB, size=230MiB, type=83\nstart=232MiB, type=5\nstart=233MiB, size=20MiB, type=82\n";
    for (table, number, start, end) in [
        (logical, "6", 31 * MIB, 180 * MIB),
        (swap, "1", MIB, 152 * MIB),
    ] {
        let bench = Bench::new(260 * MIB, table);
        let files = bench.fill(
            start,
            if number == "6" { 229 * MIB } else { 230 * MIB },
            &EXT4,
            native,
        );
        if number == "1" {
            bench.swap(233 * MIB, 20 * MIB);
        }
        bench.backup();
        let (_, size) = bench.shrink(&["--to", "180MiB"]);
        assert_eq!(size, 180 * MIB);
        let disk = bench.restored(size, &[]);
        let (root, root_end) = cut(&disk, number);
        assert_eq!(root_end, end);
        is_whole_ext(&root, &files);
        if number == "1" {
            let (swap, swap_end) = cut(&disk, "5");
            assert_eq!(swap_end, 173 * MIB);
            run("swaplabel", &[swap.to_str().unwrap()]);
        }
    }
}

#[test]
fn ntfs_fits_a_smaller_disk_and_grows_again() {
    let bench = Bench::new(310 * MIB, GPT);
    let files = bench.fill(9 * MIB, 300 * MIB, &["mkfs.ntfs", "-q", "-Q", "-F"], ntfs);
    bench.backup();
    let (told, size) = bench.shrink(&[]);
    assert!(
        told.contains("partition 2 (ntfs) shrinks from 300.0 MiB to "),
        "{told}"
    );
    assert!(size < 250 * MIB, "{told}");
    for (size, more) in [(size, &[][..]), (400 * MIB, &["--grow"])] {
        let disk = bench.restored(size, more);
        let (part, _) = cut(&disk, "2");
        run("ntfsfix", &["--no-action", part.to_str().unwrap()]);
        assert!(tree(ntfs(&part).path()) == files);
    }
}

#[test]
fn btrfs_fits_a_smaller_disk() {
    let bench = Bench::new(310 * MIB, GPT);
    let files = bench.fill(9 * MIB, 300 * MIB, &["mkfs.btrfs", "-q", "--mixed"], native);
    bench.backup();
    // Like most disks', its size is no whole number of MiB.
    let (_, size) = bench.shrink(&["--to", "293908480"]);
    assert_eq!(size, 293_908_480);
    let disk = bench.restored(size, &[]);
    let (part, _) = cut(&disk, "2");
    run("btrfs", &["check", part.to_str().unwrap()]);
    assert!(tree(native(&part).path()) == files);
}

#[test]
fn a_disk_without_a_table_shrinks_as_a_whole() {
    let bench = Bench::new(200 * MIB, "");
    let files = bench.fill(0, 200 * MIB, &EXT4, native);
    bench.backup();
    let (told, size) = bench.shrink(&["--to", "160MiB"]);
    assert!(
        told.contains("the ext4 shrinks from 200.0 MiB to 160.0 MiB"),
        "{told}"
    );
    let target = sparse(&bench.dir, "target", size);
    done(&[
        "restore",
        &bench.path("small.raw.gz"),
        target.to_str().unwrap(),
    ]);
    is_whole_ext(&target, &files);
}

#[test]
fn a_free_tail_goes_without_the_filesystem_shrinking() {
    let bench = Bench::new(400 * MIB, GPT);
    let files = bench.fill(9 * MIB, 300 * MIB, &EXT4, native);
    bench.backup();
    let (told, size) = bench.shrink(&["--to", "350MiB"]);
    assert!(told.contains("partition 2 (ext4) stays as it is"), "{told}");
    let (root, end) = cut(&bench.restored(size, &[]), "2");
    assert_eq!(end, 309 * MIB);
    is_whole_ext(&root, &files);
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let bench = Bench::new(310 * MIB, GPT);
    bench.fill(9 * MIB, 300 * MIB, &EXT4, native);
    bench.backup();
    fs::write(bench.path("there.raw.gz"), b"an image").unwrap();
    run(
        "sh",
        &[
            "-c",
            &format!("echo foreign | gzip > {}", bench.path("foreign.gz")),
        ],
    );
    let there = bench.refused("disk.raw.gz", "there.raw.gz", &[]);
    assert!(
        there.contains("is there already: remove it, or say --force"),
        "{there}"
    );
    let itself = bench.refused("disk.raw.gz", "disk.raw.gz", &["--force"]);
    assert!(itself.contains("is the image itself"), "{itself}");
    let foreign = bench.refused("foreign.gz", "new.raw.gz", &[]);
    assert!(
        foreign.contains("has no index") && foreign.contains("pitstop convert"),
        "{foreign}"
    );
    for (to, why) in [
        ("310MiB", "is not larger than 325058560"),
        ("100001", "no multiple of the 512 bytes of a sector"),
        (
            "20MiB",
            "in use: a disk of 20971520 bytes (20.0 MiB) is too small",
        ),
        ("80MiB", "but needs at least"),
    ] {
        let told = bench.refused("disk.raw.gz", "new.raw.gz", &["--to", to]);
        assert!(told.contains(why), "{told}");
        assert_eq!(told.contains("is the smallest"), to == "80MiB", "{told}");
    }
}

#[test]
fn filesystems_that_do_not_shrink_or_are_not_whole_are_named() {
    let refused = |table: &str, start, size, make: &dyn Fn(&Path)| {
        let bench = Bench::new(310 * MIB, table);
        bench.put(start, size, make);
        bench.backup();
        bench.refused("disk.raw.gz", "new.raw.gz", &[])
    };
    let of =
        |mkfs: &'static [&'static str]| refused(GPT, 9 * MIB, 300 * MIB, &|part| make(mkfs, part));
    let xfs = of(&["mkfs.xfs", "-q"]);
    assert!(
        xfs.contains("partition 2, which ends last, cannot shrink: xfs has no program"),
        "{xfs}"
    );
    let dirty = refused(GPT, 9 * MIB, 300 * MIB, &|part| {
        make(&EXT4, part);
        run(
            "debugfs",
            &["-w", "-R", "feature needs_recovery", part.to_str().unwrap()],
        );
    });
    assert!(
        dirty.contains("not in a state to shrink: its journal needs to be replayed"),
        "{dirty}"
    );
    let damaged = refused(GPT, 9 * MIB, 300 * MIB, &|part| {
        make(&EXT4, part);
        run("debugfs", &["-w", "-R", "clri <2>", part.to_str().unwrap()]);
    });
    assert!(
        damaged.contains("shrinking partition 2 (ext4): e2fsck"),
        "{damaged}"
    );
    let esp = refused(
        "label: gpt\nstart=1MiB, size=300MiB, type=uefi\n",
        MIB,
        300 * MIB,
        &|part| {
            make(&["mkfs.vfat"], part);
        },
    );
    assert!(
        esp.contains("partition 1, which ends last, is of the type EFI system"),
        "{esp}"
    );
}

#[test]
fn nothing_stays_of_one_that_is_killed() {
    let bench = Bench::new(310 * MIB, GPT);
    bench.fill(9 * MIB, 300 * MIB, &EXT4, native);
    bench.backup();
    let mut child = pitstop()
        .args([
            "shrink",
            &bench.path("disk.raw.gz"),
            &bench.path("small.raw.gz"),
        ])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let shrinks = lines.find(|line| line.as_ref().unwrap().contains("shrinks from"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(shrinks.is_some());
    assert_eq!(
        everything_in(bench.dir.path()),
        ["disk.raw.gz", "disk.raw.gz.toml"]
    );
}
