//! Runs: each try of a job, as its machine reported it.

use jiff::Timestamp;
use pitstop_imaging::event::Act;
use pitstop_protocol::event::Verdict;
use pitstop_protocol::id::Id;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    Running,
    Ok,
    Failed,
    /// The job was withdrawn before anything was touched.
    Cancelled,
    /// It has not reported for three minutes, and has not ended.
    Silent,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Run {
    #[schema(value_type = String, example = "20261128-213000-a1b2c3")]
    pub run: Id,
    /// The job that it was a try of. A machine that does not report has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub job: Option<Id>,
    pub state: RunState,
    /// The host name; may be empty.
    #[serde(default)]
    pub machine: String,
    #[serde(default)]
    pub address: String,
    #[serde(default)]
    pub mac: String,
    /// Where its reports came from; empty of a run that is known from its log on the share.
    #[serde(default)]
    pub peer: String,
    /// The version of Pitstop that ran.
    #[serde(default)]
    pub pitstop: String,
    /// `unknown` until the machine knows.
    pub action: String,
    /// By the machine's clock, as is `ended`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub began: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = crate::schema::verdict)]
    pub verdict: Option<Verdict>,
    /// Why it failed or was not begun, in one line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Bytes of all disks.
    #[serde(default)]
    pub bytes: u64,
    /// Milliseconds.
    #[serde(default)]
    pub elapsed_ms: u64,
    /// Places of disks that could not be read.
    #[serde(default)]
    pub read_errors: u64,
    /// What was planned.
    #[serde(default)]
    pub disks: Vec<PlannedDisk>,
    /// Of a run that goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// One disk of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PlannedDisk {
    /// The kernel's name.
    pub disk: String,
    #[serde(default)]
    pub model: String,
    #[serde(default)]
    pub serial: String,
    /// Bytes.
    pub size: u64,
    /// What will be done to it, or with it.
    #[schema(value_type = String, example = "restore")]
    pub will: Act,
    /// The file on the share; left out where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
}

/// How far a transfer is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Progress {
    /// Which step of the plan, from 1; left out where there is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub step: u32,
    /// The kernel's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub disk: String,
    /// Model and serial, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    #[schema(value_type = String, example = "restore")]
    pub act: Act,
    /// Bytes of the disk.
    pub done: u64,
    /// Bytes of the disk in all; left out where an image of another tool does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Bytes to or from the image.
    pub transferred: u64,
    /// Milliseconds.
    pub elapsed_ms: u64,
    /// 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// Bytes of the disk a second.
    pub rate: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
}

/// One run and its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RunDetail {
    #[serde(flatten)]
    pub run: Run,
    /// As the console showed it, each line with its time (UTC) in front.
    #[serde(default)]
    pub log: String,
}

/// Runs, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Runs {
    pub runs: Vec<Run>,
    /// Where there are more: `after` of the next question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
