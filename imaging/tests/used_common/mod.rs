//! Real filesystems for the map readers: made by their own tools, captured and restored, judged by their own
//! checkers.
#![allow(dead_code, reason = "each test program uses a part of what they share")]

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{CaptureOptions, FileSource, RestoreOptions, capture, restore};
use pitstop_imaging::inventory::DiskIdentity;
use pitstop_imaging::used::{Survey, survey};
use pitstop_testing::mounts::Mounted;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

pub const MIB: u64 = 1 << 20;

/// Path and content hash of each regular file, target of each link.
pub type Tree = BTreeMap<PathBuf, String>;

/// Runs a program, which must succeed, and answers what it printed.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> String {
    let (status, text) = try_run(program, arguments);
    assert_eq!(status, Some(0), "{program} failed:\n{text}");
    text
}

/// Runs a program and answers its exit status with all it printed.
pub fn try_run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> (Option<i32>, String) {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .output()
        .unwrap_or_else(|err| {
            panic!(
                "{program} cannot be run ({err}): install e2fsprogs xfsprogs btrfs-progs ntfs-3g \
                 dosfstools exfatprogs exfat-fuse f2fs-tools mtools gdisk fdisk parted lvm2 util-linux"
            )
        });
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

/// A file of `size` bytes of junk, so that a block that is wrongly dropped or kept shows.
pub fn junk(dir: &TempDir, name: &str, size: u64) -> PathBuf {
    let path = dir.path().join(name);
    let mut file = File::create(&path).unwrap();
    let block = vec![0xa5; usize::try_from(MIB).unwrap()];
    let mut left = size;
    while left > 0 {
        let length = left.min(MIB);
        file.write_all(&block[..usize::try_from(length).unwrap()])
            .unwrap();
        left -= length;
    }
    path
}

/// A file of `size` bytes that reads as zeros.
pub fn sparse(dir: &TempDir, name: &str, size: u64) -> PathBuf {
    let path = dir.path().join(name);
    File::create(&path).unwrap().set_len(size).unwrap();
    path
}

pub fn survey_file(path: &Path, sector: u32) -> Survey {
    let mut file = File::open(path).unwrap();
    let size = file.metadata().unwrap().len();
    survey(&mut file, size, sector).unwrap()
}

/// What comes back of `path` after a backup and a restore: as it was wherever the survey keeps something,
/// zeros everywhere else.
pub fn restored(path: &Path, survey: &Survey) -> PathBuf {
    restored_at(path, survey, 512)
}

/// The same of a disk whose logical sectors are `sector` bytes.
pub fn restored_at(path: &Path, survey: &Survey, sector: u32) -> PathBuf {
    let identity = DiskIdentity {
        device: "disk".into(),
        model: String::new(),
        serial: String::new(),
        wwn: String::new(),
        transport: String::new(),
        size: fs::metadata(path).unwrap().len(),
        logical_sector_size: sector,
        physical_sector_size: sector,
    };
    let image = path.with_extension("raw.gz");
    let mut out = File::create(&image).unwrap();
    let meta = capture(
        path,
        &identity,
        &CaptureOptions::default(),
        &mut out,
        &Silent,
    )
    .unwrap();
    assert_eq!(meta.partitions, survey.partitions);
    let copy = path.with_extension("restored");
    let image = FileSource::open(&image).unwrap();
    File::create(&copy).unwrap();
    restore(&image, &copy, &RestoreOptions::default(), &Silent).unwrap();
    assert_kept(path, &copy, survey);
    copy
}

fn assert_kept(path: &Path, copy: &Path, survey: &Survey) {
    let (mut before, mut after) = (File::open(path).unwrap(), File::open(copy).unwrap());
    let size = before.metadata().unwrap().len();
    assert_eq!(after.metadata().unwrap().len(), size);
    assert!(survey.kept.end() <= size);
    let mut blocks = [
        vec![0; usize::try_from(MIB).unwrap()],
        vec![0; usize::try_from(MIB).unwrap()],
    ];
    let mut at = 0;
    while at < size {
        let end = size.min(at + MIB);
        let length = usize::try_from(end - at).unwrap();
        let [expected, found] = blocks.each_mut().map(|block| &mut block[..length]);
        before.read_exact(expected).unwrap();
        after.read_exact(found).unwrap();
        for gap in survey.kept.gaps(at..end).iter() {
            let within = |place: u64| usize::try_from(place - at).unwrap();
            expected[within(gap.start)..within(gap.end)].fill(0);
        }
        // Whole first: byte by byte it takes a hundred times as long.
        if expected != found {
            let differs = expected
                .iter()
                .zip(&*found)
                .position(|(one, other)| one != other);
            panic!("{differs:?} in the MiB from {at} of {}", path.display());
        }
        at = end;
    }
}

/// Bytes that differ from the first byte on, for content that compares.
pub fn content(seed: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Fills `dir` with files of many sizes, then deletes every third, so that free space is fragmented.
pub fn populate(dir: &Path, files: usize) {
    for round in 0..2 {
        for index in 0..files {
            let folder = dir.join(format!("dir{}", index % 7));
            fs::create_dir_all(&folder).unwrap();
            let path = folder.join(format!("file{round}-{index}.bin"));
            let length = [100, 5000, 40_000, 300_000][index % 4] + index * 13;
            fs::write(&path, content(index + round * 1000, length)).unwrap();
        }
        for index in (0..files).step_by(3) {
            fs::remove_file(dir.join(format!("dir{}/file{round}-{index}.bin", index % 7))).unwrap();
        }
    }
}

/// What is below `dir`.
pub fn tree(dir: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let name = path.strip_prefix(dir).unwrap().to_path_buf();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(path);
                tree.insert(name, "directory".into());
            } else if kind.is_symlink() {
                tree.insert(name, fs::read_link(&path).unwrap().display().to_string());
            } else {
                let hash = blake3::hash(&fs::read(&path).unwrap());
                tree.insert(name, hash.to_hex().to_string());
            }
        }
    }
    tree
}

