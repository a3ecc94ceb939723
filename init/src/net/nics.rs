//! Network cards in sysfs, and which of them to use.

use std::fs;
use std::path::Path;

/// A wired network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    pub name: String,
    pub index: u32,
    pub mac: [u8; 6],
    /// Switched on, and the far end is there.
    pub carrier: bool,
    /// The card that this one is a VLAN of.
    pub below: Option<u32>,
}

/// `ARPHRD_ETHER`
const ETHERNET: &str = "1";

/// All Ethernet cards that stand on hardware, in the order in which the kernel found them. What vanishes
/// while it is read is not there.
pub fn read(sysfs: &Path) -> Vec<Nic> {
    let Ok(entries) = fs::read_dir(sysfs.join("class/net")) else {
        return Vec::new();
    };
    let mut nics: Vec<Nic> = entries
        .flatten()
        .filter_map(|entry| nic(&entry.path()))
        .collect();
    nics.sort_by_key(|nic| nic.index);
    nics
}

fn nic(folder: &Path) -> Option<Nic> {
    let hardware = folder.join("device").exists() && !folder.join("phy80211").exists();
    if hardware { ethernet(folder) } else { None }
}

/// The interface of this name, which may stand on no hardware.
pub fn named(sysfs: &Path, name: &str) -> Option<Nic> {
    ethernet(&sysfs.join("class/net").join(name))
}

fn ethernet(folder: &Path) -> Option<Nic> {
    let fact =
        |name: &str| fs::read_to_string(folder.join(name)).map(|text| text.trim().to_owned());
    if fact("type").ok()? != ETHERNET {
        return None;
    }
    Some(Nic {
        name: folder.file_name()?.to_str()?.to_owned(),
        index: fact("ifindex").ok()?.parse().ok()?,
        mac: mac(&fact("address").ok()?)?,
        // Reading it fails with EINVAL while the card is off.
        carrier: fact("carrier").is_ok_and(|carrier| carrier == "1"),
        below: None,
    })
}

/// `52:54:00:12:34:56`
pub fn mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// `52:54:00:12:34:56`
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

impl std::fmt::Display for Nic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, mac_text(self.mac))
    }
}

/// Which cards may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Any,
    /// `BOOTIF`
    Mac([u8; 6]),
    /// The device field of `ip=`
    Name(String),
}

impl Wanted {
    pub fn matches(&self, nic: &Nic) -> bool {
        match self {
            Wanted::Any => true,
            Wanted::Mac(mac) => nic.mac == *mac,
            Wanted::Name(name) => nic.name == *name,
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wanted::Any => f.write_str("a network card"),
            Wanted::Mac(mac) => write!(f, "the network card {} of BOOTIF", mac_text(*mac)),
            Wanted::Name(name) => write!(f, "the network card {name} of ip="),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fake(sysfs: &Path, name: &str, facts: &[(&str, &str)]) {
        let folder = sysfs.join("class/net").join(name);
        fs::create_dir_all(&folder).unwrap();
        for (fact, value) in facts {
            fs::write(folder.join(fact), value).unwrap();
        }
    }

    #[test]
    fn cards_come_in_the_kernels_order_without_what_is_no_card() {
        let sysfs = tempfile::tempdir().unwrap();
        let card = |mac| [("type", "1\n"), ("address", mac), ("device", "")];
        fake(sysfs.path(), "eth0", &card("52:54:00:00:00:02\n"));
        fake(
            sysfs.path(),
            "eth0",
            &[("ifindex", "3"), ("carrier", "1\n")],
        );
        fake(sysfs.path(), "ens9", &card("52:54:00:00:00:01\n"));
        fake(sysfs.path(), "ens9", &[("ifindex", "2")]);
        fake(sysfs.path(), "lo", &[("type", "772"), ("ifindex", "1")]);
        fake(sysfs.path(), "wlan0", &card("52:54:00:00:00:03\n"));
        fake(sysfs.path(), "wlan0", &[("ifindex", "4"), ("phy80211", "")]);
        let nics = read(sysfs.path());
        assert_eq!(nics.len(), 2);
        assert_eq!((nics[0].name.as_str(), nics[0].carrier), ("ens9", false));
        assert_eq!((nics[1].name.as_str(), nics[1].carrier), ("eth0", true));
        assert!(Wanted::Mac([0x52, 0x54, 0, 0, 0, 2]).matches(&nics[1]));
        assert!(!Wanted::Name("eth0".into()).matches(&nics[0]));
    }

    proptest! {
        #[test]
        fn addresses_read_back(mac_bytes: [u8; 6], text in ".{0,20}") {
            prop_assert_eq!(mac(&mac_text(mac_bytes)), Some(mac_bytes));
            let _ = mac(&text);
        }
    }
}
