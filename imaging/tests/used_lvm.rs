//! LVM2 with linear volumes: the filesystems within are looked into.

mod used_common;

use pitstop_imaging::used::Survey;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use tempfile::TempDir;
use used_common::{
    Loop, MIB, Mount, assert_used, junk, mounted_tree, populate, reason, restored, run, scribble,
    sparse, survey_file,
};

/// A volume group on a loop device.
struct Group {
    name: String,
    device: Loop,
}

impl Group {
    fn config(&self) -> String {
        let device = self.device.device.display();
        format!(
            "devices {{ filter=[\"a|^{device}$|\", \"r|.*|\"] use_devicesfile=0 }} \
             activation {{ udev_sync=0 udev_rules=0 verify_udev_operations=1 }}"
        )
    }

    fn lvm(&self, command: &str, arguments: &[&str]) {
        let config = self.config();
        // Metadata alone: not every kernel has a device mapper.
        let mut all = vec![command, "--driverloaded", "n", "--config", &config];
        all.extend(arguments);
        run("lvm", &all);
    }

    /// Makes the group anew.
    fn create(image: &Path, name: &str) -> Self {
        let group = Self::attach(image, name);
        let device = group.device.device.to_str().unwrap().to_owned();
        group.lvm("pvcreate", &["-ff", "-y", &device]);
        group.lvm("vgcreate", &["-s", "1m", name, &device]);
        group
    }

    fn attach(image: &Path, name: &str) -> Self {
        Self {
            name: name.into(),
            device: Loop::new(image),
        }
    }

    fn add(&self, extents: &str, name: &str, more: &[&str]) {
        let mut arguments = vec!["-y", "-an", "-l", extents, "-n", name];
        arguments.extend(more);
        arguments.push(&self.name);
        self.lvm("lvcreate", &arguments);
    }
}

fn unique(name: &str) -> String {
    format!("pitstop{}{name}", std::process::id())
}

/// Copies `length` bytes between files, at their own places.
fn copy_piece(from: (&Path, u64), to: (&Path, u64), length: u64) {
    let source = File::open(from.0).unwrap();
    let target = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(to.0)
        .unwrap();
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    source.read_exact_at(&mut bytes, from.1).unwrap();
    target.write_all_at(&bytes, to.1).unwrap();
}

#[test]
fn linear_volumes_are_looked_into_through_their_segments() {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "image", 200 * MIB);
    let name = unique("linear");
    let group = Group::create(&image, &name);
    group.add("40", "root", &["-Zn", "-Wn"]);
    group.add("20", "pages", &["-Zn", "-Wn"]);
    // Grown behind its neighbour: two segments.
    group.lvm("lvextend", &["-l", "80", &format!("{name}/root")]);
    group.add("4", "raw", &["-Zn", "-Wn"]);
    drop(group);
    let root = junk(&dir, "root", 80 * MIB);
    run(
        "mke2fs",
        &["-q", "-F", "-t", "ext4", root.to_str().unwrap()],
    );
    let mount = Mount::new(&root, "rw");
    populate(mount.path(), 40);
    drop(mount);
    let pages = junk(&dir, "pages", 20 * MIB);
    run("mkswap", &[pages.to_str().unwrap()]);
    // Extents begin at the first MiB.
    copy_piece((&root, 0), (&image, MIB), 40 * MIB);
    copy_piece((&pages, 0), (&image, 41 * MIB), 20 * MIB);
    copy_piece((&root, 40 * MIB), (&image, 61 * MIB), 40 * MIB);
    let survey = survey_file(&image, 512);
    let [partition] = survey.partitions.as_slice() else {
        panic!("{survey:?}");
    };
    assert_eq!(partition.filesystem, "LVM2_member");
    assert_eq!(partition.label, name);
    assert_eq!(partition.kept, "used blocks");
    assert_eq!(
        partition.reason,
        "every block of raw is kept: nothing was recognised here"
    );
    assert!(survey.kept.total() < 60 * MIB, "{}", survey.kept.total());
    let copy = restored(&image, &survey);
    Group::attach(&copy, &name).lvm("vgck", &[&name]);
    let restored = dir.path().join("restored");
    copy_piece((&copy, MIB), (&restored, 0), 40 * MIB);
    copy_piece((&copy, 61 * MIB), (&restored, 40 * MIB), 40 * MIB);
    run("e2fsck", &["-fn", restored.to_str().unwrap()]);
    assert_eq!(mounted_tree(&root, "ro"), mounted_tree(&restored, "ro"));
}

#[test]
fn what_dm_verity_in_a_volume_hashes_is_kept_with_its_free_blocks() {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "image", 64 * MIB);
    let group = Group::create(&image, &unique("verity"));
    group.add("40", "root", &["-Zn", "-Wn"]);
    group.add("4", "hash", &["-Zn", "-Wn"]);
    drop(group);
    let root = junk(&dir, "root", 40 * MIB);
    run(
        "mke2fs",
        &["-q", "-F", "-t", "ext4", root.to_str().unwrap()],
    );
    copy_piece((&root, 0), (&image, MIB), 40 * MIB);
    let before = survey_file(&image, 512);
    assert!(!before.partitions[0].reason.contains("root"), "{before:?}");
    used_common::scribble(&image, 41 * MIB, b"verity\0\0");
    let survey = survey_file(&image, 512);
    assert!(survey.kept.gaps(MIB..45 * MIB).is_empty(), "{survey:?}");
    let why = "every block of root is kept: the hashes of dm-verity";
    assert!(survey.partitions[0].reason.contains(why), "{survey:?}");
}

