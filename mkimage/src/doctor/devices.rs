//! Which PCI devices a machine has, from a list that somebody made of it, and which of them boot it.

use anyhow::{Result, bail};
use pitstop_protocol::facts::Facts;
use std::fmt;

/// A device, as far as the list tells of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// `00:1f.2`; empty where the list has none.
    pub slot: String,
    pub vendor: u32,
    pub product: u32,
    /// Vendor and product of the board that it is on.
    pub board: Option<(u32, u32)>,
    /// Class and subclass.
    pub class: Option<(u32, u32)>,
    pub interface: Option<u32>,
    /// What drove it when the list was made.
    pub driver: String,
}

/// What a device is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Network,
    Storage,
    Usb,
    /// The list does not tell its class.
    Unknown,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Network => "network card",
            Role::Storage => "disk controller",
            Role::Usb => "USB controller",
            Role::Unknown => "device",
        })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.slot.is_empty() {
            write!(f, "{} ", self.slot)?;
        }
        write!(f, "{:04x}:{:04x}", self.vendor, self.product)
    }
}

impl Device {
    /// `None` for what neither reaches the network nor a disk: graphics, bridges, sound, wireless cards.
    pub fn role(&self) -> Option<Role> {
        // PCI code and ID assignment 1.1: 01 mass storage, 02 network (80: other, as wireless), 08 05 SD, 0c 03 USB.
        match self.class {
            None => Some(Role::Unknown),
            Some((0x02, 0x80)) => None,
            Some((0x02, _)) => Some(Role::Network),
            Some((0x01, _) | (0x08, 0x05)) => Some(Role::Storage),
            Some((0x0c, 0x03)) => Some(Role::Usb),
            Some(_) => None,
        }
    }

    /// Whether a driver that answers to `alias` drives it. What the list does not tell is taken to fit, but for a class that is
    /// all that the driver goes by: that would fit every device.
    pub fn fits(&self, alias: &str) -> bool {
        let Some(mut rest) = alias.strip_prefix("pci:") else {
            return false;
        };
        let (class, subclass) = self.class.unzip();
        let (maker, board) = self.board.unzip();
        // kernel: scripts/mod/file2alias.c, do_pci_entry
        let fields = [
            ("v", 8, Some(self.vendor)),
            ("d", 8, Some(self.product)),
            ("sv", 8, maker),
            ("sd", 8, board),
            ("bc", 2, class),
            ("sc", 2, subclass),
            ("i", 2, self.interface),
        ];
        let mut names_product = false;
        for (key, digits, own) in fields {
            if matches!(rest, "" | "*") {
                return true;
            }
            let Some(value) = rest.strip_prefix(key) else {
                return false;
            };
            if let Some(after) = value.strip_prefix('*') {
                rest = after;
                continue;
            }
            let Some((number, after)) = value.split_at_checked(digits) else {
                return false;
            };
            let Ok(number) = u32::from_str_radix(number, 16) else {
                return false;
            };
            names_product |= key == "d";
            let misses = match own {
                Some(own) => own != number,
                None => key == "bc" && !names_product,
            };
            if misses {
                return false;
            }
            rest = after;
        }
        matches!(rest, "" | "*")
    }
}

/// Reads `lspci -n`, `lspci -nn`, `testbox-info.txt`, `inventory.json`, modaliases, or plain `8086:15f3`, a device a line.
///
/// # Errors
/// There is no device in it.
pub fn read(text: &str) -> Result<Vec<Device>> {
    // Some editors begin a text with a mark, which would hide the first device.
    let text = text.trim_start_matches('\u{feff}');
    let devices: Vec<Device> = match serde_json::from_str::<Facts>(text) {
        Ok(facts) => of_inventory(&facts),
        Err(_) => text.lines().filter_map(line).collect(),
    };
    if devices.is_empty() {
        bail!(
            "there is no PCI device in it: make the list by `lspci -nn`, or take a testbox-info.txt"
        );
    }
    Ok(devices)
}

