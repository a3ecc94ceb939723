//! `new_ids` of tables with one good copy, and of those in doubt.

use super::{disk, full, ok_or_untouched, refused};
use crate::image_common::image_of;
use crate::used_common::{MIB, run, scribble};
use pitstop_imaging::image::{CaptureOptions, RestoreOptions};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const SIZE: u64 = 24 * MIB;
const GPT: &str = "label: gpt\nstart=2048,size=8192,name=one\nstart=12288,size=8192,name=two\n";

fn wanted() -> RestoreOptions {
    RestoreOptions {
        new_ids: true,
        ..RestoreOptions::default()
    }
}

fn ids(disk: &Path) -> Vec<String> {
    let text = run("sfdisk", &["-d", disk.to_str().unwrap()]);
    let found = text.lines().flat_map(|line| {
        let own = line.strip_prefix("label-id: ").map(str::to_owned);
        let part = line.split("uuid=").nth(1).map(|rest| rest[..36].to_owned());
        own.into_iter().chain(part)
    });
    found.collect()
}

/// The image as Pitstop's own, as it is, and packed by others: each says another amount beforehand.
fn images(dir: &TempDir, disk: &Path) -> [PathBuf; 3] {
    let own = image_of(dir.path(), disk, 512, &CaptureOptions::default());
    let packed = dir.path().join("packed.gz");
    let shell = format!("gzip -1 < {} > {}", disk.display(), packed.display());
    run("sh", &["-c", &shell]);
    [own, disk.to_owned(), packed]
}

#[test]
fn one_good_copy_of_a_gpt_is_renewed_and_mends_the_other() {
    let dir = TempDir::new().unwrap();
    let last = SIZE - 512;
    let damages: [(&str, &[(u64, usize)]); 4] = [
        ("primary gone", &[(512, 512)]),
        ("primary broken", &[(512 + 60, 4)]),
        ("backup gone", &[(last, 512)]),
        ("backup's entries broken", &[(last - 32 * 512, 600)]),
    ];
    for (name, places) in damages {
        let from = disk(&dir, "from", SIZE, GPT);
        let old = ids(&from);
        assert_eq!(old.len(), 3, "{old:?}");
        for (at, length) in places {
            let byte = if name.ends_with("gone") { 0 } else { 0x5a };
            scribble(&from, *at, &vec![byte; *length]);
        }
        for image in images(&dir, &from) {
            for size in [SIZE, SIZE + 8 * MIB] {
                let target = full(&dir, "target", size);
                let what = format!("{name}, {}, {size}", image.display());
                let done = ok_or_untouched(&image, &target, &target, &wanted());
                // Of what others packed only the beginning is known before.
                if name.starts_with("primary") && image.ends_with("packed.gz") {
                    let error = format!("{:#}", done.unwrap_err());
                    assert!(error.contains("convert it"), "{what}: {error}");
                    continue;
                }
                done.unwrap_or_else(|error| panic!("{what}: {error:#}"));
                let text = run("sgdisk", &["-v", target.to_str().unwrap()]);
                assert!(text.contains("No problems found"), "{what}: {text}");
                let new = ids(&target);
                assert_eq!(new.len(), 3, "{what}");
                assert!(new.iter().all(|id| !old.contains(id)), "{what}: {new:?}");
                let text = run("sgdisk", &["-i", "2", target.to_str().unwrap()]);
                assert!(text.contains("Partition name: 'two'"), "{what}: {text}");
            }
        }
    }
}

#[test]
fn what_lies_where_the_damaged_copy_would_be_stays() {
    let dir = TempDir::new().unwrap();
    let from = disk(&dir, "from", SIZE, GPT);
    let old = ids(&from);
    // No signature of a GPT: a boot loader, as far as anybody knows.
    scribble(&from, 512, &[0xeb; 512]);
    let target = full(&dir, "target", SIZE);
    let [own, ..] = images(&dir, &from);
    ok_or_untouched(&own, &target, &target, &wanted()).unwrap();
    assert_eq!(fs::read(&target).unwrap()[512..1024], [0xeb; 512]);
    let new = ids(&target);
    assert!(new.iter().all(|id| !old.contains(id)), "{new:?}");
}

#[test]
fn a_table_in_doubt_is_refused_before_the_first_write() {
    let dir = TempDir::new().unwrap();
    let beyond = disk(
        &dir,
        "beyond",
        64 * MIB,
        "label: dos\nstart=2048,size=8192\nstart=12288,size=90000\n",
    );
    let file = fs::OpenOptions::new().write(true).open(&beyond).unwrap();
    file.set_len(SIZE).unwrap();
    let differing = disk(&dir, "differing", SIZE, GPT);
    let other = disk(&dir, "other", SIZE, GPT);
    let end = fs::read(&other)
        .unwrap()
        .split_off(super::bytes(SIZE - MIB));
    scribble(&differing, SIZE - MIB, &end);
    let both = disk(&dir, "both", SIZE, GPT);
    for at in [512 + 60, SIZE - 512 + 60] {
        scribble(&both, at, &[0x5a; 4]);
    }
    for (from, why) in [
        (beyond, "behind the end of the disk"),
        (differing, "differ"),
        (both, "both copies of the GPT are damaged"),
    ] {
        for image in images(&dir, &from) {
            let target = full(&dir, "target", SIZE);
            let done = ok_or_untouched(&image, &target, &target, &wanted());
            match done {
                // Of what others packed the beginning counts: the primary copy, the signature.
                Ok(_) => assert!(image.ends_with("packed.gz"), "{}: {why}", image.display()),
                Err(error) => {
                    let error = format!("{error:#}");
                    let is_right = error.contains(why) || error.contains("convert it");
                    assert!(is_right, "{}: {error}", image.display());
                }
            }
        }
    }
}

#[test]
fn a_file_that_was_not_there_is_not_left_behind_by_a_refusal() {
    let dir = TempDir::new().unwrap();
    let from = disk(&dir, "from", SIZE, GPT);
    for at in [512 + 60, SIZE - 512 + 60] {
        scribble(&from, at, &[0x5a; 4]);
    }
    let [own, ..] = images(&dir, &from);
    let target = dir.path().join("new");
    let source = pitstop_imaging::image::FileSource::open(&own).unwrap();
    let silent = pitstop_imaging::event::Silent;
    pitstop_imaging::image::restore(&source, &target, &wanted(), &silent).unwrap_err();
    assert!(!target.exists());
}

#[test]
fn identifiers_of_a_part_are_refused_at_once() {
    let dir = TempDir::new().unwrap();
    let from = disk(&dir, "from", SIZE, GPT);
    let [own, ..] = images(&dir, &from);
    let target = full(&dir, "target", SIZE);
    let options = RestoreOptions {
        part: pitstop_imaging::image::Part::Only(vec!["1".parse().unwrap()]),
        ..wanted()
    };
    assert!(refused(&own, &target, &options).contains("for all partitions of a disk"));
}
