//! dnsmasq: `dhcp-host` lines, files of `dhcp-hostsfile`, and files of hosts.

use super::{Found, FoundNetwork, Imported, name_of, short, unquoted};
use crate::Mac;
use ipnet::{IpNet, Ipv4Net};
use std::net::{IpAddr, Ipv4Addr};
use toml::Value;

pub(super) fn read(text: &str) -> Imported {
    let mut imported = Imported::default();
    // Domains stand apart from the ranges that they are for.
    let mut domains: Vec<(IpNet, String)> = Vec::new();
    let mut domain = None;
    let mut options: Vec<(String, &'static str, Value)> = Vec::new();
    let mut tags: Vec<(String, IpNet)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        let line = line.split(" #").next().unwrap_or_default().trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = line.split_once('=');
        let pair = pair.map(|(key, value)| (key.trim(), value.trim()));
        match pair {
            Some(("dhcp-host", value)) => host(number, value, &mut imported),
            Some(("dhcp-range", value)) => range(number, value, &mut imported, &mut tags),
            Some(("dhcp-option", value)) => options.extend(option(value)),
            // That of the server itself, whatever it is.
            Some(("domain", "#")) => {}
            Some(("domain", value)) => {
                let (name, net) = value.split_once(',').unwrap_or((value, ""));
                let name = name.trim().to_owned();
                match net.trim() {
                    "" => domain = Some(name),
                    net => domains.extend(net.parse().ok().map(|net| (net, name))),
                }
            }
            Some(("conf-file" | "conf-dir" | "dhcp-hostsfile" | "addn-hosts", _)) => {
                imported.leave(number, format!("{}: import that file, too", short(line)));
            }
            Some(("host-record", value)) => {
                let words: Vec<&str> = value.split(',').collect();
                address_line(
                    number,
                    words.get(1).copied().unwrap_or_default(),
                    &words[..1],
                    &mut imported,
                );
            }
            // Everything else of dnsmasq's is about no machine.
            Some((key, _))
                if key
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') => {}
            None if line
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') => {}
            _ if line.contains(',') => host(number, line, &mut imported),
            _ => {
                let words: Vec<&str> = line.split_whitespace().collect();
                address_line(number, words[0], &words[1..], &mut imported);
            }
        }
    }
    for network in &mut imported.networks {
        let its = domains.iter().find(|(net, _)| *net == network.net);
        let its = its.map(|(_, name)| name).or(domain.as_ref());
        network
            .keys
            .extend(its.map(|name| ("domain", name.as_str().into())));
        for (tag, key, value) in &options {
            let fits = tag.is_empty()
                || tags
                    .iter()
                    .any(|(name, net)| name == tag && *net == network.net);
            if fits && !network.keys.iter().any(|(there, _)| there == key) {
                network.keys.push((key, value.clone()));
            }
        }
    }
    imported
}

/// `MAC,…,IP,name,lease`, in any order.
fn host(line: usize, value: &str, imported: &mut Imported) {
    let mut found = Found {
        line,
        ..Found::default()
    };
    let mut client = None;
    for word in value
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
    {
        let word = unquoted(word);
        let bare = word.trim_start_matches('[').trim_end_matches(']');
        if let Ok(mac) = word.strip_prefix("1-").unwrap_or(word).parse::<Mac>() {
            found.macs.push(mac);
        } else if let Ok(ip) = bare.parse::<IpAddr>() {
            match found.ip {
                None => found.ip = Some(ip),
                Some(_) => imported.leave(line, format!("the second address {ip}")),
            }
        } else if word == "ignore" {
            return imported.leave(
                line,
                format!("a machine that gets no address: {}", short(value)),
            );
        } else if let Some(tag) = word.strip_prefix("set:").or(word.strip_prefix("net:")) {
            found.groups.push(tag.to_owned());
        } else if word.starts_with("id:") {
            client = Some(word);
        } else if word.starts_with("tag:") {
            imported.leave(line, format!("not taken over: {}", short(word)));
        } else if word.contains([':', '*']) {
            let what = format!("{} is no MAC address of a card of Ethernet", short(word));
            return imported.leave(line, format!("{what}: {}", short(value)));
        } else if !is_time(word) {
            word.clone_into(&mut found.name);
        }
    }
    if let Some(client) = client {
        if found.macs.is_empty() {
            let what = format!("{} tells no card's MAC address", short(client));
            return imported.leave(line, format!("{what}: {}", short(value)));
        }
        imported.leave(line, format!("not taken over: {}", short(client)));
    }
    if found.name.is_empty() {
        match found.ip {
            Some(ip) => found.name = name_of(ip),
            None => {
                return imported.leave(line, format!("neither name nor address: {}", short(value)));
            }
        }
    }
    imported.machines.push(found);
}

