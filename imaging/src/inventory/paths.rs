//! One disk with two names: a LUN that is reached by two paths. Backed up twice, its images would be of one disk, and no
//! restore could tell which is meant.
//!
//! Two names are one disk when both say the same of themselves, World Wide Name included, on a bus that knows second
//! paths, and hold the same. Drives whose maker gave all of them one number hold different things, or cannot be
//! told apart: then nobody may choose but the job.

use super::fact;
use super::{Disk, Inventory, Standing};
use crate::inventory::Machine;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Disks are compared at so many places, the first and the last among them.
const SAMPLES: u64 = 16;
const SAMPLE: usize = 64 << 10;

/// How two names with one identity stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pair {
    OneDisk,
    TwoDisks,
    /// Either.
    Unsure,
}

/// What two disks hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Same,
    Different,
    Unreadable,
}

/// Leaves one name of each disk, and notes of disks that may be one that they may. Disks are read only where two say
/// the same of themselves.
pub fn joined(machine: &Machine, mut inventory: Inventory) -> Inventory {
    let mut disks: Vec<Disk> = Vec::new();
    for disk in std::mem::take(&mut inventory.disks) {
        let mut one = None;
        for (index, other) in disks.iter_mut().enumerate() {
            match pair(machine, other, &disk) {
                Pair::TwoDisks => {}
                Pair::OneDisk => one = Some(index),
                Pair::Unsure => other.doubles.push(disk.identity.device.clone()),
            }
        }
        match one.and_then(|index| disks.get_mut(index)) {
            Some(first) => inventory.paths.push(join(machine, first, disk)),
            None => disks.push(disk),
        }
    }
    // Of two that may be one, each names the other.
    let doubles: Vec<(String, Vec<String>)> = disks
        .iter()
        .map(|disk| (disk.identity.device.clone(), disk.doubles.clone()))
        .collect();
    for disk in &mut disks {
        let of = doubles
            .iter()
            .filter(|(_, names)| names.contains(&disk.identity.device));
        disk.doubles.extend(of.map(|(name, _)| name.clone()));
    }
    // A path that gave way to a better one may have been named first.
    for (path, of) in &mut inventory.paths {
        let main = disks
            .iter()
            .find(|disk| disk.also.contains(&path.identity.device));
        if let Some(main) = main {
            of.clone_from(&main.identity.device);
        }
    }
    inventory.disks = disks;
    inventory
}

/// Makes `first` and `second` one disk, named by the better path; returns the other.
fn join(machine: &Machine, first: &mut Disk, second: Disk) -> (Disk, String) {
    let usable = |disk: &Disk| !disk.read_only && runs(machine, disk);
    let mut other = second;
    if !usable(first) && usable(&other) {
        std::mem::swap(first, &mut other);
    }
    first.also.append(&mut other.also);
    first.also.push(other.identity.device.clone());
    first.doubles.append(&mut other.doubles);
    first.used_by.append(&mut other.used_by.clone());
    if other.standing == Standing::InUse {
        first.standing = Standing::InUse;
    }
    let name = first.identity.device.clone();
    (other, name)
}

/// Whether the kernel has not given the path up. Only SCSI tells.
fn runs(machine: &Machine, disk: &Disk) -> bool {
    let block = machine.sysfs.join("block").join(&disk.identity.device);
    matches!(
        fact(&block.join("device/state")).as_str(),
        "" | "running" | "live"
    )
}

fn pair(machine: &Machine, one: &Disk, other: &Disk) -> Pair {
    let (a, b) = (&one.identity, &other.identity);
    let told = !a.serial.is_empty() || !a.wwn.is_empty();
    let alike = a.serial == b.serial
        && a.wwn == b.wwn
        && a.model == b.model
        && a.size == b.size
        && a.logical_sector_size == b.logical_sector_size;
    if !told || !alike || of_one_controller(machine, one, other) {
        return Pair::TwoDisks;
    }
    let has_paths = !matches!(a.transport.as_str(), "ata" | "usb" | "mmc" | "sd");
    let content = compare(&one.node(&machine.dev), &other.node(&machine.dev), a.size);
    match content {
        Content::Different => Pair::TwoDisks,
        // The second path to an array's LUN often takes no reads before it is asked to take over.
        Content::Same | Content::Unreadable if !a.wwn.is_empty() && has_paths => Pair::OneDisk,
        Content::Same | Content::Unreadable => Pair::Unsure,
    }
}

/// Namespaces of one NVMe controller: two, whatever they say.
fn of_one_controller(machine: &Machine, one: &Disk, other: &Disk) -> bool {
    let controller = |disk: &Disk| {
        let name = &disk.identity.device;
        let block = machine.sysfs.join("block").join(name);
        let device = fs::canonicalize(block.join("device")).ok();
        device.filter(|_| name.starts_with("nvme"))
    };
    controller(one).is_some_and(|path| controller(other) == Some(path))
}

