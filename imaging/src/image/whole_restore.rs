//! A restore of the whole image, as it is, to a disk of its size or a larger one.

use super::opened_image::Contents;
use super::restore_task::Task;
use super::restored::Restored;
use super::target_writes::check_fits;
use super::{foreign, larger_disk, old_signatures};
use crate::disk::Output;
use crate::extents::Extents;
use anyhow::Context;

/// What forbids writing an image as it is.
pub fn check(task: &Task) -> anyhow::Result<()> {
    match task.image.contents() {
        Contents::Indexed(loaded) => check_fits(task.output, loaded.index.raw_size()),
        Contents::Foreign(foreign) => {
            foreign::check_target(task.source(), &task.stream(foreign), task.output)
        }
    }
}

/// Restores all of it. On a larger disk old signatures past the image's end are zeroed, and the backup GPT moves.
pub fn run(task: &Task) -> anyhow::Result<Restored> {
    let Task {
        output, reporter, ..
    } = *task;
    let mut old = old_signatures::remember(output);
    if let Some(ahead) = &task.options.ahead {
        old.union(ahead.old());
    }
    let restored = task.run_restore(output)?;
    larger_disk::warn_of_missing_end(output, restored.size, reporter);
    if output.limit().is_none_or(|limit| limit <= restored.size) {
        return Ok(restored);
    }
    // What lies there is the target's own from before: whoever owns the image's disk ends with it.
    old_signatures::clear(output, restored.size, &old, &Extents::new(), reporter)
        .with_context(|| format!("clearing {} past the end of the image", output.name()))?;
    let owner = larger_disk::owner_of_disk(output, restored.size)
        .with_context(|| format!("looking for who owns {}", output.name()))?;
    if let Some(owner) = owner {
        reporter.info(format!(
            "{}: {owner}: nothing on it is moved",
            output.name()
        ));
        return Ok(restored);
    }
    larger_disk::move_backup_gpt(output, restored.size, reporter)
        .with_context(|| format!("moving the backup GPT to the end of {}", output.name()))?;
    Ok(restored)
}
