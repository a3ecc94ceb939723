//! Filesystems that their programs do not let grow.

use super::{disk, full, ok_or_untouched, refused};
use crate::image_common::image_of;
use crate::used_common::{MIB, run, scribble, sparse};
use pitstop_imaging::image::{CaptureOptions, RestoreOptions};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const SIZE: u64 = 64 * MIB;
const START: u64 = MIB;
const ROOM: u64 = 60 * MIB;

fn wanted() -> RestoreOptions {
    RestoreOptions {
        grow: true,
        ..RestoreOptions::default()
    }
}

/// An image of a disk with one partition of what `make` left in a file.
fn image(dir: &TempDir, make: impl Fn(&Path)) -> PathBuf {
    let volume = sparse(dir, "made", ROOM);
    make(&volume);
    let script = format!("label: gpt\nstart={},size={}\n", START / 512, ROOM / 512);
    let from = disk(dir, "from", SIZE, &script);
    scribble(&from, START, &fs::read(&volume).unwrap());
    image_of(dir.path(), &from, 512, &CaptureOptions::default())
}

fn ext(path: &Path, options: &[&str], commands: &[&str]) {
    let name = path.to_str().unwrap();
    let all = ["-q", "-F", "-t", "ext4"].iter().chain(options);
    let all: Vec<&str> = all.copied().chain([name]).collect();
    run("mke2fs", &all);
    for command in commands {
        run("debugfs", &["-w", "-R", command, name]);
    }
}

#[test]
fn ext_that_its_programs_refuse_is_refused_before_the_first_write() {
    let cases: [(&[&str], &[&str], &str); 7] = [
        (&["-O", "bigalloc", "-C", "65536"], &[], "bigalloc"),
        (&[], &["ssv state 2"], "errors on record"),
        (&[], &["ssv state 3"], "errors on record"),
        (
            &["-O", "^has_journal"],
            &["ssv state 0"],
            "not unmounted cleanly",
        ),
        (
            &["-O", "^metadata_csum"],
            &["ssv feature_incompat 0x4000042"],
            "incompat features",
        ),
        (
            &["-O", "^metadata_csum"],
            &["feature read-only"],
            "ro_compat features 0x1000",
        ),
        (
            &["-O", "^metadata_csum"],
            &["ssv journal_inum 0", "ssv journal_dev 0x801"],
            "another device",
        ),
    ];
    for (options, commands, why) in cases {
        let dir = TempDir::new().unwrap();
        let image = image(&dir, |path| ext(path, options, commands));
        let target = full(&dir, "target", 2 * SIZE);
        let error = refused(&image, &target, &wanted());
        assert!(error.contains(why), "{options:?} {commands:?}: {error}");
        assert!(error.contains("restore without grow"), "{error}");
        // Without it all is well.
        let plain = RestoreOptions::default();
        ok_or_untouched(&image, &target, &target, &plain).unwrap();
    }
}

#[test]
fn ext_that_a_machine_has_mounted_is_refused() {
    let dir = TempDir::new().unwrap();
    let image = |mark: Option<u32>| {
        image(&dir, |path| {
            ext(path, &["-O", "mmp", "-b", "4096"], &[]);
            let text = run("debugfs", &["-R", "dump_mmp", path.to_str().unwrap()]);
            let number = text
                .lines()
                .find_map(|line| line.strip_prefix("block_number: "));
            let at = number.unwrap().trim().parse::<u64>().unwrap() * 4096 + 4;
            if let Some(mark) = mark {
                scribble(path, at, &mark.to_le_bytes());
            }
        })
    };
    let target = full(&dir, "target", 2 * SIZE);
    let error = refused(&image(Some(7)), &target, &wanted());
    assert!(error.contains("mounted by some machine"), "{error}");
    ok_or_untouched(&image(None), &target, &target, &wanted()).unwrap();
}

#[test]
fn ext_that_was_in_use_when_it_was_captured_grows() {
    // Its journal is whole, but nobody said good-bye: e2fsck -p is content.
    let dir = TempDir::new().unwrap();
    let image = image(&dir, |path| ext(path, &[], &["ssv state 0"]));
    let target = full(&dir, "target", 2 * SIZE);
    ok_or_untouched(&image, &target, &target, &wanted()).unwrap();
    let text = run("sfdisk", &["-d", target.to_str().unwrap()]);
    assert!(!text.contains(&format!("size= {}", ROOM / 512)), "{text}");
}

#[test]
fn ntfs_that_windows_sleeps_on_or_with_bad_clusters_is_refused() {
    let dir = TempDir::new().unwrap();
    let asleep = image(&dir, |path| {
        let name = path.to_str().unwrap();
        run("mkfs.ntfs", &["-q", "-Q", "-F", name]);
        let mounted = crate::used_common::Mount::fuse("ntfs-3g", path, "rw");
        let mut memory = vec![0; 8192];
        memory[..4].copy_from_slice(b"hibr");
        fs::write(mounted.path().join("hiberfil.sys"), memory).unwrap();
    });
    let target = full(&dir, "target", 2 * SIZE);
    let error = refused(&asleep, &target, &wanted());
    assert!(error.contains("Windows hibernated on it"), "{error}");
    let dirty = image(&dir, |path| {
        let name = path.to_str().unwrap();
        run("mkfs.ntfs", &["-q", "-Q", "-F", name]);
        run("ntfsfix", &[name]);
    });
    ok_or_untouched(&dirty, &target, &target, &wanted()).unwrap();
}

#[test]
fn btrfs_of_several_devices_is_refused() {
    let dir = TempDir::new().unwrap();
    let one = sparse(&dir, "one", 120 * MIB);
    let two = sparse(&dir, "two", 120 * MIB);
    let names = [one.to_str().unwrap(), two.to_str().unwrap()];
    run(
        "mkfs.btrfs",
        &["-q", "-d", "single", "-m", "raid1", names[0], names[1]],
    );
    let script = format!("label: gpt\nstart=2048,size={}\n", 120 * MIB / 512);
    let from = disk(&dir, "from", 124 * MIB, &script);
    scribble(&from, MIB, &fs::read(&one).unwrap());
    let image = image_of(dir.path(), &from, 512, &CaptureOptions::default());
    let target = full(&dir, "target", 160 * MIB);
    let error = refused(&image, &target, &wanted());
    assert!(error.contains("it spans 2 devices"), "{error}");
}