fn compare(one: &Path, other: &Path, size: u64) -> Content {
    let (Ok(one), Ok(other)) = (File::open(one), File::open(other)) else {
        return Content::Unreadable;
    };
    let length = usize::try_from(size).map_or(SAMPLE, |size| size.min(SAMPLE));
    let last = size.saturating_sub(length as u64);
    let (mut a, mut b) = (vec![0; length], vec![0; length]);
    for sample in 0..SAMPLES {
        let at = last / (SAMPLES - 1) * sample;
        let at = if sample == SAMPLES - 1 { last } else { at };
        if one.read_exact_at(&mut a, at).is_err() || other.read_exact_at(&mut b, at).is_err() {
            return Content::Unreadable;
        }
        if a != b {
            return Content::Different;
        }
    }
    Content::Same
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::fake::{FakeDisk, FakeMachine};
    use crate::inventory::read;

    const SIZE: usize = 2 << 20;

    fn add(fake: &FakeMachine, name: &str, parent: &str, wwn: &str, content: u8) {
        let disk = FakeDisk::new(name, SIZE as u64)
            .model("LUN")
            .serial("S1")
            .on(parent);
        fake.add_with(&disk, &vec![content; SIZE]);
        if !wwn.is_empty() {
            let device = fake.machine().sysfs.join("block").join(name).join("device");
            fs::write(device.join("wwid"), wwn).unwrap();
        }
    }

    fn seen(fake: &FakeMachine) -> (Vec<String>, Vec<Vec<String>>, usize) {
        let machine = fake.machine();
        let inventory = joined(&machine, read(&machine).unwrap());
        let names = inventory.disks.iter().map(|d| d.identity.device.clone());
        let doubles = inventory.disks.iter().map(|d| d.doubles.clone());
        (names.collect(), doubles.collect(), inventory.paths.len())
    }

    #[test]
    fn a_lun_by_three_paths_is_one_disk_by_the_path_that_works() {
        let fake = FakeMachine::new();
        let wwn = "naa.600140500000000000000000000000aa";
        for name in ["sda", "sdb", "sdc"] {
            add(&fake, name, "pci0/host1/rport-1:0-0", wwn, 7);
        }
        let state = |name: &str, state: &str| {
            let block = fake.machine().sysfs.join("block").join(name);
            fs::write(block.join("device/state"), state).unwrap();
        };
        state("sda", "offline\n");
        state("sdb", "running\n");
        let machine = fake.machine();
        let inventory = joined(&machine, read(&machine).unwrap());
        assert_eq!(inventory.disks.len(), 1);
        assert_eq!(inventory.disks[0].identity.device, "sdb");
        assert_eq!(inventory.disks[0].also, ["sda", "sdc"]);
        assert!(inventory.paths.iter().all(|(_, of)| of == "sdb"));
    }

    #[test]
    fn drives_with_one_number_for_all_are_two_when_they_hold_different_things() {
        let fake = FakeMachine::new();
        let wwn = "naa.5000000000000001";
        add(&fake, "sda", "pci0/host1", wwn, 7);
        add(&fake, "sdb", "pci0/host2", wwn, 8);
        assert_eq!(seen(&fake).0, ["sda", "sdb"]);
        assert!(seen(&fake).1.iter().all(Vec::is_empty));
    }

    #[test]
    fn what_may_be_one_or_two_is_said_to_be_so() {
        for (parent, wwn) in [
            ("pci0/host1", ""),
            ("pci0/ata1/host1", "naa.5000000000000001"),
        ] {
            let fake = FakeMachine::new();
            add(&fake, "sda", parent, wwn, 7);
            add(&fake, "sdb", parent, wwn, 7);
            let (names, doubles, paths) = seen(&fake);
            assert_eq!((names.len(), paths), (2, 0));
            assert_eq!(doubles, [["sdb"], ["sda"]]);
        }
    }

    #[test]
    fn namespaces_of_one_drive_share_its_serial_and_are_two() {
        let fake = FakeMachine::new();
        let device = "pci0/nvme/nvme0";
        for name in ["nvme0n1", "nvme0n2"] {
            add(&fake, name, device, "", 7);
            let link = fake.machine().sysfs.join("block").join(name).join("device");
            let controller = fake.machine().sysfs.join("devices").join(device);
            fs::remove_file(&link).unwrap();
            std::os::unix::fs::symlink(controller, link).unwrap();
        }
        let (names, doubles, _) = seen(&fake);
        assert_eq!(names.len(), 2);
        assert!(doubles.iter().all(Vec::is_empty), "{doubles:?}");
    }
}
