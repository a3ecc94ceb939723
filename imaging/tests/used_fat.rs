//! FAT, exFAT and swap: what the survey drops, nothing misses.

mod used_common;

use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use used_common::{
    MIB, Mount, Tree, assert_used, junk, populate, reason, restored, run, scribble, survey_file,
    tree,
};

/// What is in a FAT image, read by mtools.
fn files(dir: &TempDir, image: &Path) -> Tree {
    let target = TempDir::new_in(dir.path()).unwrap();
    let path = image.to_str().unwrap();
    run(
        "mcopy",
        &[
            "-s",
            "-n",
            "-i",
            path,
            "::*",
            target.path().to_str().unwrap(),
        ],
    );
    tree(target.path())
}

fn make_fat(dir: &TempDir, size: u64, mkfs: &[&str], count: usize) -> PathBuf {
    let image = junk(dir, "image", size);
    let path = image.to_str().unwrap();
    let mut arguments = vec!["-n", "DATA"];
    arguments.extend(mkfs);
    arguments.push(path);
    run("mkfs.fat", &arguments);
    let source = TempDir::new_in(dir.path()).unwrap();
    populate(source.path(), count);
    for folder in fs::read_dir(source.path()).unwrap() {
        run(
            "mcopy",
            &[
                "-s",
                "-i",
                path,
                folder.unwrap().path().to_str().unwrap(),
                "::",
            ],
        );
    }
    for folder in [1, 4] {
        run("mdeltree", &["-i", path, &format!("::dir{folder}")]);
    }
    image
}

fn fat_round_trip(size: u64, mkfs: &[&str], count: usize) {
    let dir = TempDir::new().unwrap();
    let image = make_fat(&dir, size, mkfs, count);
    let survey = survey_file(&image, 512);
    assert_used(&survey, "vfat");
    assert_eq!(survey.partitions[0].label, "DATA");
    assert!(
        survey.kept.total() < size - size / 8,
        "{}",
        survey.kept.total()
    );
    let copy = restored(&image, &survey);
    run("fsck.fat", &["-n", copy.to_str().unwrap()]);
    assert_eq!(files(&dir, &image), files(&dir, &copy));
}

#[test]
fn fat12_survives() {
    fat_round_trip(15 * MIB, &["-F", "12", "-s", "8"], 40);
}

#[test]
fn fat16_survives() {
    fat_round_trip(64 * MIB, &["-F", "16"], 80);
}

#[test]
fn fat32_survives() {
    fat_round_trip(128 * MIB, &["-F", "32"], 80);
    fat_round_trip(512 * MIB, &["-F", "32", "-S", "4096", "-s", "1"], 80);
}

#[test]
fn a_fat_that_is_dirty_or_differs_from_its_copy_keeps_every_block() {
    let dir = TempDir::new().unwrap();
    let image = make_fat(&dir, 64 * MIB, &["-F", "32", "-R", "32"], 10);
    assert_used(&survey_file(&image, 512), "vfat");
    // Linux sets this bit of the boot sector while it is mounted.
    scribble(&image, 65, &[1]);
    let survey = survey_file(&image, 512);
    assert_eq!(reason(&survey), "it was not unmounted cleanly");
    restored(&image, &survey);
    scribble(&image, 65, &[0]);
    scribble(&image, 32 * 512 + 40, &[0; 4]);
    assert_eq!(reason(&survey_file(&image, 512)), "its FATs differ");
}

fn exfat_round_trip(size: u64, mkfs: &[&str]) {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "image", size);
    let mut arguments = vec!["-L", "Card"];
    arguments.extend(mkfs);
    arguments.push(image.to_str().unwrap());
    run("mkfs.exfat", &arguments);
    let mount = Mount::fuse("mount.exfat-fuse", &image, "rw");
    populate(mount.path(), 60);
    drop(mount);
    let survey = survey_file(&image, 512);
    assert_used(&survey, "exfat");
    assert_eq!(survey.partitions[0].label, "Card");
    assert!(survey.kept.total() < size / 2, "{}", survey.kept.total());
    let copy = restored(&image, &survey);
    run("fsck.exfat", &["-n", copy.to_str().unwrap()]);
    let files = |image: &Path| tree(Mount::fuse("mount.exfat-fuse", image, "ro").path());
    assert_eq!(files(&image), files(&copy));
}

#[test]
fn exfat_survives() {
    exfat_round_trip(128 * MIB, &[]);
    exfat_round_trip(128 * MIB, &["-c", "64K"]);
}

#[test]
fn a_mounted_exfat_keeps_every_block() {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "image", 64 * MIB);
    run("mkfs.exfat", &[image.to_str().unwrap()]);
    assert_used(&survey_file(&image, 512), "exfat");
    let mount = Mount::fuse("mount.exfat-fuse", &image, "rw");
    fs::write(mount.path().join("file"), b"x").unwrap();
    let pulled = dir.path().join("pulled");
    fs::copy(&image, &pulled).unwrap();
    drop(mount);
    let survey = survey_file(&pulled, 512);
    assert_eq!(reason(&survey), "it was not unmounted cleanly");
    restored(&pulled, &survey);
}

#[test]
fn swap_keeps_its_header() {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "image", 64 * MIB);
    run("mkswap", &["-L", "pages", image.to_str().unwrap()]);
    let survey = survey_file(&image, 512);
    assert_used(&survey, "swap");
    assert_eq!(survey.partitions[0].label, "pages");
    // A whole disk keeps its first and last MiB, whatever is there.
    assert_eq!(survey.kept.total(), 2 * MIB);
    let copy = restored(&image, &survey);
    let text = run("blkid", &["-p", "-o", "export", copy.to_str().unwrap()]);
    assert!(
        text.contains("LABEL=pages") && text.contains("TYPE=swap"),
        "{text}"
    );
}
