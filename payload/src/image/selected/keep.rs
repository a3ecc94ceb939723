//! A restore that leaves partitions of the target as they are, also when it fails half-way, and one to a disk that
//! is smaller than the image's.

use super::super::behind;
use super::super::restore::{Restored, invalidate};
use super::super::verify::Look;
use super::Task;
use super::looking::{Bytes, Seen, seen};
use super::through::Through;
use crate::disk::Output;
use crate::extents::Extents;
use crate::table::{Known, Partition, PartitionSelector, Piece, Pieces, TableKind};
use crate::units;
use anyhow::{Context, bail};
use std::ops::Range;

/// Logical partitions of an MBR count from here.
const FIRST_LOGICAL: u32 = 5;

/// All that is decided before the first write.
struct Plan {
    kept: Extents,
    /// The bytes that the image's own table takes.
    image_table: Extents,
    /// A table of the kept partitions alone, for as long as the restore is under way.
    interim: Option<Pieces>,
    /// The table that the disk gets.
    last: Pieces,
    /// Bytes of the target.
    disk: u64,
    /// Where the target's partitions have what makes them known.
    old: Extents,
    /// Where the image's partitions are.
    new: Extents,
}

impl Plan {
    /// What only this module writes: every table that is or was.
    fn tables(&self) -> Extents {
        let mut tables = self.image_table.clone();
        let pieces = self.interim.iter().chain([&self.last]);
        for range in pieces.flat_map(Pieces::ranges) {
            tables.insert(range);
        }
        tables.without(&self.kept)
    }
}

