//! Disks in files, and what is on them.

use super::tree;
use pitstop_imaging::disk::LoopDevice;
use pitstop_imaging::source::Disk;
use pitstop_imaging::table::{self, Table};
use pitstop_testing::mounts::unmount;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

/// A disk in a file.
pub struct DiskFile {
    pub path: PathBuf,
    _folder: tempfile::TempDir,
}

impl DiskFile {
    pub fn new(size: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        File::create(&path).unwrap().set_len(size).unwrap();
        Self {
            path,
            _folder: folder,
        }
    }

    pub fn bytes(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let file = File::open(&self.path).unwrap();
        file.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    pub fn table(&self) -> Table {
        let mut file = File::open(&self.path).unwrap();
        let size = file.metadata().unwrap().len();
        table::read(&Disk::new(&mut file, size), 512).unwrap()
    }

    pub fn start_of(&self, number: u32) -> u64 {
        let table = self.table();
        let found = table.partitions.iter().find(|part| part.number == number);
        found.unwrap().start
    }

    /// Whether a BIOS or a UEFI finds anything to start.
    pub fn boots(&self) -> bool {
        let code = self.bytes(0, 440);
        if code.iter().any(|byte| *byte != 0) {
            return true;
        }
        let mut file = File::open(&self.path).unwrap();
        let size = file.metadata().unwrap().len();
        let Ok(table) = table::read(&Disk::new(&mut file, size), 512) else {
            return false;
        };
        let mut esps = table
            .partitions
            .iter()
            .filter(|part| part.kind.name() == Some("EFI system"));
        esps.any(|part| !self.list_fat(part.start).is_empty())
    }

    /// The files of a FAT, by mtools; none where it is no FAT.
    pub fn list_fat(&self, start: u64) -> Vec<String> {
        let listed = Command::new("mdir")
            .args(["-b", "-/", "-i"])
            .arg(format!("{}@@{start}", self.path.display()))
            .arg("::")
            .output()
            .unwrap();
        let text = String::from_utf8(listed.stdout).unwrap();
        text.lines()
            .map(|line| line.trim_start_matches("::/").to_owned())
            .filter(|line| !line.ends_with('/'))
            .collect()
    }

    pub fn read_fat(&self, start: u64, path: &str) -> Vec<u8> {
        let read = tree::run(
            Command::new("mtype")
                .arg("-i")
                .arg(format!("{}@@{start}", self.path.display()))
                .arg(format!("::{path}")),
        );
        read.stdout
    }

    /// Mounts partitions of it: number, where, options.
    pub fn mount(&self, mounts: &[(u32, &str, &str)]) -> Mounted {
        let folder = tempfile::tempdir().unwrap();
        let table = self.table();
        let mut mounted = Mounted {
            points: Vec::new(),
            devices: Vec::new(),
            path: folder.keep(),
        };
        for (number, at, options) in mounts {
            let part = table.partitions.iter().find(|part| part.number == *number);
            let device = LoopDevice::new(&self.path, &part.unwrap().range(), 512).unwrap();
            let point = mounted.path.join(at.trim_start_matches('/'));
            tree::run(
                Command::new("mount")
                    .args(["-o", options])
                    .arg(device.path())
                    .arg(&point),
            );
            mounted.points.push(point);
            mounted.devices.push(device);
        }
        mounted
    }
}

/// A deployed system to look at.
pub struct Mounted {
    pub path: PathBuf,
    points: Vec<PathBuf>,
    devices: Vec<LoopDevice>,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for point in self.points.iter().rev() {
            let _ = unmount(point);
        }
        let _ = fs::remove_dir(&self.path);
    }
}
