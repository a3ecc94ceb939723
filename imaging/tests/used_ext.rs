//! ext2, ext3 and ext4 of many feature sets: what the survey drops, nothing misses.

mod used_common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use tempfile::TempDir;
use used_common::{
    MIB, Mount, assert_used, junk, mounted_tree, populate, reason, restored, run, survey_file,
    try_run,
};

/// Makes, fills and fragments a filesystem, strips it, and lets `e2fsck` and the files judge.
fn round_trip(name: &str, size: u64, mkfs: &[&str]) {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "image", size);
    let mut arguments = vec!["-q", "-F"];
    arguments.extend(mkfs);
    arguments.push(image.to_str().unwrap());
    run("mke2fs", &arguments);
    let mount = Mount::new(&image, "rw");
    populate(mount.path(), 60);
    drop(mount);
    let survey = survey_file(&image, 512);
    assert_used(&survey, name);
    check_against_dumpe2fs(&image, survey.partitions[0].used);
    let copy = restored(&image, &survey);
    run("e2fsck", &["-fn", copy.to_str().unwrap()]);
    assert_eq!(mounted_tree(&image, "ro"), mounted_tree(&copy, "ro"));
    assert!(
        survey.kept.total() < size * 3 / 4,
        "{} of {size} kept: {mkfs:?}",
        survey.kept.total()
    );
}

/// Kept bytes are at most what `dumpe2fs` calls not free, but for the tail and 2 MiB of edges.
fn check_against_dumpe2fs(image: &Path, used: u64) {
    let text = run("dumpe2fs", &["-h", image.to_str().unwrap()]);
    let field = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().last().unwrap().parse().unwrap()
    };
    let busy = (field("Block count:") - field("Free blocks:")) * field("Block size:");
    assert!(used <= busy + 3 * MIB, "{used} kept, {busy} in use");
}

#[test]
fn ext2_without_any_feature_survives() {
    round_trip(
        "ext2",
        64 * MIB,
        &["-t", "ext2", "-O", "none", "-b", "1024"],
    );
}

#[test]
fn ext2_with_blocks_of_every_size_survives() {
    for block in ["1024", "2048", "4096"] {
        round_trip("ext2", 64 * MIB, &["-t", "ext2", "-b", block]);
    }
}

#[test]
fn ext3_survives() {
    round_trip("ext3", 96 * MIB, &["-t", "ext3", "-b", "1024"]);
}

#[test]
fn ext4_survives_as_made_by_default() {
    round_trip("ext4", 256 * MIB, &["-t", "ext4"]);
}

#[test]
fn ext4_survives_with_each_unusual_feature() {
    for features in [
        "64bit,metadata_csum",
        "^64bit,^metadata_csum,uninit_bg",
        "meta_bg,^resize_inode",
        "bigalloc",
        "sparse_super2,^resize_inode",
        "^flex_bg",
        "^has_journal",
        "^metadata_csum,^uninit_bg",
        "metadata_csum_seed,inline_data",
        "large_dir,ea_inode",
    ] {
        for block in ["1024", "4096"] {
            round_trip(
                "ext4",
                128 * MIB,
                &["-t", "ext4", "-b", block, "-O", features],
            );
        }
    }
}

#[test]
fn a_mounted_ext4_keeps_every_block() {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "image", 64 * MIB);
    run(
        "mke2fs",
        &["-q", "-F", "-t", "ext4", image.to_str().unwrap()],
    );
    let mount = Mount::new(&image, "rw");
    populate(mount.path(), 10);
    run("sync", &["-f", mount.path().to_str().unwrap()]);
    let pulled = dir.path().join("pulled");
    fs::copy(&image, &pulled).unwrap();
    drop(mount);
    assert_used(&survey_file(&image, 512), "ext4");
    let survey = survey_file(&pulled, 512);
    assert_eq!(reason(&survey), "its journal needs to be replayed");
    let copy = restored(&pulled, &survey);
    // The journal came along: whoever replays it has every file.
    try_run("e2fsck", &["-fy", copy.to_str().unwrap()]);
    run("e2fsck", &["-fn", copy.to_str().unwrap()]);
    assert_eq!(mounted_tree(&image, "ro"), mounted_tree(&copy, "ro"));
}

