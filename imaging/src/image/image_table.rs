//! The partition table of an image, read before any of it is restored.

use super::image_bytes::{ImageBytes, ImageHead};
use super::opened_image::{Contents, OpenedImage};
use crate::source::ReadAt;
use crate::table::{ParsedTable, gpt_sector_size};
use crate::used::claims::owner_of_disk;
use anyhow::{Context, bail};

/// The table of an image, and what its sectors are.
pub struct ImageTable {
    pub parsed: ParsedTable,
    pub sector: u32,
    /// Bytes of its disk, where they are known.
    pub size: Option<u64>,
}

/// Reads the table of an image; `None` where it has none. `sector` is what the target's sectors are.
pub fn read_table(opened: &OpenedImage, sector: u32) -> anyhow::Result<Option<ImageTable>> {
    let what = || format!("the partition table in {}", opened.name());
    let mut bytes;
    let mut head;
    let (disk, sector): (&dyn ReadAt, _) = match opened.contents() {
        Contents::Indexed(loaded) => {
            bytes = ImageBytes::new(opened.source(), &loaded.index);
            (&mut bytes, loaded.meta.disk.logical_sector_size)
        }
        Contents::Foreign(foreign) => {
            head = ImageHead::read(opened.source(), foreign.kind)?;
            let sector = gpt_sector_size(head.bytes()).unwrap_or(sector);
            (&mut head, sector)
        }
    };
    let size = opened.raw_size();
    let parsed = ParsedTable::read(disk, sector).with_context(what)?;
    if let Some(parsed) = &parsed {
        check_owner(disk, parsed).with_context(what)?;
    }
    Ok(parsed.map(|parsed| ImageTable {
        parsed,
        sector,
        size,
    }))
}

/// Whether nobody owns the whole disk beside its table, whose partitions are not to be believed then.
///
/// # Errors
/// When somebody does, with the name; when that cannot be read.
pub fn check_owner(disk: &dyn ReadAt, parsed: &ParsedTable) -> anyhow::Result<()> {
    let owner =
        owner_of_disk(disk, &parsed.table).context("looking for who owns the whole disk")?;
    match owner {
        None => Ok(()),
        Some(owner) => bail!("{owner}: only the whole disk can be restored, as it is"),
    }
}
