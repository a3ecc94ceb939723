//! Copies with identifiers of their own: tables made and judged by other people's tools, references in real filesystems.

mod image_common;
mod used_common;

use image_common::{Bench, plain, source};
use pitstop_imaging::event::{Event, Level, Reporter};
use pitstop_imaging::image::{CaptureOptions, RestoreOptions, restore};
use pitstop_imaging::references;
use pitstop_imaging::table::{NewId, Partition, PartitionKind};
use proptest::prelude::*;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use used_common::{MIB, run};

const DISK: u64 = 96 * MIB;
const ESP: (u64, u64) = (MIB, 40 * MIB);
const ROOT: (u64, u64) = (41 * MIB, 60 * MIB);
const OLD_ROOT: &str = "11111111-2222-4333-8444-555555555555";
const OLD_DISK: &str = "99999999-2222-4333-8444-555555555555";

/// What is told, each with its level.
#[derive(Default)]
struct Told(Mutex<Vec<(Level, String)>>);

impl Told {
    fn lines(&self, level: Level) -> Vec<String> {
        let told = self.0.lock().unwrap();
        let of_level = told.iter().filter(|(found, _)| *found == level);
        of_level.map(|(_, text)| text.clone()).collect()
    }
}

impl Reporter for Told {
    fn event(&self, event: &Event) {
        if let Event::Message { level, text } = event {
            self.0.lock().unwrap().push((*level, text.clone()));
        }
    }
}

fn blank(bench: &Bench, name: &str, size: u64) -> PathBuf {
    let path = bench.write(name, &[]);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(size).unwrap();
    path
}

