//! Images of partitioned disks on larger ones: the tables are made and judged by other people's tools.

mod image_common;
mod used_common;

use pitstop_imaging::event::{Event, Level, Reporter, Silent};
use pitstop_imaging::image::{CaptureOptions, FileSource, RestoreOptions, restore};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tempfile::TempDir;
use used_common::{Loop, MIB, run, scribble, sparse};

const SMALL: u64 = 64 * MIB;
const LARGE: u64 = 100 * MIB;

/// A disk on which `program` made a table.
fn disk(dir: &TempDir, program: &str, arguments: &[&str]) -> PathBuf {
    let disk = sparse(dir, "disk", SMALL);
    let mut all = vec![disk.to_str().unwrap()];
    match program {
        "parted" => all.insert(0, "-s"),
        _ => all.clear(),
    }
    all.extend(arguments);
    if program != "parted" {
        all.push(disk.to_str().unwrap());
    }
    run(program, &all);
    disk
}

fn image_of(dir: &TempDir, disk: &Path, sector: u32) -> PathBuf {
    image_common::image_of(dir.path(), disk, sector, &CaptureOptions::default())
}

fn restored(image: &Path, target: &Path) {
    let options = RestoreOptions {
        verify: true,
        ..RestoreOptions::default()
    };
    let source = FileSource::open(image).unwrap();
    restore(&source, target, &options, &Silent).unwrap();
}

/// Restores to a larger disk that held another GPT before.
fn on_larger(dir: &TempDir, disk: &Path, sector: u32) -> PathBuf {
    let image = image_of(dir, disk, sector);
    let target = sparse(dir, "larger", LARGE);
    run("sgdisk", &["-n", "1:0:0", target.to_str().unwrap()]);
    restored(&image, &target);
    target
}

fn bytes(path: &Path, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    File::open(path)
        .unwrap()
        .read_exact_at(&mut bytes, at)
        .unwrap();
    bytes
}

fn assert_accepted(disk: &Path) {
    let disk = disk.to_str().unwrap();
    let text = run("sgdisk", &["-v", disk]);
    assert!(text.contains("No problems found"), "{text}");
    let text = run("sfdisk", &["--verify", disk]);
    assert!(!text.contains("GPT PMBR size mismatch"), "{text}");
    let text = run("parted", &["-s", disk, "print"]);
    assert!(
        !text.contains("Warning") && !text.contains("Error"),
        "{text}"
    );
}

/// What a restore to a disk of `size` bytes warns of, which had a GPT of its own before.
fn warnings(dir: &TempDir, image: &Path, size: u64) -> Vec<String> {
    let target = sparse(dir, "target", size);
    run("sgdisk", &["-n", "1:0:0", target.to_str().unwrap()]);
    let told = Warnings::default();
    let source = FileSource::open(image).unwrap();
    restore(&source, &target, &RestoreOptions::default(), &told).unwrap();
    fs::remove_file(target).unwrap();
    told.0.into_inner().unwrap()
}

#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Reporter for Warnings {
    fn event(&self, event: &Event) {
        if let Event::Message {
            level: Level::Warning,
            text,
        } = event
        {
            self.0.lock().unwrap().push(text.clone());
        }
    }
}

#[test]
fn an_image_that_ends_before_its_partitions_do_is_warned_of() {
    let dir = TempDir::new().unwrap();
    let logical = |primary| {
        let make = |kind, start, end| ["mkpart", kind, start, end];
        let parts = [
            make("primary", "1MiB", primary),
            make("extended", "49MiB", "60MiB"),
            make("logical", "50MiB", "58MiB"),
        ];
        [&["mklabel", "msdos"][..], &parts.concat()].concat()
    };
    let cut = 24 * MIB;
    for (program, arguments, number) in [
        ("sgdisk", vec!["-n", "1:2048:100000"], 1),
        (
            "parted",
            vec!["mklabel", "msdos", "mkpart", "primary", "1MiB", "48MiB"],
            1,
        ),
        // Within the primary one, and between it and the extended one.
        ("parted", logical("48MiB"), 1),
        ("parted", logical("16MiB"), 2),
    ] {
        let disk = disk(&dir, program, &arguments);
        for size in [SMALL, LARGE] {
            assert_eq!(warnings(&dir, &disk, size), [""; 0], "{arguments:?}");
        }
        // As a download leaves it that broke off: raw, and packed in pieces that end with their own checksums.
        File::options()
            .write(true)
            .open(&disk)
            .unwrap()
            .set_len(cut)
            .unwrap();
        run("gzip", &["-1kf", disk.to_str().unwrap()]);
        let packed = disk.with_extension("gz");
        for (image, size) in [(&disk, cut), (&disk, SMALL), (&packed, LARGE)] {
            let told = warnings(&dir, image, size).concat();
            let wanted = format!("the image ends at byte {cut}, and its partition {number} (");
            assert!(told.contains(&wanted), "{arguments:?}, {size}: {told}");
        }
        fs::remove_file(disk).unwrap();
    }
    // No table: what a boot sector has where a table would be names no partitions.
    let disk = sparse(&dir, "disk", SMALL);
    for maker in [&["mkfs.vfat"][..], &["mkfs.ntfs", "-QF"], &["mkfs.exfat"]] {
        run(maker[0], &[&maker[1..], &[disk.to_str().unwrap()]].concat());
        assert_eq!(warnings(&dir, &disk, LARGE), [""; 0], "{maker:?}");
    }
}

