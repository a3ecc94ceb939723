//! Restoring a part: partitions of the target that survive, single partitions of the image, a disk that is smaller
//! than the image's or has other sectors.

mod checks;
mod kept_partitions;
mod other_sectors;
mod remap;
mod single_partitions;

use super::image_table::check_owner;
use super::restore_task::Task;
use super::target_writes::write_table;
use crate::disk::Output;
use crate::source::{ReadAt, Window};
use crate::table::{ParsedTable, TableWrite};
use anyhow::{Context, bail};

pub use kept_partitions::{Kept, Plan};
pub use single_partitions::{Pair, left_out};

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
        let disk = Window::new(output, 0, limit);
        let what = || format!("the partition table on {name}");
        let parsed = ParsedTable::read(&disk, sector)
            .with_context(what)?
            .with_context(|| format!("{name} has no partition table"))?;
        check_owner(&disk, &parsed).with_context(what)?;
        Ok(parsed)
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
                .read_exact_at(&mut read, *at)
                .with_context(|| format!("reading {name} back at {at}"))?;
            if read != *bytes {
                bail!("{name} does not read back as written at {at}: replace the disk");
            }
        }
        Ok(())
    }
}
