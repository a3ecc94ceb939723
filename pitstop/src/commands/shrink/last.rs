//! The last partition of an image's disk, and how small the disk can become.

use super::scratch::Scratch;
use anyhow::{Context, bail};
use pitstop_imaging::extents::Extents;
use pitstop_imaging::image::ImageReader;
use pitstop_imaging::table::{
    LastPartition, MovedSwap, ParsedTable, Partition, Resized, last_partition,
};
use pitstop_imaging::units;
use pitstop_imaging::used::PartitionSummary;
use pitstop_imaging::used::claims::owner_of_disk;
use std::fmt;

const MIB: u64 = 1 << 20;
/// The least that the filesystem has to spare where no size is asked for, and the part of its least size if that is
/// more.
const SPARE: u64 = 64 * MIB;
const SPARE_PART: u64 = 20;

/// The last partition of a disk, or the filesystem on one without a table.
pub struct Last {
    image: String,
    /// Bytes of the disk.
    disk: u64,
    /// Bytes of a logical sector.
    pub sector: u32,
    parsed: Option<ParsedTable>,
    pub partition: LastPartition,
    pub summary: PartitionSummary,
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filesystem = &self.summary.filesystem;
        match self.partition.number {
            0 => write!(f, "the {filesystem}"),
            number => write!(f, "partition {number} ({filesystem})"),
        }
    }
}

impl Last {
    /// # Errors
    /// When the image cannot be read, does not tell what is on its partitions, or has something behind the last one
    /// that cannot be moved.
    pub fn of(reader: &ImageReader) -> anyhow::Result<Self> {
        let (image, meta) = (reader.name(), reader.meta());
        let sector = meta.disk.logical_sector_size;
        let parsed = ParsedTable::read(reader, sector)
            .with_context(|| format!("the partition table in {image}"))?;
        let what = || format!("the disk in {image} cannot be made smaller");
        if let Some(parsed) = &parsed {
            let owner = owner_of_disk(reader, &parsed.table);
            let owner =
                owner.with_context(|| format!("looking for who owns the disk in {image}"))?;
            if let Some(owner) = owner {
                bail!("the disk in {image} cannot be made smaller: {owner}");
            }
        }
        let last_partition = match &parsed {
            None => LastPartition::of_disk(reader.disk_size()),
            Some(parsed) => last_partition(parsed, &meta.swaps()).with_context(what)?,
        };
        let summary = meta
            .partitions
            .iter()
            .find(|part| part.number == last_partition.number);
        let summary = summary.with_context(|| {
            let note = &meta.table.note;
            format!("{image} does not tell what is on its disk: {note}")
        })?;
        if let Some(swap) = last_partition.swap() {
            meta.check_movable(swap).with_context(what)?;
        }
        Ok(Self {
            image: image.into(),
            disk: reader.disk_size(),
            sector,
            summary: summary.clone(),
            parsed,
            partition: last_partition,
        })
    }

    /// Whether a disk of so many bytes can be asked for, as far as that is known without a look at the filesystem.
    pub fn check_size(&self, to: Option<u64>) -> anyhow::Result<()> {
        let Some(to) = to else { return Ok(()) };
        let image = &self.image;
        if to % u64::from(self.sector) != 0 {
            bail!(
                "--to {to} is no multiple of the {} bytes of a sector",
                self.sector
            );
        }
        if to >= self.disk {
            bail!(
                "{image} is of a disk of {} ({} bytes), which is not larger than {to}: a restore to a larger disk needs \
                 no other image",
                units::bytes(self.disk),
                self.disk
            );
        }
        let needs = self.partition.start.saturating_add(self.summary.used);
        if needs > to {
            bail!(
                "{self} of {image} begins at {} and has {} in use: a disk of {to} bytes ({}) is too small, it has to \
                 have more than {needs}",
                self.partition.start,
                units::bytes(self.summary.used),
                units::bytes(to)
            );
        }
        Ok(())
    }

    /// Whether all that a smaller disk does not have is zeros, or belongs to what shrinks or moves; `owned` is the
    /// filesystem's own part of its partition.
    ///
    /// # Errors
    /// Where the first byte is that nobody owns.
    pub fn check_dropped(
        &self,
        scratch: &Scratch,
        resized: &Resized,
        owned: &Extents,
    ) -> anyhow::Result<()> {
        let own_end = self.partition.start + self.partition.size;
        let mut own = if resized.to < resized.from {
            owned.shifted(self.partition.start)
        } else {
            Extents::single(self.partition.start..own_end)
        };
        own.insert(0..self.partition.start);
        if let Some(swap) = self.partition.moving() {
            own.insert(swap.clone());
            if resized.moved.is_none() {
                own.insert(own_end..swap.start);
            }
        }
        for table in self.parsed.iter().flat_map(|parsed| parsed.raw.taken()) {
            own.insert(table);
        }
        if let Some(at) = scratch.first_data(&own.gaps(0..self.disk))? {
            bail!(
                "{} has data at byte {at}, after {self}, that belongs to no filesystem: it would not be on a smaller disk",
                self.image
            );
        }
        Ok(())
    }

