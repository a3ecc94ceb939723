//! Arrays, LUKS and volumes as a file has them, with what is on them beside their own keys.

use super::{Entry, Logical, Luks, On, Raid};
use serde::{Deserialize, Serialize};

/// An array as a file has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct WrittenRaid {
    name: String,
    #[serde(default = "mirror")]
    level: u32,
    on: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filesystem: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    label: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    uuid: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    features: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    mount: String,
}

/// What is encrypted, as a file has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct WrittenLuks {
    name: String,
    on: On,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filesystem: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    label: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    uuid: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    features: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    mount: String,
}

/// A volume as a file has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct WrittenVolume {
    name: String,
    size: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filesystem: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    label: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    uuid: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    features: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    mount: String,
}

/// The only level that is made.
fn mirror() -> u32 {
    1
}

impl TryFrom<WrittenRaid> for Raid {
    type Error = String;

    fn try_from(written: WrittenRaid) -> Result<Self, String> {
        if written.level != mirror() {
            return Err(format!(
                "[[raid]] {:?} has level = {}: only arrays of level 1 are made",
                written.name, written.level
            ));
        }
        Ok(Self {
            name: written.name,
            on: written.on,
            entry: Entry {
                filesystem: written.filesystem,
                label: written.label,
                uuid: written.uuid,
                features: written.features,
                mount: written.mount,
                ..Entry::default()
            },
        })
    }
}

impl From<Raid> for WrittenRaid {
    fn from(raid: Raid) -> Self {
        let Raid { name, on, entry } = raid;
        Self {
            name,
            level: mirror(),
            on,
            filesystem: entry.filesystem,
            label: entry.label,
            uuid: entry.uuid,
            features: entry.features,
            mount: entry.mount,
        }
    }
}

impl From<WrittenLuks> for Luks {
    fn from(written: WrittenLuks) -> Self {
        Self {
            name: written.name,
            on: written.on,
            entry: Entry {
                filesystem: written.filesystem,
                label: written.label,
                uuid: written.uuid,
                features: written.features,
                mount: written.mount,
                ..Entry::default()
            },
        }
    }
}

impl From<Luks> for WrittenLuks {
    fn from(luks: Luks) -> Self {
        let Luks { name, on, entry } = luks;
        Self {
            name,
            on,
            filesystem: entry.filesystem,
            label: entry.label,
            uuid: entry.uuid,
            features: entry.features,
            mount: entry.mount,
        }
    }
}

impl From<WrittenVolume> for Logical {
    fn from(written: WrittenVolume) -> Self {
        Self {
            name: written.name,
            entry: Entry {
                size: written.size,
                filesystem: written.filesystem,
                label: written.label,
                uuid: written.uuid,
                features: written.features,
                mount: written.mount,
                ..Entry::default()
            },
        }
    }
}

impl From<Logical> for WrittenVolume {
    fn from(volume: Logical) -> Self {
        let Logical { name, entry } = volume;
        Self {
            name,
            size: entry.size,
            filesystem: entry.filesystem,
            label: entry.label,
            uuid: entry.uuid,
            features: entry.features,
            mount: entry.mount,
        }
    }
}
