//! The fleet file: machines, groups and networks, each value with the layer and the line that gave it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// One value that holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Setting {
    /// Of secrets only that there is one.
    pub value: serde_json::Value,
    /// `base`, `group.lab3`, `network."192.168.1.0/24"`
    pub layer: String,
    /// Of the fleet file, from 1.
    pub line: usize,
}

/// One machine of the fleet file. What it does not say is `null`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct FleetMachine {
    pub name: String,
    pub mac: Vec<String>,
    pub ip: Option<String>,
    pub uuid: Option<String>,
    pub serial: Option<String>,
    pub groups: Vec<String>,
    pub network: Option<String>,
    /// Its line in the fleet file.
    pub line: usize,
    /// Only of one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<BTreeMap<String, Setting>>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct FleetGroup {
    pub name: String,
    pub line: usize,
    /// Machines at work at once, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// How many machines it has.
    pub machines: usize,
}

/// One network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct FleetNetwork {
    /// `192.168.1.0/24`
    pub net: String,
    pub line: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// How many machines it has.
    pub machines: usize,
}

/// Why the file is not used as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Wrong {
    /// A line a problem.
    pub why: String,
    /// What holds meanwhile.
    pub meanwhile: String,
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct FleetView {
    /// As messages name it; empty where there is none.
    pub file: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<Wrong>,
    pub machines: Vec<FleetMachine>,
    pub groups: Vec<FleetGroup>,
    pub networks: Vec<FleetNetwork>,
}