fn put(disk: &Path, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(disk).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

/// An ext4 whose fstab, and a FAT whose loader entry and BCD, name the partitions by the table's identifiers.
fn fill(bench: &Bench, disk: &Path, root: &str, bcd: &[u8]) {
    let tree = bench.path("tree");
    fs::create_dir_all(tree.join("etc")).unwrap();
    let fstab = format!("PARTUUID={} / ext4 defaults 0 1\n", root.to_uppercase());
    fs::write(tree.join("etc/fstab"), fstab).unwrap();
    let part = blank(bench, "root", ROOT.1 - ROOT.0);
    run(
        "mkfs.ext4",
        &[
            "-q",
            "-U",
            "12345678-1234-4234-8234-123456789abc",
            "-d",
            tree.to_str().unwrap(),
            part.to_str().unwrap(),
        ],
    );
    put(disk, ROOT.0, &fs::read(&part).unwrap());
    let part = blank(bench, "esp", ESP.1 - ESP.0);
    let esp = part.to_str().unwrap();
    run("mkfs.vfat", &["-F", "32", esp]);
    let entry = bench.write(
        "debian.conf",
        format!("options root=PARTUUID={root} ro\n").as_bytes(),
    );
    let bcd = bench.write("BCD", bcd);
    for folder in [
        "::/loader",
        "::/loader/entries",
        "::/EFI",
        "::/EFI/Microsoft",
        "::/EFI/Microsoft/Boot",
    ] {
        run("mmd", &["-i", esp, folder]);
    }
    run(
        "mcopy",
        &["-i", esp, entry.to_str().unwrap(), "::/loader/entries/"],
    );
    run(
        "mcopy",
        &["-i", esp, bcd.to_str().unwrap(), "::/EFI/Microsoft/Boot/"],
    );
    put(disk, ESP.0, &fs::read(&part).unwrap());
}

fn renewed(bench: &Bench, disk: &Path, size: u64) -> (PathBuf, Told) {
    let (image, _) = bench.capture(disk, &CaptureOptions::default());
    let target = blank(bench, "target", size);
    let options = RestoreOptions {
        new_ids: true,
        ..plain()
    };
    let told = Told::default();
    restore(&source(&image), &target, &options, &told).unwrap();
    (target, told)
}

fn sgdisk_guids(disk: &Path) -> Vec<String> {
    let disk = disk.to_str().unwrap();
    let mut texts = vec![run("sgdisk", &["-p", disk])];
    for number in ["1", "2"] {
        texts.push(run("sgdisk", &["-i", number, disk]));
    }
    let marks = [
        "Disk identifier (GUID): ",
        "Partition unique GUID: ",
        "Partition unique GUID: ",
    ];
    let found = texts.iter().zip(marks).map(|(text, mark)| {
        let line = text.lines().find_map(|line| line.strip_prefix(mark));
        line.unwrap_or_else(|| panic!("{text}")).to_lowercase()
    });
    found.collect()
}

#[test]
fn a_gpt_gets_new_guids_that_tools_accept_and_old_references_are_told() {
    for size in [DISK, DISK + 20 * MIB] {
        let bench = Bench::new();
        let disk = blank(&bench, "disk", DISK);
        let esp = format!("1:{}:{}", ESP.0 / 512, ESP.1 / 512 - 1);
        let root = format!("2:{}:{}", ROOT.0 / 512, ROOT.1 / 512 - 1);
        run(
            "sgdisk",
            &[
                "-U",
                OLD_DISK,
                "-n",
                &esp,
                "-t",
                "1:ef00",
                "-n",
                &root,
                "-u",
                &format!("2:{OLD_ROOT}"),
                "-c",
                "2:root",
                disk.to_str().unwrap(),
            ],
        );
        // The disk's GUID as the table has it.
        let mut guid = vec![0; 16];
        let file = fs::File::open(&disk).unwrap();
        file.read_exact_at(&mut guid, 512 + 56).unwrap();
        fill(
            &bench,
            &disk,
            OLD_ROOT,
            &[b"regf".as_slice(), &guid].concat(),
        );
        let before = sgdisk_guids(&disk);
        let (target, told) = renewed(&bench, &disk, size);

        let path = target.to_str().unwrap();
        let text = run("sgdisk", &["-v", path]);
        assert!(text.contains("No problems found"), "{text}");
        let text = run("sfdisk", &["--verify", path]);
        assert!(text.contains("No errors detected"), "{text}");
        let after = sgdisk_guids(&target);
        let mut all: Vec<_> = before.iter().chain(&after).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6, "{before:?} {after:?}");
        let text = run("sgdisk", &["-i", "2", path]);
        assert!(text.contains("Partition name: 'root'"), "{text}");

        let lines = told.lines(Level::Info);
        for (of, (from, to)) in ["the disk", "partition 1", "partition 2"]
            .into_iter()
            .zip(before.iter().zip(&after))
        {
            let line = format!("{path}: the identifier of {of} was {from}, is {to}");
            assert!(lines.contains(&line), "{line}: {lines:?}");
        }
        assert_eq!(
            told.lines(Level::Warning),
            [
                format!(
                    "{path}: /EFI/Microsoft/Boot/BCD on partition 1 still names the old identifier of the disk, {OLD_DISK}; it is not changed"
                ),
                format!(
                    "{path}: /loader/entries/debian.conf on partition 1 still names the old identifier of partition 2, {OLD_ROOT}; it is not changed"
                ),
                format!(
                    "{path}: /etc/fstab on partition 2 still names the old identifier of partition 2, {OLD_ROOT}; it is not changed"
                ),
            ]
        );
        // The filesystem's own stays.
        let start = ROOT.0.to_string();
        let text = run(
            "blkid",
            &["-p", "-O", &start, "-o", "value", "-s", "UUID", path],
        );
        assert_eq!(text.trim(), "12345678-1234-4234-8234-123456789abc");
    }
}

