//! `machine.toml` in a machine's folder: which machines have had the address, and which disks the last of them had.
//!
//! A folder is named after an address, and addresses go from machine to machine. Where there is no such file yet,
//! `testbox-info.txt` tells, also that of VirtualBox's script.

mod same;

use super::attempts::put;
use anyhow::Context;
use pitstop_imaging::image::MachineIdentity;
use pitstop_imaging::inventory::{DiskIdentity, Inventory, Standing};
use pitstop_protocol::host_name::{Mac, Uuid};
use pitstop_protocol::machine::Lease;
use pitstop_transport::share::Share;
pub(super) use same::same_machine;
use serde::{Deserialize, Serialize};
use std::io::Read;

/// In the machine's folder on the share.
pub const FILE: &str = "machine.toml";

/// Of older versions, and of VirtualBox's script.
const INFO: &str = "testbox-info.txt";

/// Far more than either file ever holds of it.
const MOST_BYTES: u64 = 1 << 20;

/// The last so many machines are kept.
const MOST_MACHINES: usize = 16;

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

/// What this machine is told by.
pub fn identity(lease: &Lease, inventory: &Inventory) -> MachineIdentity {
    let own = Mac(lease.mac).to_string();
    let cards = inventory.nics.iter().map(|nic| nic.mac.as_str());
    let firmware = &inventory.firmware;
    MachineIdentity {
        uuid: uuid(&firmware.uuid).unwrap_or_default(),
        serial: firmware.known_serial().unwrap_or_default().to_owned(),
        macs: macs(cards.chain([own.as_str()])),
    }
}

/// What a folder of the share says of the machines that had it. Files that are not there or make no sense say nothing.
///
/// # Errors
/// When the share cannot be read.
pub fn read(share: &dyn Share, folder: &str) -> anyhow::Result<Record> {
    if let Some(text) = small_file(share, &format!("{folder}/{FILE}"))? {
        return Ok(toml::from_str(&text).unwrap_or_default());
    }
    let info = small_file(share, &format!("{folder}/{INFO}"))?.unwrap_or_default();
    Ok(Record {
        version: 0,
        machines: of_info(&info).into_iter().collect(),
        disks: disks_of_info(&info),
    })
}

/// Notes this machine and its disks.
///
/// # Errors
/// When the share cannot be read or written.
pub fn write(
    share: &dyn Share,
    folder: &str,
    this: MachineIdentity,
    inventory: &Inventory,
) -> anyhow::Result<()> {
    let mut machines = read(share, folder)?.machines;
    machines.retain(|known| same_machine(known, &this) != Some(true));
    machines.push(this);
    let surplus = machines.len().saturating_sub(MOST_MACHINES);
    machines.drain(..surplus);
    let fixed = inventory
        .disks
        .iter()
        .filter(|disk| disk.unused == Standing::Fixed && disk.standing != Standing::Medium);
    let record = Record {
        version: 1,
        machines,
        disks: fixed.map(|disk| disk.identity.clone()).collect(),
    };
    let text = toml::to_string(&record).context("putting what the machine is into TOML")?;
    put(share, &format!("{folder}/{FILE}"), text.as_bytes())
}

impl Record {
    /// The disks that the last run knew, if it was this machine's.
    pub fn disks_of(&self, this: &MachineIdentity) -> Vec<DiskIdentity> {
        match self.machines.last() {
            Some(last) if same_machine(last, this) == Some(true) => self.disks.clone(),
            _ => Vec::new(),
        }
    }
}

fn small_file(share: &dyn Share, path: &str) -> anyhow::Result<Option<String>> {
    if share.stat(path)?.is_none() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    share
        .open(path)?
        .take(MOST_BYTES)
        .read_to_end(&mut bytes)
        .with_context(|| format!("reading {path} on {}", share.name()))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
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
fn uuid(text: &str) -> Option<String> {
    Uuid::parse(text).map(|uuid| uuid.to_string())
}

/// Those that are one card's, as the record spells them.
fn macs<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let cards = words.filter_map(|word| word.parse::<Mac>().ok());
    let mut macs: Vec<String> = cards.map(|mac| mac.to_string()).collect();
    macs.sort();
    macs.dedup();
    macs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::disk;
    use pitstop_transport::share::DirectoryShare;
    use std::fs;

    fn machine(mac: &str) -> MachineIdentity {
        MachineIdentity {
            macs: vec![mac.into()],
            ..MachineIdentity::default()
        }
    }

    #[test]
    fn every_machine_that_had_the_address_is_kept_and_the_last_ones_disks() {
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        let (a, b) = (machine("52:54:00:00:00:01"), machine("52:54:00:00:00:02"));
        let with = |serial: &str| Inventory {
            disks: vec![disk("sda", serial, 4096)],
            ..Inventory::default()
        };
        assert_eq!(read(&share, "m").unwrap(), Record::default());
        write(&share, "m", a.clone(), &with("A")).unwrap();
        write(&share, "m", b.clone(), &with("B")).unwrap();
        write(&share, "m", b.clone(), &with("B2")).unwrap();
        let record = read(&share, "m").unwrap();
        assert_eq!(record.machines, [a.clone(), b.clone()]);
        assert_eq!(record.disks_of(&b)[0].serial, "B2");
        assert!(record.disks_of(&a).is_empty());
        fs::write(root.path().join("m").join(FILE), "machine = 3").unwrap();
        assert_eq!(read(&share, "m").unwrap(), Record::default());
    }

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
