//! Images that could not be used on a disk with other logical sectors: refused before the first write, with the reason.

mod image_common;
mod part_common;
mod sectors_common;
mod used_common;

use image_common::{image_of, noise};
use part_common::{at, keep, try_restore};
use pitstop_imaging::image::{
    CaptureOptions, FileSource, OpenedImage, Part, RestoreOptions, foresee,
};
use sectors_common::{disk, made, on, part, put};
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use used_common::{MIB, run, scribble, sparse, try_run};

const ONE: &str = "label: gpt\nstart=1MiB,size=40MiB,name=one\n";
const SIZE: u64 = 48 * MIB;

/// Why an image of `disk` does not go to one of the other sectors, which must stay as it is.
fn refused(dir: &TempDir, disk: &Path, from: u32) -> String {
    let image = image_of(dir.path(), disk, from, &CaptureOptions::default());
    let to = if from == 512 { 4096 } else { 512 };
    let target = sparse(dir, "target", fs::metadata(disk).unwrap().len());
    scribble(&target, 0, &noise(at(MIB), 9));
    let before = fs::read(&target).unwrap();
    let options = RestoreOptions::default();
    let (error, foreseen) = on(&target, to, |device| {
        let source = FileSource::open(&image).unwrap();
        let opened = OpenedImage::open(Box::new(source)).unwrap();
        (
            try_restore(&image, device, &options).unwrap_err(),
            foresee(&opened, device, &options).unwrap_err(),
        )
    });
    assert!(fs::read(&target).unwrap() == before, "{error:#}");
    let text = format!("{error:#}");
    assert_eq!(text, format!("{foreseen:#}"));
    let sectors = format!("is of a disk with sectors of {from} bytes, ");
    assert!(text.contains(&sectors), "{text}");
    assert!(text.contains(&format!(" has sectors of {to}")), "{text}");
    text
}

#[test]
fn content_that_needs_its_sectors_is_named() {
    for (sector, size, command, why) in [
        (
            512,
            40,
            &["mkfs.ext4", "-q", "-b", "1024"][..],
            "ext4, could not be used there: it counts in units of 1024 bytes, less than a sector there",
        ),
        (
            512,
            40,
            &["mkfs.vfat"],
            "vfat, could not be used there: it counts in units of 512 bytes",
        ),
        (
            512,
            300,
            &["mkfs.xfs", "-q", "-s", "size=512"],
            "xfs, could not be used there: it counts in units of 512",
        ),
        (
            512,
            40,
            &["mkfs.ntfs", "-q", "-Q", "-F"],
            "ntfs, could not be used there: its boot sector names",
        ),
        (
            4096,
            40,
            &["mkfs.ntfs", "-q", "-Q", "-F", "-s", "4096"],
            "ntfs, could not be used there",
        ),
        (
            512,
            40,
            &["mkfs.exfat"],
            "exfat, could not be used there: its boot sector names",
        ),
        (
            512,
            64,
            &["mkfs.f2fs", "-q"],
            "f2fs, could not be used there: it is not known to work",
        ),
    ] {
        let dir = TempDir::new().unwrap();
        let script = format!("label: gpt\nstart=1MiB,size={size}MiB,name=one\n");
        let from = disk(&dir, "from", sector, (size + 8) * MIB, &script);
        put(&from, MIB, &made(&dir, size * MIB, command));
        let text = refused(&dir, &from, sector);
        let what = format!("partition 1 (one, {size}.0 MiB at 1048576), {why}");
        assert!(text.contains(&what), "{text}");
    }
}

/// The refusals are Linux's own, too.
#[test]
fn linux_does_not_mount_what_is_refused() {
    for (size, command) in [
        (40, &["mkfs.ext4", "-q", "-b", "1024"][..]),
        (300, &["mkfs.xfs", "-q", "-s", "size=512"]),
    ] {
        let dir = TempDir::new().unwrap();
        let file = made(&dir, size * MIB, command);
        let device = part(&file, 4096, &(0..size * MIB));
        let (status, text) = try_run("mount", &[device.device.as_path(), dir.path()]);
        assert_eq!(status, Some(32), "{text}");
    }
}

#[test]
fn what_nothing_recognises_is_refused_and_zeros_are_not() {
    let dir = TempDir::new().unwrap();
    for script in [
        ONE,
        "label: gpt\nstart=1MiB,size=1MiB,name=one,type=21686148-6449-6E6F-744E-656564454649\n",
    ] {
        let from = disk(&dir, "from", 512, SIZE, script);
        let image = image_of(dir.path(), &from, 512, &CaptureOptions::default());
        let target = sparse(&dir, "target", SIZE);
        on(&target, 4096, |device| {
            try_restore(&image, device, &RestoreOptions::default()).unwrap()
        });
        scribble(&from, 2 * MIB - 1, &[1]);
        let text = refused(&dir, &from, 512);
        assert!(
            text.contains("could not be used there: its contents are not recognised"),
            "{text}"
        );
        assert!(text.contains("partition 1 (one, "), "{text}");
    }
    // LUKS says what it is, and hides what is in it.
    let from = disk(&dir, "from", 512, SIZE, ONE);
    scribble(&from, MIB, b"LUKS\xba\xbe\0\x01");
    let text = refused(&dir, &from, 512);
    assert!(
        text.contains("LUKS, could not be used there: it is not known to work"),
        "{text}"
    );
}

