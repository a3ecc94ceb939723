//! `new-ids`: new GUIDs or a new MBR signature for a copy, and a search for files that still name the old ones.

use super::fit::Written;
use super::restore::write_pieces;
use crate::disk::{Output, Target};
use crate::event::Reporter;
use crate::references;
use crate::table::{self, NewId};
use anyhow::Context;

/// Gives the table on `output` new identifiers and tells each, with the references to the old ones that were seen.
/// The disk has `limit` bytes in logical sectors of `sector` bytes.
///
/// # Errors
/// When the table is in doubt, or the disk cannot be read or written.
pub fn renew(
    output: &Target,
    limit: u64,
    sector: u32,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let name = output.name();
    let mut written = Written { output, limit };
    let mut random = |buffer: &mut [u8]| {
        getrandom::fill(buffer).map_err(|error| std::io::Error::other(error.to_string()))
    };
    let Some(renewed) = table::renew(&mut written, sector, &mut random)? else {
        reporter.info(format!(
            "{name}: no partition table, so there are no identifiers to renew"
        ));
        return Ok(());
    };
    write_pieces(output, &renewed.backup)?;
    write_pieces(output, &renewed.primary)?;
    for id in &renewed.ids {
        reporter.info(format!(
            "{name}: the identifier of {} was {}, is {}",
            id.of, id.from, id.to
        ));
    }
    tell_references(output, &mut written, sector, &renewed.ids, reporter)
}

fn tell_references(
    output: &Target,
    written: &mut Written<'_>,
    sector: u32,
    ids: &[NewId],
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let name = output.name();
    let table = table::read(written, sector)?;
    let looked = references::find(output.file(), &table.partitions, ids)
        .with_context(|| format!("looking for references on {name}"))?;
    for found in looked.references {
        reporter.warn(format!(
            "{name}: {} on partition {} still names the old identifier of {}, {}; it is not changed",
            found.file, found.partition, found.of, found.id
        ));
    }
    for passed_over in looked.passed_over {
        reporter.info(format!(
            "{name}: references to old identifiers were not looked for on {passed_over}"
        ));
    }
    Ok(())
}
