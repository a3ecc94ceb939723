//! Disks from `/sys/block`: which there are, what they say of themselves, and which a job may mean.

use super::identity::{SYSFS_SECTOR, identify, number};
use super::{DATA, DiskIdentity, MEDIUM, Machine, fact, names};
use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Whether a job without a selector is about this disk, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Fixed,
    Removable,
    Usb,
    /// Mounted, or held by another device.
    InUse,
    /// The machine booted from it.
    Medium,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Standing::Fixed => "fixed",
            Standing::Removable => "removable",
            Standing::Usb => "on USB",
            Standing::InUse => "in use",
            Standing::Medium => "a medium that the machine works from",
        })
    }
}

/// A partition as the kernel sees it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// `sda1`
    pub name: String,
    /// Bytes from the beginning of the disk.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

/// A disk of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub identity: DiskIdentity,
    pub standing: Standing,
    /// What `standing` would be if nothing used it: [`Fixed`](Standing::Fixed), and a job without a selector means it.
    pub unused: Standing,
    /// The kernel refuses writes.
    pub read_only: bool,
    /// Further kernel names of the same disk: other paths to it.
    pub also: Vec<String>,
    /// Disks that say of themselves what this one says, and hold the same where they were looked at: they may be this
    /// one by another path. Kernel names.
    pub doubles: Vec<String>,
    /// What holds it, for people: `sda1 is mounted at /mnt`. Empty unless it is in use.
    pub used_by: Vec<String>,
    pub partitions: Vec<Partition>,
}

impl Disk {
    /// The device node.
    pub fn node(&self, dev: &Path) -> PathBuf {
        // The kernel writes the `/` of names such as `cciss/c0d0` as `!` in sysfs.
        dev.join(self.identity.device.replace('!', "/"))
    }
}

/// `sda (QEMU HARDDISK, serial QM00001, 4.0 GiB)`
impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", describe(&self.identity))
    }
}

/// One line for people: name, model, serial, size; what is not known is left out.
pub fn describe(identity: &DiskIdentity) -> String {
    let mut facts = Vec::new();
    if !identity.model.is_empty() {
        facts.push(identity.model.clone());
    }
    if !identity.serial.is_empty() {
        facts.push(format!("serial {}", identity.serial));
    } else if !identity.wwn.is_empty() {
        facts.push(format!("WWN {}", identity.wwn));
    }
    facts.push(crate::units::bytes(identity.size));
    format!("{} ({})", identity.device, facts.join(", "))
}

/// Every disk of the machine, ascending by name; also one that tells no size.
///
/// Optical and floppy drives, hardware partitions of flash chips and what the kernel makes up (loop,
/// RAM, device-mapper, RAID, network block devices) are no disks.
pub(super) fn read_all(machine: &Machine) -> anyhow::Result<Vec<Disk>> {
    let busy = busy_devices(&machine.procfs);
    let mut disks = Vec::new();
    for name in names(&machine.sysfs.join("block"))? {
        if let Some(disk) = read_one(&machine.sysfs, &name, &busy) {
            disks.push(disk);
        }
    }
    disks.sort_by(|a, b| {
        let key = |disk: &Disk| (disk.identity.device.len(), disk.identity.device.clone());
        key(a).cmp(&key(b))
    });
    Ok(disks)
}

/// Every disk of the machine that holds at least one sector, ascending by name.
///
/// # Errors
/// When the kernel's list cannot be read.
pub fn read(machine: &Machine) -> anyhow::Result<Vec<Disk>> {
    let mut disks = read_all(machine)?;
    disks.retain(|disk| disk.identity.size > 0);
    Ok(disks)
}

fn read_one(sysfs: &Path, name: &str, busy: &Busy) -> Option<Disk> {
    let block = sysfs.join("block").join(name);
    let real = fs::canonicalize(&block).ok()?;
    if !is_disk(name, &block, &real) {
        return None;
    }
    let identity = identify(sysfs, name)?;
    let partitions = partitions(&block);
    let mut used_by = users(sysfs, &block, name, busy);
    for part in &partitions {
        used_by.extend(users(sysfs, &block.join(&part.name), &part.name, busy));
    }
    let unused = if on_usb(&real) {
        Standing::Usb
    } else if number(&block.join("removable")) == Some(1)
        || fact(&block.join("device/type")) == "SD"
    {
        Standing::Removable
    } else {
        Standing::Fixed
    };
    let is_medium = |name: &str| busy.media.iter().any(|medium| medium == name);
    let parts_of_it = partitions
        .iter()
        .any(|partition| is_medium(&partition.name));
    let standing = if is_medium(name) || parts_of_it {
        Standing::Medium
    } else if !used_by.is_empty() {
        Standing::InUse
    } else {
        unused
    };
    Some(Disk {
        identity,
        standing,
        unused,
        read_only: number(&block.join("ro")) == Some(1),
        also: Vec::new(),
        doubles: Vec::new(),
        used_by,
        partitions,
    })
}

