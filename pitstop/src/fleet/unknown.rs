//! Machines that were sent to say what they are: listed, and named.

use super::file::FleetFile;
use super::say;
use crate::host::Root;
use anyhow::{Context, anyhow, bail};
use pitstop_fleet::edit::{Editor, Target};
use pitstop_fleet::{Fleet, Mac, Uuid};
use pitstop_imaging::inventory::DiskIdentity;
use pitstop_imaging::units;
use pitstop_payload::execute::record;
use pitstop_protocol::host_name::printable;
use pitstop_protocol::machine::folder;
use pitstop_server::unknown::{self, Enrolled};
use pitstop_transport::share::DirectoryShare;
use serde_json::json;
use std::net::IpAddr;
use std::path::Path;
use toml::Value;

/// The inventory that a machine leaves: far more than its head needs.
const LARGEST: u64 = 1 << 20;

#[derive(clap::Args)]
#[command(after_help = "Examples:
  pitstop fleet adopt 52:54:00:12:34:56 desk8
  pitstop fleet adopt 52:54:00:12:34:56 desk8 @front @windows")]
pub struct Adopt {
    /// A card of a machine that pitstop fleet list --unknown lists
    mac: Mac,
    /// Its name from now on
    name: String,
    /// Groups that it belongs to
    #[arg(value_name = "@GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    root: Root,
}

/// A machine, and what it said of itself.
struct Known {
    enrolled: Enrolled,
    uuid: Option<Uuid>,
    serial: String,
    model: String,
    macs: Vec<Mac>,
    disks: Vec<DiskIdentity>,
}

/// The machines that wait for a name. One that has one already, by hand, does not.
fn waiting(root: &Root, fleet: Option<&Fleet>) -> anyhow::Result<Vec<Known>> {
    let enrolled = unknown::list(&root.path)?;
    let known = enrolled.into_iter().map(|one| known(&root.path, one));
    let nameless = known.filter(|one| {
        let who = pitstop_fleet::Identity {
            macs: one.macs.clone(),
            ..pitstop_fleet::Identity::default()
        };
        fleet.is_none_or(|fleet| fleet.find(&who).is_none())
    });
    Ok(nameless.collect())
}

/// What the share has of it. A record that is of another machine, or cannot be read, says nothing.
fn known(root: &Path, enrolled: Enrolled) -> Known {
    let mac = enrolled.mac.parse::<Mac>().ok();
    let own = enrolled.ip.map(folder);
    let share = DirectoryShare::open(&root.join("share")).ok();
    let record = share
        .zip(own.as_ref())
        .and_then(|(share, own)| record::read(&share, own).ok());
    let record = record.unwrap_or_default();
    let last = record.machines.last().cloned().unwrap_or_default();
    let macs: Vec<Mac> = last
        .macs
        .iter()
        .filter_map(|mac| mac.parse().ok())
        .collect();
    let its = mac.is_some_and(|mac| macs.contains(&mac));
    if !its {
        return Known {
            uuid: enrolled.uuid.as_deref().and_then(Uuid::parse),
            enrolled,
            serial: String::new(),
            model: String::new(),
            macs: mac.into_iter().collect(),
            disks: Vec::new(),
        };
    }
    let model = own.and_then(|own| model(&root.join("share").join(own).join("testbox-info.txt")));
    Known {
        uuid: Uuid::parse(&last.uuid).or(enrolled.uuid.as_deref().and_then(Uuid::parse)),
        enrolled,
        serial: last.serial,
        model: model.unwrap_or_default(),
        macs,
        disks: record.disks,
    }
}

/// Maker and product, as the inventory has them of the whole system.
fn model(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut text = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(LARGEST).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let (_, system) = text.split_once("System (type 1,")?;
    let section = system
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with(' '));
    let words: Vec<&str> = section
        .filter_map(|line| {
            let (key, value) = line.trim().split_once(": ")?;
            matches!(key, "Manufacturer" | "Product").then_some(value.trim())
        })
        .collect();
    (!words.is_empty()).then(|| words.join(" "))
}

pub fn list(root: &Root, as_json: bool) -> anyhow::Result<()> {
    let fleet = FleetFile::at(root).read_if_there()?;
    let machines = waiting(root, fleet.as_ref())?;
    if as_json {
        let values: Vec<serde_json::Value> = machines.iter().map(value).collect();
        let text = serde_json::to_string_pretty(&values).context("writing JSON")?;
        return say(&(text + "\n"));
    }
    if machines.is_empty() {
        return say("no machine waits for a name\n");
    }
    let rows: Vec<[String; 5]> = machines.iter().map(row).collect();
    say(&pitstop_server::set::columns(
        &["MAC", "ADDRESS", "MODEL", "SERIAL", "DISKS"],
        &rows,
    ))
}

