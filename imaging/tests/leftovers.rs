//! Signatures of an earlier life, by their own tools where these run without a kernel's help, are gone after a restore:
//! inside the image, behind it, and at the disk's end.

mod image_common;
mod metadata_common;
mod used_common;

use image_common::{Bench, plain, source};
use metadata_common::{md_0, md_1, zfs_label};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{CaptureOptions, Delta, RestoreOptions, restore};
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use used_common::{Loop, MIB, run, try_run};

const IMAGE: u64 = 100 * MIB;
const DISK: u64 = 200 * MIB;
/// Partitions of the earlier life: one inside what the image has, one behind it. blkid looks for ZFS from 64 MiB on.
const OLD: [(u64, u64); 2] = [(20 * MIB, 90 * MIB), (110 * MIB, 180 * MIB)];
/// Bytes, and where they go.
type Piece = (u64, Vec<u8>);

/// What probes a device as udev does; empty when there is nothing.
fn probe(path: &Path, start: u64, size: u64) -> String {
    let (start, size) = (start.to_string(), size.to_string());
    let arguments = ["-p", "-O", &start, "-S", &size, "-o", "full"].map(OsStr::new);
    let mut arguments = arguments.to_vec();
    arguments.push(path.as_os_str());
    let (status, text) = try_run("blkid", &arguments);
    // 2: nothing found. 8: more than one thing is, and it cannot decide.
    assert!(matches!(status, Some(0 | 2 | 8)), "{status:?} {text}");
    text
}

/// Where each kind of metadata is on a device of `size` bytes, and its bytes.
fn kinds(size: u64) -> Vec<(&'static str, Vec<Piece>)> {
    let near_end = |back: u64| (size - back) & !0xfff;
    let end = size & !((256 << 10) - 1);
    vec![
        (
            "linux_raid_member",
            vec![((size & !0xffff) - 0x1_0000, md_0())],
        ),
        (
            "linux_raid_member",
            vec![(near_end(8192), md_1(near_end(8192) / 512))],
        ),
        ("linux_raid_member", vec![(0, md_1(0))]),
        ("linux_raid_member", vec![(4096, md_1(8))]),
        (
            "zfs_member",
            [0, 256 << 10, end - (512 << 10), end - (256 << 10)]
                .map(|at| (at, zfs_label()))
                .to_vec(),
        ),
    ]
}

/// What a tool makes of a device of `size` bytes.
fn made(bench: &Bench, size: u64, program: &str, arguments: &[&str]) -> Vec<u8> {
    let backing = bench.write("part", &[]);
    let file = OpenOptions::new().write(true).open(&backing).unwrap();
    file.set_len(size).unwrap();
    let device = Loop::new(&backing);
    let mut arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    arguments.push(device.device.as_os_str());
    run(program, &arguments);
    run(
        "blockdev",
        &[OsStr::new("--flushbufs"), device.device.as_os_str()],
    );
    drop(device);
    fs::read(backing).unwrap()
}

/// A disk with a GPT of its own and two partitions.
fn old_disk(bench: &Bench) -> PathBuf {
    let disk = bench.write("old", &[]);
    let file = OpenOptions::new().write(true).open(&disk).unwrap();
    file.set_len(DISK).unwrap();
    let mut arguments = Vec::new();
    for (number, (start, end)) in (1..).zip(OLD) {
        arguments.push("-n".to_owned());
        arguments.push(format!("{number}:{}:{}", start / 512, end / 512 - 1));
    }
    arguments.push(disk.to_str().unwrap().to_owned());
    run("sgdisk", &arguments);
    disk
}

/// Writes `bytes` at `at` of what holds zeros there; their zeros take no room.
fn put(disk: &Path, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(disk).unwrap();
    for (at, block) in (at..).step_by(4096).zip(bytes.chunks(4096)) {
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, at).unwrap();
        }
    }
}

/// A copy of `disk` that takes no more room.
fn copied(disk: &Path, target: &Path) {
    let bytes = fs::read(disk).unwrap();
    let file = fs::File::create(target).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    put(target, 0, &bytes);
}

/// A disk of one small filesystem, with an MBR or a GPT, and zeros else.
fn image(bench: &Bench, table: &str) -> PathBuf {
    let disk = bench.write("new", &[]);
    let file = OpenOptions::new().write(true).open(&disk).unwrap();
    file.set_len(IMAGE).unwrap();
    let path = disk.to_str().unwrap();
    run(
        "parted",
        &[
            "-s", path, "mklabel", table, "mkpart", "primary", "1MiB", "5MiB",
        ],
    );
    put(&disk, MIB, &made(bench, 4 * MIB, "mkfs.ext4", &["-q"]));
    let (image, _) = bench.capture(&disk, &CaptureOptions::default());
    image
}

