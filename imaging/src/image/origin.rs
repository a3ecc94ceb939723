//! Which machine an image is of, beside which disk: an address goes from machine to machine, and so does a disk.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a machine is told by. What it does not tell is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MachineIdentity {
    /// The firmware's system UUID, lower case.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uuid: String,
    /// The firmware's system serial number.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub serial: String,
    /// Of its network cards, `52:54:00:12:34:56`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub macs: Vec<String>,
}

/// Where an image comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Origin {
    /// Names the job, this time that it was set; empty where nobody could tell two times apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request: String,
    pub machine: MachineIdentity,
}

impl Origin {
    /// Of an image that was made from another: no job of a machine's has made it.
    #[must_use]
    pub fn without_request(self) -> Self {
        Self {
            request: String::new(),
            ..self
        }
    }
}

/// `UUID 4c4c4544-…, MAC 52:54:00:12:34:56`
impl fmt::Display for MachineIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut facts = Vec::new();
        if !self.uuid.is_empty() {
            facts.push(format!("UUID {}", self.uuid));
        }
        if !self.serial.is_empty() {
            facts.push(format!("serial {}", self.serial));
        }
        if !self.macs.is_empty() {
            facts.push(format!("MAC {}", self.macs.join(", ")));
        }
        f.write_str(&facts.join(", "))
    }
}
