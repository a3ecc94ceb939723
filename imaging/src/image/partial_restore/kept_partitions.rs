//! A restore that leaves partitions of the target as they are, also when it fails half-way, and one to a disk that
//! is smaller than the image's or has other sectors.

use super::remap::RemappedOutput;
use crate::disk::Output;
use crate::extents::Extents;
use crate::image::image_table::ImageTable;
use crate::image::old_signatures;
use crate::image::restore_task::Task;
use crate::image::restored::Restored;
use crate::image::target_writes::invalidate;
use crate::source::ReadAt;
use crate::table::{ParsedTable, Partition, PartitionSelector, Raw, TableWrite, TableWrites};
use crate::units;
use anyhow::{Context, bail};

/// All that is decided before the first write.
pub struct Plan {
    kept: Extents,
    /// The bytes that the image's own table takes.
    pub(super) table_bytes: Extents,
    /// A table of the kept partitions alone, for as long as the restore is under way.
    pub(super) interim: Option<TableWrites>,
    /// The table that the disk gets.
    pub(super) last: TableWrites,
    /// Bytes of the target.
    pub(super) disk: u64,
    /// Where the target's partitions have what makes them known.
    old: Extents,
    /// Where the image's partitions are.
    pub(super) new: Extents,
}

/// Partitions of the target that survive, and how.
pub struct Kept {
    pub plan: Plan,
    pub partitions: Vec<Partition>,
}

impl Plan {
    /// The table that the disk gets.
    pub fn last(&self) -> &TableWrites {
        &self.last
    }

    /// What of the image is not fetched: where something is kept, and past the disk's end.
    pub fn left_out(&self) -> Extents {
        let mut left_out = self.kept.clone();
        left_out.insert(self.disk..u64::MAX);
        left_out
    }

    /// What only this module writes: every table that is or was.
    fn tables(&self) -> Extents {
        let mut tables = self.table_bytes.clone();
        let pieces = self.interim.iter().chain([&self.last]);
        for range in pieces.flat_map(TableWrites::ranges) {
            tables.insert(range);
        }
        tables.without(&self.kept)
    }
}

