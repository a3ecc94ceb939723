//! What is wrong between the parts of a file: names and addresses that two have, and addresses out of place.

use super::build::usable;
use super::{Fleet, swapped};
use crate::problem::Problem;
use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::net::IpAddr;

pub(super) fn check(fleet: &mut Fleet, problems: &mut Vec<Problem>) {
    networks(fleet, problems);
    identities(fleet, problems);
    places(fleet, problems);
    layers_by_address(fleet, problems);
}

/// Networks are apart, and so are their ranges.
fn networks(fleet: &Fleet, problems: &mut Vec<Problem>) {
    for (index, network) in fleet.networks.iter().enumerate() {
        let before = fleet.networks[..index].iter();
        if let Some(other) = before
            .clone()
            .find(|other| other.net.contains(&network.net) || network.net.contains(&other.net))
        {
            let what = format_args!("the network {} overlaps {}", network.net, other.net);
            problems.push(Problem::both(network.line, other.line, what));
        }
        let line = network
            .section
            .key("range")
            .map_or(network.line, |key| key.line);
        for (at, (first, last)) in network.pools.iter().enumerate() {
            let overlap = |pool: &&(IpAddr, IpAddr)| pool.0 <= *last && *first <= pool.1;
            if let Some((other, end)) = network.pools[..at].iter().find(overlap) {
                let what = format!("the range {first}-{last} overlaps {other}-{end}");
                problems.push(Problem::at(line, what));
            }
            if let Some(router) = network.router.filter(|ip| first <= ip && ip <= last) {
                let other = network
                    .section
                    .key("router")
                    .map_or(network.line, |key| key.line);
                let what = format_args!("the range {first}-{last} has the router {router}");
                problems.push(Problem::both(line, other, what));
            }
        }
    }
}

/// One name, one MAC, one UUID, one serial, one address: one machine.
fn identities(fleet: &mut Fleet, problems: &mut Vec<Problem>) {
    let mut taken = Taken {
        lines: fleet
            .machines
            .iter()
            .map(|m| (m.name.clone(), m.line))
            .collect(),
        hosts: &fleet.hosts,
        host_of: fleet.machines.iter().map(|m| m.host).collect(),
        problems,
    };
    for (at, machine) in fleet.machines.iter().enumerate() {
        taken.take(
            &mut fleet.names,
            machine.name.to_ascii_lowercase(),
            at,
            ("name", &machine.name),
        );
        for mac in &machine.macs {
            taken.take(&mut fleet.macs, *mac, at, ("mac", mac));
        }
        if let Some(uuid) = machine.uuid {
            taken.take(&mut fleet.uuids, uuid, at, ("uuid", &uuid));
            // A UUID of a palindrome's kind is its own other order.
            let other = swapped(uuid);
            if let Some(first) = fleet
                .uuids
                .get(&other)
                .copied()
                .filter(|first| *first != at)
            {
                taken.clash(first, at, ("uuid", &uuid));
            }
        }
        if let Some(serial) = &machine.serial {
            taken.take(&mut fleet.serials, serial.clone(), at, ("serial", serial));
        }
        if let Some(ip) = machine.ip {
            taken.take(&mut fleet.addresses, ip, at, ("ip", &ip));
        }
    }
}

struct Taken<'a> {
    /// Name and line of each machine.
    lines: Vec<(String, usize)>,
    hosts: &'a [crate::written::Section],
    host_of: Vec<usize>,
    problems: &'a mut Vec<Problem>,
}

impl Taken<'_> {
    fn take<K: Eq + Hash>(
        &mut self,
        map: &mut HashMap<K, usize>,
        key: K,
        at: usize,
        what: (&str, &dyn Display),
    ) {
        match map.get(&key) {
            Some(first) => self.clash(*first, at, what),
            None => {
                map.insert(key, at);
            }
        }
    }

    fn clash(&mut self, first: usize, at: usize, (key, value): (&str, &dyn Display)) {
        let line = |machine: usize| {
            let section = self.hosts.get(self.host_of[machine]);
            let key = section.and_then(|section| section.key(key));
            key.map_or(self.lines[machine].1, |key| key.line)
        };
        let (name, other) = (&self.lines[at].0, &self.lines[first].0);
        let what = match key {
            "name" => format!("there are two machines {value}: this one and that"),
            _ if first == at => format!("{name} has the {key} {value} twice: here and"),
            _ => format!("the {key} {value} of {name} is also that of {other}"),
        };
        self.problems
            .push(Problem::both(line(at), line(first), what));
    }
}

/// Every address in a network, and in none of its reserved places.
fn places(fleet: &Fleet, problems: &mut Vec<Problem>) {
    for machine in &fleet.machines {
        let Some(ip) = machine.ip else { continue };
        let key = fleet.hosts[machine.host].key("ip");
        let line = key.map_or(machine.line, |key| key.line);
        let Some(network) = machine.network.map(|at| &fleet.networks[at]) else {
            problems.push(outside(fleet, line, &machine.name, ip));
            continue;
        };
        let (name, net) = (&machine.name, network.net);
        let line_of = |key: &str| {
            network
                .section
                .key(key)
                .map_or(network.line, |key| key.line)
        };
        if !usable(net, ip) {
            let what =
                format_args!("the address {ip} of {name} is all machines' in {net}, defined");
            problems.push(Problem::both(line, network.line, what));
        } else if network.router == Some(ip) {
            let what = format_args!("the address {ip} of {name} is the router's");
            problems.push(Problem::both(line, line_of("router"), what));
        } else if let Some((first, last)) = network
            .pools
            .iter()
            .find(|(first, last)| *first <= ip && ip <= *last)
        {
            let what = format_args!(
                "the address {ip} of {name} is in {first}-{last}, the range for machines that nobody named,"
            );
            problems.push(Problem::both(line, line_of("range"), what));
        }
    }
}

fn outside(fleet: &Fleet, line: usize, name: &str, ip: IpAddr) -> Problem {
    let known: Vec<String> = fleet
        .networks
        .iter()
        .take(5)
        .map(|network| format!("{} in line {}", network.net, network.line))
        .collect();
    let what = format!("the address {ip} of {name} is in no network");
    match fleet.networks.first() {
        None => Problem::at(
            line,
            format!("{what}: there is none; write [network.\"ADDRESS/BITS\"]"),
        ),
        Some(first) => Problem {
            line,
            other: Some(first.line),
            what: format!("{what}: there are {}", known.join(", ")),
        },
    }
}

fn layers_by_address(fleet: &Fleet, problems: &mut Vec<Problem>) {
    let mut first: HashMap<IpAddr, usize> = HashMap::new();
    for (ip, section) in &fleet.ips {
        match first.get(ip) {
            Some(line) => {
                let what = format_args!("[ip.\"{ip}\"] stands here and");
                problems.push(Problem::both(section.line, *line, what));
            }
            None => {
                first.insert(*ip, section.line);
            }
        }
        if fleet.network_of(*ip).is_none() {
            let mut problem = outside(fleet, section.line, "this layer", *ip);
            problem.what = problem.what.replace(" of this layer", "");
            problems.push(problem);
        }
    }
}
