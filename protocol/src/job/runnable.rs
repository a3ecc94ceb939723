//! A job as runnable: every value checked, every default filled in.

use crate::job::{Action, ActionName, After, DeleteTarget, Terms, Transfer};
use crate::share_url::ShareUrl;
use std::fmt;
use std::time::Duration;
use url::Url;

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
    pub action: Option<ActionName>,
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

/// All that a run has to know, checked.
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
    /// Where the machine checks in before the work, and says how it goes.
    pub check_in: Option<Url>,
    pub terms: Terms,
    /// BLAKE3 in hex of what defines the work: the same while the same job is tried again. Failed
    /// attempts are counted under it, so that a changed job starts afresh.
    pub digest: String,
    /// Where the job came from, for logs: the host file's URL without credentials, or `the kernel command line`.
    pub source: String,
}

impl Job {
    /// What [`Job::digest`] is of. Policy, transfers and deletions are left out: they do not change the work.
    pub fn fingerprint(&self) -> String {
        let share = self.share.as_ref().map(ShareUrl::to_string);
        let mut text = format!(
            "{share:?}\n{:?}\n{}\n{:?}\n{:?}",
            self.image, self.image_named, self.disks, self.action
        );
        if let Some(id) = &self.terms.id {
            text = format!("{text}\n{id:?}");
        }
        if let Some(round) = &self.terms.round {
            text = format!("{text}\nround {round:?}");
        }
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