#[test]
fn what_lies_between_large_sectors_is_refused() {
    let dir = TempDir::new().unwrap();
    for (script, why) in [
        (
            "label: gpt\nstart=2052,size=8192\n",
            "partition 1 (4.0 MiB at 1050624) has bytes 1050624 to",
        ),
        (
            "label: gpt\nstart=2048,size=8193\n",
            "which are no whole sectors of 4096 bytes",
        ),
        (
            // The second record is in the sector before its partition.
            "label: dos\nstart=2048,size=40960,type=5\nstart=2056,size=8184\nstart=10248,size=8192\n",
            "the boot record of a logical partition has bytes 5246464 to",
        ),
        (
            "label: dos\nstart=2049,size=40960,type=5\nstart=4096,size=8192\n",
            "entry 1 has bytes 1049088 to",
        ),
    ] {
        let from = disk(&dir, "from", 512, SIZE, script);
        let text = refused(&dir, &from, 512);
        assert!(text.contains(why), "{text}");
    }
    let from = disk(&dir, "from", 512, SIZE, ONE);
    run("sgdisk", &["-h", "1", from.to_str().unwrap()]);
    let text = refused(&dir, &from, 512);
    assert!(
        text.contains("its hybrid MBR names partitions by their sectors"),
        "{text}"
    );
}

#[test]
fn a_boot_loader_in_front_of_the_partitions_is_refused_and_its_first_bytes_are_kept() {
    let dir = TempDir::new().unwrap();
    for script in [ONE, "label: dos\nstart=1MiB,size=40MiB,type=83\n"] {
        let from = disk(&dir, "from", 512, SIZE, script);
        put(
            &from,
            MIB,
            &made(&dir, 40 * MIB, &["mkfs.ext4", "-q", "-b", "4096"]),
        );
        scribble(&from, 0, &[0xeb; 440]);
        let image = image_of(dir.path(), &from, 512, &CaptureOptions::default());
        let target = sparse(&dir, "target", SIZE);
        on(&target, 4096, |device| {
            try_restore(&image, device, &RestoreOptions::default()).unwrap()
        });
        assert!(fs::read(&target).unwrap().starts_with(&[0xeb; 440]));
        for place in [20_000, 900_000, SIZE - 20_000] {
            scribble(&from, place, &[7]);
            let text = refused(&dir, &from, 512);
            let why =
                format!("it has data outside its partitions at byte {place}, as boot loaders have");
            assert!(text.contains(&why), "{text}");
            scribble(&from, place, &[0]);
        }
    }
}

#[test]
fn kept_partitions_need_not_suit_but_the_images_do() {
    let dir = TempDir::new().unwrap();
    let from = disk(&dir, "from", 512, SIZE, ONE);
    put(&from, MIB, &made(&dir, 40 * MIB, &["mkfs.vfat"]));
    let image = image_of(dir.path(), &from, 512, &CaptureOptions::default());
    let target = disk(&dir, "target", 4096, SIZE, ONE);
    on(&target, 4096, |device| {
        for part in [keep(&[]).part, Part::Only(vec!["one".parse().unwrap()])] {
            let options = RestoreOptions {
                part,
                ..RestoreOptions::default()
            };
            let error = try_restore(&image, device, &options).unwrap_err();
            assert!(
                format!("{error:#}").contains("vfat, could not be used there"),
                "{error:#}"
            );
        }
        try_restore(&image, device, &keep(&["one"])).unwrap();
    });
}

#[test]
fn an_image_without_an_index_leaves_a_disk_with_other_sectors_alone() {
    let dir = TempDir::new().unwrap();
    let from = disk(&dir, "from", 512, SIZE, ONE);
    put(&from, MIB, &made(&dir, 40 * MIB, &["mkfs.ext4", "-q"]));
    let mbr = "label: dos\nstart=1MiB,size=40MiB,type=83\n";
    let target = disk(&dir, "target", 4096, SIZE, mbr);
    // Where the partition would begin if its sectors had 512 bytes.
    scribble(&target, MIB / 8, &noise(at(MIB), 3));
    let before = fs::read(&target).unwrap();
    for part in [keep(&["1"]).part, Part::Only(vec!["1".parse().unwrap()])] {
        let options = RestoreOptions {
            part,
            ..RestoreOptions::default()
        };
        let error = on(&target, 4096, |device| {
            try_restore(&from, device, &options).unwrap_err()
        });
        let error = format!("{error:#}");
        assert!(error.contains("without an index"), "{error}");
        assert!(fs::read(&target).unwrap() == before, "{error}");
    }
}
