//! Which address a client may have.

use super::{Scene, v4};
use crate::boot;
use crate::leases::Leases;
use crate::question::{Kind, Question};
use ipnet::Ipv4Net;
use pitstop_fleet::{Identity, Machine, Network};
use pitstop_protocol::host_name::Mac;
use std::net::{IpAddr, Ipv4Addr};

/// Where a client is.
pub struct Place<'a> {
    pub network: &'a Network,
    pub net: Ipv4Net,
    pub machine: Option<&'a Machine>,
    /// The address that the fleet file gives it here.
    pub fixed: Option<Ipv4Addr>,
    /// For the journal.
    pub who: String,
}

impl<'a> Place<'a> {
    /// The network is the relay's; that of a client which renews what it has; else the one that the question came from.
    pub fn of(question: &Question, scene: &Scene<'a>) -> Result<Self, String> {
        let fleet = scene.fleet;
        let machine = fleet.find(&Identity {
            macs: vec![question.mac],
            uuid: question.uuid(),
            ..Identity::default()
        });
        let who = format!(
            "{} DHCP on {}",
            boot::who(question, machine),
            scene.here.interface
        );
        let network = |ip: Ipv4Addr| {
            let network = fleet.networks.get(fleet.network_of(ip.into())?)?;
            Some((network, network.v4()?))
        };
        let known = question.client.filter(|ip| {
            // Others broadcast where they are, with whatever address they think they have.
            question.kind != Kind::Discover && network(*ip).is_some()
        });
        let near = question.relay.or(known).unwrap_or(scene.here.address);
        let (network, net) = network(near).ok_or_else(|| {
            format!(
                "{who}: not answered: {near} is in no network of {}",
                fleet.file
            )
        })?;
        let fixed = machine.and_then(|machine| v4(machine.ip?));
        Ok(Self {
            network,
            net,
            machine,
            fixed: fixed.filter(|ip| net.contains(ip)),
            who,
        })
    }

    pub fn seconds(&self) -> u64 {
        self.network.seconds()
    }

    /// Whether `ip` is one of those for machines that nobody named.
    pub fn may_have(&self, ip: Ipv4Addr, scene: &Scene) -> bool {
        let in_pool = self.pools().any(|(first, last)| first <= ip && ip <= last);
        in_pool && !self.is_reserved(ip, scene)
    }

    /// The address for a client without one of its own: the one it had, the one it wishes, one that nobody ever had,
    /// the one that has been free the longest.
    pub fn choose(&self, leases: &Leases, question: &Question, scene: &Scene) -> Option<Ipv4Addr> {
        let mac = question.mac;
        let free = |ip: &Ipv4Addr| self.may_have(*ip, scene) && leases.is_free(*ip, mac, scene.now);
        let had = leases
            .of(mac, self.net.network()..=self.net.broadcast())
            .filter(free);
        let wish = || question.requested().filter(free);
        let fresh = || {
            let new = |ip: &Ipv4Addr| leases.get(*ip).is_none() && free(ip);
            self.begun_at(mac).find(new)
        };
        let old = || {
            let over = self
                .all()
                .filter(|ip| leases.get(*ip).is_some())
                .filter(free);
            over.min_by_key(|ip| leases.get(*ip).map(|lease| lease.until))
        };
        had.or_else(wish).or_else(fresh).or_else(old)
    }

    /// Why there is no address, for the journal.
    pub fn none_left(&self) -> String {
        let who = &self.who;
        if self.network.pools.is_empty() {
            format!(
                "{who}: no address: it has no ip in the fleet file, and {} has no range",
                self.net
            )
        } else {
            format!(
                "{who}: no address: none is left in the range of {}",
                self.net
            )
        }
    }

    fn pools(&self) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> {
        let pools = self.network.pools.iter();
        pools.filter_map(|(first, last)| Some((v4(*first)?, v4(*last)?)))
    }

    fn all(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.pools()
            .flat_map(|(first, last)| (u32::from(first)..=u32::from(last)).map(Ipv4Addr::from))
    }

    /// All of them, begun at a place of this card's own: without its lease a machine gets the same again, as a rule.
    fn begun_at(&self, mac: Mac) -> impl Iterator<Item = Ipv4Addr> {
        // FNV-1a: it must not change between versions.
        let hash = mac.0.iter().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
        let size = self.all().count().max(1);
        let start = usize::try_from(hash).unwrap_or(0) % size;
        self.all().skip(start).chain(self.all().take(start))
    }

    /// A range may have addresses in it that are somebody's.
    fn is_reserved(&self, ip: Ipv4Addr, scene: &Scene) -> bool {
        let ip_too = IpAddr::V4(ip);
        let network = self.network;
        let fixed = scene.fleet.find(&Identity {
            ip: Some(ip_too),
            ..Identity::default()
        });
        fixed.is_some()
            || scene.own.contains(&ip)
            || network.router == Some(ip_too)
            || network.next_server == Some(ip_too)
            || network.dns.contains(&ip_too)
            || network.ntp.contains(&ip_too)
    }
}