/// What uses the block device of this `number` (`8:0`) and its partitions, for people: `sda1 is mounted at /mnt`.
/// Empty where the kernel does not tell.
pub fn users_of(sysfs: &Path, procfs: &Path, number: &str) -> Vec<String> {
    let Ok(block) = fs::canonicalize(sysfs.join("dev/block").join(number)) else {
        return Vec::new();
    };
    let name = |folder: &Path| {
        let name = folder.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let busy = busy_devices(procfs);
    let mut found = users(sysfs, &block, &name(&block), &busy);
    for part in partitions(&block) {
        found.extend(users(sysfs, &block.join(&part.name), &part.name, &busy));
    }
    found
}

fn is_disk(name: &str, block: &Path, real: &Path) -> bool {
    // A multipath NVMe disk is virtual to sysfs, but its `device` is the drive.
    let made_up = real.components().any(|part| part.as_os_str() == "virtual")
        && !real
            .components()
            .any(|part| part.as_os_str() == "nvme-subsystem");
    let by_name = ["loop", "ram", "zram", "md", "dm-", "nbd", "fd", "sr", "rbd"];
    // JEDEC eMMC: boot0, boot1, rpmb and gp0…gp3 are partitions of the chip, not of the disk.
    let chip_partition = name
        .strip_prefix("mmcblk")
        .is_some_and(|rest| rest.contains("boot") || rest.contains("rpmb") || rest.contains("gp"));
    // One path of a multipath NVMe disk.
    let hidden = number(&block.join("hidden")) == Some(1);
    // SCSI peripheral device type (SPC-5 6.7.2): 0 is a direct-access device. MMC says `MMC` or `SD` here.
    let other_type = number(&block.join("device/type")).is_some_and(|kind| kind != 0);
    let digits_follow = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    !(made_up || chip_partition || hidden || other_type || by_name.iter().any(|p| digits_follow(p)))
}

fn on_usb(real: &Path) -> bool {
    real.components().any(|part| {
        part.as_os_str()
            .to_str()
            .and_then(|part| part.strip_prefix("usb"))
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

fn partitions(block: &Path) -> Vec<Partition> {
    let mut found = Vec::new();
    for name in names(block).unwrap_or_default() {
        let folder = block.join(&name);
        let bytes = |file: &str| number(&folder.join(file))?.checked_mul(SYSFS_SECTOR);
        if !folder.join("partition").exists() {
            continue;
        }
        if let (Some(start), Some(size)) = (bytes("start"), bytes("size")) {
            found.push(Partition { name, start, size });
        }
    }
    found.sort_by_key(|partition| partition.start);
    found
}

/// What the kernel says of devices in use.
#[derive(Default)]
struct Busy {
    /// Kernel names of devices that are mounted or swapped on, and how, for people.
    devices: HashMap<String, String>,
    /// The kernel names of what the machine booted from, and of what its share is on.
    media: Vec<String>,
}

impl Busy {
    fn get(&self, name: &str) -> Option<&String> {
        self.devices.get(name)
    }
}

fn busy_devices(procfs: &Path) -> Busy {
    let mut busy = Busy::default();
    for table in ["mounts", "swaps"] {
        let text = fs::read_to_string(procfs.join(table)).unwrap_or_default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let source = words.next().unwrap_or_default();
            let Some(name) = source.strip_prefix("/dev/") else {
                continue;
            };
            let name = name.replace('/', "!");
            let how = match (table, words.next().unwrap_or_default()) {
                ("swaps", _) => "is used as swap".to_owned(),
                (_, place) => {
                    if place == MEDIUM || place == DATA {
                        busy.media.push(name.clone());
                    }
                    format!("is mounted at {place}")
                }
            };
            busy.devices.entry(name).or_insert(how);
        }
    }
    busy
}

/// What uses one device: mounts, swap, and the devices that stand on it.
fn users(sysfs: &Path, folder: &Path, name: &str, busy: &Busy) -> Vec<String> {
    let holders = names(&folder.join("holders")).unwrap_or_default();
    let in_turn = |device: &str| {
        let mapped = busy.get(&format!("mapper!{device}"));
        let how = mapped.or_else(|| busy.get(device));
        how.map_or(String::new(), |how| format!(", which {how}"))
    };
    let held = holders.iter().map(|holder| {
        let block = sysfs.join("block").join(holder);
        let mapped = fact(&block.join("dm/name"));
        if holder.starts_with("md") {
            return format!("is part of the RAID {holder}{}", in_turn(holder));
        }
        match fact(&block.join("dm/uuid")) {
            uuid if uuid.starts_with("LVM-") => {
                format!(
                    "holds the LVM volume {mapped} ({holder}){}",
                    in_turn(&mapped)
                )
            }
            _ if !mapped.is_empty() => {
                format!("is part of {mapped} ({holder}){}", in_turn(&mapped))
            }
            _ => format!("is part of {holder}"),
        }
    });
    busy.get(name)
        .cloned()
        .into_iter()
        .chain(held)
        .map(|how| format!("{name} {how}"))
        .collect()
}

#[cfg(test)]
mod tests;
