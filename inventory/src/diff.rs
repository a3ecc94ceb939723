//! What changed of a machine between two looks at it. What is another thing at each boot is no change: kernel names,
//! links, addresses, wear. What this does not tell, no copy is kept for.

use pitstop_api::inventory::{Disk, Facts, InventoryChange, Made, Nic};
use pitstop_imaging::units;

/// All changes, those of the machine itself first.
pub fn diff(old: &Facts, new: &Facts) -> Vec<InventoryChange> {
    let mut changes = Changes::default();
    changes.text("uuid", "", &old.uuid, &new.uuid);
    changes.made(
        ["vendor", "model", "version", "serial"],
        &old.system,
        &new.system,
    );
    let board = [
        "board.vendor",
        "board.model",
        "board.version",
        "board.serial",
    ];
    changes.made(board, &old.board, &new.board);
    let chassis = [
        "chassis.vendor",
        "chassis.model",
        "chassis.version",
        "chassis.serial",
    ];
    changes.made(chassis, &old.chassis, &new.chassis);
    changes.firmware(old, new);
    changes.text("cpu", "", &old.cpu.model, &new.cpu.model);
    changes.number("sockets", old.cpu.sockets, new.cpu.sockets);
    changes.number("cores", old.cpu.cores, new.cpu.cores);
    changes.number("threads", old.cpu.threads, new.cpu.threads);
    changes.ram(old, new);
    changes.disks(&old.disks, &new.disks);
    changes.nics(&old.nics, &new.nics);
    changes.0
}

/// A line for people: `ram: 8.0 GiB, was 4.0 GiB`, `disk came: …`.
pub fn sentence(change: &InventoryChange) -> String {
    let InventoryChange {
        field,
        part,
        was,
        is,
    } = change;
    let of = if part.is_empty() {
        field.clone()
    } else {
        format!("{field} of {part}")
    };
    match (was, is) {
        (Some(was), Some(is)) => format!("{of}: {is}, was {was}"),
        (None, Some(is)) if is_part(field) => format!("{field} came: {is}"),
        (Some(was), None) if is_part(field) => format!("{field} went: {was}"),
        (None, Some(is)) => format!("{of}: {is}, was not told"),
        (Some(was), None) => format!("{of}: not told, was {was}"),
        (None, None) => of,
    }
}

/// A whole disk or card.
fn is_part(field: &str) -> bool {
    matches!(field, DISK | NIC)
}

const DISK: &str = "disk";
const NIC: &str = "nic";

/// What the kernel keeps for itself differs by version and firmware: less than a sixteenth is no other memory.
const RAM_SLACK: u64 = 16;

#[derive(Default)]
struct Changes(Vec<InventoryChange>);

impl Changes {
    fn add(&mut self, field: &str, part: &str, was: Option<String>, is: Option<String>) {
        self.0.push(InventoryChange {
            field: field.to_owned(),
            part: part.to_owned(),
            was,
            is,
        });
    }

    fn text(&mut self, field: &str, part: &str, was: &str, is: &str) {
        if was != is {
            let told = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            self.add(field, part, told(was), told(is));
        }
    }

    fn number(&mut self, field: &str, was: u32, is: u32) {
        let told = |number: u32| (number != 0).then(|| number.to_string());
        if was != is {
            self.add(field, "", told(was), told(is));
        }
    }

    fn made(&mut self, fields: [&str; 4], was: &Made, is: &Made) {
        let [vendor, product, version, serial] = fields;
        self.text(vendor, "", &was.vendor, &is.vendor);
        self.text(product, "", &was.product, &is.product);
        self.text(version, "", &was.version, &is.version);
        self.text(serial, "", &was.serial, &is.serial);
    }

    fn firmware(&mut self, old: &Facts, new: &Facts) {
        let (was, is) = (&old.firmware, &new.firmware);
        self.text("firmware", "", was.kind.as_str(), is.kind.as_str());
        self.text("firmware.vendor", "", &was.vendor, &is.vendor);
        self.text("firmware.version", "", &was.version, &is.version);
        self.text("firmware.date", "", &was.date, &is.date);
        let (was, is) = (was.secure_boot.as_str(), is.secure_boot.as_str());
        self.text("secure-boot", "", was, is);
    }

    fn ram(&mut self, old: &Facts, new: &Facts) {
        let (was, is) = (old.ram.installed, new.ram.installed);
        let told = |size: u64| (size != 0).then(|| units::bytes(size));
        if was.abs_diff(is) > was.max(is) / RAM_SLACK {
            self.add("ram", "", told(was), told(is));
        }
    }

    fn disks(&mut self, old: &[Disk], new: &[Disk]) {
        // What is plugged in from outside comes and goes.
        let parts = |disks: &[Disk]| -> Vec<Disk> {
            let parts = disks.iter().filter(|disk| !disk.removable);
            parts.cloned().collect()
        };
        let (pairs, went, came) = paired(parts(old), parts(new), same_disk);
        for (was, is) in &pairs {
            self.disk(was, is);
        }
        for disk in went {
            self.add(DISK, "", Some(disk_line(&disk)), None);
        }
        for disk in came {
            self.add(DISK, "", None, Some(disk_line(&disk)));
        }
    }

