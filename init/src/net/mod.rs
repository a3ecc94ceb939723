//! The network: link, address, routes, resolver, name.

pub mod dhcp;
mod netlink;
mod nics;
mod resolver;
mod search;
mod sntp;
mod vlan;

use anyhow::{Context, bail};
use dhcp::settings::{default_route, host_name};
use dhcp::{Granted, renew};
use netlink::{Netlink, Route};
use nics::Nic;
use pitstop_payload::event::Reporter;
use pitstop_payload::job::{BootParameters, IpSetting, NtpServer, StaticAddress};
use pitstop_payload::machine::{BootSource, Lease, Machine};
use search::{Found, Search};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::{fs, thread};

pub use netlink::wait_readable;

/// Ethernet's, in bytes.
const USUAL_MTU: u16 = 1500;

/// What a link is to have, wherever it comes from.
struct Setup {
    address: Ipv4Addr,
    prefix: u8,
    routes: Vec<Route>,
    mtu: Option<u16>,
    dns: Vec<Ipv4Addr>,
    ntp: Vec<Ipv4Addr>,
    domain: Option<String>,
    hostname: Option<String>,
}

/// Brings up the loopback and the one card that is to be used. Returns when the machine can talk, or fails
/// after some minutes. A DHCP lease is renewed from then on, for as long as this process lives.
pub fn bring_up(
    machine: &Machine,
    boot: &BootParameters,
    reporter: &Arc<dyn Reporter>,
) -> anyhow::Result<Lease> {
    let mut netlink = Netlink::open()?;
    let loopback = nix::net::if_::if_nametoindex("lo").context("looking for the loopback")?;
    netlink.up(loopback).context("switching the loopback on")?;
    let search = Search::new(&machine.sysfs, boot)?;
    let (nic, setup, boot_source) = match &boot.ip {
        IpSetting::Invalid(why) => bail!("{why}"),
        IpSetting::Static(address) => {
            let nic = search.card(&mut netlink, &**reporter)?;
            reporter.info(format!("{} is {} by ip=", nic.name, address.address));
            (nic, Setup::from(address), boot_source(address))
        }
        IpSetting::Dhcp { .. } => {
            let Found { nic, granted } = search.lease(&mut netlink, &**reporter)?;
            let settings = &granted.settings;
            reporter.info(format!(
                "{} is {}/{} by DHCP from {}",
                nic.name, settings.address, settings.prefix, settings.server
            ));
            reporter.debug(format!("the boot server by DHCP: {:?}", settings.boot));
            let boot = settings.boot.clone();
            let setup = Setup::from(&granted);
            renew_in_background(nic.clone(), granted, Arc::clone(reporter));
            (nic, setup, boot)
        }
    };
    setup
        .apply(&mut netlink, &nic, &**reporter)
        .with_context(|| format!("configuring {}", nic.name))?;
    let named = boot.ntp.iter().cloned();
    let told = setup.ntp.iter().map(NtpServer::usual);
    sntp::set_clock(named.chain(told).collect(), &**reporter);
    let hostname = name_machine(&setup, &**reporter);
    Ok(Lease {
        interface: nic.name,
        mac: nic.mac,
        address: IpAddr::V4(setup.address),
        hostname,
        boot: boot_source,
    })
}

fn renew_in_background(nic: Nic, granted: Granted, reporter: Arc<dyn Reporter>) {
    thread::spawn(move || renew::keep(&nic, granted, &*reporter));
}

/// PXELINUX's IPAPPEND tells the server that it came from.
fn boot_source(given: &StaticAddress) -> BootSource {
    BootSource {
        server_name: given.boot_server.map(|server| server.to_string()),
        ..BootSource::default()
    }
}

impl From<&Granted> for Setup {
    fn from(granted: &Granted) -> Self {
        let settings = granted.settings.clone();
        Self {
            address: settings.address,
            prefix: settings.prefix,
            routes: settings.routes,
            mtu: settings.mtu,
            dns: settings.dns,
            ntp: settings.ntp,
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
    /// Only an address is indispensable. An MTU or a route that the kernel refuses (a jumbo frame that the card
    /// cannot do, a router outside of the network) is told: what cannot be reached without it says so itself.
    fn apply(
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
        netlink
            .add_address(nic.index, self.address, self.prefix)
            .with_context(|| format!("adding the address {}/{}", self.address, self.prefix))?;
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
        fs::create_dir_all("/etc").context("making /etc")?;
        let text = resolver::resolv_conf(&self.dns, self.domain.as_deref());
        fs::write("/etc/resolv.conf", text).context("writing /etc/resolv.conf")
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
                        prefix: 32,
                        gateway: None,
                    });
                }
            }
            routes.push(*route);
        }
        routes
    }

    fn reaches(&self, address: Ipv4Addr) -> bool {
        covers(
            &Route {
                destination: self.address,
                prefix: self.prefix,
                gateway: None,
            },
            address,
        )
    }
}

fn covers(route: &Route, address: Ipv4Addr) -> bool {
    let host_bits = 32u32.saturating_sub(u32::from(route.prefix));
    let network = |address: Ipv4Addr| u64::from(u32::from(address)) >> host_bits;
    network(route.destination) == network(address)
}

/// DHCP option 12, else reverse DNS, else none.
fn name_machine(setup: &Setup, reporter: &dyn Reporter) -> Option<String> {
    let hostname = setup
        .hostname
        .clone()
        .or_else(|| resolver::reverse(setup.address, &setup.dns))?;
    let hosts = format!("127.0.0.1 localhost\n{} {hostname}\n", setup.address);
    let named = nix::unistd::sethostname(&hostname)
        .context("setting the host name")
        .and_then(|()| fs::write(Path::new("/etc/hosts"), hosts).context("writing /etc/hosts"));
    if let Err(error) = named {
        reporter.warn(format!("{error:#}"));
    }
    reporter.debug(format!("this machine's name is {hostname}"));
    Some(hostname)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(prefix: u8, routes: Vec<Route>) -> Setup {
        Setup {
            address: Ipv4Addr::new(10, 0, 2, 15),
            prefix,
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
        let near = default_route(Ipv4Addr::new(10, 0, 2, 2));
        let far = default_route(Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(setup(24, vec![near]).routes_with_gateways(), [near]);
        let link = Route {
            destination: Ipv4Addr::new(192, 0, 2, 1),
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
}
