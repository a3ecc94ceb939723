//! A disk that is larger than its image: the backup GPT moves to the end, and the rest of the disk becomes usable.

use super::target_writes::write_table;
use crate::disk::Output;
use crate::event::Reporter;
use crate::source::Window;
use crate::table::{self, TableError, TableKind};
use crate::used::claims;
use std::io;

/// Lets the GPT of `output`, on which an image of `size` bytes was proven, end where the disk ends. A table in
/// doubt is left as it was captured, with a warning.
///
/// # Errors
/// When the disk cannot be read or written. The table of the image stays in force then.
pub fn move_backup_gpt(
    output: &dyn Output,
    size: u64,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    let Some(limit) = output.limit().filter(|limit| *limit > size) else {
        return Ok(());
    };
    let moved = match table::move_backup_gpt(&Window::new(output, 0, limit), size) {
        Ok(Some(moved)) => moved,
        Ok(None) => return Ok(()),
        Err(TableError::Read(error)) => return Err(error.into()),
        Err(doubt @ TableError::Doubtful { .. }) => {
            let name = output.name();
            reporter.warn(format!(
                "{name} is larger than its image; the GPT is left as it was captured: {doubt}"
            ));
            return Ok(());
        }
    };
    write_table(output, &moved.backup)?;
    write_table(output, &moved.primary)?;
    write_table(output, moved.stale.as_slice())?;
    reporter.info(format!(
        "{} is larger than its image: the backup GPT moved to its end",
        output.name()
    ));
    Ok(())
}

/// Says so where the table that was written to `output` names more than the image of `size` bytes has: a file that was
/// cut short looks so, and nothing else of it tells.
pub(super) fn warn_of_missing_end(output: &dyn Output, size: u64, reporter: &dyn Reporter) {
    // What lies behind it on the disk is of the target's own past, and says nothing of the image.
    let disk = Window::new(output, 0, size);
    // The restore is proven: a table that cannot be read has no say.
    let named = [512, 4096]
        .into_iter()
        .filter_map(|sector| table::named(&disk, sector).ok())
        .find(|named| !named.is_empty());
    let behind = named.and_then(|named| named.into_iter().find(|one| one.range().end > size));
    if let Some(partition) = behind {
        let (name, end) = (output.name(), partition.range().end);
        reporter.warn(format!(
            "{name}: the image ends at byte {size}, and its partition {partition} at {end}: if nobody left out the rest \
             on purpose, the image was cut short, and {name} is not whole"
        ));
    }
}

/// Who owns the whole of the disk of `size` bytes that was written to `output`, beside its table. A table that cannot be
/// read has no say.
///
/// # Errors
/// When the disk cannot be read.
pub(super) fn owner_of_disk(output: &dyn Output, size: u64) -> io::Result<Option<String>> {
    let disk = Window::new(output, 0, size);
    for sector in [512, 4096] {
        let Ok(table) = table::read(&disk, sector) else {
            continue;
        };
        if table.kind != TableKind::None {
            return claims::owner_of_disk(&disk, &table);
        }
    }
    Ok(None)
}