    fn disk(&mut self, was: &Disk, is: &Disk) {
        let part = disk_name(is);
        self.text("disk.model", &part, &was.model, &is.model);
        self.text("disk.serial", &part, &was.serial, &is.serial);
        self.text("disk.wwn", &part, &was.wwn, &is.wwn);
        self.text("disk.bus", &part, &was.bus, &is.bus);
        let size = |disk: &Disk| units::bytes(disk.size);
        if was.size != is.size {
            self.add("disk.size", &part, Some(size(was)), Some(size(is)));
        }
        let sectors = |disk: &Disk| {
            let (logical, physical) = (disk.logical_sector_size, disk.physical_sector_size);
            format!("{logical}/{physical}")
        };
        self.text("disk.sectors", &part, &sectors(was), &sectors(is));
        let (was, is) = (was.health.as_str(), is.health.as_str());
        self.text("disk.health", &part, was, is);
    }

    fn nics(&mut self, old: &[Nic], new: &[Nic]) {
        let same =
            |was: &Nic, is: &Nic| was.mac == is.mac && (!is.mac.is_empty() || was.name == is.name);
        let (pairs, went, came) = paired(old.to_vec(), new.to_vec(), same);
        for (was, is) in &pairs {
            self.text("nic.driver", &is.mac, &was.driver, &is.driver);
            self.text("nic.pci", &is.mac, &was.pci, &is.pci);
        }
        for nic in went {
            self.add(NIC, "", Some(nic_line(&nic)), None);
        }
        for nic in came {
            self.add(NIC, "", None, Some(nic_line(&nic)));
        }
    }
}

/// Whether both are one disk: by its World Wide Name, else by model and serial, else by where it is.
pub(crate) fn same_disk(one: &Disk, other: &Disk) -> bool {
    if !one.wwn.is_empty() && !other.wwn.is_empty() {
        return one.wwn == other.wwn;
    }
    if !one.serial.is_empty() || !other.serial.is_empty() {
        return one.serial == other.serial && one.model == other.model;
    }
    one.device == other.device && one.model == other.model && one.size == other.size
}

/// `Samsung SSD 860 EVO (serial S3Z8NB0K, 465.8 GiB)`
pub fn disk_line(disk: &Disk) -> String {
    let size = units::bytes(disk.size);
    let name = disk_name(disk);
    if name == disk.serial || disk.serial.is_empty() {
        return format!("{name} ({size})");
    }
    format!("{} (serial {}, {size})", or_disk(&disk.model), disk.serial)
}

/// What a disk is called in a few words.
fn disk_name(disk: &Disk) -> String {
    match (disk.model.as_str(), disk.serial.as_str()) {
        ("", "") => disk.device.clone(),
        ("", serial) => serial.to_owned(),
        (model, "") => model.to_owned(),
        (model, serial) => format!("{model} {serial}"),
    }
}

fn or_disk(model: &str) -> &str {
    if model.is_empty() { DISK } else { model }
}

fn nic_line(nic: &Nic) -> String {
    match nic.driver.as_str() {
        "" => nic.mac.clone(),
        driver => format!("{} ({driver})", nic.mac),
    }
}

/// Those that are in both, those that went, and those that came.
type Paired<T> = (Vec<(T, T)>, Vec<T>, Vec<T>);

fn paired<T>(old: Vec<T>, mut new: Vec<T>, same: impl Fn(&T, &T) -> bool) -> Paired<T> {
    let (mut pairs, mut went) = (Vec::new(), Vec::new());
    for was in old {
        match new.iter().position(|is| same(&was, is)) {
            Some(at) => pairs.push((was, new.remove(at))),
            None => went.push(was),
        }
    }
    (pairs, went, new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_api::inventory::Health;

    fn facts() -> Facts {
        let mut facts = Facts::default();
        facts.ram.installed = 8 << 30;
        facts.disks.push(Disk {
            device: "sda".into(),
            model: "EVO".into(),
            serial: "S1".into(),
            size: 1 << 30,
            ..Disk::default()
        });
        facts.nics.push(Nic {
            name: "eth0".into(),
            mac: "52:54:00:12:34:56".into(),
            link: true,
            ..Nic::default()
        });
        facts
    }

    fn told(old: &Facts, new: &Facts) -> Vec<String> {
        diff(old, new).iter().map(sentence).collect()
    }

    #[test]
    fn what_is_another_at_each_boot_is_no_change() {
        let (old, mut new) = (facts(), facts());
        new.taken = "2026-03-01T00:00:00Z".into();
        new.address = "10.0.2.16".into();
        new.disks[0].device = "sdb".into();
        new.disks[0].wear = Some(3);
        new.nics[0].link = false;
        new.nics[0].name = "eth1".into();
        new.ram.installed -= 200 << 20;
        let stick = Disk {
            removable: true,
            ..Disk::default()
        };
        new.disks.push(stick);
        assert_eq!(told(&old, &new), [""; 0]);
    }

    #[test]
    fn parts_come_go_and_change() {
        let (old, mut new) = (facts(), facts());
        new.ram.installed = 4 << 30;
        new.disks[0].health = Health::Failing;
        new.disks.push(Disk {
            serial: "S2".into(),
            ..Disk::default()
        });
        new.nics[0].mac = "52:54:00:12:34:57".into();
        new.board.serial = "B1".into();
        assert_eq!(
            told(&old, &new),
            [
                "board.serial: B1, was not told",
                "ram: 4.0 GiB, was 8.0 GiB",
                "disk.health of EVO S1: failing, was unknown",
                "disk came: S2 (0 B)",
                "nic went: 52:54:00:12:34:56",
                "nic came: 52:54:00:12:34:57",
            ]
        );
        assert_eq!(told(&new, &old)[3], "disk went: S2 (0 B)");
    }
}
