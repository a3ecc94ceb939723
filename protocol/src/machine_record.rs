//! `machine.toml` in a machine's folder on the share: which machines have had the address, and which disks the last of them
//! had. Written by the machine, read by it, by the server and by the command.
//!
//! Where there is no such file yet, `testbox-info.txt` tells, also that of VirtualBox's script.

use crate::host_name::{Mac, Uuid};
use pitstop_imaging::image::MachineIdentity;
use pitstop_imaging::inventory::DiskIdentity;
use serde::{Deserialize, Serialize};

/// In the machine's folder on the share.
pub const FILE: &str = "machine.toml";

/// Of older versions, and of VirtualBox's script.
pub const INFO: &str = "testbox-info.txt";

/// Far more than either file ever holds of it.
pub const MOST_BYTES: u64 = 1 << 20;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    pub version: u32,
    /// Those that had the address, the last one last.
    #[serde(default, rename = "machine")]
    pub machines: Vec<MachineIdentity>,
    /// The fixed disks of the last one.
    #[serde(default, rename = "disk")]
    pub disks: Vec<DiskIdentity>,
}

impl Record {
    /// What the text of the file says. One that makes no sense says nothing.
    pub fn of_file(text: &str) -> Self {
        toml::from_str(text).unwrap_or_default()
    }

    /// What the text of [`INFO`] says.
    pub fn of_info(text: &str) -> Self {
        Self {
            version: 0,
            machines: of_info(text).into_iter().collect(),
            disks: disks_of_info(text),
        }
    }
}

/// The first UUID that has its label, and every MAC address.
fn of_info(text: &str) -> Option<MachineIdentity> {
    let labelled = |line: &str| uuid(line.trim().strip_prefix("UUID:")?.trim());
    let words = text.split(|c: char| !(c.is_ascii_hexdigit() || c == ':'));
    let found = MachineIdentity {
        uuid: text.lines().find_map(labelled).unwrap_or_default(),
        serial: String::new(),
        macs: macs(words.map(|word| word.trim_matches(':'))),
    };
    (found != MachineIdentity::default()).then_some(found)
}

/// The fixed disks, as older versions wrote them: `sda (QEMU HARDDISK, serial QM00001, 4.0 GiB), fixed`. Only what tells
/// them again is taken.
fn disks_of_info(text: &str) -> Vec<DiskIdentity> {
    let disk = |line: &str| {
        let (device, facts) = line.strip_suffix("), fixed")?.split_once(" (")?;
        let is_name = device
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '!');
        let fact = |label: &str| {
            let mut told = facts.rsplit(", ");
            let told = told.find_map(|fact| fact.strip_prefix(label));
            told.unwrap_or_default().to_owned()
        };
        is_name.then(|| DiskIdentity {
            device: device.to_owned(),
            model: String::new(),
            serial: fact("serial "),
            wwn: fact("WWN "),
            transport: String::new(),
            size: 0,
            logical_sector_size: 512,
            physical_sector_size: 512,
        })
    };
    text.lines().filter_map(disk).collect()
}

/// As the record spells it, if it is one.
pub fn uuid(text: &str) -> Option<String> {
    Uuid::parse(text).map(|uuid| uuid.to_string())
}

/// Those that are one card's, as the record spells them.
pub fn macs<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let cards = words.filter_map(|word| word.parse::<Mac>().ok());
    let mut macs: Vec<String> = cards.map(|mac| mac.to_string()).collect();
    macs.sort();
    macs.dedup();
    macs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_info_of_older_versions_and_of_virtualboxs_script_tells_the_machine() {
        let text = "=== Machine ===\nName: testbox7\nIP: 10.0.2.15\nMAC: 52:54:00:12:34:56\n\
                    UUID: 4c4c4544-0044-4210-8053-b7c04f4d3132\n";
        let found = of_info(text).unwrap();
        assert_eq!(found.uuid, "4c4c4544-0044-4210-8053-b7c04f4d3132");
        assert_eq!(found.macs, ["52:54:00:12:34:56"]);
        let script = "    link/ether 08:00:27:AB:cd:ef brd ff:ff:ff:ff:ff:ff\n\tSerial Number: 0\n\
                      \tUUID: 00000000-0000-0000-0000-000000000000\n\tUUID: 4C4C4544-0044-4210-8053-B7C04F4D3132\n";
        let found = of_info(script).unwrap();
        assert_eq!(found.uuid, "4c4c4544-0044-4210-8053-b7c04f4d3132");
        assert_eq!(found.macs, ["08:00:27:ab:cd:ef"]);
        assert_eq!(of_info("nothing: 12:00:00 2001:db8::1"), None);
        let disks = "sda (QEMU HARDDISK, serial QM00001, 4.0 GiB), fixed\n    4294967296 bytes\n\
                     sdb (STICK, serial S, 1.0 GiB), on USB\nvda (1.0 GiB), fixed\n";
        let disks = disks_of_info(disks);
        let told: Vec<_> = disks
            .iter()
            .map(|disk| (disk.device.as_str(), disk.serial.as_str()))
            .collect();
        assert_eq!(told, [("sda", "QM00001"), ("vda", "")]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*") {
            let _ = of_info(&text);
            let _ = disks_of_info(&text);
        }
    }
}
