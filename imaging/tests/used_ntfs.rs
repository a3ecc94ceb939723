//! NTFS, written by ntfs-3g: what the survey drops, nothing misses.

mod used_common;

use std::fs;
use std::path::Path;
use tempfile::TempDir;
use used_common::{
    MIB, Mount, Tree, assert_used, content, junk, populate, reason, restored, run, scribble,
    survey_file, tree,
};

const SIZE: u64 = 128 * MIB;

fn make(dir: &TempDir, mkfs: &[&str]) -> std::path::PathBuf {
    let image = junk(dir, "image", SIZE);
    let mut arguments = vec!["-F", "-Q", "-q", "-L", "Windows"];
    arguments.extend(mkfs);
    arguments.push(image.to_str().unwrap());
    run("mkfs.ntfs", &arguments);
    image
}

fn files(image: &Path) -> Tree {
    tree(Mount::fuse("ntfs-3g", image, "ro").path())
}

fn round_trip(mkfs: &[&str]) {
    let dir = TempDir::new().unwrap();
    let image = make(&dir, mkfs);
    let mount = Mount::fuse("ntfs-3g", &image, "rw");
    populate(mount.path(), 80);
    drop(mount);
    let survey = survey_file(&image, 512);
    assert_used(&survey, "ntfs");
    assert_eq!(survey.partitions[0].label, "Windows");
    let text = run("ntfsinfo", &["-m", image.to_str().unwrap()]);
    let field = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.contains(name)).unwrap();
        let value = line.split(':').nth(1).unwrap();
        value.split_whitespace().next().unwrap().parse().unwrap()
    };
    let free = field("Free Clusters") * field("Cluster Size");
    let kept = survey.kept.total();
    assert!(
        kept >= SIZE - free && kept <= SIZE - free + 2 * MIB,
        "{kept} kept, {free} free"
    );
    let copy = restored(&image, &survey);
    // This compares the bitmap with every file's clusters.
    run(
        "ntfsresize",
        &[
            "--info",
            "--force",
            "--no-progress-bar",
            copy.to_str().unwrap(),
        ],
    );
    assert_eq!(files(&image), files(&copy));
}

#[test]
fn ntfs_survives_as_made_by_default() {
    round_trip(&[]);
}

#[test]
fn ntfs_with_clusters_of_other_sizes_survives() {
    round_trip(&["-c", "512"]);
    round_trip(&["-c", "65536"]);
}

/// So many names that the root folder's index leaves its record.
#[test]
fn ntfs_with_a_large_root_folder_survives_with_clusters_of_any_size() {
    for cluster in ["512", "4096", "8192", "16384", "65536"] {
        let dir = TempDir::new().unwrap();
        let image = make(&dir, &["-c", cluster]);
        let mount = Mount::fuse("ntfs-3g", &image, "rw");
        for number in 0..300 {
            let name = format!("some file with a long name {number}");
            fs::write(mount.path().join(name), number.to_string()).unwrap();
        }
        // Freed index records keep what they held.
        for number in 0..200 {
            let name = format!("some file with a long name {number}");
            fs::remove_file(mount.path().join(name)).unwrap();
        }
        fs::write(mount.path().join("hiberfil.sys"), vec![0; 8192]).unwrap();
        drop(mount);
        let survey = survey_file(&image, 512);
        assert_used(&survey, "ntfs");
        let copy = restored(&image, &survey);
        assert_eq!(files(&image), files(&copy), "{cluster}");
        let mount = Mount::fuse("ntfs-3g", &image, "rw");
        fs::write(mount.path().join("hiberfil.sys"), b"hibr and more").unwrap();
        drop(mount);
        assert_eq!(
            reason(&survey_file(&image, 512)),
            "Windows hibernated on it"
        );
    }
}

#[test]
fn ntfs_on_4096_byte_sectors_survives() {
    round_trip(&["-s", "4096"]);
}

#[test]
fn a_dirty_ntfs_keeps_every_block() {
    let dir = TempDir::new().unwrap();
    let image = make(&dir, &[]);
    assert_used(&survey_file(&image, 512), "ntfs");
    run("ntfsfix", &[image.to_str().unwrap()]);
    let survey = survey_file(&image, 512);
    assert_eq!(reason(&survey), "it is marked dirty");
    restored(&image, &survey);
}

