//! The settings of a link (address, routes, MTU, name servers), wherever they come from, and applying them.

use super::dhcp::Granted;
use super::dhcp::settings::{default_route, host_name};
use super::dhcp6::Told;
use super::netlink::{Netlink, Route};
use super::nics::Nic;
use super::resolver;
use super::slaac::Announced;
use anyhow::Context;
use pitstop_imaging::event::Reporter;
use pitstop_protocol::boot_parameters::StaticAddress;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};

/// Ethernet's, in bytes.
const USUAL_MTU: u16 = 1500;

/// What a link is to have.
pub struct Setup {
    pub address: IpAddr,
    pub prefix: u8,
    /// The kernel has given the link its address and routes already.
    pub by_kernel: bool,
    pub routes: Vec<Route>,
    pub mtu: Option<u16>,
    pub dns: Vec<IpAddr>,
    pub ntp: Vec<IpAddr>,
    pub domain: Option<String>,
    pub hostname: Option<String>,
}

impl From<&Granted> for Setup {
    fn from(granted: &Granted) -> Self {
        let settings = granted.settings.clone();
        Self {
            address: settings.address.into(),
            prefix: settings.prefix,
            by_kernel: false,
            routes: settings.routes,
            mtu: settings.mtu,
            dns: settings.dns.into_iter().map(IpAddr::V4).collect(),
            ntp: settings.ntp.into_iter().map(IpAddr::V4).collect(),
            domain: settings.domain,
            hostname: settings.hostname,
        }
    }
}

impl From<&StaticAddress> for Setup {
    fn from(given: &StaticAddress) -> Self {
        Self {
            address: given.address,
            prefix: given.prefix,
            by_kernel: false,
            routes: given.gateway.map(default_route).into_iter().collect(),
            mtu: None,
            dns: given.dns.clone(),
            ntp: given.ntp.into_iter().collect(),
            domain: None,
            hostname: given.hostname.as_deref().and_then(host_name),
        }
    }
}

impl Setup {
    /// For an address that the kernel has made of announcements, with these name servers.
    pub fn announced(announced: Announced, dns: Vec<IpAddr>) -> Self {
        Self {
            address: announced.address.into(),
            prefix: announced.prefix,
            by_kernel: true,
            routes: Vec::new(),
            mtu: None,
            dns,
            ntp: Vec::new(),
            domain: None,
            hostname: None,
        }
    }

    /// For an address that DHCPv6 gave: routers tell what network it is in (RFC 5942 4).
    pub fn leased6(address: Ipv6Addr, dns: Vec<IpAddr>) -> Self {
        let announced = Announced {
            address,
            prefix: 128,
        };
        Self {
            by_kernel: false,
            ..Self::announced(announced, dns)
        }
    }

    /// With what DHCPv6 servers tell, before what routers do.
    pub fn told(mut self, told: &Told) -> Self {
        let by_routers = std::mem::replace(&mut self.dns, told.dns.clone());
        for server in by_routers {
            if !self.dns.contains(&server) {
                self.dns.push(server);
            }
        }
        self.ntp.clone_from(&told.ntp);
        self
    }

    /// Only an address is indispensable. An MTU or a route that the kernel refuses (a jumbo frame that the card
    /// cannot do, a router outside of the network) is told: what cannot be reached without it says so itself.
    pub fn apply(
        &self,
        netlink: &mut Netlink,
        nic: &Nic,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<()> {
        self.apply_to_link(netlink, nic, reporter)?;
        fs::create_dir_all("/etc").context("making /etc")?;
        let text = resolver::resolv_conf(&self.dns, self.domain.as_deref());
        fs::write("/etc/resolv.conf", text).context("writing /etc/resolv.conf")
    }

    fn apply_to_link(
        &self,
        netlink: &mut Netlink,
        nic: &Nic,
        reporter: &dyn Reporter,
    ) -> anyhow::Result<()> {
        if let Some(mtu) = self.mtu {
            // A VLAN's packets are no larger than its card's; small ones need nothing of it.
            let card = nic.below.filter(|_| mtu > USUAL_MTU);
            for index in card.into_iter().chain([nic.index]) {
                if let Err(error) = netlink.set_mtu(index, mtu) {
                    reporter.warn(format!(
                        "{} keeps its MTU: setting it to {mtu}: {error:#}",
                        nic.name
                    ));
                }
            }
        }
        if !self.by_kernel {
            netlink
                .add_address(nic.index, self.address, self.prefix)
                .with_context(|| format!("adding the address {}/{}", self.address, self.prefix))?;
        }
        for route in self.routes_with_gateways() {
            let Route {
                destination,
                prefix,
                gateway,
            } = route;
            if let Err(error) = netlink.add_route(nic.index, &route) {
                let via = gateway.map_or("on this link".into(), |gateway| format!("by {gateway}"));
                reporter.warn(format!(
                    "the route to {destination}/{prefix} {via} is left out: {error:#}"
                ));
            }
        }
        Ok(())
    }

    /// A gateway outside of the network is taken to be on the link, as with a prefix of 32 bits.
    fn routes_with_gateways(&self) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        for route in &self.routes {
            if let Some(gateway) = route.gateway.filter(|&gateway| !self.reaches(gateway)) {
                let reached = |known: &Route| known.prefix > 0 && covers(known, gateway);
                if !routes.iter().any(reached) {
                    routes.push(Route {
                        destination: gateway,
                        prefix: bits(gateway),
                        gateway: None,
                    });
                }
            }
            routes.push(*route);
        }
        routes
    }

