//! A disk becomes an image: read once, in order, only where something is kept.

use super::again::{Again, Before, Out, Reused};
use super::chunk_size::chunk_size_of;
use super::encode::{ChunkSource, Content, Encoding, Ticketed, encode};
use super::index::CHUNK_MOST;
use super::salvage::{BadSectors, read_all};
use super::workers::{Meter, lock};
use super::{CaptureOptions, ImageMeta, ReadErrors};
use crate::disk::{DiskInput, Input};
use crate::event::{Act, BadSectors as Unreadable, Event, Reporter, Subject};
use crate::extents::Extents;
use crate::inventory::DiskIdentity;
use crate::render;
use crate::units;
use crate::used::claims::Contested;
use crate::used::survey;
use anyhow::{Context, bail};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

/// Reads across gaps up to this many bytes: cheaper than another request.
const READ_ACROSS: u64 = 64 << 10;
const ALIGNMENT: u64 = 4096;
/// The most chunks in one run, so that progress and failures are noticed.
const RUN: u64 = 1 << 16;
/// Of the places that cannot be read, those that are told one by one.
const SHOWN: usize = 8;

/// Reads `disk` once and writes its image to `out`, which is not buffered further; returns what the
/// `.toml` beside the image is to say. Peak memory is bounded whatever the size of the disk.
///
/// # Errors
/// When the disk or `out` fails; when `identity` has another size than the disk; and with
/// [`ReadErrors::Fail`], after all is written, when sectors could not be read: drop the image then.
pub fn capture(
    disk: &Path,
    identity: &DiskIdentity,
    options: &CaptureOptions,
    out: &mut (dyn Write + Send),
    reporter: &dyn Reporter,
) -> anyhow::Result<ImageMeta> {
    let out = Out::New(out);
    capture_to(disk, identity, options, out, reporter).map(|(meta, _)| meta)
}

/// As [`capture`], where chunks that are in the image before are taken from there and neither compressed nor written.
///
/// # Errors
/// As of [`capture`]; also when `out` finds that the image before is not what it was.
pub fn capture_again(
    disk: &Path,
    identity: &DiskIdentity,
    options: &CaptureOptions,
    before: &Before,
    out: &mut (dyn Again + Send),
    reporter: &dyn Reporter,
) -> anyhow::Result<(ImageMeta, Reused)> {
    let out = Out::Again { before, out };
    capture_to(disk, identity, options, out, reporter)
}

fn capture_to(
    disk: &Path,
    identity: &DiskIdentity,
    options: &CaptureOptions,
    out: Out<'_>,
    reporter: &dyn Reporter,
) -> anyhow::Result<(ImageMeta, Reused)> {
    let name = disk.display().to_string();
    let input = DiskInput::open(disk)?;
    let size = input.size();
    if identity.size != size {
        bail!(
            "{name} has {size} bytes now, but had {} when it was found: was it replaced?",
            identity.size
        );
    }
    let mut file = input.file();
    let mut found = survey(&mut file, size, identity.logical_sector_size)
        .with_context(|| format!("looking for the filesystems of {name}"))?;
    if options.exact {
        found.kept = Extents::single(0..size);
    }
    let data = input
        .data()
        .with_context(|| format!("looking for the holes of {name}"))?;
    let kept = both(&found.kept.clipped(0..size), &data);
    let chunk_size = chunk_size_of(size, &kept).with_context(|| {
        format!(
            "{name} has {} in use: more than an image can hold, whose index ends with that of 6,900,000 chunks of {}",
            units::bytes(kept.total()),
            units::bytes(CHUNK_MOST.into())
        )
    })?;
    let mut meta = ImageMeta::new(identity.clone(), chunk_size, options.exact);
    meta.kept = kept.total();
    meta.table = found.table;
    meta.partitions = found.partitions;
    meta.loaders.clone_from(&options.loaders);
    meta.origin.clone_from(&options.origin);
    reporter.info(format!(
        "{name}: {} of {} in use",
        units::bytes(meta.kept),
        units::bytes(size)
    ));
    tell_contested(&name, &meta, reporter);
    tell_other_chunks(&name, &meta, &out, reporter);
    let meter = Meter::new(Act::Backup, &identity.device, Some(size), reporter);
    let reused = capture_from(&input, &kept, &mut meta, options, out, &meter)
        .with_context(|| format!("backing up {name}"))?;
    report_bad(&name, &meta, options.read_errors, reporter)?;
    Ok((meta, reused))
}

/// Says why nothing of the image before is used, where its chunks are of another size.
fn tell_other_chunks(name: &str, meta: &ImageMeta, out: &Out<'_>, reporter: &dyn Reporter) {
    let before = out.before().map(Before::chunk_size);
    if let Some(before) = before.filter(|before| *before != meta.chunk_size) {
        reporter.info(format!(
            "{name}: the image before has chunks of {}, the new one has chunks of {}: all of it is sent",
            units::bytes(before.into()),
            units::bytes(meta.chunk_size.into())
        ));
    }
}

