//! Partitions of a disk that survive a restore. Tables and filesystems are made and judged by other people's tools.

mod image_common;
mod part_common;
mod used_common;

use image_common::noise;
use part_common::{
    HOME, IMAGE, SIZE, assert_accepted, at, bytes, disk, entry, image_and_target, image_of, keep,
    only, refused, try_restore,
};
use pitstop_imaging::image::{Delta, RestoreOptions};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;
use used_common::{Loop, MIB, run, scribble, sparse};

#[test]
fn a_kept_partition_survives_with_number_guid_name_and_every_byte() {
    for delta in [Delta::Off, Delta::On] {
        let dir = TempDir::new().unwrap();
        let (from, image, target) = image_and_target(&dir);
        let (home, line) = (bytes(&target, HOME), entry(&target, 3));
        assert!(line.contains("home"), "{line}");
        let options = RestoreOptions {
            delta,
            ..keep(&["3"])
        };
        try_restore(&image, &target, &options).unwrap();
        assert!(bytes(&target, HOME) == home, "{delta:?}");
        assert_eq!(entry(&target, 3), line);
        assert_eq!(entry(&target, 1), entry(&from, 1));
        assert_eq!(entry(&target, 2), entry(&from, 2));
        let data = MIB..HOME.start;
        assert!(bytes(&target, data.clone()) == bytes(&from, data));
        let behind = HOME.end..SIZE - MIB;
        assert!(bytes(&target, behind).iter().all(|byte| *byte == 0));
        assert_accepted(&target);
    }
}

#[test]
fn guid_and_name_select_too_and_a_second_restore_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let (_, image, target) = image_and_target(&dir);
    try_restore(&image, &target, &keep(&["home"])).unwrap();
    let first = fs::read(&target).unwrap();
    let guid = "11111111-2222-4333-8444-555555555555";
    try_restore(&image, &target, &keep(&[guid, "3"])).unwrap();
    assert!(fs::read(&target).unwrap() == first);
}

#[test]
fn the_same_partition_keeps_what_the_target_has() {
    let dir = TempDir::new().unwrap();
    let from = disk(&dir, "from", SIZE, IMAGE, &[(1, 4), (11, 31)]);
    let image = image_of(&dir, &from, 512);
    let target = dir.path().join("target");
    fs::copy(&from, &target).unwrap();
    let root = 11 * MIB..31 * MIB;
    scribble(&target, root.start, &noise(at(20 * MIB), 77));
    scribble(&target, 2 * MIB, &noise(at(MIB), 78));
    let kept = bytes(&target, root.clone());
    let whole = try_restore(&image, &target, &keep(&["root"])).unwrap();
    assert!(bytes(&target, root.clone()) == kept);
    assert!(bytes(&target, 0..root.start) == bytes(&from, 0..root.start));
    assert!(bytes(&target, root.end..SIZE) == bytes(&from, root.end..SIZE));
    assert!(whole.transferred < 6 * MIB, "{whole:?}");
}

#[test]
fn partitions_that_cut_chunks_are_kept_to_the_sector() {
    let dir = TempDir::new().unwrap();
    let from = disk(&dir, "from", SIZE, "label: gpt\n2048,3001,L\n", &[]);
    scribble(&from, MIB, &noise(3001 * 512, 3));
    let image = image_of(&dir, &from, 512);
    let script =
        "label: gpt\n/dev/x1 : start=2048,size=2048\n/dev/x2 : start=5049,size=4003,type=L\n";
    let target = disk(&dir, "target", SIZE, script, &[(1, 60)]);
    let kept = 5049 * 512..(5049 + 4003) * 512;
    let before = bytes(&target, kept.clone());
    for delta in [Delta::Off, Delta::On] {
        let options = RestoreOptions {
            delta,
            ..keep(&["2"])
        };
        try_restore(&image, &target, &options).unwrap();
        assert!(bytes(&target, kept.clone()) == before, "{delta:?}");
        assert!(bytes(&target, MIB..kept.start) == bytes(&from, MIB..kept.start));
        assert!(
            bytes(&target, kept.end..kept.end + MIB)
                .iter()
                .all(|byte| *byte == 0)
        );
        assert_accepted(&target);
    }
}

