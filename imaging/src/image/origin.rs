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

impl MachineIdentity {
    /// Whether both are one machine; `None` where that cannot be told.
    ///
    /// The UUID counts most: a network card on a plug is carried from machine to machine, and takes the address with
    /// it. But makers have given one UUID to all their boards.
    pub fn is(&self, other: &Self) -> Option<bool> {
        let serials = tell(&self.serial, &other.serial).then(|| self.serial == other.serial);
        let macs = (!self.macs.is_empty() && !other.macs.is_empty())
            .then(|| self.macs.iter().any(|mac| other.macs.contains(mac)));
        if tell(&self.uuid, &other.uuid) {
            return match (same_uuid(&self.uuid, &other.uuid), macs, serials) {
                (false, ..) => Some(false),
                (true, Some(false), None | Some(false)) => None,
                (true, ..) => Some(true),
            };
        }
        match (macs, serials) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), _) | (_, Some(false)) => Some(false),
            (None, None) => None,
        }
    }
}

fn tell(one: &str, other: &str) -> bool {
    !one.is_empty() && !other.is_empty()
}

/// SMBIOS before 2.6 did not say in which order the bytes of the first three fields are, and programs differ.
fn same_uuid(one: &str, other: &str) -> bool {
    one == other || swapped(one).is_some_and(|swapped| swapped == other)
}

fn swapped(uuid: &str) -> Option<String> {
    let mut fields: Vec<String> = uuid.split('-').map(str::to_owned).collect();
    for field in fields.get_mut(..3)? {
        let pairs: Option<Vec<&str>> = (0..field.len() / 2)
            .rev()
            .map(|pair| field.get(pair * 2..pair * 2 + 2))
            .collect();
        *field = pairs?.concat();
    }
    Some(fields.join("-"))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(uuid: &str, serial: &str, macs: &[&str]) -> MachineIdentity {
        MachineIdentity {
            uuid: uuid.into(),
            serial: serial.into(),
            macs: macs.iter().map(|mac| (*mac).to_owned()).collect(),
        }
    }

    #[test]
    fn machines_are_told_apart_by_what_both_tell() {
        let a = "33221100-5544-7766-8899-aabbccddeeff";
        let b = "00112233-4455-6677-8899-aabbccddee00";
        for (one, other, same) in [
            (machine(a, "", &["m1"]), machine(a, "", &["m1"]), Some(true)),
            // The other byte order.
            (
                machine(a, "", &[]),
                machine("00112233-4455-6677-8899-aabbccddeeff", "", &[]),
                Some(true),
            ),
            // A network card on a plug.
            (
                machine(a, "", &["m1"]),
                machine(b, "", &["m1"]),
                Some(false),
            ),
            // One UUID for all boards of a maker.
            (machine(a, "", &["m1"]), machine(a, "", &["m2"]), None),
            (
                machine(a, "S", &["m1"]),
                machine(a, "S", &["m2"]),
                Some(true),
            ),
            (
                machine("", "", &["m1"]),
                machine(b, "", &["m2", "m1"]),
                Some(true),
            ),
            (
                machine("", "", &["m1"]),
                machine("", "", &["m2"]),
                Some(false),
            ),
            (machine("", "S", &[]), machine("", "T", &[]), Some(false)),
            (machine(a, "", &[]), machine("", "", &["m1"]), None),
        ] {
            assert_eq!(one.is(&other), same, "{one} / {other}");
            assert_eq!(other.is(&one), same, "{other} / {one}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_uuid_is_compared_without_a_panic(one in "\\PC*", other in "\\PC*") {
            let _ = same_uuid(&one, &other);
        }
    }
}