    /// Whether the smaller disk has every partition where it belongs.
    pub fn check_table(&self, scratch: &Scratch, resized: &Resized) -> anyhow::Result<()> {
        let Some(parsed) = &self.parsed else {
            return Ok(());
        };
        let table = scratch.table(self.sector)?;
        let place = |part: &Partition| match &resized.moved {
            Some(moved) if moved.number == part.number => moved.range(),
            _ if resized.number == part.number => resized.range(),
            _ => part.range(),
        };
        let wanted = parsed
            .table
            .partitions
            .iter()
            .map(|part| (part.number, place(part)));
        let found = table
            .partitions
            .iter()
            .map(|part| (part.number, part.range()));
        if !wanted.eq(found) {
            bail!(
                "the table for the smaller disk does not read as it should, no image is made of it: the disk in {} \
                 cannot be made smaller",
                self.image
            );
        }
        Ok(())
    }

    /// What becomes of the partition, whose filesystem needs `least` bytes, on a disk of `to` bytes or the least.
    ///
    /// # Errors
    /// When the disk is too small, with the numbers.
    pub fn resized(&self, least: u64, to: Option<u64>) -> anyhow::Result<Resized> {
        let Some(disk) = to else {
            let spare = SPARE.max(least / SPARE_PART);
            return Ok(self.partition.with_size(least.saturating_add(spare)));
        };
        let room = match &self.parsed {
            None => Resized {
                to: disk,
                ..self.partition.with_size(self.partition.size)
            },
            Some(parsed) => self.partition.on(parsed, disk)?,
        };
        if room.to >= room.from {
            let back = |moved: &MovedSwap| moved.to < moved.whole.start;
            return Ok(Resized {
                to: room.from,
                moved: room.moved.filter(back),
                ..room
            });
        }
        if room.to < least {
            let smallest = self.partition.with_size(least);
            let smallest = Self::smallest(self.table(&smallest)?.as_ref(), &smallest);
            bail!(
                "a disk of {disk} bytes ({}) is too small: {self} would have {}, but needs at least {}; a disk of \
                 {smallest} bytes ({}) is the smallest",
                units::bytes(disk),
                units::bytes(room.to),
                units::bytes(least),
                units::bytes(smallest)
            );
        }
        Ok(room)
    }

    /// The table with the partition as it will be.
    pub fn table(&self, resized: &Resized) -> anyhow::Result<Option<ParsedTable>> {
        let mut parsed = self.parsed.clone();
        if let Some(parsed) = &mut parsed {
            parsed.resize(resized)?;
        }
        Ok(parsed)
    }

    /// Bytes of the smallest disk for that.
    pub fn smallest(table: Option<&ParsedTable>, resized: &Resized) -> u64 {
        table.map_or(resized.range().end, |parsed| parsed.raw.minimum_disk())
    }

    /// How large the disk of the new image is: as asked for, or whole MiB.
    ///
    /// # Errors
    /// When that is no smaller than the one of the old image.
    pub fn disk(&self, smallest: u64, to: Option<u64>) -> anyhow::Result<u64> {
        let whole = smallest.next_multiple_of(MIB);
        match to {
            Some(to) if to < smallest => {
                bail!("a disk of {to} bytes is too small: the table needs {smallest}")
            }
            None if whole >= self.disk => bail!(
                "{} is as small as it can be with something to spare: its disk has {}, and {} are in use of {self}",
                self.image,
                units::bytes(self.disk),
                units::bytes(self.summary.used)
            ),
            _ => Ok(to.unwrap_or(whole)),
        }
    }

    /// What changes, for people.
    pub fn change(&self, resized: &Resized) -> String {
        let (from, to) = (units::bytes(resized.from), units::bytes(resized.to));
        let moved = resized.moved.as_ref();
        let moved = moved.filter(|moved| moved.to != moved.whole.start);
        let swap = moved.map_or(String::new(), |moved| {
            format!(", partition {} (swap) moves behind it", moved.number)
        });
        if resized.to == resized.from {
            format!("{self} stays as it is{swap}")
        } else {
            format!("{self} shrinks from {from} to {to}{swap}")
        }
    }
}