fn assert_nothing_old(target: &Path, table: &str, what: &str) {
    assert_eq!(fs::metadata(target).unwrap().len(), DISK);
    let whole = probe(target, 0, DISK);
    assert!(
        whole.contains(&format!("PTTYPE=\"{table}\"")) && !whole.contains(" TYPE="),
        "{what}: {whole}"
    );
    for (start, end) in OLD {
        assert_eq!(probe(target, start, end - start), "", "{what}: {start}");
    }
    let listed = run("wipefs", &[OsStr::new("--noheadings"), target.as_os_str()]);
    let other = if table == "gpt" { "PMBR" } else { "dos" };
    for line in listed.lines() {
        assert!(
            line.contains(table) || line.contains(other),
            "{what}: {line}"
        );
    }
}

fn options(delta: Delta) -> RestoreOptions {
    RestoreOptions { delta, ..plain() }
}

#[test]
fn raid_and_zfs_of_the_whole_disk_and_of_its_partitions_do_not_come_back() {
    let bench = Bench::new();
    let image = image(&bench, "msdos");
    let count = kinds(DISK).len();
    for kind in 0..count {
        let disk = old_disk(&bench);
        for (start, end) in [(0, DISK)].into_iter().chain(OLD) {
            let (name, pieces) = kinds(end - start).remove(kind);
            // What begins a disk would take the table's place.
            for (at, bytes) in pieces.iter().filter(|(at, _)| start > 0 || *at >= IMAGE) {
                put(&disk, start + at, bytes);
            }
            if start > 0 {
                let found = probe(&disk, start, end - start);
                assert!(found.contains(name), "{kind}: {found}");
            }
        }
        for delta in [Delta::Off, Delta::On] {
            let target = bench.path("target");
            copied(&disk, &target);
            restore(&source(&image), &target, &options(delta), &Silent).unwrap();
            assert_nothing_old(&target, "dos", &format!("{kind} {delta:?}"));
        }
    }
}

#[test]
fn what_tools_made_does_not_come_back_on_a_device() {
    let bench = Bench::new();
    for table in ["msdos", "gpt"] {
        let image = image(&bench, table);
        for (program, arguments) in [
            ("pvcreate", vec!["-y"]),
            ("mkswap", vec![]),
            ("mkfs.vfat", vec![]),
        ] {
            let disk = old_disk(&bench);
            for (start, end) in OLD {
                put(
                    &disk,
                    start,
                    &made(&bench, end - start, program, &arguments),
                );
                assert_ne!(probe(&disk, start, end - start), "", "{program}");
            }
            for delta in [Delta::Off, Delta::On] {
                let target = bench.path("target");
                copied(&disk, &target);
                let device = Loop::new(&target);
                restore(&source(&image), &device.device, &options(delta), &Silent).unwrap();
                drop(device);
                let kind = if table == "gpt" { "gpt" } else { "dos" };
                assert_nothing_old(&target, kind, &format!("{program} {table} {delta:?}"));
            }
        }
    }
}

#[test]
fn an_image_of_another_tool_leaves_nothing_old_either() {
    let bench = Bench::new();
    image(&bench, "msdos");
    let new = bench.path("new");
    run(
        "gzip",
        &[OsStr::new("-1"), OsStr::new("-k"), new.as_os_str()],
    );
    let disk = old_disk(&bench);
    for (start, end) in OLD {
        put(
            &disk,
            start,
            &made(&bench, end - start, "pvcreate", &["-y"]),
        );
    }
    for foreign in ["new", "new.gz"] {
        let target = bench.path("target");
        copied(&disk, &target);
        restore(&source(&bench.path(foreign)), &target, &plain(), &Silent).unwrap();
        assert_nothing_old(&target, "dos", foreign);
    }
}

#[test]
fn the_beginning_of_a_disk_leaves_the_partitions_alone_that_its_table_has_further_on() {
    let bench = Bench::new();
    let disk = old_disk(&bench);
    let (start, end) = OLD[1];
    put(
        &disk,
        start,
        &made(&bench, end - start, "pvcreate", &["-y"]),
    );
    let bytes = fs::read(&disk).unwrap();
    let beginning = bench.write("beginning", &bytes[..usize::try_from(IMAGE).unwrap()]);
    restore(&source(&beginning), &disk, &plain(), &Silent).unwrap();
    let range = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
    assert!(fs::read(&disk).unwrap()[range.clone()] == bytes[range]);
    let text = run("sgdisk", &[OsStr::new("-v"), disk.as_os_str()]);
    assert!(text.contains("No problems found"), "{text}");
}
