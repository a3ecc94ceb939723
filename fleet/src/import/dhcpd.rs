//! ISC dhcpd: `dhcpd.conf`, and its leases, which are written in the same way.

use super::{Found, FoundNetwork, Imported, name_of, short, unquoted};
use crate::identity;
use ipnet::{IpNet, Ipv4Net};
use std::collections::HashMap;
use std::net::IpAddr;
use toml::Value;

/// Blocks lie in each other less deep than this.
const DEEPEST: usize = 32;

/// A statement up to its `;`, or a block's head and what is in it.
#[derive(Default)]
struct Statement {
    line: usize,
    /// Words; of texts with their quotation marks.
    words: Vec<String>,
    block: Option<Vec<Statement>>,
    /// The block has an end: else the file was cut off in it.
    whole: bool,
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
    let (statements, _) = statements(&words, &mut at, 0, &mut imported);
    if leases {
        lease_statements(&statements, &mut imported);
    } else {
        walk(&statements, None, &Outer::default(), &mut imported);
    }
    imported
}

/// What holds in the blocks of a block, too (dhcpd.conf(5), "scopes").
#[derive(Default, Clone)]
struct Outer {
    keys: Vec<(&'static str, Value)>,
    /// Addresses are for machines alone that the file names.
    is_closed: bool,
}

impl Outer {
    /// What holds within these statements.
    fn with(&self, statements: &[Statement]) -> Self {
        let mut keys: Vec<_> = statements.iter().filter_map(option).collect();
        for (key, value) in &self.keys {
            if keys.iter().all(|(own, _)| own != key) {
                keys.push((key, value.clone()));
            }
        }
        Self {
            keys,
            is_closed: self.is_closed || statements.iter().any(closes),
        }
    }
}

/// Whether strangers get no address where this stands.
fn closes(statement: &Statement) -> bool {
    ["deny", "ignore"]
        .iter()
        .any(|word| statement.starts(&[word, "unknown-clients"]))
}

/// Whether not everybody gets an address of the pool where this stands.
fn chooses(statement: &Statement) -> bool {
    let is_open = ["unknown-clients", "all"]
        .iter()
        .any(|who| statement.starts(&["allow", who]))
        // About BOOTP, which fails where two servers share a pool.
        || ["allow", "deny"].iter().any(|word| statement.starts(&[word, "dynamic"]));
    closes(statement) || !is_open && (statement.starts(&["allow"]) || statement.starts(&["deny"]))
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
) -> (Vec<Statement>, bool) {
    let mut list = Vec::new();
    let mut current = Statement::default();
    while let Some((line, word)) = words.get(*at) {
        *at += 1;
        match word.as_str() {
            ";" | "{" => {
                if word == "{" && depth >= DEEPEST {
                    imported.leave(*line, "blocks lie too deep in each other");
                } else if word == "{" {
                    let (block, whole) = statements(words, at, depth + 1, imported);
                    current.block = Some(block);
                    current.whole = whole;
                }
                let done = std::mem::take(&mut current);
                if !done.words.is_empty() || done.block.is_some() {
                    list.push(done);
                }
            }
            "}" => {
                if depth > 0 {
                    return (list, true);
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
    (list, depth == 0)
}

/// Goes through a configuration. What concerns no machine and no network is no one's loss: only these are listed.
fn walk(statements: &[Statement], group: Option<&str>, outer: &Outer, imported: &mut Imported) {
    let outer = &outer.with(statements);
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
                walk(block, name.or(group), outer, imported);
            }
            (Some("subnet"), Some(block)) => {
                subnet(statement, block, outer, imported);
                walk(block, group, outer, imported);
            }
            (Some("shared-network" | "pool"), Some(block)) => walk(block, group, outer, imported),
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
            (Some("option"), None) if statement.starts(&["option", "routers"]) => {
                for more in statement.words.iter().skip(3) {
                    imported.leave(statement.line, format!("the second router {more}"));
                }
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
    if !statement.whole {
        let what = format!("{}: the file ends in the middle of it", statement.shown());
        return imported.leave(statement.line, what);
    }
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
            match identity::mac(&padded(mac)) {
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
    if found.macs.is_empty() {
        let what = format!("{}: it names no network card of Ethernet", found.name);
        return imported.leave(statement.line, what);
    }
    imported.machines.push(found);
}

/// dhcpd takes a byte of one digit.
fn padded(mac: &str) -> String {
    let bytes: Vec<String> = mac.split(':').map(|byte| format!("{byte:0>2}")).collect();
    bytes.join(":")
}

fn subnet(statement: &Statement, block: &[Statement], outer: &Outer, imported: &mut Imported) {
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
    let Outer {
        mut keys,
        is_closed,
    } = outer.with(block);
    let mut ranges = Vec::new();
    ranges_of(block, is_closed, &mut ranges, imported);
    if !ranges.is_empty() {
        keys.push(("range", Value::Array(ranges)));
    }
    imported.networks.push(FoundNetwork {
        line: statement.line,
        net: IpNet::V4(net.trunc()),
        is_guess: false,
        keys,
    });
}

/// A key of the fleet file for a statement.
fn option(statement: &Statement) -> Option<(&'static str, Value)> {
    let all = || {
        let words = statement.words.iter().skip(2);
        Value::Array(words.map(|word| unquoted(word).into()).collect())
    };
    let first = |key, words: &[&str]| statement.value(words).map(|value| (key, value.into()));
    if statement.starts(&["option", "domain-name-servers"]) {
        Some(("dns", all()))
    } else if statement.starts(&["option", "ntp-servers"]) {
        Some(("ntp", all()))
    } else {
        first("router", &["option", "routers"])
            .or_else(|| first("domain", &["option", "domain-name"]))
            .or_else(|| first("next-server", &["next-server"]))
    }
}

/// Addresses that the server gives to everybody. Those for some alone are told: nobody else is to have one.
fn ranges_of(
    block: &[Statement],
    is_closed: bool,
    ranges: &mut Vec<Value>,
    imported: &mut Imported,
) {
    for inner in block {
        if let (true, Some(pool)) = (inner.starts(&["pool"]), &inner.block) {
            for own in pool.iter().filter(|it| option(it).is_some()) {
                imported.leave(own.line, format!("of a pool alone: {}", own.shown()));
            }
            ranges_of(
                pool,
                is_closed || pool.iter().any(chooses),
                ranges,
                imported,
            );
        }
        if !inner.starts(&["range"]) {
            continue;
        }
        if is_closed {
            let what = format!("these addresses are not for everybody: {}", inner.shown());
            imported.leave(inner.line, what);
            continue;
        }
        let ips: Vec<&String> = inner.words[1..]
            .iter()
            .filter(|word| word.parse::<IpAddr>().is_ok())
            .collect();
        if let Some(first) = ips.first() {
            let last = ips.get(1).unwrap_or(first);
            ranges.push(format!("{first}-{last}").into());
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
        if !statement.whole {
            imported.leave(statement.line, format!("the lease of {ip} is cut off"));
            continue;
        }
        let get = |words: &[&str]| block.iter().find_map(|inner| inner.value(words));
        let state = get(&["binding", "state"]).unwrap_or("active");
        if state != "active" {
            imported.leave(statement.line, format!("the lease of {ip} is {state}"));
            continue;
        }
        match get(&["hardware", "ethernet"]).map(identity::mac) {
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
