//! What a run will do to which disk, decided before anything is touched. Pure; [`Plan`]'s `Display` is
//! the dry run that people read on the console and in the logs.

mod json;
pub mod matching;
mod reported;
pub mod select;
mod show;

use matching::{How, Match, Stored};
use pitstop_imaging::image::{Growth, Part};
use pitstop_imaging::inventory::Disk;
use pitstop_imaging::layout::apply::Changes;
use pitstop_protocol::job::{ActionName, Method};
use select::Selection;
use std::time::Duration;

/// The suffix of a new image.
pub const IMAGE_SUFFIX: &str = ".raw.gz";

/// The suffix of a new image that is encrypted.
pub const ENCRYPTED_SUFFIX: &str = ".raw.gz.age";

/// Every name that an image of a disk may have, in the order in which they count: ours, the old script's, and what other tools
/// make.
pub const SUFFIXES: [&str; 6] = [
    IMAGE_SUFFIX,
    ENCRYPTED_SUFFIX,
    ".gz",
    ".raw.zst",
    ".raw.xz",
    ".raw",
];

/// Where the work is from and to, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// `10.0.2.15 (testbox7)`
    pub machine: String,
    pub action: ActionName,
    /// The share without credentials.
    pub share: String,
    /// The images' folder on the share.
    pub folder: String,
}

/// Reads a disk into a new image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    pub disk: Disk,
    /// The image's name in the folder: `sda.raw.gz`.
    pub file: String,
    /// Images of this disk that are there already, which `backup-again` keeps as `.old`.
    pub replaces: Vec<String>,
    /// An earlier try of this very job has put its image there: the new one takes its place, and `.old` stays.
    pub redoes: bool,
}

/// What the folder has of a disk before a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Existing {
    /// Images of the time before this job.
    pub before: Vec<String>,
    /// This job has put its image there in an earlier try.
    pub own: bool,
}

/// Writes an image to a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restore {
    pub disk: Disk,
    pub image: Stored,
    pub how: How,
    /// What of the image goes to the disk.
    pub part: Part,
    /// What gets the room of a larger disk, where that is asked for and there is any.
    pub grows: Option<Growth>,
}

/// Erases a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wipe {
    pub disk: Disk,
    pub method: Method,
}

/// Makes the partitions and filesystems of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrange {
    pub disk: Disk,
    /// The layout's file in the folder.
    pub file: String,
    pub changes: Changes,
}

/// Has to do with a tree; which of the actions it is, the heading tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfTree {
    /// `web@2026-11-29T014500Z`, or a URL.
    pub tree: String,
    /// Those that are read or written.
    pub disks: Vec<Disk>,
    /// Of the files that move, as far as it is known.
    pub bytes: u64,
    /// What will be done, a line each.
    pub lines: Vec<String>,
}

/// The steps of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Steps {
    Capture(Vec<Capture>),
    Restore(Vec<Restore>),
    Wipe(Vec<Wipe>),
    Arrange(Vec<Arrange>),
    Tree(OfTree),
    /// Only the info files are written.
    Info,
}

/// What is worth knowing of one step before it is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The disk's name.
    pub device: String,
    /// Why this disk was chosen.
    pub why: String,
    /// What becomes of single partitions, where a restore leaves some as they are: a sentence each.
    pub partitions: Vec<String>,
    /// From where the image comes, where it is not the share alone.
    pub from: Option<String>,
    /// What the admin may not have meant, and what comes of it: a sentence each.
    pub warnings: Vec<String>,
    /// What is on the disk now and will not be afterwards: a partition a line.
    pub lost: Vec<String>,
    /// At the rate of the last run.
    pub takes: Option<Duration>,
}

/// A run, decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub heading: Heading,
    pub steps: Steps,
    /// Disks of this machine that the run does not touch, and why.
    pub left_alone: Vec<(Disk, String)>,
    /// One for each disk that the steps are about.
    pub about: Vec<About>,
}

/// `backup` does not overwrite.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{folder} has an image of {disk} already: {files}; use backup-again to keep it as .old, or remove it"
)]
pub struct ImageExists {
    folder: String,
    disk: String,
    files: String,
}

impl Plan {
    /// Plans a backup into files that end in `suffix`. `existing` says which images the share has of each disk.
    ///
    /// # Errors
    /// When the action is `backup` and there is an image of any of the disks.
    pub fn capture(
        heading: Heading,
        selection: Selection,
        suffix: &str,
        existing: &[Existing],
    ) -> Result<Self, ImageExists> {
        let mut captures = Vec::new();
        for (index, disk) in selection.disks.into_iter().enumerate() {
            let Existing {
                before: replaces,
                own,
            } = existing.get(index).cloned().unwrap_or_default();
            if heading.action == ActionName::Backup && !replaces.is_empty() {
                return Err(ImageExists {
                    folder: heading.folder,
                    disk: disk.to_string(),
                    files: replaces.join(", "),
                });
            }
            captures.push(Capture {
                file: format!("{}{suffix}", disk.identity.device),
                disk,
                replaces,
                redoes: own,
            });
        }
        Ok(Self {
            heading,
            steps: Steps::Capture(captures),
            left_alone: selection.left_alone,
            about: Vec::new(),
        })
    }

