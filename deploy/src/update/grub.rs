//! GRUB for BIOS after an update: its modules are files, but its core is on the disk beside the filesystems, and the two have to be of
//! one version. Where the update brought another core, the disk gets it, at the place where the old one is.

use super::plan::Line;
use super::rows::Row;
use super::table::Act;
use crate::boot::grub::{Images, SECTOR};
use crate::devices;
use anyhow::{Context, bail};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::FileSource;
use pitstop_imaging::table::{ParsedTable, TableKind};
use pitstop_trees::machine::Machine;
use pitstop_trees::path::{TreePath, order};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub const FOLDERS: [&[u8]; 2] = [b"boot/grub/i386-pc", b"boot/grub2/i386-pc"];
const CORE: &[u8] = b"core.img";
/// In a boot sector of GRUB's: where its core begins (u64, in sectors).
const KERNEL_SECTOR: Range<usize> = 0x5c..0x64;
/// In the first sector of the core: where the rest is, and the segment that it is loaded to.
const LIST: Range<usize> = 0x1f4..0x1fc;
const SEGMENT: (Range<usize>, [u8; 2]) = (0x1fe..0x200, [0x20, 0x08]);

/// When the disk gets a new core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embed {
    Now,
    /// Whoever asks does it, once the modules are those of the root.
    Later,
}

/// The core in a folder of GRUB, where there is one.
pub fn core(machine: &Machine, folder: &TreePath) -> Option<Vec<u8>> {
    read(machine, &folder.join(CORE).ok()?).ok()
}

/// The folders of GRUB whose core an update replaces.
pub fn renewed<'a>(rows: &[Row<'a>]) -> Vec<&'a TreePath> {
    let placed = rows.iter().filter(|row| row.act == Act::Place);
    let cores = placed.filter(|row| row.path.name() == CORE && is_grub(row.path.folder()));
    let folder =
        |row: &Row| rows.binary_search_by(|it| order(it.path.as_bytes(), row.path.folder()));
    cores
        .filter_map(|row| Some(rows[folder(row).ok()?].path))
        .collect()
}

/// Warns where the modules change and the core cannot: it was made for this machine.
pub fn warn_of_stale(lines: &[Line], reporter: &dyn Reporter) {
    let of = |line: &&Line| is_grub(line.path.folder());
    let is_core = |line: &Line| line.path.name() == CORE;
    let kept = lines
        .iter()
        .filter(of)
        .any(|line| is_core(line) && line.act == Act::Keep);
    let placed = lines
        .iter()
        .filter(of)
        .any(|line| !is_core(line) && line.act == Act::Place);
    if kept && placed {
        reporter.warn(
            "GRUB's modules change, and its core was made for this machine: run its own grub-install before you boot it by BIOS"
                .into(),
        );
    }
}

fn is_grub(folder: &[u8]) -> bool {
    FOLDERS.contains(&folder)
}

/// Puts the core in `folder` of the machine onto the disks that boot by it.
///
/// # Errors
/// When such a disk cannot be written, or has no room for the core.
pub fn embed_from(
    machine: &Machine,
    folder: &TreePath,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let images = Images::new(
        read(machine, &folder.join(b"boot.img")?)?,
        read(machine, &folder.join(CORE)?)?,
    )
    .with_context(|| format!("GRUB in {}", machine.shown(folder)))?;
    for disk in disks(machine, folder) {
        let disk = disk.as_path();
        let name = disk.display();
        if embed(disk, &images).with_context(|| format!("GRUB's core on {name}"))? {
            reporter.info(format!("{name}: GRUB's core is the one of the tree"));
        }
    }
    Ok(())
}

fn read(machine: &Machine, path: &TreePath) -> anyhow::Result<Vec<u8>> {
    let reading = || format!("reading {}", machine.shown(path));
    let file = machine
        .open_path(path, OFlags::RDONLY | OFlags::NONBLOCK)
        .with_context(reading)?;
    let mut bytes = Vec::new();
    File::from(file)
        .read_to_end(&mut bytes)
        .with_context(reading)?;
    Ok(bytes)
}

