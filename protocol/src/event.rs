//! What a machine reports of a run, a JSON object a line: written and read here, and nowhere else. docs/api.md says it
//! byte by byte.
//!
//! A reader keeps what it does not know: a line of a later version, or of a type that came later, is shown as it is.

mod convert;
#[cfg(test)]
mod tests;

pub use convert::{millis, of};

use crate::facts::Facts;
use crate::id::Id;
use jiff::Timestamp;
use pitstop_imaging::event::{Act, Level};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version that is written.
pub const VERSION: u32 = 1;
/// What a batch of lines is called (<https://github.com/ndjson/ndjson-spec>).
pub const MEDIA_TYPE: &str = "application/x-ndjson";
/// The longest line that is taken, in bytes, without its end.
pub const LONGEST_LINE: usize = 64 << 10;
/// The most bytes of one report.
pub const LARGEST_REPORT: usize = 1 << 20;
/// The longest text of a line, in bytes. Each may become six where it is escaped.
pub const LONGEST_TEXT: usize = 8 << 10;
/// The longest name: of a disk, a machine, an image.
pub const LONGEST_NAME: usize = 256;
/// Of more disks a plan tells these.
pub const MOST_DISKS: usize = 32;

/// The `seq` of what another process says of a run whose own is dead: behind everything that it said itself.
pub const AFTER_CRASH: u64 = 1 << 48;

/// One event of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub run: Id,
    /// Grows with each event of the run. There are gaps: progress is told now and then.
    pub seq: u64,
    pub time: Timestamp,
    pub about: About,
    pub what: What,
}

/// Which step of the plan an event belongs to, and which disk it is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// From 1, as the plan has them; 0 where there is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub step: u32,
    /// The kernel's name, or a file's: `sda`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub disk: String,
    /// Model and serial, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
}

/// What happened. Bytes are of the disk unless said, times milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum What {
    /// The first of a run.
    Begin {
        /// The host name; empty where the network gives none.
        #[serde(default)]
        machine: String,
        address: String,
        #[serde(default)]
        mac: String,
        /// The version of Pitstop.
        pitstop: String,
        /// The public half of its SSH host key, `ssh-ed25519 AAAA…`; empty where nobody can log in.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        host_key: String,
    },
    /// The machine knows what it is to do.
    Job {
        action: String,
    },
    /// What will be done, decided before the first write.
    Plan {
        action: String,
        disks: Vec<Planned>,
    },
    /// A step of the plan begins or is done.
    Step {
        act: Act,
        #[serde(flatten)]
        state: State,
    },
    Progress(Moved),
    /// Sectors that the disk did not give.
    ReadErrors {
        places: u64,
        bytes: u64,
        /// Offset and length of the first of them.
        #[serde(default)]
        first: Vec<(u64, u64)>,
        /// They are zeros in the image, and the work goes on.
        zeroed: bool,
    },
    /// A line of the machine's log.
    Log {
        level: Level,
        text: String,
    },
    /// What the machine is.
    Inventory {
        facts: Box<Facts>,
    },
    /// Lines of the log that were too many to be reported.
    Dropped {
        lines: u64,
    },
    /// The last of a run.
    Result(Outcome),
}

/// One disk of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Planned {
    /// The kernel's name.
    pub disk: String,
    #[serde(default)]
    pub model: String,
    #[serde(default)]
    pub serial: String,
    pub size: u64,
    /// Bytes of a logical sector; 0 where an earlier version did not tell.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sector: u32,
    /// What will be done to it, or with it.
    pub will: Act,
    /// The file on the share; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
}

/// How far a step has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "state",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case"
)]
pub enum State {
    Begun,
    Done {
        bytes: u64,
        /// Bytes to or from the image.
        transferred: u64,
        elapsed_ms: u64,
    },
}

/// How far a transfer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Moved {
    pub act: Act,
    pub done: u64,
    /// Left out where a foreign image does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    pub transferred: u64,
    pub elapsed_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Ok,
    Failed,
    /// The job was withdrawn before anything was touched.
    Cancelled,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outcome {
    pub verdict: Verdict,
    /// `unknown` where the machine never learnt it.
    pub action: String,
    /// Why it failed or was not begun, in one line; empty when it went well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Of all disks.
    pub bytes: u64,
    pub elapsed_ms: u64,
    /// Places of disks that could not be read.
    pub read_errors: u64,
}