fn row(one: &Known) -> [String; 5] {
    let disks = one.disks.iter().map(|disk| {
        let size = units::bytes(disk.size);
        printable(&format!("{} {} {size}", disk.device, disk.model))
    });
    [
        one.enrolled.mac.clone(),
        one.enrolled
            .ip
            .map_or_else(|| "-".into(), |ip| ip.to_string()),
        printable(&one.model),
        printable(&one.serial),
        disks.collect::<Vec<_>>().join("; "),
    ]
}

fn value(one: &Known) -> serde_json::Value {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "mac": one.enrolled.mac,
        "macs": one.macs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "ip": one.enrolled.ip.map(|ip| ip.to_string()),
        "uuid": one.uuid.map(|uuid| uuid.to_string()),
        "serial": text(&one.serial),
        "model": text(&one.model),
        "disks": one.disks,
        "seen": one.enrolled.seen.to_string(),
    })
}

/// Puts a machine that waits into the fleet file, under a name. Nothing else in it changes.
pub fn adopt(args: &Adopt) -> anyhow::Result<String> {
    let file = FleetFile::at(&args.root);
    let target = Target::Host(args.name.clone());
    let groups = args
        .groups
        .iter()
        .map(|group| {
            let name = group.strip_prefix('@').filter(|name| !name.is_empty());
            name.ok_or_else(|| anyhow!("{group:?} is no group: write @NAME"))
        })
        .collect::<anyhow::Result<Vec<&str>>>()?;
    let mac = args.mac.to_string();
    file.change(|text| {
        let fleet = file.parse(text.as_bytes())?;
        let machines = waiting(&args.root, Some(&fleet))?;
        let one = machines.iter().find(|one| one.enrolled.mac == mac);
        let Some(one) = one else {
            bail!(
                "{mac} is of no machine that waits for a name, or it did not say what it is: see pitstop fleet list --unknown; \
                 pitstop fleet add takes any"
            );
        };
        let mut editor = Editor::new(text, &file.name())?;
        if editor.has(&target) {
            bail!("{} is in {} already", args.name, file.name());
        }
        editor.make(&target).map_err(|what| anyhow!(what))?;
        for (key, value) in keys(one, &fleet, &groups) {
            editor.set(&target, key, &value).map_err(|what| anyhow!(what))?;
        }
        Ok((editor.text(), ()))
    })?;
    unknown::forget(&args.root.path, args.mac)?;
    Ok(format!(
        "{} is in {}; its jobs are set by that name\n",
        args.name,
        file.name()
    ))
}

fn keys(one: &Known, fleet: &Fleet, groups: &[&str]) -> Vec<(&'static str, Value)> {
    let texts = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
    let mut keys = vec![(
        "mac",
        texts(one.macs.iter().map(ToString::to_string).collect()),
    )];
    if let Some(ip) = one.enrolled.ip.filter(|ip| is_free(fleet, *ip)) {
        keys.push(("ip", Value::String(ip.to_string())));
    }
    keys.extend(
        one.uuid
            .map(|uuid| ("uuid", Value::String(uuid.to_string()))),
    );
    if !one.serial.is_empty() {
        keys.push(("serial", Value::String(one.serial.clone())));
    }
    if !groups.is_empty() {
        let groups = groups.iter().map(|group| (*group).to_owned());
        keys.push(("groups", texts(groups.collect())));
    }
    keys
}

/// Whether the machine may keep the address it had: one of a network, that no range gives to others and nobody has.
fn is_free(fleet: &Fleet, ip: IpAddr) -> bool {
    let network = fleet.network_of(ip).and_then(|at| fleet.networks.get(at));
    network.is_some_and(|network| {
        let pooled = network
            .pools
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&ip));
        !pooled && network.router != Some(ip)
    }) && fleet.machines.iter().all(|machine| machine.ip != Some(ip))
        && fleet.server.address != Some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_where_nobody_else_gives_it() {
        let text = "version = 1\n[network.\"10.0.2.0/24\"]\nrouter = \"10.0.2.1\"\nrange = \"10.0.2.100-10.0.2.199\"\n[host.a]\nip = \"10.0.2.7\"\n";
        let fleet = Fleet::parse(text.as_bytes(), "f").unwrap();
        for (ip, free) in [
            ("10.0.2.8", true),
            ("10.0.2.100", false),
            ("10.0.2.7", false),
            ("10.0.2.1", false),
            ("10.9.9.9", false),
        ] {
            assert_eq!(is_free(&fleet, ip.parse().unwrap()), free, "{ip}");
        }
    }
}
