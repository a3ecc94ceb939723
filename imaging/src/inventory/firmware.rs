//! What the firmware says of the machine, as far as the kernel keeps it in `/sys/class/dmi/id`.

use super::fact;
use std::path::Path;

/// Absent facts are empty strings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Firmware {
    /// Booted by UEFI; by BIOS otherwise.
    pub uefi: bool,
    pub vendor: String,
    pub product: String,
    pub serial: String,
    pub uuid: String,
    pub bios_vendor: String,
    pub bios_version: String,
    pub bios_date: String,
}

/// What firmware vendors leave where a serial number belongs.
const NO_SERIALS: [&str; 8] = [
    "to be filled by o.e.m.",
    "default string",
    "system serial number",
    "not specified",
    "not applicable",
    "none",
    "n/a",
    "0",
];

impl Firmware {
    /// The serial number, where the vendor gave one.
    pub fn known_serial(&self) -> Option<&str> {
        let blank = NO_SERIALS.contains(&self.serial.to_ascii_lowercase().as_str());
        (!blank && !self.serial.is_empty()).then_some(self.serial.as_str())
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
    Firmware {
        uefi: sysfs.join("firmware/efi").exists(),
        vendor: id("sys_vendor"),
        product: id("product_name"),
        serial: id("product_serial"),
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
        assert!(firmware.uefi);
        assert_eq!(firmware.machine(), "QEMU");
    }
}
