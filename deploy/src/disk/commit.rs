//! What makes a disk boot, written when everything else is there and flushed.

use super::fat::HeldBack;
use super::plan::Plan;
use crate::boot::grub::Images;
use crate::boot::judge::room_for_core;
use anyhow::{Context, bail};
use pitstop_imaging::disk::{Output as _, Target};
use pitstop_imaging::efi::{self, Startable};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::layout::Placed;
use pitstop_imaging::source::ReadAt as _;
use std::path::Path;

const SECTOR: usize = 512;

/// What is left to write for a BIOS.
pub enum BootCode {
    Grub(Images),
    /// Code for the first 440 bytes, which starts the active partition.
    Plain(Vec<u8>),
}

/// Everything that waits for the end.
#[derive(Default)]
pub struct Rest {
    /// The one of each disk, volume by volume.
    pub fats: Vec<Vec<HeldBack>>,
    pub code: Option<BootCode>,
}

impl Rest {
    /// Writes it, what is started first last.
    ///
    /// # Errors
    /// When something cannot be written, or does not read back.
    pub fn commit(self, plan: &Plan, reporter: &dyn Reporter) -> anyhow::Result<()> {
        let disks = plan.disks();
        for (disk, _) in &disks {
            Target::reopen(disk)?
                .flush()
                .with_context(|| format!("flushing {}", disk.display()))?;
        }
        for fat in self.fats.into_iter().flatten() {
            fat.commit()?;
        }
        if let Some(code) = self.code {
            for (disk, changes) in &disks {
                write_code(disk, &changes.placed, &code)?;
                reporter.info(format!("{}: the BIOS starts it", disk.display()));
            }
        }
        // The last one that is entered is started first.
        for (disk, _) in disks.into_iter().rev() {
            enter(plan, disk, reporter)?;
        }
        Ok(())
    }
}

fn write_code(disk: &Path, placed: &Placed, code: &BootCode) -> anyhow::Result<()> {
    let target = Target::reopen(disk)?;
    let mut sector = [0; SECTOR];
    target
        .read_exact_at(&mut sector, 0)
        .with_context(|| format!("reading the first sector of {}", target.name()))?;
    let sector = match code {
        BootCode::Grub(images) => {
            let room = room_for_core(placed).map_err(anyhow::Error::msg)?;
            let (size, most) = (images.core_size(), room.end - room.start);
            if size > most {
                bail!("GRUB's core.img has {size} bytes, and there is room for {most}");
            }
            write_back(&target, &images.core(room.start)?, room.start)?;
            images.boot_sector(sector, room.start)
        }
        BootCode::Plain(code) => {
            sector[..code.len()].copy_from_slice(code);
            sector
        }
    };
    write_back(&target, &sector, 0)
}

/// Writes, flushes, and reads from the disk itself what is there then.
fn write_back(target: &Target, bytes: &[u8], at: u64) -> anyhow::Result<()> {
    let mut back = vec![0; bytes.len()];
    target
        .write_at(bytes, at)
        .and_then(|()| target.flush())
        .and_then(|()| target.drop_cache())
        .and_then(|()| target.read_exact_at(&mut back, at))
        .with_context(|| format!("writing {} at {at}", target.name()))?;
    if back != bytes {
        bail!(
            "{} does not read back what was written at {at}",
            target.name()
        );
    }
    Ok(())
}

/// Has the firmware of this machine start the disk.
fn enter(plan: &Plan, disk: &Path, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let loaders: Vec<efi::Loader> = plan
        .ways
        .uefi
        .iter()
        .filter_map(|way| way.entry.clone())
        .collect();
    let Some(entries) = plan.deployment.entries.filter(|_| !loaders.is_empty()) else {
        return Ok(());
    };
    let sector = u32::try_from(plan.changes.placed.sector)?;
    let start = Startable {
        efivars: entries.efivars,
        disk,
        sector,
        label: "Linux",
        all: entries.disks,
    };
    match efi::enter(&start, &loaders) {
        Ok(said) => said.into_iter().for_each(|line| reporter.info(line)),
        // The firmware finds the disk without one.
        Err(error) => reporter.warn(format!(
            "{}: the system is deployed, but its boot entry is not made: {error:#}",
            disk.display()
        )),
    }
    Ok(())
}
