//! Partition tables as sfdisk, sgdisk and parted write them.

mod used_common;

use pitstop_imaging::used::Survey;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;
use used_common::{Loop, MIB, junk, restored, restored_at, run, scribble, sparse, survey_file};

const SIZE: u64 = 128 * MIB;

fn sfdisk(image: &Path, script: &str, more: &[&str]) {
    let mut child = Command::new("/usr/sbin/sfdisk")
        .args(["--quiet", "--no-reread", "--no-tell-kernel"])
        .args(more)
        .arg(image)
        .stdin(Stdio::piped())
        .spawn()
        .expect("sfdisk cannot be run: install fdisk");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success(), "sfdisk failed");
}

fn disk(dir: &TempDir, script: &str) -> PathBuf {
    let image = junk(dir, "disk", SIZE);
    sfdisk(&image, script, &[]);
    image
}

/// Number, start and size in MiB of each partition.
fn places(survey: &Survey) -> Vec<(u32, u64, u64)> {
    survey
        .partitions
        .iter()
        .map(|p| (p.number, p.start / MIB, p.size / MIB))
        .collect()
}

fn assert_whole(survey: &Survey, why: &str) {
    assert_eq!(
        survey.table.note,
        format!("every block of the disk is kept: {why}")
    );
    assert_eq!(survey.kept.total(), survey.kept.end());
}

const GPT: &str = "label: gpt\nlabel-id: 01234567-89AB-CDEF-0123-456789ABCDEF\n\
                   start=1MiB, size=20MiB, type=U, name=\"EFI\"\n\
                   start=40MiB, size=30MiB, type=S\n\
                   start=90MiB, size=10MiB, type=L\n";

#[test]
fn a_gpt_has_its_partitions_and_the_space_between_is_dropped() {
    let dir = TempDir::new().unwrap();
    let image = disk(&dir, GPT);
    let survey = survey_file(&image, 512);
    assert_eq!(survey.table.kind, "gpt");
    assert_eq!(survey.table.id, "01234567-89ab-cdef-0123-456789abcdef");
    assert_eq!(survey.table.note, "");
    assert_eq!(places(&survey), [(1, 1, 20), (2, 40, 30), (3, 90, 10)]);
    assert_eq!(
        survey.partitions[0].kind,
        "C12A7328-F81F-11D2-BA4B-00A0C93EC93B EFI system"
    );
    assert_eq!(survey.partitions[0].name, "EFI");
    assert_eq!(survey.partitions[1].reason, "nothing was recognised here");
    // One MiB at each end, and the partitions.
    assert_eq!(survey.kept.total(), 62 * MIB);
    let copy = restored(&image, &survey);
    let text = run("sgdisk", &["-v", copy.to_str().unwrap()]);
    assert!(text.contains("No problems found"), "{text}");
}

#[test]
fn a_filesystem_in_a_partition_is_looked_into() {
    let dir = TempDir::new().unwrap();
    let image = disk(&dir, GPT);
    run(
        "mkfs.fat",
        &[
            "-F",
            "16",
            "-n",
            "ESP",
            "--offset",
            "2048",
            image.to_str().unwrap(),
            "20480",
        ],
    );
    let survey = survey_file(&image, 512);
    let esp = &survey.partitions[0];
    assert_eq!(
        (esp.filesystem.as_str(), esp.kept.as_str()),
        ("vfat", "used blocks")
    );
    assert_eq!(esp.label, "ESP");
    assert!(esp.used < MIB);
    assert!(survey.kept.total() < 43 * MIB);
}

