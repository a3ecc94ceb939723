//! The server itself.

use crate::people::Role;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Who {
    /// The user; left out of the server's own machine while there are no users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    pub role: Role,
}

/// The server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub struct Server {
    /// The version of Pitstop.
    pub version: String,
    /// Under which machines reach it.
    pub url: String,
    /// Whether machines and people reach it over TLS.
    pub tls: bool,
    /// Whether anybody can log in. Until then only the server's own machine is answered.
    pub users: bool,
    pub you: Who,
    /// The names of the host file's keys that `POST /jobs` takes.
    #[serde(default)]
    pub job_keys: Vec<String>,
    /// What jobs there are.
    #[serde(default)]
    pub actions: Vec<String>,
    /// What is wrong with the fleet file; left out where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet_wrong: Option<crate::fleet::Wrong>,
}
