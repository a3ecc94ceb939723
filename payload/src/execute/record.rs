//! `machine.toml` in a machine's folder: which machines have had the address, and which disks the last of them had.
//!
//! A folder is named after an address, and addresses go from machine to machine. Where there is no such file yet,
//! `testbox-info.txt` tells, also that of VirtualBox's script.

mod same;

use super::attempts::put;
use anyhow::Context;
use pitstop_imaging::image::MachineIdentity;
use pitstop_imaging::inventory::{DiskIdentity, Inventory, Standing};
use pitstop_protocol::host_name::Mac;
use pitstop_protocol::machine::Lease;
use pitstop_protocol::machine_record::{FILE, INFO, MOST_BYTES, Record, macs, uuid};
use pitstop_transport::share::Share;
pub(super) use same::same_machine;
use std::io::Read;

/// The last so many machines are kept.
const MOST_MACHINES: usize = 16;

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
        return Ok(Record::of_file(&text));
    }
    let info = small_file(share, &format!("{folder}/{INFO}"))?.unwrap_or_default();
    Ok(Record::of_info(&info))
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

/// The disks that the last run knew, if it was this machine's.
pub fn disks_of(record: &Record, this: &MachineIdentity) -> Vec<DiskIdentity> {
    match record.machines.last() {
        Some(last) if same_machine(last, this) == Some(true) => record.disks.clone(),
        _ => Vec::new(),
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
        assert_eq!(disks_of(&record, &b)[0].serial, "B2");
        assert!(disks_of(&record, &a).is_empty());
        fs::write(root.path().join("m").join(FILE), "machine = 3").unwrap();
        assert_eq!(read(&share, "m").unwrap(), Record::default());
    }
}
