//! What a run tells the world, as values. Console, logs, server and page only render them: what is decided is decided on
//! these, and text is made in `render.rs`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// How much an [`Event::Message`] matters; names as VirtualBox's `maintenance.log` spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

impl Level {
    /// The word used on the console and in `maintenance.log`.
    pub fn word(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// What is done to a disk or an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// A disk becomes an image.
    Backup,
    /// An image goes to a disk.
    Restore,
    /// What was written, or an image, is read and compared with its hashes.
    Verify,
    /// An image becomes another.
    Convert,
    Wipe,
    /// Partitions and filesystems are made of a layout.
    Partition,
    /// A tree of files becomes an image.
    Capture,
    /// A tree of files is made of an image.
    Extract,
}

/// The disk or file that an event is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subject {
    /// The kernel's name, or a file's: `sda`.
    pub name: String,
    /// Model and serial, for people; empty where they are not known.
    pub label: String,
    /// Which step of the plan it belongs to, from 1; 0 where there is no plan.
    pub step: u32,
}

impl Subject {
    /// A thing that has a name and nothing else.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }
}

impl fmt::Display for Subject {
    /// `sda (QEMU HARDDISK QM00001)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.label.as_str() {
            "" => f.write_str(&self.name),
            label => write!(f, "{} ({label})", self.name),
        }
    }
}

/// Where a data transfer stands. All byte counts are of the disk's raw bytes unless said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub act: Act,
    pub subject: Subject,
    /// Raw bytes dealt with, unused ranges included.
    pub done: u64,
    /// Raw bytes in all; `None` where a foreign stream does not tell.
    pub total: Option<u64>,
    /// Bytes moved to or from the image so far (compressed).
    pub transferred: u64,
    /// Since the transfer began.
    pub elapsed: Duration,
}

impl Progress {
    /// Raw bytes per second since the start; 0 before anything can be said.
    pub fn rate(&self) -> u64 {
        let millis = self.elapsed.as_millis();
        if millis == 0 {
            return 0;
        }
        u64::try_from(u128::from(self.done) * 1000 / millis).unwrap_or(u64::MAX)
    }

    /// Time left at the rate so far; `None` while it cannot be told.
    pub fn left(&self) -> Option<Duration> {
        let total = self.total?;
        let rate = self.rate();
        if rate == 0 {
            return None;
        }
        Some(Duration::from_secs(total.saturating_sub(self.done) / rate))
    }

    /// 0 to 100, rounded down so that 100 means all of it.
    pub fn percent(&self) -> Option<u8> {
        let total = self.total?;
        if total == 0 {
            return Some(100);
        }
        let percent = u128::from(self.done.min(total)) * 100 / u128::from(total);
        u8::try_from(percent).ok()
    }
}

/// How far a step of the plan has come. One that fails ends the run, whose result says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Begun,
    /// Written, flushed and proven.
    Done {
        /// Raw bytes dealt with.
        bytes: u64,
        /// Bytes moved to or from the image.
        transferred: u64,
        took: Duration,
    },
}

/// Sectors that a disk did not give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadSectors {
    pub subject: Subject,
    /// The first of them, offset and length in bytes: enough to see where on the disk they are.
    pub first: Vec<(u64, u64)>,
    /// How many places there are in all.
    pub places: u64,
    /// Bytes in all.
    pub bytes: u64,
    /// They are zeros in the image, and the work goes on. Else it ends in an error that names them.
    pub zeroed: bool,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A sentence for people and logs.
    Message {
        level: Level,
        text: String,
    },
    /// A transfer moved on. Emitted often: whoever renders it thins it out.
    Progress(Progress),
    /// A step of the plan begins or is done.
    Step {
        act: Act,
        subject: Subject,
        stage: Stage,
    },
    BadSectors(BadSectors),
}

impl Event {
    /// The same with another subject. A sentence has none, and stays what it is.
    #[must_use]
    pub fn about(&self, change: impl FnOnce(&mut Subject)) -> Self {
        let mut event = self.clone();
        match &mut event {
            Self::Message { .. } => {}
            Self::Progress(progress) => change(&mut progress.subject),
            Self::Step { subject, .. } => change(subject),
            Self::BadSectors(bad) => change(&mut bad.subject),
        }
        event
    }
}

/// Takes the events of a run. Called from several threads.
pub trait Reporter: Send + Sync {
    fn event(&self, event: &Event);

    fn debug(&self, text: String) {
        self.event(&Event::Message {
            level: Level::Debug,
            text,
        });
    }
    fn info(&self, text: String) {
        self.event(&Event::Message {
            level: Level::Info,
            text,
        });
    }
    fn warn(&self, text: String) {
        self.event(&Event::Message {
            level: Level::Warning,
            text,
        });
    }
    fn error(&self, text: String) {
        self.event(&Event::Message {
            level: Level::Error,
            text,
        });
    }
    fn progress(&self, progress: Progress) {
        self.event(&Event::Progress(progress));
    }
}

/// Drops every event, for callers that have nobody to tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn event(&self, _event: &Event) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(done: u64, total: Option<u64>, millis: u64) -> Progress {
        Progress {
            act: Act::Restore,
            subject: Subject::named("sda"),
            done,
            total,
            transferred: 0,
            elapsed: Duration::from_millis(millis),
        }
    }

    #[test]
    fn rate_percent_and_time_left_follow_the_byte_counts() {
        let half = progress(50_000, Some(100_000), 500);
        assert_eq!(half.rate(), 100_000);
        assert_eq!(half.percent(), Some(50));
        assert_eq!(half.left(), Some(Duration::from_secs(0)));
        assert_eq!(progress(99_999, Some(100_000), 1).percent(), Some(99));
    }

    #[test]
    fn nothing_is_claimed_before_it_is_known() {
        assert_eq!(progress(0, Some(10), 0).left(), None);
        assert_eq!(progress(10, None, 10).percent(), None);
        assert_eq!(progress(0, Some(0), 0).percent(), Some(100));
    }
}
