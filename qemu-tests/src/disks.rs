//! Disks that a test may ruin: sparse raw files, gone when dropped.

use crate::golden;
use crate::tools;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
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

    /// Flips one bit of the byte at `offset`.
    pub fn flip(&self, offset: u64) -> Result<()> {
        flip_bit(&self.path, offset)
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

/// BLAKE3 of a file, in hex.
pub fn digest(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    hasher.update_reader(file)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Flips the lowest bit of one byte of a file.
pub fn flip_bit(path: &Path, offset: u64) -> Result<()> {
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut byte)?;
    byte[0] ^= 1;
    file.seek(SeekFrom::Start(offset))?;
    Ok(file.write_all(&byte)?)
}
