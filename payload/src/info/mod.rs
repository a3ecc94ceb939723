//! `testbox-info.txt` and `testbox-info.zip`: what a machine is, for whoever looks after it later. `inventory.json`: the same for
//! programs.

mod dmi;
mod facts;
mod pci;
mod tables;

use pitstop_imaging::inventory::{Inventory, Machine, disks};
use pitstop_imaging::{kernel_log, units};
use pitstop_protocol::host_name::hex_address;
use pitstop_protocol::machine::Lease;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

pub use facts::gather;
pub use tables::zip;

/// The text, and what could not be found out (said in the text as well).
pub struct Info {
    pub text: String,
    pub problems: Vec<String>,
}

/// Everything VirtualBox's script collected with `lspci`, `dmidecode`, `fdisk` and `dmesg`, read natively.
pub fn text(machine: &Machine, lease: &Lease, inventory: &Inventory) -> Info {
    let mut info = Info {
        text: String::new(),
        problems: Vec::new(),
    };
    info.section("Machine", Ok(who(machine, lease, inventory)));
    info.section("CPU", file(&machine.procfs.join("cpuinfo")));
    info.section("Memory", file(&machine.procfs.join("meminfo")));
    info.section("PCI", pci::describe(&machine.sysfs, Path::new(pci::NAMES)));
    info.section("DMI", dmi_text(&machine.sysfs));
    info.section("Disks and partitions", Ok(disk_text(inventory)));
    info.section("Network", Ok(network(lease, inventory)));
    info.section("Kernel log", kernel_log::read(&machine.dev.join("kmsg")));
    info
}

impl Info {
    fn section(&mut self, title: &str, body: anyhow::Result<String>) {
        let body = body.unwrap_or_else(|error| {
            self.problems.push(format!("{title}: {error:#}"));
            format!("({error:#})\n")
        });
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.text, "=== {title} ===\n{}\n", body.trim_end());
    }
}

fn who(machine: &Machine, lease: &Lease, inventory: &Inventory) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "{label}: {value}");
        }
    };
    let firmware = &inventory.firmware;
    line("Name", lease.hostname.as_deref().unwrap_or_default());
    if !lease.is_offline() {
        line("IP", &lease.address.to_string());
        line("Hex IP", &hex_address(lease.address));
    }
    line("MAC", &mac(lease.mac));
    line("Machine", &firmware.machine());
    line("Serial number", &firmware.serial);
    line("UUID", &firmware.uuid);
    line("Firmware", &firmware.kind.to_string());
    let bios = [
        &firmware.bios_vendor,
        &firmware.bios_version,
        &firmware.bios_date,
    ];
    line("BIOS", bios.map(String::as_str).join(" ").trim());
    let kernel = fs::read_to_string(machine.procfs.join("version")).unwrap_or_default();
    line("Kernel", kernel.trim());
    line(
        "Command line",
        &without_passwords(machine.command_line.trim()),
    );
    line("Pitstop", env!("CARGO_PKG_VERSION"));
    line(
        "Written",
        &jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%S+00:00")
            .to_string(),
    );
    text
}

fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// URLs on a command line may carry `user:password@` or a signature; the file is for many eyes.
fn without_passwords(command_line: &str) -> String {
    command_line
        .split(' ')
        .map(|word| match word.split_once("://") {
            Some((scheme, rest)) => {
                let signed = rest.contains('?') && !scheme.ends_with("nfs");
                let rest = match rest.split_once('?') {
                    Some((rest, _)) if signed => format!("{rest}?…"),
                    _ => rest.to_owned(),
                };
                let host_ends = rest.find('/').unwrap_or(rest.len());
                match rest.get(..host_ends).and_then(|host| host.rfind('@')) {
                    Some(at) => format!("{scheme}://…{}", &rest[at..]),
                    None => format!("{scheme}://{rest}"),
                }
            }
            None => word.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

fn file(path: &Path) -> anyhow::Result<String> {
    use anyhow::Context;
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn dmi_text(sysfs: &Path) -> anyhow::Result<String> {
    use anyhow::Context;
    let path = sysfs.join("firmware/dmi/tables/DMI");
    match fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok("The firmware has no SMBIOS table.".into())
        }
        table => Ok(dmi::describe(
            &table.with_context(|| format!("reading {}", path.display()))?,
        )),
    }
}

fn disk_text(inventory: &Inventory) -> String {
    let mut text = String::new();
    for disk in &inventory.disks {
        let identity = &disk.identity;
        let _ = writeln!(text, "{}, {}", disks::describe(identity), disk.standing);
        let _ = writeln!(
            text,
            "    {} bytes, sectors of {} (physical {}){}",
            identity.size,
            identity.logical_sector_size,
            identity.physical_sector_size,
            if disk.read_only { ", read-only" } else { "" }
        );
        if !identity.wwn.is_empty() {
            let _ = writeln!(text, "    WWN {}", identity.wwn);
        }
        for partition in &disk.partitions {
            let _ = writeln!(
                text,
                "    {}: from {} to {}, {}",
                partition.name,
                partition.start,
                partition.start.saturating_add(partition.size),
                units::bytes(partition.size)
            );
        }
    }
    if text.is_empty() {
        text.push_str("No disk.");
    }
    text
}

fn network(lease: &Lease, inventory: &Inventory) -> String {
    let mut text = String::new();
    for nic in &inventory.nics {
        let speed = nic
            .speed
            .map(|speed| format!(", {speed} Mbit/s"))
            .unwrap_or_default();
        let link = if nic.carrier { "link up" } else { "no link" };
        let driver = if nic.driver.is_empty() {
            "?"
        } else {
            &nic.driver
        };
        let address = if nic.name == lease.interface {
            format!(", {}", lease.address)
        } else {
            String::new()
        };
        let _ = writeln!(
            text,
            "{}: {}, driver {driver}, {link}{speed}{address}",
            nic.name, nic.mac
        );
    }
    if text.is_empty() {
        let _ = writeln!(
            text,
            "{}: {}, {}",
            lease.interface,
            mac(lease.mac),
            lease.address
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::inventory::{
        self,
        fake::{FakeDisk, FakeMachine},
    };
    use pitstop_protocol::fake::lease;

    #[test]
    fn the_text_tells_who_what_and_which_disks() {
        let fake = FakeMachine::new();
        fake.add(
            &FakeDisk::new("sda", 4 << 30)
                .model("QEMU HARDDISK")
                .serial("QM00001"),
        );
        fake.write_proc("cpuinfo", "model name : Test CPU\n");
        fake.write_proc("meminfo", "MemTotal: 262144 kB\n");
        let mut machine = fake.machine();
        machine.command_line = "quiet pitstop.share=http://me:secret@10.0.2.2/share".into();
        let inventory = inventory::read(&machine).unwrap();
        let info = text(&machine, &lease(), &inventory);
        for part in [
            "Name: testbox7\nIP: 10.0.2.15\nHex IP: 0A00020F\n",
            "MAC: 52:54:00:12:34:56",
            "pitstop.share=http://…@10.0.2.2/share",
            "model name : Test CPU",
            "sda (QEMU HARDDISK, serial QM00001, 4.0 GiB), fixed",
            "eth0: 52:54:00:12:34:56, 10.0.2.15",
        ] {
            assert!(info.text.contains(part), "{part} is not in {}", info.text);
        }
        assert!(!info.text.contains("secret"));
        // The fake machine has no kernel log, and that is said rather than left out.
        assert_eq!(info.problems.len(), 1, "{:?}", info.problems);
        assert!(
            info.problems[0].starts_with("Kernel log: "),
            "{:?}",
            info.problems
        );
    }
}
