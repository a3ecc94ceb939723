//! Single partitions that come back, and disks that are smaller than the image's.

mod image_common;
mod part_common;
mod used_common;

use part_common::{
    IMAGE, SIZE, assert_accepted, at, bytes, disk, entry, image_of, only, refused, try_restore,
};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{CaptureOptions, Delta, RestoreOptions, capture};
use std::fs::{self, File};
use tempfile::TempDir;
use used_common::{Loop, MIB, run, scribble, sparse};

#[test]
fn a_single_partition_comes_back_and_nothing_else_is_touched() {
    for (delta, start) in [
        (Delta::Off, 22528),
        (Delta::On, 22528),
        (Delta::Off, 30720),
        (Delta::On, 30721),
    ] {
        let dir = TempDir::new().unwrap();
        let from = disk(&dir, "from", SIZE, IMAGE, &[(1, 4), (11, 31)]);
        let image = image_of(&dir, &from, 512);
        let script = format!(
            "label: gpt\nstart=2048,size=8192,type=L,name=else\nstart={start},size=43008,type=L,name=root\nstart=102400,type=L\n"
        );
        let target = disk(&dir, "target", 70 * MIB, &script, &[(2, 69)]);
        let mut expected = fs::read(&target).unwrap();
        let place = at(start * 512);
        let root = bytes(&from, 11 * MIB..31 * MIB);
        expected[place..place + root.len()].copy_from_slice(&root);
        let options = RestoreOptions {
            delta,
            ..only(&["2"])
        };
        let done = try_restore(&image, &target, &options).unwrap();
        assert_eq!(done.size, 20 * MIB);
        assert!(fs::read(&target).unwrap() == expected, "{delta:?} {start}");
        try_restore(&image, &target, &only(&["root"])).unwrap();
        assert!(fs::read(&target).unwrap() == expected, "{delta:?} {start}");
    }
}

#[test]
fn a_single_partition_that_breaks_off_does_not_mount() {
    let dir = TempDir::new().unwrap();
    let from = disk(&dir, "from", SIZE, IMAGE, &[(11, 31)]);
    let image = image_of(&dir, &from, 512);
    let mut bad = fs::read(&image).unwrap();
    let middle = bad.len() / 2;
    bad[middle] ^= 0x10;
    fs::write(&image, bad).unwrap();
    let target = disk(&dir, "target", SIZE, IMAGE, &[(1, 60)]);
    let before = fs::read(&target).unwrap();
    let error = try_restore(&image, &target, &only(&["2"])).unwrap_err();
    assert!(
        format!("{error:#}").contains("its CRC-32 is wrong"),
        "{error:#}"
    );
    let after = fs::read(&target).unwrap();
    let root = at(11 * MIB)..at(31 * MIB);
    assert!(
        after[root.start..root.start + at(MIB)]
            .iter()
            .all(|byte| *byte == 0)
    );
    assert!(after[..root.start] == before[..root.start]);
    assert!(after[root.end..] == before[root.end..]);
}

#[test]
fn single_partitions_that_are_missing_or_too_small_are_refused() {
    let dir = TempDir::new().unwrap();
    let from = disk(&dir, "from", SIZE, IMAGE, &[(11, 31)]);
    let image = image_of(&dir, &from, 512);
    let target = disk(
        &dir,
        "target",
        SIZE,
        "label: gpt\n2048,20480,U\n22528,20480,L\n",
        &[],
    );
    let text = refused(&image, &target, &only(&["2"]));
    assert!(
        text.contains("is too small for partition 2 (root, 20.0 MiB"),
        "{text}"
    );
    assert!(text.contains("it has 10485760 bytes"), "{text}");
    let text = refused(&image, &target, &only(&["root"]));
    assert!(text.contains("has no partition \"root\""), "{text}");
    let text = refused(&image, &target, &only(&["3"]));
    assert!(text.contains("has no partition 3"), "{text}");
}

#[test]
fn a_logical_partition_comes_back_by_itself() {
    let dir = TempDir::new().unwrap();
    let script = "label: dos\n2048,20480,83\n22528,81920,5\n24576,20480,83\n";
    let from = disk(&dir, "from", SIZE, script, &[(12, 22)]);
    let image = image_of(&dir, &from, 512);
    let target = disk(&dir, "target", SIZE, script, &[(2, 9), (12, 40)]);
    let mut expected = fs::read(&target).unwrap();
    let logical = at(12 * MIB)..at(22 * MIB);
    expected[logical.clone()].copy_from_slice(&fs::read(&from).unwrap()[logical]);
    try_restore(&image, &target, &only(&["5"])).unwrap();
    assert!(fs::read(&target).unwrap() == expected);
}