#[test]
fn logical_partitions_are_found_and_their_records_kept() {
    let dir = TempDir::new().unwrap();
    let image = disk(
        &dir,
        "label: dos\nlabel-id: 0xcafe0001\nstart=1MiB, size=10MiB, type=83\n\
         start=20MiB, size=80MiB, type=5\nstart=21MiB, size=5MiB, type=82\n\
         start=40MiB, size=5MiB, type=7\nstart=60MiB, size=5MiB, type=c\n",
    );
    let survey = survey_file(&image, 512);
    assert_eq!(
        (survey.table.kind.as_str(), survey.table.id.as_str()),
        ("mbr", "0xcafe0001")
    );
    assert_eq!(
        places(&survey),
        [(1, 1, 10), (5, 21, 5), (6, 40, 5), (7, 60, 5)]
    );
    assert_eq!(survey.partitions[1].kind, "0x82 Linux swap");
    assert_eq!(survey.partitions[1].id, "cafe0001-05");
    let copy = restored(&image, &survey);
    let dump = |image: &Path| {
        run("sfdisk", &["-d", image.to_str().unwrap()]).replace(image.to_str().unwrap(), "disk")
    };
    assert_eq!(dump(&copy), dump(&image));
    assert_eq!(places(&survey_file(&copy, 512)), places(&survey));
}

#[test]
fn one_damaged_copy_of_a_gpt_is_noted_and_two_keep_the_disk() {
    let dir = TempDir::new().unwrap();
    let image = disk(&dir, GPT);
    let whole = survey_file(&image, 512);
    scribble(&image, SIZE - 512 + 40, &[0xff; 8]);
    let survey = survey_file(&image, 512);
    assert!(
        survey.table.note.starts_with("the backup GPT is damaged"),
        "{survey:?}"
    );
    assert_eq!(survey.partitions, whole.partitions);
    let image = disk(&dir, GPT);
    let whole = survey_file(&image, 512);
    scribble(&image, 1024 + 40, &[0xff; 4]);
    let survey = survey_file(&image, 512);
    assert_eq!(
        survey.table.note,
        "the primary GPT is damaged (partition table CRC mismatch)"
    );
    assert_eq!(survey.partitions, whole.partitions);
    scribble(&image, SIZE - 512, &[0; 8]);
    assert_whole(
        &survey_file(&image, 512),
        "both copies of the GPT are damaged (partition table CRC mismatch)",
    );
}

#[test]
fn a_gpt_for_other_sectors_keeps_the_disk() {
    let dir = TempDir::new().unwrap();
    let image = disk(&dir, GPT);
    assert_whole(
        &survey_file(&image, 4096),
        "its GPT was written for sectors of 512 bytes, this disk's have 4096",
    );
}

#[test]
fn tables_on_4096_byte_sectors_are_read() {
    let dir = TempDir::new().unwrap();
    let image = sparse(&dir, "disk", SIZE);
    let device = Loop::with_sectors(&image, 4096);
    let path = device.device.to_str().unwrap().to_owned();
    sfdisk(&device.device, GPT, &[]);
    let survey = survey_file(&image, 4096);
    assert_eq!(survey.table.kind, "gpt");
    assert_eq!(places(&survey), [(1, 1, 20), (2, 40, 30), (3, 90, 10)]);
    let copy = restored_at(&image, &survey, 4096);
    assert_eq!(places(&survey_file(&copy, 4096)), places(&survey));
    run("sgdisk", &["--zap-all", &path]);
    sfdisk(
        &device.device,
        "label: dos\nstart=1MiB, size=10MiB\nstart=20MiB, size=80MiB, type=5\nstart=21MiB, size=5MiB\n\
         start=30MiB, size=5MiB\n",
        &[],
    );
    assert_eq!(
        places(&survey_file(&image, 4096)),
        [(1, 1, 10), (5, 21, 5), (6, 30, 5)]
    );
}