/// Cards that had a driver; what had none is told beside.
fn of_inventory(facts: &Facts) -> Vec<Device> {
    let cards = facts.nics.iter().filter_map(|nic| {
        Device {
            class: Some((0x02, 0x00)),
            driver: nic.driver.clone(),
            ..pair(&nic.pci)?
        }
        .into()
    });
    let undriven = facts.undriven.iter().filter_map(|part| {
        let class = u32::from_str_radix(&part.class, 16).ok()?;
        Some(Device {
            class: Some((class >> 8, class & 0xff)),
            ..pair(&part.pci)?
        })
    });
    cards.chain(undriven).collect()
}

fn line(line: &str) -> Option<Device> {
    let line = line.trim();
    if line.starts_with("pci:") {
        return modalias(line);
    }
    let slot = line.split_whitespace().next()?;
    if let Some(device) = pair(line) {
        return Some(device);
    }
    if !is_slot(slot) {
        return None;
    }
    let driver = line.rsplit_once(", driver ").map_or("", |(_, name)| name);
    let numbered = numbered(line).or_else(|| bracketed(line))?;
    Some(Device {
        slot: slot.to_owned(),
        driver: driver.to_owned(),
        ..numbered
    })
}

/// `00:03.0`, or `0000:00:03.0`
fn is_slot(word: &str) -> bool {
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let Some((bus, function)) = word.rsplit_once('.') else {
        return false;
    };
    hex(function) && bus.contains(':') && bus.split(':').all(hex)
}

/// `00:03.0 0200: 1af4:1000 (rev 01)`
fn numbered(line: &str) -> Option<Device> {
    let mut words = line.split_whitespace().skip(1);
    let class = words.next()?.strip_suffix(':')?;
    Some(Device {
        class: Some(class_of(class)?),
        ..pair(words.next()?)?
    })
}

/// `00:03.0 Ethernet controller [0200]: Red Hat, Inc. Virtio [1af4:1000] (rev 01)`. Names may have brackets of their own.
fn bracketed(line: &str) -> Option<Device> {
    let inside = |text: &'_ str| {
        text.split('[')
            .filter_map(|part| part.split_once(']'))
            .map(|(inside, _)| inside.to_owned())
            .collect::<Vec<String>>()
    };
    let all = inside(line);
    let class = all.iter().find_map(|text| class_of(text))?;
    let device = all.iter().rev().find_map(|text| pair(text))?;
    Some(Device {
        class: Some(class),
        ..device
    })
}

/// `0200`
fn class_of(text: &str) -> Option<(u32, u32)> {
    let number = (text.len() == 4).then(|| u32::from_str_radix(text, 16).ok())??;
    Some((number >> 8, number & 0xff))
}

/// `8086:15f3`
fn pair(text: &str) -> Option<Device> {
    let (vendor, product) = text.split_once(':')?;
    let hex = |text: &str| {
        (text.len() == 4)
            .then(|| u32::from_str_radix(text, 16).ok())
            .flatten()
    };
    Some(Device {
        vendor: hex(vendor)?,
        product: hex(product)?,
        ..Device::default()
    })
}

