//! A restore before its first write: all that can be refused is refused here, for every option.
//!
//! [`PreparedRestore`] holds the disk, so that nobody takes it meanwhile. Several disks are made ready before the first of them
//! is written.

use super::new_ids::Renewal;
use super::partial_restore::{Kept, Pair, Plan, Task};
use super::restore::{Restored, check_fits, restore_indexed};
use super::verify::{OpenedImage, open};
use super::{
    Growth, ImageSource, Part, RestoreOptions, foreign, grow, larger_disk, old_signatures,
    reread_table,
};
use crate::disk::{Output, Target};
use crate::event::Reporter;
use crate::extents::Extents;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};

/// A restore that nothing is known against.
pub struct PreparedRestore<'a> {
    image: &'a dyn ImageSource,
    path: PathBuf,
    options: RestoreOptions,
    output: Target,
    opened: OpenedImage,
    way: Way,
    renewal: Option<Renewal>,
    growth: Option<Growth>,
}

/// How the image gets to the disk.
enum Way {
    /// As it is.
    Whole,
    /// With a table of the disk's own, which is smaller or has other sectors.
    Remade(Plan),
    Keep(Kept),
    Only(Vec<Pair>),
}

/// Writes `image` to `target`: a block device that nothing else uses, or a plain file. A file that is
/// not there is made with the image's size; whatever is larger keeps what is behind that size, but for
/// the backup of a GPT, which moves to the end.
///
/// # Errors
/// Before anything is written: as [`PreparedRestore::new`]. Later: as [`PreparedRestore::run`].
pub fn restore(
    image: &dyn ImageSource,
    target: &Path,
    options: &RestoreOptions,
    reporter: &dyn Reporter,
) -> anyhow::Result<Restored> {
    PreparedRestore::new(image, target, options, reporter)?.run(reporter)
}

impl<'a> PreparedRestore<'a> {
    /// Opens `target` and looks at all that a restore of `image` to it will need. Writes nothing.
    ///
    /// # Errors
    /// When the image is not whole as far as its end tells, when the target is too small or in use, and when an option
    /// asks for what cannot be done.
    pub fn new(
        image: &'a dyn ImageSource,
        target: &Path,
        options: &RestoreOptions,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<Self> {
        check_options(options)?;
        let opened = open(image)?;
        let output = Target::open(target)?;
        let growth = grow::wanted(image, &opened, &output, options, reporter)?;
        let task = Task {
            image,
            output: &output,
            options,
            reporter,
        };
        let way = Way::of(&task, &opened)?;
        let renewal = way.renewal(&task, &opened)?;
        Ok(Self {
            image,
            path: target.into(),
            options: options.clone(),
            opened,
            way,
            renewal,
            growth,
            output,
        })
    }

    /// Writes.
    ///
    /// # Errors
    /// When a chunk is not what the index says, when reading or writing fails, or when `verify` finds a difference
    /// twice. The target's first MiB is zeros then: it does not boot half an image. When a program that lets a
    /// filesystem grow fails: the image is whole on the disk then.
    pub fn run(self, reporter: &dyn Reporter) -> anyhow::Result<Restored> {
        let task = Task {
            image: self.image,
            output: &self.output,
            options: &self.options,
            reporter,
        };
        let restored = match self.way {
            Way::Whole => whole(&task, self.opened)?,
            Way::Remade(plan) => task.remake(self.opened, &plan)?,
            Way::Keep(kept) => task.keep(self.opened, &kept)?,
            Way::Only(pairs) => task.only(self.opened, &pairs)?,
        };
        let output = self.output;
        if let Some(renewal) = self.renewal {
            let limit = output.limit().unwrap_or(restored.size);
            renewal
                .run(&output, limit, reporter)
                .with_context(|| format!("giving {} new identifiers", output.name()))?;
        }
        match self.growth {
            None => reread_table::reread_table(&output, reporter),
            Some(growth) => growth.run(&self.path, output, reporter).with_context(|| {
                format!(
                    "{} is whole on {}, but {growth} did not grow",
                    self.image.name(),
                    self.path.display()
                )
            })?,
        }
        Ok(restored)
    }
}

fn check_options(options: &RestoreOptions) -> anyhow::Result<()> {
    if options.new_ids && options.part != Part::Whole {
        bail!("new-ids is for all partitions of a disk: it does not go with keep or partitions");
    }
    Ok(())
}

impl Way {
    fn of(task: &Task, opened: &OpenedImage) -> anyhow::Result<Self> {
        Ok(match &task.options.part {
            Part::Whole => {
                if let Some(plan) = task.remade(opened)? {
                    return Ok(Self::Remade(plan));
                }
                check_whole(task, opened)?;
                Self::Whole
            }
            Part::Keep(selectors) => Self::Keep(task.kept(opened, selectors)?),
            Part::Only(selectors) => Self::Only(task.pairs(opened, selectors)?),
        })
    }

    fn renewal(&self, task: &Task, opened: &OpenedImage) -> anyhow::Result<Option<Renewal>> {
        if !task.options.new_ids {
            return Ok(None);
        }
        let remade = match self {
            Self::Remade(plan) => Some(plan.last()),
            _ => None,
        };
        Renewal::of(task.image, opened, task.output, remade).map(Some)
    }
}

/// Whether `target` could be given new identifiers with `image` on it. Writes nothing.
///
/// # Errors
/// As a restore would before its first write.
pub(super) fn check_renewal(task: &Task, opened: &OpenedImage) -> anyhow::Result<()> {
    check_options(task.options)?;
    Way::of(task, opened)?.renewal(task, opened).map(drop)
}

/// What forbids writing an image as it is.
fn check_whole(task: &Task, opened: &OpenedImage) -> anyhow::Result<()> {
    match opened {
        OpenedImage::Indexed(loaded) => check_fits(task.output, loaded.index.raw_size()),
        OpenedImage::Foreign { kind, raw_size } => {
            let stream = stream(task.output, *kind, *raw_size);
            foreign::check_target(task.image, &stream, task.output)
        }
    }
}

fn stream(output: &Target, kind: super::Kind, raw_size: Option<u64>) -> foreign::Stream {
    foreign::Stream {
        sector: output.sector_size(),
        ..foreign::Stream::whole(kind, raw_size)
    }
}

fn whole(task: &Task, opened: OpenedImage) -> anyhow::Result<Restored> {
    let Task {
        image,
        output,
        options,
        reporter,
    } = *task;
    let old = old_signatures::remember(output);
    let restored = match opened {
        OpenedImage::Indexed(loaded) => restore_indexed(image, *loaded, output, options, reporter)?,
        OpenedImage::Foreign { kind, raw_size } => {
            let stream = stream(output, kind, raw_size);
            foreign::restore(image, stream, output, options, reporter)?
        }
    };
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
