//! What the machine is to do: each action with the options that it takes, and no others.

use crate::job::tree::{CaptureOptions, DeployOptions, RunOptions, TreeParts, UpdateOptions};
use crate::job::words::Word;
use pitstop_age::Recipients;
use pitstop_imaging::image::{Delta, Level, Part, ReadErrors};
use std::fmt;
use std::str::FromStr;

/// An action's name, where the name is all that is asked for. Contract: it stands in files, logs and result lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActionName {
    Backup,
    BackupAgain,
    Restore,
    RefreshInfo,
    /// Erases whole disks.
    Wipe,
    /// Makes the partitions and filesystems of a layout.
    Partition,
    /// Makes an image of the machine's system, as files.
    Capture,
    /// Puts a tree onto a disk, and has it boot.
    Deploy,
    /// Brings the machine's system up to date with a tree.
    Update,
    /// Boots into a tree without a disk of its own.
    Run,
    Rescue,
}

impl ActionName {
    /// Every action there is, in the order in which help and errors list them.
    pub const ALL: [ActionName; 11] = [
        ActionName::Backup,
        ActionName::BackupAgain,
        ActionName::Restore,
        ActionName::RefreshInfo,
        ActionName::Wipe,
        ActionName::Partition,
        ActionName::Capture,
        ActionName::Deploy,
        ActionName::Update,
        ActionName::Run,
        ActionName::Rescue,
    ];

    /// As the host file, the command line and the logs spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            ActionName::Backup => "backup",
            ActionName::BackupAgain => "backup-again",
            ActionName::Restore => "restore",
            ActionName::RefreshInfo => "refresh-info",
            ActionName::Wipe => "wipe",
            ActionName::Partition => "partition",
            ActionName::Capture => "capture",
            ActionName::Deploy => "deploy",
            ActionName::Update => "update",
            ActionName::Run => "run",
            ActionName::Rescue => "rescue",
        }
    }

    /// Whether it writes to the machine's disks.
    pub fn writes_disks(self) -> bool {
        self.loses_data() || self == ActionName::Update
    }

    /// Whether what was on the machine's disks is lost.
    pub fn loses_data(self) -> bool {
        matches!(
            self,
            ActionName::Restore | ActionName::Wipe | ActionName::Partition | ActionName::Deploy
        )
    }

    /// Whether it is done at every boot, and its configuration stays.
    pub fn is_repeated(self) -> bool {
        matches!(self, ActionName::Run | ActionName::Rescue)
    }
}

impl fmt::Display for ActionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown action {0:?}: there are {known}", known = all_actions())]
pub struct UnknownAction(pub String);

fn all_actions() -> String {
    ActionName::ALL.map(ActionName::as_str).join(", ")
}

impl FromStr for ActionName {
    type Err = UnknownAction;

    fn from_str(word: &str) -> Result<Self, UnknownAction> {
        ActionName::ALL
            .into_iter()
            .find(|action| action.as_str() == word)
            .ok_or_else(|| UnknownAction(word.to_owned()))
    }
}

/// What the machine is to do, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Backup(BackupOptions),
    /// Keeps the image that is there as `.old`.
    BackupAgain(BackupOptions),
    Restore(RestoreOptions),
    RefreshInfo,
    Wipe {
        method: Method,
    },
    Partition {
        /// The layout's file in the image folder.
        layout: String,
    },
    Capture(CaptureOptions),
    Deploy(Box<DeployOptions>),
    Update(Box<UpdateOptions>),
    Run(Box<RunOptions>),
    Rescue,
}

impl Action {
    pub fn name(&self) -> ActionName {
        match self {
            Action::Backup(_) => ActionName::Backup,
            Action::BackupAgain(_) => ActionName::BackupAgain,
            Action::Restore(_) => ActionName::Restore,
            Action::RefreshInfo => ActionName::RefreshInfo,
            Action::Wipe { .. } => ActionName::Wipe,
            Action::Partition { .. } => ActionName::Partition,
            Action::Capture(_) => ActionName::Capture,
            Action::Deploy(_) => ActionName::Deploy,
            Action::Update(_) => ActionName::Update,
            Action::Run(_) => ActionName::Run,
            Action::Rescue => ActionName::Rescue,
        }
    }

    /// What it takes from the share to put on a machine, where that is a tree.
    pub fn tree_parts(&self) -> Option<TreeParts<'_>> {
        Some(match self {
            Action::Deploy(options) => TreeParts {
                tree: &options.tree,
                layout: options.layout.as_deref(),
                luks_key: options.luks_key.as_deref(),
                overrides: &options.overrides,
                hooks: &options.hooks,
                secrets: options.secrets.as_deref(),
            },
            Action::Update(options) => TreeParts {
                tree: &options.tree,
                layout: None,
                luks_key: None,
                overrides: &options.overrides,
                hooks: &options.hooks,
                secrets: options.secrets.as_deref(),
            },
            Action::Run(options) => TreeParts {
                tree: &options.tree,
                layout: None,
                luks_key: None,
                overrides: &options.overrides,
                hooks: &[],
                secrets: None,
            },
            _ => return None,
        })
    }

    /// What of a disk it is about.
    pub fn part(&self) -> &Part {
        match self {
            Action::Restore(options) => &options.part,
            _ => &Part::Whole,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

/// Of `backup` and `backup-again`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupOptions {
    /// Keep every block, used by a filesystem or not.
    pub exact: bool,
    pub level: Level,
    pub read_errors: ReadErrors,
    /// Keep the image before `.old` too, under the time when it was made.
    pub versions: bool,
    /// Who can read the image; everybody, where nobody is named.
    pub recipients: Option<Recipients>,
}

/// Of `restore`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// What of the image goes to the disk.
    pub part: Part,
    pub delta: Delta,
    /// Read a restored disk back and compare.
    pub verify: bool,
    /// Give a restored disk's partition table identifiers of its own.
    pub new_ids: bool,
    /// On a larger disk, let the last partition and its filesystem have the room.
    pub grow: bool,
}

/// How a wipe erases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The device is told that nothing on it is needed any more.
    Discard,
    /// Every byte is written as zero.
    Zero,
    /// The device erases itself, what it hides from everyone included.
    Secure,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_read_back_and_others_are_told_what_there_is() {
        for action in ActionName::ALL {
            assert_eq!(action.to_string().parse(), Ok(action));
        }
        let error = "wipe-it".parse::<ActionName>().unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown action \"wipe-it\": there are backup, backup-again, restore, refresh-info, wipe, \
             partition, capture, deploy, update, run, rescue"
        );
    }
}
