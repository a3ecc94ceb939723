//! NTFS and exFAT bitmaps that lack what a file uses: they are not believed. Sound ones are, whatever was written,
//! deleted and fragmented.

mod used_common;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use used_common::{
    MIB, Mount, assert_used, content, junk, populate, reason, restored, run, scribble, survey_file,
};

const NTFS_REASON: &str = "its bitmap lacks clusters that the file of MFT record ";
const EXFAT_REASON: &str = "its bitmap lacks clusters that the file that begins at cluster ";

/// A volume whose bitmap is in one piece.
struct Volume {
    image: PathBuf,
    /// First byte of the bitmap.
    bitmap: u64,
    clusters: u64,
}

impl Volume {
    fn byte(&self, cluster: u64) -> (u64, u8) {
        let at = self.bitmap + cluster / 8;
        let mut byte = [0];
        let file = File::open(&self.image).unwrap();
        file.read_exact_at(&mut byte, at).unwrap();
        (at, byte[0])
    }

    fn is_used(&self, cluster: u64) -> bool {
        self.byte(cluster).1 >> (cluster % 8) & 1 == 1
    }

    fn flip(&self, cluster: u64) {
        let (at, byte) = self.byte(cluster);
        scribble(&self.image, at, &[byte ^ 1 << (cluster % 8)]);
    }

    /// Every block is kept when the bit of `cluster` is clear.
    fn is_missed(&self, cluster: u64, why: &str) {
        assert!(self.is_used(cluster), "cluster {cluster} is free");
        self.flip(cluster);
        let survey = survey_file(&self.image, 512);
        assert!(reason(&survey).starts_with(why), "{}", reason(&survey));
        self.flip(cluster);
    }

    /// So it is for about `count` clusters among all that are in use.
    fn any_is_missed(&self, count: usize, why: &str) {
        let used: Vec<u64> = (0..self.clusters)
            .filter(|cluster| self.is_used(*cluster))
            .collect();
        assert!(used.len() > count);
        for cluster in used.iter().step_by(used.len() / count) {
            self.is_missed(*cluster, why);
        }
    }
}

/// First cluster and length of each run of a file's attributes.
fn ntfs_runs(image: &Path, record: &str) -> Vec<(u64, u64)> {
    let text = run("ntfscluster", &["-I", record, image.to_str().unwrap()]);
    text.lines()
        .filter_map(|line| {
            let numbers: Vec<u64> = line
                .split_whitespace()
                .map(str::parse)
                .collect::<Result<_, _>>()
                .ok()?;
            let [_, start, length] = numbers.try_into().ok()?;
            Some((start, length))
        })
        .collect()
}

fn ntfs(dir: &TempDir, size: u64, cluster: u64, fill: impl FnOnce(&Path)) -> Volume {
    let image = junk(dir, "image", size);
    let bytes = cluster.to_string();
    let path = image.to_str().unwrap();
    run("mkfs.ntfs", &["-F", "-Q", "-q", "-c", &bytes, path]);
    let mount = Mount::fuse("ntfs-3g", &image, "rw,compression");
    fill(mount.path());
    drop(mount);
    let bitmap = ntfs_runs(&image, "6");
    assert_eq!(bitmap.len(), 1);
    Volume {
        bitmap: bitmap[0].0 * cluster,
        clusters: size / cluster,
        image,
    }
}

#[test]
fn an_ntfs_bitmap_that_lacks_a_cluster_of_a_file_is_not_believed() {
    let dir = TempDir::new().unwrap();
    let volume = ntfs(&dir, 32 * MIB, 4096, |mount| populate(mount, 40));
    assert_used(&survey_file(&volume.image, 512), "ntfs");
    // The MFT, its mirror, the log, the root directory, the bitmap itself, the boot sector.
    for record in ["0", "1", "2", "6", "7"] {
        for (start, length) in ntfs_runs(&volume.image, record) {
            let why = format!("{NTFS_REASON}{record} uses");
            volume.is_missed(start, &why);
            volume.is_missed(start + length - 1, &why);
        }
    }
    volume.any_is_missed(60, NTFS_REASON);
    assert_used(&survey_file(&volume.image, 512), "ntfs");
}

#[test]
fn an_ntfs_bitmap_of_zeros_or_noise_loses_nothing() {
    let dir = TempDir::new().unwrap();
    let volume = ntfs(&dir, 32 * MIB, 4096, |mount| populate(mount, 40));
    let length = usize::try_from(volume.clusters / 8).unwrap();
    for bytes in [vec![0; length], content(3, length)] {
        scribble(&volume.image, volume.bitmap, &bytes);
        let survey = survey_file(&volume.image, 512);
        assert!(reason(&survey).starts_with(NTFS_REASON));
        restored(&volume.image, &survey);
    }
}

/// Two files that grow in turns, so that each has more runs than its record holds.
fn interleave(mount: &Path, clusters: usize) {
    let mut files = ["one", "other"].map(|name| File::create(mount.join(name)).unwrap());
    for index in 0..clusters {
        for file in &mut files {
            file.write_all(&content(index, 512)).unwrap();
            file.sync_all().unwrap();
        }
    }
}

