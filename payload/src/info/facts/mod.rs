//! `inventory.json`: the same machine for programs. What it does not tell is left empty; nothing here fails a run.

mod health;

use super::dmi;
use pitstop_imaging::inventory::{
    Disk, Inventory, Machine, Nic, Standing, fact, firmware, lacking,
};
use pitstop_protocol::facts::{
    self, Cpu, Facts, Firmware, FirmwareKind, Made, Ram, SecureBoot, VERSION,
};
use pitstop_protocol::host_name::Mac;
use pitstop_protocol::machine::Lease;
use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// The variable of UEFI 2.10 3.3, in the kernel's folder of variables: four bytes of attributes before its value.
const SECURE_BOOT: &str = "firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// A card hangs on its bus, and that perhaps on PCI: no farther up.
const PARENTS: usize = 4;

/// Everything that is known now. Drives are asked how they are, each for seconds at most.
pub fn gather(machine: &Machine, lease: &Lease, inventory: &Inventory) -> Facts {
    let table = fs::read(machine.sysfs.join("firmware/dmi/tables/DMI")).unwrap_or_default();
    let id = |name: &str| fact(&machine.sysfs.join("class/dmi/id").join(name));
    let firmware = &inventory.firmware;
    let mut facts = Facts {
        version: VERSION,
        taken: jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string(),
        pitstop: env!("CARGO_PKG_VERSION").into(),
        name: lease.hostname.clone().unwrap_or_default(),
        address: if lease.is_offline() {
            String::new()
        } else {
            lease.address.to_string()
        },
        mac: Mac(lease.mac).to_string(),
        uuid: firmware.uuid.clone(),
        system: Made {
            vendor: firmware.vendor.clone(),
            product: firmware.product.clone(),
            version: id("product_version"),
            serial: firmware.serial.clone(),
        },
        board: Made {
            vendor: id("board_vendor"),
            product: id("board_name"),
            version: id("board_version"),
            serial: id("board_serial"),
        },
        chassis: Made {
            vendor: id("chassis_vendor"),
            version: id("chassis_version"),
            serial: id("chassis_serial"),
            ..Made::default()
        },
        firmware: Firmware {
            kind: match firmware.kind {
                firmware::Kind::Uefi => FirmwareKind::Uefi,
                firmware::Kind::Bios => FirmwareKind::Bios,
                firmware::Kind::DeviceTree => FirmwareKind::Unknown,
            },
            vendor: firmware.bios_vendor.clone(),
            version: firmware.bios_version.clone(),
            date: firmware.bios_date.clone(),
            secure_boot: secure_boot(&machine.sysfs),
        },
        cpu: cpu(&read(&machine.procfs.join("cpuinfo")), &table),
        ram: ram(&read(&machine.procfs.join("meminfo")), &table),
        ..Facts::default()
    };
    let disks = inventory.disks.iter().chain(&inventory.without_size);
    facts.disks = disks.map(|it| disk(machine, it)).collect();
    facts.nics = inventory
        .nics
        .iter()
        .map(|it| nic(&machine.sysfs, it))
        .collect();
    let undriven = inventory.undriven.iter();
    facts.undriven = undriven
        .map(|it| facts::Undriven {
            pci: it.pci.clone(),
            class: it.class.clone(),
        })
        .collect();
    let lacking = lacking::read(machine).into_iter();
    facts.lacking_firmware = lacking
        .map(|it| facts::LackingFirmware {
            part: it.part(),
            pci: it.pci,
            driver: it.driver,
            files: it.files,
            works: it.works,
        })
        .collect();
    facts.limit(facts::MOST_PARTS);
    facts
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn secure_boot(sysfs: &Path) -> SecureBoot {
    let variable = fs::read(sysfs.join(SECURE_BOOT)).unwrap_or_default();
    match variable.get(4) {
        Some(1) => SecureBoot::On,
        Some(0) => SecureBoot::Off,
        _ => SecureBoot::Unknown,
    }
}

/// From `/proc/cpuinfo`: a block of `key : value` lines for each thread. Where it does not tell of sockets and cores, as in
/// many virtual machines and on ARM, the firmware's table may.
fn cpu(text: &str, table: &[u8]) -> Cpu {
    let mut cpu = Cpu::default();
    let (mut sockets, mut cores) = (HashSet::new(), HashSet::new());
    let mut socket = "";
    for line in text.lines() {
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.trim();
        match key.trim() {
            "processor" => {
                cpu.threads += 1;
                socket = "";
            }
            "model name" if cpu.model.is_empty() => {
                value.clone_into(&mut cpu.model);
            }
            "physical id" => {
                socket = value;
                sockets.insert(value);
            }
            "core id" => {
                cores.insert((socket, value));
            }
            _ => {}
        }
    }
    let count = |many: usize| u32::try_from(many).unwrap_or(u32::MAX);
    let (populated, model) = dmi::processors(table);
    if cpu.model.is_empty() {
        cpu.model = model;
    }
    cpu.sockets = match count(sockets.len()) {
        0 => populated,
        told => told,
    };
    cpu.cores = match count(cores.len()) {
        0 => cpu.threads,
        told => told,
    };
    cpu
}

fn ram(meminfo: &str, table: &[u8]) -> Ram {
    let kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse::<u64>().ok());
    let usable = kib.unwrap_or_default().saturating_mul(1024);
    Ram {
        // A table that tells of less than there is does not tell.
        installed: dmi::installed_memory(table).max(usable),
        usable,
    }
}

