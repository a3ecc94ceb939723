//! A restore that leaves partitions of the target as they are, also when it fails half-way, and one to a disk that
//! is smaller than the image's or has other sectors.

use super::super::behind;
use super::super::restore::{Restored, invalidate, is_larger};
use super::super::verify::Look;
use super::Task;
use super::looking::Seen;
use super::through::Through;
use crate::disk::Output;
use crate::extents::Extents;
use crate::table::{Known, Partition, PartitionSelector, Piece, Pieces, Raw};
use crate::units;
use anyhow::{Context, bail};

/// All that is decided before the first write.
pub struct Plan {
    kept: Extents,
    /// The bytes that the image's own table takes.
    pub(super) image_table: Extents,
    /// A table of the kept partitions alone, for as long as the restore is under way.
    pub(super) interim: Option<Pieces>,
    /// The table that the disk gets.
    pub(super) last: Pieces,
    /// Bytes of the target.
    pub(super) disk: u64,
    /// Where the target's partitions have what makes them known.
    old: Extents,
    /// Where the image's partitions are.
    pub(super) new: Extents,
}

/// Partitions of the target that survive, and how.
pub struct Kept {
    plan: Plan,
    pub(super) partitions: Vec<Partition>,
}

impl Plan {
    /// The table that the disk gets.
    pub fn last(&self) -> &Pieces {
        &self.last
    }

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
    /// Restores all but what `kept` has.
    ///
    /// # Errors
    /// As any restore; the disk has the kept partitions alone then.
    pub fn keep(&self, look: Look, kept: &Kept) -> anyhow::Result<Restored> {
        let name = self.output.name();
        for partition in &kept.partitions {
            self.reporter
                .info(format!("{name}: partition {partition} is kept as it is"));
        }
        self.tell(&look);
        self.run(look, &kept.plan)
    }

    /// What is to be done so that the partitions of the target that `selectors` name are kept.
    ///
    /// # Errors
    /// A selector that names none or two, what the image has where a kept partition is, tables that cannot be made one.
    pub fn kept(&self, look: &Look, selectors: &[PartitionSelector]) -> anyhow::Result<Kept> {
        let (image, name) = (self.image.name(), self.output.name());
        let seen = self.seen(look)?.with_context(|| {
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
        let plan = self.plan(look, &seen, Some((&target, &kept)))?;
        Ok(Kept {
            plan,
            partitions: kept,
        })
    }

    /// Restores an image whose own table does not suit the disk: it gets the one of `plan`.
    ///
    /// # Errors
    /// As any restore; the disk has no table then.
    pub fn remake(&self, look: Look, plan: &Plan) -> anyhow::Result<Restored> {
        let (image, name) = (self.image.name(), self.output.name());
        if is_larger(&look, self.output) {
            self.reporter.info(format!(
                "{name} is smaller than the disk of {image}: the space past its end is unused, so the table is shortened to fit"
            ));
        }
        self.tell(&look);
        self.run(look, plan)
    }

    /// What is to be done where the disk is smaller than the image's or has other sectors. `None` where all of it goes
    /// to the disk as it is.
    ///
    /// # Errors
    /// With the numbers, and what is in the way.
    pub fn remade(&self, look: &Look) -> anyhow::Result<Option<Plan>> {
        let (image, name) = (self.image.name(), self.output.name());
        let is_larger = is_larger(look, self.output);
        if !is_larger && !self.has_other_sectors(look) {
            return Ok(None);
        }
        let mut seen = self.seen(look);
        if is_larger {
            let disk = self.disk()?;
            seen = seen.with_context(|| {
                format!(
                    "{name} is too small: it has {disk} bytes ({}), the disk of {image} has more",
                    units::bytes(disk)
                )
            });
        }
        match seen? {
            Some(seen) => self.plan(look, &seen, None).map(Some),
            None => self.check_whole(look).map(|()| None),
        }
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
        let kept = target.map_or(&[][..], |(_, kept)| kept);
        let mut ranges = Extents::new();
        for keep in kept {
            ranges.insert(keep.range());
        }
        let mut interim = None;
        if let Some((target, _)) = target {
            self.check_apart(&seen.known, target, kept)?;
            let alone = self.adopt(look, &mut last, target, kept)?;
            let pieces = alone.pieces(disk);
            interim = Some(pieces.with_context(|| format!("the partition table on {name}"))?);
        }
        self.check_fits(look, seen, disk)?;
        let partitions = seen.known.table.partitions.iter();
        self.check_contents(look, partitions.filter(|own| !ranges.touches(own.range())))?;
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
        self.check_tables(look, seen, &plan, kept)?;
        self.check_free(look, &plan, kept, &seen.known)?;
        self.check_outside(look, seen.known.table.kind, &plan)?;
        Ok(plan)
    }

    /// Puts kept partitions into the image's table, `last`. The target's with them alone is what it has meanwhile.
    fn adopt(
        &self,
        look: &Look,
        last: &mut Raw,
        target: &Known,
        kept: &[Partition],
    ) -> anyhow::Result<Raw> {
        let (image, name) = (self.image.name(), self.output.name());
        let logical = kept.iter().find(|keep| target.raw.is_logical(keep.number));
        if let (Some(keep), Look::Foreign { .. }) = (logical, look) {
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
        behind::clear(self.output, restored.size, &plan.old, &own, self.reporter).with_context(
            || format!("clearing {} past the end of the image", self.output.name()),
        )?;
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
