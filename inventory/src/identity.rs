//! Whether two looks are at one machine. Boards are swapped, network cards and disks move, and cheap boards share one UUID: so
//! no single number decides where others say something else.

use crate::diff::same_disk;
use pitstop_api::inventory::{Disk, Facts};

/// UUIDs that a maker burnt into many boards.
const EVERYBODYS: [&str; 3] = [
    "03000200-0400-0500-0006-000700080009",
    "00020003-0004-0005-0006-000700080009",
    "12345678-1234-5678-90ab-cddeefaabbcc",
];

/// What is left where a serial number belongs, lower case.
const NO_SERIALS: [&str; 10] = [
    "to be filled by o.e.m.",
    "default string",
    "system serial number",
    "chassis serial number",
    "not specified",
    "not applicable",
    "none",
    "n/a",
    "0",
    "123456789",
];

/// Virtual disks are numbered alike in every machine: `QM00001`.
const SHORTEST_SERIAL: usize = 8;

/// How much two looks have in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Likeness {
    /// Kinds of numbers that are the same: UUID, serial, cards, disks, name.
    pub alike: u32,
    /// Kinds that both tell and that differ.
    pub other: u32,
    pub uuid: bool,
}

impl Likeness {
    /// Of what was known, and what is seen now.
    pub fn of(known: &Facts, seen: &Facts) -> Self {
        let mut like = Self::default();
        let uuids = (usable_uuid(&known.uuid), usable_uuid(&seen.uuid));
        like.uuid = uuids.0.is_some() && uuids.0 == uuids.1;
        like.count(both(uuids.0, uuids.1).map(|(a, b)| a == b));
        like.count(serials(known, seen));
        let (a, b) = (macs(known), macs(seen));
        like.count(overlap(&a, &b, |a, b| a == b));
        let (a, b) = (telling(&known.disks), telling(&seen.disks));
        like.count(overlap(&a, &b, |a, b| same_disk(a, b)));
        // Another name says nothing: it is the network's.
        if !known.name.is_empty() && known.name == seen.name {
            like.alike += 1;
        }
        like
    }

    fn count(&mut self, same: Option<bool>) {
        match same {
            Some(true) => self.alike += 1,
            Some(false) => self.other += 1,
            None => {}
        }
    }

    /// Two kinds agree, or all that can be compared.
    pub fn is_same(self) -> bool {
        self.alike >= 2 || (self.alike == 1 && self.other == 0)
    }
}

/// The UUID, where it is the machine's own.
pub fn usable_uuid(uuid: &str) -> Option<&str> {
    let digits: Vec<char> = uuid.chars().filter(|c| *c != '-').collect();
    let first = digits.first()?;
    let blank = digits.iter().all(|digit| digit == first);
    (digits.len() == 32 && !blank && !EVERYBODYS.contains(&uuid)).then_some(uuid)
}

fn usable_serial(serial: &str) -> Option<&str> {
    let blank = NO_SERIALS.contains(&serial.to_ascii_lowercase().as_str());
    (!serial.is_empty() && !blank).then_some(serial)
}

/// The system's, else the board's: a board that is swapped keeps the one and not the other.
fn serials(known: &Facts, seen: &Facts) -> Option<bool> {
    let pairs = [
        (&known.system.serial, &seen.system.serial),
        (&known.board.serial, &seen.board.serial),
        (&known.chassis.serial, &seen.chassis.serial),
    ];
    let told = pairs
        .into_iter()
        .filter_map(|(a, b)| both(usable_serial(a), usable_serial(b)));
    let mut same: Vec<bool> = told.map(|(a, b)| a == b).collect();
    same.sort_unstable();
    same.pop()
}

pub(crate) fn macs(facts: &Facts) -> Vec<&str> {
    let all = facts.nics.iter().map(|nic| nic.mac.as_str());
    let mut macs: Vec<&str> = all.chain([facts.mac.as_str()]).collect();
    macs.retain(|mac| !mac.is_empty() && *mac != "00:00:00:00:00:00");
    macs
}

/// Disks that are told by a number of their own.
pub(crate) fn telling(disks: &[Disk]) -> Vec<&Disk> {
    let own = |disk: &&Disk| {
        !disk.removable && (!disk.wwn.is_empty() || disk.serial.len() >= SHORTEST_SERIAL)
    };
    disks.iter().filter(own).collect()
}

fn both<T>(a: Option<T>, b: Option<T>) -> Option<(T, T)> {
    a.zip(b)
}

/// Whether one of each is the same; `None` where a side has none.
fn overlap<T>(a: &[T], b: &[T], same: impl Fn(&T, &T) -> bool) -> Option<bool> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    Some(a.iter().any(|a| b.iter().any(|b| same(a, b))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_api::inventory::Nic;

    fn machine(uuid: &str, serial: &str, mac: &str, disk: &str) -> Facts {
        let mut facts = Facts {
            uuid: uuid.into(),
            ..Facts::default()
        };
        facts.system.serial = serial.into();
        if !mac.is_empty() {
            facts.nics.push(Nic {
                mac: mac.into(),
                ..Nic::default()
            });
        }
        if !disk.is_empty() {
            facts.disks.push(Disk {
                model: "EVO".into(),
                serial: disk.into(),
                ..Disk::default()
            });
        }
        facts
    }

    const U: &str = "4c4c4544-0038-4a10-804e-b7c04f503132";
    const V: &str = "4c4c4544-0038-4a10-804e-b7c04f503133";
    const SHARED: &str = "03000200-0400-0500-0006-000700080009";

    #[test]
    fn a_machine_is_known_again_whatever_single_part_is_new() {
        let known = machine(U, "SER1", "m1", "DISK0001");
        for seen in [
            machine(V, "SER1", "m1", "DISK0001"),
            machine(U, "SER2", "m1", "DISK0001"),
            machine(U, "SER1", "m2", "DISK0001"),
            machine(U, "SER1", "m1", "DISK0002"),
            // A board from the maker: another UUID and card, the serial written anew.
            machine(V, "SER1", "m2", "DISK0001"),
            // An old version that tells less.
            machine("", "", "m1", ""),
        ] {
            assert!(Likeness::of(&known, &seen).is_same(), "{seen:?}");
        }
    }

    #[test]
    fn what_moves_between_machines_does_not_make_them_one() {
        for (known, seen) in [
            // A network adapter that is carried around, a disk that was put into another machine.
            (
                machine(U, "SER1", "m1", "DISK0001"),
                machine(V, "SER2", "m1", "DISK0002"),
            ),
            (
                machine(U, "SER1", "m1", "DISK0001"),
                machine(V, "SER2", "m2", "DISK0001"),
            ),
            // Boards of one UUID; a UUID that a whole series has.
            (
                machine(U, "", "m1", "DISK0001"),
                machine(U, "", "m2", "DISK0002"),
            ),
            (machine(SHARED, "", "m1", ""), machine(SHARED, "", "m2", "")),
            // Virtual disks are numbered alike.
            (
                machine("", "", "m1", "QM00001"),
                machine("", "", "m2", "QM00001"),
            ),
            (
                machine("", "Default string", "m1", ""),
                machine("", "Default string", "m2", ""),
            ),
        ] {
            assert!(!Likeness::of(&known, &seen).is_same(), "{known:?} {seen:?}");
        }
    }
}
