//! Machines: those of the fleet file, those with a job, those that reported, those that wait for a name.

use crate::disk::Disk;
use crate::image::Image;
use crate::job::Job;
use crate::run::{Progress, Run, RunState};
use jiff::Timestamp;
use pitstop_protocol::id::Id;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::ToSchema;

/// How a machine stands.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum MachineState {
    /// Its last run or job failed, and it has no other job.
    Failed,
    /// It was at work, and has not reported for three minutes.
    Silent,
    Running,
    /// It has come for its job, and waits for a slot.
    Queued,
    /// It has a job, and has not come for it.
    Waiting,
    /// It has a job for later.
    Scheduled,
    /// It is not in the fleet file, and waits for a name.
    New,
    /// Its last run went well.
    Done,
    /// It has no job, and nothing is known of an earlier one.
    #[default]
    Idle,
}

/// How its last run or job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct LastResult {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub run: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub job: Option<Id>,
    pub action: String,
    pub state: RunState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended: Option<Timestamp>,
}

/// One machine, in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Machine {
    /// What to ask for at `/machines/…`: its name in the fleet file, else its address, its MAC or its UUID.
    pub id: String,
    /// Its name in the fleet file, else the host name that it reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The fleet file's first.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// `52:54:00:12:34:56`
    #[serde(default)]
    pub mac: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Of its firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    #[serde(default)]
    pub groups: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Maker and model, where its inventory tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether the fleet file has it.
    pub known: bool,
    pub state: MachineState,
    /// The job that it has now, or else the next one for later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Job>,
    /// Its place among those that wait for a slot, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_at: Option<u32>,
    /// The run that goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub run: Option<Id>,
    /// Of the run that goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastResult>,
    /// When it was last heard of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub seen: Option<Timestamp>,
}

impl Machine {
    /// As people know it.
    pub fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.id)
    }
}

/// Something that is known of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Fact {
    /// As a search names it: `ram`, `cpu.model`.
    pub key: String,
    /// For people.
    pub value: String,
}

/// One machine, with all that is known of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct MachineDetail {
    #[serde(flatten)]
    pub machine: Machine,
    /// Its folder on the share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// How it is switched: `wol`, `ipmi://…`, `redfish://…`, `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<String>,
    /// Its line in the fleet file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    #[serde(default)]
    pub disks: Vec<Disk>,
    /// Images of it.
    #[serde(default)]
    pub images: Vec<Image>,
    /// Its last runs, the newest first.
    #[serde(default)]
    pub runs: Vec<Run>,
    /// Its jobs that are there, the newest first.
    #[serde(default)]
    pub jobs: Vec<Job>,
    /// What its inventory says.
    #[serde(default)]
    pub facts: Vec<Fact>,
}

/// Machines, in the order of the fleet file, then those that it does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Machines {
    pub machines: Vec<Machine>,
    /// Where there are more: `after` of the next question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