#[test]
fn a_restore_that_fails_half_way_leaves_a_table_of_the_kept_partition_alone() {
    let dir = TempDir::new().unwrap();
    let (_, image, target) = image_and_target(&dir);
    let (home, line) = (bytes(&target, HOME), entry(&target, 3));
    let good = fs::read(&image).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 0x10;
    fs::write(&image, bad).unwrap();
    let error = try_restore(&image, &target, &keep(&["3"])).unwrap_err();
    assert!(
        format!("{error:#}").contains("its CRC-32 is wrong"),
        "{error:#}"
    );
    assert!(bytes(&target, HOME) == home);
    assert_eq!(entry(&target, 3), line);
    assert_eq!(
        (entry(&target, 1), entry(&target, 2)),
        (String::new(), String::new())
    );
    assert_accepted(&target);
    assert!(
        bytes(&target, 0..446).iter().all(|byte| *byte == 0),
        "nothing boots"
    );
    fs::write(&image, good).unwrap();
    try_restore(&image, &target, &keep(&["home"])).unwrap();
    assert!(bytes(&target, HOME) == home);
    assert_eq!(entry(&target, 3), line);
    assert_accepted(&target);
}

#[test]
fn overlaps_are_refused_before_the_first_write_and_name_both() {
    let dir = TempDir::new().unwrap();
    let (_, image, target) = image_and_target(&dir);
    let text = refused(&image, &target, &keep(&["old"]));
    assert!(
        text.contains("partition 1 (old, 15.0 MiB at 1048576)"),
        "{text}"
    );
    assert!(
        text.contains("partition 1 (esp, 10.0 MiB at 1048576)"),
        "{text}"
    );
    assert!(text.contains("the same number and another place"), "{text}");
    let text = refused(&image, &target, &keep(&["7"]));
    assert!(text.contains("has no partition 7"), "{text}");

    // The image's second partition lies over the target's fifth.
    let script = "label: gpt\n/dev/x5 : start=40960,size=8192,type=L,name=mine\n";
    let over = disk(&dir, "over", SIZE, script, &[]);
    let text = refused(&image, &over, &keep(&["mine"]));
    assert!(
        text.contains("partition 5 (mine, 4.0 MiB at 20971520)"),
        "{text}"
    );
    assert!(
        text.contains("partition 2 (root, 20.0 MiB at 11534336)"),
        "{text}"
    );
    assert!(text.ends_with("lies over it"), "{text}");

    // Data outside of the image's partitions.
    let from = dir.path().join("from");
    scribble(&from, 50 * MIB + 5, b"x");
    let image = image_of(&dir, &from, 512);
    let text = refused(&image, &target, &keep(&["home"]));
    assert!(
        text.contains("has data there, outside its partitions, at byte 52428805"),
        "{text}"
    );

    let mbr = disk(&dir, "mbr", SIZE, "label: dos\n2048,20480,83\n", &[]);
    let text = refused(&image, &mbr, &keep(&["1"]));
    assert!(text.contains("has a table of kind mbr"), "{text}");
    let empty = sparse(&dir, "empty", SIZE);
    let text = refused(&image, &empty, &keep(&["1"]));
    assert!(text.contains("has no partition table"), "{text}");
}

#[test]
fn a_larger_disk_keeps_what_lies_behind_the_image_and_across_its_end() {
    for (start, size) in [(90 * MIB, 8 * MIB), (50 * MIB, 40 * MIB)] {
        let dir = TempDir::new().unwrap();
        let from = disk(&dir, "from", SIZE, IMAGE, &[(1, 4), (11, 20)]);
        let image = image_of(&dir, &from, 512);
        let script = format!(
            "label: gpt\n/dev/x9 : start={},size={},type=L,name=far\n",
            start / 512,
            size / 512
        );
        let target = disk(&dir, "target", 100 * MIB, &script, &[(1, 98)]);
        let kept = start..start + size;
        let (before, line) = (bytes(&target, kept.clone()), entry(&target, 9));
        try_restore(&image, &target, &keep(&["far"])).unwrap();
        assert!(bytes(&target, kept) == before);
        assert_eq!(entry(&target, 9), line);
        assert_eq!(entry(&target, 2), entry(&from, 2));
        assert_accepted(&target);
        let stale = bytes(&target, SIZE - 512..SIZE - 504);
        assert_ne!(stale, b"EFI PART");
    }
}