#[test]
fn sgdisk_and_parted_tables_with_odd_entry_counts_are_read() {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "disk", SIZE);
    let path = image.to_str().unwrap();
    run(
        "sgdisk",
        &[
            "--clear",
            "-S",
            "300",
            "-n",
            "7:2M:+8M",
            "-n",
            "290:20M:+4M",
            path,
        ],
    );
    assert_eq!(places(&survey_file(&image, 512)), [(7, 2, 8), (290, 20, 4)]);
    let image = junk(&dir, "parted", SIZE);
    let path = image.to_str().unwrap();
    run(
        "parted",
        &[
            "-s", path, "mklabel", "gpt", "mkpart", "data", "ext4", "4MiB", "12MiB",
        ],
    );
    let survey = survey_file(&image, 512);
    assert_eq!(places(&survey), [(1, 4, 8)]);
    assert_eq!(survey.partitions[0].name, "data");
}

#[test]
fn a_hybrid_mbr_keeps_what_only_it_has() {
    let dir = TempDir::new().unwrap();
    let image = disk(&dir, GPT);
    let path = image.to_str().unwrap();
    run("sgdisk", &["-h", "1:2", path]);
    let survey = survey_file(&image, 512);
    assert_eq!(survey.table.kind, "gpt");
    assert_eq!(survey.kept.total(), 62 * MIB);
    // Entry 2 of the MBR now names 8 MiB that are no partition of the GPT.
    let place: Vec<u8> = [(110u32 * 2048).to_le_bytes(), (8u32 * 2048).to_le_bytes()].concat();
    scribble(&image, 446 + 16 + 8, &place);
    let survey = survey_file(&image, 512);
    assert!(
        survey.table.note.contains("hybrid MBR"),
        "{}",
        survey.table.note
    );
    assert_eq!(survey.kept.total(), 70 * MIB);
}

#[test]
fn a_disk_that_grew_has_its_backup_where_it_was() {
    let dir = TempDir::new().unwrap();
    let image = disk(&dir, GPT);
    let file = fs::OpenOptions::new().write(true).open(&image).unwrap();
    file.set_len(2 * SIZE).unwrap();
    let survey = survey_file(&image, 512);
    assert_eq!(
        survey.table.note,
        "the backup GPT is not at the end of the disk"
    );
    assert_eq!(places(&survey).len(), 3);
    assert!(survey.kept.touches(SIZE - 512..SIZE));
}

#[test]
fn tables_that_contradict_themselves_keep_the_disk() {
    let dir = TempDir::new().unwrap();
    // The disk shrank: a partition is behind its end.
    let image = disk(&dir, "label: dos\nstart=1MiB, size=100MiB\n");
    let file = fs::OpenOptions::new().write(true).open(&image).unwrap();
    file.set_len(SIZE / 2).unwrap();
    assert_whole(
        &survey_file(&image, 512),
        "partition 1 ends at byte 105906176, behind the end of the disk at 67108864",
    );
    let image = disk(
        &dir,
        "label: dos\nstart=1MiB, size=10MiB\nstart=20MiB, size=10MiB\n",
    );
    scribble(&image, 446 + 16 + 8, &(5u32 * 2048).to_le_bytes());
    assert_whole(
        &survey_file(&image, 512),
        "the MBR's partitions overlap each other or the MBR itself",
    );
    // A chain of logical partitions that comes back to its start.
    let image = disk(
        &dir,
        "label: dos\nstart=20MiB, size=80MiB, type=5\nstart=21MiB, size=5MiB\nstart=40MiB, size=5MiB\n",
    );
    let second = fs::read(&image).unwrap()[usize::try_from(20 * MIB).unwrap() + 446 + 16 + 8..]
        [..4]
        .to_vec();
    let second = u64::from(u32::from_le_bytes(second.try_into().unwrap())) * 512;
    let link = [0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0];
    scribble(&image, 20 * MIB + second + 446 + 16, &link);
    assert_whole(
        &survey_file(&image, 512),
        "the chain of logical partitions does not end",
    );
}

