//! A restore before its first write: all that can be refused is refused here, for every option.
//!
//! [`PreparedRestore`] holds the disk, so that nobody takes it meanwhile. Several disks are made ready before the first of them
//! is written.

use super::new_ids::Renewal;
use super::opened_image::OpenedImage;
use super::partial_restore::{Kept, Pair, Plan, left_out};
use super::restore_task::Task;
use super::restored::Restored;
use super::{
    Feed, Growth, ImageError, ImageSource, Part, RestoreOptions, grow, reread_table, whole_restore,
};
use crate::disk::{Output, Target};
use crate::event::{Reporter, Silent};
use crate::extents::Extents;
use crate::table::Partition;
use anyhow::{Context, bail};
use std::path::{Path, PathBuf};

/// A restore that nothing is known against.
pub struct PreparedRestore<'a> {
    image: &'a OpenedImage<'a>,
    path: PathBuf,
    options: RestoreOptions,
    output: Target,
    method: Method,
    renewal: Option<Renewal>,
    growth: Option<Growth>,
}

/// How the image gets to the disk.
enum Method {
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
) -> Result<Restored, ImageError> {
    check_options(options).map_err(ImageError::refused)?;
    let image = OpenedImage::borrow(image)?;
    PreparedRestore::new(&image, target, options, reporter)?.run(reporter)
}

impl<'a> PreparedRestore<'a> {
    /// Opens `target` and looks at all that a restore of `image` to it will need. Writes nothing.
    ///
    /// # Errors
    /// When the image is not whole as far as its end tells, when the target is too small or in use, and when an option
    /// asks for what cannot be done.
    pub fn new(
        image: &'a OpenedImage<'a>,
        target: &Path,
        options: &RestoreOptions,
        reporter: &dyn Reporter,
    ) -> Result<Self, ImageError> {
        Self::check(image, target, options, reporter).map_err(ImageError::refused)
    }

    fn check(
        image: &'a OpenedImage<'a>,
        target: &Path,
        options: &RestoreOptions,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<Self> {
        check_options(options)?;
        let output = Target::open(target)?;
        let growth = grow::wanted(image, &output, options, reporter)?;
        let task = Task {
            image,
            output: &output,
            options,
            feed: None,
            reporter,
        };
        let method = Method::of(&task)?;
        let renewal = method.renewal(&task)?;
        Ok(Self {
            image,
            path: target.into(),
            options: options.clone(),
            method,
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
    pub fn run(self, reporter: &dyn Reporter) -> Result<Restored, ImageError> {
        self.write(None, reporter).map_err(ImageError::failed)
    }

    /// Writes what `feed` brings. An image without an index comes from where it is all the same.
    ///
    /// # Errors
    /// As [`run`](Self::run), and those of the feed.
    pub fn run_fed(self, feed: &dyn Feed, reporter: &dyn Reporter) -> Result<Restored, ImageError> {
        self.write(Some(feed), reporter).map_err(ImageError::failed)
    }

    fn write(self, feed: Option<&dyn Feed>, reporter: &dyn Reporter) -> anyhow::Result<Restored> {
        let Self {
            image,
            path,
            mut options,
            output,
            method,
            renewal,
            growth,
        } = self;
        if !matches!(method, Method::Whole) {
            // The image lies otherwise on the disk then.
            options.ahead = None;
        }
        let wanted = image.leaving_out(&method.left_out());
        let task = Task {
            image: &wanted,
            output: &output,
            options: &options,
            feed,
            reporter,
        };
        let restored = match method {
            Method::Whole => whole_restore::run(&task)?,
            Method::Remade(plan) => task.remake(&plan)?,
            Method::Keep(kept) => task.keep(&kept)?,
            Method::Only(pairs) => task.only(&pairs)?,
        };
        if let Some(renewal) = renewal {
            let limit = output.limit().unwrap_or(restored.size);
            renewal
                .run(&output, limit, reporter)
                .with_context(|| format!("giving {} new identifiers", output.name()))?;
        }
        match growth {
            None => reread_table::reread_table(&output, reporter),
            Some(growth) => growth.run(&path, output, reporter).with_context(|| {
                format!(
                    "{} is whole on {}, but {growth} did not grow",
                    image.name(),
                    path.display()
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

impl Method {
    fn of(task: &Task) -> anyhow::Result<Self> {
        Ok(match &task.options.part {
            Part::Whole => {
                if let Some(plan) = task.remade()? {
                    return Ok(Self::Remade(plan));
                }
                whole_restore::check(task)?;
                Self::Whole
            }
            Part::Keep(selectors) => Self::Keep(task.kept(selectors)?),
            Part::Only(selectors) => Self::Only(task.pairs(selectors)?),
        })
    }

    /// What of the image is not fetched.
    fn left_out(&self) -> Extents {
        match self {
            Self::Whole => Extents::new(),
            Self::Remade(plan) => plan.left_out(),
            Self::Keep(kept) => kept.plan.left_out(),
            Self::Only(pairs) => left_out(pairs),
        }
    }

    fn renewal(&self, task: &Task) -> anyhow::Result<Option<Renewal>> {
        if !task.options.new_ids {
            return Ok(None);
        }
        let remade = match self {
            Self::Remade(plan) => Some(plan.last()),
            _ => None,
        };
        Renewal::of(task.image, task.output, remade).map(Some)
    }
}

/// What a restore would do with single partitions of the disk at `target`, a sentence each. Writes nothing.
///
/// # Errors
/// What such a restore would refuse before its first write, but for what needs the disk for itself.
pub fn foresee(
    image: &OpenedImage,
    target: &Path,
    options: &RestoreOptions,
) -> anyhow::Result<Vec<String>> {
    let output = Target::look(target)?;
    let task = Task {
        image,
        output: &output,
        options,
        feed: None,
        reporter: &Silent,
    };
    if options.new_ids {
        check_options(options)?;
        Method::of(&task)?.renewal(&task)?;
    }
    match &options.part {
        Part::Whole => {
            let plan = task.remade()?;
            let note = plan.and_then(|_| task.other_sectors_note());
            Ok(note.into_iter().collect())
        }
        Part::Keep(selectors) => {
            let kept = task.kept(selectors)?.partitions;
            let tell = |keep: &Partition| format!("partition {keep} stays as it is");
            let note = task.other_sectors_note().into_iter();
            Ok(note.chain(kept.iter().map(tell)).collect())
        }
        Part::Only(selectors) => {
            let pairs = task.pairs(selectors)?;
            let tell = |Pair { from, to }: &Pair| {
                format!("partition {from} of the image goes to partition {to}")
            };
            Ok(pairs.iter().map(tell).collect())
        }
    }
}
