//! What can be asked for: each field once, with where it is in the index. docs/inventory.md is held against this table.

/// A field of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub(super) place: Place,
    /// For people.
    pub help: &'static str,
}

/// What its values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// One of these.
    Words(&'static [&'static str]),
    Number,
    /// Bytes.
    Size,
    Time,
}

/// A column: of the machine itself, or of any of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Machine(&'static str),
    Disk(&'static str),
    Nic(&'static str),
    Group(&'static str),
}

use Kind::{Number, Size, Text, Time, Words};
use Place::{Disk, Group, Machine, Nic};

const fn field(name: &'static str, kind: Kind, place: Place, help: &'static str) -> Field {
    Field {
        name,
        kind,
        place,
        help,
    }
}

const RESULTS: &[&str] = &["ok", "failed", "cancelled", "running", "silent"];

/// All of them, as the documentation has them.
pub static FIELDS: &[Field] = &[
    field(
        "name",
        Text,
        Machine("m.name"),
        "in `fleet.toml`, or what the network calls it, or its address",
    ),
    field("group", Text, Group("g.name"), "a group of `fleet.toml`"),
    field("address", Text, Machine("m.address"), "its IP address"),
    field("mac", Text, Nic("n.mac"), "of any of its cards"),
    field("uuid", Text, Machine("m.uuid"), "by the firmware"),
    field(
        "serial",
        Text,
        Machine("m.serial"),
        "the machine's serial number",
    ),
    field("vendor", Text, Machine("m.vendor"), "who made it"),
    field("model", Text, Machine("m.model"), "what the maker calls it"),
    field(
        "board.vendor",
        Text,
        Machine("m.board_vendor"),
        "who made the board",
    ),
    field(
        "board.model",
        Text,
        Machine("m.board_model"),
        "what the maker calls the board",
    ),
    field(
        "board.serial",
        Text,
        Machine("m.board_serial"),
        "the board's serial number",
    ),
    field(
        "chassis.serial",
        Text,
        Machine("m.chassis_serial"),
        "the case's serial number",
    ),
    field("cpu", Text, Machine("m.cpu"), "the processor's model"),
    field("sockets", Number, Machine("m.sockets"), "processors"),
    field("cores", Number, Machine("m.cores"), "of all processors"),
    field(
        "threads",
        Number,
        Machine("m.threads"),
        "what the kernel counts as processors",
    ),
    field("ram", Size, Machine("m.ram"), "memory in the slots"),
    field("disks", Number, Machine("m.disks"), "how many disks it has"),
    field(
        "disk.model",
        Text,
        Disk("d.model"),
        "of any of its disks, as all of `disk.`",
    ),
    field("disk.serial", Text, Disk("d.serial"), "serial number"),
    field("disk.wwn", Text, Disk("d.wwn"), "World Wide Name"),
    field(
        "disk.bus",
        Text,
        Disk("d.bus"),
        "what carries it: `ata`, `nvme`, `usb`, …",
    ),
    field("disk.size", Size, Disk("d.size"), "size"),
    field(
        "disk.health",
        Words(&["ok", "failing", "unknown"]),
        Disk("d.health"),
        "what the drive says of itself",
    ),
    field(
        "disk.wear",
        Number,
        Disk("d.wear"),
        "percent of its life that is used, where it tells",
    ),
    field(
        "nic.driver",
        Text,
        Nic("n.driver"),
        "of any of its cards, as all of `nic.`",
    ),
    field("nic.mac", Text, Nic("n.mac"), "hardware address"),
    field("nic.speed", Number, Nic("n.speed"), "Mbit/s"),
    field(
        "nic.pci",
        Text,
        Nic("n.pci"),
        "vendor and device: `8086:15f3`",
    ),
    field(
        "firmware",
        Words(&["bios", "uefi", "unknown"]),
        Machine("m.firmware"),
        "how it booted",
    ),
    field(
        "firmware.vendor",
        Text,
        Machine("m.firmware_vendor"),
        "who made the firmware",
    ),
    field(
        "firmware.version",
        Text,
        Machine("m.firmware_version"),
        "its version",
    ),
    field(
        "secure-boot",
        Words(&["on", "off", "unknown"]),
        Machine("m.secure_boot"),
        "whether Secure Boot is on",
    ),
    field(
        "seen",
        Time,
        Machine("m.seen"),
        "when it last said what it is",
    ),
    field(
        "last.action",
        Text,
        Machine("m.last_action"),
        "of its last run",
    ),
    field(
        "last.result",
        Words(RESULTS),
        Machine("m.last_result"),
        "of its last run",
    ),
    field(
        "last.reason",
        Text,
        Machine("m.last_reason"),
        "why its last run failed",
    ),
    field(
        "last.when",
        Time,
        Machine("m.last_when"),
        "when its last run ended, or began if it goes on",
    ),
];

/// The field of this name; the letters' case does not matter.
pub(super) fn find(name: &str) -> Option<&'static Field> {
    FIELDS
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case(name))
}

/// What was perhaps meant.
pub(super) fn like(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let near = FIELDS
        .iter()
        .map(|field| (strsim::damerau_levenshtein(field.name, &name), field.name));
    let (distance, best) = near.min()?;
    if distance <= 2 {
        return Some(best);
    }
    // `health` for `disk.health`.
    let parts = FIELDS.iter().map(|field| field.name);
    parts
        .into_iter()
        .find(|it| it.rsplit('.').next() == Some(name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::FIELDS;

    #[test]
    fn the_documentation_has_every_field_and_no_other() {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/inventory.md"))
                .unwrap();
        let table = text.split("| field | values | what it is |\n|---|---|---|\n");
        let table = table.last().unwrap().split("\n\n").next().unwrap();
        let told: Vec<(&str, &str)> = table
            .lines()
            .map(|line| {
                let mut cells = line.trim_matches('|').split(" | ");
                let name = cells.next().unwrap().trim().trim_matches('`');
                (name, cells.last().unwrap().trim())
            })
            .collect();
        let fields = FIELDS.iter().map(|field| (field.name, field.help));
        assert_eq!(told, fields.collect::<Vec<_>>());
    }
}
