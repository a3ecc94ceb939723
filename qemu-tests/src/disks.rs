//! Disks that a test may ruin: sparse raw files, gone when dropped.

use crate::golden;
use crate::tools;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A raw disk image of a test's own.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    /// Removes the file at the end, for disks that are not kept.
    _folder: Option<tempfile::TempDir>,
}

impl Disk {
    /// A copy of a golden disk, holes and all.
    pub fn copy_of(original: &Path) -> Result<Disk> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("disk.img");
        tools::run("cp", [Path::new("--sparse=always"), original, &path])?;
        Ok(Disk {
            path,
            _folder: Some(folder),
        })
    }

    /// A copy that stays where it is put.
    pub fn kept_copy_of(original: &Path, path: &Path) -> Result<Disk> {
        tools::run("cp", [Path::new("--sparse=always"), original, path])?;
        Ok(Disk {
            path: path.to_path_buf(),
            _folder: None,
        })
    }

    /// A disk of zeros, `size` bytes.
    pub fn blank(size: u64) -> Result<Disk> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("disk.img");
        File::create(&path)?.set_len(size)?;
        Ok(Disk {
            path,
            _folder: Some(folder),
        })
    }

    /// A disk without partitions, full of bytes that do not compress; the same bytes for the same `seed`.
    pub fn noise(size: u64, seed: u64) -> Result<Disk> {
        let disk = Disk::blank(size)?;
        std::fs::write(&disk.path, golden::noise(size, seed))?;
        Ok(disk)
    }

    /// The same, but for a boot sector that says [`HOME`] and then nothing more.
    pub fn noise_that_boots(size: u64, seed: u64) -> Result<Disk> {
        let disk = Disk::noise(size, seed)?;
        disk.open()?.write_all(&boot_sector())?;
        Ok(disk)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Overwrites every byte with junk, as a dying disk or a careless `dd` would.
    pub fn wreck(&self) -> Result<()> {
        let mut file = self.open()?;
        let size = file.metadata()?.len();
        let junk = golden::noise(1 << 20, 3);
        let mut written = 0;
        while written < size {
            let part = usize::try_from((size - written).min(1 << 20))?;
            file.write_all(&junk[..part])?;
            written += u64::try_from(part)?;
        }
        Ok(())
    }

    /// Makes it a disk of `size` bytes, zeros at its end.
    pub fn lengthen(&self, size: u64) -> Result<()> {
        Ok(self.open()?.set_len(size)?)
    }

    /// Makes every byte zero, as a new disk's are.
    pub fn zero(&self) -> Result<()> {
        let file = self.open()?;
        let size = file.metadata()?.len();
        file.set_len(0)?;
        Ok(file.set_len(size)?)
    }

    /// Writes a name where an MBR has its boot code, so that no two disks are the same.
    pub fn name(&self, name: &str) -> Result<()> {
        Ok(self.open()?.write_all(name.as_bytes())?)
    }

    /// BLAKE3 of all of it.
    pub fn digest(&self) -> Result<String> {
        digest(&self.path)
    }

    fn open(&self) -> Result<File> {
        File::options()
            .write(true)
            .open(&self.path)
            .with_context(|| format!("opening {}", self.path.display()))
    }
}

/// What a disk with [`boot_sector`] says when a BIOS starts it.
pub const HOME: &str = "home: up from its own disk";

/// A master boot record without partitions: each letter of [`HOME`] goes to the BIOS (interrupt 10h, function 0Eh).
fn boot_sector() -> [u8; 512] {
    const CODE: [u8; 25] = [
        0x31, 0xc0, // xor ax, ax
        0x8e, 0xd8, // mov ds, ax
        0xbe, 0x19, 0x7c, // mov si, the text: right behind this code
        0xfc, // cld
        0xac, // next: lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x09, // jz end
        0xb4, 0x0e, // mov ah, 0Eh
        0xbb, 0x07, 0x00, // mov bx, 7
        0xcd, 0x10, // int 10h
        0xeb, 0xf2, // jmp next
        0xf4, // end: hlt
        0xeb, 0xfd, // jmp end
    ];
    let mut sector = [0; 512];
    let text = format!("\r\n{HOME}\r\n");
    let bytes = CODE.iter().chain(text.as_bytes());
    for (place, byte) in sector.iter_mut().zip(bytes) {
        *place = *byte;
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// BLAKE3 of a file, in hex.
pub fn digest(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    hasher.update_reader(file)?;
    Ok(hasher.finalize().to_hex().to_string())
}
