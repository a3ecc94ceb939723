//! A restore before its first write: all that can be refused is refused here, for every option.
//!
//! [`Ready`] holds the disk, so that nobody takes it meanwhile. Several disks are made ready before the first of them
//! is written.

use super::ids::Renewal;
use super::restore::{Restored, check_fits, restore_ours};
use super::selected::{Kept, Pair, Plan, Task};
use super::verify::{Look, look};
use super::{Growth, ImageSource, Part, RestoreOptions, behind, fit, foreign, grow, kernel};
use crate::disk::{Output, Target};
use crate::event::Reporter;
use crate::extents::Extents;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};

/// A restore that nothing is known against.
pub struct Ready<'a> {
    image: &'a dyn ImageSource,
    path: PathBuf,
    options: RestoreOptions,
    output: Target,
    look: Look,
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
/// Before anything is written: as [`Ready::new`]. Later: as [`Ready::run`].
pub fn restore(
    image: &dyn ImageSource,
    target: &Path,
    options: &RestoreOptions,
    reporter: &dyn Reporter,
) -> anyhow::Result<Restored> {
    Ready::new(image, target, options, reporter)?.run(reporter)
}

impl<'a> Ready<'a> {
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
        let look = look(image)?;
        let output = Target::open(target)?;
        let growth = grow::wanted(image, &look, &output, options, reporter)?;
        let task = Task {
            image,
            output: &output,
            options,
            reporter,
        };
        let way = Way::of(&task, &look)?;
        let renewal = way.renewal(&task, &look)?;
        Ok(Self {
            image,
            path: target.into(),
            options: options.clone(),
            look,
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
            Way::Whole => whole(&task, self.look)?,
            Way::Remade(plan) => task.remake(self.look, &plan)?,
            Way::Keep(kept) => task.keep(self.look, &kept)?,
            Way::Only(pairs) => task.only(self.look, &pairs)?,
        };
        let output = self.output;
        if let Some(renewal) = self.renewal {
            let limit = output.limit().unwrap_or(restored.size);
            renewal
                .run(&output, limit, reporter)
                .with_context(|| format!("giving {} new identifiers", output.name()))?;
        }
        match self.growth {
            None => kernel::tell(&output, reporter),
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
    fn of(task: &Task, look: &Look) -> anyhow::Result<Self> {
        Ok(match &task.options.part {
            Part::Whole => {
                if let Some(plan) = task.remade(look)? {
                    return Ok(Self::Remade(plan));
                }
                check_whole(task, look)?;
                Self::Whole
            }
            Part::Keep(selectors) => Self::Keep(task.kept(look, selectors)?),
            Part::Only(selectors) => Self::Only(task.pairs(look, selectors)?),
        })
    }

    fn renewal(&self, task: &Task, look: &Look) -> anyhow::Result<Option<Renewal>> {
        if !task.options.new_ids {
            return Ok(None);
        }
        let remade = match self {
            Self::Remade(plan) => Some(plan.last()),
            _ => None,
        };
        Renewal::of(task.image, look, task.output, remade).map(Some)
    }
}

/// Whether `target` could be given new identifiers with `image` on it. Writes nothing.
///
/// # Errors
/// As a restore would before its first write.
pub(super) fn check_renewal(task: &Task, look: &Look) -> anyhow::Result<()> {
    check_options(task.options)?;
    Way::of(task, look)?.renewal(task, look).map(drop)
}

/// What forbids writing an image as it is.
fn check_whole(task: &Task, look: &Look) -> anyhow::Result<()> {
    match look {
        Look::Ours(loaded) => check_fits(task.output, loaded.index.raw_size()),
        Look::Foreign { kind, raw_size } => {
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

fn whole(task: &Task, look: Look) -> anyhow::Result<Restored> {
    let Task {
        image,
        output,
        options,
        reporter,
    } = *task;
    let old = behind::remember(output);
    let restored = match look {
        Look::Ours(loaded) => restore_ours(image, *loaded, output, options, reporter)?,
        Look::Foreign { kind, raw_size } => {
            let stream = stream(output, kind, raw_size);
            foreign::restore(image, stream, output, options, reporter)?
        }
    };
    if output.limit().is_none_or(|limit| limit <= restored.size) {
        return Ok(restored);
    }
    // What lies there is the target's own from before: whoever owns the image's disk ends with it.
    behind::clear(output, restored.size, &old, &Extents::new(), reporter)
        .with_context(|| format!("clearing {} past the end of the image", output.name()))?;
    let owner = fit::owner_of_disk(output, restored.size)
        .with_context(|| format!("looking for who owns {}", output.name()))?;
    if let Some(owner) = owner {
        reporter.info(format!(
            "{}: {owner}: nothing on it is moved",
            output.name()
        ));
        return Ok(restored);
    }
    fit::follow_end(output, restored.size, reporter)
        .with_context(|| format!("moving the backup GPT to the end of {}", output.name()))?;
    Ok(restored)
}
