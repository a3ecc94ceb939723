//! On which of this computer's interfaces machines are answered.

use anyhow::{Context, bail};
use ipnet::Ipv4Net;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use std::net::{IpAddr, Ipv4Addr};

/// One that has an IPv4 address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    /// With their networks, in the kernel's order. Never empty.
    pub addresses: Vec<Ipv4Net>,
    flags: InterfaceFlags,
}

impl Interface {
    /// Its first address.
    pub fn address(&self) -> Ipv4Addr {
        self.addresses
            .first()
            .map_or(Ipv4Addr::UNSPECIFIED, Ipv4Net::addr)
    }
}

/// All that have one, as they are now.
pub fn all() -> anyhow::Result<Vec<Interface>> {
    let mut found: Vec<Interface> = Vec::new();
    for entry in getifaddrs().context("asking for this computer's addresses")? {
        let Some(address) = address(&entry) else {
            continue;
        };
        let name = device(&entry.interface_name);
        match found.iter_mut().find(|other| other.name == name) {
            Some(interface) => interface.addresses.push(address),
            None => found.push(Interface {
                name: name.to_owned(),
                addresses: vec![address],
                flags: entry.flags,
            }),
        }
    }
    Ok(found)
}

/// The card of a label: an alias address has one of its own, as `eth0:1`. No card's name has a colon.
fn device(label: &str) -> &str {
    label.split_once(':').map_or(label, |(device, _)| device)
}

fn address(entry: &InterfaceAddress) -> Option<Ipv4Net> {
    let ip = entry.address.as_ref()?.as_sockaddr_in()?.ip();
    let mask = entry
        .netmask
        .as_ref()
        .and_then(|mask| Some(mask.as_sockaddr_in()?.ip()));
    Ipv4Net::with_netmask(ip, mask?).ok()
}

/// Those to answer on: the ones that are named; else the one that has the address `listen`; else every one that is up,
/// can broadcast, and leads to others.
pub fn chosen(
    all: Vec<Interface>,
    named: &[String],
    listen: IpAddr,
) -> anyhow::Result<Vec<Interface>> {
    if !named.is_empty() {
        for name in named {
            if !all.iter().any(|interface| interface.name == *name) {
                bail!(
                    "DHCP on {name}: there is no such interface, or it has no IPv4 address; ip -4 address shows those \
                     that have one"
                );
            }
        }
        return Ok(all
            .into_iter()
            .filter(|one| named.contains(&one.name))
            .collect());
    }
    if let IpAddr::V4(ip) = listen.to_canonical()
        && !ip.is_unspecified()
    {
        let has = |one: &Interface| one.addresses.iter().any(|net| net.addr() == ip);
        let found: Vec<Interface> = all.into_iter().filter(has).collect();
        if found.is_empty() {
            bail!("DHCP: no interface has the address {ip} of --listen; give --dhcp-interface");
        }
        return Ok(found);
    }
    let wanted = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_BROADCAST;
    let fit = |one: &Interface| {
        one.flags.contains(wanted) && !one.flags.contains(InterfaceFlags::IFF_LOOPBACK)
    };
    let found: Vec<Interface> = all.into_iter().filter(fit).collect();
    if found.is_empty() {
        bail!("DHCP: no network card is up and has an IPv4 address: give it one, then start again");
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, address: &str, flags: InterfaceFlags) -> Interface {
        Interface {
            name: name.into(),
            addresses: vec![address.parse().unwrap()],
            flags,
        }
    }

    #[test]
    fn cards_that_lead_to_others_are_taken_unless_others_are_named() {
        let card = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_BROADCAST;
        let loopback = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_LOOPBACK;
        let all = || {
            vec![
                interface("lo", "127.0.0.1/8", loopback),
                interface("eth0", "10.0.0.1/24", card),
                interface("eth1", "10.1.0.1/24", card),
                interface("eth2", "10.2.0.1/24", InterfaceFlags::IFF_BROADCAST),
                interface("tun0", "10.3.0.1/32", InterfaceFlags::IFF_UP),
            ]
        };
        let names = |named: &[&str], listen: &str| -> Result<Vec<String>, String> {
            let named: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
            chosen(all(), &named, listen.parse().unwrap())
                .map(|found| found.into_iter().map(|one| one.name).collect())
                .map_err(|error| error.to_string())
        };
        assert_eq!(names(&[], "0.0.0.0").unwrap(), ["eth0", "eth1"]);
        assert_eq!(names(&[], "::").unwrap(), ["eth0", "eth1"]);
        assert_eq!(names(&[], "10.1.0.1").unwrap(), ["eth1"]);
        assert_eq!(names(&[], "127.0.0.1").unwrap(), ["lo"]);
        assert_eq!(names(&["tun0"], "10.1.0.1").unwrap(), ["tun0"]);
        assert!(
            names(&["eth9"], "::")
                .unwrap_err()
                .contains("no such interface")
        );
        assert!(
            names(&[], "10.9.9.9")
                .unwrap_err()
                .contains("--dhcp-interface")
        );
    }

    #[test]
    fn an_alias_is_an_address_of_its_card() {
        assert_eq!((device("eth0:1"), device("eth0")), ("eth0", "eth0"));
    }

    #[test]
    fn this_computer_has_a_loopback() {
        let all = all().unwrap();
        let loopback = all.iter().find(|one| one.name == "lo").unwrap();
        assert_eq!(loopback.address(), Ipv4Addr::LOCALHOST);
    }
}