    /// Plans nothing: the job was done by an earlier try, and `left_alone` tells why of each disk.
    pub fn done_already(heading: Heading, selection: Selection) -> Self {
        let done = selection.disks.into_iter().map(|disk| {
            let why = "its image of this job is whole and in place".to_owned();
            (disk, why)
        });
        Self {
            heading,
            steps: Steps::Capture(Vec::new()),
            left_alone: done.chain(selection.left_alone).collect(),
            about: Vec::new(),
        }
    }

    /// Plans a restore of what [`matching::match_images`] found.
    pub fn restore(
        heading: Heading,
        matches: Vec<Match>,
        images: &[Stored],
        left_alone: Vec<(Disk, String)>,
    ) -> Self {
        let steps = matches
            .into_iter()
            .map(|found| Restore {
                image: images[found.image].clone(),
                disk: found.disk,
                how: found.how,
                part: Part::Whole,
                grows: None,
            })
            .collect();
        Self {
            heading,
            steps: Steps::Restore(steps),
            left_alone,
            about: Vec::new(),
        }
    }

    /// Has its restores be of a part.
    #[must_use]
    pub fn of_part(mut self, part: &Part) -> Self {
        if let Steps::Restore(steps) = &mut self.steps {
            for step in steps {
                step.part = part.clone();
            }
        }
        self
    }

    /// Has each of its restores grow what `growth` finds for it.
    ///
    /// # Errors
    /// That of `growth`.
    pub fn growing<E>(
        mut self,
        growth: impl Fn(&Restore) -> Result<Option<Growth>, E>,
    ) -> Result<Self, E> {
        if let Steps::Restore(steps) = &mut self.steps {
            for step in steps {
                step.grows = growth(step)?;
            }
        }
        Ok(self)
    }

    /// Whether the image in `file` goes to a disk.
    pub fn restores(&self, file: &str) -> bool {
        match &self.steps {
            Steps::Restore(steps) => steps.iter().any(|step| step.image.file == file),
            _ => false,
        }
    }

    /// Plans a wipe of every disk of the selection.
    pub fn wipe(heading: Heading, selection: Selection, method: Method) -> Self {
        let wipes = selection
            .disks
            .into_iter()
            .map(|disk| Wipe { disk, method })
            .collect();
        Self {
            heading,
            steps: Steps::Wipe(wipes),
            left_alone: selection.left_alone,
            about: Vec::new(),
        }
    }

    /// Plans a `partition`.
    pub fn arrange(heading: Heading, steps: Vec<Arrange>, left_alone: Vec<(Disk, String)>) -> Self {
        Self {
            heading,
            steps: Steps::Arrange(steps),
            left_alone,
            about: Vec::new(),
        }
    }

    /// Plans what is done with a tree.
    pub fn tree(heading: Heading, step: OfTree, left_alone: Vec<(Disk, String)>) -> Self {
        Self {
            heading,
            steps: Steps::Tree(step),
            left_alone,
            about: Vec::new(),
        }
    }

    /// Plans a `refresh-info`.
    pub fn info(heading: Heading) -> Self {
        Self {
            heading,
            steps: Steps::Info,
            left_alone: Vec::new(),
            about: Vec::new(),
        }
    }

    /// The disks that the steps are about, in order, each with the bytes that will be read or written.
    pub fn disks(&self) -> Vec<(&Disk, u64)> {
        match &self.steps {
            Steps::Capture(steps) => steps
                .iter()
                .map(|s| (&s.disk, s.disk.identity.size))
                .collect(),
            Steps::Restore(steps) => steps
                .iter()
                .map(|s| (&s.disk, s.image.raw_size.unwrap_or(s.disk.identity.size)))
                .collect(),
            Steps::Wipe(steps) => steps
                .iter()
                .map(|s| (&s.disk, s.disk.identity.size))
                .collect(),
            Steps::Arrange(steps) => steps
                .iter()
                .map(|s| (&s.disk, s.disk.identity.size))
                .collect(),
            Steps::Tree(step) => step.disks.iter().map(|disk| (disk, step.bytes)).collect(),
            Steps::Info => Vec::new(),
        }
    }

    /// Whether the disks have other partitions or filesystems afterwards.
    pub fn changes_partitions(&self) -> bool {
        match &self.steps {
            Steps::Restore(_) | Steps::Wipe(_) => true,
            Steps::Arrange(steps) => steps.iter().any(|step| !step.changes.is_empty()),
            Steps::Tree(_) => self.heading.action.loses_data(),
            Steps::Capture(_) | Steps::Info => false,
        }
    }

    /// Whether the steps write to whole disks, so that what is there is lost.
    pub fn writes(&self) -> bool {
        match &self.steps {
            Steps::Restore(_) | Steps::Wipe(_) => true,
            Steps::Arrange(steps) => steps.iter().any(|step| step.changes.table),
            Steps::Tree(_) => self.heading.action.loses_data(),
            Steps::Capture(_) | Steps::Info => false,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
