//! Images that go to disks with other logical sectors: what works there, judged by Linux and by other people's tools.

mod image_common;
mod part_common;
mod sectors_common;
mod used_common;

use image_common::image_of;
use part_common::{assert_accepted, bytes, keep, only, try_restore};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{CaptureOptions, FileSource, Level, RestoreOptions, to_indexed};
use sectors_common::{disk, made, mounted, on, part, put, says, with_mounted};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use used_common::{MIB, Tree, populate, run, scribble, sparse};

const SIZE: u64 = 500 * MIB;
/// A partition for each kind of content that works on both, and one in which nothing was ever written.
const TABLE: &str = "label: gpt
start=1MiB,size=16MiB,type=U,name=esp
start=17MiB,size=40MiB,type=L,name=root,attrs=GUID:59
start=57MiB,size=300MiB,type=L,name=data
start=357MiB,size=120MiB,type=L,name=more
start=477MiB,size=8MiB,type=S
/dev/x9 : start=485MiB,size=8MiB,name=empty
";
const ESP: Range<u64> = MIB..17 * MIB;
const EXT4: Range<u64> = 17 * MIB..57 * MIB;
const XFS: Range<u64> = 57 * MIB..357 * MIB;
const BTRFS: Range<u64> = 357 * MIB..477 * MIB;
const SWAP: Range<u64> = 477 * MIB..485 * MIB;

/// Every filesystem that works on both, with its checker.
const CONTENT: [(Range<u64>, &[&str], &[&str]); 5] = [
    (ESP, &["mkfs.vfat", "-S", "4096"], &["fsck.vfat", "-n"]),
    (EXT4, &["mkfs.ext4", "-q", "-b", "4096"], &["e2fsck", "-fn"]),
    (
        XFS,
        &["mkfs.xfs", "-q", "-s", "size=4096"],
        &["xfs_repair", "-n"],
    ),
    (BTRFS, &["mkfs.btrfs", "-q"], &["btrfs", "check"]),
    (SWAP, &["mkswap", "-q"], &["swaplabel"]),
];

/// What the kernel of the machine that tests mounts.
const MOUNTED: [Range<u64>; 3] = [EXT4, XFS, BTRFS];

fn fill(dir: &TempDir, disk: &Path) -> Vec<Tree> {
    for (place, command, _) in CONTENT {
        let file = made(dir, place.end - place.start, command);
        put(disk, place.start, &file);
    }
    let fill = |place: Range<u64>| {
        let part = part(disk, 4096, &place);
        with_mounted(&part.device, "rw", |path| populate(path, 40));
        mounted(&part.device)
    };
    MOUNTED.map(fill).into()
}

fn restored(image: &Path, target: &Path, sector: u32, options: &RestoreOptions) {
    on(target, sector, |device| {
        try_restore(image, device, options).unwrap();
        assert_accepted(device);
    });
}

fn verified() -> RestoreOptions {
    RestoreOptions {
        verify: true,
        ..RestoreOptions::default()
    }
}

#[test]
fn everything_that_can_be_used_on_both_goes_there_and_back() {
    let dir = TempDir::new().unwrap();
    let first = disk(&dir, "first", 512, SIZE, TABLE);
    let files = fill(&dir, &first);
    let mut from = (first.clone(), 512);
    for (name, sector, size) in [
        ("large sectors", 4096, SIZE),
        ("small sectors, smaller disk", 512, SIZE - 6 * MIB),
        ("large sectors, larger disk", 4096, SIZE + 20 * MIB),
    ] {
        let image = image_of(dir.path(), &from.0, from.1, &CaptureOptions::default());
        let target = sparse(&dir, name, size);
        // An earlier life with a table of the other sort.
        on(&target, from.1, |device| {
            run("sgdisk", &["-n", "1:0:0", device.to_str().unwrap()])
        });
        restored(&image, &target, sector, &verified());
        assert_eq!(says(&target, sector), says(&first, 512), "{name}");
        for (place, _, check) in CONTENT {
            let part = part(&target, sector, &place);
            let (program, arguments) = check.split_first().unwrap();
            let arguments: Vec<&str> = arguments
                .iter()
                .copied()
                .chain(part.device.to_str())
                .collect();
            run(program, &arguments);
        }
        for (place, files) in MOUNTED.iter().zip(&files) {
            let part = part(&target, sector, place);
            assert!(mounted(&part.device) == *files, "{name}: {place:?}");
        }
        assert!(bytes(&target, ESP) == bytes(&first, ESP), "{name}");
        from = (target, sector);
    }
}

