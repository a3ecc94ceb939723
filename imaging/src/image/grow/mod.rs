//! `grow`: on a larger disk the last partition and its filesystem get the room that is left.
//!
//! What can be known is known before the first write: which partition it is, what is on it, and whether the programs
//! for that are here. The image is proven on the disk before any of it happens.

mod ask;
mod device;
mod growers;

use super::image_bytes::ImageBytes;
use super::image_table::read_table;
use super::opened_image::OpenedImage;
use super::target_writes::{flush, write_table, writing};
use super::{Part, RestoreOptions, reread_table};
use crate::disk::{Output, Target, signature_places};
use crate::event::Reporter;
use crate::source::{ReadAt, Window};
use crate::table::{self, MovedSwap, ParsedTable, TableKind};
use crate::units;
use anyhow::{Context, bail};
use device::Device;
use growers::Grower;
use std::fmt;
use std::ops::Range;
use std::path::Path;

/// What will grow, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    pub place: table::Resized,
    /// `ext4`, `xfs`, …
    pub filesystem: String,
    grower: &'static Grower,
    /// Bytes of the disk's logical sectors.
    sector: u32,
    swaps: Vec<u32>,
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.number {
            0 => write!(f, "the {}", self.filesystem),
            number => write!(f, "partition {number} ({})", self.filesystem),
        }
    }
}

impl Growth {
    /// What changes, in a sentence.
    pub fn change(&self) -> String {
        let (from, to) = (units::bytes(self.place.from), units::bytes(self.place.to));
        let grows = format!("{self} grows from {from} to {to}");
        match &self.place.moved {
            Some(moved) => format!(
                "{grows}; partition {} (swap) moves to the end of the disk",
                moved.number
            ),
            None => grows,
        }
    }
}

/// What of `image` grows on a disk of `disk` bytes in logical sectors of `sector`; `None` where the disk is not larger
/// or has no more room.
///
/// # Errors
/// When nothing can grow there, with the partition that is in the way, or when a program for it is not here.
pub fn growth(image: &OpenedImage, disk: u64, sector: u32) -> anyhow::Result<Option<Growth>> {
    find(image, disk, Some(sector))
}

/// What a restore to `output` is to grow.
///
/// # Errors
/// As [`growth`], and when the partition cannot be made a device of its own.
pub fn wanted(
    image: &OpenedImage,
    output: &Target,
    options: &RestoreOptions,
    reporter: &dyn Reporter,
) -> anyhow::Result<Option<Growth>> {
    if !options.grow {
        return Ok(None);
    }
    if options.part != Part::Whole {
        bail!("grow changes the whole partition table: it does not go with keep or partitions");
    }
    let growth = find(image, output.limit().unwrap_or(0), output.sector_size())?;
    match &growth {
        Some(growth) => device::check(output)
            .with_context(|| format!("growing {growth} on {}", output.name()))?,
        None => reporter.info(format!(
            "{} is not larger than the disk of the image: nothing grows",
            output.name()
        )),
    }
    Ok(growth)
}