#[test]
fn a_hibernated_windows_keeps_every_block() {
    let dir = TempDir::new().unwrap();
    let image = make(&dir, &[]);
    let mount = Mount::fuse("ntfs-3g", &image, "rw");
    fs::write(mount.path().join("hiberfil.sys"), vec![0; 8192]).unwrap();
    drop(mount);
    assert_used(&survey_file(&image, 512), "ntfs");
    let mount = Mount::fuse("ntfs-3g", &image, "rw");
    fs::write(
        mount.path().join("hiberfil.sys"),
        [b"HIBR".as_slice(), &[7; 8192]].concat(),
    )
    .unwrap();
    drop(mount);
    assert_eq!(
        reason(&survey_file(&image, 512)),
        "Windows hibernated on it"
    );
}

/// Hidden, and of the system, as Windows marks its own.
fn mark_as_the_systems(file: &Path) {
    let script =
        "import os, sys; os.setxattr(sys.argv[1], 'system.ntfs_attrib', bytes([6, 0, 0, 0]))";
    run("python3", &["-c", script, file.to_str().unwrap()]);
}

#[test]
fn what_page_files_hold_is_left_out() {
    let dir = TempDir::new().unwrap();
    let image = make(&dir, &[]);
    let mount = Mount::fuse("ntfs-3g", &image, "rw");
    let names = ["pagefile.sys", "swapfile.sys", "hiberfil.sys"];
    for (index, name) in names.into_iter().enumerate() {
        let mut bytes = content(index, 4 << 20);
        bytes[..4].copy_from_slice(b"wake");
        fs::write(mount.path().join(name), bytes).unwrap();
    }
    fs::write(mount.path().join("kept"), content(9, 1 << 20)).unwrap();
    let folder = mount.path().join("folder");
    fs::create_dir(&folder).unwrap();
    // Only in the root are they what they are called.
    fs::write(folder.join("pagefile.sys"), content(10, 1 << 20)).unwrap();
    drop(mount);
    // Not marked as the system's own: a file as any other.
    let all = survey_file(&image, 512);
    assert_used(&all, "ntfs");
    let mount = Mount::fuse("ntfs-3g", &image, "rw");
    for name in names {
        mark_as_the_systems(&mount.path().join(name));
    }
    mark_as_the_systems(&mount.path().join("folder/pagefile.sys"));
    drop(mount);
    let survey = survey_file(&image, 512);
    assert_used(&survey, "ntfs");
    let saved = all.kept.total() - survey.kept.total();
    assert_eq!(saved, (12 << 20) - (64 << 10));
    let copy = restored(&image, &survey);
    let (mut before, after) = (files(&image), files(&copy));
    for name in names {
        let path = Path::new(name);
        assert_ne!(before.remove(path), after.get(path).cloned());
        assert!(after.contains_key(path));
    }
    for (path, hash) in before {
        assert_eq!(after.get(&path), Some(&hash), "{}", path.display());
    }
    let mount = Mount::fuse("ntfs-3g", &copy, "ro");
    let woken = fs::read(mount.path().join("hiberfil.sys")).unwrap();
    assert!(woken.starts_with(b"wake") && woken.len() == 4 << 20);
    assert!(woken[64 << 10..].iter().all(|byte| *byte == 0));
}

#[test]
fn an_open_log_keeps_every_block() {
    let dir = TempDir::new().unwrap();
    let image = make(&dir, &[]);
    let text = run("ntfsinfo", &["-v", "-i", "2", image.to_str().unwrap()]);
    let runs = text.split("Runlist:").nth(1).unwrap();
    let lcn = runs.lines().nth(1).unwrap().split_whitespace().nth(1);
    let start = u64::from_str_radix(&lcn.unwrap()[2..], 16).unwrap();
    // Two restart pages as Windows leaves them while a volume is mounted: a client, no clean flag.
    for page in 0..2u64 {
        let mut restart = vec![0; 4096];
        restart[..4].copy_from_slice(b"RSTR");
        restart[24] = 0x30;
        restart[0x30] = u8::try_from(page).unwrap();
        scribble(&image, start * 4096 + page * 4096, &restart);
    }
    assert_eq!(
        reason(&survey_file(&image, 512)),
        "its log is not closed: it was not unmounted cleanly"
    );
}

/// Found by fuzzing: records of 128 KiB, and in the first of them an offset that the crate adds to before it
/// looks at it.
#[test]
fn a_record_that_trips_its_reader_keeps_every_block() {
    let dir = TempDir::new().unwrap();
    let image = make(&dir, &["-c", "4096"]);
    let boot = fs::read(&image).unwrap()[..512].to_vec();
    let mft = u64::from_le_bytes(boot[48..56].try_into().unwrap()) * 4096;
    scribble(&image, 64, &[32]);
    scribble(&image, mft + 4, &[0xfe, 0xff]);
    assert_eq!(reason(&survey_file(&image, 512)), "its metadata is damaged");
}
