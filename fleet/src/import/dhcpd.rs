//! ISC dhcpd: `dhcpd.conf`, and its leases, which are written in the same way.

use super::{Found, FoundNetwork, Imported, name_of, short, unquoted};
use crate::Mac;
use ipnet::{IpNet, Ipv4Net};
use std::collections::HashMap;
use std::net::IpAddr;
use toml::Value;

/// Blocks lie in each other less deep than this.
const DEEPEST: usize = 32;

/// A statement up to its `;`, or a block's head and what is in it.
struct Statement {
    line: usize,
    /// Words; of texts with their quotation marks.
    words: Vec<String>,
    block: Option<Vec<Statement>>,
}

impl Statement {
    fn starts(&self, words: &[&str]) -> bool {
        self.words.len() >= words.len()
            && self
                .words
                .iter()
                .zip(words)
                .all(|(a, b)| a.eq_ignore_ascii_case(b))
    }

    fn value(&self, words: &[&str]) -> Option<&str> {
        let value = self.words.get(words.len())?;
        self.starts(words).then(|| unquoted(value))
    }

    fn shown(&self) -> String {
        short(&self.words.join(" "))
    }
}

/// Reads a configuration, or leases.
pub(super) fn read(text: &str, leases: bool) -> Imported {
    let mut imported = Imported::default();
    let words = words(text);
    let mut at = 0;
    let statements = statements(&words, &mut at, 0, &mut imported);
    if leases {
        lease_statements(&statements, &mut imported);
    } else {
        walk(&statements, None, &mut imported);
    }
    imported
}

/// Splits into words, `{`, `}` and `;`, each with its line.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut words: Vec<(usize, String)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let mut word = String::new();
        let mut quoted = false;
        let mut escaped = false;
        let mut end = |word: &mut String| {
            if !word.is_empty() {
                words.push((at + 1, std::mem::take(word)));
            }
        };
        for c in line.chars() {
            match c {
                _ if quoted => {
                    word.push(c);
                    quoted = escaped || c != '"';
                    escaped = c == '\\' && !escaped;
                }
                '#' => break,
                '"' => {
                    word.push(c);
                    quoted = true;
                }
                '{' | '}' | ';' => {
                    end(&mut word);
                    end(&mut c.to_string());
                }
                // Lists of addresses have commas; they say nothing that blanks do not.
                c if c.is_whitespace() || c == ',' => end(&mut word),
                c => word.push(c),
            }
        }
        end(&mut word);
    }
    words
}

fn statements(
    words: &[(usize, String)],
    at: &mut usize,
    depth: usize,
    imported: &mut Imported,
) -> Vec<Statement> {
    let mut list = Vec::new();
    let mut current = Statement {
        line: 0,
        words: Vec::new(),
        block: None,
    };
    while let Some((line, word)) = words.get(*at) {
        *at += 1;
        match word.as_str() {
            ";" | "{" => {
                if word == "{" && depth >= DEEPEST {
                    imported.leave(*line, "blocks lie too deep in each other");
                } else if word == "{" {
                    current.block = Some(statements(words, at, depth + 1, imported));
                }
                let next = Statement {
                    line: 0,
                    words: Vec::new(),
                    block: None,
                };
                let whole = std::mem::replace(&mut current, next);
                if !whole.words.is_empty() || whole.block.is_some() {
                    list.push(whole);
                }
            }
            "}" => {
                if depth > 0 {
                    return list;
                }
                imported.leave(*line, "a } that closes nothing");
            }
            word => {
                if current.words.is_empty() {
                    current.line = *line;
                }
                current.words.push(word.to_owned());
            }
        }
    }
    if !current.words.is_empty() {
        imported.leave(current.line, format!("no ; ends it: {}", current.shown()));
    }
    list
}

/// Goes through a configuration. What concerns no machine and no network is no one's loss: only these are listed.
fn walk(statements: &[Statement], group: Option<&str>, imported: &mut Imported) {
    for statement in statements {
        let block = statement.block.as_deref();
        let head = statement
            .words
            .first()
            .map(|word| word.to_ascii_lowercase());
        match (head.as_deref(), block) {
            (Some("host"), Some(block)) => host(statement, block, group, imported),
            (Some("group"), Some(block)) => {
                let name = statement.words.get(1).map(|name| unquoted(name));
                walk(block, name.or(group), imported);
            }
            (Some("subnet"), Some(block)) => {
                subnet(statement, block, imported);
                walk(block, group, imported);
            }
            (Some("shared-network" | "pool"), Some(block)) => walk(block, group, imported),
            (
                Some(
                    "subnet6" | "class" | "subclass" | "key" | "zone" | "failover" | "if" | "elsif"
                    | "else",
                ),
                Some(_),
            ) => {
                imported.leave(
                    statement.line,
                    format!("not taken over: {}", statement.shown()),
                );
            }
            (Some("include"), None) => imported.leave(
                statement.line,
                format!("{}: import that file, too", statement.shown()),
            ),
            _ => {}
        }
    }
}

