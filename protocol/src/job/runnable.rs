//! A job as runnable: every value checked, every default filled in.

use crate::job::{After, DeleteTarget, Transfer};
use crate::share_url::ShareUrl;
use pitstop_imaging::image::Part;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use url::Url;

/// What the machine is to do. The names are the contract's and appear in logs and result lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Backup,
    BackupAgain,
    Restore,
    RefreshInfo,
    /// Erases whole disks.
    Wipe,
    /// Makes the partitions and filesystems of a layout.
    Partition,
    Rescue,
}

impl Action {
    /// Every action there is, in the order in which help and errors list them.
    pub const ALL: [Action; 7] = [
        Action::Backup,
        Action::BackupAgain,
        Action::Restore,
        Action::RefreshInfo,
        Action::Wipe,
        Action::Partition,
        Action::Rescue,
    ];

    /// As the host file, the command line and the logs spell it.
    pub fn name(self) -> &'static str {
        match self {
            Action::Backup => "backup",
            Action::BackupAgain => "backup-again",
            Action::Restore => "restore",
            Action::RefreshInfo => "refresh-info",
            Action::Wipe => "wipe",
            Action::Partition => "partition",
            Action::Rescue => "rescue",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names no action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown action {0:?}: there are {known}", known = all_actions())]
pub struct UnknownAction(pub String);

fn all_actions() -> String {
    Action::ALL.map(Action::name).join(", ")
}

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(word: &str) -> Result<Self, UnknownAction> {
        Action::ALL
            .into_iter()
            .find(|action| action.name() == word)
            .ok_or_else(|| UnknownAction(word.to_owned()))
    }
}

/// What happens at the end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Failed tries before the machine holds; at least 1.
    pub attempts: u32,
    /// The wait before the reboot that follows a failure.
    pub failure_delay: Duration,
    /// A run that moves nothing for so long has failed: a disk or a driver hangs.
    pub progress_timeout: Duration,
    pub on_success: After,
    pub on_failure: After,
}

impl Default for Policy {
    /// The host file's defaults.
    fn default() -> Self {
        Self {
            attempts: 3,
            failure_delay: Duration::from_secs(300),
            progress_timeout: Duration::from_secs(30 * 60),
            on_success: After::Reboot,
            on_failure: After::Reboot,
        }
    }
}

/// What is known of a job that could not be made, read as leniently as can be: enough to log the
/// failure on the share and to keep to the failure policy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Salvaged {
    pub policy: Policy,
    pub transfer: Transfer,
    pub share: Option<ShareUrl>,
    /// The machine's folder on the share.
    pub image: String,
    pub action: Option<Action>,
}

/// Names one disk of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskSelector {
    /// The kernel's name, without `/dev/`: `sda`.
    Name(String),
    /// The serial number as the device tells it.
    Serial(String),
    /// The World Wide Name in any of its spellings: `0x5000…`, `naa.5000…`, `eui.…`.
    Wwn(String),
}

impl fmt::Display for DiskSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskSelector::Name(name) => write!(f, "{name}"),
            DiskSelector::Serial(serial) => write!(f, "serial {serial}"),
            DiskSelector::Wwn(wwn) => write!(f, "wwn {wwn}"),
        }
    }
}

/// Whether only what differs is written or fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delta {
    Always,
    Never,
    /// A sample of the disk decides.
    #[default]
    Auto,
}

/// How hard a backup compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Level {
    #[default]
    Fast,
    /// Smaller, several times slower.
    Small,
}

/// What a backup does about sectors that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadErrors {
    #[default]
    Fail,
    /// They become zeros and are listed beside the image.
    Record,
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