/// The disks that a folder is on, each leg of an array.
fn disks(machine: &Machine, folder: &TreePath) -> Vec<PathBuf> {
    let source = machine.source(folder);
    let device = source.and_then(|source| devices::folder_of(Path::new("/sys"), source));
    let Some(device) = device else {
        return Vec::new();
    };
    let below = devices::down(&device).into_iter();
    let whole = below.filter(|it| !it.join("partition").exists() && it.join("device").exists());
    whole
        .filter_map(|disk| Some(Path::new("/dev").join(devices::name(&disk)?)))
        .collect()
}

/// What a BIOS starts from the disks of a folder of GRUB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// No GRUB.
    Nothing,
    /// The core that is in the folder now.
    Own,
    /// Another system's, or one that was made elsewhere: it is left alone.
    Other,
}

/// What a BIOS starts from the disks that `folder` of the machine is on.
pub fn started(machine: &Machine, folder: &TreePath) -> Started {
    let core = core(machine, folder);
    let disks = disks(machine, folder).into_iter();
    let found = disks.map(|disk| started_from(&disk, &core.clone().unwrap_or_default()));
    let found: Vec<Started> = found.collect();
    let or = |one, other| if found.contains(&one) { one } else { other };
    or(Started::Own, or(Started::Other, Started::Nothing))
}

/// `grub-install` writes to the beginning of what it embeds, and adds to its end.
const CHANGING: usize = 4096;

fn started_from(disk: &Path, core: &[u8]) -> Started {
    let mut sector = [0; 512];
    let Ok(opened) = File::open(disk) else {
        return Started::Nothing;
    };
    let start = opened.read_exact_at(&mut sector, 0).ok();
    let Some(at) = start.and_then(|()| core_of(&opened, &sector)) else {
        return Started::Nothing;
    };
    let whole = core.len() / sector.len() * sector.len();
    let lasting = core.get(CHANGING..whole).unwrap_or_default();
    let mut there = vec![0; lasting.len()];
    let read = opened.read_exact_at(&mut there, at + CHANGING as u64);
    if read.is_ok() && !lasting.is_empty() && there == lasting {
        Started::Own
    } else {
        Started::Other
    }
}

/// Writes GRUB to a disk that it boots already; `false` where something else boots it, or nothing.
fn embed(disk: &Path, images: &Images) -> anyhow::Result<bool> {
    let opened = OpenOptions::new().read(true).write(true).open(disk);
    let opened = opened.context("opening the disk")?;
    let mut sector = [0; 512];
    opened
        .read_exact_at(&mut sector, 0)
        .context("reading the boot sector")?;
    let Some(at) = core_of(&opened, &sector) else {
        return Ok(false);
    };
    let room = room(disk, at)?;
    if images.core_size() > room.end - room.start {
        bail!(
            "the new core has {} bytes, and there is room for {}: the disk boots with the old one, which may not read the new \
             modules",
            images.core_size(),
            room.end - room.start
        );
    }
    opened
        .write_all_at(&images.core(at)?, at)
        .and_then(|()| opened.sync_all())
        .context("writing it")?;
    opened
        .write_all_at(&images.boot_sector(sector, at), 0)
        .and_then(|()| opened.sync_all())
        .context("writing the boot sector")?;
    Ok(true)
}

/// Where the core is that a boot sector loads; `None` where none of GRUB's is.
fn core_of(disk: &File, sector: &[u8; 512]) -> Option<u64> {
    let word = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_le_bytes);
    let first = word(&sector[KERNEL_SECTOR])?;
    let at = first.checked_mul(SECTOR).filter(|at| *at > 0)?;
    let mut core = [0; 512];
    disk.read_exact_at(&mut core, at).ok()?;
    let (segment, is) = SEGMENT;
    let is_core = word(&core[LIST])? == first + 1 && core[segment] == is;
    is_core.then_some(at)
}

