//! The firmware's boot entries after a restore.

use super::Work;
use anyhow::Context;
use pitstop_imaging::efi::{self, Loader, Startable};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::Part;
use pitstop_imaging::inventory::{self, Disk};
use pitstop_imaging::{source, table};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Has the firmware start the disk again. A restore that is proven does not fail for it.
pub(super) fn make(work: &Work<'_>, disk: &Disk, loaders: &[Loader], reporter: &dyn Reporter) {
    let efivars = work.machine.sysfs.join(efi::VARIABLES);
    // A BIOS has no entries.
    if loaders.is_empty() || !efivars.exists() {
        return;
    }
    match entered(work, disk, loaders, &efivars) {
        Ok(said) => said.into_iter().for_each(|line| reporter.info(line)),
        Err(error) => reporter.warn(format!(
            "{}: the disk is restored, but its boot entry is not made: {error:#}",
            disk.identity.device
        )),
    }
}

fn entered(
    work: &Work<'_>,
    disk: &Disk,
    loaders: &[Loader],
    efivars: &Path,
) -> anyhow::Result<Vec<String>> {
    let node = disk.node(&work.machine.dev);
    let loaders = restored(work.job.action.part(), loaders, &node, disk)?;
    if loaders.is_empty() {
        return Ok(Vec::new());
    }
    let label = match disk.identity.model.as_str() {
        "" => format!("UEFI {}", disk.identity.device),
        model => format!("UEFI {model}"),
    };
    let disks = inventory::read(work.machine)?.disks;
    let all: Vec<(PathBuf, u32)> = disks
        .iter()
        .map(|disk| {
            let sector = disk.identity.logical_sector_size;
            (disk.node(&work.machine.dev), sector)
        })
        .collect();
    let start = Startable {
        efivars,
        disk: &node,
        sector: disk.identity.logical_sector_size,
        label: &label,
        all: &all,
    };
    efi::enter(&start, &loaders)
}

/// The loaders that a restore brought back: not those on partitions that were kept, and of single partitions none. What
/// boots the disk from there stays what it was.
fn restored(
    part: &Part,
    loaders: &[Loader],
    node: &Path,
    disk: &Disk,
) -> anyhow::Result<Vec<Loader>> {
    let selectors = match part {
        Part::Only(_) => return Ok(Vec::new()),
        Part::Whole => return Ok(loaders.to_vec()),
        Part::Keep(selectors) => selectors,
    };
    let mut file = File::open(node).with_context(|| format!("opening {}", node.display()))?;
    let whole = source::Disk::new(&mut file, disk.identity.size);
    let table = table::read(&whole, disk.identity.logical_sector_size)
        .with_context(|| format!("reading the partition table of {}", node.display()))?;
    let mut kept = Vec::new();
    for selector in selectors {
        kept.push(selector.find(&table, &disk.identity.device)?.number);
    }
    let stays = |loader: &&Loader| !kept.contains(&loader.partition);
    Ok(loaders.iter().filter(stays).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::disk;
    use pitstop_imaging::table::PartitionSelector;

    #[test]
    fn partitions_that_were_not_restored_leave_the_firmware_alone() {
        let loader = |partition| Loader {
            partition,
            path: "\\EFI\\debian\\shimx64.efi".into(),
            description: "debian".into(),
        };
        let loaders = [loader(1), loader(2)];
        let mut content = vec![0; 8192];
        for (entry, start) in [(446, 4u8), (462, 8)] {
            content[entry + 4] = 0xef;
            content[entry + 8] = start;
            content[entry + 12] = 2;
        }
        content[510..512].copy_from_slice(&[0x55, 0xaa]);
        let node = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(node.path(), content).unwrap();
        let disk = disk("sda", "A", 8192);
        let restored = |part| restored(&part, &loaders, node.path(), &disk).unwrap();
        assert_eq!(restored(Part::Whole), loaders);
        assert_eq!(restored(Part::Only(Vec::new())), []);
        let first = || vec![PartitionSelector::Number(1)];
        assert_eq!(restored(Part::Keep(first())), loaders[1..]);
    }
}