#[test]
fn a_smaller_disk_takes_what_ends_before_it() {
    for script in [IMAGE, "label: dos\n2048,20480,83\n22528,40960,83\n"] {
        let dir = TempDir::new().unwrap();
        let from = disk(&dir, "from", SIZE, script, &[(1, 4), (11, 31)]);
        let image = image_of(&dir, &from, 512);
        for size in [32 * MIB, 40 * MIB + 512 * 7] {
            let target = disk(&dir, "small", size, "label: gpt\n2048,8192,L\n", &[(1, 31)]);
            for _ in 0..2 {
                try_restore(
                    &image,
                    &target,
                    &RestoreOptions {
                        verify: true,
                        ..RestoreOptions::default()
                    },
                )
                .unwrap();
                assert!(bytes(&target, MIB..31 * MIB) == bytes(&from, MIB..31 * MIB));
                assert_eq!(entry(&target, 2), entry(&from, 2));
                let text = run("sfdisk", &["--verify", target.to_str().unwrap()]);
                assert!(text.contains("No errors detected"), "{text}");
            }
            if script == IMAGE {
                assert_accepted(&target);
            }
        }
        let tiny = sparse(&dir, "tiny", 30 * MIB);
        let text = refused(&image, &tiny, &RestoreOptions::default());
        assert!(
            text.contains("is too small: it has 31457280 bytes (30.0 MiB)"),
            "{text}"
        );
        assert!(
            text.contains("has 67108864 (64.0 MiB), and partition 2 ("),
            "{text}"
        );
        assert!(text.contains("ends at 32505856; a disk of"), "{text}");
    }
}

#[test]
fn an_extended_partition_that_reaches_too_far_is_named() {
    let dir = TempDir::new().unwrap();
    let script = "label: dos\n2048,20480,83\n22528,81920,5\n24576,20480,83\n";
    let from = disk(&dir, "from", SIZE, script, &[(12, 22)]);
    let image = image_of(&dir, &from, 512);
    let target = sparse(&dir, "small", 40 * MIB);
    let text = refused(&image, &target, &RestoreOptions::default());
    assert!(
        text.contains(
            "its extended partition 2 ends at 53477376; a disk of 53477376 bytes would do"
        ),
        "{text}"
    );
}

#[test]
fn a_smaller_disk_is_refused_where_the_end_is_used() {
    let dir = TempDir::new().unwrap();
    let from = disk(&dir, "from", SIZE, IMAGE, &[(1, 4), (50, 51)]);
    let image = image_of(&dir, &from, 512);
    let target = sparse(&dir, "small", 40 * MIB);
    let text = refused(&image, &target, &RestoreOptions::default());
    assert!(
        text.contains("has data outside its partitions at byte 52428800"),
        "{text}"
    );
}

#[test]
fn a_filesystem_that_reaches_too_far_is_named_with_what_it_uses() {
    let dir = TempDir::new().unwrap();
    let script = "label: gpt\nstart=2048,size=20480,type=U,name=esp\nstart=22528,size=102400,type=L,name=root\n";
    let from = disk(&dir, "from", SIZE, script, &[]);
    let file = from.to_str().unwrap();
    run("mkfs.ext4", &["-q", "-E", "offset=11534336", file, "50M"]);
    let identity_image = dir.path().join("used.raw.gz");
    let mut out = File::create(&identity_image).unwrap();
    let identity = image_common::identity(&from);
    capture(
        &from,
        &identity,
        &CaptureOptions::default(),
        &mut out,
        &Silent,
    )
    .unwrap();
    let target = sparse(&dir, "small", 60 * MIB);
    let text = refused(&identity_image, &target, &RestoreOptions::default());
    assert!(
        text.contains("partition 2 (root, 50.0 MiB at 11534336) of it, ext4, ends at 63963136"),
        "{text}"
    );
    assert!(
        text.ends_with("used.raw.gz smaller.raw.gz --to 60MiB")
            && text.contains("; shrink it first: pitstop shrink /"),
        "{text}"
    );
}

#[test]
fn other_sectors_are_refused_before_the_first_write() {
    let dir = TempDir::new().unwrap();
    let from = disk(&dir, "from", SIZE, IMAGE, &[(1, 4)]);
    let image = image_of(&dir, &from, 512);
    let backing = sparse(&dir, "backing", SIZE);
    scribble(&backing, 0, &[9; 4096]);
    let device = Loop::with_sectors(&backing, 4096);
    for image in [&image, &from] {
        let error = try_restore(image, &device.device, &RestoreOptions::default()).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("sectors of 512 bytes") && text.contains("sectors of 4096"),
            "{text}"
        );
    }
    drop(device);
    assert!(bytes(&backing, 0..4096).iter().all(|byte| *byte == 9));
}