fn find(image: &OpenedImage, disk: u64, sector: Option<u32>) -> anyhow::Result<Option<Growth>> {
    let name = image.name();
    let Some(loaded) = image.indexed() else {
        bail!(
            "grow: {name} has no index to say what is on its partitions: make an image that has one by pitstop convert"
        );
    };
    if disk <= loaded.index.raw_size() {
        return Ok(None);
    }
    let meta = &loaded.meta;
    let swaps = meta.swaps();
    let made_for = meta.disk.logical_sector_size;
    let sector = sector.unwrap_or(made_for);
    let place = if meta.table.kind == TableKind::None.name() {
        Some(whole_disk(loaded.index.raw_size(), disk))
    } else {
        let image_table =
            read_table(image, made_for)?.with_context(|| format!("grow: {name} has no table"))?;
        let parsed = image_table.parsed.on_sectors(sector);
        parsed
            .and_then(|parsed| table::growth(&parsed, disk, &swaps))
            .with_context(|| format!("grow: on the disk in {name} nothing can grow"))?
    };
    let Some(place) = place else { return Ok(None) };
    let summary = meta
        .partitions
        .iter()
        .find(|part| part.number == place.number);
    let summary = summary.with_context(|| {
        let note = &meta.table.note;
        format!("grow: {name} does not say what is on its partitions: {note}")
    })?;
    if let Some(moved) = &place.moved {
        meta.check_movable(moved.number).context("grow")?;
    }
    let grower = growers::of(summary)?;
    let growing = Growing {
        number: place.number,
        filesystem: &summary.filesystem,
        start: place.start,
        size: place.from,
        to: place.to,
    };
    let what = || {
        let Growing {
            number, filesystem, ..
        } = &growing;
        match number {
            0 => format!("the {filesystem} is to grow"),
            number => format!("partition {number} ({filesystem}) is to grow"),
        }
    };
    grower.check().with_context(what)?;
    let bytes = ImageBytes::new(image.source(), &loaded.index);
    let volume = Window::new(&bytes, growing.start, growing.size);
    grower.ask(&volume, &growing).with_context(what)?;
    Ok(Some(Growth {
        place,
        filesystem: summary.filesystem.clone(),
        grower,
        sector,
        swaps,
    }))
}

/// A filesystem in an image that is to grow.
struct Growing<'a> {
    number: u32,
    filesystem: &'a str,
    start: u64,
    /// Bytes of its partition, now and then.
    size: u64,
    to: u64,
}

fn whole_disk(from: u64, to: u64) -> table::Resized {
    table::Resized {
        number: 0,
        start: 0,
        from,
        to,
        moved: None,
    }
}

impl Growth {
    /// Grows the partition and its filesystem on the disk at `path`, which is `output`. The kernel is told in between.
    ///
    /// # Errors
    /// When the table is not the image's, the partition does not become a device, a program fails, or the disk cannot be
    /// read or written.
    pub fn run(&self, path: &Path, output: Target, reporter: &dyn Reporter) -> anyhow::Result<()> {
        self.table(&output, reporter)?;
        reread_table::reread_table(&output, reporter);
        let device = Device::of(path, output, &self.place, self.sector)?;
        self.grower.grow(device.path(), reporter)?;
        device.finish()
    }

    fn table(&self, output: &Target, reporter: &dyn Reporter) -> anyhow::Result<()> {
        let name = output.name();
        let place = &self.place;
        if place.number > 0 {
            let limit = output.limit().context("its size is not known")?;
            let disk = Window::new(output, 0, limit);
            let parsed = ParsedTable::read(&disk, self.sector)?;
            let mut parsed = parsed.with_context(|| format!("{name} has no partition table"))?;
            if table::growth(&parsed, limit, &self.swaps)?.as_ref() != Some(place) {
                bail!("the table on {name} is not the image's");
            }
            parsed.resize(place)?;
            let pieces = parsed.raw.writes(limit)?;
            self.clear(output, place.moved.as_ref())?;
            write_table(output, &pieces.backup)?;
            write_table(output, &pieces.primary)?;
        }
        reporter.info(format!("{name}: {}", self.change()));
        Ok(())
    }

    /// Moves the swap, and zeroes what tools would recognise in the room that is new.
    fn clear(&self, output: &Target, moved: Option<&MovedSwap>) -> anyhow::Result<()> {
        let swap = moved.map(|moved| {
            let Range { start, end } = moved.carried();
            let mut bytes = vec![0; usize::try_from(end - start)?];
            output
                .read_exact_at(&mut bytes, start)
                .with_context(|| format!("reading {} at {start}", output.name()))?;
            anyhow::Ok((moved.to, bytes))
        });
        let swap = swap.transpose()?;
        let place = &self.place;
        let room = place.start + place.from..place.range().end;
        let mut places = signature_places::of_volume(&place.range()).clipped(room);
        if let Some(moved) = moved {
            places.union(&signature_places::of_volume(&moved.range()));
        }
        for place in places.iter() {
            let at = place.start;
            output.zero(place).with_context(|| writing(output, at))?;
        }
        flush(output)?;
        write_table(output, swap.as_slice())
    }
}
