//! How a machine is named on the command line: by its IP address, its MAC address or its UUID.

use pitstop_protocol::host_name::{HostName, SUFFIX, Uuid};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Names one machine, and thereby its host file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineName(HostName);

impl MachineName {
    /// The name of its host file, as boot loaders look for it: `C0A80132.toml`, `01-52-54-00-12-34-56.toml`.
    pub fn file(&self) -> String {
        self.0.file()
    }

    /// Every name that its host file may have, [`file`](Self::file) first.
    pub fn files(&self) -> Vec<String> {
        let stems = self.0.stems().into_iter();
        stems.map(|stem| stem + SUFFIX).collect()
    }

    pub fn address(&self) -> Option<IpAddr> {
        match self.0 {
            HostName::Ip(address) => Some(address),
            _ => None,
        }
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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
            return Ok(Self(HostName::Ip(ip)));
        }
        if let Ok(mac) = text.parse() {
            return Ok(Self(HostName::Mac(mac)));
        }
        Uuid::parse(text).map(|uuid| Self(HostName::Uuid(uuid))).ok_or_else(|| {
            "it is neither an IP address like 192.168.1.50, nor a MAC address like 52:54:00:12:34:56, nor a UUID \
             like 4c4c4544-0038-4a10-804e-b7c04f503132"
                .into()
        })
    }
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
            (
                "4C4C4544-0038-4A10-804E-B7C04F503132",
                "4c4c4544-0038-4a10-804e-b7c04f503132",
                "4c4c4544-0038-4a10-804e-b7c04f503132.toml",
            ),
        ] {
            let name: MachineName = text.parse().unwrap();
            assert_eq!(
                (name.to_string().as_str(), name.file().as_str()),
                (shown, file)
            );
            assert_eq!(name.files()[0], file);
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
            ("00000000-0000-0000-0000-000000000000", "neither"),
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
