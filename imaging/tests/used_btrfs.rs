//! Btrfs on one device: what the survey drops, nothing misses.

mod used_common;

use std::fs;
use tempfile::TempDir;
use used_common::{
    MIB, Mount, assert_used, content, junk, mounted_tree, populate, reason, restored, run, sparse,
    survey_file,
};

const SIZE: u64 = 400 * MIB;

fn round_trip(mkfs: &[&str], options: &str) {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "image", SIZE);
    let mut arguments = vec!["-q", "-f"];
    arguments.extend(mkfs);
    arguments.push(image.to_str().unwrap());
    run("mkfs.btrfs", &arguments);
    assert_used(&survey_file(&image, 512), "btrfs");
    let mount = Mount::new(&image, &format!("rw,{options}"));
    populate(mount.path(), 100);
    let snapshot = mount.path().join("snapshot");
    run(
        "btrfs",
        &[
            "-q",
            "subvolume",
            "snapshot",
            mount.path().to_str().unwrap(),
            snapshot.to_str().unwrap(),
        ],
    );
    drop(mount);
    let survey = survey_file(&image, 512);
    assert_used(&survey, "btrfs");
    assert!(
        survey.kept.total() < SIZE / 2,
        "{} kept",
        survey.kept.total()
    );
    let copy = restored(&image, &survey);
    run(
        "btrfs",
        &[
            "check",
            "--readonly",
            "--check-data-csum",
            copy.to_str().unwrap(),
        ],
    );
    let before = mounted_tree(&image, "ro");
    fs::remove_file(&image).unwrap();
    assert_eq!(before, mounted_tree(&copy, "ro"));
}

#[test]
fn btrfs_survives_as_made_by_default() {
    round_trip(&[], "noatime");
}

#[test]
fn btrfs_with_duplicated_data_survives() {
    round_trip(&["-d", "dup", "-m", "dup"], "noatime");
}

#[test]
fn btrfs_with_single_metadata_and_compression_survives() {
    round_trip(&["-m", "single"], "compress=zstd");
}

#[test]
fn btrfs_with_mixed_groups_survives() {
    round_trip(&["--mixed"], "noatime");
}

#[test]
fn btrfs_with_old_features_survives() {
    round_trip(
        &["-O", "^no-holes,^skinny-metadata", "-R", "^free-space-tree"],
        "space_cache=v1",
    );
}

#[test]
fn a_pulled_btrfs_with_a_log_tree_keeps_every_block() {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "image", SIZE);
    run("mkfs.btrfs", &["-q", "-f", image.to_str().unwrap()]);
    let mount = Mount::new(&image, "rw,commit=300");
    let file = fs::File::create(mount.path().join("synced")).unwrap();
    file.sync_all().unwrap();
    let pulled = dir.path().join("pulled");
    fs::copy(&image, &pulled).unwrap();
    drop(file);
    drop(mount);
    let survey = survey_file(&pulled, 512);
    assert_eq!(reason(&survey), "its log tree needs to be replayed");
    restored(&pulled, &survey);
}

#[test]
fn btrfs_of_several_chunks_survives() {
    let dir = TempDir::new().unwrap();
    let image = sparse(&dir, "image", 2 * SIZE);
    let path = image.to_str().unwrap();
    run("mkfs.btrfs", &["-q", "-f", path]);
    let mount = Mount::new(&image, "rw,noatime");
    for index in 0..40 {
        let file = mount.path().join(format!("large{index}"));
        fs::write(file, content(index, 10_000_000)).unwrap();
    }
    for index in (0..40).step_by(2) {
        fs::remove_file(mount.path().join(format!("large{index}"))).unwrap();
    }
    drop(mount);
    let text = run(
        "btrfs",
        &["inspect-internal", "dump-tree", "-t", "chunk", path],
    );
    assert!(text.matches("type DATA").count() > 2, "{text}");
    let survey = survey_file(&image, 512);
    assert_used(&survey, "btrfs");
    assert!(survey.kept.total() < SIZE, "{}", survey.kept.total());
    let copy = restored(&image, &survey);
    let arguments = [
        "check",
        "--readonly",
        "--check-data-csum",
        copy.to_str().unwrap(),
    ];
    run("btrfs", &arguments);
    let before = mounted_tree(&image, "ro");
    // Two filesystems with the same UUID cannot be mounted at once.
    fs::remove_file(&image).unwrap();
    assert_eq!(before, mounted_tree(&copy, "ro"));
}

#[test]
fn btrfs_over_two_devices_keeps_every_block() {
    let dir = TempDir::new().unwrap();
    let one = sparse(&dir, "one", SIZE);
    let two = sparse(&dir, "two", SIZE);
    run(
        "mkfs.btrfs",
        &[
            "-q",
            "-f",
            "-d",
            "raid0",
            one.to_str().unwrap(),
            two.to_str().unwrap(),
        ],
    );
    assert_eq!(reason(&survey_file(&one, 512)), "it spans 2 devices");
}
