//! `serve --recompress`: while nobody wants anything of the server, images that are restored often are compressed again, as small as can be.
//!
//! A backup compresses as hard as its disk and its line leave time for. What is restored often is worth more, once: behind a slow
//! line the size of an image is the time of every restore. One core does it, and gives up when a machine comes.

use crate::by_digest;
use crate::file::Facts;
use crate::path::RelPath;
use crate::refusal::Refusal;
use crate::site::{Site, Sites};
use crate::upload::{check_space, sync_folder};
use crate::verifier::{modified, name};
use crate::view::images;
use crate::write::{give_to_owner_of, make_folder, replace};
use anyhow::{Context, anyhow, bail};
use cap_std::fs::File;
use cap_tempfile::TempFile;
use jiff::Timestamp;
use pitstop_api::{Change, Event, Image, ImageChange};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{FileSource, ImageSource, Level, to_indexed, verify};
use pitstop_imaging::source::ReadAt;
use pitstop_imaging::units;
use pitstop_jobs::{Job, State};
use pitstop_protocol::job::ActionName;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

/// Below the root: a file for each image that is as small as it gets.
const FOLDER: &str = "recompressed";
/// What is compressed again: an image of a disk with an index. A tree's versions are captured once, and mostly updated.
const END: &str = ".raw.gz";
/// An image that was restored so often since it was made is restored often.
const OFTEN: usize = 2;
/// A new image that is not smaller by a fiftieth is not worth another file.
const WORTH: u64 = 50;
/// Machines at work come first.
const THREADS: usize = 1;
/// How often it is looked for something to do.
const LOOK: Duration = Duration::from_secs(30);

#[derive(clap::Args)]
#[group(skip)]
pub struct Options {
    /// Compress images that are restored often again, as small as can be, when no machine was at work for TIME
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        default_missing_value = "10m",
        value_parser = units::parse_duration,
        conflicts_with = "share"
    )]
    recompress: Option<Duration>,
}

impl Options {
    /// Begins to look for images, where that is wanted.
    pub fn start(&self, sites: &Arc<Sites>) {
        if let Some(quiet) = self.recompress {
            tokio::spawn(watch(Arc::clone(sites), quiet));
        }
    }
}

/// As written: what was tried with an image, which counts for this very file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Tried {
    image: String,
    size: u64,
    modified: Option<Timestamp>,
    at: Timestamp,
    /// Bytes of the image before.
    before: u64,
}

async fn watch(sites: Arc<Sites>, quiet: Duration) {
    let mut told = None;
    loop {
        tokio::time::sleep(LOOK.min(quiet)).await;
        let here = Arc::clone(&sites);
        let done = tokio::task::spawn_blocking(move || {
            let idle = Idle { sites: here, quiet };
            idle.next_one()
        });
        let wrong = match done.await {
            Ok(done) => done.err().map(|error| format!("{error:#}")),
            Err(error) => Some(error.to_string()),
        };
        if let Some(wrong) = wrong.as_ref().filter(|_| told != wrong) {
            sites.journal.note(&format!("compressing again: {wrong}"));
        }
        told = wrong;
    }
}

/// The time in which nobody wants anything.
#[derive(Clone)]
struct Idle {
    sites: Arc<Sites>,
    quiet: Duration,
}

impl Idle {
    fn is_now(&self) -> bool {
        let is_working = |job: &Job| job.may_be_at_work() || job.state == State::Queued;
        // Where jobs cannot be read, one may be at work.
        let found = self.sites.jobs.found();
        self.sites.metrics.share_unused_for() >= self.quiet
            && found.is_ok_and(|found| !found.jobs.iter().any(is_working))
    }

    fn next_one(&self) -> anyhow::Result<()> {
        if !self.is_now() {
            return Ok(());
        }
        let site = self.sites.now()?;
        let told = |refusal: Refusal| anyhow!(refusal.reason);
        let mut images = images(&site).map_err(told)?;
        images.sort_by_key(|image| std::cmp::Reverse(restores(image)));
        for image in images.iter().filter(|image| is_wanted(image)) {
            let path =
                RelPath::from_text(&image.path).map_err(|why| anyhow!("{}: {why}", image.path))?;
            let facts = site.facts(&path).map_err(told)?;
            if is_tried(&site, image, &facts) {
                continue;
            }
            let outcome = match self.is_named(&site, image, &facts) {
                Ok(true) => continue,
                Ok(false) => self.make_small(&site, image, &path, &facts),
                Err(error) => Err(error),
            };
            if outcome.is_err() {
                // It would fail again in half a minute, and others wait behind it.
                note(&site, &path, &facts, facts.length)?;
            }
            return outcome.with_context(|| image.path.clone());
        }
        Ok(())
    }

    /// Whether a job that is not at its end asks for this very file: a new one would be refused.
    fn is_named(&self, site: &Site, image: &Image, file: &Facts) -> anyhow::Result<bool> {
        let digest = by_digest::read(site, &image.path, file.length);
        let digest = digest.map_err(|refusal| anyhow!(refusal.reason))?;
        let Some(digest) = digest else {
            bail!("{}: it has no index that could be read", image.path);
        };
        let digest = digest.to_hex();
        let found = self.sites.jobs.found()?;
        let asks = |job: &Job| !job.state.is_over() && job.text.contains(digest.as_str());
        Ok(found.jobs.iter().any(asks))
    }

