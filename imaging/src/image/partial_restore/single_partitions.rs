//! Single partitions of a whole-disk image, each into one of the target's. The rest of the disk is not touched.

use super::remap::{RemappedOutput, Segment};
use crate::disk::Output;
use crate::extents::Extents;
use crate::image::image_table::read_table;
use crate::image::restore_task::Task;
use crate::image::restored::Restored;
use crate::image::target_writes::{TABLES, flush, writing};
use crate::source::ReadAt;
use crate::table::{Partition, PartitionSelector, TableWrite};
use crate::units;
use anyhow::{Context, bail};
use std::ops::Range;

/// A partition of the image, and the one of the target that it goes to.
pub struct Pair {
    pub from: Partition,
    pub to: Partition,
}

impl Pair {
    /// What of the image is written last: without it nothing mounts.
    fn head(&self) -> Range<u64> {
        self.from.start..self.from.start + self.from.size.min(TABLES)
    }

    fn segment(&self) -> Segment {
        let head = self.head();
        Segment {
            to: self.to.start + (head.end - head.start),
            image: head.end..self.from.range().end,
        }
    }
}

impl Task<'_> {
    /// Restores each of `pairs`.
    ///
    /// # Errors
    /// As any restore; the partition's first MiB is zeros then.
    pub fn only(&self, pairs: &[Pair]) -> anyhow::Result<Restored> {
        let name = self.output.name();
        for Pair { from, to } in pairs {
            self.reporter.info(format!(
                "{name}: partition {from} of the image goes to partition {to}; all else stays as it is"
            ));
        }
        let wanted = wanted(pairs);
        self.clear_heads(pairs)?;
        let segments = pairs.iter().map(Pair::segment).collect();
        let remapped = RemappedOutput::new(self.output, segments, None);
        let mut restored = self.run_restore(&remapped)?;
        // All else is proven and safe.
        self.write(&heads(pairs, &remapped)?)?;
        restored.size = wanted.total();
        Ok(restored)
    }

    /// The partitions that `selectors` name, of the image and of the target.
    ///
    /// # Errors
    /// A selector that names none or two, a partition that is missing on the target or too small.
    pub fn pairs(&self, selectors: &[PartitionSelector]) -> anyhow::Result<Vec<Pair>> {
        let (image, name) = (self.image.name(), self.output.name());
        let sector = self.output.sector_size().unwrap_or(512);
        let image_table = read_table(self.image, sector)?
            .with_context(|| format!("{image} is of a disk without partitions"))?;
        let target = self.target(self.target_sector(&image_table))?;
        let mut pairs: Vec<Pair> = Vec::new();
        for selector in selectors {
            let from = selector.find(&image_table.parsed.table, image)?;
            let to = selector.find(&target.table, name)?;
            if to.size < from.size {
                bail!(
                    "partition {to} of {name} is too small for partition {from} of {image}: it has {} bytes ({}), \
                     needed are {} ({})",
                    to.size,
                    units::bytes(to.size),
                    from.size,
                    units::bytes(from.size)
                );
            }
            let same =
                |pair: &&Pair| (pair.from.number == from.number) != (pair.to.number == to.number);
            if let Some(other) = pairs.iter().find(same) {
                bail!(
                    "{selector} and another selector mean partition {} of {name} for two of {image}",
                    other.to.number
                );
            }
            if pairs.iter().all(|pair| pair.from.number != from.number) {
                pairs.push(Pair {
                    from: from.clone(),
                    to: to.clone(),
                });
            }
        }
        self.check_contents(pairs.iter().map(|pair| &pair.from))?;
        Ok(pairs)
    }

    /// A restore that breaks off leaves nothing that mounts.
    fn clear_heads(&self, pairs: &[Pair]) -> anyhow::Result<()> {
        for Pair { to, .. } in pairs {
            self.output
                .write_zeros(to.start..to.start + to.size.min(TABLES))
                .with_context(|| writing(self.output, to.start))?;
        }
        flush(self.output)
    }
}

fn wanted(pairs: &[Pair]) -> Extents {
    let mut wanted = Extents::new();
    for pair in pairs {
        wanted.insert(pair.from.range());
    }
    wanted
}

/// What of the image is not fetched: all but the partitions.
pub fn left_out(pairs: &[Pair]) -> Extents {
    wanted(pairs).gaps(0..u64::MAX)
}

fn heads(pairs: &[Pair], remapped: &RemappedOutput) -> anyhow::Result<Vec<TableWrite>> {
    pairs
        .iter()
        .map(|pair| {
            let head = pair.head();
            let mut bytes = vec![0; usize::try_from(head.end - head.start)?];
            remapped.read_exact_at(&mut bytes, head.start)?;
            Ok((pair.to.start, bytes))
        })
        .collect()
}