#[test]
fn images_of_other_tools_keep_partitions_too() {
    for packer in ["xz -k0", "gzip -k1", "zstd -qk", "true"] {
        let dir = TempDir::new().unwrap();
        let (from, _, target) = image_and_target(&dir);
        run("sh", &["-c", &format!("{packer} {}", from.display())]);
        let suffix = match packer.split(' ').next() {
            Some("xz") => ".xz",
            Some("gzip") => ".gz",
            Some("zstd") => ".zst",
            _ => "",
        };
        let image = PathBuf::from(format!("{}{suffix}", from.display()));
        let (home, line) = (bytes(&target, HOME), entry(&target, 3));
        try_restore(&image, &target, &keep(&["home"])).unwrap();
        assert!(bytes(&target, HOME) == home, "{packer}");
        assert_eq!(entry(&target, 3), line, "{packer}");
        assert_eq!(entry(&target, 2), entry(&from, 2), "{packer}");
        assert!(bytes(&target, MIB..HOME.start) == bytes(&from, MIB..HOME.start));
        assert_accepted(&target);
        // A single partition of the same image.
        let all = fs::read(&target).unwrap();
        scribble(&target, 11 * MIB, &noise(at(5 * MIB), 3));
        try_restore(&image, &target, &only(&["root"])).unwrap();
        assert!(fs::read(&target).unwrap() == all, "{packer}");
    }
}

#[test]
fn a_device_with_large_sectors_keeps_partitions() {
    let dir = TempDir::new().unwrap();
    let make = |name: &str, arguments: &[&str], data: (u64, u64)| {
        let backing = sparse(&dir, name, SIZE);
        scribble(
            &backing,
            data.0 * MIB,
            &noise(at((data.1 - data.0) * MIB), 5),
        );
        let device = Loop::with_sectors(&backing, 4096);
        let mut all = arguments.to_vec();
        all.push(device.device.to_str().unwrap());
        run("sgdisk", &all);
        drop(device);
        backing
    };
    let from = make("from", &["-n", "1:256:+9M"], (1, 8));
    let image = image_of(&dir, &from, 4096);
    let target = make("target", &["-n", "4:5120:+9M", "-c", "4:four"], (20, 30));
    let kept = bytes(&target, 20 * MIB..29 * MIB);
    let device = Loop::with_sectors(&target, 4096);
    try_restore(&image, &device.device, &keep(&["four"])).unwrap();
    assert_accepted(&device.device);
    drop(device);
    assert!(bytes(&target, 20 * MIB..29 * MIB) == kept);
    assert!(bytes(&target, MIB..10 * MIB) == bytes(&from, MIB..10 * MIB));
}

#[test]
fn a_kept_filesystem_is_whole_afterwards() {
    let dir = TempDir::new().unwrap();
    let (_, image, target) = image_and_target(&dir);
    let file = target.to_str().unwrap();
    let offset = format!("offset={}", HOME.start);
    run("mkfs.ext4", &["-q", "-F", "-E", &offset, file, "15M"]);
    try_restore(&image, &target, &keep(&["home"])).unwrap();
    let device = Command::new("losetup")
        .args([
            "-f",
            "--show",
            "-o",
            &HOME.start.to_string(),
            "--sizelimit",
            "15M",
            file,
        ])
        .output()
        .unwrap();
    let device = String::from_utf8(device.stdout).unwrap();
    let text = run(
        "sh",
        &[
            "-c",
            &format!(
                "e2fsck -fn {0}; code=$?; losetup -d {0}; exit $code",
                device.trim()
            ),
        ],
    );
    assert!(!text.contains("error"), "{text}");
}
