//! What is worth knowing of each disk before it is touched: why it was chosen, what will be lost, how long it takes.

use super::{Prepared, Work, pace, restore};
use crate::plan::select::why;
use crate::plan::{About, Steps};
use anyhow::Context;
use pitstop_imaging::arch::Architecture;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::{Part, foresee};
use pitstop_imaging::inventory::Disk;
use pitstop_imaging::source::{self, ReadAt, Window};
use pitstop_imaging::{table, units, used};
use pitstop_protocol::job::Action;
use std::fs::File;
use std::path::Path;

/// # Errors
/// What a restore would refuse before its first write, with regard to single partitions.
pub(super) fn about(work: &Work<'_>, prepared: &Prepared) -> anyhow::Result<Vec<About>> {
    let plan = &prepared.plan;
    let home = work.lease.folder();
    let last = pace::read(work.share, &home).unwrap_or_else(|error| {
        work.log.warn(format!(
            "how fast the last run went is not known: {error:#}"
        ));
        pace::LastRun::default()
    });
    let pace = pace::kind(plan).and_then(|kind| last.paces.get(&kind));
    let mut partitions = partitions(work, prepared)?.into_iter();
    let mut warnings = warnings(prepared)?.into_iter();
    let mut from = from(prepared)?.into_iter();
    let disks = plan.disks().into_iter();
    let about = disks
        .map(|(disk, bytes)| About {
            device: disk.identity.device.clone(),
            why: why(disk, &work.job.disks),
            partitions: partitions.next().unwrap_or_default(),
            from: from.next().flatten(),
            warnings: warnings.next().unwrap_or_default(),
            lost: if plan.writes() {
                contents(disk, &disk.node(&work.machine.dev), work.job.action.part())
            } else {
                Vec::new()
            },
            takes: pace.and_then(|pace| pace.estimate(bytes)),
        })
        .collect();
    Ok(about)
}

/// What becomes of single partitions, for each disk of a restore.
fn partitions(work: &Work<'_>, prepared: &Prepared) -> anyhow::Result<Vec<Vec<String>>> {
    let (Steps::Restore(restores), Action::Restore(options)) =
        (&prepared.plan.steps, &work.job.action)
    else {
        return Ok(Vec::new());
    };
    let options = restore::asked(options);
    let told = restores.iter().map(|step| {
        let node = step.disk.node(&work.machine.dev);
        foresee(prepared.images.of(step)?, &node, &options)
            .with_context(|| format!("restoring {} from {}", step.disk, step.image.file))
    });
    told.collect()
}

/// From where the images come, for each disk of a restore.
fn from(prepared: &Prepared) -> anyhow::Result<Vec<Option<String>>> {
    let Steps::Restore(restores) = &prepared.plan.steps else {
        return Ok(Vec::new());
    };
    let told = restores.iter().map(|step| {
        let places = prepared.images.of(step)?.places();
        Ok(places.into_iter().next().map(|place| place.name))
    });
    told.collect()
}

/// What an admin may not have meant, for each disk of a restore.
fn warnings(prepared: &Prepared) -> anyhow::Result<Vec<Vec<String>>> {
    let Steps::Restore(restores) = &prepared.plan.steps else {
        return Ok(Vec::new());
    };
    let told = restores.iter().map(|step| {
        let meta = prepared.images.of(step)?.meta();
        let foreign = meta.and_then(|meta| meta.foreign_to(Architecture::here()));
        Ok(foreign.into_iter().collect())
    });
    told.collect()
}

/// What is on a disk now, a partition a line. What cannot be read is said in its line: the plan does not fail
/// because of a disk that is about to be replaced.
fn contents(disk: &Disk, node: &Path, part: &Part) -> Vec<String> {
    let mut file = match File::open(node) {
        Ok(file) => file,
        Err(error) => return vec![format!("{} cannot be read: {error}", node.display())],
    };
    let whole = source::Disk::new(&mut file, disk.identity.size);
    if disk.partitions.is_empty() {
        let found = used::recognise(&whole);
        return (!found.filesystem.is_empty())
            .then(|| line(&disk.identity.device, disk.identity.size, &found))
            .into_iter()
            .collect();
    }
    let stays = staying(disk, &whole, part);
    disk.partitions
        .iter()
        .filter(|part| !stays.contains(&part.start))
        .map(|part| {
            let window = Window::new(&whole, part.start, part.size);
            line(&part.name, part.size, &used::recognise(&window))
        })
        .collect()
}

/// Where the partitions begin that a restore of `part` leaves as they are, as far as the disk's table tells.
fn staying(disk: &Disk, whole: &dyn ReadAt, part: &Part) -> Vec<u64> {
    let (selectors, named_stay) = match part {
        Part::Whole => return Vec::new(),
        Part::Keep(selectors) => (selectors, true),
        Part::Only(selectors) => (selectors, false),
    };
    let Ok(table) = table::read(whole, disk.identity.logical_sector_size) else {
        return Vec::new();
    };
    let named: Vec<u64> = selectors
        .iter()
        .filter_map(|selector| selector.find(&table, &disk.identity.device).ok())
        .map(|partition| partition.start)
        .collect();
    let all = table.partitions.iter().map(|partition| partition.start);
    all.filter(|start| named.contains(start) == named_stay)
        .collect()
}

/// `sda1, 512.0 MiB, vfat "EFI"`
fn line(name: &str, size: u64, found: &used::Contents) -> String {
    let mut text = format!("{name}, {}", units::bytes(size));
    if !found.filesystem.is_empty() {
        text = format!("{text}, {}", found.filesystem);
    }
    if !found.label.is_empty() {
        text = format!("{text} {:?}", found.label);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::inventory::fake::{FakeDisk, FakeMachine};
    use pitstop_imaging::inventory::{disks, names};

    #[test]
    fn partitions_are_told_with_what_is_in_them() {
        let fake = FakeMachine::new();
        let mut content = vec![0; 1 << 20];
        // A swap area's signature at the end of its first page.
        let at = 4096 + 4086;
        content[at..at + 10].copy_from_slice(b"SWAPSPACE2");
        let swap = &mut content[4096..];
        swap[1024] = 1;
        swap[1028..1032].copy_from_slice(&100u32.to_le_bytes());
        fake.add_with(&FakeDisk::new("sda", 1 << 20), &content);
        let block = fake.machine().sysfs.join("block/sda/sda1");
        std::fs::create_dir_all(&block).unwrap();
        for (file, text) in [("partition", "1"), ("start", "8"), ("size", "1024")] {
            std::fs::write(block.join(file), text).unwrap();
        }
        assert!(!names(&block).unwrap().is_empty());
        let disk = disks::read(&fake.machine()).unwrap().remove(0);
        assert_eq!(
            contents(&disk, &disk.node(&fake.dev()), &Part::Whole),
            ["sda1, 512.0 KiB, swap"]
        );
        let missing = contents(&disk, Path::new("/dev/null/nothing"), &Part::Whole);
        assert!(missing[0].contains("cannot be read"), "{missing:?}");
    }
}