impl Task<'_> {
    /// Restores all but the partitions of the target that `selectors` name.
    ///
    /// # Errors
    /// Before anything is written: a selector that names none or two, what the image has where a kept partition is,
    /// tables that cannot be made one. Later: as any restore; the disk has the kept partitions alone then.
    pub fn keep(&self, look: Look, selectors: &[PartitionSelector]) -> anyhow::Result<Restored> {
        let (image, name) = (self.image.name(), self.output.name());
        let sector = self.output.sector_size().unwrap_or(512);
        let seen = seen(self.image, &look, sector)?.with_context(|| {
            format!("{image} is of a disk without partitions: none can be kept beside it")
        })?;
        let target = self.target(seen.sector)?;
        let mut kept = Vec::new();
        for selector in selectors {
            let partition = selector.find(&target.table, name)?;
            if !kept.contains(partition) {
                kept.push(partition.clone());
            }
        }
        let plan = self.plan(&look, &seen, Some((&target, &kept)))?;
        for partition in &kept {
            self.reporter
                .info(format!("{name}: partition {partition} is kept as it is"));
        }
        self.run(look, &plan)
    }

    /// Restores an image of a larger disk, where all that it holds lies before the end of the target.
    ///
    /// # Errors
    /// Before anything is written: with the numbers, and what is in the way.
    pub fn shrink(&self, look: Look) -> anyhow::Result<Restored> {
        let (image, name) = (self.image.name(), self.output.name());
        let sector = self.output.sector_size().unwrap_or(512);
        let disk = self.disk()?;
        let what = || {
            format!(
                "{name} is too small: it has {disk} bytes ({}), the disk of {image} has more",
                units::bytes(disk)
            )
        };
        let seen = seen(self.image, &look, sector)
            .with_context(what)?
            .with_context(what)?;
        let plan = self.plan(&look, &seen, None)?;
        self.reporter.info(format!(
            "{name} is smaller than the disk of {image}: what lies behind its end is free, and the table ends with it"
        ));
        self.run(look, &plan)
    }

    fn plan(
        &self,
        look: &Look,
        seen: &Seen,
        target: Option<(&Known, &[Partition])>,
    ) -> anyhow::Result<Plan> {
        let (image, name) = (self.image.name(), self.output.name());
        let disk = self.disk()?;
        let mut last = seen.known.raw.clone();
        let mut ranges = Extents::new();
        let mut interim = None;
        if let Some((target, kept)) = target {
            self.check_apart(&seen.known, target, kept)?;
            let mut alone = target.raw.clone();
            let numbers: Vec<u32> = kept.iter().map(|partition| partition.number).collect();
            alone.keep_only(&numbers);
            for partition in kept {
                last.adopt(&target.raw, partition.number).with_context(|| {
                    format!("keeping partition {partition} of {name} in the table of {image}")
                })?;
                ranges.insert(partition.range());
            }
            let pieces = alone.pieces(disk);
            interim = Some(pieces.with_context(|| format!("the partition table on {name}"))?);
        }
        self.check_fits(look, seen, disk)?;
        let mut new = Extents::new();
        for partition in &seen.known.table.partitions {
            new.insert(partition.range());
        }
        let mut image_table = Extents::new();
        for range in seen.known.raw.taken() {
            image_table.insert(range);
        }
        let plan = Plan {
            kept: ranges,
            image_table,
            interim,
            last: last
                .pieces(disk)
                .with_context(|| format!("the table of {image} on {name}"))?,
            disk,
            old: behind::remember(self.output),
            new,
        };
        self.check_free(
            look,
            &plan,
            target.map_or(&[], |(_, kept)| kept),
            &seen.known,
        )?;
        Ok(plan)
    }

    /// Whether kept partitions and the image's lie apart, or are the same.
    fn check_apart(&self, image: &Known, target: &Known, kept: &[Partition]) -> anyhow::Result<()> {
        let (from, name) = (self.image.name(), self.output.name());
        if image.table.kind != target.table.kind {
            bail!(
                "{name} has a table of kind {}, {from} one of kind {}: no partition can be kept across that",
                target.table.kind.name(),
                image.table.kind.name()
            );
        }
        for keep in kept {
            if target.table.kind == TableKind::Mbr && keep.number >= FIRST_LOGICAL {
                bail!(
                    "partition {keep} of {name} is a logical one, which lives in the extended partition that the \
                     image's table replaces: only primary ones can be kept"
                );
            }
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

    /// Whether every partition of the image ends before the disk does.
    fn check_fits(&self, look: &Look, seen: &Seen, disk: u64) -> anyhow::Result<()> {
        let Some(size) = seen.size.filter(|size| *size > disk) else {
            return Ok(());
        };
        let (from, name) = (self.image.name(), self.output.name());
        let too_small = format!(
            "{name} is too small: it has {disk} bytes ({}), the disk of {from} has {size} ({})",
            units::bytes(disk),
            units::bytes(size)
        );
        let Look::Ours(loaded) = look else {
            bail!(
                "{too_small}; whether its end is free cannot be told of an image without an index: convert it"
            );
        };
        let least = seen.known.raw.least();
        if least <= disk {
            return Ok(());
        }
        let by_end = |partition: &&Partition| partition.range().end;
        let Some(furthest) = seen.known.table.partitions.iter().max_by_key(by_end) else {
            bail!("{too_small}, and its table needs {least}");
        };
        let summary = loaded
            .meta
            .partitions
            .iter()
            .find(|summary| summary.number == furthest.number);
        let filesystem = summary.map_or("", |summary| summary.filesystem.as_str());
        let used = match summary.filter(|summary| summary.used < summary.size) {
            Some(summary) if !filesystem.is_empty() => format!(
                "; of it {} are used, but filesystems are not shrunk: shrink it and its partition on the machine \
                 first, then back up again",
                units::bytes(summary.used)
            ),
            _ => String::new(),
        };
        let filesystem = match filesystem {
            "" => "nothing known",
            known => known,
        };
        bail!(
            "{too_small}, and partition {furthest} of it, {filesystem}, ends at {}; a disk of {least} bytes would do{used}",
            furthest.range().end
        );
    }

    /// Whether the image has nothing but zeros outside its partitions where something is kept, and behind the end.
    fn check_free(
        &self,
        look: &Look,
        plan: &Plan,
        kept: &[Partition],
        image: &Known,
    ) -> anyhow::Result<()> {
        let (from, name) = (self.image.name(), self.output.name());
        let Look::Ours(loaded) = look else {
            if !kept.is_empty() {
                self.reporter.warn(format!(
                    "{from} has no index: what it has where partitions are kept is left out without a look"
                ));
            }
            return Ok(());
        };
        let bytes = Bytes::new(self.image, loaded);
        let own = |keep: &&Partition| {
            let of_image = &image.table.partitions;
            of_image
                .iter()
                .all(|partition| partition.range() != keep.range())
        };
        for keep in kept.iter().filter(own) {
            if let Some(at) = bytes.first_data(keep.range(), &plan.image_table)? {
                bail!(
                    "partition {keep} of {name} is to be kept, but {from} has data there, outside its partitions, \
                     at byte {at}"
                );
            }
        }
        let size = loaded.index.raw_size();
        if let Some(at) = bytes.first_data(plan.disk..size.max(plan.disk), &plan.image_table)? {
            bail!(
                "{name} is too small: it has {} bytes ({}), {from} has data outside its partitions at byte {at}",
                plan.disk,
                units::bytes(plan.disk)
            );
        }
        Ok(())
    }

    fn run(&self, look: Look, plan: &Plan) -> anyhow::Result<Restored> {
        match &plan.interim {
            Some(interim) => {
                self.write(&interim.backup)?;
                self.write(&interim.primary)?;
            }
            None => invalidate(self.output, Some(plan.disk))?,
        }
        let tables = plan.tables();
        let mut own = tables.clone();
        own.union(&plan.kept);
        let limit = match &look {
            Look::Ours(_) => None,
            Look::Foreign { .. } => Some(plan.disk),
        };
        let through = Through::in_place(self.output, plan.disk, &own).with_limit(limit);
        let mut left_out = plan.kept.clone();
        left_out.insert(plan.disk..u64::MAX);
        let restored = self.pour(look, &through, &left_out)?;
        // Every table that is or was stays as well: `rest` sees to those.
        own.union(&plan.new);
        behind::clear(self.output, restored.size, &plan.old, &own, self.reporter)
            .with_context(|| format!("clearing {} behind the image", self.output.name()))?;
        // All else is proven and safe. What is no table any more goes first, the new table last.
        self.write(&rest(plan, &tables, &through)?)?;
        self.write(&plan.last.backup)?;
        self.write(&plan.last.primary)?;
        Ok(restored)
    }
}

/// What of the bytes of all tables the last one does not take: as the image has them, its own table's as zeros.
fn rest(plan: &Plan, tables: &Extents, through: &Through) -> anyhow::Result<Vec<Piece>> {
    let mut last = Extents::new();
    for range in plan.last.ranges() {
        last.insert(range);
    }
    let mut pieces = Vec::new();
    for range in tables.without(&last).clipped(0..plan.disk).iter() {
        let mut bytes = vec![0; usize::try_from(range.end - range.start)?];
        through.read_at(&mut bytes, range.start)?;
        for own in plan.image_table.within(range.clone()) {
            let from = usize::try_from(own.start - range.start)?;
            let to = usize::try_from(own.end - range.start)?;
            bytes[from..to].fill(0);
        }
        pieces.push((range.start, bytes));
    }
    Ok(pieces)
}

fn meet(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}
