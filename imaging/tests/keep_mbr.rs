//! Partitions of an MBR that survive a restore, logical ones with their chain of boot records.

mod image_common;
mod part_common;
mod used_common;

use part_common::{HOME, SIZE, at, bytes, disk, entry, image_of, keep, refused, try_restore};
use std::fs;
use tempfile::TempDir;
use used_common::{MIB, run, scribble};

#[test]
fn a_primary_partition_of_an_mbr_is_kept_beside_the_images_logical_ones() {
    let dir = TempDir::new().unwrap();
    let from = disk(
        &dir,
        "from",
        SIZE,
        "label: dos\nlabel-id: 0x11111111\n2048,20480,83,*\n22528,20480,5\n24576,8192,83\n",
        &[(1, 4), (12, 15)],
    );
    scribble(&from, 0, &[0xfa; 64]);
    let image = image_of(&dir, &from, 512);
    let script = "label: dos\n/dev/x1 : start=2048,size=40960,type=5\n/dev/x4 : start=81920,size=30720,type=7,bootable\n/dev/x5 : start=4096,size=2048,type=83\n";
    let target = disk(&dir, "target", SIZE, script, &[(3, 5), (40, 55)]);
    let text = refused(&image, &target, &keep(&["5"]));
    assert!(
        text.contains("partition 1 (10.0 MiB at 1048576) of"),
        "{text}"
    );
    let (kept, line) = (bytes(&target, HOME), entry(&target, 4));
    try_restore(&image, &target, &keep(&["4"])).unwrap();
    assert!(bytes(&target, HOME) == kept);
    assert_eq!(entry(&target, 4), line);
    for number in [1, 2, 5] {
        assert_eq!(entry(&target, number), entry(&from, number));
    }
    assert!(bytes(&target, 0..446) == bytes(&from, 0..446));
    assert!(bytes(&target, 512..HOME.start) == bytes(&from, 512..HOME.start));
    // The image's extended partition has the second entry.
    let script = "label: dos\n/dev/x2 : start=81920,size=30720,type=7\n";
    let target = disk(&dir, "second", SIZE, script, &[(40, 55)]);
    let text = refused(&image, &target, &keep(&["2"]));
    assert!(
        text.contains("its entry 2 is the extended partition's"),
        "{text}"
    );
}

/// The installer of Debian: root in front, the rest in an extended partition. The target has one more logical one.
const MBR_IMAGE: &str = "label: dos\nlabel-id: 0x22222222\n2048,20480,83,*\n22528,102400,5\n24576,8192,82\n34816,20480,83\n";
const MBR_TARGET: &str =
    "label: dos\n2048,20480,83\n22528,102400,f\n24576,8192,82\n34816,20480,83\n57344,40960,7\n";

#[test]
fn logical_partitions_are_kept_in_and_behind_the_images_chain() {
    for names in [&["7"][..], &["6"], &["7", "6"], &["5", "7"]] {
        let dir = TempDir::new().unwrap();
        let from = disk(&dir, "from", SIZE, MBR_IMAGE, &[(1, 4), (12, 15), (17, 20)]);
        let image = image_of(&dir, &from, 512);
        let target = disk(
            &dir,
            "target",
            SIZE,
            MBR_TARGET,
            &[(1, 10), (13, 15), (18, 26), (29, 40)],
        );
        let place = |name: &str| match name {
            "5" => 12 * MIB..16 * MIB,
            "6" => 17 * MIB..27 * MIB,
            _ => 28 * MIB..48 * MIB,
        };
        let before: Vec<_> = names
            .iter()
            .map(|name| bytes(&target, place(name)))
            .collect();
        let lines: Vec<_> = names
            .iter()
            .map(|name| entry(&target, name.parse().unwrap()))
            .collect();
        try_restore(&image, &target, &keep(names)).unwrap();
        for ((name, before), line) in names.iter().zip(&before).zip(&lines) {
            assert!(bytes(&target, place(name)) == *before, "{names:?}: {name}");
            assert_eq!(&entry(&target, name.parse().unwrap()), line, "{names:?}");
        }
        for number in [1, 2, 5, 6] {
            assert_eq!(entry(&target, number), entry(&from, number), "{names:?}");
        }
        assert_eq!(
            entry(&target, 7).is_empty(),
            !names.contains(&"7"),
            "{names:?}"
        );
        let verdict = run("sfdisk", &["--verify", target.to_str().unwrap()]);
        assert!(
            verdict.contains("No errors detected"),
            "{names:?}: {verdict}"
        );
        // Once more, from what is there now.
        let first = fs::read(&target).unwrap();
        try_restore(&image, &target, &keep(names)).unwrap();
        assert!(fs::read(&target).unwrap() == first, "{names:?}");
    }
}

