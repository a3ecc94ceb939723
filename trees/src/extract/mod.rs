//! An image becomes files again: folders, then the data of all members by every core, each proven before anything of it is
//! written, then hard links, flags, and the folders' own attributes at the very end.
//!
//! Nothing is ever followed: every path is opened beneath the target, without symlinks, and every file is a new one. So an
//! image, however hostile, has no way out of the target.

pub mod attributes;
mod fed;
pub mod folder;
mod held;
mod member;
mod room;
mod some;

pub use folder::pass_nothing_on;
pub use held::Held;
pub use member::pieces;
pub use room::NoRoom;
pub use some::{Here, Spot, weigh, write_some};

use crate::entry::Kind;
use crate::image::TreeImage;
use anyhow::{Context, bail};
use attributes::Losses;
use fed::FedTree;
use folder::{Folders, Target};
use pitstop_imaging::event::{Act, Reporter};
use pitstop_imaging::image::Feed;
use pitstop_imaging::image::members::{Inflater, Meter, WorkerPool, lock};
use pitstop_imaging::interrupt;
use rustix::fs::OFlags;
use std::path::Path;
use std::sync::Mutex;

/// Makes the tree of `image` in the folder `to`, on `threads` cores, 0 for all. The folder is made where it is not there, and
/// must be empty; other filesystems may be mounted in it.
///
/// # Errors
/// When it cannot be done as root, the folder is not empty or has no room, the image is damaged, or an attribute cannot be
/// kept there. What was written until then stays, for people to look at.
pub fn extract(
    image: &TreeImage,
    to: &Path,
    threads: usize,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    extract_fed(image, to, threads, None, reporter)
}

/// The same with members that `feed` brings, where there is one. It ends when `feed` has nobody left to serve: until then the
/// files are as they are in the image.
///
/// # Errors
/// As of [`extract`], and those of `feed`.
pub fn extract_fed(
    image: &TreeImage,
    to: &Path,
    threads: usize,
    feed: Option<&dyn Feed>,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("unpacking a tree needs root: files get their owners, and devices are made");
    }
    let target = Target::prepare(to)?;
    room::check(image, &target)?;
    make_folders(image, &target)?;
    let losses = Losses::default();
    let mut rest = || finish(image, &target, &losses);
    if let Some(feed) = feed {
        FedTree::new(image, &target, threads, &losses, reporter)?.run(feed, &mut rest)?;
    } else {
        write_members(image, &target, threads, &losses, reporter)?;
        rest()?;
    }
    losses.tell(&target.name, reporter)
}

/// What can be done when all data is there; all of it flushed.
fn finish(image: &TreeImage, target: &Target, losses: &Losses) -> anyhow::Result<()> {
    link(image, target)?;
    late_flags(image, target, losses)?;
    finish_folders(image, target, losses)?;
    let mounted = target.mounts.iter().map(|(_, folder)| folder);
    for folder in mounted.chain([&target.root]) {
        rustix::fs::syncfs(folder).with_context(|| format!("flushing {}", target.name))?;
    }
    Ok(())
}

fn meter<'a>(image: &TreeImage, target: &Target, reporter: &'a dyn Reporter) -> Meter<'a> {
    let total = image.index.raw_size();
    Meter::new(Act::Extract, &target.name, Some(total), reporter)
}

fn make_folders(image: &TreeImage, target: &Target) -> anyhow::Result<()> {
    let mut folders = Folders::new(target);
    for entry in image.index.entries() {
        if entry.kind == Kind::Folder && !entry.path.is_root() {
            let folder = folders.of(&entry.path)?;
            folder
                .make(entry.path.name())
                .with_context(|| format!("making the folder {}", target.shown(&entry.path)))?;
        }
    }
    Ok(())
}

fn write_members(
    image: &TreeImage,
    target: &Target,
    threads: usize,
    losses: &Losses,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let meter = meter(image, target, reporter);
    let pool = WorkerPool::new(threads, usize::try_from(image.memory())?);
    // The last member is the end of the tar, and has no entry.
    let feed = Mutex::new(image.feed());
    let large = member::LargeFiles::default();
    pool.run(|| {
        let mut inflater = Inflater::new()?;
        let (mut packed, mut raw) = (Vec::new(), Vec::new());
        let mut writer = member::Writer::new(image, target, &large, losses, Folders::new(target));
        while !pool.stopped() {
            interrupt::check()?;
            let run = lock(&feed).next(&mut packed)?;
            if run.is_empty() {
                break;
            }
            for number in run.clone() {
                let member = image.member_of(&packed, run.start, number)?;
                let permit = pool.cpu_permit();
                image.prove(number, member, &mut inflater, &mut raw)?;
                drop(permit);
                writer.write(number, &raw)?;
                meter.moved(member.len() as u64);
                meter.done(raw.len() as u64);
            }
        }
        Ok(())
    })
}

fn link(image: &TreeImage, target: &Target) -> anyhow::Result<()> {
    let (mut folders, mut others) = (Folders::new(target), Folders::new(target));
    for entry in image.index.entries() {
        let Kind::HardLink(to) = &entry.kind else {
            continue;
        };
        let folder = folders.of(&entry.path)?;
        let other = others.of(to)?;
        let linking = || format!("linking {} to {to}", target.shown(&entry.path));
        if folder.is_fat {
            bail!("{}: FAT has no hard links", linking());
        }
        let flags = rustix::fs::AtFlags::empty();
        rustix::fs::linkat(&other.fd, to.name(), &folder.fd, entry.path.name(), flags)
            .with_context(linking)?;
    }
    Ok(())
}

/// Flags of files, once nothing is written or linked any more: an immutable file takes no further name.
fn late_flags(image: &TreeImage, target: &Target, losses: &Losses) -> anyhow::Result<()> {
    for entry in image.index.entries() {
        let flags = entry.attributes.flags;
        if flags.is_empty() || !matches!(entry.kind, Kind::File { .. }) {
            continue;
        }
        let name = target.shown(&entry.path);
        let opened = target
            .open(&entry.path, OFlags::RDONLY | OFlags::NONBLOCK)
            .with_context(|| format!("opening {name}"))?;
        attributes::set_flags(&opened, flags, &name, losses)?;
    }
    Ok(())
}

/// From the innermost outwards, so that nothing changes a folder's time after it is set.
fn finish_folders(image: &TreeImage, target: &Target, losses: &Losses) -> anyhow::Result<()> {
    for entry in image.index.entries().collect::<Vec<_>>().into_iter().rev() {
        if entry.kind != Kind::Folder {
            continue;
        }
        let name = target.shown(&entry.path);
        let folder = target
            .open(&entry.path, OFlags::RDONLY | OFlags::DIRECTORY)
            .with_context(|| format!("opening the folder {name}"))?;
        let is_fat = folder::is_fat(&folder).with_context(|| format!("looking at {name}"))?;
        attributes::set_open(&folder, &entry.attributes, is_fat, &name, losses)?;
        attributes::set_flags(&folder, entry.attributes.flags, &name, losses)?;
    }
    Ok(())
}
