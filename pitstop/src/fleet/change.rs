//! `pitstop fleet add`, `set` and `remove`: changes by command, refused where the file would not check.

use super::file::FleetFile;
use crate::host::Root;
use anyhow::{anyhow, bail};
use pitstop_fleet::edit::{self, Editor, Target};
use pitstop_fleet::{Fleet, Kind, Selector};
use toml::Value;

const ADD_EXAMPLES: &str = "\
Examples:
  pitstop fleet add desk7 --mac 52:54:00:12:34:56 --ip 192.168.1.20 --group windows
  pitstop fleet add 'lab3-[01-40]' --mac '52:54:00:00:01:[01-40]' --ip '192.168.1.[101-140]' image=golden";

#[derive(clap::Args)]
#[command(after_help = ADD_EXAMPLES)]
pub struct Add {
    /// Its name; lab3-[01-40] are forty
    name: String,
    /// A card's address; may be repeated
    #[arg(long, value_name = "MAC")]
    mac: Vec<String>,
    /// Its address
    #[arg(long, value_name = "IP")]
    ip: Option<String>,
    /// The firmware's UUID
    #[arg(long, value_name = "UUID")]
    uuid: Option<String>,
    /// The firmware's serial number
    #[arg(long, value_name = "SERIAL")]
    serial: Option<String>,
    /// A group it belongs to; may be repeated
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// More keys: those of the host file, power and kernel-args
    #[arg(value_name = "KEY=VALUE")]
    keys: Vec<String>,
    #[command(flatten)]
    root: Root,
}

const SET_EXAMPLES: &str = "\
Examples:
  pitstop fleet set lab3-07 image=golden-7 attempts=5
  pitstop fleet set @lab3 'match=lab3-*' 'disks=[{ serial = \"QM00001\" }]'
  pitstop fleet set 192.168.1.0/24 router=192.168.1.1 dns=192.168.1.1,192.168.1.2
  pitstop fleet set --base failure-delay=1m
  pitstop fleet set desk7 --unset image";

#[derive(clap::Args)]
#[command(after_help = SET_EXAMPLES)]
pub struct Set {
    /// A machine's name, @GROUP, a network (192.168.1.0/24) or an address; group, network and address are made if missing
    #[arg(required_unless_present = "base")]
    target: Option<String>,
    /// What to set
    #[arg(value_name = "KEY=VALUE")]
    keys: Vec<String>,
    /// The settings of every machine
    #[arg(long)]
    base: bool,
    /// Drop a key; may be repeated
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
    #[command(flatten)]
    pub(super) root: Root,
}

#[derive(clap::Args)]
#[command(after_help = "Example:\n  pitstop fleet remove desk7 desk8")]
pub struct Remove {
    /// Names of machines, or a range as it stands in the file
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    pub(super) root: Root,
}

pub fn add(args: &Add) -> anyhow::Result<String> {
    let file = FleetFile::at(&args.root);
    let target = Target::Host(args.name.clone());
    let mut keys: Vec<(String, Value)> = Vec::new();
    if !args.mac.is_empty() {
        let macs = args.mac.iter().map(|mac| Value::from(mac.as_str()));
        keys.push(("mac".into(), Value::Array(macs.collect())));
    }
    for (key, value) in [
        ("ip", &args.ip),
        ("uuid", &args.uuid),
        ("serial", &args.serial),
    ] {
        keys.extend(
            value
                .as_ref()
                .map(|value| (key.into(), Value::from(value.as_str()))),
        );
    }
    if !args.groups.is_empty() {
        let groups = args.groups.iter().map(|group| Value::from(group.as_str()));
        keys.push(("groups".into(), Value::Array(groups.collect())));
    }
    for text in &args.keys {
        keys.push(key_value(Kind::Host, text)?);
    }
    file.change(|text| {
        let mut editor = Editor::new(text, &file.name())?;
        if editor.has(&target) {
            bail!(
                "{} is in {} already: pitstop fleet set changes it",
                args.name,
                file.name()
            );
        }
        editor.make(&target).map_err(|what| anyhow!(what))?;
        for (key, value) in &keys {
            editor
                .set(&target, key, value)
                .map_err(|what| anyhow!(what))?;
        }
        Ok((editor.text(), ()))
    })?;
    Ok(format!("{} is in {}\n", args.name, file.name()))
}

