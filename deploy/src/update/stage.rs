//! All that is new, written beside what it replaces: proven, with all attributes, on the disk before anything is decided.

use super::commit::VOLUMES;
use super::journal::Journal;
use super::record;
use super::work::Work;
use super::workshop::Workshop;
use anyhow::{Context, anyhow};
use pitstop_imaging::event::Reporter;
use pitstop_trees::entry::Kind;
use pitstop_trees::machine::{Changer, Machine};
use pitstop_trees::path::TreePath;
use pitstop_trees::{Here, JOURNAL, TreeImage, WORKSHOP, write_some};
use rustix::fs::{AtFlags, Mode, OFlags, linkat, mkdirat, renameat};
use std::fs::File;
use std::os::fd::OwnedFd;

/// Makes the folders to work in, the root's first: it names the others. When one cannot be made, those that were are in
/// `workshops`.
pub fn open(
    machine: &Machine,
    journal: &Journal,
    workshops: &mut Vec<Workshop>,
) -> anyhow::Result<()> {
    let first = Workshop::make(machine, &TreePath::root())?;
    first.lock()?;
    let volumes = Journal {
        volumes: journal.volumes.clone(),
        steps: Vec::new(),
    };
    workshops.push(first);
    let first = at(workshops, 0)?;
    first.clear()?;
    write(&first.folder, VOLUMES, &volumes)?;
    first.flush()?;
    for top in journal.volumes.iter().skip(1) {
        let workshop = Workshop::make(machine, top)?;
        workshop.clear()?;
        workshops.push(workshop);
    }
    Ok(())
}

/// Writes everything that has to be there. Returns how many bytes of the image were read.
pub fn fill(
    machine: &Machine,
    image: &TreeImage,
    work: &Work,
    workshops: &[Workshop],
    threads: usize,
    reporter: &dyn Reporter,
) -> anyhow::Result<u64> {
    let mut changer = Changer::new(machine);
    for folder in &work.folders {
        let workshop = at(workshops, folder.volume)?;
        let making = || format!("making {}/{}", workshop.name(), folder.name);
        mkdirat(&workshop.folder, folder.name.as_str(), Mode::RWXU).with_context(making)?;
        let top = &work.journal.volumes[folder.volume];
        let path = top
            .join(WORKSHOP.as_bytes())?
            .join(folder.name.as_bytes())?;
        changer
            .set(&path, &Kind::Folder, &folder.attributes)
            .with_context(making)?;
    }
    changer.finish(reporter)?;
    let folders: Result<Vec<OwnedFd>, _> = workshops
        .iter()
        .map(|workshop| workshop.folder.try_clone())
        .collect();
    let folders = folders.context("keeping folders open")?;
    let name = machine.name();
    let open = |number: usize| {
        let path = work.files.get(&number)?;
        let opened = machine.open_path(path, OFlags::RDONLY | OFlags::NONBLOCK);
        opened.ok().map(File::from)
    };
    let here = Here {
        held: &work.held,
        open: &open,
    };
    let travelled = write_some(image, name, folders, &work.spots, &here, threads, reporter)?;
    for link in &work.links {
        let folder = &at(workshops, link.volume)?.folder;
        linkat(
            folder,
            link.from.as_str(),
            folder,
            link.to.as_str(),
            AtFlags::empty(),
        )
        .with_context(|| format!("linking {} to {}", link.to, link.from))?;
    }
    stage_record(machine, image, work, workshops)?;
    Ok(travelled)
}

/// The folder of the record is made now, and the record gets there last.
fn stage_record(
    machine: &Machine,
    image: &TreeImage,
    work: &Work,
    workshops: &[Workshop],
) -> anyhow::Result<()> {
    record::folder(machine)?;
    let folder = &at(workshops, work.record)?.folder;
    for ((name, _), bytes) in record::FILES.into_iter().zip(record::contents(image)?) {
        record::write_file(folder, name, &bytes)
            .with_context(|| format!("writing the record in {}", machine.name()))?;
    }
    Ok(())
}

fn at(workshops: &[Workshop], volume: usize) -> anyhow::Result<&Workshop> {
    workshops
        .get(volume)
        .ok_or_else(|| anyhow!("there is no volume {volume}"))
}

/// Everything is on the disks; then the journal is. From here on the update is decided.
pub fn decide(journal: &Journal, workshops: &[Workshop]) -> anyhow::Result<()> {
    for workshop in workshops {
        workshop.flush()?;
    }
    let first = at(workshops, 0)?;
    write(&first.folder, JOURNAL, journal)
}

fn write(folder: &OwnedFd, name: &str, journal: &Journal) -> anyhow::Result<()> {
    let writing = || format!("writing the {name} of the update");
    let part = format!("{name}.part");
    record::write_file(folder, &part, journal.to_text().as_bytes()).with_context(writing)?;
    renameat(folder, part.as_str(), folder, name).with_context(writing)?;
    rustix::fs::fsync(folder).with_context(writing)
}
