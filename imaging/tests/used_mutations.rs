//! Damage at random: no survey panics or hangs, and where a filesystem has checksums or counts, damage to
//! its metadata never drops a block that the undamaged map kept.

mod used_common;

use pitstop_imaging::extents::Extents;
use pitstop_imaging::used::survey;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use tempfile::TempDir;
use used_common::{Loop, MIB, Mount, run, sparse, survey_file};

/// A file with some bytes changed.
struct Patched {
    file: File,
    size: u64,
    at: u64,
    patches: Vec<(u64, u8)>,
}

impl Read for Patched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.at)?;
        for (at, byte) in &self.patches {
            if let Some(offset) = at.checked_sub(self.at)
                && let Some(place) = buffer[..length].get_mut(usize::try_from(offset).unwrap())
            {
                *place ^= byte;
            }
        }
        self.at += u64::try_from(length).unwrap();
        Ok(length)
    }
}

impl Seek for Patched {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(by) => self.size.checked_add_signed(by).unwrap(),
            SeekFrom::Current(by) => self.at.checked_add_signed(by).unwrap(),
        };
        Ok(self.at)
    }
}

/// Places in sectors that are kept and not empty: metadata, mostly.
fn targets(image: &Path, kept: &Extents) -> Vec<u64> {
    let file = File::open(image).unwrap();
    let mut targets = Vec::new();
    for range in kept.iter() {
        for at in (range.start..range.end.min(range.start + 8 * MIB)).step_by(512) {
            let mut sector = [0; 512];
            file.read_at(&mut sector, at).unwrap();
            if sector.iter().any(|byte| *byte != 0) {
                targets.push(at);
            }
        }
    }
    targets
}

/// Surveys `rounds` damaged versions; `proven` when none may keep less than the undamaged one.
fn damage(image: &Path, rounds: u64, proven: bool) {
    let whole = survey_file(image, 512);
    let size = fs::metadata(image).unwrap().len();
    let targets = targets(image, &whole.kept);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    for _ in 0..rounds {
        let count = u64::try_from(targets.len()).unwrap();
        let patches: Vec<_> = (0..=random(3))
            .map(|_| {
                let sector = targets[usize::try_from(random(count)).unwrap()];
                // Headers are where fields are.
                let within = if random(2) == 0 { 96 } else { 512 };
                let flip = [0xff, 0x80, 1 << random(8)][usize::try_from(random(3)).unwrap()];
                (sector + random(within), flip)
            })
            .collect();
        let mut disk = Patched {
            file: File::open(image).unwrap(),
            size,
            at: 0,
            patches: patches.clone(),
        };
        let damaged = survey(&mut disk, size, 512).unwrap();
        assert!(damaged.kept.end() <= size);
        if proven {
            let dropped = damaged.kept.gaps(0..size);
            let lost = dropped
                .iter()
                .find(|range| whole.kept.touches(range.clone()));
            assert_eq!(
                lost, None,
                "lost with {patches:?}: {:?}",
                damaged.partitions
            );
        }
    }
}

fn with_files(image: &Path) {
    let mount = Mount::new(image, "rw");
    for index in 0..20 {
        fs::write(
            mount.path().join(format!("file{index}")),
            vec![7; 3000 * index],
        )
        .unwrap();
    }
}

#[test]
fn damaged_ext4_keeps_all_that_it_kept() {
    let dir = TempDir::new().unwrap();
    let image = sparse(&dir, "image", 64 * MIB);
    run(
        "mke2fs",
        &["-q", "-F", "-t", "ext4", image.to_str().unwrap()],
    );
    with_files(&image);
    damage(&image, 2000, true);
}

#[test]
fn damaged_ext2_keeps_all_that_it_kept() {
    let dir = TempDir::new().unwrap();
    let image = sparse(&dir, "image", 64 * MIB);
    run(
        "mke2fs",
        &["-q", "-F", "-t", "ext2", image.to_str().unwrap()],
    );
    with_files(&image);
    damage(&image, 2000, true);
}

#[test]
fn damaged_xfs_keeps_all_that_it_kept() {
    let dir = TempDir::new().unwrap();
    let image = sparse(&dir, "image", 320 * MIB);
    run("mkfs.xfs", &["-q", "-f", image.to_str().unwrap()]);
    with_files(&image);
    damage(&image, 300, true);
}

#[test]
fn damaged_btrfs_keeps_all_that_it_kept() {
    let dir = TempDir::new().unwrap();
    let image = sparse(&dir, "image", 128 * MIB);
    run("mkfs.btrfs", &["-q", "-f", image.to_str().unwrap()]);
    with_files(&image);
    damage(&image, 2000, true);
}

#[test]
fn damaged_ntfs_does_no_harm() {
    let dir = TempDir::new().unwrap();
    let image = sparse(&dir, "image", 16 * MIB);
    run("mkfs.ntfs", &["-F", "-Q", "-q", image.to_str().unwrap()]);
    let mount = Mount::fuse("ntfs-3g", &image, "rw");
    fs::write(mount.path().join("hiberfil.sys"), [0; 64]).unwrap();
    drop(mount);
    damage(&image, 4000, true);
}

#[test]
fn damaged_fat_and_exfat_do_no_harm() {
    let dir = TempDir::new().unwrap();
    for (size, sectors) in [("12", "32"), ("16", "4"), ("32", "1")] {
        let image = sparse(&dir, size, 40 * MIB);
        run(
            "mkfs.fat",
            &["-F", size, "-s", sectors, image.to_str().unwrap()],
        );
        damage(&image, 600, false);
    }
    let image = sparse(&dir, "exfat", 40 * MIB);
    run("mkfs.exfat", &[image.to_str().unwrap()]);
    damage(&image, 1000, true);
}

#[test]
fn damaged_f2fs_does_no_harm() {
    let dir = TempDir::new().unwrap();
    let image = sparse(&dir, "image", 64 * MIB);
    run("mkfs.f2fs", &["-q", "-f", image.to_str().unwrap()]);
    damage(&image, 2000, false);
}

#[test]
fn damaged_swap_and_lvm_keep_all_that_they_kept() {
    let dir = TempDir::new().unwrap();
    let image = sparse(&dir, "swap", 40 * MIB);
    run("mkswap", &[image.to_str().unwrap()]);
    damage(&image, 500, true);
    let image = sparse(&dir, "lvm", 40 * MIB);
    let device = Loop::new(&image);
    run(
        "lvm",
        &[
            "pvcreate",
            "--config",
            "devices { use_devicesfile=0 }",
            "-ff",
            "-y",
            device.device.to_str().unwrap(),
        ],
    );
    drop(device);
    damage(&image, 1000, true);
}

#[test]
fn damaged_tables_do_no_harm() {
    let dir = TempDir::new().unwrap();
    let image = sparse(&dir, "gpt", 40 * MIB);
    run(
        "sgdisk",
        &["-n", "1:1M:+8M", "-n", "2:20M:+4M", image.to_str().unwrap()],
    );
    damage(&image, 2000, true);
    let image = sparse(&dir, "mbr", 40 * MIB);
    run(
        "parted",
        &[
            "-s",
            image.to_str().unwrap(),
            "mklabel",
            "msdos",
            "mkpart",
            "primary",
            "1MiB",
            "4MiB",
            "mkpart",
            "extended",
            "5MiB",
            "39MiB",
            "mkpart",
            "logical",
            "6MiB",
            "9MiB",
            "mkpart",
            "logical",
            "20MiB",
            "22MiB",
        ],
    );
    damage(&image, 3000, false);
}