/// Says where somebody else may own blocks, so that a leftover can be cleared by whoever knows it for one.
fn tell_contested(name: &str, meta: &ImageMeta, reporter: &dyn Reporter) {
    let told = |claims: &[Contested]| {
        let claims: Vec<String> = claims.iter().map(Contested::to_string).collect();
        claims.join("; ")
    };
    if !meta.table.claims.is_empty() {
        reporter.info(format!(
            "{name}: {}: {}",
            meta.table.note,
            told(&meta.table.claims)
        ));
    }
    for part in meta
        .partitions
        .iter()
        .filter(|part| !part.claims.is_empty())
    {
        let what = match part.number {
            0 => "the disk".into(),
            number => format!("partition {number}"),
        };
        reporter.info(format!(
            "{name}: every block of {what} is kept: {}: {}",
            part.reason,
            told(&part.claims)
        ));
    }
}

/// What is in both sets.
fn both(one: &Extents, other: &Extents) -> Extents {
    let mut both = Extents::new();
    for range in other.iter() {
        for part in one.within(range) {
            both.insert(part);
        }
    }
    both
}

fn report_bad(
    name: &str,
    meta: &ImageMeta,
    wanted: ReadErrors,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let bad = &meta.read_errors;
    if bad.is_empty() {
        return Ok(());
    }
    let shown = bad.iter().take(SHOWN);
    let told = Unreadable {
        subject: Subject::named(name),
        first: shown.map(|range| (range.offset, range.length)).collect(),
        places: bad.len() as u64,
        bytes: bad.iter().map(|range| range.length).sum(),
        zeroed: wanted == ReadErrors::Record,
    };
    let what = render::places(&told);
    reporter.event(&Event::BadSectors(told));
    match wanted {
        ReadErrors::Record => Ok(()),
        ReadErrors::Fail => bail!("{what}; replace the disk, or allow read errors to be recorded"),
    }
}

/// The capture itself, from anything that can be read; fills in what `meta` lacks.
pub fn capture_from(
    input: &dyn Input,
    kept: &Extents,
    meta: &mut ImageMeta,
    options: &CaptureOptions,
    out: Out<'_>,
    meter: &Meter,
) -> anyhow::Result<Reused> {
    let encoding = Encoding {
        chunk_size: meta.chunk_size,
        level: options.level,
        threads: options.threads,
        levels: options.levels.clone(),
    };
    let source = FromDisk {
        input,
        kept,
        chunk: u64::from(meta.chunk_size),
        next: Mutex::new((0, 0)),
        bad: BadSectors::default(),
    };
    let encoded = encode(&source, &encoding, out, meter)?;
    meta.read_errors = source.bad.into_ranges();
    encoded.finish(meta)
}

struct FromDisk<'a> {
    input: &'a dyn Input,
    kept: &'a Extents,
    chunk: u64,
    /// The next ticket and the next chunk.
    next: Mutex<(u64, u64)>,
    bad: BadSectors,
}

impl FromDisk<'_> {
    /// The next ticket with the chunks it is for: a run without anything kept, or one chunk.
    fn claim(&self) -> Option<(u64, u64, Option<u32>)> {
        let size = self.input.size();
        let mut next = lock(&self.next);
        let (ticket, number) = *next;
        let start = number * self.chunk;
        if start >= size {
            return None;
        }
        let used = self.kept.within(start..size).next();
        let empty = used.map_or(size, |range| range.start) / self.chunk - number;
        let run = u32::try_from(empty.min(RUN)).ok().filter(|run| *run > 0);
        *next = (ticket + 1, number + u64::from(run.unwrap_or(1)));
        Some((ticket, start, run))
    }

    /// Reads what is kept of `raw`, which is at `start` on the disk, and zeroes the rest.
    fn read(&self, raw: &mut [u8], start: u64) -> anyhow::Result<()> {
        let end = start + raw.len() as u64;
        let within = |at: u64| usize::try_from(at - start).unwrap_or(raw.len());
        let mut reads = Extents::new();
        for range in self.kept.within(start..end) {
            let from = range.start / ALIGNMENT * ALIGNMENT;
            let to = range.end.next_multiple_of(ALIGNMENT).min(end);
            match reads.end() {
                last if !reads.is_empty() && from < last.saturating_add(READ_ACROSS) => {
                    reads.insert(last.min(from)..to);
                }
                _ => reads.insert(from..to),
            }
        }
        let places: Vec<_> = reads
            .iter()
            .map(|range| (within(range.start)..within(range.end), range.start))
            .collect();
        let unused: Vec<_> = self
            .kept
            .gaps(start..end)
            .iter()
            .map(|range| within(range.start)..within(range.end))
            .collect();
        for (place, at) in places {
            read_all(self.input, &mut raw[place], at, &self.bad)?;
        }
        for gap in unused {
            raw[gap].fill(0);
        }
        Ok(())
    }
}

impl ChunkSource for FromDisk<'_> {
    fn next(&self, raw: &mut [u8]) -> anyhow::Result<Option<Ticketed>> {
        let Some((ticket, start, run)) = self.claim() else {
            return Ok(None);
        };
        let content = if let Some(run) = run {
            Content::Zeros(run)
        } else {
            let left = self.input.size() - start;
            let length = usize::try_from(left.min(self.chunk))?;
            self.read(&mut raw[..length], start)?;
            Content::Chunk(length)
        };
        Ok(Some(Ticketed { ticket, content }))
    }
}
