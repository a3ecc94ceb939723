//! What a machine is: read by the payload, kept and searched by the server. docs/inventory.md says it key by key.
//!
//! Absent facts are empty texts, zeros or `unknown`, never guesses. A reader passes over keys that came later.

use pitstop_imaging::inventory::lacking;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version that is written.
pub const VERSION: u32 = 1;
/// In the machine's folder on the share.
pub const FILE: &str = "inventory.json";
/// The largest file that is read, in bytes.
pub const LARGEST: usize = 256 << 10;
/// Of more disks or cards a machine tells these.
pub const MOST_PARTS: usize = 128;

/// One machine at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Facts {
    pub version: u32,
    /// When: RFC 3339, UTC, by the machine's clock.
    pub taken: String,
    /// The version of Pitstop that looked.
    pub pitstop: String,
    /// The host name that the network gave.
    pub name: String,
    pub address: String,
    /// Of the card that it booted from.
    pub mac: String,
    /// By the firmware, lower case.
    pub uuid: String,
    pub system: Made,
    pub board: Made,
    pub chassis: Made,
    pub firmware: Firmware,
    pub cpu: Cpu,
    pub ram: Ram,
    pub disks: Vec<Disk>,
    pub nics: Vec<Nic>,
    /// Network cards and disk controllers that nothing drives.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undriven: Vec<Undriven>,
    /// Whose drivers asked for files that the image has not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lacking_firmware: Vec<LackingFirmware>,
    /// Disks and cards that are not told, because there are too many.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: usize,
}

/// Who made a part, and which one it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Made {
    pub vendor: String,
    pub product: String,
    pub version: String,
    pub serial: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Firmware {
    pub kind: FirmwareKind,
    pub vendor: String,
    pub version: String,
    /// As the vendor writes it.
    pub date: String,
    pub secure_boot: SecureBoot,
}

/// How the machine booted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum FirmwareKind {
    Bios,
    Uefi,
    #[default]
    Unknown,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SecureBoot {
    On,
    Off,
    /// BIOS has none, or the firmware does not tell.
    #[default]
    Unknown,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Cpu {
    pub model: String,
    pub sockets: u32,
    /// Of all sockets.
    pub cores: u32,
    /// What the kernel counts as processors.
    pub threads: u32,
}

/// Bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Ram {
    /// What is in the slots; where the firmware does not tell, what the kernel has.
    pub installed: u64,
    /// What the kernel has to give.
    pub usable: u64,
}

/// A part that the kernel which looked has no driver for, or no firmware.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Undriven {
    /// `8086:15f3`
    pub pci: String,
    /// Class and subclass, as PCI has them: `0200` is an Ethernet card.
    pub class: String,
}

/// A part whose driver asked the image that looked for firmware, in vain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct LackingFirmware {
    /// For people: `network card 01:00.0 [14e4:1639]`.
    pub part: String,
    /// `14e4:1639`; empty for what is not on PCI.
    pub pci: String,
    pub driver: String,
    /// Below `/lib/firmware`, in the order in which they were asked for.
    pub files: Vec<String>,
    /// Without them.
    pub works: bool,
}

/// Which part lacks what, and what to do.
impl fmt::Display for LackingFirmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = lacking::sentence(&self.part, &self.driver, &self.files, self.works);
        f.write_str(&text)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Disk {
    /// The kernel's name, which may be another at the next boot.
    pub device: String,
    pub model: String,
    pub serial: String,
    pub wwn: String,
    /// What carries it: `ata`, `nvme`, `usb`, ….
    pub bus: String,
    /// Bytes.
    pub size: u64,
    pub logical_sector_size: u32,
    pub physical_sector_size: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotational: Option<bool>,
    /// Not a part of the machine: on USB, or a card.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub removable: bool,
    pub health: Health,
    /// Why it fails, or why it is not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub health_note: String,
    /// Percent of the life that the maker foresaw, where the drive tells; may be more than 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wear: Option<u8>,
}

/// What a drive says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    Ok,
    /// It does not tell.
    #[default]
    Unknown,
    /// It expects to fail, or has.
    Failing,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case", default)]
pub struct Nic {
    pub name: String,
    pub mac: String,
    pub driver: String,
    /// `8086:15f3`; empty for what is not on PCI.
    pub pci: String,
    /// A cable with a live far end.
    pub link: bool,
    /// Mbit/s, where the card tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<u32>,
}

impl FirmwareKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
            Self::Unknown => "unknown",
        }
    }
}

