//! Which disks a layout is for, and what each of them gets.

use super::volumes::mirrored;
use super::{Deployment, mounts};
use crate::boot::judge::{Bios, Ways, room_for_core};
use anyhow::{Context, bail, ensure};
use pitstop_imaging::layout::apply::{Changes, anew};
use pitstop_imaging::layout::stack::On;
use pitstop_imaging::layout::{Layout, Placed};
use std::fs;
use std::path::{Path, PathBuf};

/// A partition for something that the layout does not say.
pub fn refuse_unused(layout: &Layout) -> anyhow::Result<()> {
    let groups = layout.lvm.iter().flat_map(|group| &group.on);
    let encrypted = layout.luks.iter().map(|luks| &luks.on);
    let mut used: Vec<u32> = layout.raid.iter().map(|raid| raid.on).collect();
    used.extend(groups.chain(encrypted).filter_map(|on| match on {
        On::Partition(number) => Some(*number),
        On::Name(_) => None,
    }));
    for (number, entry) in layout.numbers()? {
        let kind = entry.kind.as_str();
        if matches!(kind, "lvm" | "raid" | "luks") && !used.contains(&number) {
            bail!(
                "partition {number} of the layout is for {kind}, and no [[{kind}]] says what is on it"
            );
        }
    }
    Ok(())
}

/// Whether there are as many disks as the layout is for.
pub fn check_disks(deployment: &Deployment, layout: &Layout) -> anyhow::Result<()> {
    let mut all = vec![deployment.disk];
    all.extend(deployment.mirrors.iter().map(PathBuf::as_path));
    if layout.is_stacked() {
        for disk in &all {
            ensure!(
                mounts::is_device(disk)?,
                "{} is a file, and arrays, LUKS and volumes are made on disks: give it a device with losetup --partscan",
                disk.display()
            );
        }
    }
    let found: anyhow::Result<Vec<PathBuf>> = all
        .iter()
        .map(|disk| {
            let found = disk.canonicalize();
            found.with_context(|| format!("looking for {}", disk.display()))
        })
        .collect();
    let found = found?;
    let is_twice = |(index, disk): (usize, &PathBuf)| found[..index].contains(disk);
    if let Some(disk) = all
        .iter()
        .zip(found.iter().enumerate())
        .find(|(_, it)| is_twice(*it))
    {
        bail!(
            "{} is named twice, and an array needs two disks",
            disk.0.display()
        );
    }
    match (layout.raid.first(), deployment.mirrors.is_empty()) {
        (Some(raid), true) => bail!(
            "the layout has [[raid]] {:?}, and one disk is no array: name two or more",
            raid.name
        ),
        (None, false) => bail!(
            "a tree goes onto one disk, unless the layout has [[raid]]: leave out all but {}",
            deployment.disk.display()
        ),
        _ => Ok(()),
    }
}

/// Whether the kernel shows partitions of a disk. Of a loop device it does where that was asked for.
pub fn check_nodes(disk: &Path) -> anyhow::Result<()> {
    let found = disk.canonicalize();
    let found = found.with_context(|| format!("looking for {}", disk.display()))?;
    let block = Path::new("/sys/class/block").join(found.file_name().unwrap_or_default());
    if fs::read_to_string(block.join("loop/partscan")).is_ok_and(|told| told.trim() == "0") {
        bail!(
            "the kernel would show no partitions of {}: attach its file with losetup --partscan",
            disk.display()
        );
    }
    Ok(())
}

/// What the other disks get.
pub fn mirrors(
    deployment: &Deployment,
    layout: &Layout,
) -> anyhow::Result<Vec<(PathBuf, Changes)>> {
    let layout = mirrored(layout);
    let disks = deployment.mirrors.iter();
    disks
        .map(|disk| {
            let changes = anew(&layout, disk);
            let changes = changes.with_context(|| format!("the layout on {}", disk.display()))?;
            Ok((disk.clone(), changes))
        })
        .collect()
}

/// All disks, the one that the others mirror first.
pub fn disks<'a>(
    first: &'a Path,
    changes: &'a Changes,
    mirrors: &'a [(PathBuf, Changes)],
) -> Vec<(&'a Path, &'a Changes)> {
    let others = mirrors
        .iter()
        .map(|(disk, changes)| (disk.as_path(), changes));
    [(first, changes)].into_iter().chain(others).collect()
}

pub fn placed<'a>(disks: &[(&Path, &'a Changes)]) -> Vec<&'a Placed> {
    disks.iter().map(|(_, changes)| &changes.placed).collect()
}

/// Each disk of an array is to boot alone.
pub fn check_core(ways: &Ways, mirrors: &[(PathBuf, Changes)]) -> anyhow::Result<()> {
    if matches!(ways.bios, Some(Bios::GrubMade { .. })) {
        for (disk, changes) in mirrors {
            room_for_core(&changes.placed)
                .map_err(anyhow::Error::msg)
                .with_context(|| format!("{} would not boot", disk.display()))?;
        }
    }
    Ok(())
}