/// `12h`, `infinite`, `3600`.
fn is_time(word: &str) -> bool {
    let digits = word.trim_end_matches(['s', 'm', 'h', 'd', 'w']);
    word == "infinite"
        || !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
            && word.len() - digits.len() <= 1
}

/// A line of a file of hosts: an address and its names, of a machine that may be known by its card already.
fn address_line(line: usize, ip: &str, names: &[&str], imported: &mut Imported) {
    let (Ok(ip), Some(name)) = (ip.parse::<IpAddr>(), names.last()) else {
        return imported.leave(line, format!("not understood: {}", short(ip)));
    };
    if ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() {
        return;
    }
    if let Some(found) = imported
        .machines
        .iter_mut()
        .find(|found| found.name == *name && found.ip.is_none())
    {
        found.ip = Some(ip);
        return;
    }
    if imported.machines.iter().any(|found| found.ip == Some(ip)) {
        return;
    }
    imported.machines.push(Found {
        line,
        name: (*name).to_owned(),
        ip: Some(ip),
        ..Found::default()
    });
}

fn range(line: usize, value: &str, imported: &mut Imported, tags: &mut Vec<(String, IpNet)>) {
    let words: Vec<&str> = value.split(',').map(str::trim).collect();
    let tag = words.iter().find_map(|word| word.strip_prefix("set:"));
    let ips: Vec<Ipv4Addr> = words.iter().filter_map(|word| word.parse().ok()).collect();
    let is_static = words.contains(&"static");
    // Without a netmask it is that of the server's card, which only the server knows.
    let guess = Ipv4Addr::new(255, 255, 255, 0);
    let same = |first: &Ipv4Addr, last: &Ipv4Addr| first.octets()[..3] == last.octets()[..3];
    let (first, last, mask) = match (is_static, &ips[..]) {
        (true, [first]) => (*first, None, guess),
        (true, [first, mask, ..]) => (*first, None, *mask),
        (false, [first, last]) if same(first, last) => (*first, Some(*last), guess),
        (false, [first, last, mask, ..]) => (*first, Some(*last), *mask),
        _ => return imported.leave(line, format!("a range without a netmask: {}", short(value))),
    };
    let is_guess = ips.len() < if is_static { 2 } else { 3 };
    let Ok(net) = Ipv4Net::with_netmask(first, mask) else {
        return imported.leave(line, format!("{mask} is no netmask"));
    };
    let net = IpNet::V4(net.trunc());
    tags.extend(tag.map(|tag| (tag.to_owned(), net)));
    let pool = last.map(|last| Value::from(format!("{first}-{last}")));
    let there = imported
        .networks
        .iter_mut()
        .find(|network| network.net == net);
    match (there, pool) {
        (Some(network), Some(pool)) => {
            let range = network.keys.iter_mut().find(|(key, _)| *key == "range");
            match range {
                Some((_, Value::Array(pools))) => pools.push(pool),
                _ => network.keys.push(("range", Value::Array(vec![pool]))),
            }
        }
        (Some(_), None) => {}
        (None, pool) => imported.networks.push(FoundNetwork {
            line,
            net,
            is_guess,
            keys: pool
                .map(|pool| ("range", Value::Array(vec![pool])))
                .into_iter()
                .collect(),
        }),
    }
}

/// The tag and what is said of the network, of the options that a fleet file has.
fn option(value: &str) -> Option<(String, &'static str, Value)> {
    let words: Vec<&str> = value.split(',').map(str::trim).collect();
    let (tag, words) = match words.split_first()? {
        (first, rest) if first.starts_with("tag:") => (first.trim_start_matches("tag:"), rest),
        _ => ("", &words[..]),
    };
    let (name, values) = words.split_first()?;
    let list = || Value::Array(values.iter().map(|value| Value::from(*value)).collect());
    let (key, value) = match name.trim_start_matches("option:") {
        "router" | "3" => ("router", Value::from(*values.first()?)),
        "dns-server" | "6" if !values.is_empty() => ("dns", list()),
        "ntp-server" | "42" if !values.is_empty() => ("ntp", list()),
        "domain-name" | "15" => ("domain", Value::from(*values.first()?)),
        _ => return None,
    };
    Some((tag.to_owned(), key, value))
}
