//! From the file as written to networks, groups and machines: each value by itself.

use super::{Fleet, Group, Machine, Network, Server, Unknown};
use crate::keys::{self, Checker, Kind};
use crate::problem::{Problem, nearest};
use crate::range::{MOST, Range};
use crate::written::{Key, Section, Written};
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::IpAddr;
use toml::Value;
use uuid::Uuid;

pub(super) fn build(written: Written, problems: &mut Vec<Problem>) -> Fleet {
    let mut checker = Checker::default();
    let mut check = |kind, section: &Section, problems: &mut Vec<Problem>| {
        checker.section(kind, section, problems);
    };
    check(Kind::Server, &written.server, problems);
    check(Kind::Base, &written.base, problems);
    let mut fleet = Fleet {
        server: server(&written.server, problems),
        base: written.base,
        ..Fleet::default()
    };
    for section in written.networks {
        check(Kind::Network, &section, problems);
        fleet.networks.extend(network(section, problems));
    }
    for section in written.groups {
        check(Kind::Group, &section, problems);
        fleet.groups.push(group(section, problems));
    }
    for section in written.ips {
        check(Kind::Ip, &section, problems);
        match section.name.parse::<IpAddr>() {
            Ok(ip) => fleet.ips.push((ip, section)),
            Err(_) => problems.push(Problem::at(
                section.line,
                format!(
                    "[ip.{:?}] is no address: write [ip.\"192.168.1.50\"]",
                    section.name
                ),
            )),
        }
    }
    for section in written.hosts {
        check(Kind::Host, &section, problems);
        let at = fleet.hosts.len();
        machines(&mut fleet, &section, at, problems);
        fleet.hosts.push(section);
    }
    fleet
}

/// Reads keys of one section; what cannot be read is a problem and left out.
struct Reading<'a> {
    section: &'a Section,
    problems: &'a mut Vec<Problem>,
}

impl Reading<'_> {
    fn get<T>(&mut self, name: &str, read: impl Fn(&Value) -> Result<T, String>) -> Option<T> {
        let key = self.section.key(name)?;
        read(&key.value).map_err(|what| self.wrong(key, &what)).ok()
    }

    fn wrong(&mut self, key: &Key, what: &str) {
        let what = format!("key {:?}: {what}", key.name);
        self.problems.push(Problem::at(key.line, what));
    }
}

fn server(section: &Section, problems: &mut Vec<Problem>) -> Server {
    let mut read = Reading { section, problems };
    let mut loaders = HashMap::new();
    let names = Kind::Server.own_keys().iter();
    for name in names.filter(|name| name.starts_with("loader-")) {
        let loader = |value: &Value| plain_word(value).map(str::to_owned);
        if let Some(loader) = read.get(name, loader) {
            loaders.insert((*name).to_owned(), loader);
        }
    }
    Server {
        url: read.get("url", server_url),
        address: read.get("address", keys::address),
        slots: read.get("slots", keys::count),
        unknown: read.get("unknown", unknown).unwrap_or_default(),
        loaders,
    }
}

/// A file's name or a URL, as boot loaders and DHCP servers take it.
fn plain_word(value: &Value) -> Result<&str, String> {
    let text = keys::one_line(value)?;
    if text.contains([' ', '"', '\\', ',', ';', '\'']) {
        return Err(format!(
            "{text:?} has a blank, a quotation mark or a comma in it"
        ));
    }
    Ok(text)
}

pub(crate) fn server_url(value: &Value) -> Result<String, String> {
    let text = plain_word(value)?.trim_end_matches('/');
    let url = url::Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.path() == "/"
    });
    match url {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("{text:?}: write it as http://host:port")),
    }
}

fn unknown(value: &Value) -> Result<Unknown, String> {
    match keys::text(value)? {
        "boot" => Ok(Unknown::Boot),
        "ignore" => Ok(Unknown::Ignore),
        "enroll" => Ok(Unknown::Enroll),
        other => Err(format!("{other:?}: there are boot, ignore and enroll")),
    }
}

fn network(section: Section, problems: &mut Vec<Problem>) -> Option<Network> {
    let net = match section.name.parse::<IpNet>() {
        Ok(net) if net.trunc() == net && net.prefix_len() > 0 => net,
        Ok(net) => {
            let what = format!(
                "{net} has bits of a host in it: write [network.\"{}\"]",
                net.trunc()
            );
            problems.push(Problem::at(section.line, what));
            net.trunc()
        }
        Err(_) => {
            let what = format!(
                "[network.{:?}] is no network: write [network.\"192.168.1.0/24\"]",
                section.name
            );
            problems.push(Problem::at(section.line, what));
            return None;
        }
    };
    let mut read = Reading {
        section: &section,
        problems,
    };
    let inside = |value: &Value| {
        let ip = keys::address(value)?;
        let inside = net.contains(&ip).then_some(ip);
        inside.ok_or_else(|| format!("{ip} is not in {net}"))
    };
    let pools = |value: &Value| {
        let pools = keys::pools(value)?;
        let outside = pools
            .iter()
            .flat_map(|(first, last)| [first, last])
            .find(|ip| !usable(net, **ip));
        match outside {
            Some(ip) => Err(format!("{ip} is no address for a machine in {net}")),
            None => Ok(pools),
        }
    };
    let domain = |value: &Value| {
        let text = keys::text(value)?;
        keys::name(text).map(|()| text.to_owned())
    };
    Some(Network {
        net,
        line: section.line,
        router: read.get("router", inside),
        dns: read.get("dns", keys::addresses).unwrap_or_default(),
        ntp: read.get("ntp", keys::addresses).unwrap_or_default(),
        domain: read.get("domain", domain),
        pools: read.get("range", pools).unwrap_or_default(),
        next_server: read.get("next-server", keys::address),
        lease_time: read.get("lease-time", keys::time),
        section,
    })
}