#[test]
fn an_empty_group_keeps_its_metadata() {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "image", 64 * MIB);
    let name = unique("empty");
    drop(Group::create(&image, &name));
    let survey = survey_file(&image, 512);
    assert_used(&survey, "LVM2_member");
    let copy = restored(&image, &survey);
    let group = Group::attach(&copy, &name);
    group.lvm("vgck", &[&name]);
}

#[test]
fn volumes_that_are_not_linear_keep_every_block() {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "image", 64 * MIB);
    let name = unique("error");
    let group = Group::create(&image, &name);
    group.add("10", "base", &["-Zn", "-Wn"]);
    group.add("2", "gap", &["--type", "error"]);
    drop(group);
    assert_eq!(
        reason(&survey_file(&image, 512)),
        "logical volume gap is not linear"
    );
}

fn kept(survey: &Survey) -> Vec<String> {
    let partitions = survey.partitions.iter();
    partitions.map(|it| it.kept.clone()).collect()
}

/// What LVM leaves where it is stopped between two copies of its metadata, or cannot write one.
#[test]
fn copies_of_the_metadata_that_differ_in_age_are_no_map() {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "image", 64 * MIB);
    let name = unique("ages");
    let group = Group::attach(&image, &name);
    let device = group.device.device.to_str().unwrap().to_owned();
    let two = ["-ff", "-y", "--metadatacopies", "2", &device];
    group.lvm("pvcreate", &two);
    group.lvm("vgcreate", &["-s", "1m", &name, &device]);
    drop(group);
    let (older, newer) = (dir.path().join("older"), dir.path().join("newer"));
    fs::copy(&image, &older).unwrap();
    let group = Group::attach(&image, &name);
    group.add("10", "data", &["-Zn", "-Wn"]);
    drop(group);
    assert_eq!(kept(&survey_file(&image, 512)), ["used blocks"]);
    fs::copy(&image, &newer).unwrap();
    for (at, length) in [(0, MIB), (62 * MIB, 2 * MIB)] {
        copy_piece((&older, at), (&image, at), length);
        assert_eq!(
            reason(&survey_file(&image, 512)),
            "one of the two copies of its metadata is older than the other"
        );
        copy_piece((&newer, at), (&image, at), length);
    }
    assert_eq!(kept(&survey_file(&image, 512)), ["used blocks"]);
}

#[test]
fn a_group_of_several_physical_volumes_may_be_newer_on_another_one() {
    let dir = TempDir::new().unwrap();
    let (one, two) = (junk(&dir, "one", 32 * MIB), junk(&dir, "two", 32 * MIB));
    let name = unique("several");
    let group = Group::create(&one, &name);
    let other = Loop::new(&two);
    let both = format!(
        "devices {{ filter=[\"a|^{}$|\", \"a|^{}$|\", \"r|.*|\"] use_devicesfile=0 }} \
         activation {{ udev_sync=0 udev_rules=0 verify_udev_operations=1 }}",
        group.device.device.display(),
        other.device.display()
    );
    let lvm = |command: &str, arguments: &[&str]| {
        let mut all = vec![command, "--driverloaded", "n", "--config", &both];
        all.extend(arguments);
        run("lvm", &all);
    };
    let devices = [&group.device, &other].map(|it| it.device.to_str().unwrap().to_owned());
    lvm("pvcreate", &["-ff", "-y", &devices[1]]);
    lvm("vgextend", &[&name, &devices[1]]);
    let old = fs::read(&one).unwrap();
    let data = [
        "-y",
        "-an",
        "-Zn",
        "-Wn",
        "-l",
        "10",
        "-n",
        "data",
        &name,
        &devices[0],
    ];
    lvm("lvcreate", &data);
    drop((group, other));

    // Alone on a disk: what no volume has here, one may have by what the other says.
    let survey = survey_file(&one, 512);
    let why = &survey.partitions[0].reason;
    assert!(why.contains("extents of no volume are kept"), "{why}");
    assert_eq!(survey.kept.total(), 32 * MIB);

    // Both on one disk, the first of them not written at last.
    let disk = sparse(&dir, "disk", 70 * MIB);
    let table = "label: gpt\nsize=32MiB, type=lvm\nsize=32MiB, type=lvm\n";
    let script = dir.path().join("table");
    fs::write(&script, table).unwrap();
    let shell = format!("sfdisk -q {} <{}", disk.display(), script.display());
    run("sh", &["-c", &shell]);
    let put = |at: u64, bytes: &[u8]| scribble(&disk, at, bytes);
    put(MIB, &fs::read(&one).unwrap());
    put(33 * MIB, &fs::read(&two).unwrap());
    assert_eq!(kept(&survey_file(&disk, 512)), ["used blocks"; 2]);
    put(MIB, &old);
    let survey = survey_file(&disk, 512);
    assert_eq!(kept(&survey), ["every block"; 2]);
    let why = &survey.partitions[0].reason;
    assert!(why.contains("older or newer on another partition"), "{why}");
}