impl Outcome {
    /// An end without figures.
    pub fn new(verdict: Verdict, action: &str, reason: &str) -> Self {
        Self {
            verdict,
            action: action.to_owned(),
            reason: shortened(reason, LONGEST_TEXT),
            bytes: 0,
            elapsed_ms: 0,
            read_errors: 0,
        }
    }
}

impl fmt::Display for Outcome {
    /// As every console shows it: `result failed restore: the image is truncated`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = &self.action;
        match self.verdict {
            Verdict::Ok => write!(f, "result ok {action}"),
            Verdict::Failed => write!(f, "result failed {action}: {}", self.reason),
            Verdict::Cancelled => write!(f, "result cancelled {action}: {}", self.reason),
        }
    }
}

/// A line as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    Known(Record),
    /// Of a later version or an unknown type.
    Unknown {
        run: Id,
        seq: u64,
        time: Option<Timestamp>,
        /// The whole line.
        raw: String,
    },
}

impl Line {
    pub fn run(&self) -> &Id {
        match self {
            Self::Known(record) => &record.run,
            Self::Unknown { run, .. } => run,
        }
    }

    pub fn seq(&self) -> u64 {
        match self {
            Self::Known(record) => record.seq,
            Self::Unknown { seq, .. } => *seq,
        }
    }

    pub fn time(&self) -> Option<Timestamp> {
        match self {
            Self::Known(record) => Some(record.time),
            Self::Unknown { time, .. } => *time,
        }
    }
}

/// A line that is no event of any version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    #[error("a line of {0} bytes: the longest that is taken has {LONGEST_LINE}")]
    TooLong(usize),
    #[error("it is not a JSON object with v, run and seq: {0}")]
    NotAnEvent(String),
}

/// What every version has.
#[derive(Deserialize)]
struct Envelope {
    v: u32,
    run: Id,
    seq: u64,
    #[serde(default)]
    time: Option<String>,
}

/// A whole line, in the order in which it is written.
#[derive(Serialize, Deserialize)]
struct Written<R, A, W> {
    v: u32,
    run: R,
    seq: u64,
    time: String,
    #[serde(flatten)]
    about: A,
    #[serde(flatten)]
    what: W,
}

/// Reads one line, without its end.
///
/// # Errors
/// It is too long, or not an event of any version.
pub fn parse(line: &str) -> Result<Line, BadLine> {
    if line.len() > LONGEST_LINE {
        return Err(BadLine::TooLong(line.len()));
    }
    let envelope: Envelope =
        serde_json::from_str(line).map_err(|error| BadLine::NotAnEvent(error.to_string()))?;
    let time = envelope.time.as_deref().and_then(|time| time.parse().ok());
    if let (VERSION, Some(time)) = (envelope.v, time)
        && let Ok(written) = serde_json::from_str::<Written<Id, About, What>>(line)
    {
        return Ok(Line::Known(Record {
            run: written.run,
            seq: written.seq,
            time,
            about: written.about,
            what: written.what,
        }));
    }
    Ok(Line::Unknown {
        run: envelope.run,
        seq: envelope.seq,
        time,
        raw: line.to_owned(),
    })
}

impl Record {
    /// The line, without its end.
    ///
    /// # Errors
    /// It would be longer than any reader takes.
    pub fn line(&self) -> Result<String, BadLine> {
        let written = Written {
            v: VERSION,
            run: &self.run,
            seq: self.seq,
            time: rfc3339(self.time),
            about: &self.about,
            what: &self.what,
        };
        let line = serde_json::to_string(&written)
            .map_err(|error| BadLine::NotAnEvent(error.to_string()))?;
        if line.len() > LONGEST_LINE {
            return Err(BadLine::TooLong(line.len()));
        }
        Ok(line)
    }
}

/// UTC, to the millisecond.
fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// The beginning of `text`, at most `most` bytes of it.
pub fn shortened(text: &str, most: usize) -> String {
    const MORE: char = '…';
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most.saturating_sub(MORE.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut short = text[..end].to_owned();
    short.push(MORE);
    short
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