#[test]
fn a_bitmap_that_its_checksum_does_not_fit_keeps_every_block() {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "image", 64 * MIB);
    let path = image.to_str().unwrap();
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-b", "4096", path]);
    let (_, text) = try_run("dumpe2fs", &[path]);
    let bitmap: u64 = text
        .split("Block bitmap at ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap()
        .parse()
        .unwrap();
    used_common::scribble(&image, bitmap * 4096 + 100, &[0]);
    assert_eq!(
        reason(&survey_file(&image, 512)),
        "the checksum of the block bitmap of group 0 is wrong"
    );
}

/// The blocks of a file or folder, as debugfs names them.
fn blocks_of(image: &Path, file: &str) -> Vec<u64> {
    let request = format!("blocks {file}");
    let text = run("debugfs", &["-R", &request, image.to_str().unwrap()]);
    text.split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect()
}

/// First block, first byte of the bitmap, and the bitmap of the group that has `block`.
fn group_of(image: &Path, block: u64) -> (u64, u64, Vec<u8>) {
    let text = run("dumpe2fs", &[image.to_str().unwrap()]);
    let number = |text: &str, after: &str| -> u64 {
        let rest = text.split_once(after).unwrap().1.trim_start();
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        digits.unwrap().parse().unwrap()
    };
    let group = text
        .split("\nGroup ")
        .skip(1)
        .find(|group| {
            let blocks = group.split_once("(Blocks ");
            blocks.is_some_and(|(_, blocks)| block <= number(blocks, "-"))
        })
        .unwrap();
    let at = number(group, "Block bitmap at") * number(&text, "Block size:");
    let length = number(&text, "Blocks per group:") / 8;
    let mut bitmap = vec![0; usize::try_from(length).unwrap()];
    let file = File::open(image).unwrap();
    file.read_exact_at(&mut bitmap, at).unwrap();
    (number(group, "(Blocks "), at, bitmap)
}

/// Exchanges the bit of a used block and that of a free one: the group's count stays right.
fn is_missed(image: &Path, block: u64) {
    let (first, at, bitmap) = group_of(image, block);
    let mut wrong = bitmap.clone();
    let bit = block - first;
    let (byte, mask) = (usize::try_from(bit / 8).unwrap(), 1 << (bit % 8));
    assert!(bitmap[byte] & mask != 0, "block {block} is free");
    wrong[byte] &= !mask;
    let free = bitmap.iter().rposition(|byte| *byte == 0).unwrap();
    wrong[free] = 1;
    used_common::scribble(image, at, &wrong);
    let reason = reason(&survey_file(image, 512)).to_owned();
    assert!(
        reason.starts_with("its bitmap lacks blocks that inode "),
        "block {block}: {reason}"
    );
    used_common::scribble(image, at, &bitmap);
}

#[test]
fn a_bitmap_without_a_checksum_that_lacks_a_block_of_a_file_keeps_every_block() {
    let kinds = [
        "-t ext2 -b 1024",
        "-t ext3 -b 4096",
        "-t ext4 -b 4096 -O ^metadata_csum",
        "-t ext4 -b 1024 -O ^metadata_csum,^extents,^64bit",
        "-t ext4 -b 4096 -O ^metadata_csum,uninit_bg",
    ];
    for kind in kinds {
        let dir = TempDir::new().unwrap();
        let image = junk(&dir, "image", 32 * MIB);
        let path = image.to_str().unwrap();
        let arguments: Vec<&str> = ["-q", "-F"].into_iter().chain(kind.split(' ')).collect();
        run("mke2fs", &[arguments, vec![path]].concat());
        let mount = Mount::new(&image, "rw");
        // In so many pieces that a map has blocks of its own, twice removed where blocks are small.
        let file = File::create(mount.path().join("holes")).unwrap();
        for at in (0..600).map(|index| index * 8192) {
            file.write_all_at(&[7; 1024], at).unwrap();
        }
        drop(file);
        let long = "x".repeat(200);
        std::os::unix::fs::symlink(&long, mount.path().join("long-link")).unwrap();
        std::os::unix::fs::symlink("short", mount.path().join("short-link")).unwrap();
        drop(mount);
        assert_used(&survey_file(&image, 512), kind.split(' ').nth(1).unwrap());
        for file in ["/", "/holes", "/long-link"] {
            let blocks = blocks_of(&image, file);
            assert!(!blocks.is_empty(), "{kind}: {file}");
            for block in blocks.iter().step_by(1 + blocks.len() / 24) {
                is_missed(&image, *block);
            }
        }
        assert_used(&survey_file(&image, 512), kind.split(' ').nth(1).unwrap());
    }
}
