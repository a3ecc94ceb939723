//! Volumes that two may own: nothing of either is lost, and whoever has to decide is told what to do. Healthy disks are
//! not mistaken for such.

mod image_common;
mod metadata_common;
mod part_common;
mod used_common;

use image_common::noise;
use metadata_common::{md_0_of, md_1, md_1_of};
use part_common::{disk, image_of, keep, only, refused, try_restore};
use pitstop_imaging::image::RestoreOptions;
use pitstop_imaging::used::Survey;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use used_common::{MIB, restored, run, scribble, sparse, survey_file};

const SIZE: u64 = 64 * MIB;

fn at(place: u64) -> usize {
    usize::try_from(place).unwrap()
}

/// Everything comes back, byte for byte.
fn assert_all_back(image: &Path) -> Survey {
    let survey = survey_file(image, 512);
    let copy = restored(image, &survey);
    assert!(fs::read(image).unwrap() == fs::read(copy).unwrap());
    survey
}

/// A filesystem of `size` bytes, made by its own tool.
fn made(dir: &TempDir, size: u64, tool: &str, arguments: &[&str]) -> Vec<u8> {
    let volume = sparse(dir, "volume", size);
    let mut arguments = arguments.to_vec();
    arguments.push(volume.to_str().unwrap());
    run(tool, &arguments);
    fs::read(volume).unwrap()
}

fn ext4(dir: &TempDir, size: u64) -> Vec<u8> {
    made(dir, size, "mke2fs", &["-q", "-F", "-t", "ext4"])
}

/// A disk with a GPT of one partition of this type, from 1 MiB on, with `content` in it.
fn one_partition(dir: &TempDir, kind: &str, content: &[u8]) -> PathBuf {
    let script = format!(
        "label: gpt\nstart=2048,size={},type={kind}\n",
        content.len() / 512
    );
    let disk = disk(dir, "disk", content.len() as u64 + 4 * MIB, &script, &[]);
    scribble(&disk, MIB, content);
    disk
}

#[test]
fn a_raid_member_over_an_old_gpt_keeps_its_data_and_its_superblock() {
    let dir = TempDir::new().unwrap();
    let image = disk(
        &dir,
        "disk",
        SIZE,
        "label: gpt\nstart=2048,size=16384\n",
        &[],
    );
    scribble(&image, 4096, &md_1(8));
    scribble(&image, MIB, &noise(at(60 * MIB), 3));
    let survey = assert_all_back(&image);
    assert_eq!(
        survey.table.note,
        "every block of the disk is kept: there are both a GPT and a whole-disk md member"
    );
    assert_eq!(
        survey.table.claims[0].clear,
        "wipefs --offset 0x1000 DEVICE"
    );
    // On a larger disk nothing of it is moved or mended.
    let packed = image_of(&dir, &image, 512);
    let target = sparse(&dir, "target", 2 * SIZE);
    try_restore(&packed, &target, &RestoreOptions::default()).unwrap();
    let mut expected = fs::read(&image).unwrap();
    expected.resize(at(2 * SIZE), 0);
    assert!(fs::read(&target).unwrap() == expected);
}

#[test]
fn nobody_moves_or_takes_apart_a_disk_that_a_raid_owns() {
    let dir = TempDir::new().unwrap();
    let raid = disk(&dir, "raid", SIZE, part_common::IMAGE, &[(1, 4)]);
    let plain = disk(&dir, "plain", SIZE, part_common::TARGET, &[(1, 60)]);
    let plain_image = image_of(&dir, &plain, 512);
    fs::rename(&plain_image, dir.path().join("plain.gz")).unwrap();
    let plain_image = dir.path().join("plain.gz");
    scribble(&raid, 4096, &md_1(8));
    let image = image_of(&dir, &raid, 512);
    let why = "there are both a GPT and a whole-disk md member (its signature is at 0x1000)";
    let new_ids = RestoreOptions {
        new_ids: true,
        ..RestoreOptions::default()
    };
    for options in [keep(&["home"]), only(&["1"]), new_ids] {
        let error = refused(&image, &plain, &options);
        assert!(error.contains(why), "{options:?}: {error}");
    }
    for options in [keep(&["1"]), only(&["1"])] {
        let error = refused(&plain_image, &raid, &options);
        assert!(error.contains(why), "{options:?}: {error}");
    }
    let larger = sparse(&dir, "larger", 2 * SIZE);
    let grow = RestoreOptions {
        grow: true,
        ..RestoreOptions::default()
    };
    let error = refused(&image, &larger, &grow);
    assert!(error.contains(why), "{error}");
}