#[test]
fn a_kept_logical_partition_brings_its_extended_one_along() {
    let dir = TempDir::new().unwrap();
    let script = "label: dos\nlabel-id: 0x22222222\n2048,20480,83,*\n";
    let from = disk(&dir, "from", SIZE, script, &[(1, 4)]);
    let image = image_of(&dir, &from, 512);
    let target = disk(
        &dir,
        "target",
        SIZE,
        MBR_TARGET,
        &[(13, 15), (18, 26), (29, 40)],
    );
    let text = refused(&image, &target, &keep(&["6"]));
    assert!(
        text.contains("logical partition 6 would become number 5"),
        "{text}"
    );
    let (kept, lines) = (
        bytes(&target, 12 * MIB..27 * MIB),
        [5, 6].map(|number| entry(&target, number)),
    );
    try_restore(&image, &target, &keep(&["6", "5"])).unwrap();
    let after = bytes(&target, 12 * MIB..27 * MIB);
    assert!(after[..at(4 * MIB)] == kept[..at(4 * MIB)], "swap");
    assert!(after[at(5 * MIB)..] == kept[at(5 * MIB)..], "data");
    assert_eq!([5, 6].map(|number| entry(&target, number)), lines);
    assert_eq!(entry(&target, 1), entry(&from, 1));
    assert!(
        entry(&target, 2).contains("type=f"),
        "{}",
        entry(&target, 2)
    );
    assert_eq!(entry(&target, 7), "");
    let verdict = run("sfdisk", &["--verify", target.to_str().unwrap()]);
    assert!(verdict.contains("No errors detected"), "{verdict}");
}

#[test]
fn a_failed_restore_leaves_a_kept_logical_partition_its_number() {
    let dir = TempDir::new().unwrap();
    let from = disk(
        &dir,
        "from",
        SIZE,
        MBR_IMAGE,
        &[(1, 10), (12, 15), (17, 20)],
    );
    let image = image_of(&dir, &from, 512);
    let target = disk(&dir, "target", SIZE, MBR_TARGET, &[(13, 15), (29, 40)]);
    let (kept, line) = (bytes(&target, 28 * MIB..48 * MIB), entry(&target, 7));
    let good = fs::read(&image).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 0x10;
    fs::write(&image, bad).unwrap();
    let error = try_restore(&image, &target, &keep(&["7"])).unwrap_err();
    assert!(
        format!("{error:#}").contains("its CRC-32 is wrong"),
        "{error:#}"
    );
    assert_eq!(entry(&target, 7), line);
    for stub in [5, 6] {
        assert!(
            entry(&target, stub).contains("size=           1, type=da"),
            "{}",
            entry(&target, stub)
        );
    }
    assert_eq!(entry(&target, 1), "");
    fs::write(&image, good).unwrap();
    try_restore(&image, &target, &keep(&["7"])).unwrap();
    assert!(bytes(&target, 28 * MIB..48 * MIB) == kept);
    assert_eq!(entry(&target, 7), line);
    for number in [1, 2, 5, 6] {
        assert_eq!(entry(&target, number), entry(&from, number));
    }
}
