//! Writing to the target of a restore: errors that name it and the place, tables, and what makes it unbootable meanwhile.

use crate::disk::{Buffer, Output};
use crate::table::TableWrite;
use crate::units;
use anyhow::{Context, bail};

/// So much of the beginning and of the end of a disk, where partition tables and boot loaders are.
pub const TABLES: u64 = 1 << 20;

/// Refuses a target that is too small.
pub fn check_fits(output: &dyn Output, needed: u64) -> anyhow::Result<()> {
    match output.limit() {
        Some(has) if has < needed => bail!(
            "{} is too small: it has {has} bytes ({}), the image needs {needed} ({})",
            output.name(),
            units::bytes(has),
            units::bytes(needed)
        ),
        _ => Ok(()),
    }
}

/// Makes a disk unbootable before its first other byte is written.
pub fn invalidate(output: &dyn Output, size: Option<u64>) -> anyhow::Result<()> {
    if output.is_blank() {
        return Ok(());
    }
    let zeros = Buffer::new(usize::try_from(TABLES)?);
    let end = size.or(output.limit()).unwrap_or(TABLES);
    let tail = size.map(|size| size.saturating_sub(TABLES)..size);
    for place in std::iter::once(0..TABLES.min(end)).chain(tail) {
        let length = usize::try_from(place.end - place.start)?;
        output
            .write_at(&zeros[..length], place.start)
            .with_context(|| writing(output, place.start))?;
    }
    flush(output)
}

/// `writing /dev/sda at 41943040`
pub fn writing(output: &dyn Output, at: u64) -> String {
    format!("writing {} at {at}", output.name())
}

pub fn flush(output: &dyn Output) -> anyhow::Result<()> {
    output
        .flush()
        .with_context(|| format!("flushing {}", output.name()))
}

/// Writes pieces of tables and waits until they are safe.
pub fn write_table(output: &dyn Output, pieces: &[TableWrite]) -> anyhow::Result<()> {
    for (at, bytes) in pieces {
        output
            .write_at(bytes, *at)
            .with_context(|| writing(output, *at))?;
    }
    flush(output)
}
