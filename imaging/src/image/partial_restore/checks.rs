//! Checks before the first write of a restore that keeps partitions or goes to a smaller disk.

use super::kept_partitions::Plan;
use crate::disk::Output;
use crate::image::image_bytes::ImageBytes;
use crate::image::image_table::ImageTable;
use crate::image::minimum_disk::minimum_disk;
use crate::image::restore_task::Task;
use crate::source::{ReadAt, Window};
use crate::table::{ParsedTable, Partition, Table, TableKind};
use crate::units;
use anyhow::{Context, bail};
use std::io;
use std::ops::Range;

impl Task<'_> {
    /// Whether kept partitions and the image's lie apart, or are the same.
    pub(super) fn check_apart(
        &self,
        image: &ParsedTable,
        target: &ParsedTable,
        kept: &[Partition],
    ) -> anyhow::Result<()> {
        let (from, name) = (self.image.name(), self.output.name());
        if image.table.kind != target.table.kind {
            bail!(
                "{name} has a table of kind {}, {from} one of kind {}: partitions can be kept only if both are of one kind",
                target.table.kind.name(),
                image.table.kind.name()
            );
        }
        for keep in kept {
            let what = |other: &Partition, why: &str| {
                format!(
                    "partition {keep} of {name} is to be kept, but partition {other} of {from} {why}"
                )
            };
            for other in &image.table.partitions {
                let same_place = other.range() == keep.range();
                match other.number == keep.number {
                    true if !same_place => {
                        bail!(what(other, "has the same number and another place"))
                    }
                    false if meet(&other.range(), &keep.range()) => {
                        bail!(what(other, "lies over it"))
                    }
                    false if other.id == keep.id && image.table.kind == TableKind::Gpt => {
                        bail!(what(other, "has the same GUID"))
                    }
                    _ => {}
                }
            }
            if let Some(extended) = image
                .raw
                .extended()
                .iter()
                .find(|extended| meet(extended, &keep.range()))
                .filter(|_| !target.raw.is_logical(keep.number))
            {
                bail!(
                    "partition {keep} of {name} is to be kept, but the extended partition of {from} lies over it, \
                     from {} to {}",
                    extended.start,
                    extended.end
                );
            }
        }
        Ok(())
    }

    /// Reads the tables to be written, as the kernel will: every partition must have its number and its place.
    pub(super) fn check_tables(
        &self,
        image_table: &ImageTable,
        plan: &Plan,
        kept: &[Partition],
    ) -> anyhow::Result<()> {
        let (image, name) = (self.image.name(), self.output.name());
        if let Some(interim) = &plan.interim {
            let (output, limit) = (self.output, plan.disk);
            let table = interim.table(
                &Window::new(output, 0, limit),
                plan.disk,
                image_table.sector,
            );
            let table = table.with_context(|| format!("the kept partitions of {name} alone"))?;
            for keep in kept {
                find(&table, keep, name)?;
            }
        }
        let table = match self.image.indexed() {
            Some(loaded) => {
                let under = ImageBytes::new(self.source(), &loaded.index);
                plan.last.table(&under, plan.disk, image_table.sector)
            }
            None => plan.last.table(&Nothing, plan.disk, image_table.sector),
        };
        let table = table.with_context(|| format!("the table of {image} on {name}"))?;
        for keep in kept {
            find(&table, keep, name)?;
        }
        let replaced = |own: &&Partition| kept.iter().any(|keep| keep.number == own.number);
        let mut own = image_table.parsed.table.partitions.iter();
        own.try_for_each(|own| {
            if replaced(&own) {
                return Ok(());
            }
            find(&table, own, image)
        })
    }

    /// Whether every partition of the image ends before the disk does.
    pub(super) fn check_fits(&self, image_table: &ImageTable, disk: u64) -> anyhow::Result<()> {
        let Some(size) = image_table.size.filter(|size| *size > disk) else {
            return Ok(());
        };
        let (from, name) = (self.image.name(), self.output.name());
        let too_small = format!(
            "{name} is too small: it has {disk} bytes ({}), the disk of {from} has {size} ({})",
            units::bytes(disk),
            units::bytes(size)
        );
        let Some(loaded) = self.image.indexed() else {
            bail!(
                "{too_small}; without an index the image does not say whether the disk's end is free: convert it first"
            );
        };
        let least = image_table.parsed.raw.minimum_disk();
        if least <= disk {
            return Ok(());
        }
        let by_end = |partition: &&Partition| partition.range().end;
        let Some(furthest) = image_table
            .parsed
            .table
            .partitions
            .iter()
            .max_by_key(by_end)
        else {
            bail!("{too_small}, and its table needs {least}");
        };
        // No partition of the table, and yet it has to fit.
        let raw = &image_table.parsed.raw;
        let extended = raw.extended().into_iter().max_by_key(|range| range.end);
        if let Some(extended) = extended.filter(|range| range.end > furthest.range().end) {
            let number = raw.extended_number(extended.start);
            bail!(
                "{too_small}, and its extended partition{} ends at {}; a disk of {least} bytes would do",
                number.map_or_else(String::new, |number| format!(" {number}")),
                extended.end
            );
        }
        let summary = loaded
            .meta
            .partitions
            .iter()
            .find(|summary| summary.number == furthest.number);
        let filesystem = summary.map_or("", |summary| summary.filesystem.as_str());
        let advice = minimum_disk(loaded).advice(from, disk);
        let filesystem = match filesystem {
            "" => "contents unknown",
            known => known,
        };
        bail!(
            "{too_small}, and partition {furthest} of it, {filesystem}, ends at {}; a disk of {least} bytes would do{advice}",
            furthest.range().end
        );
    }

    /// Whether the image has nothing but zeros outside its partitions where something is kept, and behind the end.
    pub(super) fn check_free(
        &self,
        plan: &Plan,
        kept: &[Partition],
        image: &ParsedTable,
    ) -> anyhow::Result<()> {
        let (from, name) = (self.image.name(), self.output.name());
        let Some(loaded) = self.image.indexed() else {
            if !kept.is_empty() {
                self.reporter.warn(format!(
                    "{from} has no index: its data in the place of kept partitions is left out unchecked"
                ));
            }
            return Ok(());
        };
        let bytes = ImageBytes::new(self.source(), &loaded.index);
        let own = |keep: &&Partition| {
            let of_image = &image.table.partitions;
            of_image
                .iter()
                .all(|partition| partition.range() != keep.range())
        };
        for keep in kept.iter().filter(own) {
            if let Some(at) = bytes.first_data(keep.range(), &plan.table_bytes)? {
                bail!(
                    "partition {keep} of {name} is to be kept, but {from} has data there, outside its partitions, \
                     at byte {at}"
                );
            }
        }
        let size = loaded.index.raw_size();
        if let Some(at) = bytes.first_data(plan.disk..size.max(plan.disk), &plan.table_bytes)? {
            bail!(
                "{name} is too small: it has {} bytes ({}), {from} has data outside its partitions at byte {at}",
                plan.disk,
                units::bytes(plan.disk)
            );
        }
        Ok(())
    }
}

fn find(table: &Table, wanted: &Partition, of: &str) -> anyhow::Result<()> {
    let is_it =
        |found: &Partition| found.number == wanted.number && found.range() == wanted.range();
    if !table.partitions.iter().any(is_it) {
        bail!("partition {wanted} of {of} would not be found in the table to be written");
    }
    Ok(())
}

/// A disk of which nothing is known.
struct Nothing;

impl ReadAt for Nothing {
    fn size(&self) -> u64 {
        0
    }

    fn read_exact_at(&self, buffer: &mut [u8], _: u64) -> io::Result<()> {
        buffer.fill(0);
        Ok(())
    }
}

fn meet(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}
