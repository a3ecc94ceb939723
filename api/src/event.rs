//! What `/events` sends.

use crate::job::Job;
use crate::machine::Machine;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an event is about: its `event:` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A line of a report, as it came.
    Run,
    /// A job that is new or has changed.
    Job,
    /// A machine that is new or has changed.
    Machine,
    Image,
    /// The fleet file was read anew, or is wrong now.
    Fleet,
    /// Events were missed, so many: the reader is too slow.
    Missed,
    /// What was missed cannot be told any more: ask for everything anew.
    Resync,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Run,
        Self::Job,
        Self::Machine,
        Self::Image,
        Self::Fleet,
        Self::Missed,
        Self::Resync,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Job => "job",
            Self::Machine => "machine",
            Self::Image => "image",
            Self::Fleet => "fleet",
            Self::Missed => "missed",
            Self::Resync => "resync",
        }
    }
}

/// What became of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is new, or another one.
    Written,
    Removed,
    /// It is being checked, or has been.
    Verified,
}

/// The data of an `image` event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ImageChange {
    /// Below the share.
    pub path: String,
    pub change: Change,
}

/// An event as a program has it.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A line of a report, as it came.
    Run(String),
    Job(Box<Job>),
    Machine(Box<Machine>),
    Image(ImageChange),
    Fleet,
    Resync,
}

impl Event {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Run(_) => Kind::Run,
            Self::Job(_) => Kind::Job,
            Self::Machine(_) => Kind::Machine,
            Self::Image(_) => Kind::Image,
            Self::Fleet => Kind::Fleet,
            Self::Resync => Kind::Resync,
        }
    }

    /// The `data:` line.
    pub fn data(&self) -> String {
        // Each has a form in JSON, so this cannot fail.
        let json = match self {
            Self::Run(line) => return line.clone(),
            Self::Job(job) => serde_json::to_string(job),
            Self::Machine(machine) => serde_json::to_string(machine),
            Self::Image(image) => serde_json::to_string(image),
            Self::Fleet | Self::Resync => return "{}".into(),
        };
        json.unwrap_or_default()
    }
}