#[test]
fn the_backup_gpt_of_every_tool_moves_to_the_end() {
    let cases: [(&str, &[&str]); 4] = [
        (
            "sgdisk",
            &["-n", "1:2048:+20M", "-n", "5:0:+10M", "-c", "5:five"],
        ),
        ("sgdisk", &["-S", "56", "-n", "3:4096:0"]),
        ("sgdisk", &["-S", "512", "-n", "1:0:+9M"]),
        (
            "parted",
            &[
                "mklabel", "gpt", "mkpart", "a", "1MiB", "9MiB", "mkpart", "b", "30MiB", "100%",
            ],
        ),
    ];
    for (program, arguments) in cases {
        let dir = TempDir::new().unwrap();
        let disk = disk(&dir, program, arguments);
        let larger = on_larger(&dir, &disk, 512);
        assert_accepted(&larger);
        let entries = |path: &Path| bytes(path, 1024, 16384);
        assert_eq!(entries(&disk), entries(&larger), "{program} {arguments:?}");
        assert_eq!(bytes(&larger, LARGE - 512, 8), b"EFI PART");
        assert_eq!(bytes(&larger, SMALL - 512, 512), vec![0; 512]);
    }
}

#[test]
fn a_second_restore_ends_as_the_first_did() {
    let dir = TempDir::new().unwrap();
    let disk = disk(&dir, "sgdisk", &["-n", "1:2048:+20M"]);
    let larger = on_larger(&dir, &disk, 512);
    let first = fs::read(&larger).unwrap();
    restored(&dir.path().join("disk.raw.gz"), &larger);
    assert!(first == fs::read(&larger).unwrap());
}

#[test]
fn a_good_copy_mends_the_damaged_one_on_a_larger_disk() {
    for damaged in [512, 1024 + 40, SMALL - 512] {
        let dir = TempDir::new().unwrap();
        let disk = disk(&dir, "sgdisk", &["-n", "1:2048:+20M", "-n", "2:0:+5M"]);
        let entries = bytes(&disk, 1024, 16384);
        scribble(&disk, damaged, &[0xff; 16]);
        let larger = on_larger(&dir, &disk, 512);
        assert_accepted(&larger);
        assert_eq!(bytes(&larger, 1024, 16384), entries);
    }
}

#[test]
fn a_gpt_of_4096_byte_sectors_moves_too() {
    let dir = TempDir::new().unwrap();
    let disk = sparse(&dir, "disk", SMALL);
    let device = Loop::with_sectors(&disk, 4096);
    run(
        "sgdisk",
        &["-n", "1:256:+20M", device.device.to_str().unwrap()],
    );
    drop(device);
    let larger = on_larger(&dir, &disk, 4096);
    let device = Loop::with_sectors(&larger, 4096);
    assert_accepted(&device.device);
    assert_eq!(bytes(&larger, LARGE - 4096, 8), b"EFI PART");
}

#[test]
fn a_hybrid_mbr_keeps_its_entries() {
    let dir = TempDir::new().unwrap();
    let disk = disk(&dir, "sgdisk", &["-n", "1:2048:+20M", "-h", "1"]);
    let before = bytes(&disk, 0, 512);
    let larger = on_larger(&dir, &disk, 512);
    let text = run("sgdisk", &["-v", larger.to_str().unwrap()]);
    assert!(text.contains("No problems found"), "{text}");
    assert_eq!(bytes(&larger, 0, 512), before);
}

#[test]
fn copies_that_differ_and_mbrs_are_left_as_they_were() {
    let dir = TempDir::new().unwrap();
    let one = disk(&dir, "sgdisk", &["-n", "1:2048:+20M"]);
    let primary = bytes(&one, 0, 17408);
    let other = disk(&dir, "sgdisk", &["-o", "-n", "1:2048:+30M"]);
    scribble(&other, 0, &primary);
    let larger = on_larger(&dir, &other, 512);
    assert_eq!(bytes(&larger, 0, 17408), primary);

    let dir = TempDir::new().unwrap();
    let mbr = disk(
        &dir,
        "parted",
        &["mklabel", "msdos", "mkpart", "primary", "1MiB", "9MiB"],
    );
    let larger = on_larger(&dir, &mbr, 512);
    assert_eq!(bytes(&larger, 0, 512), bytes(&mbr, 0, 512));
}
