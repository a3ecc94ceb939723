//! XFS of both versions: what the survey drops, nothing misses.

mod used_common;

use pitstop_imaging::used::Survey;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use used_common::{
    MIB, Mount, assert_used, content, junk, mounted_tree, populate, reason, restored, run,
    scribble, sparse, survey_file,
};

const SIZE: u64 = 320 * MIB;

fn round_trip(mkfs: &[&str]) {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "image", SIZE);
    round_trip_on(&image, SIZE, mkfs);
}

fn round_trip_on(image: &Path, size: u64, mkfs: &[&str]) {
    let path = image.to_str().unwrap();
    let mut arguments = vec!["-q", "-f"];
    arguments.extend(mkfs);
    arguments.push(path);
    run("mkfs.xfs", &arguments);
    assert_used(&survey_file(image, 512), "xfs");
    let mount = Mount::new(image, "rw,nouuid");
    populate(mount.path(), 200);
    drop(mount);
    let survey = survey_file(image, 512);
    assert_used(&survey, "xfs");
    check_against_xfs_db(&survey, path, size);
    let copy = restored(image, &survey);
    run("xfs_repair", &["-n", copy.to_str().unwrap()]);
    let options = "ro,nouuid";
    assert_eq!(mounted_tree(image, options), mounted_tree(&copy, options));
}

/// Kept is all but the free extents, and the first and last MiB of the disk.
fn check_against_xfs_db(survey: &Survey, path: &str, size: u64) {
    let free = free_bytes(path);
    let kept = survey.kept.total();
    assert!(
        kept >= size - free && kept <= size - free + 2 * MIB,
        "{kept} kept, {free} free"
    );
}

/// What `xfs_db` finds in the free space trees.
fn free_bytes(path: &str) -> u64 {
    let text = run(
        "xfs_db",
        &[
            "-r",
            "-c",
            "freesp -s",
            "-c",
            "sb 0",
            "-c",
            "p blocksize",
            path,
        ],
    );
    let field = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().last().unwrap().parse().unwrap()
    };
    field("total free blocks") * field("blocksize")
}

#[test]
fn xfs_survives_as_made_by_default() {
    round_trip(&[]);
}

#[test]
fn xfs_of_version_4_survives() {
    // Kernels are built without this version by now, so mkfs.xfs itself puts the files in.
    let dir = TempDir::new().unwrap();
    let source = dir.path().join("source");
    let mut proto = String::from("/dev/null\n0 0\nd--755 0 0\n");
    for index in 0..50 {
        let path = source.with_extension(index.to_string());
        fs::write(&path, content(index, 1000 + index * 7777)).unwrap();
        writeln!(proto, "file{index} ---644 0 0 {}", path.display()).unwrap();
    }
    proto.push_str("$\n$\n");
    let list = dir.path().join("proto");
    fs::write(&list, proto).unwrap();
    let image = junk(&dir, "image", SIZE);
    let path = image.to_str().unwrap();
    let list = list.to_str().unwrap();
    run("mkfs.xfs", &["-q", "-f", "-m", "crc=0", "-p", list, path]);
    let survey = survey_file(&image, 512);
    assert_used(&survey, "xfs");
    check_against_xfs_db(&survey, path, SIZE);
    let copy = restored(&image, &survey);
    run("xfs_repair", &["-n", copy.to_str().unwrap()]);
    let (before, after) = (fs::read(&image).unwrap(), fs::read(&copy).unwrap());
    for index in 0..50 {
        let length = 1000 + index * 7777;
        // A file starts on a block.
        let at = (0..before.len())
            .step_by(4096)
            .find(|at| before[*at..].starts_with(&content(index, 1000)))
            .unwrap();
        assert_eq!(before[at..at + length], after[at..at + length]);
    }
}

#[test]
fn xfs_with_4096_byte_sectors_survives() {
    round_trip(&["-s", "size=4096"]);
}

#[test]
fn xfs_with_many_groups_and_small_blocks_survives() {
    let dir = TempDir::new().unwrap();
    let size = 1600 * MIB;
    let image = sparse(&dir, "image", size);
    round_trip_on(&image, size, &["-b", "size=1024", "-d", "agcount=19"]);
}

#[test]
fn xfs_with_reverse_mapping_and_a_log_stripe_survives() {
    round_trip(&["-m", "rmapbt=1,reflink=1", "-l", "su=32768"]);
}

#[test]
fn a_mounted_xfs_keeps_every_block() {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "image", SIZE);
    run("mkfs.xfs", &["-q", "-f", image.to_str().unwrap()]);
    let mount = Mount::new(&image, "rw,nouuid");
    populate(mount.path(), 10);
    run("sync", &["-f", mount.path().to_str().unwrap()]);
    let pulled = dir.path().join("pulled");
    fs::copy(&image, &pulled).unwrap();
    drop(mount);
    let survey = survey_file(&pulled, 512);
    assert_eq!(
        reason(&survey),
        "its log is dirty: it was not unmounted cleanly"
    );
    let copy = restored(&pulled, &survey);
    // Mounting replays the log.
    let options = "rw,nouuid";
    assert_eq!(mounted_tree(&image, options), mounted_tree(&copy, options));
    assert_used(&survey_file(&image, 512), "xfs");
}

#[test]
fn a_log_that_wrapped_is_read_aright() {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "image", SIZE);
    run("mkfs.xfs", &["-q", "-f", image.to_str().unwrap()]);
    for round in 0..6 {
        let mount = Mount::new(&image, "rw,nouuid,wsync");
        for index in 0..4000 {
            let path = mount.path().join(format!("{round}-{index}"));
            fs::write(&path, b"x").unwrap();
            fs::remove_file(&path).unwrap();
        }
        drop(mount);
        assert_used(&survey_file(&image, 512), "xfs");
    }
}

#[test]
fn a_damaged_tree_keeps_every_block() {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "image", SIZE);
    let path = image.to_str().unwrap();
    run("mkfs.xfs", &["-q", "-f", "-m", "crc=0", path]);
    let text = run("xfs_db", &["-r", "-c", "agf 0", "-c", "p bnoroot", path]);
    let root: u64 = text.split_whitespace().last().unwrap().parse().unwrap();
    scribble(&image, root * 4096 + 16 + 3, &[0xee]);
    assert!(reason(&survey_file(&image, 512)).contains("free space"));
}
