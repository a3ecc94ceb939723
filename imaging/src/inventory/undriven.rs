//! What nothing drives: network cards and disk controllers that the kernel sees and has no driver, or no firmware, for.

use super::{hex, names, short_slot};
use std::fmt;
use std::path::Path;

/// A PCI device without a driver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undriven {
    /// `00:03.0`
    pub slot: String,
    /// Vendor and product: `8086:15f3`.
    pub pci: String,
    /// Class and subclass: `0200`.
    pub class: String,
}

impl Undriven {
    pub fn is_network(&self) -> bool {
        self.class.starts_with("02")
    }
}

impl fmt::Display for Undriven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_network() {
            "network card"
        } else {
            "disk controller"
        };
        write!(f, "{what} {} [{}]", self.slot, self.pci)
    }
}

/// What nothing drives at this moment; nothing where the kernel knows no PCI.
pub fn read(sysfs: &Path) -> Vec<Undriven> {
    let root = sysfs.join("bus/pci/devices");
    let slots = names(&root).unwrap_or_default();
    let devices = slots.iter().filter_map(|slot| {
        let folder = root.join(slot);
        let hex = |file: &str| hex(&folder.join(file));
        let class: String = hex("class").chars().take(4).collect();
        // PCI code and ID assignment 1.1: 01 mass storage, 02 network; 02 80 are others, such as wireless ones.
        let counts = matches!(class.get(..2), Some("01" | "02")) && class != "0280";
        (counts && !folder.join("driver").exists()).then(|| Undriven {
            slot: short_slot(slot).to_owned(),
            pci: format!("{}:{}", hex("vendor"), hex("device")),
            class,
        })
    });
    devices.collect()
}

/// For people: the parts in one sentence; `None` where all are driven.
pub fn sentence<'a>(parts: impl Iterator<Item = &'a Undriven>) -> Option<String> {
    let parts: Vec<String> = parts.map(ToString::to_string).collect();
    (!parts.is_empty()).then(|| {
        format!(
            "no driver of this image works the {}: `mkimage doctor` tells which kernel or firmware would",
            parts.join(", the ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::fake::FakeMachine;

    #[test]
    fn only_cards_and_controllers_without_a_driver_are_told() {
        let fake = FakeMachine::new();
        for (slot, class, driver) in [
            ("0000:00:02.0", "0x030000", false),
            ("0000:00:03.0", "0x020000", false),
            ("0000:00:04.0", "0x020000", true),
            ("0000:00:05.0", "0x028000", false),
            ("0001:01:00.0", "0x010802", false),
        ] {
            let folder = format!("bus/pci/devices/{slot}");
            fake.write_sys(&format!("{folder}/class"), class);
            fake.write_sys(&format!("{folder}/vendor"), "0x14E4\n");
            fake.write_sys(&format!("{folder}/device"), "0x1639\n");
            if driver {
                fake.write_sys(&format!("{folder}/driver/x"), "");
            }
        }
        let found = read(&fake.machine().sysfs);
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "network card 00:03.0 [14e4:1639]",
                "disk controller 0001:01:00.0 [14e4:1639]"
            ]
        );
        let text = sentence(found.iter().filter(|part| part.is_network())).unwrap();
        assert!(
            text.starts_with("no driver of this image works the network card 00:03.0 [14e4:1639]:")
        );
        assert_eq!(sentence([].iter()), None);
    }
}
