//! Kea's configuration for IPv4: JSON with comments, and with commas behind the last of a list.

use super::{Found, FoundNetwork, Imported, name_of};
use crate::identity;
use ipnet::IpNet;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr};

pub(super) fn read(text: &str) -> Result<Imported, String> {
    let plain = plain_json(text);
    let config: Value = serde_json::from_str(&plain)
        .map_err(|error| format!("it is no configuration of Kea: {error}"))?;
    let dhcp = config
        .get("Dhcp4")
        .ok_or("it is no configuration of Kea's DHCPv4 server: there is no Dhcp4 in it")?;
    let mut reader = Reader {
        text,
        after: 0,
        imported: Imported::default(),
    };
    reader.scope(dhcp, &[]);
    let outer = options(dhcp);
    for shared in list(dhcp, "shared-networks") {
        reader.scope(shared, &outer);
    }
    Ok(reader.imported)
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

struct Reader<'a> {
    text: &'a str,
    /// Where the last thing was found: the next one stands behind it, if it is there twice.
    after: usize,
    imported: Imported,
}

impl Reader<'_> {
    /// The line of a text in the file: the parser does not tell it.
    fn line(&mut self, value: &str) -> usize {
        let quoted = format!("\"{value}\"");
        let behind = self
            .text
            .get(self.after..)
            .and_then(|rest| rest.find(&quoted))
            .map(|at| self.after + at);
        let at = behind.or_else(|| self.text.find(&quoted)).unwrap_or(0);
        self.after = at;
        self.text
            .get(..at)
            .unwrap_or_default()
            .matches('\n')
            .count()
            + 1
    }

    /// `outer` is what is said around it; what it says itself wins.
    fn scope(&mut self, scope: &Value, outer: &[Key]) {
        let around = with_outer(options(scope), outer);
        for subnet in list(scope, "subnet4") {
            self.subnet(subnet, &around);
        }
        for reservation in list(scope, "reservations") {
            self.reservation(reservation);
        }
    }

    fn subnet(&mut self, subnet: &Value, outer: &[Key]) {
        let name = text(subnet, "subnet").unwrap_or_default();
        let line = self.line(name);
        let Ok(net) = name.parse::<IpNet>() else {
            return self.imported.leave(line, format!("{name:?} is no network"));
        };
        let mut keys = with_outer(options(subnet), outer);
        let pools: Vec<toml::Value> = list(subnet, "pools")
            .filter_map(|pool| text(pool, "pool"))
            .filter_map(|pool| range(&pool.replace(' ', ""), net))
            .map(Into::into)
            .collect();
        if !pools.is_empty() {
            keys.push(("range", toml::Value::Array(pools)));
        }
        self.imported.networks.push(FoundNetwork {
            line,
            net: net.trunc(),
            is_guess: false,
            keys,
        });
        for reservation in list(subnet, "reservations") {
            self.reservation(reservation);
        }
    }

    fn reservation(&mut self, reservation: &Value) {
        let ip: Option<IpAddr> = text(reservation, "ip-address").and_then(|ip| ip.parse().ok());
        let host = text(reservation, "hostname").filter(|name| !name.is_empty());
        let Some(mac) = text(reservation, "hw-address") else {
            let known = text(reservation, "ip-address")
                .or(host)
                .unwrap_or("?")
                .to_owned();
            let line = self.line(&known);
            return self.imported.leave(
                line,
                format!("the reservation of {known} names no network card"),
            );
        };
        let line = self.line(mac);
        let Ok(card) = identity::mac(mac) else {
            return self
                .imported
                .leave(line, format!("{mac:?} is not the MAC address of a card"));
        };
        let Some(name) = host.map(str::to_owned).or_else(|| ip.map(name_of)) else {
            return self
                .imported
                .leave(line, format!("{mac} has neither name nor address"));
        };
        // A machine of two cards has a reservation for each.
        let same = self
            .imported
            .machines
            .iter_mut()
            .find(|found| found.name == name && found.ip == ip);
        match same {
            Some(found) => found.macs.push(card),
            None => self.imported.machines.push(Found {
                line,
                name,
                macs: vec![card],
                ip,
                ..Found::default()
            }),
        }
    }
}

/// A key of a network.
type Key = (&'static str, toml::Value);

/// The options of a scope that a fleet file has, by their names or by their numbers.
fn options(scope: &Value) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for option in list(scope, "option-data") {
        let data = text(option, "data").unwrap_or_default();
        let words = || data.split(',').map(str::trim);
        let all = || toml::Value::Array(words().map(toml::Value::from).collect());
        let code = option.get("code").and_then(Value::as_u64);
        match (text(option, "name").unwrap_or_default(), code) {
            ("routers", _) | ("", Some(3)) => {
                keys.extend(words().next().map(|word| ("router", word.into())));
            }
            ("domain-name-servers", _) | ("", Some(6)) => keys.push(("dns", all())),
            ("ntp-servers", _) | ("", Some(42)) => keys.push(("ntp", all())),
            ("domain-name", _) | ("", Some(15)) => keys.push(("domain", data.into())),
            _ => {}
        }
    }
    keys
}

fn with_outer(mut own: Vec<Key>, outer: &[Key]) -> Vec<Key> {
    for (key, value) in outer {
        if !own.iter().any(|(there, _)| there == key) {
            own.push((key, value.clone()));
        }
    }
    own
}

/// A pool as a range of a fleet file: Kea takes a prefix, too, and leaves out of it what is all machines' in `net`. `None` where
/// nothing is left.
fn range(pool: &str, net: IpNet) -> Option<String> {
    let (Ok(IpNet::V4(pool)), IpNet::V4(net)) = (pool.parse::<IpNet>(), net) else {
        return Some(pool.to_owned());
    };
    let usable = |ip: &Ipv4Addr| crate::fleet::usable(net.trunc().into(), IpAddr::V4(*ip));
    let (first, last) = (pool.network(), pool.broadcast());
    let beside = |ip: Ipv4Addr, by: i8| u32::from(ip).wrapping_add_signed(by.into()).into();
    let first = if usable(&first) {
        first
    } else {
        beside(first, 1)
    };
    let last = if usable(&last) {
        last
    } else {
        beside(last, -1)
    };
    (first <= last).then(|| format!("{first}-{last}"))
}

/// Blanks in place of comments (`#`, `//`, `/* */`) and of commas that nothing follows, so that errors keep their lines.
fn plain_json(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    let mut quoted = false;
    // A comma, as long as nothing has come behind it.
    let mut comma = None;
    while let Some(c) = letters.next() {
        if quoted {
            plain.push(c);
            if c == '\\' {
                plain.extend(letters.next());
            } else {
                quoted = c != '"';
            }
            continue;
        }
        match (c, letters.peek()) {
            ('"', _) => {
                quoted = true;
                comma = None;
                plain.push(c);
            }
            ('#', _) | ('/', Some('/')) => while letters.next_if(|c| *c != '\n').is_some() {},
            ('/', Some('*')) => {
                let mut last = ' ';
                letters.next();
                for c in letters.by_ref() {
                    if c == '\n' {
                        plain.push(c);
                    }
                    if last == '*' && c == '/' {
                        break;
                    }
                    last = c;
                }
            }
            _ => {
                match (c, comma) {
                    (']' | '}', Some(at)) => plain.replace_range(at..=at, " "),
                    _ if c.is_whitespace() => {
                        plain.push(c);
                        continue;
                    }
                    _ => {}
                }
                comma = (c == ',').then_some(plain.len());
                plain.push(c);
            }
        }
    }
    plain
}
