//! What the network gave a machine, and what its address names.

use crate::host_name::Mac;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr};

/// What the network gave the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The NIC that is up: `eth0`.
    pub interface: String,
    pub mac: [u8; 6],
    /// This machine's address: names its folder on the share. Unspecified (`0.0.0.0`) where no network is used.
    pub address: IpAddr,
    /// DHCP option 12, else reverse DNS, else nothing.
    pub hostname: Option<String>,
    pub boot: BootSource,
}

impl Lease {
    /// Of a machine that uses no network, and is told by `mac`.
    pub fn offline(mac: [u8; 6]) -> Self {
        Self {
            interface: String::new(),
            mac,
            address: Ipv4Addr::UNSPECIFIED.into(),
            hostname: None,
            boot: BootSource::default(),
        }
    }

    /// Whether the machine uses no network.
    pub fn is_offline(&self) -> bool {
        self.address.is_unspecified()
    }

    /// The machine's folder on the share: its address, see [`folder`]; without a network its MAC address,
    /// `52-54-00-12-34-56`.
    pub fn folder(&self) -> String {
        if self.is_offline() {
            return Mac(self.mac).dashed();
        }
        folder(self.address)
    }

    /// What logs call the machine.
    pub fn shown(&self) -> String {
        if self.is_offline() {
            return Mac(self.mac).to_string();
        }
        self.address.to_string()
    }
}

/// What names a machine's folder, and what `{ip}` stands for: the address. Of an IPv6 address every colon is a
/// dash (`2001-db8--7`), as in Windows' `ipv6-literal.net`: not every filesystem takes colons.
pub fn folder(address: IpAddr) -> String {
    address.to_string().replace(':', "-")
}

/// What DHCP or `ip=` say about the server that the machine booted from: host files may lie there too.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BootSource {
    /// `siaddr`
    pub next_server: Option<Ipv4Addr>,
    /// Option 66, or the field `sname`; the second field of `ip=`.
    pub server_name: Option<String>,
    /// Option 67, or the field `file`.
    pub file: Option<String>,
    /// Option 209 (RFC 5071): the configuration file.
    pub config_file: Option<String>,
    /// Option 210 (RFC 5071): what its path begins with.
    pub path_prefix: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_folder_on_any_filesystem() {
        let name = |text: &str| folder(text.parse().unwrap());
        assert_eq!(name("10.0.2.15"), "10.0.2.15");
        assert_eq!(name("2001:db8::7"), "2001-db8--7");
    }

    #[test]
    fn a_machine_without_a_network_is_named_by_its_card() {
        let lease = Lease::offline([0x52, 0x54, 0, 0x12, 0x34, 0xab]);
        assert!(lease.is_offline());
        assert_eq!(lease.folder(), "52-54-00-12-34-ab");
        assert_eq!(lease.shown(), "52:54:00:12:34:ab");
    }
}
