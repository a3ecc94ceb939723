//! Some entries of an image, each at a place of its own: only the members that hold them are read.

use super::attributes::Losses;
use super::folder::{Folder, Places, Target, is_fat};
use super::held::{self, Held};
use super::member::{LargeFiles, Writer};
use crate::entry::{Entry, Kind};
use crate::image::TreeImage;
use crate::index::Index;
use anyhow::{Context, bail};
use pitstop_imaging::event::{Act, Reporter};
use pitstop_imaging::image::members::{Inflater, Meter, WorkerPool, lock};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

/// Members that follow each other are asked for together, up to so many bytes.
const RUN: u64 = 4 << 20;

/// Where an entry is made: in which of the folders, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    pub folder: usize,
    pub name: Vec<u8>,
}

struct Spots<'a> {
    folders: &'a [Folder],
    spots: &'a BTreeMap<usize, Spot>,
}

impl Places for &Spots<'_> {
    fn wants(&self, number: usize) -> bool {
        self.spots.contains_key(&number)
    }

    fn of<'a>(
        &'a mut self,
        number: usize,
        entry: &'a Entry,
    ) -> anyhow::Result<(&'a Folder, &'a [u8])> {
        let spot = self.spots.get(&number);
        let spot = spot.with_context(|| format!("{} has no place", entry.path))?;
        let folder = self.folders.get(spot.folder);
        let folder = folder.with_context(|| format!("the folder of {}", entry.path))?;
        Ok((folder, &spot.name))
    }
}

/// What the machine has of the image, and its files by the numbers of entries.
pub struct Here<'a> {
    pub held: &'a Held,
    pub open: &'a (dyn Fn(usize) -> Option<File> + Sync),
}

/// Makes the entries with the numbers of `spots` (files, symlinks, devices and FIFOs) in `folders`, with all attributes but
/// the flags that would hinder a rename. `name` stands for the folders in messages. Returns how many bytes of the image were
/// read: parts that are `here` are not, unless they turn out to be something else.
///
/// # Errors
/// When they cannot be read or written, or an attribute cannot be kept there.
pub fn write_some(
    image: &TreeImage,
    name: &str,
    folders: Vec<OwnedFd>,
    spots: &BTreeMap<usize, Spot>,
    here: &Here,
    threads: usize,
    reporter: &dyn Reporter,
) -> anyhow::Result<u64> {
    let mut opened = Vec::with_capacity(folders.len());
    for fd in folders {
        let is_fat = is_fat(&fd).with_context(|| format!("looking at {name}"))?;
        opened.push(Folder {
            path: Vec::new(),
            fd,
            is_fat,
        });
    }
    let Some(first) = opened.first() else {
        return Ok(0);
    };
    let root = first.fd.try_clone().context("keeping a folder open")?;
    let target = Target::at(name.to_owned(), root);
    let index = &image.index;
    let mut needed = needed(index, spots.keys().copied())?;
    let total = needed.iter().map(|number| size(index, *number)).sum();
    let meter = Meter::new(Act::Extract, name, Some(total), reporter);
    for number in here.held.members() {
        needed.remove(&number);
    }
    let pool = WorkerPool::new(threads, usize::try_from(2 * RUN)?);
    let (losses, large) = (Losses::default(), LargeFiles::default());
    let places = Spots {
        folders: &opened,
        spots,
    };
    let next = Mutex::new(here.held.files());
    let needed = Mutex::new(needed);
    pool.run(|| {
        let mut raw = Vec::new();
        let mut writer = Writer::new(image, &target, &large, &losses, &places);
        while !pool.stopped() {
            let Some((entry, parts)) = lock(&next).next() else {
                break;
            };
            let file = (here.open)(entry);
            for part in parts {
                let is_there = |file: &File| held::read(index, entry, *part, file, &mut raw);
                if file.as_ref().is_some_and(is_there) {
                    writer.write(*part, &raw)?;
                    meter.done(size(index, *part));
                } else {
                    lock(&needed).insert(*part);
                }
            }
        }
        Ok(())
    })?;
    let runs = runs(index, &lock(&needed));
    let next = Mutex::new(runs.into_iter());
    pool.run(|| {
        let mut inflater = Inflater::new()?;
        let (mut packed, mut raw) = (Vec::new(), Vec::new());
        let mut writer = Writer::new(image, &target, &large, &losses, &places);
        while !pool.stopped() {
            let Some(run) = lock(&next).next() else {
                break;
            };
            image.read_packed(run.clone(), &mut packed)?;
            for number in run.clone() {
                let member = image.member_of(&packed, run.start, number)?;
                let permit = pool.cpu_permit();
                image.prove(number, member, &mut inflater, &mut raw)?;
                drop(permit);
                writer.write(number, &raw)?;
            }
            meter.moved(packed.len() as u64);
            meter.done(packed.len() as u64);
        }
        Ok(())
    })?;
    losses.tell(name, reporter)?;
    Ok(meter.transferred())
}

fn size(index: &Index, member: usize) -> u64 {
    u64::from(index.members()[member].size)
}

/// Those of the members that follow each other together.
fn runs(index: &Index, members: &BTreeSet<usize>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let size = |run: &Range<usize>| index.offset(run.end) - index.offset(run.start);
    for number in members {
        match runs.last_mut() {
            Some(last) if last.end == *number && size(last) < RUN => last.end += 1,
            _ => runs.push(*number..number + 1),
        }
    }
    runs
}

fn needed(index: &Index, entries: impl Iterator<Item = usize>) -> anyhow::Result<BTreeSet<usize>> {
    let mut members = BTreeSet::new();
    for number in entries {
        let entry = &index.placed()[number].entry;
        if matches!(entry.kind, Kind::Folder | Kind::HardLink(_)) {
            bail!("{} has no data of its own in the image", entry.path);
        }
        let whole = index.header_range(number).start..index.data_range(number).end;
        members.extend(index.members_in(&whole));
    }
    Ok(members)
}

/// How many bytes of the image hold the entries with these numbers, but for what is `held` already.
///
/// # Errors
/// When one of them is a folder or a hard link.
pub fn weigh(
    index: &Index,
    entries: impl Iterator<Item = usize>,
    held: &Held,
) -> anyhow::Result<u64> {
    let mut members = needed(index, entries)?;
    for number in held.members() {
        members.remove(&number);
    }
    Ok(members.iter().map(|number| size(index, *number)).sum())
}
