//! `restore`: images onto disks. Every image is found, opened and checked against its disk before the
//! first byte of any disk is written.

use super::images::{Found, Images, open_where, probe};
use super::{Labelled, Prepared, Work, entries, owner};
use crate::plan::matching::{self, Hints, Match, Stored, same_disk};
use crate::plan::select::named_by_name;
use crate::plan::{Plan, Restore};
use anyhow::{Context, bail};
use pitstop_imaging::event::{Act, Reporter};
use pitstop_imaging::image::encrypted::is_named_encrypted;
use pitstop_imaging::image::{self, Growth, ImageMeta, Part, PreparedRestore, RestoreOptions};
use pitstop_imaging::inventory::{Disk, DiskIdentity, Inventory};
use pitstop_imaging::source;
use pitstop_imaging::table;
use pitstop_imaging::units;
use pitstop_protocol::digest::Digest;
use pitstop_protocol::job::{self, Distribute};
use pitstop_transport::share::signed;
use std::fs::File;

/// Names that images of other machines, or of this one before its disks moved, may have.
pub(super) const USUAL_NAMES: [&str; 18] = [
    "sda", "sdb", "sdc", "sdd", "sde", "sdf", "sdg", "sdh", "nvme0n1", "nvme1n1", "nvme2n1",
    "nvme3n1", "vda", "vdb", "vdc", "vdd", "mmcblk0", "mmcblk1",
];

pub(super) fn plan(work: &mut Work<'_>, options: &job::RestoreOptions) -> anyhow::Result<Prepared> {
    let (inventory, selection) = work.select(true)?;
    let (matches, found) = find(work, &selection.disks, &inventory)?;
    let is_needed = |number| matches.iter().any(|it| it.image == number);
    let found = open_where(found, is_needed, work.log)?;
    check_one_disk(&options.part, &matches)?;
    for found in matches.iter().filter_map(|it| found.get(it.image)) {
        distribute(work, &found.stored.file)?;
    }
    check_digests(work, &matches, &found)?;
    owner::check_restores(work, &inventory, &matches, &found)?;
    let mut plan = Plan::restore(
        work.heading(),
        matches,
        &stored(&found),
        selection.left_alone,
    )
    .of_part(&options.part);
    let images = Images::for_plan(&plan, found);
    if options.grow {
        plan = plan.growing(|restore| growth(&images, restore))?;
    }
    Ok(Prepared {
        plan,
        images,
        tree: None,
        ahead: None,
        done: false,
    })
}

/// The images that were opened, and no other reading of them, are those that the job was made for.
fn check_digests(work: &Work<'_>, matches: &[Match], found: &[Found]) -> anyhow::Result<()> {
    for found in matches.iter().filter_map(|it| found.get(it.image)) {
        let digest = found.opened()?.digest().map(Digest::from);
        // Of signed images too: whoever owns the share could put an older one there, as sda.gz where sda.raw.gz is named.
        let checked = work.job.terms.check_digest(&found.stored.file, digest);
        checked
            .map_err(anyhow::Error::msg)
            .with_context(|| place(work))?;
        check_signature(work, found)?;
    }
    Ok(())
}

/// Where images have to be signed: what is signed is what this image holds.
fn check_signature(work: &Work<'_>, found: &Found) -> anyhow::Result<()> {
    let Some(keys) = work.job.terms.images.keys()? else {
        return Ok(());
    };
    let about = format!("{}.toml", work.image_path(&found.stored.file));
    let text = signed::text(work.share, &about, keys, work.log)?;
    let meta = ImageMeta::from_toml(&text).with_context(|| about.clone())?;
    found.opened()?.check_is_of(&meta).with_context(|| about)
}

/// What grows on the disk of `restore`.
fn growth(images: &Images, restore: &Restore) -> anyhow::Result<Option<Growth>> {
    let DiskIdentity {
        size,
        logical_sector_size,
        ..
    } = restore.disk.identity;
    image::growth(images.of(restore)?, size, logical_sector_size)
        .with_context(|| format!("restoring {}", restore.disk))
}

/// Partitions are those of one disk: of several, a number would mean one on each.
fn check_one_disk(part: &Part, matches: &[Match]) -> anyhow::Result<()> {
    let key = match part {
        Part::Keep(_) => "keep",
        Part::Only(_) => "partitions",
        Part::Whole => return Ok(()),
    };
    if matches.len() > 1 {
        let disks: Vec<String> = matches.iter().map(|found| found.disk.to_string()).collect();
        bail!(
            "{key} names partitions of one disk, this job is about {}: name one in disks",
            disks.join(", ")
        );
    }
    Ok(())
}

/// Looks under the names of the machine's disks, and wider only where that leaves a doubt: a share
/// cannot list its files, and each name costs a request.
fn find(
    work: &Work<'_>,
    disks: &[Disk],
    inventory: &Inventory,
) -> anyhow::Result<(Vec<Match>, Vec<Found>)> {
    let all = &inventory.disks;
    let hints = hints(work, disks, inventory);
    let mut own: Vec<&str> = all
        .iter()
        .chain(inventory.paths.iter().map(|(path, _)| path))
        .map(|disk| disk.identity.device.as_str())
        .collect();
    for gone in &hints.gone {
        if !own.contains(&gone.device.as_str()) {
            own.push(&gone.device);
        }
    }
    let mut found = probe(work, &own)?;
    let first = matching::match_images(disks, all, &stored(&found), &hints);
    let settled = first
        .as_ref()
        .is_ok_and(|matches| matching::is_settled(matches, &stored(&found)));
    let matches = if settled {
        first?
    } else {
        let wider: Vec<&str> = USUAL_NAMES
            .into_iter()
            .filter(|name| !own.contains(name))
            .collect();
        found.extend(probe(work, &wider)?);
        matching::match_images(disks, all, &stored(&found), &hints).with_context(|| place(work))?
    };
    // A job that names disks means these and no other.
    if work.job.disks.is_empty() {
        matching::check_none_missing(&matches, all, &stored(&found), &hints.gone)
            .with_context(|| place(work))?;
    }
    Ok((matches, found))
}