/// The bytes that a core at `at` may take: its partition, or all up to the first one.
fn room(disk: &Path, at: u64) -> anyhow::Result<Range<u64>> {
    let source = FileSource::open(disk)?;
    let sector = u32::try_from(SECTOR)?;
    let parsed = ParsedTable::read(&source, sector).context("reading the partition table")?;
    let parsed = parsed.context("the disk has no partition table")?;
    let table = &parsed.table;
    let around = table.partitions.iter().find(|it| it.range().contains(&at));
    match around {
        Some(own) if own.kind.is_fixed() => Ok(at..own.range().end),
        Some(other) => bail!(
            "it is in partition {}, which is none for it: run the system's own grub-install",
            other.number
        ),
        None if table.kind == TableKind::Gpt => bail!(
            "it is in no partition, and a GPT has no room for it beside them: run the system's own grub-install"
        ),
        None => {
            // The record of an extended partition is at its beginning, before the first of the partitions in it.
            let extended = parsed.raw.extended().into_iter().map(|it| it.start);
            let behind = table.partitions.iter().map(|it| it.start).chain(extended);
            let end = behind.filter(|start| *start > at).min();
            Ok(at..end.context("the disk has no partitions")?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn images(version: u8, sectors: usize) -> Images {
        let mut boot = vec![version; 512];
        boot[0] = 0xeb;
        boot[510..].copy_from_slice(&[0x55, 0xaa]);
        let mut core = vec![version; sectors * 512];
        core[510..512].copy_from_slice(&SEGMENT.1);
        Images::new(boot, core).unwrap()
    }

    /// A disk with an MBR, whose only partition begins at sector 64.
    fn disk(folder: &Path) -> PathBuf {
        let path = folder.join("disk");
        let mut sector = [0; 512];
        sector[446 + 4] = 0x83;
        sector[446 + 8..446 + 12].copy_from_slice(&64u32.to_le_bytes());
        sector[446 + 12..446 + 16].copy_from_slice(&1000u32.to_le_bytes());
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        let mut bytes = vec![0; 1 << 20];
        bytes[..512].copy_from_slice(&sector);
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn a_core_is_replaced_where_it_is_and_only_on_disks_that_grub_boots() {
        let folder = tempfile::tempdir().unwrap();
        let path = disk(folder.path());
        let before = fs::read(&path).unwrap();
        assert!(!embed(&path, &images(2, 20)).unwrap());
        let old = images(1, 20).core(512).unwrap();
        assert_eq!(started_from(&path, &old), Started::Nothing);
        assert_eq!(fs::read(&path).unwrap(), before);
        // As a deploy leaves it.
        let old = images(1, 20);
        let opened = OpenOptions::new().write(true).open(&path).unwrap();
        opened.write_all_at(&old.core(512).unwrap(), 512).unwrap();
        let sector: [u8; 512] = before[..512].try_into().unwrap();
        opened
            .write_all_at(&old.boot_sector(sector, 512), 0)
            .unwrap();
        let file = |images: &Images| images.core(512).unwrap();
        assert_eq!(started_from(&path, &file(&old)), Started::Own);
        assert_eq!(started_from(&path, &file(&images(2, 20))), Started::Other);
        assert_eq!(started_from(&path, &[]), Started::Other);
        let new = images(2, 30);
        assert!(embed(&path, &new).unwrap());
        let after = fs::read(&path).unwrap();
        assert_eq!(after[512..512 + 30 * 512], new.core(512).unwrap());
        assert_eq!(after[..512], new.boot_sector(sector, 512));
        assert_eq!(after[64 * 512..], before[64 * 512..]);
        let error = embed(&path, &images(3, 64)).unwrap_err().to_string();
        assert!(error.contains("room for 32256"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), after);
    }

    #[test]
    fn the_record_of_an_extended_partition_is_no_room_for_a_core() {
        let folder = tempfile::tempdir().unwrap();
        let path = disk(folder.path());
        let mut bytes = fs::read(&path).unwrap();
        // An extended one from sector 63 on, and in it one from sector 126 on.
        bytes[446 + 4] = 0x05;
        bytes[446 + 8] = 63;
        let record = 63 * 512;
        bytes[record + 446 + 4] = 0x83;
        bytes[record + 446 + 8] = 63;
        bytes[record + 446 + 12..][..4].copy_from_slice(&500u32.to_le_bytes());
        bytes[record + 510..][..2].copy_from_slice(&[0x55, 0xaa]);
        let old = images(1, 20);
        bytes[512..][..20 * 512].copy_from_slice(&old.core(512).unwrap());
        let sector: [u8; 512] = bytes[..512].try_into().unwrap();
        bytes[..512].copy_from_slice(&old.boot_sector(sector, 512));
        fs::write(&path, &bytes).unwrap();
        let error = embed(&path, &images(2, 64)).unwrap_err().to_string();
        assert!(error.contains("room for 31744"), "{error}");
        assert!(fs::read(&path).unwrap() == bytes);
        assert!(embed(&path, &images(2, 62)).unwrap());
        assert!(fs::read(&path).unwrap()[record..] == bytes[record..]);
    }
}
