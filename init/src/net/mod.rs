//! The network: link, address, routes, resolver, name.

mod bond;
pub mod dhcp;
mod dhcp6;
mod netlink;
#[cfg(test)]
mod netns;
mod nics;
mod offline;
mod resolver;
mod search;
mod setup;
mod slaac;
mod sntp;
mod vlan;

use anyhow::{Context, bail};
use dhcp::{Granted, renew};
use dhcp6::{Identity, Told};
use netlink::Netlink;
use nics::Nic;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::inventory::Machine;
use pitstop_protocol::boot_parameters::{BootParameters, IpSetting, NtpServer, StaticAddress};
use pitstop_protocol::machine::{BootSource, Lease};
use search::{Found, Search, Source};
use setup::Setup;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::{fs, thread};

pub use netlink::wait_readable;

/// Brings up the loopback and the one card that is to be used, unless no network is wanted. Returns when the machine can talk, or fails
/// after some minutes. A DHCP lease is renewed from then on, for as long as this process lives.
pub fn bring_up(
    machine: &Machine,
    boot: &BootParameters,
    reporter: &Arc<dyn Reporter>,
) -> anyhow::Result<Lease> {
    if boot.ip == IpSetting::Off {
        return offline::lease(machine, boot.boot_mac, &**reporter);
    }
    let mut netlink = Netlink::open()?;
    let loopback = nix::net::if_::if_nametoindex("lo").context("looking for the loopback")?;
    netlink.up(loopback).context("switching the loopback on")?;
    let name_servers = slaac::Listener::open()?;
    let search = Search::new(machine, boot)?;
    let (nic, mut setup, boot_source) = match &boot.ip {
        IpSetting::Invalid(why) => bail!("{why}"),
        IpSetting::Off => bail!("ip=off: no network is used"),
        IpSetting::Static(address) => {
            let nic = search.card(&mut netlink, &**reporter)?;
            reporter.info(format!("{} is {} by ip=", nic.name, address.address));
            (nic, Setup::from(address), boot_source(address))
        }
        IpSetting::Dhcp { .. } | IpSetting::Auto6 { .. } => {
            let Found {
                nic,
                source,
                identity,
            } = search.address(&mut netlink, &**reporter)?;
            match source {
                Source::Leased(granted) => by_dhcp(nic, *granted, reporter),
                Source::Leased6(granted) => {
                    let dns = name_servers.name_servers(nic.index);
                    by_dhcp6(nic, granted, identity, dns, reporter)
                }
                Source::Announced(announced, told) => {
                    reporter.info(format!(
                        "{} is {}/{} as IPv6 routers announce it",
                        nic.name, announced.address, announced.prefix
                    ));
                    let dns = name_servers.name_servers(nic.index);
                    let setup = Setup::announced(announced, dns).told(&told);
                    (nic, setup, boot_file(told))
                }
            }
        }
    };
    setup.mtu = boot.ip.mtu().or(setup.mtu);
    setup
        .apply(&mut netlink, &nic, &**reporter)
        .with_context(|| format!("configuring {}", nic.name))?;
    let named = boot.ntp.iter().cloned();
    let told = setup.ntp.iter().map(NtpServer::usual);
    let clocks = named.chain(told).collect();
    // Two servers, neither of which is to be waited for twice.
    let hostname = thread::scope(|scope| {
        scope.spawn(|| sntp::set_clock(clocks, &**reporter));
        name_machine(&setup, &**reporter)
    });
    Ok(Lease {
        interface: nic.name,
        mac: nic.mac,
        address: setup.address,
        hostname,
        boot: boot_source,
    })
}

/// Tells of a lease, and keeps it from then on.
fn by_dhcp(nic: Nic, granted: Granted, reporter: &Arc<dyn Reporter>) -> (Nic, Setup, BootSource) {
    let settings = &granted.settings;
    reporter.info(format!(
        "{} is {}/{} by DHCP from {}",
        nic.name, settings.address, settings.prefix, settings.server
    ));
    reporter.debug(format!("the boot server by DHCP: {:?}", settings.boot));
    let boot = settings.boot.clone();
    let setup = Setup::from(&granted);
    let (renewed, reporter) = (nic.clone(), Arc::clone(reporter));
    thread::spawn(move || renew::keep(&renewed, granted, &*reporter));
    (nic, setup, boot)
}

/// The same with IPv6.
fn by_dhcp6(
    nic: Nic,
    granted: dhcp6::Granted,
    identity: Identity,
    dns: Vec<IpAddr>,
    reporter: &Arc<dyn Reporter>,
) -> (Nic, Setup, BootSource) {
    let address = granted.address;
    reporter.info(format!("{} is {address} by DHCPv6", nic.name));
    let boot = boot_file(granted.told.clone());
    let setup = Setup::leased6(address, dns).told(&granted.told);
    let (renewed, reporter) = (nic.clone(), Arc::clone(reporter));
    thread::spawn(move || {
        renew::keep_by(address.into(), granted, &*reporter, |held, whom| {
            dhcp6::Client::open(&renewed, &identity)?.renew(held, whom)
        });
    });
    (nic, setup, boot)
}

/// A DHCPv6 server names the boot file by its URL.
fn boot_file(told: Told) -> BootSource {
    BootSource {
        file: told.boot_file,
        ..BootSource::default()
    }
}

/// PXELINUX's IPAPPEND tells the server that it came from.
fn boot_source(given: &StaticAddress) -> BootSource {
    BootSource {
        server_name: given.boot_server.map(|server| server.to_string()),
        ..BootSource::default()
    }
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