/// A disk with an ext4 in each of `places`.
fn with_ext4(
    dir: &TempDir,
    name: &str,
    sector: u32,
    script: &str,
    places: &[Range<u64>],
) -> PathBuf {
    let disk = disk(dir, name, sector, 64 * MIB, script);
    for place in places {
        let command = ["mkfs.ext4", "-q", "-b", "4096"];
        put(
            &disk,
            place.start,
            &made(dir, place.end - place.start, &command),
        );
        let part = part(&disk, sector, place);
        with_mounted(&part.device, "rw", |path| populate(path, 10));
    }
    disk
}

fn files(disk: &Path, sector: u32, place: &Range<u64>) -> Tree {
    let part = part(disk, sector, place);
    run("e2fsck", &["-fn", part.device.to_str().unwrap()]);
    mounted(&part.device)
}

fn plain(dir: &TempDir, disk: &Path, sector: u32) -> PathBuf {
    image_of(dir.path(), disk, sector, &CaptureOptions::default())
}

#[test]
fn an_mbr_takes_its_logical_partitions_along() {
    let script = "label: dos\nlabel-id: 0x1a2b3c4d\nstart=1MiB,size=9MiB,bootable\nstart=20MiB,size=40MiB,type=5\n\
                  start=21MiB,size=9MiB\nstart=31MiB,size=9MiB,type=82\nstart=41MiB,size=9MiB\n";
    let places = [MIB..10 * MIB, 21 * MIB..30 * MIB, 41 * MIB..50 * MIB];
    let dir = TempDir::new().unwrap();
    let first = with_ext4(&dir, "first", 512, script, &places);
    let mut from = (first.clone(), 512);
    for (sector, size) in [(4096, 70 * MIB), (512, 60 * MIB)] {
        let image = plain(&dir, &from.0, from.1);
        let target = sparse(&dir, &sector.to_string(), size);
        on(&target, sector, |device| {
            try_restore(&image, device, &verified()).unwrap();
            let text = run("sfdisk", &["--verify", device.to_str().unwrap()]);
            assert!(text.contains("No errors detected"), "{text}");
        });
        assert_eq!(says(&target, sector), says(&first, 512));
        for place in &places {
            assert!(files(&target, sector, place) == files(&first, 512, place));
        }
        from = (target, sector);
    }
}

#[test]
fn a_damaged_copy_of_a_gpt_is_no_data_of_the_disk() {
    for damaged in [512 + 60, 1024 + 40, 64 * MIB - 512] {
        let dir = TempDir::new().unwrap();
        let first = with_ext4(&dir, "first", 512, ROOTED, &[ROOT]);
        let before = says(&first, 512);
        scribble(&first, damaged, &[0xff; 16]);
        let image = plain(&dir, &first, 512);
        let target = sparse(&dir, "target", 70 * MIB);
        restored(&image, &target, 4096, &verified());
        assert_eq!(says(&target, 4096), before, "{damaged}");
    }
}

#[test]
fn an_image_of_another_tool_goes_there_once_it_is_converted() {
    let dir = TempDir::new().unwrap();
    let first = with_ext4(&dir, "first.raw", 4096, ROOTED, &[ROOT]);
    let image = dir.path().join("converted.raw.gz");
    let mut out = File::create(&image).unwrap();
    let raw = FileSource::open(&first).unwrap();
    let meta = to_indexed(&raw, Level::Fast, 0, &mut out, &Silent).unwrap();
    assert_eq!(meta.disk.logical_sector_size, 4096);
    let target = sparse(&dir, "target", 70 * MIB);
    restored(&image, &target, 512, &verified());
    assert_eq!(says(&target, 512), says(&first, 4096));
    assert!(files(&target, 512, &ROOT) == files(&first, 4096, &ROOT));
}