#[test]
fn a_filesystem_beside_a_table_keeps_the_disk() {
    let dir = TempDir::new().unwrap();
    let image = junk(&dir, "disk", SIZE);
    run(
        "mkfs.xfs",
        &[
            "-q",
            "-f",
            "-l",
            "size=64m",
            "-d",
            "size=320m,file",
            image.to_str().unwrap(),
        ],
    );
    let survey = survey_file(&image, 512);
    assert_eq!(survey.partitions[0].number, 0);
    assert_eq!(survey.partitions[0].filesystem, "xfs");
    run(
        "mke2fs",
        &["-q", "-F", "-t", "ext4", image.to_str().unwrap()],
    );
    // The boot block of ext4 has room for an MBR that somebody left there.
    let entry = [0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0];
    scribble(&image, 446, &entry);
    scribble(&image, 510, &[0x55, 0xaa]);
    assert_whole(
        &survey_file(&image, 512),
        "there are both an MBR and a whole-disk ext4",
    );
}

#[test]
fn what_is_opaque_or_unknown_keeps_every_block() {
    let dir = TempDir::new().unwrap();
    let image = disk(&dir, GPT);
    scribble(&image, MIB, b"LUKS\xba\xbe\x00\x02");
    scribble(&image, 40 * MIB + 4096, &0xa92b_4efcu32.to_le_bytes());
    let survey = survey_file(&image, 512);
    assert_eq!(survey.partitions[0].reason, "LUKS is kept as it is");
    assert_eq!(survey.partitions[1].reason, "md member is kept as it is");
    assert_eq!(survey.kept.total(), 62 * MIB);
    // An ext4 in an md array with its superblock at the end looks like an ext4.
    run(
        "mke2fs",
        &[
            "-q",
            "-F",
            "-t",
            "ext4",
            "-E",
            "offset=94371840",
            image.to_str().unwrap(),
            "10160k",
        ],
    );
    assert_eq!(survey_file(&image, 512).partitions[2].kept, "used blocks");
    scribble(&image, 100 * MIB - 0x1_0000, &0xa92b_4efcu32.to_le_bytes());
    assert_eq!(
        survey_file(&image, 512).partitions[2].reason,
        "it could be md member or ext4"
    );
}

#[test]
fn what_boot_loaders_keep_outside_filesystems_is_kept() {
    let dir = TempDir::new().unwrap();
    // GRUB embeds its core image between an MBR and the first partition, here 3 MiB away.
    let image = disk(&dir, "label: dos\nstart=3MiB, size=20MiB, type=83\n");
    let survey = survey_file(&image, 512);
    let copy = restored(&image, &survey);
    let (before, after) = (fs::read(&image).unwrap(), fs::read(&copy).unwrap());
    let mib = usize::try_from(MIB).unwrap();
    assert!(before[..3 * mib] == after[..3 * mib]);
    let last = before.len() - mib;
    assert!(before[last..] == after[last..] && before[last..].iter().any(|byte| *byte != 0));
    assert!(after[24 * mib..last].iter().all(|byte| *byte == 0));
    // With a GPT it is in a BIOS boot partition, which has no filesystem.
    let script = "label: gpt\nstart=1MiB, size=1MiB, type=21686148-6449-6E6F-744E-656564454649\n\
                  start=8MiB, size=8MiB, type=L\n";
    let image = disk(&dir, script);
    run(
        "mke2fs",
        &[
            "-q",
            "-F",
            "-E",
            "offset=8388608",
            image.to_str().unwrap(),
            "8m",
        ],
    );
    let survey = survey_file(&image, 512);
    assert_eq!(
        survey.partitions[0].kind,
        "21686148-6449-6E6F-744E-656564454649 BIOS boot"
    );
    assert_eq!(survey.partitions[0].kept, "every block");
    assert_eq!(survey.partitions[1].kept, "used blocks");
    let copy = restored(&image, &survey);
    let (before, after) = (fs::read(&image).unwrap(), fs::read(&copy).unwrap());
    assert!(before[..2 * mib] == after[..2 * mib]);
    assert!(after[2 * mib..8 * mib].iter().all(|byte| *byte == 0));
}
