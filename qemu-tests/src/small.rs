//! A small disk with real filesystems on it: a GPT, an ESP and an ext4, too small to boot and quick to carry.

use crate::disks::Disk;
use crate::golden::{self, Part, noise};
use crate::{paths, tools};
use anyhow::Result;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The whole disk, in bytes: a power of two, as cards are.
pub const SIZE: u64 = 32 << 20;

const ESP: Part = Part {
    start: 1 << 20,
    size: 18 << 20,
};
const ROOT: Part = Part {
    start: 19 << 20,
    size: 10 << 20,
};

/// Where its partitions end: the rest is free.
pub const END: u64 = ROOT.start + ROOT.size;

/// Changes whenever this recipe does, so that no cached disk of an older one is used.
const RECIPE: &str = "2";

/// A copy of the small disk whose table and ESP count in sectors of this many bytes, 512 or 4096.
pub fn disk(sector: u32) -> Result<Disk> {
    let original = paths::cached(&format!("small-{RECIPE}-{sector}.img"), |path| {
        make(path, sector)
    })?;
    Disk::copy_of(&original)
}

/// What is in the root's `some/folders/noise`.
pub fn file() -> Vec<u8> {
    noise(4 << 20, 62)
}

fn make(path: &Path, sector: u32) -> Result<()> {
    let work = tempfile::tempdir()?;
    File::create(path)?.set_len(SIZE)?;
    let mut parted = tools::command("parted")?;
    // libparted asks a device for its sector size and this variable for a file's.
    parted.env("PARTED_SECTOR_SIZE", sector.to_string());
    parted.args(["--script", "--align", "none"]).arg(path);
    parted.args(["unit", "B", "mklabel", "gpt"]);
    for (name, kind, part) in [("esp", "fat16", ESP), ("root", "ext4", ROOT)] {
        let (first, last) = (part.start, part.start + part.size - 1);
        parted.args(["mkpart", name, kind, &first.to_string(), &last.to_string()]);
    }
    tools::output(parted.args(["set", "1", "esp", "on"]))?;
    golden::place(&make_esp(work.path(), sector)?, path, ESP.start)?;
    golden::place(&make_root(work.path())?, path, ROOT.start)
}

fn make_esp(work: &Path, sector: u32) -> Result<PathBuf> {
    let image = work.join("esp.img");
    File::create(&image)?.set_len(ESP.size)?;
    let mut mkfs = tools::command("mkfs.vfat")?;
    mkfs.args(["-F", "16", "-n", "SMALLESP", "-i", "5a0115b0"]);
    // Clusters of 4096 bytes: between 4085 and 65525 of them are FAT16.
    mkfs.args([
        "-S",
        &sector.to_string(),
        "-s",
        &(4096 / sector).to_string(),
    ]);
    tools::output(mkfs.arg(&image))?;
    let file = work.join("loader");
    fs::write(&file, noise(3 << 20, 61))?;
    let mut copy = tools::command("mcopy")?;
    tools::output(copy.arg("-i").arg(&image).arg(&file).arg("::LOADER.EFI"))?;
    Ok(image)
}

fn make_root(work: &Path) -> Result<PathBuf> {
    let tree = work.join("tree");
    fs::create_dir_all(tree.join("some/folders"))?;
    fs::write(tree.join("some/folders/noise"), file())?;
    fs::write(tree.join("words"), "the same words again\n".repeat(9999))?;
    let image = work.join("root.img");
    File::create(&image)?.set_len(ROOT.size)?;
    let mut mkfs = tools::command("mke2fs")?;
    mkfs.args(["-q", "-t", "ext4", "-b", "4096", "-L", "small", "-d"]);
    tools::output(mkfs.arg(&tree).arg(&image))?;
    Ok(image)
}
