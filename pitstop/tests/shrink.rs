//! Images that become those of smaller disks: filesystems made by their own tools, judged by their own checkers.

mod common;
mod shrink_common;
#[path = "../../imaging/tests/used_common/mod.rs"]
mod used_common;

use common::{everything_in, pitstop, run as pitstop_run};
use pitstop_testing::running::Running;
use shrink_common::{Bench, EXT4, GPT, cut, done, is_whole_ext, make, native, ntfs};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use used_common::{MIB, run, sparse, tree};

#[test]
fn ext4_with_swap_behind_it_fits_a_smaller_disk_and_grows_again() {
    let table = format!("{GPT}start=310MiB, size=20MiB, type=swap\n");
    let bench = Bench::new(332 * MIB, &table);
    let files = bench.fill(9 * MIB, 300 * MIB, &EXT4, native);
    bench.swap(310 * MIB, 20 * MIB);
    bench.backup();
    let image = fs::read(bench.path("disk.raw.gz")).unwrap();

    let target = sparse(&bench.dir, "target", 260 * MIB);
    let output = pitstop_run(&[
        "restore",
        &bench.path("disk.raw.gz"),
        target.to_str().unwrap(),
    ]);
    let advice = format!(
        "shrink it first: pitstop shrink {} smaller.raw.gz --to 260MiB\n",
        bench.path("disk.raw.gz")
    );
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.ends_with(&advice), "{told}");

    let (told, least) = bench.shrink(&[]);
    assert!(
        told.contains("partition 2 (ext4) shrinks from 300.0 MiB to "),
        "{told}"
    );
    assert!(
        told.contains("partition 3 (swap) moves behind it"),
        "{told}"
    );
    assert!(least < 260 * MIB, "{told}");
    let (_, size) = bench.shrink(&["--to", "260MiB", "--force"]);
    assert_eq!(size, 260 * MIB);
    assert!(image == fs::read(bench.path("disk.raw.gz")).unwrap());

    let disk = bench.restored(size, &[]);
    let (root, root_end) = cut(&disk, "2");
    let (swap, swap_end) = cut(&disk, "3");
    assert_eq!((root_end, swap_end), (239 * MIB, 259 * MIB));
    is_whole_ext(&root, &files);
    let text = run("swaplabel", &[swap.to_str().unwrap()]);
    assert!(text.contains("spare"), "{text}");

    let disk = bench.restored(500 * MIB, &["--grow"]);
    let (root, root_end) = cut(&disk, "2");
    assert_eq!((root_end, cut(&disk, "3").1), (479 * MIB, 499 * MIB));
    is_whole_ext(&root, &files);
    let text = run("dumpe2fs", &["-h", root.to_str().unwrap()]);
    let blocks = format!("Block count:              {}\n", 470 * MIB / 4096);
    assert!(text.contains(&blocks), "{text}");
}

#[test]
fn the_last_logical_partition_of_an_mbr_shrinks_and_swap_alone_in_an_extended_one_moves() {
    let logical = "label: dos\nstart=1MiB, size=8MiB, type=83, bootable\nstart=9MiB, type=5\n\
                   start=10MiB, size=20MiB, type=83\nstart=31MiB, size=229MiB, type=83\n";
    let swap = "label: dos\nstart=1MiB, size=230MiB, type=83\nstart=232MiB, type=5\nstart=233MiB, size=20MiB, type=82\n";
    for (table, number, start, end) in [
        (logical, "6", 31 * MIB, 180 * MIB),
        (swap, "1", MIB, 152 * MIB),
    ] {
        let bench = Bench::new(260 * MIB, table);
        let files = bench.fill(
            start,
            if number == "6" { 229 * MIB } else { 230 * MIB },
            &EXT4,
            native,
        );
        if number == "1" {
            bench.swap(233 * MIB, 20 * MIB);
        }
        bench.backup();
        let (_, size) = bench.shrink(&["--to", "180MiB"]);
        assert_eq!(size, 180 * MIB);
        let disk = bench.restored(size, &[]);
        let (root, root_end) = cut(&disk, number);
        assert_eq!(root_end, end);
        is_whole_ext(&root, &files);
        if number == "1" {
            let (swap, swap_end) = cut(&disk, "5");
            assert_eq!(swap_end, 173 * MIB);
            run("swaplabel", &[swap.to_str().unwrap()]);
        }
    }
}

#[test]
fn ntfs_fits_a_smaller_disk_and_grows_again() {
    let bench = Bench::new(310 * MIB, GPT);
    let files = bench.fill(9 * MIB, 300 * MIB, &["mkfs.ntfs", "-q", "-Q", "-F"], ntfs);
    bench.backup();
    let (told, size) = bench.shrink(&[]);
    assert!(
        told.contains("partition 2 (ntfs) shrinks from 300.0 MiB to "),
        "{told}"
    );
    assert!(size < 250 * MIB, "{told}");
    for (size, more) in [(size, &[][..]), (400 * MIB, &["--grow"])] {
        let disk = bench.restored(size, more);
        let (part, _) = cut(&disk, "2");
        run("ntfsfix", &["--no-action", part.to_str().unwrap()]);
        assert!(tree(ntfs(&part).path()) == files);
    }
}

