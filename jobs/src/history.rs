//! What ended: a line a job, in `history.ndjson`. Lines are added and never changed.

use crate::job::{Job, Verdict};
use crate::state::State;
use jiff::Timestamp;
use pitstop_protocol::id::Id;
use serde::{Deserialize, Serialize};

/// No line is longer, in bytes.
pub const MOST_LINE: usize = 64 << 10;

/// A job's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    pub version: u32,
    pub id: Id,
    pub machine: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub action: String,
    pub host_file: String,
    pub state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub set: Timestamp,
    pub set_by: String,
    pub ended: Timestamp,
    pub attempts: u32,
    #[serde(default)]
    pub runs: Vec<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<Id>,
}

impl Entry {
    pub fn of(job: &Job) -> Self {
        Self {
            version: job.version,
            id: job.id.clone(),
            machine: job.machine.clone(),
            name: job.name.clone(),
            action: job.action.as_str().to_owned(),
            host_file: job.host_file.clone(),
            state: job.state,
            verdict: job.verdict,
            reason: job.reason.clone(),
            set: job.set,
            set_by: job.set_by.clone(),
            ended: job.ended.unwrap_or(job.changed),
            attempts: job.attempts,
            runs: job.runs.clone(),
            series: job.series.clone(),
        }
    }

    /// With its newline.
    pub fn line(&self) -> String {
        // Every field has a form in JSON, so this cannot fail.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// `None` for a line that was cut off by a lost power, or that a later version wrote.
    pub fn parse(line: &str) -> Option<Self> {
        if line.len() > MOST_LINE {
            return None;
        }
        serde_json::from_str(line).ok()
    }

    /// What tells this end of the job from a later one, after another try.
    pub fn end(&self) -> (Id, State, u32) {
        (self.id.clone(), self.state, self.attempts)
    }

    /// As people know the machine.
    pub fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.machine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::sample;
    use proptest::prelude::*;

    #[test]
    fn a_line_reads_back() {
        let mut job = sample();
        job.reason = Some("a \"quoted\"\nreason".into());
        let entry = Entry::of(&job);
        let line = entry.line();
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(Entry::parse(&line), Some(entry));
        assert_eq!(Entry::parse(&line[..line.len() / 2]), None);
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_a_panic(text in "\\PC*") {
            prop_assert_eq!(Entry::parse(&text), None);
        }
    }
}
