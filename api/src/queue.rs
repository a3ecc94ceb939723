//! Whose turn it is, and what is for later.

use crate::job::Job;
use crate::run::Progress;
use pitstop_protocol::id::Id;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Slots of a group of the fleet file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct GroupSlots {
    pub name: String,
    /// Machines of it at work at once, at most.
    pub slots: u32,
    /// At work now.
    pub used: u32,
}

/// A job that has a slot, or waits for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    #[serde(flatten)]
    pub job: Job,
    /// Among those that wait, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_at: Option<u32>,
    /// Its run, of one at work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub run: Option<Id>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// Who works and who waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Queue {
    /// Machines at work at once, at most; left out where there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// At work now.
    pub used: u32,
    /// Left out where there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<u32>,
    #[serde(default)]
    pub groups: Vec<GroupSlots>,
    /// With a slot.
    pub running: Vec<Entry>,
    /// Without one, in the order in which they get one.
    pub queued: Vec<Entry>,
    /// Set, and not come yet, in the order in which they would get a slot.
    pub waiting: Vec<Entry>,
}

/// Jobs for later, the next one first; `at` of each is its next time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Schedule {
    pub schedule: Vec<Job>,
}