fn place(work: &Work<'_>) -> String {
    format!("folder {} on {}", work.job.image, work.share.name())
}

/// What helps to tell disks apart. They are read only where two say the same of themselves, or nothing.
pub(super) fn hints(work: &Work<'_>, disks: &[Disk], inventory: &Inventory) -> Hints {
    let all = &inventory.disks;
    let alike = |one: &Disk, other: &Disk| {
        let (one, other) = (&one.identity, &other.identity);
        let both_nameless = one.is_nameless() && other.is_nameless();
        one.device != other.device && (both_nameless || same_disk(one, other).is_some())
    };
    let with_twin = all
        .iter()
        .filter(|disk| all.iter().any(|other| alike(disk, other)));
    Hints {
        tables: with_twin
            .map(|disk| (disk.identity.device.clone(), table_on(work, disk)))
            .collect(),
        named: named_by_name(disks, &work.job.disks),
        gone: work.watch.missing(inventory),
    }
}

/// The identifier of the table on a disk; empty where there is none to be read.
fn table_on(work: &Work<'_>, disk: &Disk) -> String {
    let Ok(mut file) = File::open(disk.node(&work.machine.dev)) else {
        return String::new();
    };
    let whole = source::Disk::new(&mut file, disk.identity.size);
    table::read(&whole, disk.identity.logical_sector_size)
        .map(|table| table.id)
        .unwrap_or_default()
}

fn stored(found: &[Found]) -> Vec<Stored> {
    found.iter().map(|found| found.stored.clone()).collect()
}

/// Whether other machines may have the image in `file` from this one. What is in an encrypted one is for who has its key.
///
/// # Errors
/// It is encrypted, and the job wants others to have it.
pub(super) fn distribute(work: &Work<'_>, file: &str) -> anyhow::Result<Distribute> {
    let how = work.job.transfer.distribute;
    if !is_named_encrypted(file) {
        return Ok(how);
    }
    if how == Distribute::Swarm {
        bail!(
            "{file} is encrypted, and distribute = \"swarm\" would hand what is in it to other machines: set \
             distribute = \"off\", or use a plain image"
        );
    }
    Ok(Distribute::Off)
}

/// What the job asks of each restore.
pub(super) fn asked(job: &job::RestoreOptions) -> RestoreOptions {
    RestoreOptions {
        part: job.part.clone(),
        delta: job.delta,
        verify: job.verify,
        new_ids: job.new_ids,
        grow: job.grow,
        threads: 0,
        ahead: None,
    }
}

pub(super) fn run(
    work: &Work<'_>,
    restores: &[Restore],
    Prepared { images, ahead, .. }: &Prepared,
    options: &job::RestoreOptions,
    begins: &dyn Fn(),
) -> anyhow::Result<()> {
    let options = asked(options);
    // Whatever is wrong with one of them would else be found when those before it are written.
    let mut prepared = Vec::new();
    for (number, restore) in (1..).zip(restores) {
        let image = images.of(restore)?;
        let disk = &restore.disk;
        let node = disk.node(&work.machine.dev);
        let reporter = Labelled::new(work.log, Act::Restore, number, disk);
        let what = || format!("restoring {disk} from {}", image.name());
        let options = RestoreOptions {
            ahead: ahead.clone().filter(|ahead| ahead.is_of(&node)),
            ..options.clone()
        };
        let ready = PreparedRestore::new(image, &node, &options, &reporter);
        let path = work.image_path(&restore.image.file);
        let how = distribute(work, &restore.image.file)?;
        let node = pitstop_relay::join(how, image, || work.share.relay(&path), work.log);
        prepared.push((number, restore, image, ready.with_context(what)?, node?));
    }
    for (number, restore, image, ready, node) in prepared {
        let disk = &restore.disk;
        let reporter = Labelled::new(work.log, Act::Restore, number, disk);
        let node_of = disk.node(&work.machine.dev);
        if ahead.as_ref().is_none_or(|ahead| ahead.is_of(&node_of)) {
            begins();
        }
        reporter.begins();
        let done = match &node {
            Some(node) => ready.run_fed(node, &reporter),
            None => ready.run(&reporter),
        };
        let done = done.with_context(|| format!("restoring {disk} from {}", image.name()))?;
        reporter.is_done();
        reporter.info(format!(
            "{}: {} written, {} zeroed, {} right already, {} read from the image",
            disk.identity.device,
            units::bytes(done.written),
            units::bytes(done.zeroed),
            units::bytes(done.unchanged),
            units::bytes(done.transferred)
        ));
        if let Some(shares) = image::shares_of(&image.places()) {
            reporter.info(format!("{}: {shares}", disk.identity.device));
        }
        if let Some(meta) = &done.meta {
            entries::make(work, disk, &meta.loaders, &reporter);
        }
    }
    Ok(())
}
