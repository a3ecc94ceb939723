//! Restoring a part: partitions of the target that survive, single partitions of the image, a disk that is smaller
//! than the image's or has other sectors.

mod checks;
pub mod image_table;
mod kept_partitions;
mod other_sectors;
mod remap;
mod single_partitions;

use super::larger_disk::Written;
use super::restore::{Restored, restore_indexed, write_table};
use super::verify::{OpenedImage, open};
use super::{ImageSource, Part, RestoreOptions, foreign, prepare};
use crate::disk::{Output, Target};
use crate::event::{Reporter, Silent};
use crate::extents::Extents;
use crate::table::{ParsedTable, Partition, TableWrite};
use anyhow::{Context, bail};
pub use kept_partitions::{Kept, Plan};
use remap::RemappedOutput;
pub use single_partitions::Pair;
use std::path::Path;

/// One restore, and what it goes to.
pub struct Task<'a> {
    pub image: &'a dyn ImageSource,
    pub output: &'a Target,
    pub options: &'a RestoreOptions,
    pub reporter: &'a dyn Reporter,
}

/// What a restore would do with single partitions of the disk at `target`, a sentence each. Writes nothing.
///
/// # Errors
/// What such a restore would refuse before its first write, but for what needs the disk for itself.
pub fn foresee(
    image: &dyn ImageSource,
    target: &Path,
    options: &RestoreOptions,
) -> anyhow::Result<Vec<String>> {
    let output = Target::look(target)?;
    let opened = open(image)?;
    let task = Task {
        image,
        output: &output,
        options,
        reporter: &Silent,
    };
    if options.new_ids {
        prepare::check_renewal(&task, &opened)?;
    }
    match &options.part {
        Part::Whole => {
            let plan = task.remade(&opened)?;
            let note = plan.and_then(|_| task.other_sectors_note(&opened));
            Ok(note.into_iter().collect())
        }
        Part::Keep(selectors) => {
            let kept = task.kept(&opened, selectors)?.partitions;
            let tell = |keep: &Partition| format!("partition {keep} stays as it is");
            Ok(task
                .other_sectors_note(&opened)
                .into_iter()
                .chain(kept.iter().map(tell))
                .collect())
        }
        Part::Only(selectors) => {
            let pairs = task.pairs(&opened, selectors)?;
            let tell = |Pair { from, to }: &Pair| {
                format!("partition {from} of the image goes to partition {to}")
            };
            Ok(pairs.iter().map(tell).collect())
        }
    }
}

impl Task<'_> {
    /// Bytes of the target.
    fn disk(&self) -> anyhow::Result<u64> {
        let name = self.output.name();
        self.output
            .limit()
            .with_context(|| format!("{name} has no partitions yet: it is new"))
    }

    /// The table of the target, whose sectors are `sector` bytes.
    fn target(&self, sector: u32) -> anyhow::Result<ParsedTable> {
        let (output, name) = (self.output, self.output.name());
        let limit = self.disk()?;
        if let Some(own) = output.sector_size().filter(|own| *own != sector) {
            bail!(
                "{} is of a disk with sectors of {sector} bytes, {name} has sectors of {own}: without an index the two \
                 do not go together; convert it",
                self.image.name()
            );
        }
        let mut disk = Written { output, limit };
        let what = || format!("the partition table on {name}");
        let parsed = ParsedTable::read(&mut disk, sector)
            .with_context(what)?
            .with_context(|| format!("{name} has no partition table"))?;
        image_table::check_owner(&mut disk, &parsed).with_context(what)?;
        Ok(parsed)
    }

    /// Runs the restore with `remapped` as its target. Chunks wholly in `left_out` are not fetched.
    fn run_restore(
        &self,
        opened: OpenedImage,
        remapped: &RemappedOutput,
        left_out: &Extents,
    ) -> anyhow::Result<Restored> {
        let Self {
            image,
            options,
            reporter,
            ..
        } = *self;
        match opened {
            OpenedImage::Indexed(mut loaded) => {
                loaded.index.leave_out(left_out);
                restore_indexed(image, *loaded, remapped, options, reporter)
            }
            OpenedImage::Foreign { kind, raw_size } => {
                let stream = foreign::Stream {
                    kind,
                    raw_size,
                    sector: self.output.sector_size(),
                    left_out: left_out.clone(),
                };
                foreign::restore(image, stream, remapped, options, reporter)
            }
        }
    }

    /// Writes `pieces` and waits until they are safe; reads them back where that is asked for.
    fn write(&self, pieces: &[TableWrite]) -> anyhow::Result<()> {
        let output = self.output;
        write_table(output, pieces)?;
        if !self.options.verify {
            return Ok(());
        }
        let name = output.name();
        output
            .drop_cache()
            .with_context(|| format!("dropping what is cached of {name}"))?;
        for (at, bytes) in pieces {
            let mut read = vec![0; bytes.len()];
            output
                .read_at(&mut read, *at)
                .with_context(|| format!("reading {name} back at {at}"))?;
            if read != *bytes {
                bail!("{name} does not read back as written at {at}: replace the disk");
            }
        }
        Ok(())
    }
}