/// `pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00`, as `/sys/bus/pci/devices/*/modalias` has it.
fn modalias(text: &str) -> Option<Device> {
    let mut rest = text.strip_prefix("pci:")?;
    let mut next = |key: &str, digits: usize| {
        let (number, after) = rest.strip_prefix(key)?.split_at_checked(digits)?;
        rest = after;
        u32::from_str_radix(number, 16).ok()
    };
    Some(Device {
        vendor: next("v", 8)?,
        product: next("d", 8)?,
        board: Some((next("sv", 8)?, next("sd", 8)?)),
        class: Some((next("bc", 2)?, next("sc", 2)?)),
        interface: next("i", 2),
        ..Device::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MODALIAS: &str = "pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00";

    fn one(text: &str) -> Device {
        let mut all = read(text).unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn a_device_is_read_from_every_list() {
        let card = Device {
            slot: "00:03.0".into(),
            vendor: 0x1af4,
            product: 0x1000,
            class: Some((2, 0)),
            ..Device::default()
        };
        let plain = "00:03.0 0200: 1af4:1000 (rev 01)";
        assert_eq!(one(plain), card);
        let named =
            "00:03.0 Ethernet controller [0200]: Red Hat [Inc.] Virtio [1af4:1000] (rev 01)";
        assert_eq!(one(named), card);
        let info = format!("=== PCI ===\n{named}, driver virtio-pci\n\n=== DMI ===\nUUID: 1:2\n");
        assert_eq!(one(&info).driver, "virtio-pci");
        assert_eq!(one(&format!("\u{feff}{plain}")), card);
        assert_eq!(one("1af4:1000").role(), Some(Role::Unknown));
        let exact = one(MODALIAS);
        assert_eq!((exact.board, exact.interface), (Some((0x1af4, 1)), Some(0)));
        let inventory = r#"{"version":1,"nics":[{"name":"eth0","driver":"e1000e","pci":"8086:15f3"}],
            "undriven":[{"pci":"14e4:1639","class":"0200"}]}"#;
        let both = read(inventory).unwrap();
        assert_eq!(both[0].driver, "e1000e");
        assert_eq!(
            (both[1].vendor, both[1].role()),
            (0x14e4, Some(Role::Network))
        );
        assert!(
            read("nothing here\n")
                .unwrap_err()
                .to_string()
                .contains("lspci -nn")
        );
    }

    #[test]
    fn only_what_reaches_disks_and_networks_counts() {
        let role = |class| one(&format!("00:01.0 {class}: 8086:1234")).role();
        assert_eq!(role("0200"), Some(Role::Network));
        assert_eq!(role("0106"), Some(Role::Storage));
        assert_eq!(role("0805"), Some(Role::Storage));
        assert_eq!(role("0c03"), Some(Role::Usb));
        for other in ["0280", "0300", "0600", "0c05"] {
            assert_eq!(role(other), None, "{other}");
        }
    }

    #[test]
    fn aliases_fit_as_the_kernel_fits_them() {
        let card = one(MODALIAS);
        let fits = |alias: &str| card.fits(alias);
        assert!(fits("pci:v00001AF4d*sv*sd*bc*sc*i*"));
        assert!(fits("pci:v00001AF4d00001000*"));
        assert!(!fits("pci:v00001AF4d00001041sv*sd*bc*sc*i*"));
        assert!(!fits("pci:v*d*sv*sd*bc01sc06i01*"));
        assert!(!fits("virtio:d00000001v*") && !fits("pci:x"));
        // What a list does not tell may fit.
        let nvme = one("01:00.0 0108: 144d:a808");
        assert!(nvme.fits("pci:v*d*sv*sd*bc01sc08i02*"));
        assert!(!nvme.fits("pci:v*d*sv*sd*bc01sc06i01*"));
    }

    #[test]
    fn a_class_that_no_list_tells_fits_no_driver_that_goes_by_it_alone() {
        let numbers = one("1af4:1000");
        assert!(!numbers.fits("pci:v*d*sv*sd*bc01sc06i01*"));
        assert!(!numbers.fits("pci:v00001AF4d*sv*sd*bc01sc08i*"));
        assert!(numbers.fits("pci:v00001AF4d*sv*sd*bc*sc*i*"));
        assert!(numbers.fits("pci:v00001AF4d00001000sv*sd*bc02sc00i*"));
    }

    proptest! {
        #[test]
        fn any_list_is_read_or_refused(text in "([0-9a-f:.\\[\\] ]|pci:v|\\PC|\n)*") {
            let _ = read(&text);
        }

        #[test]
        fn any_alias_fits_or_not(alias in "(pci:v|d|sv|bc|[0-9A-F*])*") {
            let _ = one(MODALIAS).fits(&alias);
        }
    }
}
