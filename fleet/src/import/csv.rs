//! Tables: any CSV with a header, and FOG's export of hosts, which has none.

use super::{Found, Imported, short};
use crate::Mac;
use crate::edit;
use crate::identity;
use crate::keys::Kind;
use ::csv::{ReaderBuilder, StringRecord};
use std::net::IpAddr;

/// What heads a column, in small letters, and the key it stands for.
const COLUMNS: [(&str, &[&str]); 6] = [
    (
        "name",
        &[
            "name",
            "hostname",
            "host",
            "computer",
            "machine",
            "host name",
        ],
    ),
    (
        "mac",
        &[
            "mac",
            "macs",
            "mac address",
            "primac",
            "primary mac",
            "ethernet",
            "hwaddr",
        ],
    ),
    ("ip", &["ip", "address", "ip address", "ipaddress", "ipv4"]),
    ("uuid", &["uuid", "system uuid", "smbios uuid"]),
    ("serial", &["serial", "serial number", "serialnumber"]),
    ("groups", &["groups", "group"]),
];

fn records(text: &str, imported: &mut Imported) -> Vec<(usize, StringRecord)> {
    let first = text.lines().next().unwrap_or_default();
    let delimiter = [b',', b';', b'\t']
        .into_iter()
        .max_by_key(|delimiter| first.bytes().filter(|byte| byte == delimiter).count())
        .unwrap_or(b',');
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .trim(::csv::Trim::All)
        .from_reader(text.as_bytes());
    let line = |position: Option<&::csv::Position>| {
        position.map_or(0, |place| usize::try_from(place.line()).unwrap_or(0))
    };
    let mut records = Vec::new();
    for record in reader.records() {
        match record {
            Ok(record) => records.push((line(record.position()), record)),
            Err(error) => imported.leave(line(error.position()), error.to_string()),
        }
    }
    records
}

/// `00:11:…|66:77:…`, or with blanks, commas or semicolons.
fn macs(text: &str) -> Result<Vec<Mac>, String> {
    let words = text
        .split(['|', ';', ',', ' '])
        .filter(|word| !word.is_empty());
    words.map(identity::mac).collect()
}

pub(super) fn with_header(text: &str) -> Result<Imported, String> {
    let mut imported = Imported::default();
    let records = records(text, &mut imported);
    let mut records = records.into_iter();
    let (_, header) = records.next().ok_or("it is empty")?;
    let known: Vec<Option<String>> = header.iter().map(column).collect();
    let has = |key: &str| known.iter().flatten().any(|known| known == key);
    if !has("name") && !has("mac") {
        return Err(format!(
            "its first line is no header with a name or a mac: {}",
            short(&header.iter().collect::<Vec<_>>().join(", "))
        ));
    }
    for (name, known) in header.iter().zip(&known) {
        if known.is_none() {
            imported.leave(
                1,
                format!("the column {name:?}: no key of a machine is called so"),
            );
        }
    }
    for (line, record) in records {
        match row(line, &record, &known) {
            Ok(found) => imported.machines.push(found),
            Err(what) => imported.leave(line, what),
        }
    }
    Ok(imported)
}

/// The key that a column is for.
fn column(head: &str) -> Option<String> {
    let small = head.to_lowercase().replace('_', " ");
    let known = COLUMNS
        .iter()
        .find(|(_, names)| names.contains(&small.as_str()));
    let key = small.replace(' ', "-");
    known
        .map(|(key, _)| (*key).to_owned())
        .or_else(|| Kind::Host.keys().any(|known| known == key).then_some(key))
}

fn row(line: usize, record: &StringRecord, columns: &[Option<String>]) -> Result<Found, String> {
    let mut found = Found {
        line,
        ..Found::default()
    };
    for (value, key) in record.iter().zip(columns) {
        let Some(key) = key else { continue };
        if value.is_empty() {
            continue;
        }
        match key.as_str() {
            "name" => value.clone_into(&mut found.name),
            "mac" => found.macs = macs(value)?,
            "ip" => {
                found.ip = Some(
                    value
                        .parse()
                        .map_err(|_| format!("{value:?} is not an IP address"))?,
                );
            }
            "uuid" => found.uuid = Some(identity::uuid(value)?),
            "serial" => found.serial = Some(value.to_owned()),
            "groups" => {
                found.groups = value
                    .split([';', '|', ' ', ','])
                    .filter(|word| !word.is_empty())
                    .map(str::to_owned)
                    .collect();
            }
            key => found
                .keys
                .push((key.to_owned(), edit::value(Kind::Host, key, value)?)),
        }
    }
    if found.name.is_empty() {
        found.name = match (found.ip, found.macs.first()) {
            (Some(ip), _) => super::name_of(ip),
            (None, Some(mac)) => format!("host-{}", mac.dashed()),
            (None, None) => return Err("a line without name, mac and ip".into()),
        };
    }
    Ok(found)
}

/// FOG's export of hosts: MACs, name, description, address, and columns of FOG's own.
pub(super) fn fog(text: &str) -> Imported {
    let mut imported = Imported::default();
    for (line, record) in records(text, &mut imported) {
        let first = record.get(0).unwrap_or_default();
        if line == 1 && macs(first).is_err() && column(first).is_some() {
            // A header: such exports tell by themselves what is where.
            return match with_header(text) {
                Ok(imported) => imported,
                Err(what) => {
                    imported.leave(1, what);
                    imported
                }
            };
        }
        let name = record.get(1).unwrap_or_default();
        match macs(first) {
            Ok(macs) if !macs.is_empty() && !name.is_empty() => imported.machines.push(Found {
                line,
                name: name.to_owned(),
                macs,
                ip: record
                    .iter()
                    .skip(2)
                    .take(2)
                    .find_map(|word| word.parse::<IpAddr>().ok()),
                ..Found::default()
            }),
            Ok(_) => imported.leave(line, "a host has a MAC and a name"),
            Err(what) => imported.leave(line, what),
        }
    }
    if !imported.machines.is_empty() {
        imported.leave(
            1,
            "descriptions, images and tasks of FOG: machines alone are taken",
        );
    }
    imported
}
