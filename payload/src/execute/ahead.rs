//! An image that another machine still makes: what is there of it goes to the disk while its job waits.
//!
//! Nothing of this decides anything. The restore that comes when the image is whole checks all that it ever checks, and what was
//! written ahead is right there or is written again. So whatever fails here is told, and the job goes on waiting. What has to hold
//! before the first write is all that is known by then: that this disk, and no other, gets this image, and is large enough.

use super::images::probe;
use super::restore::{USUAL_NAMES, hints};
use super::{Work, images};
use crate::plan::matching::{self, Stored};
use anyhow::{Context, bail, ensure};
use pitstop_imaging::event::{Event, Level, Reporter};
use pitstop_imaging::image::{MinimumDisk, Part, WritesAhead};
use pitstop_imaging::inventory::{Disk, DiskIdentity};
use pitstop_imaging::units;
use pitstop_protocol::event::Planned;
use pitstop_protocol::image_version::upload_of;
use pitstop_protocol::job::{Action, Distribute, Job};
use pitstop_protocol::share_url::ShareUrl;
use pitstop_transport::share::{Grown, Growth, Share};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Between two questions for what is not there yet, and how often it is looked whether it is enough.
const ASK: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);

/// A round that failed so often is left to the restore, and all after it.
const TRIES: u32 = 10;

/// Why the image of this job cannot be written before it is whole; `None` where nothing is against it.
fn why_not(job: &Job) -> Option<&'static str> {
    let Action::Restore(options) = &job.action else {
        return Some("only a restore writes an image");
    };
    if !matches!(job.share, Some(ShareUrl::Http(_))) {
        return Some(
            "its share is not reached over HTTP, and only pitstop serve says what is there of a file",
        );
    }
    let (transfer, terms) = (&job.transfer, &job.terms);
    if options.part != Part::Whole {
        return Some("which partitions of it are wanted, its end tells");
    }
    if options.grow || options.new_ids {
        return Some("whether it takes grow and new-ids, its end tells");
    }
    if transfer.rate_limit.is_some() || !transfer.mirrors.is_empty() {
        return Some("a job with rate-limit or mirrors takes it when it is whole");
    }
    if terms.id.is_some() || terms.round.is_some() || !terms.digests.is_empty() {
        return Some("a signed job names its digest");
    }
    if !matches!(terms.images.keys(), Ok(None)) {
        return Some("its signature comes when it is whole");
    }
    if !job.image_named {
        return Some("whose it is, its end tells");
    }
    None
}

/// The disk that gets the image which `grows`.
///
/// # Errors
/// Why nothing can be written before that is whole.
pub fn disk(work: &mut Work<'_>, grows: &Planned) -> anyhow::Result<Disk> {
    if let Some(why) = why_not(work.job) {
        bail!(why);
    }
    let folder = format!("{}/", work.job.image);
    let file = grows.image.strip_prefix(&folder);
    let file = file.filter(|file| !file.contains('/'));
    let file = file.context("it is in another folder than this job's")?;
    let (inventory, selection) = work.select(true)?;
    let [disk] = &selection.disks[..] else {
        let found = selection.disks.len();
        bail!("this job is about {found} disks, and one is being backed up");
    };
    ensure!(
        disk.identity.size >= grows.size,
        "{disk} is smaller than the disk that is being backed up: what of it has to fit, the end of the image tells"
    );
    ensure!(
        disk.identity.logical_sector_size == grows.sector,
        "{disk} has sectors of {} bytes, the disk that is being backed up has others",
        disk.identity.logical_sector_size
    );
    // It will be matched among all images that are there.
    let own = inventory.disks.iter().map(|disk| &disk.identity.device);
    let own = own.map(String::as_str);
    let names: Vec<&str> = own
        .filter(|name| !USUAL_NAMES.contains(name))
        .chain(USUAL_NAMES)
        .collect();
    let mut stored: Vec<Stored> = probe(work, &names)?
        .into_iter()
        .map(|found: images::Found| found.stored)
        .filter(|stored| stored.file != file)
        .collect();
    stored.insert(0, of(grows, file));
    let hints = hints(work, &selection.disks, &inventory);
    let all = &inventory.disks;
    let matches = matching::match_images(&selection.disks, all, &stored, &hints)?;
    if work.job.disks.is_empty() {
        matching::check_none_missing(&matches, all, &stored, &hints.gone)?;
    }
    ensure!(
        matches.iter().all(|found| found.image == 0),
        "{disk} gets another image of that folder"
    );
    Ok(disk.clone())
}