impl Method {
    /// As the host file and the records spell it.
    pub fn name(self) -> &'static str {
        match self {
            Method::Discard => "discard",
            Method::Zero => "zero",
            Method::Secure => "secure",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// All that a run has to know, checked.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a key of the host file, and independent of the others"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub action: Action,
    /// `None` only for `rescue`.
    pub share: Option<ShareUrl>,
    /// The machine's folder on the share: relative, no `..`.
    pub image: String,
    /// Whether the job names that folder, and does not just have it, or a part of it, from the machine's address.
    pub image_named: bool,
    /// Empty: every fixed disk.
    pub disks: Vec<DiskSelector>,
    /// Configurations to delete when the job is done, without duplicates.
    pub delete: Vec<DeleteTarget>,
    pub policy: Policy,
    pub transfer: Transfer,
    /// Keep every block, used by a filesystem or not.
    pub exact: bool,
    pub delta: Delta,
    /// Read a restored disk back and compare.
    pub verify: bool,
    /// Give a restored disk's partition table identifiers of its own.
    pub new_ids: bool,
    /// On a larger disk, let the last partition and its filesystem have the room.
    pub grow: bool,
    pub level: Level,
    pub read_errors: ReadErrors,
    /// Of a `wipe`, where it is always given.
    pub method: Option<Method>,
    /// Of a `partition`, where it is always given: the layout's file in the image folder.
    pub layout: Option<String>,
    /// Of a `restore`: what of the image goes to the disk.
    pub part: Part,
    /// Where the machine checks in before the work, and says how it goes.
    pub check_in: Option<Url>,
    /// BLAKE3 in hex of what defines the work: the same while the same job is tried again. Failed
    /// attempts are counted under it, so that a changed job starts afresh.
    pub digest: String,
    /// Where the job came from, for logs: the host file's URL without credentials, or `the kernel command line`.
    pub source: String,
}

impl Job {
    /// What [`Job::digest`] is of. Policy, transfers and deletions are left out: they do not change the work.
    pub fn fingerprint(&self) -> String {
        use fmt::Write as _;
        let share = self.share.as_ref().map(ShareUrl::to_string);
        let mut text = String::new();
        for part in [
            self.action.name(),
            share.as_deref().unwrap_or_default(),
            &self.image,
        ] {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{part:?}");
        }
        let _ = write!(
            text,
            "{:?}\n{:?}",
            self.disks,
            (
                (self.image_named, self.exact),
                self.delta,
                self.verify,
                self.new_ids,
                self.grow,
                self.level,
                self.read_errors,
                self.method,
                &self.layout,
                &self.part,
            )
        );
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }
}

/// Checks a path on the share: relative, `/`-separated, no `.` or `..`, no empty part, no backslash, no control character.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn check_folder(path: &str) -> Result<(), String> {
    let wrong = if path.is_empty() {
        "it is empty"
    } else if path.starts_with('/') {
        "it must be relative to the share"
    } else if path.contains('\\') {
        "it contains a backslash"
    } else if path.chars().any(char::is_control) {
        "it contains a control character"
    } else if path.split('/').any(|part| part == "." || part == "..") {
        "it must not contain . or .."
    } else if path.split('/').any(str::is_empty) {
        "it contains an empty part"
    } else {
        return Ok(());
    };
    Err(format!("{path:?} is not a folder on the share: {wrong}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_read_back_and_others_are_told_what_there_is() {
        for action in Action::ALL {
            assert_eq!(action.to_string().parse(), Ok(action));
        }
        let error = "wipe-it".parse::<Action>().unwrap_err().to_string();
        assert_eq!(
            error,
            "unknown action \"wipe-it\": there are backup, backup-again, restore, refresh-info, wipe, \
             partition, rescue"
        );
    }

    #[test]
    fn folders_stay_within_the_share() {
        assert_eq!(check_folder("lab/10.0.2.15"), Ok(()));
        for (path, why) in [
            ("", "is empty"),
            ("/etc", "must be relative"),
            ("a/../b", ". or .."),
            ("..", ". or .."),
            ("a//b", "empty part"),
            ("a/", "empty part"),
            ("a\\b", "backslash"),
            ("a\nb", "control character"),
        ] {
            let error = check_folder(path).unwrap_err();
            assert!(error.contains(why), "{path:?}: {error}");
        }
    }
}