fn host(statement: &Statement, block: &[Statement], group: Option<&str>, imported: &mut Imported) {
    let mut found = Found {
        line: statement.line,
        name: statement
            .words
            .get(1)
            .map(|name| unquoted(name).to_owned())
            .unwrap_or_default(),
        groups: group.map(str::to_owned).into_iter().collect(),
        ..Found::default()
    };
    for inner in block {
        if let Some(mac) = inner.value(&["hardware", "ethernet"]) {
            match mac.parse::<Mac>() {
                Ok(mac) => found.macs.push(mac),
                Err(error) => {
                    return imported.leave(inner.line, format!("{}: {error}", found.name));
                }
            }
        } else if let Some(ip) = inner.value(&["fixed-address"]) {
            match ip.parse::<IpAddr>() {
                Ok(ip) => found.ip = Some(ip),
                Err(_) => {
                    return imported.leave(
                        inner.line,
                        format!("{}: {ip:?} is a name, and no address", found.name),
                    );
                }
            }
            for more in &inner.words[2..] {
                imported.leave(
                    inner.line,
                    format!("{}: the second address {more}", found.name),
                );
            }
        } else if !inner.starts(&["option", "host-name"]) {
            imported.leave(inner.line, format!("{}: {}", found.name, inner.shown()));
        }
    }
    imported.machines.push(found);
}

fn subnet(statement: &Statement, block: &[Statement], imported: &mut Imported) {
    let net = match &statement.words[..] {
        [_, net, mask, bits] if mask == "netmask" => {
            let net = net.parse().ok().zip(bits.parse().ok());
            net.and_then(|(net, mask)| Ipv4Net::with_netmask(net, mask).ok())
        }
        _ => None,
    };
    let Some(net) = net else {
        return imported.leave(statement.line, format!("no network: {}", statement.shown()));
    };
    let mut keys: Vec<(&'static str, Value)> = Vec::new();
    let mut ranges = Vec::new();
    network_options(block, &mut keys, &mut ranges);
    if !ranges.is_empty() {
        keys.push(("range", Value::Array(ranges)));
    }
    imported.networks.push(FoundNetwork {
        line: statement.line,
        net: IpNet::V4(net.trunc()),
        keys,
    });
}

fn network_options(
    block: &[Statement],
    keys: &mut Vec<(&'static str, Value)>,
    ranges: &mut Vec<Value>,
) {
    for inner in block {
        let all = |from: usize| {
            Value::Array(
                inner.words[from..]
                    .iter()
                    .map(|word| unquoted(word).into())
                    .collect(),
            )
        };
        if let Some(router) = inner.value(&["option", "routers"]) {
            keys.push(("router", router.into()));
        } else if inner.starts(&["option", "domain-name-servers"]) {
            keys.push(("dns", all(2)));
        } else if inner.starts(&["option", "ntp-servers"]) {
            keys.push(("ntp", all(2)));
        } else if let Some(domain) = inner.value(&["option", "domain-name"]) {
            keys.push(("domain", domain.into()));
        } else if let Some(server) = inner.value(&["next-server"]) {
            keys.push(("next-server", server.into()));
        } else if inner.starts(&["range"]) {
            let ips: Vec<&String> = inner.words[1..]
                .iter()
                .filter(|word| word.parse::<IpAddr>().is_ok())
                .collect();
            if let Some(first) = ips.first() {
                let last = ips.get(1).unwrap_or(first);
                ranges.push(format!("{first}-{last}").into());
            }
        } else if let (true, Some(pool)) = (inner.starts(&["pool"]), &inner.block) {
            network_options(pool, keys, ranges);
        }
    }
}

/// Of several leases of an address the last one counts (dhcpd.leases(5)).
fn lease_statements(statements: &[Statement], imported: &mut Imported) {
    let mut last: HashMap<IpAddr, usize> = HashMap::new();
    for (at, statement) in statements.iter().enumerate() {
        if let Some(ip) = statement.value(&["lease"]).and_then(|ip| ip.parse().ok()) {
            last.insert(ip, at);
        }
    }
    let mut places: Vec<(usize, IpAddr)> = last.into_iter().map(|(ip, at)| (at, ip)).collect();
    places.sort_unstable();
    for (at, ip) in places {
        let statement = &statements[at];
        let block = statement.block.as_deref().unwrap_or_default();
        let get = |words: &[&str]| block.iter().find_map(|inner| inner.value(words));
        let state = get(&["binding", "state"]).unwrap_or("active");
        if state != "active" {
            imported.leave(statement.line, format!("the lease of {ip} is {state}"));
            continue;
        }
        match get(&["hardware", "ethernet"]).map(str::parse::<Mac>) {
            Some(Ok(mac)) => imported.machines.push(Found {
                line: statement.line,
                name: get(&["client-hostname"]).map_or_else(|| name_of(ip), str::to_owned),
                macs: vec![mac],
                ip: Some(ip),
                ..Found::default()
            }),
            _ => imported.leave(
                statement.line,
                format!("the lease of {ip} names no network card"),
            ),
        }
    }
}
