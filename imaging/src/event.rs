//! What a run tells the world, as values. The console, the logs and the `pitstop` command only render them.

use std::time::Duration;

/// How much an [`Event::Message`] matters; names as VirtualBox's `maintenance.log` spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

/// Where a data transfer stands. All byte counts are of the disk's raw bytes unless said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The act, as a present participle for people: `backing up`, `restoring`, `verifying`.
    pub act: &'static str,
    /// The device or file it is about: `sda`.
    pub subject: String,
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

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A sentence for people and logs.
    Message { level: Level, text: String },
    /// A transfer moved on. Emitted often: whoever renders it thins it out.
    Progress(Progress),
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
            act: "restoring",
            subject: "sda".into(),
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