    fn reaches(&self, address: IpAddr) -> bool {
        let on_link = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        on_link
            || covers(
                &Route {
                    destination: self.address,
                    prefix: self.prefix,
                    gateway: None,
                },
                address,
            )
    }
}

/// Of the network part, at most.
fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Both as numbers of 128 bits, of which an IPv4 address has the upper ones.
fn covers(route: &Route, address: IpAddr) -> bool {
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    };
    let host_bits = 128u32.saturating_sub(u32::from(route.prefix));
    let network = |address| number(address).checked_shr(host_bits).unwrap_or_default();
    route.destination.is_ipv4() == address.is_ipv4()
        && network(route.destination) == network(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::netns::{Cable, Heard};

    fn setup(prefix: u8, routes: Vec<Route>) -> Setup {
        Setup {
            address: [10, 0, 2, 15].into(),
            prefix,
            by_kernel: false,
            routes,
            mtu: None,
            dns: Vec::new(),
            ntp: Vec::new(),
            domain: None,
            hostname: None,
        }
    }

    #[test]
    fn a_gateway_outside_of_the_network_gets_a_route_of_its_own() {
        let near = default_route([10, 0, 2, 2].into());
        let far = default_route([192, 0, 2, 1].into());
        assert_eq!(setup(24, vec![near]).routes_with_gateways(), [near]);
        let link = Route {
            destination: [192, 0, 2, 1].into(),
            prefix: 32,
            gateway: None,
        };
        assert_eq!(setup(32, vec![far]).routes_with_gateways(), [link, far]);
        assert_eq!(
            setup(32, vec![link, far]).routes_with_gateways(),
            [link, far],
            "it is there already"
        );
    }

    #[test]
    fn an_ipv6_gateway_is_on_the_link_or_within_the_network() {
        let mut setup = setup(64, Vec::new());
        setup.address = "2001:db8::10".parse().unwrap();
        let covered = |gateway: &str| setup.reaches(gateway.parse().unwrap());
        assert!(covered("fe80::1") && covered("2001:db8::1"));
        assert!(!covered("2001:db8:0:1::1") && !covered("10.0.2.2"));
    }

    #[test]
    fn an_mtu_and_a_route_that_the_kernel_refuses_are_told_and_the_rest_is_set() {
        let cable = Cable::lay("refuse");
        let (heard, said) = Heard::new();
        // The network's broadcast address is nobody's.
        let nobody = [10, 0, 2, 255].into();
        let mut setup = setup(24, vec![default_route(nobody)]);
        setup.routes.push(Route {
            destination: [192, 0, 2, 0].into(),
            prefix: 24,
            gateway: Some([10, 0, 2, 2].into()),
        });
        // A tap's limit is below what an answer can ask for.
        setup.mtu = Some(u16::MAX);
        cable.ip_at_client("tuntap add t0 mode tap");
        cable.ip_at_client("link set t0 up");
        cable.at_client(move |nic| {
            let mut netlink = Netlink::open().unwrap();
            let tap = Nic {
                index: nix::net::if_::if_nametoindex("t0").unwrap(),
                name: "t0".into(),
                ..nic
            };
            setup.apply_to_link(&mut netlink, &tap, &heard).unwrap();
        });
        let said: Vec<String> = said.iter().collect();
        let [mtu, route] = &said[..] else {
            panic!("{said:?}");
        };
        assert!(
            mtu.starts_with("t0 keeps its MTU: setting it to 65535: "),
            "{mtu}"
        );
        assert!(
            route.starts_with("the route to 0.0.0.0/0 by 10.0.2.255 is left out: "),
            "{route}"
        );
        let routes = cable.ip_at_client("route show");
        assert!(
            routes.contains("10.0.2.0/24 dev t0")
                && routes.contains("192.0.2.0/24 via 10.0.2.2 dev t0"),
            "{routes}"
        );
    }
}
