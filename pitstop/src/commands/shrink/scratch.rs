//! The disk of an image as a file that has no name: whatever ends this program, nothing of it stays.

use super::last::Last;
use anyhow::{Context, bail};
use nix::sys::statvfs::statvfs;
use pitstop_imaging::disk::{DiskInput, Input, LoopDevice};
use pitstop_imaging::event::{Event, Reporter};
use pitstop_imaging::extents::Extents;
use pitstop_imaging::image::{
    CaptureOptions, Delta, ImageMeta, ImageSource, RestoreOptions, capture, restore,
};
use pitstop_imaging::inventory::DiskIdentity;
use pitstop_imaging::source::Disk;
use pitstop_imaging::table::{self, ParsedTable, Resized, Table};
use pitstop_imaging::units;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const PIECE: u64 = 1 << 20;

pub struct Scratch {
    file: File,
    /// A name that only this process has for it.
    path: PathBuf,
    /// For people.
    name: String,
}

impl Scratch {
    /// An empty one in `folder`, which should have `room` bytes free.
    ///
    /// # Errors
    /// When it has less, or no file can be made there.
    pub fn new(folder: &Path, room: u64) -> anyhow::Result<Self> {
        let shown = folder.display();
        let found =
            statvfs(folder).with_context(|| format!("asking how much is free in {shown}"))?;
        let free = found
            .blocks_available()
            .saturating_mul(found.fragment_size());
        if free < room {
            bail!(
                "{shown} has {} free, and the disk and the new image may take {}: make room, or name another folder \
                 with --scratch",
                units::bytes(free),
                units::bytes(room)
            );
        }
        let file = tempfile::tempfile_in(folder)
            .with_context(|| format!("making a scratch file in {shown}"))?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
        let name = format!("the scratch file in {shown}");
        Ok(Self { file, path, name })
    }

    /// Restores the image to it.
    pub fn fill(
        &self,
        image: &dyn ImageSource,
        threads: usize,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<()> {
        let options = RestoreOptions {
            delta: Delta::Off,
            threads,
            ..RestoreOptions::default()
        };
        restore(image, &self.path, &options, &self.named(reporter))
            .with_context(|| format!("filling {}", self.name))?;
        Ok(())
    }

    /// The last partition as a device.
    pub fn partition(&self, last: &Last) -> anyhow::Result<LoopDevice> {
        let range = last.partition.start..last.partition.start + last.partition.size;
        LoopDevice::new(&self.path, &range, last.sector)
    }

    /// The first byte of `places` that is not zero.
    pub fn first_data(&self, places: &Extents) -> anyhow::Result<Option<u64>> {
        let what = || format!("reading {}", self.name);
        let data = DiskInput::open(&self.path)?.data().with_context(what)?;
        let mut raw = vec![0; usize::try_from(PIECE)?];
        for place in places.iter().flat_map(|place| data.within(place)) {
            let mut at = place.start;
            while at < place.end {
                let length = usize::try_from(PIECE.min(place.end - at))?;
                let piece = &mut raw[..length];
                self.file.read_exact_at(piece, at).with_context(what)?;
                if let Some(first) = piece.iter().position(|byte| *byte != 0) {
                    return Ok(Some(at + first as u64));
                }
                at += length as u64;
            }
        }
        Ok(None)
    }

    /// Makes it a disk of `disk` bytes with `table`. Swap moves; what lay where nothing is any more becomes zeros.
    pub fn cut(
        &self,
        resized: &Resized,
        table: Option<&ParsedTable>,
        disk: u64,
    ) -> anyhow::Result<()> {
        let what = || format!("writing {}", self.name);
        let mut pieces = Vec::new();
        if let Some(moved) = &resized.moved {
            let from = moved.carried();
            let mut bytes = vec![0; usize::try_from(from.end - from.start)?];
            self.file
                .read_exact_at(&mut bytes, from.start)
                .with_context(what)?;
            pieces.push((moved.to, bytes));
        }
        if let Some(parsed) = table {
            let table = parsed.raw.writes(disk)?;
            if let Some(beyond) = table.ranges().find(|range| range.end > disk) {
                bail!(
                    "a part of the table, at byte {}, would lie behind the end of a disk of {disk} bytes",
                    beyond.start
                );
            }
            pieces.extend(table.backup.into_iter().chain(table.primary));
        }
        if resized.to < resized.from || resized.moved.is_some() {
            self.file.set_len(resized.range().end).with_context(what)?;
        }
        self.file.set_len(disk).with_context(what)?;
        for (at, bytes) in pieces {
            self.file.write_all_at(&bytes, at).with_context(what)?;
        }
        Ok(())
    }

    /// The partition table that it has.
    pub fn table(&self, sector: u32) -> anyhow::Result<Table> {
        let input = DiskInput::open(&self.path)?;
        let (size, mut file) = (input.size(), input.file());
        table::read(&Disk::new(&mut file, size), sector)
            .with_context(|| format!("the partition table of {}", self.name))
    }

    /// Makes an image of it.
    pub fn capture(
        &self,
        identity: &DiskIdentity,
        options: &CaptureOptions,
        out: &mut (dyn Write + Send),
        reporter: &dyn Reporter,
    ) -> anyhow::Result<ImageMeta> {
        let reporter = self.named(reporter);
        capture(&self.path, identity, options, out, &reporter)
            .with_context(|| format!("making an image of {}", self.name))
    }

    fn named<'a>(&'a self, reporter: &'a dyn Reporter) -> Named<'a> {
        Named {
            reporter,
            path: self.path.to_str().unwrap_or_default(),
            name: &self.name,
        }
    }
}

/// Tells what it is told, with a name that people understand.
struct Named<'a> {
    reporter: &'a dyn Reporter,
    path: &'a str,
    name: &'a str,
}

impl Reporter for Named<'_> {
    fn event(&self, event: &Event) {
        let named = |text: &str| text.replace(self.path, self.name);
        self.reporter.event(&match event {
            Event::Message { level, text } => Event::Message {
                level: *level,
                text: named(text),
            },
            other => other.about(|subject| subject.name = named(&subject.name)),
        });
    }
}