impl SecureBoot {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Unknown => "unknown",
        }
    }
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Failing => "failing",
        }
    }
}

impl Facts {
    /// Reads `inventory.json`.
    ///
    /// # Errors
    /// It is too large, no such file, or of a later version.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadFacts> {
        if bytes.len() > LARGEST {
            return Err(BadFacts::TooLarge(bytes.len()));
        }
        // A list would be taken for the fields in their order.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(BadFacts::NotFacts("it is no JSON object".into()));
        }
        let facts: Self =
            serde_json::from_slice(bytes).map_err(|error| BadFacts::NotFacts(error.to_string()))?;
        match facts.version {
            VERSION => Ok(facts),
            0 => Err(BadFacts::NotFacts("it has no version".into())),
            later => Err(BadFacts::Later(later)),
        }
    }

    /// What `inventory.json` is to hold.
    ///
    /// # Errors
    /// None that is known: it is serde's.
    pub fn text(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Leaves out disks and cards until the JSON of the rest, on one line, has at most `bytes`, as far as that helps.
    pub fn fit(&mut self, bytes: usize) {
        let lists = [
            self.disks.len(),
            self.nics.len(),
            self.undriven.len(),
            self.lacking_firmware.len(),
        ];
        let mut most = lists.into_iter().max().unwrap_or_default();
        while most > 0 && serde_json::to_vec(self).is_ok_and(|json| json.len() > bytes) {
            most /= 2;
            self.limit(most);
        }
    }

    /// Leaves out the last disks and cards until no list is longer than `most`.
    pub fn limit(&mut self, most: usize) {
        let before = self.disks.len() + self.nics.len();
        self.disks.truncate(most);
        self.nics.truncate(most);
        self.undriven.truncate(most);
        self.lacking_firmware.truncate(most);
        self.left_out += before - self.disks.len() - self.nics.len();
    }
}

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum BadFacts {
    #[error("{0} bytes are too many for the facts of a machine: at most {LARGEST} are read")]
    TooLarge(usize),
    #[error("these are no facts of a machine: {0}")]
    NotFacts(String),
    #[error(
        "the facts have version {0}, and this pitstop knows version {VERSION}: use a newer one"
    )]
    Later(u32),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_read_back_and_later_keys_are_passed_over() {
        let mut facts = Facts {
            version: VERSION,
            uuid: "4c4c4544-0038-4a10-804e-b7c04f503132".into(),
            ..Facts::default()
        };
        facts.disks.push(Disk {
            health: Health::Failing,
            wear: Some(104),
            ..Disk::default()
        });
        let text = facts.text().unwrap();
        assert_eq!(Facts::parse(text.as_bytes()).unwrap(), facts);
        assert!(text.contains("\"secure-boot\": \"unknown\""), "{text}");
        let later = text.replacen('{', "{\"mood\": [1],", 1);
        assert_eq!(Facts::parse(later.as_bytes()).unwrap(), facts);
    }

    #[test]
    fn what_are_no_facts_is_told() {
        let refused = |bytes: &[u8]| Facts::parse(bytes).unwrap_err().to_string();
        assert!(refused(b"{}").contains("no version"));
        assert!(refused(b"[1]").contains("no facts"));
        assert!(refused(b"{\"version\": 9}").contains("version 9"));
        assert!(refused(&vec![b' '; LARGEST + 1]).contains("too many"));
    }

    #[test]
    fn a_machine_of_too_many_parts_says_how_many_are_left_out() {
        let mut facts = Facts {
            disks: vec![Disk::default(); 5],
            nics: vec![Nic::default(); 3],
            ..Facts::default()
        };
        facts.limit(2);
        assert_eq!(
            (facts.disks.len(), facts.nics.len(), facts.left_out),
            (2, 2, 4)
        );
    }

    #[test]
    fn facts_fit_into_an_event() {
        let mut facts = Facts {
            disks: vec![Disk::default(); 1000],
            ..Facts::default()
        };
        facts.fit(20_000);
        assert!(serde_json::to_vec(&facts).unwrap().len() <= 20_000);
        assert_eq!(facts.disks.len() + facts.left_out, 1000);
        assert!(facts.disks.len() > 50, "{}", facts.disks.len());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(text in "\\PC{0,60}", key in "[a-z-]{1,12}") {
            let _ = Facts::parse(text.as_bytes());
            let _ = Facts::parse(format!("{{\"version\":1,\"{key}\":{text}}}").as_bytes());
        }
    }
}