/// Whether a machine may have `ip`: of IPv4 the first and the last are everybody's, unless there are only two.
pub(crate) fn usable(net: IpNet, ip: IpAddr) -> bool {
    let everybodys = net.max_prefix_len() == 32
        && net.prefix_len() < 31
        && (ip == net.network() || ip == net.broadcast());
    net.contains(&ip) && !everybodys
}

fn group(section: Section, problems: &mut Vec<Problem>) -> Group {
    if let Err(what) = keys::name(&section.name) {
        problems.push(Problem::at(section.line, what));
    }
    let mut read = Reading {
        section: &section,
        problems,
    };
    Group {
        name: section.name.clone(),
        line: section.line,
        patterns: read.get("match", keys::patterns).unwrap_or_default(),
        slots: read.get("slots", keys::count),
        section,
    }
}

/// The machine of a host section, or the machines of its range.
fn machines(fleet: &mut Fleet, section: &Section, host: usize, problems: &mut Vec<Problem>) {
    let range = match Range::find(&section.name) {
        Ok(range) => range,
        Err(error) => return problems.push(Problem::at(section.line, error.to_string())),
    };
    let count = range.as_ref().map_or(0, Range::count);
    if fleet.machines.len() + count.max(1) > MOST {
        let what = format!(
            "with {:?} these are more than {MOST} machines",
            section.name
        );
        return problems.push(Problem::at(section.line, what));
    }
    if range.is_some() {
        for key in &section.keys {
            if let Err(what) = keys::parallel(key, count) {
                return problems.push(Problem::at(key.line, what));
            }
        }
    }
    let mut read = Reading { section, problems };
    let groups = read.get("groups", |value| {
        keys::texts(value).map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>())
    });
    let mut members = Vec::new();
    if let (Some(names), Some(key)) = (groups, section.key("groups")) {
        for name in names {
            match fleet.group(&name) {
                Some(group) => members.push(group),
                None => read.wrong(key, &undefined(fleet, &name)),
            }
        }
    }
    for index in 0..count.max(1) {
        let name = range
            .as_ref()
            .map_or_else(|| section.name.clone(), |range| range.at(index));
        let before = problems.len();
        let mut machine = machine(section, name, (index, count), problems);
        machine.host = host;
        machine.groups = (0..fleet.groups.len())
            .filter(|at| {
                members.contains(at)
                    || fleet.groups[*at]
                        .patterns
                        .iter()
                        .any(|p| p.fits(&machine.name))
            })
            .collect();
        machine.network = machine.ip.and_then(|ip| fleet.network_of(ip));
        fleet.machines.push(machine);
        if problems.len() > before {
            // The others of the range have the same fault.
            return;
        }
    }
}

fn undefined(fleet: &Fleet, name: &str) -> String {
    let known = fleet.groups.iter().map(|group| group.name.as_str());
    match nearest(name, known) {
        Some(near) => format!("nobody defined the group {name:?}: did you mean {near:?}?"),
        None => format!("nobody defined the group {name:?}: write [group.{name}]"),
    }
}

fn machine(
    section: &Section,
    name: String,
    (index, count): (usize, usize),
    problems: &mut Vec<Problem>,
) -> Machine {
    if let Err(what) = keys::name(&name) {
        problems.push(Problem::at(section.line, what));
    }
    let own = |value: &Value| keys::at_index(value, count, index);
    let mut read = Reading { section, problems };
    let macs = read.get("mac", |value| {
        let value = own(value);
        let texts = keys::texts(&value)?.into_iter();
        texts
            .map(|text| text.parse::<crate::Mac>().map_err(|e| e.to_string()))
            .collect::<Result<Vec<_>, _>>()
    });
    let uuid = |value: &Value| {
        let value = own(value);
        let text = keys::text(&value)?;
        let uuid = text
            .parse::<Uuid>()
            .ok()
            .filter(|uuid| !uuid.is_nil() && !uuid.is_max());
        uuid.ok_or_else(|| format!("{text:?} is not the UUID of a machine"))
    };
    let serial = |value: &Value| {
        let value = own(value);
        keys::one_line(&value).map(|text| text.trim().to_owned())
    };
    Machine {
        macs: macs.unwrap_or_default(),
        ip: read.get("ip", |value| keys::address(&own(value))),
        uuid: read.get("uuid", uuid),
        serial: read.get("serial", serial),
        name,
        line: section.line,
        groups: Vec::new(),
        network: None,
        host: 0,
        index,
        count,
    }
}
