//! sslbootmgr's `clients.conf`: `!client-N name mac ip`, `!kernel-N file`, `!nfsroot-N folder`, `!option-N parameters`.

use super::{Found, Imported, NotTaken, short};
use crate::Mac;
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(super) fn read(text: &str) -> Imported {
    let mut imported = Imported::default();
    let mut clients: BTreeMap<u32, Found> = BTreeMap::new();
    let mut options: Vec<(usize, u32, String)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (directive, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let client = directive.strip_prefix('!').and_then(|word| {
            let (kind, client) = word.rsplit_once('-')?;
            Some((kind, client.parse::<u32>().ok()?))
        });
        match client {
            Some(("client", client)) => match machine(number, rest) {
                Ok(found) if clients.contains_key(&client) => {
                    let first = clients[&client].line;
                    imported.leave(
                        number,
                        format!(
                            "{}: client {client} stands in line {first} already",
                            found.name
                        ),
                    );
                }
                Ok(found) => {
                    clients.insert(client, found);
                }
                Err(what) => imported.leave(number, what),
            },
            Some(("option", client)) => options.push((number, client, rest.trim().to_owned())),
            Some(("kernel", _)) => imported.leave(
                number,
                format!("the kernel {}: Pitstop boots its own", short(rest)),
            ),
            Some(("nfsroot", _)) => imported.leave(
                number,
                format!(
                    "the NFS root {}: a machine runs from its own disk",
                    short(rest)
                ),
            ),
            _ => imported.leave(number, format!("not understood: {}", short(line))),
        }
    }
    for (line, client, words) in options {
        match clients.get_mut(&client) {
            Some(_) if words.is_empty() => {}
            Some(found) => found.keys.push(("kernel-args".into(), words.into())),
            None => imported.leave(
                line,
                format!("parameters of client {client}, which is not taken"),
            ),
        }
    }
    imported.machines = clients.into_values().collect();
    imported.machines.sort_by_key(|found| found.line);
    imported
}

fn machine(line: usize, rest: &str) -> Result<Found, String> {
    let words: Vec<&str> = rest.split_whitespace().collect();
    let [name, mac, ip] = words[..] else {
        return Err(format!(
            "a client has a name, a MAC and an address: {}",
            short(rest)
        ));
    };
    let mac: Mac = mac.parse().map_err(|error| format!("{name}: {error}"))?;
    let ip: IpAddr = ip
        .parse()
        .map_err(|_| format!("{name}: {ip:?} is not an IP address"))?;
    Ok(Found {
        line,
        name: name.to_owned(),
        macs: vec![mac],
        ip: Some(ip),
        ..Found::default()
    })
}

pub(super) fn scheme_map(text: &str, imported: &mut Imported) -> Vec<NotTaken> {
    let mut left = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut leave = |what: String| left.push(NotTaken { line: at + 1, what });
        let [ip, partitioner, after, image] = words[..] else {
            leave(format!(
                "a line has address, partitioner, script and image: {}",
                short(line)
            ));
            continue;
        };
        let address = ip.parse::<IpAddr>().ok();
        match imported
            .machines
            .iter_mut()
            .find(|found| address.is_some() && found.ip == address)
        {
            Some(found) => {
                found.keys.push(("image".into(), image.into()));
                leave(format!(
                    "the scripts {partitioner} and {after} of {ip}: an image brings its partitions and boot loader"
                ));
            }
            None => leave(format!("no client has the address {ip}")),
        }
    }
    left
}
