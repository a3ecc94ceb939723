//! F2FS, filled by its own tools: what the survey drops, nothing misses.

mod used_common;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use used_common::{
    MIB, assert_used, junk, populate, reason, restored, run, scribble, sparse, survey_file,
};

fn make(dir: &TempDir, size: u64, mkfs: &[&str]) -> PathBuf {
    // mkfs.f2fs looks for older superblocks in the first blocks.
    let image = junk(dir, "image", size);
    let path = image.to_str().unwrap();
    run(
        "mkfs.f2fs",
        &[&["-q", "-f", "-l", "Phone"], mkfs, &[path]].concat(),
    );
    image
}

/// No kernel is needed to put files in, twice, so that segments are used again. The folders they came from.
fn fill(dir: &TempDir, image: &Path) -> [TempDir; 2] {
    ["first", "second"].map(|round| {
        let source = TempDir::new_in(dir.path()).unwrap();
        populate(&source.path().join(round), 60);
        let arguments = [
            "-f",
            source.path().to_str().unwrap(),
            image.to_str().unwrap(),
        ];
        run("sload.f2fs", &arguments);
        source
    })
}

/// Each whole block of each file is somewhere in the image.
fn assert_has_all(image: &Path, folder: &Path) {
    let bytes = fs::read(image).unwrap();
    let blocks: HashSet<&[u8]> = bytes.chunks_exact(4096).collect();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            for block in fs::read(&path).unwrap().chunks_exact(4096) {
                assert!(blocks.contains(block), "{}", path.display());
            }
        }
    }
}

/// What fsck.f2fs found, having walked the tree: all in order.
fn checked(image: &Path) -> String {
    let text = run("fsck.f2fs", &["--dry-run", image.to_str().unwrap()]);
    assert!(!text.contains("[Fail]"), "{text}");
    let found: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("[Ok..]"))
        .collect();
    assert!(found.len() > 8, "{text}");
    found.join("\n")
}

fn round_trip(size: u64, mkfs: &[&str]) {
    let dir = TempDir::new().unwrap();
    let image = make(&dir, size, mkfs);
    assert_used(&survey_file(&image, 512), "f2fs");
    let sources = fill(&dir, &image);
    let survey = survey_file(&image, 512);
    assert_used(&survey, "f2fs");
    assert_eq!(survey.partitions[0].label, "Phone");
    assert!(
        survey.kept.total() < size * 3 / 4,
        "{}",
        survey.kept.total()
    );
    let copy = restored(&image, &survey);
    assert_eq!(checked(&copy), checked(&image));
    for source in &sources {
        assert_has_all(&copy, source.path());
    }
}

#[test]
fn f2fs_survives_as_made_by_default() {
    round_trip(128 * MIB, &[]);
}

#[test]
fn f2fs_with_more_features_survives() {
    round_trip(256 * MIB, &["-O", "extra_attr,sb_checksum"]);
}

#[test]
fn a_large_f2fs_has_its_maps_in_blocks_of_their_own() {
    let dir = TempDir::new().unwrap();
    let image = sparse(&dir, "image", 4 << 40);
    run(
        "mkfs.f2fs",
        &["-q", "-f", "-t", "0", image.to_str().unwrap()],
    );
    let survey = survey_file(&image, 512);
    assert_used(&survey, "f2fs");
    // All in front of the main area, and the root directory.
    assert!(survey.kept.total() < 9 << 30, "{}", survey.kept.total());
}

/// Where the fields of the newer checkpoint's first block are.
fn checkpoints(image: &Path) -> [u64; 2] {
    let bytes = fs::read(image).unwrap();
    let at = u32::from_le_bytes(bytes[1024 + 76..][..4].try_into().unwrap());
    [u64::from(at) * 4096, (u64::from(at) + 512) * 4096]
}

#[test]
fn an_f2fs_with_damaged_checkpoints_keeps_every_block() {
    let dir = TempDir::new().unwrap();
    let image = make(&dir, 64 * MIB, &[]);
    for at in checkpoints(&image) {
        // The count of valid blocks, whose change its checksum shows.
        scribble(&image, at + 16, &[0xee]);
    }
    assert_eq!(
        reason(&survey_file(&image, 512)),
        "it has no good checkpoint"
    );
}

#[test]
fn an_f2fs_whose_table_does_not_add_up_keeps_every_block() {
    let dir = TempDir::new().unwrap();
    let image = make(&dir, 128 * MIB, &[]);
    fill(&dir, &image);
    let bytes = fs::read(&image).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[1024 + at..][..4].try_into().unwrap());
    let (table, main) = (u64::from(word(80)) * 4096, u64::from(word(92)) * 4096);
    // Both copies of all entries lose a bit of their maps.
    for at in (table..main.min(table + 4 * MIB)).step_by(4096) {
        let place = usize::try_from(at).unwrap() + 2;
        scribble(&image, at + 2, &[bytes[place] ^ 0x80]);
    }
    let survey = survey_file(&image, 512);
    assert!(
        reason(&survey).contains("blocks in use"),
        "{}",
        reason(&survey)
    );
    restored(&image, &survey);
}

#[test]
fn two_superblocks_that_differ_keep_every_block() {
    let dir = TempDir::new().unwrap();
    let image = make(&dir, 64 * MIB, &[]);
    scribble(&image, 1024 + 40, &[0xff]);
    assert_eq!(
        reason(&survey_file(&image, 512)),
        "its two superblocks differ"
    );
}
