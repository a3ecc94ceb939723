//! Disks of loop devices, and systems on them, for tests: whoever cannot make them fails.

use pitstop_imaging::inventory::fake::{FakeDisk, FakeMachine};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program's output; one that fails is a test that fails.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A loop device, gone with the value.
pub(crate) struct Loop(pub(crate) PathBuf);

impl Loop {
    fn new(file: &Path, start: u64, size: u64) -> Self {
        let (start, size) = (start.to_string(), size.to_string());
        let file = file.to_str().unwrap();
        let arguments = ["-f", "--show", "-o", &start, "--sizelimit", &size, file];
        Self(PathBuf::from(run("losetup", &arguments)))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

/// A partition of a disk that is made.
pub(crate) struct Part<'a> {
    pub(crate) size: u64,
    /// `ext4`, or nothing at all.
    pub(crate) filesystem: &'a str,
    pub(crate) label: &'a str,
    /// What is on it.
    pub(crate) files: &'a [(&'a str, &'a str)],
}

/// A disk with an MBR, whose partitions can be mounted.
pub(crate) struct LoopDisk {
    pub(crate) file: PathBuf,
    pub(crate) parts: Vec<Loop>,
    _folder: tempfile::TempDir,
}

const START: u64 = 1 << 20;

impl LoopDisk {
    /// Writes into a partition, counted from 0.
    pub(crate) fn write(&self, part: usize, at: u64, bytes: &[u8]) {
        let node = &self.parts[part].0;
        let device = File::options().write(true).open(node).unwrap();
        device.write_all_at(bytes, at).unwrap();
        device.sync_all().unwrap();
    }

    /// Adds it to `fake` as `name`.
    pub(crate) fn add(fake: &FakeMachine, name: &str, parts: &[Part<'_>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk");
        let size = START + parts.iter().map(|part| part.size).sum::<u64>();
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        let mut start = START;
        let mut places = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            let entry = 446 + 16 * number;
            bytes[entry + 4] = 0x83;
            let sectors = |bytes: u64| u32::try_from(bytes / 512).unwrap().to_le_bytes();
            bytes[entry + 8..entry + 12].copy_from_slice(&sectors(start));
            bytes[entry + 12..entry + 16].copy_from_slice(&sectors(part.size));
            places.push((start, part.size));
            start += part.size;
        }
        bytes[440..444].copy_from_slice(&[7; 4]);
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        fs::write(&file, bytes).unwrap();
        let block = fake.add(&FakeDisk::new(name, size).serial(name));
        symlink(&file, fake.dev().join(name)).unwrap();
        let mut loops = Vec::new();
        for (number, ((start, size), part)) in (1..).zip(places.into_iter().zip(parts)) {
            let made = Loop::new(&file, start, size);
            let own = format!("{name}{number}");
            symlink(&made.0, fake.dev().join(&own)).unwrap();
            let sysfs = block.join(&own);
            fs::create_dir_all(&sysfs).unwrap();
            for (file, value) in [
                ("partition", number),
                ("start", start / 512),
                ("size", size / 512),
            ] {
                fs::write(sysfs.join(file), format!("{value}\n")).unwrap();
            }
            make(part, &made.0);
            loops.push(made);
        }
        Self {
            file,
            parts: loops,
            _folder: folder,
        }
    }
}

fn make(part: &Part<'_>, node: &Path) {
    if part.filesystem.is_empty() {
        return;
    }
    let files = tempfile::tempdir().unwrap();
    plant(files.path(), part.files);
    let mkfs = format!("mkfs.{}", part.filesystem);
    let mut arguments = vec!["-q", "-F", "-d", files.path().to_str().unwrap()];
    if !part.label.is_empty() {
        arguments.extend(["-L", part.label]);
    }
    arguments.push(node.to_str().unwrap());
    run(&mkfs, &arguments);
    run("blockdev", &["--flushbufs", node.to_str().unwrap()]);
}

/// Puts files into a folder. What ends in `/` is a folder.
pub(crate) fn plant(at: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = at.join(path);
        if path.as_os_str().to_str().unwrap().ends_with('/') {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }
}
