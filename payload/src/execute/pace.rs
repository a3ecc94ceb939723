//! How fast the last run went, for the estimate of the next: `last-run.toml` in the machine's folder.

use super::attempts::put;
use super::done::Done;
use crate::plan::{Plan, Steps};
use anyhow::Context;
use pitstop_transport::share::Share;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

/// In the machine's folder on the share.
pub const FILE: &str = "last-run.toml";

/// Far more than the file ever holds.
const MOST_BYTES: u64 = 64 << 10;

/// What one kind of work did last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// Raw bytes of the disks.
    pub bytes: u64,
    pub seconds: f64,
    /// RFC 3339, UTC.
    pub finished: String,
}

/// Of each kind of work the last that succeeded.
pub type Paces = BTreeMap<String, Pace>;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LastRun {
    /// The job that was done last, until its configuration is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Done>,
    #[serde(flatten)]
    pub paces: Paces,
}

impl Pace {
    /// How long `bytes` take at this pace.
    pub fn estimate(&self, bytes: u64) -> Option<Duration> {
        // Only an estimate: what f64 rounds away is nothing to it.
        #[expect(
            clippy::cast_precision_loss,
            reason = "an estimate of seconds needs no more than 52 bits"
        )]
        let seconds = self.seconds * (bytes as f64) / (self.bytes as f64);
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// What the work of a plan is called here; `None` where there is nothing to time.
pub fn kind(plan: &Plan) -> Option<String> {
    match &plan.steps {
        Steps::Capture(_) => Some("backup".into()),
        Steps::Restore(_) => Some("restore".into()),
        Steps::Wipe(wipes) => wipes.first().map(|wipe| format!("wipe-{}", wipe.method)),
        Steps::Tree(_) => Some(plan.heading.action.to_string()),
        Steps::Arrange(_) | Steps::Info => None,
    }
}

/// What the last runs told. A file that is not there or makes no sense tells nothing.
///
/// # Errors
/// When the share cannot be read.
pub fn read(share: &dyn Share, folder: &str) -> anyhow::Result<LastRun> {
    let path = format!("{folder}/{FILE}");
    if share.stat(&path)?.is_none() {
        return Ok(LastRun::default());
    }
    let mut bytes = Vec::new();
    share
        .open(&path)?
        .take(MOST_BYTES)
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {path} on {}", share.name()))?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

fn parse(text: &str) -> LastRun {
    toml::from_str(text).unwrap_or_default()
}

/// Notes what a run did, beside what runs of other kinds did.
///
/// # Errors
/// When the share cannot be read or written.
pub fn record(
    share: &dyn Share,
    folder: &str,
    kind: &str,
    bytes: u64,
    took: Duration,
) -> anyhow::Result<()> {
    let mut last = read(share, folder)?;
    let pace = Pace {
        bytes,
        seconds: took.as_secs_f64(),
        finished: now(),
    };
    last.paces.insert(kind.to_owned(), pace);
    write(share, folder, &last)
}

/// # Errors
/// When the share does not take it.
pub(super) fn write(share: &dyn Share, folder: &str, last: &LastRun) -> anyhow::Result<()> {
    let text = toml::to_string(last).context("putting the last run into TOML")?;
    put(share, &format!("{folder}/{FILE}"), text.as_bytes())
}

/// RFC 3339, UTC, whole seconds.
pub(super) fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_transport::share::DirectoryShare;

    #[test]
    fn each_kind_of_work_has_its_own_pace() {
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        assert!(read(&share, "m").unwrap().paces.is_empty());
        record(&share, "m", "backup", 100, Duration::from_secs(10)).unwrap();
        record(&share, "m", "restore", 100, Duration::from_secs(20)).unwrap();
        let paces = read(&share, "m").unwrap().paces;
        assert_eq!(paces["backup"].estimate(50), Some(Duration::from_secs(5)));
        assert_eq!(paces["restore"].estimate(50), Some(Duration::from_secs(10)));
    }

    #[test]
    fn a_run_of_nothing_estimates_nothing() {
        let nothing = Pace {
            bytes: 0,
            seconds: 0.0,
            finished: String::new(),
        };
        assert_eq!(nothing.estimate(1), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*", bytes: u64) {
            for pace in parse(&text).paces.values() {
                let _ = pace.estimate(bytes);
            }
        }
    }
}