pub fn set(args: &Set) -> anyhow::Result<String> {
    let file = FleetFile::at(&args.root);
    // With --base all words are keys.
    let (target, words) = match (&args.target, args.base) {
        (target, true) => (None, target.iter().chain(&args.keys)),
        (target, false) => (target.as_deref(), None.iter().chain(&args.keys)),
    };
    let words: Vec<&String> = words.collect();
    if words.is_empty() && args.unset.is_empty() && target.is_none() {
        bail!("nothing is to be set: write KEY=VALUE");
    }
    let changed = file.change(|text| {
        let fleet = file.parse(text.as_bytes())?;
        let target = match target {
            None => Target::Base,
            Some(word) => target_of(&fleet, word)?,
        };
        let mut editor = Editor::new(text, &file.name())?;
        editor.make(&target).map_err(|what| anyhow!(what))?;
        for word in words {
            let (key, value) = key_value(target.kind(), word)?;
            editor
                .set(&target, &key, &value)
                .map_err(|what| anyhow!(what))?;
        }
        for key in &args.unset {
            if !editor.unset(&target, key) {
                bail!("{} has no {key} in {}", target.layer(), file.name());
            }
        }
        Ok((editor.text(), target.layer()))
    })?;
    Ok(format!("{changed} is set in {}\n", file.name()))
}

pub fn remove(args: &Remove) -> anyhow::Result<String> {
    let file = FleetFile::at(&args.root);
    file.bytes()?;
    file.change(|text| {
        let fleet = file.parse(text.as_bytes())?;
        let mut editor = Editor::new(text, &file.name())?;
        for name in &args.names {
            let target = host(&fleet, name)?;
            editor.remove(&target);
        }
        Ok((editor.text(), ()))
    })?;
    Ok(format!(
        "{} is out of {}\n",
        args.names.join(", "),
        file.name()
    ))
}

/// The section that a word of a command line means.
fn target_of(fleet: &Fleet, word: &str) -> anyhow::Result<Target> {
    let Ok(selector) = word.parse::<Selector>();
    Ok(match selector {
        Selector::Group(name) => Target::Group(name),
        Selector::Network(net) => Target::Network(net),
        Selector::Address(ip) => Target::Ip(ip),
        Selector::Pattern(_) | Selector::Name(_) | Selector::Mac(_) | Selector::Uuid(_) => {
            host(fleet, word)?
        }
    })
}

/// The section of a machine, or the range that is written like `word`.
fn host(fleet: &Fleet, word: &str) -> anyhow::Result<Target> {
    let ranges = fleet
        .machines
        .iter()
        .map(|machine| fleet.section_name(machine));
    if let Some(range) = ranges.into_iter().find(|name| *name == word) {
        return Ok(Target::Host(range.to_owned()));
    }
    let machines = fleet.select(&pitstop_fleet::selectors(&[word]))?;
    let [machine] = machines[..] else {
        bail!(
            "{word} is not one machine but {}: name them one by one, or their group",
            machines.len()
        );
    };
    let section = fleet.section_name(machine);
    if machine.is_of_range() {
        let by_address = machine.ip.map_or_else(String::new, |ip| {
            format!(", or this one alone with pitstop fleet set {ip} KEY=VALUE")
        });
        bail!(
            "{} is one of {section} in {}, line {}: change them all as '{section}'{by_address}",
            machine.name,
            fleet.file,
            machine.line
        );
    }
    Ok(Target::Host(section.to_owned()))
}

fn key_value(kind: Kind, word: &str) -> anyhow::Result<(String, Value)> {
    let (key, text) = word
        .split_once('=')
        .ok_or_else(|| anyhow!("{word:?} sets nothing: write KEY=VALUE"))?;
    let value = edit::value(kind, key.trim(), text.trim()).map_err(|what| anyhow!(what))?;
    Ok((key.trim().to_owned(), value))
}
