//! Images that cannot become those of smaller disks: refused with words, and nothing stays of it.

mod common;
mod shrink_common;
#[path = "../../imaging/tests/used_common/mod.rs"]
mod used_common;

use shrink_common::{Bench, EXT4, GPT, done, make, native};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use used_common::{MIB, run};

/// Writes to the disk of `bench`.
fn write(bench: &Bench, at: u64, bytes: &[u8]) {
    let disk = OpenOptions::new().write(true).open(bench.path("disk"));
    disk.unwrap().write_all_at(bytes, at).unwrap();
}

/// An ext4 of 100 MiB on a larger partition.
fn small_ext4(part: &Path) {
    run(
        "mke2fs",
        &[
            "-q",
            "-t",
            "ext4",
            "-b",
            "4096",
            part.to_str().unwrap(),
            "25600",
        ],
    );
}

#[test]
fn data_that_no_filesystem_owns_is_not_dropped() {
    let swap =
        "label: gpt\nstart=1MiB, size=200MiB, type=linux\nstart=210MiB, size=20MiB, type=swap\n";
    let free = "label: gpt\nstart=1MiB, size=200MiB, type=linux\n";
    for (table, start, at) in [
        // Behind the filesystem in its partition, in the gap up to swap, behind all partitions.
        (swap, MIB, 150 * MIB),
        (swap, MIB, 205 * MIB),
        (free, MIB, 220 * MIB),
        ("", 0, 150 * MIB),
    ] {
        let bench = Bench::new(232 * MIB, table);
        bench.put(start, 200 * MIB, small_ext4);
        if table == swap {
            bench.swap(210 * MIB, 20 * MIB);
        }
        write(&bench, at + 17, b"hashes");
        // Else the backup itself leaves out what no partition has.
        let (disk, image) = (bench.path("disk"), bench.path("disk.raw.gz"));
        done(&["backup", "--exact", &disk, &image]);
        let told = bench.refused("disk.raw.gz", "new.raw.gz", &[]);
        let place = format!("has data at byte {}, after ", at + 17);
        assert!(told.contains(&place), "{told}");
    }
}

#[test]
fn an_empty_record_behind_the_last_logical_partition_is_in_the_way() {
    let table = "label: dos\nstart=1MiB, size=1MiB, type=83\nstart=2MiB, type=5\nstart=3MiB, size=200MiB, type=83\n";
    let bench = Bench::new(232 * MIB, table);
    bench.put(3 * MIB, 200 * MIB, small_ext4);
    // The chain goes on, by the second entry of the record of partition 5, to a record of nothing.
    let (mut link, sectors) = ([0; 16], |mib: u32| (mib * 2048).to_le_bytes());
    link[4] = 5;
    link[8..12].copy_from_slice(&sectors(218));
    link[12..].copy_from_slice(&sectors(1));
    write(&bench, 2 * MIB + 446 + 16, &link);
    write(&bench, 220 * MIB + 510, &[0x55, 0xaa]);
    let disk = File::open(bench.path("disk")).unwrap();
    let mut record = [0; 2];
    disk.read_exact_at(&mut record, 2 * MIB + 510).unwrap();
    assert_eq!(record, [0x55, 0xaa]);
    bench.backup();
    let told = bench.refused("disk.raw.gz", "new.raw.gz", &[]);
    let place = format!("has data at byte {}, after partition 5", 220 * MIB + 510);
    assert!(told.contains(&place), "{told}");
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let bench = Bench::new(310 * MIB, GPT);
    bench.fill(9 * MIB, 300 * MIB, &EXT4, native);
    bench.backup();
    fs::write(bench.path("there.raw.gz"), b"an image").unwrap();
    run(
        "sh",
        &[
            "-c",
            &format!(
                "head -c 4096 /dev/zero | gzip > {}",
                bench.path("foreign.gz")
            ),
        ],
    );
    let there = bench.refused("disk.raw.gz", "there.raw.gz", &[]);
    assert!(
        there.contains("is there already: remove it, or say --force"),
        "{there}"
    );
    let raw = bench.refused("disk.raw.gz", "new.raw", &[]);
    assert!(raw.contains("what is made is gzip"), "{raw}");
    let itself = bench.refused("disk.raw.gz", "disk.raw.gz", &["--force"]);
    assert!(itself.contains("is the image itself"), "{itself}");
    let foreign = bench.refused("foreign.gz", "new.raw.gz", &[]);
    assert!(
        foreign.contains("has no index") && foreign.contains("pitstop convert"),
        "{foreign}"
    );
    for (to, why) in [
        ("310MiB", "is not larger than 325058560"),
        ("100001", "no multiple of the 512 bytes of a sector"),
        (
            "20MiB",
            "in use: a disk of 20971520 bytes (20.0 MiB) is too small",
        ),
        ("80MiB", "but needs at least"),
    ] {
        let told = bench.refused("disk.raw.gz", "new.raw.gz", &["--to", to]);
        assert!(told.contains(why), "{told}");
        assert_eq!(told.contains("is the smallest"), to == "80MiB", "{told}");
    }
}

#[test]
fn filesystems_that_do_not_shrink_or_are_not_whole_are_named() {
    let refused = |table: &str, start, size, make: &dyn Fn(&Path)| {
        let bench = Bench::new(310 * MIB, table);
        bench.put(start, size, make);
        bench.backup();
        bench.refused("disk.raw.gz", "new.raw.gz", &[])
    };
    let of =
        |mkfs: &'static [&'static str]| refused(GPT, 9 * MIB, 300 * MIB, &|part| make(mkfs, part));
    let xfs = of(&["mkfs.xfs", "-q"]);
    assert!(
        xfs.contains("partition 2, which ends last, cannot shrink: xfs has no program"),
        "{xfs}"
    );
    let dirty = refused(GPT, 9 * MIB, 300 * MIB, &|part| {
        make(&EXT4, part);
        run(
            "debugfs",
            &["-w", "-R", "feature needs_recovery", part.to_str().unwrap()],
        );
    });
    assert!(
        dirty.contains("not in a state to shrink: its journal needs to be replayed"),
        "{dirty}"
    );
    let damaged = refused(GPT, 9 * MIB, 300 * MIB, &|part| {
        make(&EXT4, part);
        run("debugfs", &["-w", "-R", "clri <2>", part.to_str().unwrap()]);
    });
    assert!(
        damaged.contains("shrinking partition 2 (ext4): e2fsck"),
        "{damaged}"
    );
    let esp = refused(
        "label: gpt\nstart=1MiB, size=300MiB, type=uefi\n",
        MIB,
        300 * MIB,
        &|part| {
            make(&["mkfs.vfat"], part);
        },
    );
    assert!(
        esp.contains("partition 1, which ends last, is of the type EFI system"),
        "{esp}"
    );
}

#[test]
fn a_disk_that_a_raid_owns_beside_its_table_is_left_alone() {
    let bench = Bench::new(
        232 * MIB,
        "label: gpt\nstart=1MiB, size=200MiB, type=linux\n",
    );
    bench.put(MIB, 200 * MIB, small_ext4);
    // The superblock of md 1.2: its magic, its version, its own place in sectors.
    write(&bench, 4096, &0xa92b_4efc_u32.to_le_bytes());
    write(&bench, 4100, &1_u32.to_le_bytes());
    write(&bench, 4096 + 144, &8_u64.to_le_bytes());
    bench.backup();
    let told = bench.refused("disk.raw.gz", "new.raw.gz", &[]);
    assert!(
        told.contains("there are both a GPT and a whole-disk md member"),
        "{told}"
    );
}