#[test]
fn btrfs_fits_a_smaller_disk() {
    let bench = Bench::new(310 * MIB, GPT);
    let files = bench.fill(9 * MIB, 300 * MIB, &["mkfs.btrfs", "-q", "--mixed"], native);
    bench.backup();
    // The kernel makes none smaller, however little is in it.
    let told = bench.refused("disk.raw.gz", "new.raw.gz", &["--to", "200MiB"]);
    assert!(told.contains("needs at least 256.0 MiB"), "{told}");
    // Like most disks', its size is no whole number of MiB.
    let (_, size) = bench.shrink(&["--to", "293908480"]);
    assert_eq!(size, 293_908_480);
    let disk = bench.restored(size, &[]);
    let (part, _) = cut(&disk, "2");
    run("btrfs", &["check", part.to_str().unwrap()]);
    assert!(tree(native(&part).path()) == files);
}

#[test]
fn a_disk_without_a_table_shrinks_as_a_whole() {
    let bench = Bench::new(200 * MIB, "");
    let files = bench.fill(0, 200 * MIB, &EXT4, native);
    bench.backup();
    let (told, size) = bench.shrink(&["--to", "160MiB"]);
    assert!(
        told.contains("the ext4 shrinks from 200.0 MiB to 160.0 MiB"),
        "{told}"
    );
    let target = sparse(&bench.dir, "target", size);
    done(&[
        "restore",
        &bench.path("small.raw.gz"),
        target.to_str().unwrap(),
    ]);
    is_whole_ext(&target, &files);
}

#[test]
fn a_free_tail_goes_without_the_filesystem_shrinking() {
    let bench = Bench::new(400 * MIB, GPT);
    let files = bench.fill(9 * MIB, 300 * MIB, &EXT4, native);
    bench.backup();
    let (told, size) = bench.shrink(&["--to", "350MiB"]);
    assert!(told.contains("partition 2 (ext4) stays as it is"), "{told}");
    let (root, end) = cut(&bench.restored(size, &[]), "2");
    assert_eq!(end, 309 * MIB);
    is_whole_ext(&root, &files);
}

#[test]
fn swap_behind_a_gap_moves_up_and_the_filesystem_stays() {
    let table =
        "label: gpt\nstart=1MiB, size=100MiB, type=linux\nstart=210MiB, size=20MiB, type=swap\n";
    let bench = Bench::new(232 * MIB, table);
    bench.put(MIB, 100 * MIB, |part| make(&EXT4, part));
    bench.swap(210 * MIB, 20 * MIB);
    bench.backup();
    for (more, size) in [(&["--to", "180MiB"][..], 180), (&["--to", "123MiB"], 123)] {
        let (told, _) = bench.shrink(&[more, &["--force"]].concat());
        let moves = "partition 1 (ext4) stays as it is, partition 2 (swap) moves behind it";
        assert!(told.contains(moves), "{told}");
        let disk = bench.restored(size * MIB, &[]);
        let (root, root_end) = cut(&disk, "1");
        run("e2fsck", &["-f", "-n", root.to_str().unwrap()]);
        let (swap, swap_end) = cut(&disk, "2");
        assert_eq!((root_end, swap_end), (101 * MIB, (size - 1) * MIB));
        let text = run("swaplabel", &[swap.to_str().unwrap()]);
        assert!(text.contains("spare"), "{text}");
    }
}

#[test]
fn nothing_stays_of_one_that_is_killed() {
    let bench = Bench::new(310 * MIB, GPT);
    bench.fill(9 * MIB, 300 * MIB, &EXT4, native);
    bench.backup();
    let is_cut = || {
        let child = pitstop()
            .args([
                "shrink",
                &bench.path("disk.raw.gz"),
                &bench.path("small.raw.gz"),
                "--force",
            ])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut child = Running::new(child);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let shrinks = lines.find(|line| line.as_ref().unwrap().contains("shrinks from"));
        assert!(shrinks.is_some());
        child.end();
        !child.wait().unwrap().success()
    };
    // On a busy computer it may be over before it is killed.
    let mut tries = 1;
    while !is_cut() {
        assert!(tries < 20, "it is never killed in time");
        tries += 1;
        for file in ["small.raw.gz", "small.raw.gz.toml"] {
            fs::remove_file(bench.path(file)).unwrap();
        }
    }
    assert_eq!(
        everything_in(bench.dir.path()),
        ["disk.raw.gz", "disk.raw.gz.toml"]
    );
}
