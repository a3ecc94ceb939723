//! Images that grow into larger disks: filesystems made by their own tools, judged by their own checkers.

mod image_common;
mod used_common;

use image_common::image_of;
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{
    CaptureOptions, FileSource, Growth, OpenedImage, RestoreOptions, growth, restore,
};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use used_common::{Loop, MIB, Mount, Tree, populate, run, scribble, sparse, tree};

/// A way to make a table, and where the last filesystem is in it.
struct Case {
    table: &'static str,
    number: &'static str,
    start: u64,
    size: u64,
    disk: u64,
}

const GPT: Case = Case {
    table: "label: gpt\nstart=1MiB, size=8MiB, type=uefi\nstart=9MiB, size=320MiB, type=linux, name=root\n",
    number: "2",
    start: 9 * MIB,
    size: 320 * MIB,
    disk: 330 * MIB,
};
const LARGER: u64 = 600 * MIB + 512;

impl Case {
    fn disk(&self, dir: &TempDir) -> PathBuf {
        let disk = sparse(dir, "disk", self.disk);
        sfdisk(&disk, self.table);
        disk
    }

    /// Copies a filesystem to its place.
    fn put(&self, disk: &Path, filesystem: &Path) {
        let file = OpenOptions::new().write(true).open(disk).unwrap();
        let bytes = fs::read(filesystem).unwrap();
        assert_eq!(bytes.len() as u64, self.size);
        file.write_all_at(&bytes, self.start).unwrap();
    }
}

fn sfdisk(disk: &Path, script: &str) {
    let at = disk.with_extension("sfdisk");
    fs::write(&at, script).unwrap();
    let command = format!("sfdisk -q {} < {}", disk.display(), at.display());
    run("sh", &["-c", &command]);
}

fn grow_to(image: &Path, target: &Path) -> anyhow::Result<()> {
    let options = RestoreOptions {
        grow: true,
        verify: true,
        ..RestoreOptions::default()
    };
    let image = FileSource::open(image).unwrap();
    restore(&image, target, &options, &Silent)?;
    Ok(())
}

fn found(image: &Path, disk: u64) -> anyhow::Result<Option<Growth>> {
    let image = OpenedImage::open(Box::new(FileSource::open(image).unwrap()))?;
    growth(&image, disk, 512)
}

fn plain(dir: &TempDir, disk: &Path) -> PathBuf {
    image_of(dir.path(), disk, 512, &CaptureOptions::default())
}

