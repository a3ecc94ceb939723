//! What machines are, and what changed of it. What a machine tells of itself is [`Facts`], as it sent them.

pub use pitstop_protocol::facts::{
    Cpu, Disk, Facts, Firmware, FirmwareKind, Health, Made, Nic, Ram, SecureBoot,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Machines that a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct InventoryList {
    /// What was asked; empty for all machines.
    pub query: String,
    /// Machines that are known.
    pub known: u64,
    /// By name.
    pub machines: Vec<InventoryRow>,
}

/// One machine in a few words. Absent facts are empty texts and zeros.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", default)]
pub struct InventoryRow {
    /// In `fleet.toml`, or what the network calls it, or its address.
    pub name: String,
    pub groups: Vec<String>,
    pub address: String,
    pub mac: String,
    pub uuid: String,
    pub serial: String,
    pub vendor: String,
    pub model: String,
    pub cpu: String,
    pub cores: u32,
    /// Bytes.
    pub ram: u64,
    pub firmware: FirmwareKind,
    pub secure_boot: SecureBoot,
    pub disks: u32,
    /// Bytes of all disks.
    pub disk_bytes: u64,
    /// Model, size and health of each disk, for people.
    pub disks_text: String,
    /// The worst of its disks.
    pub health: Health,
    /// When it last told what it is: RFC 3339, UTC; empty where it never has.
    pub seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<LastRun>,
}

/// The last run of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct LastRun {
    pub run: String,
    pub action: String,
    /// `ok`, `failed`, `cancelled`, `running` or `silent`.
    pub result: String,
    /// When it ended, or began if it goes on: RFC 3339, UTC.
    pub when: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// All that is known of one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct MachineInventory {
    pub name: String,
    pub groups: Vec<String>,
    /// Its folder below the server's `inventory/`; empty where it never told what it is.
    pub folder: String,
    /// The newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<LastRun>,
    /// When something changed, the newest first; the last one is when it was first seen.
    pub history: Vec<InventoryStep>,
    /// What is odd, for people: a disk that was in another machine.
    pub notes: Vec<String>,
}

/// A time at which a machine was found to be another than before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct InventoryStep {
    /// RFC 3339, UTC.
    pub time: String,
    /// Against the step before; none at the first.
    pub changes: Vec<InventoryChange>,
}

/// What changed of a machine between two times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct InventoryDiff {
    pub name: String,
    /// When what is compared was taken: RFC 3339, UTC.
    pub from: String,
    pub to: String,
    pub changes: Vec<InventoryChange>,
}

/// One fact that changed, for people and programs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct InventoryChange {
    /// What it is called in a search: `ram`, `disk`, `disk.health`.
    pub field: String,
    /// Of which disk or card; empty for the machine itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub part: String,
    /// Left out for a part that came, or a fact that was not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// Left out for a part that went, or a fact that is not told any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<String>,
}
