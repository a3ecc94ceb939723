//! The file as it is used: networks, groups and machines, checked, and found by all their names.

mod build;
mod conflicts;

pub(crate) use build::usable;

use crate::Mac;
use crate::keys::Kind;
use crate::problem::{BadFleet, Problem};
use crate::range::Pattern;
use crate::written::{Section, Written};
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use uuid::Uuid;

/// `[network."192.168.1.0/24"]`
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Without the bits of a host.
    pub net: IpNet,
    pub line: usize,
    pub router: Option<IpAddr>,
    pub dns: Vec<IpAddr>,
    pub ntp: Vec<IpAddr>,
    pub domain: Option<String>,
    /// Addresses for machines that nobody named, first and last of each run.
    pub pools: Vec<(IpAddr, IpAddr)>,
    /// Where boot loaders are loaded from, if not from the server.
    pub next_server: Option<IpAddr>,
    pub lease_time: Option<Duration>,
    pub(crate) section: Section,
}

/// `[group.lab3]`
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub name: String,
    pub line: usize,
    /// Names that belong to it without saying so.
    pub patterns: Vec<Pattern>,
    /// Machines at work at once.
    pub slots: Option<u32>,
    pub(crate) section: Section,
}

/// One machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    pub name: String,
    pub line: usize,
    pub macs: Vec<Mac>,
    pub ip: Option<IpAddr>,
    pub uuid: Option<Uuid>,
    pub serial: Option<String>,
    /// Places in [`Fleet::groups`], in the file's order.
    pub groups: Vec<usize>,
    /// Place in [`Fleet::networks`].
    pub network: Option<usize>,
    /// Place in `Fleet::hosts`.
    pub(crate) host: usize,
    /// Which of a range it is, and of how many; 0 of no range.
    pub(crate) index: usize,
    pub(crate) count: usize,
}

/// What is known of a machine that asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    pub macs: Vec<Mac>,
    pub uuid: Option<Uuid>,
    pub serial: Option<String>,
    pub ip: Option<IpAddr>,
}

/// What the server does with a machine that the file does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unknown {
    #[default]
    Boot,
    Ignore,
    Enroll,
}

/// `[server]`
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Server {
    /// Under which machines reach it, without a slash at the end.
    pub url: Option<String>,
    pub address: Option<IpAddr>,
    /// Machines at work at once.
    pub slots: Option<u32>,
    pub unknown: Unknown,
    /// Boot loaders by `loader-…` key, where they are not the usual ones.
    pub loaders: HashMap<String, String>,
}

/// The whole file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fleet {
    /// As it is named in messages.
    pub file: String,
    pub server: Server,
    pub networks: Vec<Network>,
    pub groups: Vec<Group>,
    /// In the file's order.
    pub machines: Vec<Machine>,
    pub(crate) base: Section,
    pub(crate) hosts: Vec<Section>,
    pub(crate) ips: Vec<(IpAddr, Section)>,
    names: HashMap<String, usize>,
    macs: HashMap<Mac, usize>,
    uuids: HashMap<Uuid, usize>,
    serials: HashMap<String, usize>,
    addresses: HashMap<IpAddr, usize>,
}

impl Fleet {
    /// Reads and checks the bytes of the file named `file`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(bytes: &[u8], file: &str) -> Result<Self, BadFleet> {
        let bad = |problems| BadFleet {
            file: file.to_owned(),
            problems,
        };
        let written = Written::read(bytes).map_err(bad)?;
        let mut problems: Vec<Problem> = Vec::new();
        let mut fleet = build::build(written, &mut problems);
        file.clone_into(&mut fleet.file);
        conflicts::check(&mut fleet, &mut problems);
        if problems.is_empty() {
            return Ok(fleet);
        }
        problems.sort_by_key(|problem| problem.line);
        Err(bad(problems))
    }

    /// The machine of this name, in capital or small letters.
    pub fn named(&self, name: &str) -> Option<&Machine> {
        let at = self.names.get(&name.to_ascii_lowercase())?;
        self.machines.get(*at)
    }

    pub fn group(&self, name: &str) -> Option<usize> {
        self.groups.iter().position(|group| group.name == name)
    }

    /// The machine that asks: by its cards, then the firmware's UUID in either byte order, its serial number, its address.
    pub fn find(&self, who: &Identity) -> Option<&Machine> {
        let by_mac = who.macs.iter().find_map(|mac| self.macs.get(mac));
        let by_uuid = || {
            let uuid = who.uuid.as_ref()?;
            self.uuids
                .get(uuid)
                .or_else(|| self.uuids.get(&swapped(*uuid)))
        };
        let by_serial = || self.serials.get(who.serial.as_ref()?.trim());
        let by_ip = || self.addresses.get(who.ip.as_ref()?);
        let at = by_mac.or_else(by_uuid).or_else(by_serial).or_else(by_ip)?;
        self.machines.get(*at)
    }

    /// What the header of a machine's section says: its name, or its range.
    pub fn section_name<'a>(&'a self, machine: &'a Machine) -> &'a str {
        let section = self.hosts.get(machine.host);
        section.map_or(machine.name.as_str(), |section| section.name.as_str())
    }

    /// The network that `ip` is in.
    pub fn network_of(&self, ip: IpAddr) -> Option<usize> {
        self.networks
            .iter()
            .position(|network| network.net.contains(&ip))
    }

    /// The layers of a machine, the later one winning.
    pub(crate) fn layers<'a>(&'a self, machine: &Machine) -> Vec<(Kind, &'a Section)> {
        let network = machine.network.and_then(|at| self.networks.get(at));
        let groups = machine.groups.iter().filter_map(|at| self.groups.get(*at));
        let ip = self
            .ips
            .iter()
            .filter(|(ip, _)| Some(*ip) == machine.ip)
            .map(|(_, section)| (Kind::Ip, section));
        std::iter::once((Kind::Base, &self.base))
            .chain(network.map(|network| (Kind::Network, &network.section)))
            .chain(groups.map(|group| (Kind::Group, &group.section)))
            .chain(self.hosts.get(machine.host).map(|host| (Kind::Host, host)))
            .chain(ip)
            .collect()
    }
}

/// Firmware and programs differ in whether the first three fields are little-endian (SMBIOS 3.7, 7.2.1).
pub(crate) fn swapped(uuid: Uuid) -> Uuid {
    Uuid::from_bytes(uuid.to_bytes_le())
}

#[cfg(test)]
mod tests;