/// What is known of the image already.
fn of(grows: &Planned, file: &str) -> Stored {
    Stored {
        file: file.to_owned(),
        stem: grows.disk.clone(),
        of: Some(DiskIdentity {
            device: grows.disk.clone(),
            model: grows.model.clone(),
            serial: grows.serial.clone(),
            wwn: String::new(),
            transport: String::new(),
            size: grows.size,
            logical_sector_size: grows.sector,
            physical_sector_size: grows.sector,
        }),
        table: String::new(),
        raw_size: Some(grows.size),
        minimum_disk: Some(MinimumDisk::of(grows.size)),
        indexed: true,
    }
}

/// Where an image grows, and what is written of it.
pub struct Follow<'a> {
    pub share: &'a dyn Share,
    pub grows: &'a Planned,
    pub distribute: Distribute,
    pub ahead: &'a WritesAhead,
    pub log: &'a dyn Reporter,
    pub stop: &'a AtomicBool,
}

impl Follow<'_> {
    /// Writes what is there and what comes, until it is told to stop or cannot go on.
    pub fn run(&self) {
        if let Err(error) = self.go_on() {
            self.log.warn(format!(
                "{}: the rest of it is written when it is whole: {error:#}",
                self.grows.image
            ));
        }
    }

    /// Whoever comes late begins with what came last, as others do just then: what was before that all who lack it get from each
    /// other in the end.
    fn go_on(&self) -> anyhow::Result<()> {
        let (mut next, mut failed) = (None, 0);
        while !self.stopped() {
            let outcome = self.round(next);
            match outcome {
                Ok(Look::Written(number)) => {
                    failed = 0;
                    next = Some(number + 1);
                    continue;
                }
                Ok(Look::Awaited { there }) => {
                    // The upload has begun anew, or a server that has finds its rounds again.
                    let is_anew = there.is_some_and(|there| next.is_some_and(|next| there < next));
                    next = next.filter(|_| !is_anew);
                }
                Err(error) => {
                    failed += 1;
                    if failed >= TRIES {
                        return Err(error);
                    }
                    self.log.debug(format!("{}: {error:#}", self.grows.image));
                }
            }
            self.pause();
        }
        Ok(())
    }

    /// Writes a round, where it is there: by its number, or the last.
    fn round(&self, number: Option<u64>) -> anyhow::Result<Look> {
        let path = upload_of(&self.grows.image);
        let Grown {
            number,
            round,
            image,
        } = match self.share.growing(&path, number)? {
            Growth::Round(grown) => grown,
            Growth::Awaited { there } => return Ok(Look::Awaited { there }),
        };
        if self.ahead.has(&round) {
            return Ok(Look::Written(number));
        }
        let quiet = Quiet(self.log);
        let offer = || self.share.relay(&path);
        let node =
            pitstop_relay::join_by_digest(self.distribute, &path, round.digest(), offer, &quiet)?;
        let feed = node
            .as_ref()
            .map(|node| node as &dyn pitstop_imaging::image::Feed);
        self.ahead.take(&round, &*image, feed, self.stop)?;
        self.log.info(format!(
            "{}: {} of it are on this machine's disk",
            self.grows.image,
            units::bytes(self.ahead.written())
        ));
        Ok(Look::Written(number))
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn pause(&self) {
        // Machines that wait for the same round do not ask together.
        let end = Instant::now() + ASK.mul_f64(fastrand::f64().mul_add(0.5, 0.5));
        while !self.stopped() && Instant::now() < end {
            thread::sleep(LOOK);
        }
    }
}

/// What came of a look for a round.
enum Look {
    /// All of this one is on the disk.
    Written(u64),
    /// It is not there yet.
    Awaited {
        /// How many are, where that is told.
        there: Option<u64>,
    },
}

/// Passes on what is wrong: a round is too little for a line of its own about who has it.
struct Quiet<'a>(&'a dyn Reporter);

impl Reporter for Quiet<'_> {
    fn event(&self, event: &Event) {
        if let Event::Message { level, .. } = event
            && !matches!(level, Level::Debug | Level::Info)
        {
            self.0.event(event);
        }
    }
}