fn disk(machine: &Machine, disk: &Disk) -> facts::Disk {
    let identity = &disk.identity;
    let queue = machine
        .sysfs
        .join("block")
        .join(&identity.device)
        .join("queue");
    let health = health::of(&identity.transport, &disk.node(&machine.dev));
    facts::Disk {
        device: identity.device.clone(),
        model: identity.model.clone(),
        serial: identity.serial.clone(),
        wwn: identity.wwn.clone(),
        bus: identity.transport.clone(),
        size: identity.size,
        logical_sector_size: identity.logical_sector_size,
        physical_sector_size: identity.physical_sector_size,
        rotational: match fact(&queue.join("rotational")).as_str() {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        },
        removable: matches!(
            disk.unused,
            Standing::Removable | Standing::Usb | Standing::Medium
        ),
        health: health.state,
        health_note: health.note,
        wear: health.wear,
    }
}

fn nic(sysfs: &Path, nic: &Nic) -> facts::Nic {
    facts::Nic {
        name: nic.name.clone(),
        mac: nic.mac.clone(),
        driver: nic.driver.clone(),
        pci: pci(&sysfs.join("class/net").join(&nic.name).join("device")),
        link: nic.carrier,
        speed: nic.speed,
    }
}

/// `8086:15f3` of the nearest PCI device that something hangs on.
fn pci(device: &Path) -> String {
    let Ok(real) = fs::canonicalize(device) else {
        return String::new();
    };
    let is_pci = |folder: &&Path| {
        fs::canonicalize(folder.join("subsystem")).is_ok_and(|bus| bus.ends_with("bus/pci"))
    };
    let hex =
        |folder: &Path, name: &str| fact(&folder.join(name)).trim_start_matches("0x").to_owned();
    let found = real.ancestors().take(PARENTS).find(is_pci);
    found.map_or_else(String::new, |it| {
        format!("{}:{}", hex(it, "vendor"), hex(it, "device"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::inventory::{
        self,
        fake::{FakeDisk, FakeMachine},
    };
    use pitstop_protocol::facts::Health;
    use pitstop_protocol::fake::lease;
    use std::os::unix::fs::symlink;

    const CPUINFO: &str = "processor\t: 0\nmodel name\t: Xeon\nphysical id\t: 0\ncore id\t\t: 0\n\n\
        processor\t: 1\nmodel name\t: Xeon\nphysical id\t: 0\ncore id\t\t: 0\n\n\
        processor\t: 2\nmodel name\t: Xeon\nphysical id\t: 1\ncore id\t\t: 0\n";

    #[test]
    fn what_the_machine_tells_is_there_and_the_rest_is_unknown() {
        let fake = FakeMachine::new();
        let block = fake.add(&FakeDisk::new("sda", 4 << 30).model("EVO").serial("S1"));
        fs::write(block.join("queue/rotational"), "1\n").unwrap();
        fake.write_proc("cpuinfo", CPUINFO);
        fake.write_proc("meminfo", "MemTotal:         262144 kB\nMemFree: 1 kB\n");
        fake.write_sys("class/dmi/id/board_serial", "B1\n");
        fake.write_sys("firmware/efi/fw_platform_size", "64\n");
        fake.write_sys(SECURE_BOOT, [6, 0, 0, 0, 1]);
        fake.write_sys("bus/pci/x", "");
        fake.write_sys("devices/pci0/card/vendor", "0x8086\n");
        fake.write_sys("devices/pci0/card/device", "0x15f3\n");
        fake.write_sys("class/net/eth0/address", "52:54:00:12:34:56\n");
        fake.write_sys("bus/pci/devices/0000:01:00.0/class", "0x020000\n");
        let record = "3,9,4210011,-;bnx2 0000:01:00.0: firmware: failed to load bnx2/bnx2-mips-09-6.2.1b.fw (-2)\n";
        fs::write(fake.dev().join("kmsg"), record).unwrap();
        let sys = fake.machine().sysfs;
        symlink(sys.join("bus/pci"), sys.join("devices/pci0/card/subsystem")).unwrap();
        fs::create_dir(sys.join("devices/pci0/card/virtio0")).unwrap();
        symlink(
            sys.join("devices/pci0/card/virtio0"),
            sys.join("class/net/eth0/device"),
        )
        .unwrap();
        let inventory = inventory::read(&fake.machine()).unwrap();
        let facts = gather(&fake.machine(), &lease(), &inventory);
        assert_eq!(
            (facts.cpu.sockets, facts.cpu.cores, facts.cpu.threads),
            (2, 2, 3)
        );
        assert_eq!(
            (facts.ram.installed, facts.ram.usable),
            (256 << 20, 256 << 20)
        );
        assert_eq!(facts.board.serial, "B1");
        assert_eq!(facts.firmware.kind, FirmwareKind::Uefi);
        assert_eq!(facts.firmware.secure_boot, SecureBoot::On);
        let disk = &facts.disks[0];
        assert_eq!((disk.model.as_str(), disk.rotational), ("EVO", Some(true)));
        assert_eq!(disk.health, Health::Unknown);
        assert!(
            disk.health_note.ends_with("disks are not asked"),
            "{}",
            disk.health_note
        );
        assert_eq!(facts.nics[0].pci, "8086:15f3");
        let lacking = &facts.lacking_firmware[0];
        assert_eq!(lacking.files, ["bnx2/bnx2-mips-09-6.2.1b.fw"]);
        assert!(!lacking.works);
        assert_eq!(
            Facts::parse(facts.text().unwrap().as_bytes()).unwrap(),
            facts
        );
    }

    #[test]
    fn a_virtual_machine_tells_of_its_processors_without_sockets() {
        let cpu = cpu("processor : 0\nprocessor : 1\nBogoMIPS : 50\n", &[]);
        assert_eq!((cpu.sockets, cpu.cores, cpu.threads), (0, 2, 2));
        assert_eq!(ram("", &[]), Ram::default());
    }
}
