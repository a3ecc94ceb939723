//! Switching machines.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is done to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PowerAct {
    On,
    /// At once, as by the button.
    Off,
    /// Off, and on again.
    Cycle,
    Status,
    /// The next boot, and no later one, is from the network.
    Pxe,
}

/// The body of `POST /power`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PowerAsk {
    /// As in `POST /jobs`.
    #[schema(min_items = 1)]
    pub machines: Vec<String>,
    pub act: PowerAct,
    /// Switch it off though it is at work.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// What became of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PowerResult {
    pub name: String,
    /// `on`, `off`, `cycle`, `status` or `pxe`.
    pub act: String,
    /// `on`, `off` or `unknown`; `null` where it failed.
    pub power: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What became of each machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PowerResults {
    pub results: Vec<PowerResult>,
}