/// First byte and bytes of a partition, as sfdisk sees them.
fn place(disk: &Path, number: &str) -> (u64, u64) {
    let text = run("sfdisk", &["--dump", disk.to_str().unwrap()]);
    let name = format!("{}{number} ", disk.display());
    let line = text.lines().find(|line| line.starts_with(&name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    let field = |key: &str| {
        let (_, value) = line.split_once(key).unwrap();
        let digits: String = value
            .trim()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        digits.parse::<u64>().unwrap() * 512
    };
    (field("start="), field("size="))
}

/// A partition as a file.
fn cut(disk: &Path, number: &str) -> PathBuf {
    let (start, size) = place(disk, number);
    let path = disk.with_extension(format!("p{number}"));
    let arguments = [
        format!("if={}", disk.display()),
        format!("of={}", path.display()),
        "bs=1M".into(),
        "iflag=skip_bytes,count_bytes".into(),
        "conv=sparse".into(),
        format!("skip={start}"),
        format!("count={size}"),
    ];
    run("dd", &arguments);
    path
}

fn is_accepted(disk: &Path) {
    let text = run("sfdisk", &["--verify", disk.to_str().unwrap()]);
    assert!(text.contains("No errors detected"), "{text}");
}

/// What `mkfs` made, with files in it, and these files.
fn filesystem(
    dir: &TempDir,
    size: u64,
    mkfs: &[&str],
    mount: impl Fn(&Path) -> Mount,
) -> (PathBuf, Tree) {
    let path = sparse(dir, "filesystem", size);
    let (program, arguments) = mkfs.split_first().unwrap();
    let arguments: Vec<&str> = arguments.iter().copied().chain(path.to_str()).collect();
    run(program, &arguments);
    let mounted = mount(&path);
    populate(mounted.path(), 60);
    let files = tree(mounted.path());
    drop(mounted);
    (path, files)
}

fn native(path: &Path) -> Mount {
    Mount::new(path, "rw")
}

fn ntfs(path: &Path) -> Mount {
    Mount::fuse("ntfs-3g", path, "rw")
}

/// Grows an image of `mkfs` twice, the second time on what the first left; answers the grown filesystem.
fn grown(dir: &TempDir, case: &Case, mkfs: &[&str], mount: fn(&Path) -> Mount) -> PathBuf {
    let disk = case.disk(dir);
    let (made, files) = filesystem(dir, case.size, mkfs, mount);
    case.put(&disk, &made);
    let image = plain(dir, &disk);
    let target = sparse(dir, "larger", LARGER);
    for _ in 0..2 {
        grow_to(&image, &target).unwrap();
        is_accepted(&target);
        let (start, size) = place(&target, case.number);
        assert_eq!(start, case.start);
        assert_eq!(
            start + size,
            599 * MIB + if case.table.contains("dos") { MIB } else { 0 }
        );
        let expected = found(&image, LARGER).unwrap().unwrap();
        assert_eq!((expected.place.from, expected.place.to), (case.size, size));
        let part = cut(&target, case.number);
        assert!(tree(mount(&part).path()) == files, "{mkfs:?}");
    }
    cut(&target, case.number)
}

/// Bytes of the filesystem, by what `program` prints behind `keys`, multiplied.
fn told_size(program: &str, arguments: &[&str], path: &Path, keys: &[&str]) -> u64 {
    let arguments: Vec<&str> = arguments.iter().copied().chain(path.to_str()).collect();
    let text = run(program, &arguments);
    let number = |key: &&str| {
        let (_, rest) = text
            .split_once(key)
            .unwrap_or_else(|| panic!("{key} in {text}"));
        let digits: String = rest
            .trim()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        digits
            .parse::<u64>()
            .unwrap_or_else(|_| panic!("{key} in {text}"))
    };
    keys.iter().map(number).product()
}

#[test]
fn ext_fills_the_larger_disk() {
    for kind in ["ext2", "ext4"] {
        let dir = TempDir::new().unwrap();
        let part = grown(&dir, &GPT, &["mke2fs", "-q", "-t", kind], native);
        run("e2fsck", &["-f", "-n", part.to_str().unwrap()]);
        let size = told_size("dumpe2fs", &["-h"], &part, &["Block count:", "Block size:"]);
        assert_eq!(size, fs::metadata(&part).unwrap().len());
    }
}

#[test]
fn xfs_fills_the_larger_disk() {
    let dir = TempDir::new().unwrap();
    let part = grown(&dir, &GPT, &["mkfs.xfs", "-q"], native);
    run("xfs_repair", &["-n", part.to_str().unwrap()]);
    let keys = ["dblocks = ", "blocksize = "];
    let size = told_size(
        "xfs_db",
        &["-r", "-c", "sb 0", "-c", "print dblocks blocksize"],
        &part,
        &keys,
    );
    let whole = fs::metadata(&part).unwrap().len();
    assert!(
        size > whole - 16 * MIB && size <= whole,
        "{size} of {whole}"
    );
}

#[test]
fn btrfs_fills_the_larger_disk() {
    let dir = TempDir::new().unwrap();
    let part = grown(&dir, &GPT, &["mkfs.btrfs", "-q"], native);
    run("btrfs", &["check", part.to_str().unwrap()]);
    let size = told_size(
        "btrfs",
        &["inspect-internal", "dump-super"],
        &part,
        &["total_bytes"],
    );
    assert_eq!(size, fs::metadata(&part).unwrap().len());
}

#[test]
fn ntfs_fills_the_larger_disk() {
    let dir = TempDir::new().unwrap();
    let part = grown(&dir, &GPT, &["mkfs.ntfs", "-q", "-Q", "-F"], ntfs);
    let size = told_size(
        "ntfsresize",
        &["--info", "--force"],
        &part,
        &["Current volume size:"],
    );
    let whole = fs::metadata(&part).unwrap().len();
    assert!(size > whole - 8192, "{size} of {whole}");
}

const LOGICAL: Case = Case {
    table: "label: dos\nstart=1MiB, size=8MiB, type=83\nstart=9MiB, size=120MiB, type=5\n\
            start=10MiB, size=10MiB, type=83\nstart=21MiB, size=60MiB, type=83\nstart=82MiB, size=40MiB, type=83\n",
    number: "7",
    start: 82 * MIB,
    size: 40 * MIB,
    disk: 130 * MIB,
};

const EXT4: [&str; 4] = ["mke2fs", "-q", "-t", "ext4"];

#[test]
fn the_last_logical_partition_takes_its_extended_one_along() {
    let dir = TempDir::new().unwrap();
    grown(&dir, &LOGICAL, &EXT4, native);
    let text = run(
        "sfdisk",
        &["--dump", dir.path().join("larger").to_str().unwrap()],
    );
    assert_eq!(
        place(&dir.path().join("larger"), "2"),
        (9 * MIB, 591 * MIB),
        "{text}"
    );
    assert_eq!(
        place(&dir.path().join("larger"), "6"),
        (21 * MIB, 60 * MIB),
        "{text}"
    );
}

/// Where swap is in the image; on the disk it ends where the disk does.
const SWAP: (u64, u64) = (52 * MIB, 20 * MIB);

fn with_swap(dir: &TempDir, table: &str) -> (PathBuf, Tree) {
    let case = Case {
        table: "",
        number: "",
        start: 9 * MIB,
        size: 40 * MIB,
        disk: 80 * MIB,
    };
    let disk = sparse(dir, "disk", case.disk);
    sfdisk(&disk, table);
    let (made, files) = filesystem(dir, case.size, &EXT4, native);
    case.put(&disk, &made);
    let swap = sparse(dir, "swap", SWAP.1);
    let swap_path = swap.to_str().unwrap();
    run(
        "mkswap",
        &[
            "-L",
            "spare",
            "-U",
            "11111111-2222-4333-8444-555555555555",
            swap_path,
        ],
    );
    let swap = Case {
        table: "",
        number: "",
        start: SWAP.0,
        size: SWAP.1,
        disk: 0,
    };
    swap.put(&disk, Path::new(swap_path));
    (disk, files)
}

#[test]
fn swap_at_the_end_makes_room() {
    let tables = [
        (
            "label: gpt\nstart=9MiB, size=40MiB, type=linux\nstart=52MiB, size=20MiB, type=swap, name=swap\n",
            "1",
            "2",
            599 * MIB,
        ),
        (
            "label: dos\nstart=9MiB, size=40MiB, type=83, bootable\nstart=51MiB, size=29MiB, type=5\n\
             start=52MiB, size=20MiB, type=82\n",
            "1",
            "5",
            // The extended partition ends 8 MiB behind the swap.
            592 * MIB,
        ),
    ];
    for (table, root, swap, end) in tables {
        let dir = TempDir::new().unwrap();
        let (disk, files) = with_swap(&dir, table);
        let image = plain(&dir, &disk);
        let target = sparse(&dir, "larger", LARGER);
        for _ in 0..2 {
            grow_to(&image, &target).unwrap();
            is_accepted(&target);
            assert_eq!(place(&target, swap), (end - SWAP.1, SWAP.1));
            let (start, size) = place(&target, root);
            let limit = if swap == "5" {
                end - SWAP.1 - MIB
            } else {
                end - SWAP.1
            };
            assert_eq!((start, start + size), (9 * MIB, limit));
            let part = cut(&target, root);
            run("e2fsck", &["-f", "-n", part.to_str().unwrap()]);
            assert!(tree(native(&part).path()) == files, "{table}");
            let text = run("swaplabel", &[cut(&target, swap).to_str().unwrap()]);
            assert!(
                text.contains("spare") && text.contains("11111111-2222"),
                "{text}"
            );
        }
        let found = found(&image, LARGER).unwrap().unwrap();
        let told = found.change();
        assert!(
            told.ends_with("(swap) moves to the end of the disk"),
            "{told}"
        );
    }
}

#[test]
fn a_filesystem_without_a_table_fills_its_device() {
    let dir = TempDir::new().unwrap();
    let (disk, files) = filesystem(&dir, 64 * MIB, &EXT4, native);
    let image = plain(&dir, &disk);
    let target = sparse(&dir, "larger", 100 * MIB);
    let device = Loop::new(&target);
    grow_to(&image, &device.device).unwrap();
    drop(device);
    run("e2fsck", &["-f", "-n", target.to_str().unwrap()]);
    let size = told_size(
        "dumpe2fs",
        &["-h"],
        &target,
        &["Block count:", "Block size:"],
    );
    assert_eq!(size, 100 * MIB);
    assert!(tree(native(&target).path()) == files);
}

#[test]
fn a_device_whose_partitions_the_kernel_does_not_show_is_grown_through_another() {
    let dir = TempDir::new().unwrap();
    let disk = LOGICAL.disk(&dir);
    let (made, files) = filesystem(&dir, LOGICAL.size, &EXT4, native);
    LOGICAL.put(&disk, &made);
    let image = plain(&dir, &disk);
    let target = sparse(&dir, "larger", LARGER);
    let device = Loop::new(&target);
    grow_to(&image, &device.device).unwrap();
    drop(device);
    let part = cut(&target, LOGICAL.number);
    run("e2fsck", &["-f", "-n", part.to_str().unwrap()]);
    assert!(tree(native(&part).path()) == files);
}

#[test]
fn a_filesystem_that_its_program_refuses_is_told_and_the_image_is_whole() {
    let dir = TempDir::new().unwrap();
    let disk = GPT.disk(&dir);
    let (made, _) = filesystem(&dir, GPT.size, &EXT4, native);
    // The root directory's inode, in the first group's table: more than e2fsck -p mends.
    let path = made.to_str().unwrap();
    run("debugfs", &["-w", "-R", "clri <2>", path]);
    GPT.put(&disk, &made);
    let image = plain(&dir, &disk);
    let target = sparse(&dir, "larger", LARGER);
    let error = format!("{:#}", grow_to(&image, &target).unwrap_err());
    let told = format!(
        "is whole on {}, but partition 2 (ext4) did not grow: e2fsck",
        target.display()
    );
    assert!(error.contains(&told), "{error}");
    is_accepted(&target);
}

/// What keeps an image of `disk` from growing, the target being untouched.
fn refused(dir: &TempDir, disk: &Path) -> String {
    let image = plain(dir, disk);
    let target = sparse(dir, "target", 2 * LARGER);
    scribble(&target, 4096, b"untouched");
    let before = fs::read(&target).unwrap();
    let error = format!("{:#}", grow_to(&image, &target).unwrap_err());
    assert!(fs::read(&target).unwrap() == before, "{error}");
    error
}

#[test]
fn what_cannot_grow_is_named_before_the_first_write() {
    let last = |table: &str, mkfs: &[&str], start: u64| {
        let dir = TempDir::new().unwrap();
        let disk = sparse(&dir, "disk", 80 * MIB);
        sfdisk(&disk, table);
        if let Some((program, arguments)) = mkfs.split_first() {
            let made = sparse(&dir, "made", 40 * MIB);
            let arguments: Vec<&str> = arguments.iter().copied().chain(made.to_str()).collect();
            run(program, &arguments);
            let file = OpenOptions::new().write(true).open(&disk).unwrap();
            file.write_all_at(&fs::read(&made).unwrap(), start).unwrap();
        }
        refused(&dir, &disk)
    };
    let one = |kind: &str| format!("label: gpt\nstart=1MiB, size=40MiB, type={kind}\n");
    let fat = last(&one("uefi"), &["mkfs.vfat"], MIB);
    assert!(
        fat.contains("partition 1, which ends last, cannot grow: it is of the type EFI system"),
        "{fat}"
    );
    let fat = last(&one("linux"), &["mkfs.vfat"], MIB);
    assert!(
        fat.contains("Pitstop knows no program that grows vfat"),
        "{fat}"
    );
    let recovery = last(
        &one("DE94BBA4-06D1-4D40-A16A-BFD50179D6AC"),
        &["mkfs.ntfs", "-q", "-Q", "-F"],
        MIB,
    );
    assert!(
        recovery.contains("it is of the type Windows recovery"),
        "{recovery}"
    );
    let nothing = last(&one("linux"), &[], MIB);
    assert!(nothing.contains("nothing is recognised on it"), "{nothing}");
    let swap = last(&one("swap"), &["mkswap"], MIB);
    assert!(
        swap.contains("there is nothing but swap, partition 1"),
        "{swap}"
    );
    let blocked = last(
        "label: dos\nstart=1MiB, size=40MiB, type=83\nstart=60MiB, size=10MiB, type=5\n",
        &EXT4,
        MIB,
    );
    assert!(
        blocked.contains("an extended partition lies after partition 1"),
        "{blocked}"
    );
}

#[test]
fn an_image_that_tells_nothing_and_a_disk_without_room_grow_nothing() {
    let dir = TempDir::new().unwrap();
    let disk = LOGICAL.disk(&dir);
    let (made, _) = filesystem(&dir, LOGICAL.size, &EXT4, native);
    LOGICAL.put(&disk, &made);
    let error = found(&disk, LARGER).unwrap_err().to_string();
    assert!(error.ends_with("by pitstop convert"), "{error}");
    let image = plain(&dir, &disk);
    assert_eq!(found(&image, LOGICAL.disk).unwrap(), None);
    let target = sparse(&dir, "same", LOGICAL.disk);
    grow_to(&image, &target).unwrap();
    assert!(fs::read(&target).unwrap() == fs::read(&disk).unwrap());
    // An empty extended partition is in the way only where there would be room behind it.
    let dir = TempDir::new().unwrap();
    let disk = sparse(&dir, "disk", 80 * MIB);
    let table = "label: dos\nstart=1MiB, size=40MiB, type=83\nstart=60MiB, size=20MiB, type=5\n";
    sfdisk(&disk, table);
    assert_eq!(found(&plain(&dir, &disk), 80 * MIB + 512).unwrap(), None);
}
