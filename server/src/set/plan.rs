//! What is about to happen to which disks.

use super::target::Target;
use super::{Machines, One, Wish};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use pitstop_api::{Disk, Planned, Source};
use pitstop_imaging::inventory::DiskIdentity;
use pitstop_imaging::units;
use pitstop_jobs::Job;
use pitstop_protocol::host_name::printable;
use pitstop_protocol::job::{ActionName, DiskSelector};
use pitstop_protocol::machine_record::{FILE, INFO, MOST_BYTES, Record};
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

/// The share of a root, if it is there.
pub(super) fn share(root: &Path) -> Option<Dir> {
    Dir::open_ambient_dir(root.join("share"), ambient_authority()).ok()
}

/// Whether the disks lose what is on them.
pub fn loses_data(action: ActionName) -> bool {
    action.loses_data()
}

pub(super) fn row(wish: &Wish, one: &One, share: Option<&Dir>, open: &[Job]) -> Planned {
    let known = share.zip(one.target.folder());
    let known = known.map(|(share, folder)| record(share, &folder).disks);
    let mut had = open.iter().rev();
    let its = Machines::new([&one.target]);
    let had = had.find(|job| job.state.is_set() && its.finder(job).is_some());
    Planned {
        machine: one.target.to_string(),
        id: id(&one.target),
        action: wish.action.to_string(),
        image: Some(wish.folder_shown(one)).filter(|image| !image.is_empty()),
        disks: disks(&one.job.disks, &known.unwrap_or_default()),
        every_disk: one.job.disks.is_empty(),
        replaces: had.map(|job| {
            let other = job.name.as_ref();
            let other = other.filter(|name| one.target.label.as_ref() != Some(name));
            let whose = other.map(|name| format!("{name}'s ")).unwrap_or_default();
            format!("{whose}{} ({})", job.action, job.state)
        }),
        warning: one.warning.clone(),
    }
}

/// As the API names the machine.
fn id(target: &Target) -> String {
    let label = target.label.clone();
    label.unwrap_or_else(|| target.machine.to_string())
}

/// What a folder of the share says of the machines that had it. What cannot be read says nothing.
pub(crate) fn record(share: &Dir, folder: &str) -> Record {
    let small = |name: &str| {
        let mut text = String::new();
        let file = share.open(format!("{folder}/{name}")).ok()?;
        file.take(MOST_BYTES).read_to_string(&mut text).ok()?;
        Some(text)
    };
    match (small(FILE), small(INFO)) {
        (Some(text), _) => Record::of_file(&text),
        (None, Some(info)) => Record::of_info(&info),
        (None, None) => Record::default(),
    }
}

/// A disk as a machine said of itself.
pub(crate) fn disk(known: &DiskIdentity) -> Disk {
    Disk {
        device: known.device.clone(),
        model: known.model.clone(),
        serial: known.serial.clone(),
        wwn: known.wwn.clone(),
        transport: known.transport.clone(),
        size: known.size,
        logical_sector_size: known.logical_sector_size,
        source: Source::Machine,
        ..Disk::default()
    }
}

/// The disks that a job is about, as the machine's last run knew them.
fn disks(wanted: &[DiskSelector], known: &[DiskIdentity]) -> Vec<Disk> {
    let is = |wanted: &DiskSelector, disk: &DiskIdentity| match wanted {
        DiskSelector::Name(name) => disk.device == *name,
        DiskSelector::Serial(serial) => disk.serial == *serial,
        DiskSelector::Wwn(wwn) => disk.wwn.ends_with(wwn.trim_start_matches("0x")),
    };
    if wanted.is_empty() {
        return known.iter().map(disk).collect();
    }
    let of = |wanted: &DiskSelector| match known.iter().find(|disk| is(wanted, disk)) {
        Some(known) => disk(known),
        None => Disk {
            device: wanted.to_string(),
            ..Disk::default()
        },
    };
    wanted.iter().map(of).collect()
}

/// The plan for people: a line a machine.
pub fn table(rows: &[Planned]) -> String {
    let cells: Vec<[String; 5]> = rows
        .iter()
        .map(|row| {
            [
                printable(&row.machine),
                row.action.clone(),
                told(row),
                printable(row.image.as_deref().unwrap_or_default()),
                row.replaces.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let head = ["MACHINE", "ACTION", "DISKS", "IMAGE", "REPLACES"];
    columns(&head, &cells)
}

fn told(row: &Planned) -> String {
    if row.disks.is_empty() {
        return "every fixed disk".into();
    }
    let disk = |disk: &Disk| {
        // Of one that nobody knows there is what it is asked for by.
        if disk.size == 0 && disk.serial.is_empty() {
            return printable(&disk.device);
        }
        let size = units::bytes(disk.size);
        printable(&format!(
            "{} {} {size} serial {}",
            disk.device, disk.model, disk.serial
        ))
    };
    let disks: Vec<String> = row.disks.iter().map(disk).collect();
    disks.join("; ")
}

/// A table of texts, each column as wide as it must be; the last one as it is.
pub fn columns<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head = head.map(str::to_owned);
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_told_by_what_the_machine_last_said_of_them() {
        let known = DiskIdentity {
            device: "sda".into(),
            model: "EVO".into(),
            serial: "S1".into(),
            size: 1 << 30,
            ..DiskIdentity::default()
        };
        let told = |wanted: &[DiskSelector], known: &[DiskIdentity]| {
            told(&Planned {
                machine: "a".into(),
                id: "a".into(),
                action: "restore".into(),
                image: None,
                disks: disks(wanted, known),
                every_disk: wanted.is_empty(),
                replaces: None,
                warning: None,
            })
        };
        assert_eq!(told(&[], &[]), "every fixed disk");
        let evo = "sda EVO 1.0 GiB serial S1";
        let known = [known];
        assert_eq!(told(&[], &known), evo);
        assert_eq!(told(&[DiskSelector::Serial("S1".into())], &known), evo);
        assert_eq!(told(&[DiskSelector::Name("sdb".into())], &known), "sdb");
    }
}
