//! Jobs, as programs get them: a job's file without the host file in it, which may hold secrets.

use crate::run::Run;
use crate::schema;
use jiff::Timestamp;
use pitstop_jobs::{Order, Power, State, Verdict};
use pitstop_protocol::id::Id;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One job of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Job {
    /// Of the job's file.
    pub version: u32,
    #[schema(value_type = String, example = "20261128-213000-3fa9c1")]
    pub id: Id,
    /// By what the host file is named: an address, a MAC, a UUID.
    pub machine: String,
    /// The machine's name in the fleet file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub action: String,
    /// The host file's name.
    pub host_file: String,
    /// The other names that a host file of this machine could have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_files: Vec<String>,
    #[schema(schema_with = schema::job_state)]
    pub state: State,
    /// How the last try ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::job_verdict)]
    pub verdict: Option<Verdict>,
    /// Why it is where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub set: Timestamp,
    /// Who set it.
    pub set_by: String,
    #[schema(value_type = String, format = DateTime)]
    pub changed: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
    /// When it is due; of `every` the next time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub at: Option<Timestamp>,
    /// A cron expression: a job like this one is set each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// Up to when `every` was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last: Option<Timestamp>,
    /// The job with `every` that set this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub series: Option<Id>,
    /// The backup whose image it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub follows: Option<Id>,
    /// The jobs that were set together.
    #[schema(value_type = String)]
    pub batch: Id,
    /// How many of them are at work at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Its place among them, from 0.
    pub place: u32,
    #[schema(schema_with = schema::job_order)]
    pub order: Order,
    /// The machine's groups in the fleet file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// The machine's folder on the share, where it can be known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The URL of the server that keeps track of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Tries so far.
    pub attempts: u32,
    /// The last tries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub runs: Vec<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub superseded_by: Option<Id>,
    /// What is switched when it is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::job_power)]
    pub power: Option<Power>,
}

impl Job {
    /// As people know the machine.
    pub fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.machine)
    }
}

impl From<&pitstop_jobs::Job> for Job {
    fn from(job: &pitstop_jobs::Job) -> Self {
        Self {
            version: job.version,
            id: job.id.clone(),
            machine: job.machine.clone(),
            name: job.name.clone(),
            action: job.action.as_str().to_owned(),
            host_file: job.host_file.clone(),
            other_files: job.other_files.clone(),
            state: job.state,
            verdict: job.verdict,
            reason: job.reason.clone(),
            set: job.set,
            set_by: job.set_by.clone(),
            changed: job.changed,
            ended: job.ended,
            at: job.at,
            every: job.every.clone(),
            last: job.last,
            series: job.series.clone(),
            follows: job.follows.clone(),
            batch: job.batch.clone(),
            slots: job.slots,
            place: job.place,
            order: job.order,
            groups: job.groups.clone(),
            folder: job.folder.clone(),
            server: job.server.clone(),
            attempts: job.attempts,
            runs: job.runs.clone(),
            superseded_by: job.superseded_by.clone(),
            power: job.power,
        }
    }
}

/// One job, and what goes on for it now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct JobDetail {
    #[serde(flatten)]
    pub job: Job,
    /// Its machine's place among those that wait, from 1; left out where it does not wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_at: Option<u32>,
    /// Its last tries that are known, the newest first.
    #[serde(default)]
    pub tries: Vec<Run>,
}

/// Jobs, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Jobs {
    pub jobs: Vec<Job>,
    /// What is wrong with files that hold no job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wrong: Vec<String>,
    /// Where there are more: `after` of the next question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The end of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Ended {
    /// Of the line.
    pub version: u32,
    #[schema(value_type = String)]
    pub id: Id,
    pub machine: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub action: String,
    pub host_file: String,
    #[schema(schema_with = schema::job_state)]
    pub state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::job_verdict)]
    pub verdict: Option<Verdict>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub set: Timestamp,
    pub set_by: String,
    #[schema(value_type = String, format = DateTime)]
    pub ended: Timestamp,
    pub attempts: u32,
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub runs: Vec<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub series: Option<Id>,
}

impl Ended {
    /// As people know the machine.
    pub fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.machine)
    }
}

impl From<&pitstop_jobs::Entry> for Ended {
    fn from(entry: &pitstop_jobs::Entry) -> Self {
        Self {
            version: entry.version,
            id: entry.id.clone(),
            machine: entry.machine.clone(),
            name: entry.name.clone(),
            action: entry.action.clone(),
            host_file: entry.host_file.clone(),
            state: entry.state,
            verdict: entry.verdict,
            reason: entry.reason.clone(),
            set: entry.set,
            set_by: entry.set_by.clone(),
            ended: entry.ended,
            attempts: entry.attempts,
            runs: entry.runs.clone(),
            series: entry.series.clone(),
        }
    }
}

/// What ended, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct History {
    pub history: Vec<Ended>,
}

/// A host file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct HostFile {
    /// An address, or whom else the file's name is about.
    pub machine: String,
    pub file: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The folder on the share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Why the machine will not take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why no machine looks for a file of this name, and what to call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Host files, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct HostFiles {
    pub files: Vec<HostFile>,
}
