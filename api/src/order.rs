//! What is asked for: jobs for machines. What came of it.

use crate::disk::Disk;
use crate::job::Job;
use crate::power::PowerResult;
use crate::schema;
use pitstop_jobs::Order as InOrder;
use pitstop_protocol::id::Id;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A job for machines: the body of `POST /jobs`. Beside these, the keys of a host file, as docs/host-file.md has them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Order {
    /// Names, addresses, MACs, UUIDs, `@group`, networks, patterns; `*` is every machine of the fleet file.
    #[schema(min_items = 1)]
    pub machines: Vec<String>,
    #[schema(example = "restore")]
    pub action: String,
    /// When it is due: `22:00`, `2026-12-01 22:00` (both by the server's clock), `2026-12-01T22:00:00Z`, `+2h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Again each time: five fields as crontab has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// Of these machines so many are at work at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub slots: Option<u32>,
    /// Which of those that wait is next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::job_order)]
    pub order: Option<InOrder>,
    /// How the machines are brought to the network boot that begins it: `cycle`, `on` or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<String>,
    /// Whose images a restore takes, in place of `image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Wait until that machine's backup is done.
    #[serde(default)]
    pub follow: bool,
    /// Set it though it looks as if it would fail.
    #[serde(default)]
    pub force: bool,
    /// Set nothing; say what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// The keys of the host file.
    #[serde(flatten)]
    #[schema(value_type = Object, additional_properties)]
    pub job: BTreeMap<String, serde_json::Value>,
}

/// What one machine would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Planned {
    /// As people know it: `lab3-01 (192.168.1.101)`.
    pub machine: String,
    /// By what its host file is named.
    pub id: String,
    pub action: String,
    /// The folder on the share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The disks that it is about, as the machine's last run knew them. Of a disk that nobody knows only the name is there.
    pub disks: Vec<Disk>,
    /// Every fixed disk is meant; `disks` has those that are known.
    pub every_disk: bool,
    /// The job that it has now, and would lose: `backup (waiting)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// Why it may fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct DryRun {
    pub machines: Vec<Planned>,
    /// Whether the disks lose what is on them.
    pub loses_data: bool,
    /// The same as a table, for people.
    pub text: String,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Answer {
    pub jobs: Vec<Job>,
    /// What will happen, or has, for people.
    pub text: String,
    /// What became of machines that were to be switched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub power: Vec<PowerResult>,
}

/// Jobs to be set again: the body of `POST /jobs/retry`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Retry {
    /// Jobs by their ids, or machines as in `POST /jobs`.
    #[schema(min_items = 1)]
    pub jobs: Vec<String>,
}

/// Where a job goes in the queue: the body of `PATCH /jobs/ID`. One of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Moved {
    /// Before this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub before: Option<Id>,
    /// Behind this job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub after: Option<Id>,
}