#[test]
fn a_filesystem_without_a_table_is_as_it_was() {
    let dir = TempDir::new().unwrap();
    let first = made(&dir, 32 * MIB, &["mkfs.ext4", "-q", "-b", "4096"]);
    let image = plain(&dir, &first, 512);
    let target = sparse(&dir, "target", 40 * MIB);
    on(&target, 4096, |device| {
        try_restore(&image, device, &verified()).unwrap()
    });
    assert!(bytes(&target, 0..32 * MIB) == std::fs::read(&first).unwrap());
    assert!(files(&target, 4096, &(0..40 * MIB)) == mounted_file(&first));
}

fn mounted_file(path: &Path) -> Tree {
    files(path, 512, &(0..std::fs::metadata(path).unwrap().len()))
}

const ROOT: Range<u64> = 9 * MIB..40 * MIB;
const ROOTED: &str = "label: gpt
start=1MiB,size=8MiB,type=U,name=esp
start=9MiB,size=31MiB,type=L,name=root
";

/// The disk of every installer: an EFI system partition with small sectors, and one for the system.
fn rooted(dir: &TempDir) -> PathBuf {
    let disk = with_ext4(dir, "first", 512, ROOTED, &[ROOT]);
    put(&disk, MIB, &made(dir, 8 * MIB, &["mkfs.vfat"]));
    disk
}

#[test]
fn a_kept_partition_stands_in_for_one_that_could_not_be_used() {
    let dir = TempDir::new().unwrap();
    let first = rooted(&dir);
    let image = plain(&dir, &first, 512);
    let target = disk(&dir, "target", 4096, 80 * MIB, ROOTED);
    put(
        &target,
        MIB,
        &made(&dir, 8 * MIB, &["mkfs.vfat", "-S", "4096"]),
    );
    let (kept, entry) = (bytes(&target, MIB..9 * MIB), says(&target, 4096).remove(2));
    restored(&image, &target, 4096, &keep(&["esp"]));
    assert!(bytes(&target, MIB..9 * MIB) == kept);
    let now = says(&target, 4096);
    assert_eq!((&now[2], &now[3]), (&entry, &says(&first, 512)[3]));
    assert!(files(&target, 4096, &ROOT) == files(&first, 512, &ROOT));
    // A single partition of the same image, the other stays as it is.
    scribble(&target, ROOT.start, &[1; 9000]);
    restored(&image, &target, 4096, &only(&["root"]));
    assert!(bytes(&target, MIB..9 * MIB) == kept);
    assert_eq!(says(&target, 4096), now);
    assert!(files(&target, 4096, &ROOT) == files(&first, 512, &ROOT));
}

#[test]
fn the_last_partition_grows_and_gets_an_identifier_of_its_own() {
    let dir = TempDir::new().unwrap();
    let script = ROOTED.replace("type=U,name=esp", "name=empty");
    let first = with_ext4(&dir, "first", 512, &script, &[ROOT]);
    let image = plain(&dir, &first, 512);
    let target = sparse(&dir, "target", 100 * MIB);
    let options = RestoreOptions {
        grow: true,
        new_ids: true,
        ..verified()
    };
    restored(&image, &target, 4096, &options);
    let (before, now) = (says(&first, 512), says(&target, 4096));
    let size = |line: &str| line.contains(&format!("size={}", 90 * MIB));
    assert!(size(&now[3]) && !size(&before[3]), "{}", now[3]);
    assert_ne!(before[1], now[1]);
    assert!(files(&target, 4096, &(9 * MIB..99 * MIB)) == files(&first, 512, &ROOT));
    let part = part(&target, 4096, &(9 * MIB..99 * MIB));
    let text = run("dumpe2fs", &["-h", part.device.to_str().unwrap()]);
    let blocks = 90 * MIB / 4096;
    assert!(text.contains(&format!("{blocks}\n")), "{text}");
}
