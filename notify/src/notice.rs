//! What there is to tell.

use jiff::Timestamp;
use pitstop_protocol::id::Id;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A run ended well.
    Done,
    /// A run failed. The machine may try again.
    Failed,
    /// A job has failed for good: no try is left.
    GaveUp,
    /// A machine at work fell silent and lost its slot.
    Silent,
    /// Somebody wants to see whether notices arrive.
    Test,
}

impl Event {
    /// As a sentence goes on after the machine's name.
    fn words(self) -> &'static str {
        match self {
            Self::Done => "is done with",
            Self::Failed => "failed at",
            Self::GaveUp => "gave up",
            Self::Silent => "fell silent during",
            Self::Test => "tries",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::GaveUp => "gave-up",
            Self::Silent => "silent",
            Self::Test => "test",
        })
    }
}

/// One piece of news, as a webhook gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Notice {
    /// The same each time that it is sent: a receiver knows what it had already.
    pub id: Id,
    pub event: Event,
    /// When it happened, UTC.
    pub time: Timestamp,
    /// The machine's name, or its address where it has none.
    pub machine: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    pub action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Id>,
    /// Why it failed; empty where it did not.
    #[serde(default)]
    pub reason: String,
    /// Bytes of the disk that were moved.
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    pub elapsed_ms: u64,
    /// The URL of the server that tells.
    pub server: String,
}

impl Notice {
    /// One to try receivers with.
    pub fn test(id: Id, server: String) -> Self {
        Self {
            id,
            event: Event::Test,
            time: Timestamp::now(),
            machine: "lab3-01".into(),
            address: "192.0.2.1".into(),
            mac: "52:54:00:12:34:56".into(),
            action: "backup".into(),
            job: None,
            run: None,
            reason: "nothing is wrong: this is a test".into(),
            bytes: 0,
            elapsed_ms: 0,
            server,
        }
    }

    /// In one line, for people: `lab3-01 failed at backup: no disk`.
    pub fn summary(&self) -> String {
        let colon = if self.reason.is_empty() { "" } else { ": " };
        format!(
            "{} {} {}{colon}{}",
            self.machine,
            self.event.words(),
            self.action,
            self.reason
        )
    }
}
