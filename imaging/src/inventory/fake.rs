//! A machine made of plain files, for tests without root: a sysfs tree and files as disks.

use crate::inventory::Machine;
use crate::inventory::disks::{Disk, read};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

pub struct FakeDisk {
    name: String,
    size: u64,
    model: String,
    serial: String,
    parent: String,
}

impl FakeDisk {
    pub fn new(name: &str, size: u64) -> Self {
        Self {
            name: name.into(),
            size,
            model: String::new(),
            serial: String::new(),
            parent: "pci0/host0".into(),
        }
    }

    #[must_use]
    pub fn model(mut self, model: &str) -> Self {
        self.model = model.into();
        self
    }

    #[must_use]
    pub fn serial(mut self, serial: &str) -> Self {
        self.serial = serial.into();
        self
    }

    /// The path below `/sys/devices` that the disk hangs on.
    #[must_use]
    pub fn on(mut self, parent: &str) -> Self {
        self.parent = parent.into();
        self
    }
}

pub struct FakeMachine {
    root: tempfile::TempDir,
}

impl Default for FakeMachine {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeMachine {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for folder in ["sys/block", "sys/devices", "sys/class/net", "proc", "dev"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        Self { root }
    }

    /// The one disk that this machine has.
    pub fn only_disk(&self) -> Disk {
        let mut disks = read(&self.machine()).unwrap();
        assert_eq!(disks.len(), 1, "{disks:?}");
        disks.remove(0)
    }

    pub fn machine(&self) -> Machine {
        let at = |folder: &str| self.root.path().join(folder);
        Machine {
            sysfs: at("sys"),
            procfs: at("proc"),
            dev: at("dev"),
            command_line: String::new(),
        }
    }

    /// Adds a disk to sysfs and returns its folder there.
    pub fn add(&self, disk: &FakeDisk) -> PathBuf {
        let sys = self.root.path().join("sys");
        let device = sys
            .join("devices")
            .join(&disk.parent)
            .join(format!("of-{}", disk.name));
        let block = device.join("block").join(&disk.name);
        fs::create_dir_all(block.join("queue")).unwrap();
        fs::write(block.join("size"), format!("{}\n", disk.size / 512)).unwrap();
        fs::write(block.join("ro"), "0\n").unwrap();
        fs::write(block.join("removable"), "0\n").unwrap();
        fs::write(block.join("queue/logical_block_size"), "512\n").unwrap();
        fs::write(block.join("queue/physical_block_size"), "4096\n").unwrap();
        fs::write(device.join("model"), &disk.model).unwrap();
        fs::write(device.join("vendor"), "ATA     \n").unwrap();
        if !disk.serial.is_empty() {
            fs::write(block.join("serial"), &disk.serial).unwrap();
        }
        symlink(&device, block.join("device")).unwrap();
        symlink(&block, sys.join("block").join(&disk.name)).unwrap();
        block
    }

    /// Takes a disk out of sysfs.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.root.path().join("sys/block").join(name)).unwrap();
        for entry in walk(&self.root.path().join("sys/devices")) {
            if entry.ends_with(format!("of-{name}")) {
                fs::remove_dir_all(entry).unwrap();
            }
        }
    }

    /// Adds a disk to sysfs and the bytes it holds to `/dev`.
    pub fn add_with(&self, disk: &FakeDisk, content: &[u8]) -> PathBuf {
        self.add(disk);
        let node = self.dev().join(&disk.name);
        fs::write(&node, content).unwrap();
        node
    }

    pub fn dev(&self) -> PathBuf {
        self.root.path().join("dev")
    }

    pub fn write_proc(&self, file: &str, text: &str) {
        fs::write(self.root.path().join("proc").join(file), text).unwrap();
    }

    pub fn write_sys(&self, file: &str, bytes: impl AsRef<[u8]>) {
        let path = self.root.path().join("sys").join(Path::new(file));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// The folders below `folder`; links are not followed.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(walk(&path));
            found.push(path);
        }
    }
    found
}