#[test]
fn a_mirror_with_its_metadata_at_the_end_keeps_that_and_its_table_is_believed() {
    let dir = TempDir::new().unwrap();
    let near_end = (SIZE - 8192) & !4095;
    for (place, block, believed) in [
        (near_end, md_1_of(1, near_end / 512), true),
        (near_end, md_1_of(5, near_end / 512), false),
        (SIZE - 0x1_0000, md_0_of(1), true),
        (SIZE - 0x1_0000, md_0_of(0), false),
    ] {
        // The array's own disk is smaller than its members.
        let script = "label: gpt\nlast-lba: 120000\nstart=2048,size=40960\n";
        let image = disk(&dir, "disk", SIZE, script, &[]);
        scribble(&image, MIB, &ext4(&dir, 20 * MIB));
        scribble(&image, 30 * MIB, &noise(at(20 * MIB), 3));
        scribble(&image, place, &block);
        let survey = survey_file(&image, 512);
        if believed {
            assert_eq!(survey.partitions[0].kept, "used blocks", "{survey:?}");
            assert!(survey.table.note.contains("whole-disk md member too"));
            // All that is in no partition is the array's.
            assert!(survey.kept.gaps(21 * MIB..SIZE).is_empty());
            restored(&image, &survey);
        } else {
            assert_all_back(&image);
        }
        let packed = image_of(&dir, &image, 512);
        let larger = sparse(&dir, "larger", SIZE + 16 * MIB);
        try_restore(&packed, &larger, &RestoreOptions::default()).unwrap();
        let after = fs::read(&larger).unwrap();
        assert!(after[..at(SIZE)] == fs::read(&image).unwrap());
        assert!(after[at(SIZE)..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_raid_in_the_last_partition_is_that_ones_and_the_others_are_read() {
    let dir = TempDir::new().unwrap();
    let script = "label: dos\nstart=2048,size=40960\nstart=65536,size=65536,type=fd\n";
    let image = disk(&dir, "disk", SIZE, script, &[]);
    scribble(&image, MIB, &ext4(&dir, 20 * MIB));
    // Its array is as large as the partition, which ends with the disk.
    let mut block = md_0_of(5);
    block[32..36].copy_from_slice(&((32 << 10) - 64_u32).to_le_bytes());
    scribble(&image, SIZE - 0x1_0000, &block);
    let survey = survey_file(&image, 512);
    assert_eq!(survey.table.note, "");
    assert_eq!(survey.partitions[0].kept, "used blocks");
    assert_eq!(survey.partitions[1].reason, "md member is kept as it is");
    // The same by a type that is not for RAID: it may be the disk's.
    scribble(&image, 446 + 16 + 4, &[0x83]);
    let survey = assert_all_back(&image);
    assert!(survey.table.note.contains("whole-disk md member"));
}

#[test]
fn the_disk_of_a_virtual_machine_over_an_old_ext4_is_kept() {
    let dir = TempDir::new().unwrap();
    let vm = sparse(&dir, "vm", 48 * MIB);
    run("mke2fs", &["-q", "-F", "-t", "ext4", vm.to_str().unwrap()]);
    let shell = format!(
        "echo start=2048,size=80000,type=7 | sfdisk -q --wipe never --label dos {}",
        vm.display()
    );
    run("sh", &["-c", &shell]);
    scribble(&vm, 20 * MIB, &noise(at(20 * MIB), 3));
    let image = one_partition(&dir, "L", &fs::read(&vm).unwrap());
    let survey = assert_all_back(&image);
    let partition = &survey.partitions[0];
    assert_eq!(partition.reason, "it could be MBR or ext4");
    let clear: Vec<&str> = partition.claims.iter().map(|c| c.clear.as_str()).collect();
    let [table, old] = clear.as_slice() else {
        panic!("{clear:?}");
    };
    assert_eq!(*table, "wipefs --offset 0x1fe DEVICE");
    // What the report says does what it says.
    run("sh", &["-c", &old.replace("DEVICE", vm.to_str().unwrap())]);
    let image = one_partition(&dir, "L", &fs::read(&vm).unwrap());
    let survey = assert_all_back(&image);
    assert_eq!(survey.partitions[0].filesystem, "MBR");
}

#[test]
fn ufs_over_old_swap_is_kept() {
    let dir = TempDir::new().unwrap();
    let mut ufs = made(&dir, 40 * MIB, "mkswap", &["-q"]);
    ufs[65536..].copy_from_slice(&noise(at(40 * MIB) - 65536, 3));
    for kind in ["516E7CB6-6ECF-11D6-8FF8-00022D09712B", "L"] {
        ufs[65536 + 1372..][..4].copy_from_slice(b"\x19\x01\x54\x19");
        let image = one_partition(&dir, kind, &ufs);
        let survey = assert_all_back(&image);
        assert_eq!(survey.partitions[0].reason, "it could be ufs or swap");
    }
    // Its type alone is reason enough.
    ufs[65536 + 1372..][..4].fill(1);
    let image = one_partition(&dir, "516E7CB6-6ECF-11D6-8FF8-00022D09712B", &ufs);
    let survey = assert_all_back(&image);
    let reason = &survey.partitions[0].reason;
    assert!(
        reason.ends_with("is not swap's: one of the two is a leftover"),
        "{reason}"
    );
}

#[test]
fn bitlocker_to_go_is_kept() {
    let dir = TempDir::new().unwrap();
    let volume = dir.path().join("volume");
    fs::write(&volume, noise(at(40 * MIB), 3)).unwrap();
    run(
        "mkfs.vfat",
        &["-F", "32", "-s", "1", volume.to_str().unwrap()],
    );
    scribble(&volume, 3, b"MSWIN4.1");
    scribble(
        &volume,
        424,
        b"\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01",
    );
    let image = one_partition(
        &dir,
        "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7",
        &fs::read(&volume).unwrap(),
    );
    let survey = assert_all_back(&image);
    assert_eq!(survey.partitions[0].reason, "BitLocker is kept as it is");
}

#[test]
fn the_blocks_of_a_volume_manager_are_its_own() {
    let dir = TempDir::new().unwrap();
    let mut volume = ext4(&dir, 20 * MIB);
    volume[at(15 * MIB)..].fill(0x5a);
    for kind in [
        // Windows LDM's data, Storage Spaces, LVM, RAID, ZFS, ChromeOS's system, BIOS boot.
        "AF9B60A0-1431-4F62-BC68-3311714A69AD",
        "E75CAF8F-F680-4CEE-AFA3-B001E56EFC2D",
        "E6D6D379-F507-44C2-A23C-238F2A3DF928",
        "A19D880F-05FC-4D3B-A006-743F0F84911E",
        "6A898CC3-1DD2-11B2-99A6-080020736631",
        "3CB8E202-3B7E-47DD-8A3C-7FF2A13CFCEC",
        "21686148-6449-6E6F-744E-656564454649",
    ] {
        let survey = assert_all_back(&one_partition(&dir, kind, &volume));
        let partition = &survey.partitions[0];
        assert_eq!(partition.kept, "every block", "{kind}");
        assert_eq!(partition.claims.len(), 2, "{kind}");
        assert!(partition.reason.contains(kind), "{}", partition.reason);
    }
    for kind in ["42", "8e", "82", "a5", "fd", "bf"] {
        let script = format!("label: dos\nstart=2048,size=40960,type={kind}\n");
        let image = disk(&dir, "disk", 24 * MIB, &script, &[]);
        scribble(&image, MIB, &volume);
        let survey = assert_all_back(&image);
        assert_eq!(survey.partitions[0].kept, "every block", "{kind}");
    }
}

#[test]
fn a_filesystem_in_a_common_type_of_another_is_read() {
    let dir = TempDir::new().unwrap();
    let volume = ext4(&dir, 20 * MIB);
    for kind in ["7", "c", "83", "6", "1b"] {
        let script = format!("label: dos\nstart=2048,size=40960,type={kind}\n");
        let image = disk(&dir, "disk", 24 * MIB, &script, &[]);
        scribble(&image, MIB, &volume);
        assert_eq!(survey_file(&image, 512).partitions[0].kept, "used blocks");
    }
    let basic_data = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7";
    let image = one_partition(&dir, basic_data, &volume);
    assert_eq!(survey_file(&image, 512).partitions[0].kept, "used blocks");
}

#[test]
fn what_dm_verity_hashes_is_kept_with_its_free_blocks() {
    let dir = TempDir::new().unwrap();
    let mut data = ext4(&dir, 20 * MIB);
    data[at(15 * MIB)..at(16 * MIB)].fill(0x5a);
    // By a type, by a superblock in another partition, and by one right behind the filesystem.
    let verity = "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5";
    for (kind, superblock, place) in [
        (verity, false, 40 * MIB),
        ("L", true, 40 * MIB),
        ("L", true, 21 * MIB),
        // Not right behind it: at the next round number.
        ("L", true, 23 * MIB),
    ] {
        let script =
            format!("label: gpt\nstart=2048,size=49152\nstart=81920,size=8192,type={kind}\n");
        let image = disk(&dir, "disk", SIZE, &script, &[]);
        scribble(&image, MIB, &data);
        if superblock {
            scribble(&image, place, b"verity\0\0");
        }
        let survey = survey_file(&image, 512);
        let partition = &survey.partitions[0];
        assert_eq!(partition.kept, "every block", "{kind}");
        assert!(
            partition.reason.contains("dm-verity"),
            "{}",
            partition.reason
        );
        let copy = restored(&image, &survey);
        let range = at(MIB)..at(25 * MIB);
        assert!(fs::read(&image).unwrap()[range.clone()] == fs::read(copy).unwrap()[range]);
    }
}

#[test]
fn a_filesystem_that_goes_on_into_the_next_partition_claims_that_too() {
    let dir = TempDir::new().unwrap();
    let script =
        "label: gpt\nstart=2048,size=20480\nstart=30720,size=49152\nstart=81920,size=16384\n";
    let image = disk(&dir, "disk", SIZE, script, &[]);
    scribble(&image, 15 * MIB, &ext4(&dir, 24 * MIB));
    scribble(&image, 40 * MIB, &ext4(&dir, 8 * MIB));
    // Its superblock is of 30 MiB, its partition has ten.
    let large = ext4(&dir, 30 * MIB);
    scribble(&image, MIB, &large[..at(MIB)]);
    scribble(&image, 12 * MIB, &[7; 4096]);
    let survey = survey_file(&image, 512);
    let kept: Vec<&str> = survey.partitions.iter().map(|p| p.kept.as_str()).collect();
    assert_eq!(kept, ["every block", "every block", "used blocks"]);
    let reason = &survey.partitions[1].reason;
    assert_eq!(
        reason,
        "the filesystem of partition 1 says that it goes on into it"
    );
    // The gap between the two is its as well.
    assert!(survey.kept.gaps(MIB..31 * MIB).is_empty());
    restored(&image, &survey);
}

#[test]
fn an_old_boot_sector_in_a_reserved_partition_claims_nothing() {
    let dir = TempDir::new().unwrap();
    // Windows 10 over Windows 7: the reserved partition begins where C: did, and nobody formats it.
    let reserved = "E3C9E316-0B5C-4DB8-817D-F92DF00215AE";
    let script =
        format!("label: gpt\nstart=2048,size=32768,type={reserved}\nstart=34816,size=81920\n");
    let image = disk(&dir, "disk", SIZE, &script, &[]);
    let old = made(&dir, 50 * MIB, "mkfs.ntfs", &["-q", "-Q", "-F"]);
    scribble(&image, MIB, &old[..4096]);
    scribble(&image, 17 * MIB, &ext4(&dir, 40 * MIB));
    let survey = survey_file(&image, 512);
    let kept: Vec<&str> = survey.partitions.iter().map(|p| p.kept.as_str()).collect();
    assert_eq!(kept, ["every block", "used blocks"], "{survey:?}");
}

#[test]
fn what_a_larger_disk_had_at_its_own_end_says_nothing_of_the_image() {
    let dir = TempDir::new().unwrap();
    let new_ids = RestoreOptions {
        new_ids: true,
        ..RestoreOptions::default()
    };
    let was_a_member = |target: &Path| {
        let place = 2 * SIZE - 8192;
        scribble(target, place, &md_1(place / 512));
    };
    // The table in the image is the disk's: an old RAID at the target's end is cleared.
    let image = disk(
        &dir,
        "plain",
        SIZE,
        "label: dos\nstart=2048,size=20480\n",
        &[(1, 9)],
    );
    let packed = image_of(&dir, &image, 512);
    let target = sparse(&dir, "target", 2 * SIZE);
    was_a_member(&target);
    try_restore(&packed, &target, &new_ids).unwrap();
    assert!(
        fs::read(&target).unwrap()[at(SIZE)..]
            .iter()
            .all(|b| *b == 0)
    );
    // A member of a RAID with its metadata at the image's end stays one, whatever the target's size.
    let place = SIZE - 8192;
    scribble(&image, place, &md_1(place / 512));
    let packed = image_of(&dir, &image, 512);
    let error = refused(&packed, &target, &new_ids);
    assert!(error.contains("md member"), "{error}");
    was_a_member(&target);
    try_restore(&packed, &target, &RestoreOptions::default()).unwrap();
    let found = fs::read(&target).unwrap();
    assert!(found[..at(SIZE)] == fs::read(&image).unwrap());
    assert!(found[at(SIZE)..].iter().all(|b| *b == 0));
}

#[test]
fn a_disc_image_with_a_table_beside_it_is_kept_and_what_lies_behind_is_read() {
    let dir = TempDir::new().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), noise(at(3 * MIB), 3)).unwrap();
    let stick = sparse(&dir, "stick", SIZE);
    let iso = dir.path().join("iso");
    run(
        "xorriso",
        &[
            "-as",
            "mkisofs",
            "-quiet",
            "-o",
            iso.to_str().unwrap(),
            tree.to_str().unwrap(),
        ],
    );
    scribble(&stick, 0, &fs::read(&iso).unwrap());
    // As a stick is after its second partition was made: the disc's own, and one for what is to stay.
    let shell = format!(
        "printf 'start=64,size=8192,type=17\\nstart=40960,size=40960\\n' | sfdisk -q --wipe never --label dos {}",
        stick.display()
    );
    run("sh", &["-c", &shell]);
    scribble(&stick, 20 * MIB, &ext4(&dir, 20 * MIB));
    let survey = survey_file(&stick, 512);
    let kept: Vec<&str> = survey.partitions.iter().map(|p| p.kept.as_str()).collect();
    assert_eq!(kept, ["every block", "used blocks"], "{survey:?}");
    assert!(survey.table.note.contains("iso9660"));
    assert!(survey.kept.gaps(0..3 * MIB).is_empty());
    restored(&stick, &survey);
}

#[test]
fn boot_sectors_of_healthy_filesystems_are_no_tables() {
    let dir = TempDir::new().unwrap();
    for (tool, arguments) in [
        ("mkfs.vfat", &["-F", "32", "-s", "1"][..]),
        ("mkfs.ntfs", &["-F", "-Q", "-q"]),
        ("mkfs.exfat", &[]),
        ("mkfs.f2fs", &["-q", "-f"]),
        ("mkfs.btrfs", &["-q", "-f"]),
        ("mkfs.xfs", &["-q", "-f"]),
        ("mke2fs", &["-q", "-F", "-t", "ext4"]),
        ("mkswap", &["-q"]),
    ] {
        let volume = made(&dir, 320 * MIB, tool, arguments);
        let image = one_partition(&dir, if tool == "mkswap" { "S" } else { "L" }, &volume);
        let survey = survey_file(&image, 512);
        assert_eq!(survey.table.note, "", "{tool}");
        let partition = &survey.partitions[0];
        assert_eq!(
            partition.kept, "used blocks",
            "{tool}: {}",
            partition.reason
        );
    }
    // A boot loader in front of ext4 ends in 55 AA, with code where a table has its entries.
    let mut booted = ext4(&dir, 20 * MIB);
    booted[..510].copy_from_slice(&noise(510, 9));
    booted[446] = 0xeb;
    booted[510..512].copy_from_slice(&[0x55, 0xaa]);
    let survey = survey_file(&one_partition(&dir, "L", &booted), 512);
    assert_eq!(survey.partitions[0].kept, "used blocks");
}

#[test]
fn a_whole_disk_filesystem_beside_a_gpt_keeps_the_disk() {
    let dir = TempDir::new().unwrap();
    let image = sparse(&dir, "disk", 160 * MIB);
    let path = image.to_str().unwrap();
    run("mkfs.btrfs", &["-q", "-f", path]);
    run("sgdisk", &["-n", "1:1M:+8M", path]);
    let survey = assert_all_back(&image);
    assert_eq!(
        survey.table.note,
        "every block of the disk is kept: there are both a GPT and a whole-disk btrfs"
    );
    // What the report says makes an ordinary disk of it.
    let clear = survey.table.claims[0].clear.replace("DEVICE", path);
    run("sh", &["-c", &clear]);
    assert_eq!(survey_file(&image, 512).table.note, "");
}