impl Task<'_> {
    /// Restores all but what `kept` has.
    ///
    /// # Errors
    /// As any restore; the disk has the kept partitions alone then.
    pub fn keep(&self, kept: &Kept) -> anyhow::Result<Restored> {
        let name = self.output.name();
        for partition in &kept.partitions {
            self.reporter
                .info(format!("{name}: partition {partition} is kept as it is"));
        }
        self.report_other_sectors();
        self.run(&kept.plan)
    }

    /// What is to be done so that the partitions of the target that `selectors` name are kept.
    ///
    /// # Errors
    /// A selector that names none or two, what the image has where a kept partition is, tables that cannot be made one.
    pub fn kept(&self, selectors: &[PartitionSelector]) -> anyhow::Result<Kept> {
        let (image, name) = (self.image.name(), self.output.name());
        let image_table = self.image_table()?.with_context(|| {
            format!("{image} is of a disk without partitions: none can be kept beside it")
        })?;
        let target = self.target(image_table.sector)?;
        let mut kept = Vec::new();
        for selector in selectors {
            let partition = selector.find(&target.table, name)?;
            if !kept.contains(partition) {
                kept.push(partition.clone());
            }
        }
        let plan = self.plan(&image_table, Some((&target, &kept)))?;
        Ok(Kept {
            plan,
            partitions: kept,
        })
    }

    /// Restores an image whose own table does not suit the disk: it gets the one of `plan`.
    ///
    /// # Errors
    /// As any restore; the disk has no table then.
    pub fn remake(&self, plan: &Plan) -> anyhow::Result<Restored> {
        let (image, name) = (self.image.name(), self.output.name());
        if self.image.is_larger_than(self.output) {
            self.reporter.info(format!(
                "{name} is smaller than the disk of {image}: the space past its end is unused, so the table is shortened to fit"
            ));
        }
        self.report_other_sectors();
        self.run(plan)
    }

    /// What is to be done where the disk is smaller than the image's or has other sectors. `None` where all of it goes
    /// to the disk as it is.
    ///
    /// # Errors
    /// With the numbers, and what is in the way.
    pub fn remade(&self) -> anyhow::Result<Option<Plan>> {
        let (image, name) = (self.image.name(), self.output.name());
        let is_larger = self.image.is_larger_than(self.output);
        if !is_larger && !self.has_other_sectors() {
            return Ok(None);
        }
        let mut image_table = self.image_table();
        if is_larger {
            let disk = self.disk()?;
            image_table = image_table.with_context(|| {
                format!(
                    "{name} is too small: it has {disk} bytes ({}), the disk of {image} has more",
                    units::bytes(disk)
                )
            });
        }
        match image_table? {
            Some(image_table) => self.plan(&image_table, None).map(Some),
            None => self.check_whole().map(|()| None),
        }
    }

    fn plan(
        &self,
        image_table: &ImageTable,
        target: Option<(&ParsedTable, &[Partition])>,
    ) -> anyhow::Result<Plan> {
        let (image, name) = (self.image.name(), self.output.name());
        let disk = self.disk()?;
        let mut last = image_table.parsed.raw.clone();
        let kept = target.map_or(&[][..], |(_, kept)| kept);
        let mut ranges = Extents::new();
        for keep in kept {
            ranges.insert(keep.range());
        }
        let mut interim = None;
        if let Some((target, _)) = target {
            self.check_apart(&image_table.parsed, target, kept)?;
            let alone = self.adopt(&mut last, target, kept)?;
            let pieces = alone.writes(disk);
            interim = Some(pieces.with_context(|| format!("the partition table on {name}"))?);
        }
        self.check_fits(image_table, disk)?;
        let partitions = image_table.parsed.table.partitions.iter();
        self.check_contents(partitions.filter(|own| !ranges.touches(own.range())))?;
        let mut new = Extents::new();
        for partition in &image_table.parsed.table.partitions {
            new.insert(partition.range());
        }
        let mut table_bytes = Extents::new();
        for range in image_table.parsed.raw.taken() {
            table_bytes.insert(range);
        }
        let plan = Plan {
            kept: ranges,
            table_bytes,
            interim,
            last: last
                .writes(disk)
                .with_context(|| format!("the table of {image} on {name}"))?,
            disk,
            old: old_signatures::remember(self.output),
            new,
        };
        self.check_tables(image_table, &plan, kept)?;
        self.check_free(&plan, kept, &image_table.parsed)?;
        self.check_outside(image_table.parsed.table.kind, &plan)?;
        Ok(plan)
    }

    /// Puts kept partitions into the image's table, `last`. The target's with them alone is what it has meanwhile.
    fn adopt(
        &self,
        last: &mut Raw,
        target: &ParsedTable,
        kept: &[Partition],
    ) -> anyhow::Result<Raw> {
        let (image, name) = (self.image.name(), self.output.name());
        let logical = kept.iter().find(|keep| target.raw.is_logical(keep.number));
        if let (Some(keep), None) = (logical, self.image.indexed()) {
            bail!(
                "partition {keep} of {name} is a logical one, and {image} has no index to show its own \
                 logical partitions: convert it first"
            );
        }
        let numbers: Vec<u32> = kept.iter().map(|partition| partition.number).collect();
        let adopted = last.adopt(&target.raw, &numbers);
        adopted.with_context(|| format!("keeping partitions of {name} in the table of {image}"))?;
        let mut alone = target.raw.clone();
        alone.keep_only(&numbers);
        Ok(alone)
    }

    fn run(&self, plan: &Plan) -> anyhow::Result<Restored> {
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
        // A foreign image ends where it ends: its size may not be known yet.
        let limit = self.image.indexed().is_none().then_some(plan.disk);
        let remapped = RemappedOutput::in_place(self.output, plan.disk, &own).with_limit(limit);
        let restored = self.run_restore(&remapped)?;
        // Every table that is or was stays as well: `rest` sees to those.
        own.union(&plan.new);
        old_signatures::clear(self.output, restored.size, &plan.old, &own, self.reporter)
            .with_context(|| {
                format!("clearing {} past the end of the image", self.output.name())
            })?;
        // All else is proven and safe. What is no table any more goes first, the new table last.
        self.write(&rest(plan, &tables, &remapped)?)?;
        self.write(&plan.last.backup)?;
        self.write(&plan.last.primary)?;
        Ok(restored)
    }
}

/// What of the bytes of all tables the last one does not take: as the image has them, its own table's as zeros.
fn rest(
    plan: &Plan,
    tables: &Extents,
    remapped: &RemappedOutput,
) -> anyhow::Result<Vec<TableWrite>> {
    let mut last = Extents::new();
    for range in plan.last.ranges() {
        last.insert(range);
    }
    let mut pieces = Vec::new();
    for range in tables.without(&last).clipped(0..plan.disk).iter() {
        let mut bytes = vec![0; usize::try_from(range.end - range.start)?];
        remapped.read_exact_at(&mut bytes, range.start)?;
        for own in plan.table_bytes.within(range.clone()) {
            let from = usize::try_from(own.start - range.start)?;
            let to = usize::try_from(own.end - range.start)?;
            bytes[from..to].fill(0);
        }
        pieces.push((range.start, bytes));
    }
    Ok(pieces)
}