    /// The new image takes the old one's place when every chunk of it was read back, and nobody has changed the old one.
    fn make_small(
        &self,
        site: &Site,
        image: &Image,
        path: &RelPath,
        facts: &Facts,
    ) -> anyhow::Result<()> {
        let told = |refusal: Refusal| anyhow!(refusal.reason);
        let (parent, file_name) = path.split().context("it has no name")?;
        let folder = site.share.open_dir(parent.as_path())?;
        let mut file = TempFile::new(&folder)?;
        check_space(file.as_file(), facts.length, path).map_err(told)?;
        let old = site.image(path.as_str())?;
        let idle = self.clone();
        let is_idle: IsIdle = Arc::new(move || idle.is_now());
        let mut out = WhileIdle {
            inner: file.as_file_mut(),
            is_idle: Arc::clone(&is_idle),
        };
        let made = to_indexed(&*old, Level::Small, THREADS, &mut out, &Silent);
        if !self.is_now() {
            return Ok(());
        }
        if Some(made?.blake3) != image.blake3 {
            bail!("it is of another disk than the .toml beside it says");
        }
        let length = file.as_file().metadata()?.len();
        if length > facts.length - facts.length / WORTH {
            return note(site, path, facts, facts.length);
        }
        let made = file.as_file().try_clone()?.into_std();
        let made = WhileIdle {
            inner: FileSource::of(format!("the new {path}"), made)?,
            is_idle,
        };
        let proven = verify(&made, THREADS, &Silent);
        if !self.is_now() {
            return Ok(());
        }
        proven?;
        give_to_owner_of(&folder, file.as_file())?;
        let rights = folder.metadata(file_name)?.permissions();
        file.as_file().set_permissions(rights)?;
        file.as_file().sync_all()?;
        let now = Facts::of(&file.as_file().metadata()?);
        {
            let _one_at_a_time = site.locks.one(path);
            let is_same = site.facts(path).map_err(told)?.tag == facts.tag;
            // It took long: a job may have been set meanwhile that asks for this very file.
            if !is_same || !self.is_now() || self.is_named(site, image, facts)? {
                return Ok(());
            }
            file.replace(file_name)?;
        }
        sync_folder(&folder)?;
        note(site, path, &now, facts.length)?;
        site.journal.note(&format!(
            "{path} is restored often: it was compressed again, from {} to {}",
            units::bytes(facts.length),
            units::bytes(length)
        ));
        site.events.tell(&Event::Image(ImageChange {
            path: path.as_str().to_owned(),
            change: Change::Written,
        }));
        Ok(())
    }
}

/// How often it was restored since it was made.
fn restores(image: &Image) -> usize {
    let is_one = |action: &str| action == ActionName::Restore.as_str();
    let since = |ended: Option<Timestamp>| ended >= image.modified;
    let used = image.used_by.iter();
    used.filter(|used| is_one(&used.action) && since(used.ended))
        .count()
}

fn is_wanted(image: &Image) -> bool {
    let is_ours = image.blake3.is_some() && image.wrong.is_none();
    is_ours && !image.old && image.path.ends_with(END) && restores(image) >= OFTEN
}

fn is_tried(site: &Site, image: &Image, file: &Facts) -> bool {
    let read = || {
        let path = site.runs.root().join(FOLDER).join(name(&image.path));
        toml::from_str::<Tried>(&std::fs::read_to_string(path).ok()?).ok()
    };
    read().is_some_and(|tried| {
        tried.image == image.path && tried.size == file.length && tried.modified == modified(file)
    })
}

fn note(site: &Site, path: &RelPath, file: &Facts, before: u64) -> anyhow::Result<()> {
    let tried = Tried {
        image: path.as_str().to_owned(),
        size: file.length,
        modified: modified(file),
        at: Timestamp::now(),
        before,
    };
    let folder = make_folder(site.runs.root(), &[FOLDER])?;
    replace(&folder, &name(path.as_str()), &toml::to_string(&tried)?)?;
    Ok(())
}

/// Whether still nobody wants anything.
type IsIdle = Arc<dyn Fn() -> bool + Send + Sync>;

/// Is written or read as long as nobody wants anything.
struct WhileIdle<T> {
    inner: T,
    is_idle: IsIdle,
}

impl<T> WhileIdle<T> {
    fn go_on(&self) -> io::Result<()> {
        if (self.is_idle)() {
            Ok(())
        } else {
            Err(io::Error::other("a machine is at work"))
        }
    }
}

impl Write for WhileIdle<&mut File> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.go_on()?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Read for WhileIdle<Box<dyn Read + Send>> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.go_on()?;
        self.inner.read(buffer)
    }
}

impl ReadAt for WhileIdle<FileSource> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.go_on()?;
        self.inner.read_exact_at(buffer, offset)
    }
}

impl ImageSource for WhileIdle<FileSource> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(WhileIdle {
            inner: self.inner.stream_from(offset)?,
            is_idle: Arc::clone(&self.is_idle),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn an_image_that_is_read_back_is_left_when_somebody_comes() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk.raw");
        std::fs::write(&disk, vec![7; 3 << 20]).unwrap();
        let mut image = Vec::new();
        let raw = FileSource::open(&disk).unwrap();
        to_indexed(&raw, Level::Small, THREADS, &mut image, &Silent).unwrap();
        let path = folder.path().join("image");
        std::fs::write(&path, image).unwrap();
        let looks = Arc::new(AtomicUsize::new(0));
        let proven_while = |most: usize| {
            looks.store(0, Ordering::Relaxed);
            let looked = Arc::clone(&looks);
            let source = WhileIdle {
                inner: FileSource::open(&path).unwrap(),
                is_idle: Arc::new(move || looked.fetch_add(1, Ordering::Relaxed) < most),
            };
            verify(&source, THREADS, &Silent).map(|_| ())
        };
        proven_while(usize::MAX).unwrap();
        let all = looks.load(Ordering::Relaxed);
        assert!(all > 1);
        // With the last piece, too.
        let error = format!("{:#}", anyhow!(proven_while(all - 1).unwrap_err()));
        assert!(error.contains("a machine is at work"), "{error}");
    }
}