/// A loop device; detached when dropped.
pub struct Loop {
    pub device: PathBuf,
}

impl Loop {
    pub fn new(image: &Path) -> Self {
        Self::with_sectors(image, 512)
    }

    /// A device with logical sectors of `bytes`.
    pub fn with_sectors(image: &Path, bytes: u32) -> Self {
        let bytes = bytes.to_string();
        let arguments = [
            OsStr::new("--find"),
            OsStr::new("--show"),
            OsStr::new("--sector-size"),
            OsStr::new(&bytes),
            image.as_os_str(),
        ];
        let device = PathBuf::from(run("losetup", &arguments).trim());
        Self { device }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // parted tells the kernel of its partitions, which outlive the image under them: the next one's mkfs would find
        // the device divided. Most devices have none, and partx says so.
        let _ = try_run("partx", &[OsStr::new("--delete"), self.device.as_os_str()]);
        let (status, text) = try_run("losetup", &[OsStr::new("-d"), self.device.as_os_str()]);
        if status != Some(0) {
            eprintln!("losetup -d {}: {text}", self.device.display());
        }
    }
}

/// A mounted image; unmounted when dropped.
pub struct Mount {
    // Dropped in this order.
    mounted: Mounted,
    _device: Option<Loop>,
    _dir: TempDir,
}

impl Mount {
    pub fn new(image: &Path, options: &str) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "mounting {} needs root: run the tests as root",
            image.display()
        );
        let dir = TempDir::new().unwrap();
        let options = format!("loop,{options}");
        let arguments = [OsStr::new("-o"), OsStr::new(&options), image.as_os_str()];
        Self {
            mounted: Mounted::new(&arguments, dir.path()),
            _device: None,
            _dir: dir,
        }
    }

    /// Mounts through FUSE, for filesystems that the kernel may not know. On a block device, unlike on
    /// a file, an unmount waits until all is written.
    pub fn fuse(program: &str, image: &Path, options: &str) -> Self {
        let device = Loop::new(image);
        let dir = TempDir::new().unwrap();
        let arguments = [
            OsStr::new("-o"),
            OsStr::new(options),
            device.device.as_os_str(),
            dir.path().as_os_str(),
        ];
        run(program, &arguments);
        Self {
            mounted: Mounted::at(dir.path()),
            _device: Some(device),
            _dir: dir,
        }
    }

    pub fn path(&self) -> &Path {
        self.mounted.path()
    }
}

/// What is in an image, read through a mount.
pub fn mounted_tree(image: &Path, options: &str) -> Tree {
    let mount = Mount::new(image, options);
    tree(mount.path())
}

/// Copies what `from` has, and none of its holes, to `to` from `start` on.
pub fn copy_data(from: &File, to: &File, start: u64) {
    let place = |at: u64, whence| match lseek(from, i64::try_from(at).unwrap(), whence) {
        Ok(place) => Some(u64::try_from(place).unwrap()),
        // Nothing but a hole follows.
        Err(Errno::ENXIO) => None,
        Err(error) => panic!("looking for data: {error}"),
    };
    let mut at = 0;
    while let Some(data) = place(at, Whence::SeekData) {
        at = place(data, Whence::SeekHole).unwrap();
        let mut bytes = vec![0; usize::try_from(at - data).unwrap()];
        from.read_exact_at(&mut bytes, data).unwrap();
        to.write_all_at(&bytes, start + data).unwrap();
    }
}

/// Writes `bytes` at `at`, as damage.
pub fn scribble(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

/// The one partition of a survey whose map was used.
pub fn assert_used(survey: &Survey, filesystem: &str) {
    let [partition] = survey.partitions.as_slice() else {
        panic!("not one partition: {survey:?}");
    };
    assert_eq!(partition.filesystem, filesystem);
    assert_eq!(partition.reason, "");
    assert_eq!(partition.kept, "used blocks");
}

/// The one partition of a survey that keeps every block, with its reason.
pub fn reason(survey: &Survey) -> &str {
    let [partition] = survey.partitions.as_slice() else {
        panic!("not one partition: {survey:?}");
    };
    assert_eq!(partition.kept, "every block", "{partition:?}");
    assert_eq!(survey.kept.total(), partition.size);
    &partition.reason
}
