//! What the firmware says of the machine, as far as the kernel keeps it in `/sys/class/dmi/id`; where there is no DMI, in the
//! device tree.

use super::fact;
use std::fmt;
use std::path::Path;

/// Absent facts are empty strings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Firmware {
    pub kind: Kind,
    pub vendor: String,
    pub product: String,
    pub serial: String,
    pub uuid: String,
    pub bios_vendor: String,
    pub bios_version: String,
    pub bios_date: String,
}

/// What started the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    #[default]
    Bios,
    Uefi,
    /// A boot loader that describes the machine by a device tree, and is gone afterwards: U-Boot.
    DeviceTree,
}

/// For people.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Bios => "BIOS",
            Kind::Uefi => "UEFI",
            Kind::DeviceTree => "device tree",
        })
    }
}

/// What firmware vendors leave where a serial number belongs.
const NO_SERIALS: [&str; 20] = [
    "to be filled by o.e.m.",
    "to be filled by o.e.m",
    "default string",
    "system serial number",
    "chassis serial number",
    "serial number",
    "not specified",
    "not applicable",
    "not available",
    "unknown",
    "invalid",
    "empty",
    "none",
    "n/a",
    "oem",
    "o.e.m.",
    "0123456789",
    "123456789",
    "1234567890",
    "xxxxxxxx",
];

impl Firmware {
    /// The serial number, where the vendor gave one.
    pub fn known_serial(&self) -> Option<&str> {
        // Zeros alone, or nothing at all.
        let is_blank = self.serial.bytes().all(|byte| byte == b'0')
            || NO_SERIALS.contains(&self.serial.to_ascii_lowercase().as_str());
        (!is_blank).then_some(self.serial.as_str())
    }

    /// `Dell Inc. OptiPlex 7050`, or nothing.
    pub fn machine(&self) -> String {
        format!("{} {}", self.vendor, self.product)
            .trim()
            .to_owned()
    }
}

pub fn read(sysfs: &Path) -> Firmware {
    let id = |file: &str| fact(&sysfs.join("class/dmi/id").join(file));
    let tree = sysfs.join("firmware/devicetree/base");
    // Devicetree Specification 0.4, 2.3.2 and 3.2.
    let or_tree = |told: String, property: &str| {
        if told.is_empty() {
            fact(&tree.join(property))
        } else {
            told
        }
    };
    Firmware {
        kind: if sysfs.join("firmware/efi").exists() {
            Kind::Uefi
        } else if tree.exists() {
            Kind::DeviceTree
        } else {
            Kind::Bios
        },
        vendor: id("sys_vendor"),
        product: or_tree(id("product_name"), "model"),
        serial: or_tree(id("product_serial"), "serial-number"),
        uuid: id("product_uuid").to_ascii_lowercase(),
        bios_vendor: id("bios_vendor"),
        bios_version: id("bios_version"),
        bios_date: id("bios_date"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::fake::FakeMachine;

    #[test]
    fn a_machine_without_dmi_has_no_facts_and_no_error() {
        let fake = FakeMachine::new();
        assert_eq!(read(&fake.machine().sysfs), Firmware::default());
        fake.write_sys("class/dmi/id/sys_vendor", "QEMU\n");
        fake.write_sys("firmware/efi/fw_platform_size", "64\n");
        let firmware = read(&fake.machine().sysfs);
        assert_eq!(firmware.kind, Kind::Uefi);
        assert_eq!(firmware.machine(), "QEMU");
    }

    #[test]
    fn what_many_machines_have_for_a_serial_number_is_none() {
        let fake = FakeMachine::new();
        for (written, known) in [
            ("To be filled by O.E.M.", None),
            ("00000000", None),
            ("123456789", None),
            ("", None),
            ("PF0A0B0C", Some("PF0A0B0C")),
            ("1234567891", Some("1234567891")),
        ] {
            fake.write_sys("class/dmi/id/product_serial", format!("{written}\n"));
            let firmware = read(&fake.machine().sysfs);
            assert_eq!(firmware.known_serial(), known, "{written:?}");
        }
    }

    #[test]
    fn a_board_is_named_by_its_device_tree() {
        let fake = FakeMachine::new();
        let base = "firmware/devicetree/base";
        let write = |property: &str, text: &str| {
            fake.write_sys(&format!("{base}/{property}"), text);
        };
        write("model", "Raspberry Pi 4 Model B Rev 1.4\0");
        write("serial-number", "10000000a1b2c3d4\0");
        let firmware = read(&fake.machine().sysfs);
        assert_eq!(firmware.kind, Kind::DeviceTree);
        assert_eq!(firmware.machine(), "Raspberry Pi 4 Model B Rev 1.4");
        assert_eq!(firmware.known_serial(), Some("10000000a1b2c3d4"));
        // SMBIOS tells more where both are there.
        fake.write_sys("class/dmi/id/product_serial", "S1\n");
        assert_eq!(read(&fake.machine().sysfs).serial, "S1");
    }
}