#[test]
fn fragmented_sparse_and_compressed_files_are_no_reason_to_doubt() {
    let dir = TempDir::new().unwrap();
    let volume = ntfs(&dir, 20 * MIB, 512, |mount| {
        populate(mount, 60);
        interleave(mount, 1500);
        let sparse = File::create(mount.join("sparse")).unwrap();
        sparse.write_all_at(b"far", 900 << 20).unwrap();
        sparse.write_all_at(b"near", 5 << 20).unwrap();
        let folder = mount.join("compressed");
        fs::create_dir(&folder).unwrap();
        let script =
            "import os, sys; os.setxattr(sys.argv[1], 'system.ntfs_attrib', bytes([16, 8, 0, 0]))";
        run("python3", &["-c", script, folder.to_str().unwrap()]);
        fs::write(folder.join("file"), vec![7; 300_000]).unwrap();
        // More records than the MFT has room for in one piece.
        let many = mount.join("many");
        fs::create_dir(&many).unwrap();
        for index in 0..3000 {
            fs::write(many.join(format!("{index}")), content(index, 600)).unwrap();
        }
        for index in (0..3000).step_by(2) {
            fs::remove_file(many.join(format!("{index}"))).unwrap();
        }
    });
    let records = ntfs_runs(&volume.image, "0");
    assert!(records.len() > 2, "the MFT is in one piece: {records:?}");
    let survey = survey_file(&volume.image, 512);
    assert_used(&survey, "ntfs");
    restored(&volume.image, &survey);
    volume.any_is_missed(40, NTFS_REASON);
}

#[test]
fn a_damaged_or_contradictory_mft_record_keeps_every_block() {
    let dir = TempDir::new().unwrap();
    let volume = ntfs(&dir, 32 * MIB, 4096, |mount| populate(mount, 40));
    let mft = ntfs_runs(&volume.image, "0")[0].0 * 4096;
    // The first that is no system file's: a directory of those above.
    let record = mft + 64 * 1024;
    let expect = |offset: u64, bytes: &[u8], why: &str| {
        let mut before = vec![0; bytes.len()];
        let file = File::open(&volume.image).unwrap();
        file.read_exact_at(&mut before, record + offset).unwrap();
        scribble(&volume.image, record + offset, bytes);
        assert_eq!(reason(&survey_file(&volume.image, 512)), why);
        scribble(&volume.image, record + offset, &before);
    };
    assert_used(&survey_file(&volume.image, 512), "ntfs");
    expect(510, b"\xee\xee", "its MFT record 64 is damaged");
    expect(24, &[0xff; 4], "its MFT record 64 is damaged");
    expect(22, &[0], "its MFT record 64 is in use and free");
    expect(0, b"BAAD", "its MFT record 64 is in use and free");
}

fn exfat(dir: &TempDir, size: u64) -> Volume {
    let image = junk(dir, "image", size);
    run("mkfs.exfat", &["-c", "4K", image.to_str().unwrap()]);
    let mount = Mount::fuse("mount.exfat-fuse", &image, "rw");
    populate(mount.path(), 60);
    interleave(mount.path(), 100);
    drop(mount);
    let boot = fs::read(&image).unwrap()[..512].to_vec();
    let word = |at: usize| u64::from(u32::from_le_bytes(boot[at..at + 4].try_into().unwrap()));
    let heap = word(88) << boot[108];
    // mkfs.exfat puts the bitmap first.
    Volume {
        image,
        bitmap: heap,
        clusters: word(92),
    }
}

/// The cluster that the root directory begins with, counted as the bitmap does.
fn exfat_root(volume: &Volume) -> u64 {
    let mut bytes = [0; 4];
    let file = File::open(&volume.image).unwrap();
    file.read_exact_at(&mut bytes, 96).unwrap();
    u64::from(u32::from_le_bytes(bytes)) - 2
}

#[test]
fn an_exfat_bitmap_that_lacks_a_cluster_of_a_file_is_not_believed() {
    let dir = TempDir::new().unwrap();
    let volume = exfat(&dir, 64 * MIB);
    let survey = survey_file(&volume.image, 512);
    assert_used(&survey, "exfat");
    let root = exfat_root(&volume);
    volume.is_missed(root, &format!("{EXFAT_REASON}{} uses", root + 2));
    volume.is_missed(0, &format!("{EXFAT_REASON}2 uses"));
    volume.any_is_missed(60, EXFAT_REASON);
    assert_used(&survey_file(&volume.image, 512), "exfat");
}

#[test]
fn a_damaged_exfat_directory_keeps_every_block() {
    let dir = TempDir::new().unwrap();
    let volume = exfat(&dir, 64 * MIB);
    let image = fs::read(&volume.image).unwrap();
    let start = usize::try_from(volume.bitmap + exfat_root(&volume) * 4096).unwrap();
    let file = (start..start + 4096)
        .step_by(32)
        .find(|at| image[*at] == 0x85)
        .unwrap();
    let expect = |at: usize, bytes: &[u8], why: &str| {
        scribble(&volume.image, u64::try_from(at).unwrap(), bytes);
        assert_eq!(reason(&survey_file(&volume.image, 512)), why);
        let before = &image[at..at + bytes.len()];
        scribble(&volume.image, u64::try_from(at).unwrap(), before);
    };
    expect(file + 4, &[0xee], "a directory entry is damaged");
    expect(file + 32 + 20, &[0xee; 4], "a directory entry is damaged");
    expect(file + 64, &[0], "a directory entry is damaged");
    expect(
        file,
        &[5],
        "a directory has an entry of the unknown type 0xc0",
    );
    assert_used(&survey_file(&volume.image, 512), "exfat");
}
