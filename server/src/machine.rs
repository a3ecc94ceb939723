//! How a machine is named: by its IP or its MAC address.

use pitstop_protocol::machine::hex_address;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Names one machine, and thereby its host file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MachineName {
    Ip(IpAddr),
    Mac([u8; 6]),
}

impl MachineName {
    /// The file's name, as boot loaders look for it: `C0A80132.toml`, `01-52-54-00-12-34-56.toml`.
    pub fn file(self) -> String {
        match self {
            MachineName::Ip(ip) => format!("{}.toml", hex_address(ip)),
            MachineName::Mac(mac) => {
                format!("01-{}.toml", mac.map(|b| format!("{b:02x}")).join("-"))
            }
        }
    }

    /// The machine that a host file of this name is for.
    pub fn of_file(file: &str) -> Option<Self> {
        let stem = file.strip_suffix(".toml")?;
        let named = match stem.strip_prefix("01-") {
            Some(mac) => mac_address(mac).map(Self::Mac),
            None if stem.len() <= 8 => u32::from_str_radix(stem, 16)
                .ok()
                .map(|bits| Self::Ip(Ipv4Addr::from(bits).into())),
            None => u128::from_str_radix(stem, 16)
                .ok()
                .map(|bits| Self::Ip(Ipv6Addr::from(bits).into())),
        };
        // Only a name that boot loaders ask for: neither shortened nor in other letters.
        named.filter(|name| name.file() == file)
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MachineName::Ip(ip) => ip.fmt(f),
            MachineName::Mac(mac) => f.write_str(&mac.map(|b| format!("{b:02x}")).join(":")),
        }
    }
}

impl FromStr for MachineName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            let everybodys = match ip {
                IpAddr::V4(ip) => ip.is_broadcast(),
                // Every link has its own: machines are known by one that reaches farther.
                IpAddr::V6(ip) => ip.is_unicast_link_local(),
            };
            if everybodys || ip.is_unspecified() || ip.is_multicast() {
                return Err(format!("{ip} is not the address of one machine"));
            }
            return Ok(Self::Ip(ip));
        }
        mac_address(text).map(Self::Mac).ok_or_else(|| {
            "it is neither an IP address like 192.168.1.50 nor a MAC address like 52:54:00:12:34:56"
                .into()
        })
    }
}

/// Six pairs of hex digits with colons or dashes.
fn mac_address(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut pairs = text.split([':', '-']);
    for byte in &mut mac {
        let pair = pairs.next()?;
        if pair.len() != 2 || !pair.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    let one_machine = mac[0] & 1 == 0 && mac != [0; 6];
    (pairs.next().is_none() && one_machine).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_files_go_together() {
        for (text, shown, file) in [
            ("192.168.1.50", "192.168.1.50", "C0A80132.toml"),
            (
                "2001:DB8:0::7",
                "2001:db8::7",
                "20010DB8000000000000000000000007.toml",
            ),
            (
                "52:54:00:AB:34:56",
                "52:54:00:ab:34:56",
                "01-52-54-00-ab-34-56.toml",
            ),
            (
                "52-54-00-ab-34-56",
                "52:54:00:ab:34:56",
                "01-52-54-00-ab-34-56.toml",
            ),
        ] {
            let name: MachineName = text.parse().unwrap();
            assert_eq!(
                (name.to_string().as_str(), name.file().as_str()),
                (shown, file)
            );
            assert_eq!(MachineName::of_file(file), Some(name));
        }
        for other in [
            "default.toml",
            "C0A801.toml",
            "c0a80132.toml",
            "C0A80132",
            "+0A80132.toml",
        ] {
            assert_eq!(MachineName::of_file(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_machine_is_refused() {
        for (text, why) in [
            ("192.168.1.256", "neither"),
            ("lab-7", "neither"),
            ("52:54:00:12:34", "neither"),
            ("52:54:00:12:34:56:78", "neither"),
            ("ff:ff:ff:ff:ff:ff", "neither"),
            ("+2:54:00:12:34:56", "neither"),
            ("fe80::1", "one machine"),
            ("0.0.0.0", "one machine"),
            ("255.255.255.255", "one machine"),
            ("224.0.0.1", "one machine"),
        ] {
            let error = text.parse::<MachineName>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
