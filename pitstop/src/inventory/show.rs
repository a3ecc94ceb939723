//! The inventory for people.

use crate::job::show::local;
use jiff::Timestamp;
use pitstop_api::inventory::{
    Disk, Facts, Health, InventoryChange, InventoryDiff, InventoryList, InventoryRow, LastRun,
    MachineInventory, Made, Nic,
};
use pitstop_imaging::units;
use pitstop_inventory::{disk_line, sentence};
use pitstop_protocol::host_name::printable;
use pitstop_server::set::columns;
use std::fmt::Write;

pub fn list(list: &InventoryList) -> String {
    if list.machines.is_empty() {
        return match list.known {
            0 => {
                "No machine is known yet: each says what it is at refresh-info, and at every run\n"
                    .into()
            }
            known => format!("None of {known} machines\n"),
        };
    }
    let rows: Vec<[String; 7]> = list.machines.iter().map(row).collect();
    let head = [
        "MACHINE", "MODEL", "CORES", "RAM", "DISKS", "HEALTH", "LAST RUN",
    ];
    columns(&head, &rows)
}

fn row(row: &InventoryRow) -> [String; 7] {
    let number = |number: u32| match number {
        0 => String::new(),
        known => known.to_string(),
    };
    let size = |bytes: u64| match bytes {
        0 => String::new(),
        known => units::bytes(known),
    };
    let disks = match row.disks {
        0 => String::new(),
        count => format!("{count} ({})", units::bytes(row.disk_bytes)),
    };
    [
        printable(&row.name),
        printable(format!("{} {}", row.vendor, row.model).trim()),
        number(row.cores),
        size(row.ram),
        disks,
        if row.disks == 0 {
            ""
        } else {
            row.health.as_str()
        }
        .to_owned(),
        row.last.as_ref().map(last_run).unwrap_or_default(),
    ]
}

fn last_run(last: &LastRun) -> String {
    let LastRun {
        action,
        result,
        when,
        ..
    } = last;
    printable(&format!("{action} {result}, {}", shown(when)))
}

/// A time of a file as this computer's clock shows it.
fn shown(time: &str) -> String {
    time.parse::<Timestamp>()
        .map_or_else(|_| time.to_owned(), local)
}

pub fn machine(machine: &MachineInventory) -> String {
    let mut lines = Lines::default();
    lines.add("machine", &machine.name);
    lines.add("groups", &machine.groups.join(", "));
    if let Some(last) = &machine.last {
        lines.add("last run", &format!("{}, {}", last.run, last_run(last)));
        lines.add("", &last.reason);
    }
    match &machine.facts {
        Some(facts) => lines.facts(facts),
        None => lines.add(
            "facts",
            "none: it has never said what it is (set it the action refresh-info)",
        ),
    }
    for note in &machine.notes {
        lines.add("note", note);
    }
    let changed = machine.history.iter().find(|step| !step.changes.is_empty());
    if let Some(step) = changed {
        lines.add("changed", &shown(&step.time));
        for change in &step.changes {
            lines.add("", &sentence(change));
        }
    }
    lines.0
}

/// A name and a value a line; lines without a value are left out.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(self.0, "{name:<12} {}", printable(value));
        }
    }

    fn facts(&mut self, facts: &Facts) {
        self.add(
            "said",
            &format!("{} (pitstop {})", shown(&facts.taken), facts.pitstop),
        );
        self.add("address", &facts.address);
        self.add("uuid", &facts.uuid);
        self.add("system", &made(&facts.system));
        self.add("board", &made(&facts.board));
        self.add("chassis", &made(&facts.chassis));
        let firmware = &facts.firmware;
        let parts = [
            firmware.kind.as_str(),
            &firmware.vendor,
            &firmware.version,
            &firmware.date,
        ];
        self.add("firmware", &joined(&parts));
        self.add("secure boot", firmware.secure_boot.as_str());
        let cpu = &facts.cpu;
        if !cpu.model.is_empty() {
            let (sockets, cores, threads) = (cpu.sockets, cpu.cores, cpu.threads);
            let text = format!(
                "{}: {sockets} sockets, {cores} cores, {threads} threads",
                cpu.model
            );
            self.add("cpu", &text);
        }
        if facts.ram.installed != 0 {
            self.add("ram", &units::bytes(facts.ram.installed));
        }
        for disk in &facts.disks {
            self.add("disk", &disk_text(disk));
        }
        for nic in &facts.nics {
            self.add("nic", &nic_text(nic));
        }
        for part in &facts.lacking_firmware {
            self.add("firmware?", &part.to_string());
        }
        if facts.left_out > 0 {
            self.add("", &format!("and {} more disks and cards", facts.left_out));
        }
    }
}

fn joined(parts: &[&str]) -> String {
    let told: Vec<&str> = parts
        .iter()
        .copied()
        .filter(|part| !part.is_empty())
        .collect();
    told.join(" ")
}

fn made(made: &Made) -> String {
    let mut text = joined(&[&made.vendor, &made.product, &made.version]);
    if !made.serial.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(text, ", serial {}", made.serial);
    }
    text.trim_start_matches(", ").to_owned()
}

fn disk_text(disk: &Disk) -> String {
    let mut text = format!("{}: {}", disk.device, disk_line(disk));
    let kind = match disk.rotational {
        Some(true) => "rotating",
        Some(false) => "solid state",
        None => "",
    };
    for part in [disk.bus.as_str(), kind, &disk.wwn] {
        if !part.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(text, ", {part}");
        }
    }
    let health = match (disk.health, disk.health_note.as_str()) {
        (Health::Ok, "") => "health ok".to_owned(),
        (health, "") => format!("health {}", health.as_str()),
        (health, note) => format!("health {}: {note}", health.as_str()),
    };
    let wear = disk
        .wear
        .map(|wear| format!(", {wear} % worn"))
        .unwrap_or_default();
    format!("{text}, {health}{wear}")
}

fn nic_text(nic: &Nic) -> String {
    let link = match (nic.link, nic.speed) {
        (true, Some(speed)) => format!("{speed} Mbit/s"),
        (true, None) => "link".to_owned(),
        (false, _) => "no link".to_owned(),
    };
    let parts = [nic.driver.as_str(), &nic.pci, &link];
    let told: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    format!("{}: {}, {}", nic.name, nic.mac, told.join(", "))
}

pub fn history(machine: &MachineInventory) -> String {
    let mut text = String::new();
    for step in machine.history.iter().rev() {
        let first = text.is_empty();
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "{}", shown(&step.time));
        if first {
            text.push_str("  first seen, or the oldest that is kept\n");
        }
        push(&mut text, &step.changes);
    }
    if text.is_empty() {
        text.push_str("It has never said what it is: set it the action refresh-info\n");
    }
    text
}

pub fn changes(diff: &InventoryDiff) -> String {
    let mut text = format!(
        "{} from {} to {}\n",
        printable(&diff.name),
        shown(&diff.from),
        shown(&diff.to)
    );
    if diff.changes.is_empty() {
        text.push_str("  nothing changed\n");
    }
    push(&mut text, &diff.changes);
    text
}

fn push(text: &mut String, changes: &[InventoryChange]) {
    for change in changes {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {}", printable(&sentence(change)));
    }
}
