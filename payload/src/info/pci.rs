//! PCI devices from sysfs, with names where the list of names was put into the image.

use pitstop_imaging::inventory::{fact, names};
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Where Debian's `pci.ids` package, and the image, have the names.
pub const NAMES: &str = "/usr/share/misc/pci.ids";

/// Lower-case hexadecimal as in `pci.ids`: the vendor, the vendor and device, the class.
type Key = String;

/// A device a line: `00:1f.2 SATA controller [0106]: Intel Corporation … [8086:2922] (rev 02), driver ahci`.
pub fn describe(sysfs: &Path, list: &Path) -> anyhow::Result<String> {
    let root = sysfs.join("bus/pci/devices");
    let devices: Vec<Device> = names(&root)?
        .iter()
        .map(|slot| Device::read(&root, slot))
        .collect();
    let wanted: HashSet<Key> = devices.iter().flat_map(Device::keys).collect();
    let known = read_names(list, &wanted);
    let mut text = String::new();
    for device in &devices {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", device.line(&known));
    }
    if known.is_empty() && !devices.is_empty() {
        text += "(numbers only: the image has no pci.ids)\n";
    }
    Ok(text)
}

struct Device {
    slot: String,
    vendor: String,
    product: String,
    /// Class and subclass, without the programming interface.
    class: String,
    revision: String,
    driver: String,
}

impl Device {
    fn read(root: &Path, slot: &str) -> Self {
        let folder = root.join(slot);
        let hex = |file: &str| {
            let text = fact(&folder.join(file)).to_ascii_lowercase();
            text.strip_prefix("0x").unwrap_or(&text).to_owned()
        };
        let driver = fs::canonicalize(folder.join("driver"))
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .unwrap_or_default();
        Self {
            slot: slot.strip_prefix("0000:").unwrap_or(slot).to_owned(),
            vendor: hex("vendor"),
            product: hex("device"),
            class: hex("class").chars().take(4).collect(),
            revision: hex("revision"),
            driver,
        }
    }

    fn keys(&self) -> [Key; 3] {
        [
            self.vendor.clone(),
            format!("{}:{}", self.vendor, self.product),
            format!("C {}", self.class),
        ]
    }

    fn line(&self, known: &HashMap<Key, String>) -> String {
        let [vendor, device, class] = self.keys();
        let name = |key: &Key, unknown: &str| known.get(key).cloned().unwrap_or(unknown.to_owned());
        let mut line = format!(
            "{} {} [{}]: {} {} [{}:{}]",
            self.slot,
            name(&class, "Class"),
            self.class,
            name(&vendor, "Vendor"),
            name(&device, "Device"),
            self.vendor,
            self.product
        );
        if !self.revision.is_empty() && self.revision != "00" {
            // Writing to a String cannot fail.
            let _ = write!(line, " (rev {})", self.revision);
        }
        if !self.driver.is_empty() {
            let _ = write!(line, ", driver {}", self.driver);
        }
        line
    }
}

/// The names of `wanted` from a `pci.ids`; none when there is no such file.
fn read_names(list: &Path, wanted: &HashSet<Key>) -> HashMap<Key, String> {
    let Ok(file) = fs::File::open(list) else {
        return HashMap::new();
    };
    // The list has some bytes that are not UTF-8 in old versions.
    let lines = BufReader::new(file)
        .split(b'\n')
        .map_while(Result::ok)
        .map(|line| String::from_utf8_lossy(&line).into_owned());
    parse_names(lines, wanted)
}

/// `vvvv  name`, then `\tdddd  name` for its devices; `C cc  name`, then `\tss  name` for its subclasses.
fn parse_names(lines: impl Iterator<Item = String>, wanted: &HashSet<Key>) -> HashMap<Key, String> {
    let mut known = HashMap::new();
    let mut parent = String::new();
    for line in lines {
        if line.starts_with('#') || line.starts_with("\t\t") {
            continue;
        }
        let (key, name) = match line.strip_prefix('\t') {
            Some(child) => match child.split_once("  ") {
                Some((number, name)) if parent.starts_with("C ") => {
                    (format!("{parent}{number}"), name)
                }
                Some((number, name)) => (format!("{parent}:{number}"), name),
                None => continue,
            },
            None => match line.split_once("  ") {
                Some((number, name)) => {
                    number.clone_into(&mut parent);
                    (number.to_owned(), name)
                }
                None => continue,
            },
        };
        if wanted.contains(&key) {
            known.insert(key, name.trim().to_owned());
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::inventory::fake::FakeMachine;

    const LIST: &str = "# comment\n1af4  Red Hat, Inc.\n\t1000  Virtio network device\n\
        \t\t1af4 0001  subsystem\n8086  Intel Corporation\n\t1000  Another\n\
        C 02  Network controller\n\t00  Ethernet controller\n\t\t01  interface\n";

    fn machine() -> FakeMachine {
        let fake = FakeMachine::new();
        for (file, text) in [
            ("vendor", "0x1af4\n"),
            ("device", "0x1000\n"),
            ("class", "0x020000\n"),
            ("revision", "0x01\n"),
        ] {
            fake.write_sys(&format!("bus/pci/devices/0000:00:03.0/{file}"), text);
        }
        fake
    }

    #[test]
    fn names_come_from_the_list() {
        let fake = machine();
        fs::write(fake.dev().join("pci.ids"), LIST).unwrap();
        let text = describe(&fake.machine().sysfs, &fake.dev().join("pci.ids")).unwrap();
        assert_eq!(
            text,
            "00:03.0 Ethernet controller [0200]: Red Hat, Inc. Virtio network device [1af4:1000] (rev 01)\n"
        );
    }

    #[test]
    fn numbers_do_without_the_list() {
        let fake = machine();
        let text = describe(&fake.machine().sysfs, &fake.dev().join("none")).unwrap();
        assert_eq!(
            text,
            "00:03.0 Class [0200]: Vendor Device [1af4:1000] (rev 01)\n\
             (numbers only: the image has no pci.ids)\n"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_list_is_read_without_a_panic(text in "(\\PC|\t|\n|C |  )*") {
            let wanted = HashSet::from(["1af4".to_owned()]);
            parse_names(text.split('\n').map(str::to_owned), &wanted);
        }
    }
}
