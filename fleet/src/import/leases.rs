//! The lease files of ISC dhcpd, dnsmasq and Kea: what has an address keeps it.

use super::{Found, Imported, dhcpd, name_of, short};
use crate::Mac;
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(super) fn read(text: &str) -> Result<Imported, String> {
    let first = text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'));
    let Some(first) = first else {
        return Ok(Imported::default());
    };
    if first.starts_with("address,") {
        return Ok(kea(text));
    }
    let word = first.split_whitespace().next().unwrap_or_default();
    if word.bytes().all(|byte| byte.is_ascii_digit()) || word == "duid" {
        return Ok(dnsmasq(text));
    }
    if text.contains("lease ") && text.contains('{') {
        return Ok(dhcpd::read(text, true));
    }
    Err(format!(
        "it is no lease file of dhcpd, dnsmasq or Kea: it begins with {:?}",
        short(first)
    ))
}

/// `until MAC IP name client-id`, a line a lease.
fn dnsmasq(text: &str) -> Imported {
    let mut imported = Imported::default();
    for (at, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] | ["duid", ..] => {}
            [_, mac, ip, name, ..] => match (mac.parse::<Mac>(), ip.parse::<IpAddr>()) {
                (Ok(mac), Ok(ip)) => imported.machines.push(Found {
                    line: at + 1,
                    name: if name == "*" {
                        name_of(ip)
                    } else {
                        name.to_owned()
                    },
                    macs: vec![mac],
                    ip: Some(ip),
                    ..Found::default()
                }),
                _ => imported.leave(at + 1, format!("the lease of {ip} names no network card")),
            },
            _ => imported.leave(at + 1, format!("not understood: {}", short(line))),
        }
    }
    imported
}

/// CSV to whose end changes are added: of several lines of an address the last one counts.
fn kea(text: &str) -> Imported {
    let mut imported = Imported::default();
    let mut reader = ::csv::ReaderBuilder::new()
        .flexible(true)
        .from_reader(text.as_bytes());
    let header = reader.headers().cloned().unwrap_or_default();
    let column = |name: &str| header.iter().position(|head| head == name);
    let (address, hwaddr) = (column("address"), column("hwaddr"));
    let (hostname, state) = (column("hostname"), column("state"));
    let lifetime = column("valid_lifetime");
    let mut last: BTreeMap<IpAddr, (usize, ::csv::StringRecord)> = BTreeMap::new();
    for (at, record) in reader.records().enumerate() {
        let Ok(record) = record else {
            imported.leave(at + 2, "not understood");
            continue;
        };
        let line = record.position().map_or(at + 2, |place| {
            usize::try_from(place.line()).unwrap_or(at + 2)
        });
        let ip = address
            .and_then(|at| record.get(at))
            .and_then(|ip| ip.parse().ok());
        match ip {
            Some(ip) => {
                last.insert(ip, (line, record));
            }
            None => imported.leave(line, "no address"),
        }
    }
    for (ip, (line, record)) in last {
        let get = |column: Option<usize>| column.and_then(|at| record.get(at)).unwrap_or_default();
        // 0 is assigned; 1 declined, 2 expired. A lease that ended is one of no time.
        if !matches!(get(state), "" | "0") || get(lifetime) == "0" {
            imported.leave(line, format!("the lease of {ip} has ended"));
            continue;
        }
        match get(hwaddr).parse::<Mac>() {
            Ok(mac) => imported.machines.push(Found {
                line,
                name: match get(hostname).trim_end_matches('.') {
                    "" => name_of(ip),
                    name => name.to_owned(),
                },
                macs: vec![mac],
                ip: Some(ip),
                ..Found::default()
            }),
            Err(_) => imported.leave(line, format!("the lease of {ip} names no network card")),
        }
    }
    imported.machines.sort_by_key(|found| found.line);
    imported
}