#[test]
fn an_mbr_gets_a_new_signature_and_its_partitions_with_it() {
    let bench = Bench::new();
    let disk = blank(&bench, "disk", DISK);
    let path = disk.to_str().unwrap();
    run(
        "parted",
        &[
            "-s", path, "mklabel", "msdos", "mkpart", "primary", "1MiB", "40MiB", "mkpart",
            "primary", "41MiB", "60MiB", "mkpart", "extended", "61MiB", "95MiB", "mkpart",
            "logical", "62MiB", "70MiB",
        ],
    );
    put(&disk, 440, &0x1234_abcd_u32.to_le_bytes());
    fill(&bench, &disk, "1234abcd-02", b"regf");
    let (target, told) = renewed(&bench, &disk, DISK);
    let path = target.to_str().unwrap();
    let id = |disk: &Path| {
        let text = run("sfdisk", &["--disk-id", disk.to_str().unwrap()]);
        text.trim().to_owned()
    };
    assert_eq!(id(&disk), "0x1234abcd");
    let new = id(&target);
    assert!(
        new != "0x1234abcd" && new != "0x00000000" && new.len() == 10,
        "{new}"
    );
    let text = run("sfdisk", &["--verify", path]);
    assert!(text.contains("No errors detected"), "{text}");
    assert!(told.lines(Level::Info).contains(&format!(
        "{path}: the identifier of the disk was 0x1234abcd, is {new}"
    )));
    let warnings = told.lines(Level::Warning);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("/loader/entries/debian.conf on partition 1"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].contains("/etc/fstab on partition 2"),
        "{warnings:?}"
    );
    // Nothing but the signature changed.
    let (mut before, mut after) = (fs::read(&disk).unwrap(), fs::read(&target).unwrap());
    before.truncate(512);
    after.truncate(512);
    after[440..444].copy_from_slice(&before[440..444]);
    assert_eq!(before, after);
}

#[test]
fn a_disk_without_a_table_has_no_identifiers() {
    let bench = Bench::new();
    let disk = blank(&bench, "disk", DISK);
    run("mkfs.ext4", &["-q", disk.to_str().unwrap()]);
    let (target, told) = renewed(&bench, &disk, DISK);
    let line = format!(
        "{}: no partition table, so there are no identifiers to renew",
        target.display()
    );
    let lines = told.lines(Level::Info);
    assert!(lines.contains(&line), "{lines:?}");
}

#[test]
fn damaged_filesystems_are_survived() {
    let bench = Bench::new();
    let disk = blank(&bench, "disk", DISK);
    fill(&bench, &disk, OLD_ROOT, b"regf");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&disk)
        .unwrap();
    let partition = |number, (start, end): (u64, u64)| Partition {
        number,
        start,
        size: end - start,
        kind: PartitionKind::Code(0x83),
        name: String::new(),
        id: String::new(),
        attributes: 0,
    };
    let partitions = [partition(1, ESP), partition(2, ROOT)];
    let ids = [NewId {
        of: "partition 2".into(),
        from: OLD_ROOT.into(),
        to: String::new(),
        from_bytes: vec![1; 16],
    }];
    let find = || references::find(&file, &partitions, &ids).unwrap();
    assert_eq!(find().references.len(), 2);
    // The FAT's boot sector, tables and root; the ext4's superblock, groups and first inodes.
    let place = prop_oneof![0u64..512, 512u64..200_000, 0u64..1_500_000];
    let damage = prop::collection::vec((any::<bool>(), place, any::<[u8; 4]>()), 1..6);
    proptest!(ProptestConfig::with_cases(200), |(damage in damage)| {
        let mut before = Vec::new();
        for (root, at, bytes) in damage {
            let at = at + if root { ROOT.0 } else { ESP.0 };
            let mut old = [0; 4];
            file.read_exact_at(&mut old, at).unwrap();
            before.push((at, old));
            file.write_all_at(&bytes, at).unwrap();
        }
        prop_assert!(find().references.len() <= 2);
        for (at, old) in before.into_iter().rev() {
            file.write_all_at(&old, at).unwrap();
        }
    });
    assert_eq!(find().references.len(), 2);
}
