//! A disk with other logical sectors than the image's: partitions go to the same bytes, the table is made anew. What
//! could not be used there is found before the first write.

use super::kept_partitions::Plan;
use crate::disk::Output;
use crate::extents::Extents;
use crate::image::image_bytes::ImageBytes;
use crate::image::image_table::{ImageTable, read_table};
use crate::image::loaded_index::LoadedIndex;
use crate::image::restore_task::Task;
use crate::source::Window;
use crate::table::{Partition, TableKind};
use crate::used::{misfit, recognise};
use anyhow::{Context, bail};
use std::fmt;
use std::ops::Range;

/// An image of a disk with other sectors.
struct Other<'a> {
    loaded: &'a LoadedIndex,
    /// Bytes of the sectors of the image's disk.
    from: u32,
    /// Bytes of the target's.
    to: u32,
}

impl Task<'_> {
    /// `None` where the sectors are the same, or one side does not tell.
    fn other(&self) -> Option<Other<'_>> {
        let loaded = self.image.indexed()?;
        let from = loaded.meta.disk.logical_sector_size;
        let to = self.output.sector_size().filter(|to| *to != from)?;
        Some(Other { loaded, from, to })
    }

    /// Bytes of the sectors in which the target's table counts.
    pub(super) fn target_sector(&self, image_table: &ImageTable) -> u32 {
        self.other().map_or(image_table.sector, |other| other.to)
    }

    fn differ(&self, Other { from, to, .. }: &Other) -> String {
        let (image, name) = (self.image.name(), self.output.name());
        format!("{image} is of a disk with sectors of {from} bytes, {name} has sectors of {to}")
    }

    /// Whether the table must be made anew for the disk's sectors.
    pub(super) fn has_other_sectors(&self) -> bool {
        self.other().is_some()
    }

    /// What people are told of that.
    pub fn other_sectors_note(&self) -> Option<String> {
        let Other { from, to, .. } = self.other()?;
        Some(format!(
            "the table is made anew for sectors of {to} bytes, those of the image's disk have {from}"
        ))
    }

    pub(super) fn report_other_sectors(&self) {
        if let Some(note) = self.other_sectors_note() {
            self.reporter
                .info(format!("{}: {note}", self.output.name()));
        }
    }

    /// The table of the image in the sectors of this disk; `None` where there is none.
    pub(super) fn image_table(&self) -> anyhow::Result<Option<ImageTable>> {
        let sector = self.output.sector_size().unwrap_or(512);
        let Some(image_table) = read_table(self.image, sector)? else {
            return Ok(None);
        };
        let Some(other) = self.other() else {
            return Ok(Some(image_table));
        };
        let parsed = image_table.parsed.on_sectors(other.to);
        Ok(Some(ImageTable {
            parsed: parsed.with_context(|| self.differ(&other))?,
            sector: other.to,
            ..image_table
        }))
    }

    /// Whether all of an image without a table can be used on other sectors.
    pub(super) fn check_whole(&self) -> anyhow::Result<()> {
        self.other().map_or(Ok(()), |other| {
            let all = 0..other.loaded.index.raw_size();
            self.check_content(&other, all, &"what is on it")
        })
    }

    /// The same of these partitions of the image.
    pub(super) fn check_contents<'p>(
        &self,
        mut partitions: impl Iterator<Item = &'p Partition>,
    ) -> anyhow::Result<()> {
        let Some(other) = self.other() else {
            return Ok(());
        };
        partitions.try_for_each(|partition| {
            let what = format_args!("partition {partition}");
            self.check_content(&other, partition.range(), &what)
        })
    }

    fn check_content(
        &self,
        other: &Other,
        place: Range<u64>,
        what: &dyn fmt::Display,
    ) -> anyhow::Result<()> {
        let sizes = [512, 4096];
        if !sizes.contains(&other.from) || !sizes.contains(&other.to) {
            bail!(
                "{}: a table is made anew only between sectors of 512 and 4096 bytes",
                self.differ(other)
            );
        }
        let bytes = ImageBytes::new(self.source(), &other.loaded.index);
        let volume = Window::new(&bytes, place.start, place.end - place.start);
        let contents = recognise(&volume);
        let misfit = misfit(&volume, &contents, other.to);
        let misfit = misfit.with_context(|| format!("reading {what} in {}", self.image.name()))?;
        let Some(why) = misfit else { return Ok(()) };
        let name = contents.filesystem;
        // What was never written can be used anywhere.
        if name.is_empty() && bytes.first_data(place, &Extents::new())?.is_none() {
            return Ok(());
        }
        let of = if name.is_empty() { "" } else { ", " };
        bail!(
            "{}: {what}{of}{name}, could not be used there: {why}",
            self.differ(other)
        )
    }

    /// Whether the image has nothing but its tables outside partitions: boot loaders find by sectors what they have
    /// there, and the new table may lie over it.
    pub(super) fn check_outside(&self, kind: TableKind, plan: &Plan) -> anyhow::Result<()> {
        let Some(other) = self.other() else {
            return Ok(());
        };
        let mut own = plan.table_bytes.clone();
        own.union(&plan.new);
        // The records of logical partitions stay where they are.
        let records = plan.last.ranges().filter(|_| kind == TableKind::Mbr);
        records.for_each(|record| own.insert(record));
        let bytes = ImageBytes::new(self.source(), &other.loaded.index);
        match bytes.first_data(0..other.loaded.index.raw_size(), &own)? {
            None => Ok(()),
            Some(at) => bail!(
                "{}: it has data outside its partitions at byte {at}, as boot loaders have; that would not work there",
                self.differ(&other)
            ),
        }
    }
}
