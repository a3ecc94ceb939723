//! Which keys each layer takes, and what they mean.

use crate::problem::{Problem, nearest};
use crate::range::{Pattern, Range};
use crate::written::{Key, Section};
use pitstop_imaging::units::parse_duration;
use pitstop_power::Power;
use pitstop_protocol::job::{check_setting, setting_keys};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use toml::Value;

/// A kind of section. All but `Server` are layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Server,
    Base,
    Network,
    Group,
    Host,
    Ip,
}

/// Beside the host file's keys, in every layer.
const COMMON: [&str; 2] = ["kernel-args", "power"];

impl Kind {
    /// Keys of this kind alone.
    pub fn own_keys(self) -> &'static [&'static str] {
        match self {
            Kind::Server => &[
                "url",
                "address",
                "slots",
                "unknown",
                "loader-bios",
                "loader-efi-x64",
                "loader-efi-arm64",
                "loader-http-x64",
                "loader-http-arm64",
                "loader-ipxe",
            ],
            Kind::Network => &[
                "router",
                "dns",
                "domain",
                "range",
                "ntp",
                "next-server",
                "lease-time",
            ],
            Kind::Group => &["match", "slots"],
            Kind::Host => &["mac", "ip", "uuid", "serial", "groups"],
            Kind::Base | Kind::Ip => &[],
        }
    }

    /// Every key that a section of this kind takes.
    pub fn keys(self) -> impl Iterator<Item = &'static str> {
        let layers: (&[&str], &[&str]) = match self {
            Kind::Server => (&[], &[]),
            _ => (&COMMON, setting_keys()),
        };
        let all = [self.own_keys(), layers.0, layers.1];
        all.into_iter().flatten().copied()
    }
}

/// Checks keys; a value that was right once is right wherever it stands.
#[derive(Default)]
pub(crate) struct Checker(HashMap<String, Result<(), String>>);

impl Checker {
    /// Checks the keys that are no one kind's own: names, types and values.
    pub fn section(&mut self, kind: Kind, section: &Section, problems: &mut Vec<Problem>) {
        for key in &section.keys {
            if let Err(what) = self.key(kind, &key.name, &key.value) {
                problems.push(Problem::at(key.line, what));
            }
        }
    }

    pub fn key(&mut self, kind: Kind, name: &str, value: &Value) -> Result<(), String> {
        if kind.own_keys().contains(&name) {
            return Ok(());
        }
        if !kind.keys().any(|key| key == name) {
            return Err(unknown(kind, name, value));
        }
        let checked = match name {
            "kernel-args" => one_line(value).map(|_| ()),
            "power" if kind == Kind::Host => Power::parse(&first(value)).map(|_| ()),
            "power" => Power::parse(value).map(|_| ()),
            _ => self
                .0
                .entry(format!("{name}={value}"))
                .or_insert_with(|| check_setting(name, value))
                .clone(),
        };
        checked.map_err(|what| format!("key {name:?}: {what}"))
    }
}

fn unknown(kind: Kind, name: &str, value: &Value) -> String {
    if value.is_table() {
        return format!("unknown key {name:?}: a name with dots stands in quotation marks");
    }
    let elsewhere = [Kind::Server, Kind::Network, Kind::Group, Kind::Host]
        .into_iter()
        .find(|other| *other != kind && other.own_keys().contains(&name));
    if let Some(other) = elsewhere {
        return format!(
            "key {name:?} is of {}, not of {}",
            title(other),
            title(kind)
        );
    }
    if let Some(near) = nearest(name, kind.keys()) {
        return format!("unknown key {name:?}: did you mean {near:?}?");
    }
    let known: Vec<&str> = kind.keys().collect();
    format!("unknown key {name:?}: there are {}", known.join(", "))
}

fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Server => "[server]",
        Kind::Base => "[base]",
        Kind::Network => "a network",
        Kind::Group => "a group",
        Kind::Host => "a host",
        Kind::Ip => "an address",
    }
}

pub(crate) fn text(value: &Value) -> Result<&str, String> {
    let text = value
        .as_str()
        .ok_or_else(|| format!("it must be a text in quotation marks, not {}", of(value)))?;
    if text.is_empty() {
        return Err("it is empty: leave the key out".into());
    }
    Ok(text)
}

/// What goes into other programs' files as it is, or into a kernel's command line.
pub(crate) fn one_line(value: &Value) -> Result<&str, String> {
    let text = text(value)?;
    if text.chars().any(char::is_control) {
        return Err("it has a line end or another control character in it".into());
    }
    Ok(text)
}

/// A text, or a list of texts.
pub(crate) fn texts(value: &Value) -> Result<Vec<&str>, String> {
    match value {
        Value::Array(values) => values.iter().map(one_line).collect(),
        value => one_line(value).map(|text| vec![text]),
    }
}

pub(crate) fn count(value: &Value) -> Result<u32, String> {
    value
        .as_integer()
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("it must be a number from 1, not {value}"))
}

pub(crate) fn address(value: &Value) -> Result<IpAddr, String> {
    let text = text(value)?;
    text.parse()
        .map_err(|_| format!("{text:?} is not an IP address"))
}

pub(crate) fn addresses(value: &Value) -> Result<Vec<IpAddr>, String> {
    let read = |text: &str| {
        text.parse()
            .map_err(|_| format!("{text:?} is not an IP address"))
    };
    texts(value)?.into_iter().map(read).collect()
}

/// `192.168.1.150-192.168.1.199`, or a list of such.
pub(crate) fn pools(value: &Value) -> Result<Vec<(IpAddr, IpAddr)>, String> {
    let read = |text: &str| {
        let wrong = || format!("{text:?} is no range: write \"192.168.1.150-192.168.1.199\"");
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        let first: IpAddr = first.trim().parse().map_err(|_| wrong())?;
        let last: IpAddr = last.trim().parse().map_err(|_| wrong())?;
        if first.is_ipv4() != last.is_ipv4() || last < first {
            return Err(wrong());
        }
        Ok((first, last))
    };
    texts(value)?.into_iter().map(read).collect()
}

pub(crate) fn time(value: &Value) -> Result<Duration, String> {
    parse_duration(text(value)?)
}

pub(crate) fn patterns(value: &Value) -> Result<Vec<Pattern>, String> {
    let read = |text| Pattern::new(text).map_err(|error| error.to_string());
    texts(value)?.into_iter().map(read).collect()
}

/// Whether a machine or a group may be called `text`.
pub fn is_name(text: &str) -> bool {
    name(text).is_ok()
}

/// A name that DNS, DHCP servers, files and selectors all take: those refuse a whole lab for one name that they do not.
pub(crate) fn name(text: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{text:?} is no name: {why}"));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if text.is_empty() || text.len() > 253 {
        return wrong("a name has 1 to 253 letters");
    }
    if let Some(bad) = text.chars().find(|c| !plain(*c)) {
        return wrong(&format!("{bad:?} is no letter, digit, dash or dot"));
    }
    let part = |part: &str| {
        let edge = |c: char| c.is_ascii_alphanumeric();
        !part.is_empty() && part.len() <= 63 && part.starts_with(edge) && part.ends_with(edge)
    };
    if !text.split('.').all(part) {
        return wrong(
            "each part between dots has 1 to 63 letters, none of them a dash at its edge",
        );
    }
    if text.parse::<IpAddr>().is_ok() || crate::identity::mac(text).is_ok() {
        return wrong("it would be taken for an address");
    }
    Ok(())
}

/// What `value` says of the machine at `index` of a range of `count`: each text with a range of as many counts with it.
pub(crate) fn at_index(value: &Value, count: usize, index: usize) -> Value {
    match value {
        Value::String(text) => match Range::find(text) {
            Ok(Some(range)) if range.count() == count => Value::String(range.at(index)),
            _ => value.clone(),
        },
        Value::Array(values) => {
            let values = values.iter().map(|value| at_index(value, count, index));
            Value::Array(values.collect())
        }
        Value::Table(table) => {
            let items = table.iter();
            let items = items.map(|(key, value)| (key.clone(), at_index(value, count, index)));
            Value::Table(items.collect())
        }
        other => other.clone(),
    }
}

/// What `value` says of the first machine of a range: what is checked of all of them.
fn first(value: &Value) -> Value {
    match value {
        Value::String(text) => match Range::find(text) {
            Ok(Some(range)) => Value::String(range.at(0)),
            _ => value.clone(),
        },
        Value::Array(values) => Value::Array(values.iter().map(first).collect()),
        other => other.clone(),
    }
}

/// Checks that the ranges in a value of a range of machines are as long as it.
pub(crate) fn parallel(key: &Key, count: usize) -> Result<(), String> {
    fn check(value: &Value, count: usize) -> Result<(), String> {
        match value {
            Value::String(text) => match Range::find(text) {
                Ok(Some(range)) if range.count() != count => Err(format!(
                    "{text:?} stands for {}, the machines are {count}",
                    range.count()
                )),
                Err(error) => Err(error.to_string()),
                Ok(_) => Ok(()),
            },
            Value::Array(values) => values.iter().try_for_each(|value| check(value, count)),
            Value::Table(table) => table.values().try_for_each(|value| check(value, count)),
            _ => Ok(()),
        }
    }
    check(&key.value, count).map_err(|what| format!("key {:?}: {what}", key.name))
}

fn of(value: &Value) -> String {
    format!("{} {value}", value.type_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_told_with_what_was_meant() {
        let mut checker = Checker::default();
        let mut wrong = |kind, name, value: Value| checker.key(kind, name, &value).unwrap_err();
        let near = wrong(Kind::Base, "attempst", 3.into());
        assert_eq!(near, "unknown key \"attempst\": did you mean \"attempts\"?");
        let moved = wrong(Kind::Group, "mac", "x".into());
        assert_eq!(moved, "key \"mac\" is of a host, not of a group");
        let far = wrong(Kind::Network, "zebra", 1.into());
        assert!(
            far.contains("there are router, dns") && far.contains("attempts"),
            "{far}"
        );
        let dots = wrong(Kind::Host, "example", Value::Table(toml::Table::new()));
        assert!(dots.contains("quotation marks"), "{dots}");
        assert_eq!(
            wrong(Kind::Server, "attempts", 1.into()).split(':').next(),
            Some("unknown key \"attempts\"")
        );
    }

    #[test]
    fn values_are_those_of_the_host_file_and_of_power() {
        let mut checker = Checker::default();
        let mut check = |name, value: Value| checker.key(Kind::Base, name, &value);
        assert_eq!(check("attempts", 3.into()), Ok(()));
        assert_eq!(
            check("attempts", 0.into()).unwrap_err(),
            "key \"attempts\": it must be 1 or more"
        );
        for good in [
            "wol",
            "none",
            "ipmi://bmc",
            "redfish://bmc/redfish/v1/Systems/1",
        ] {
            assert_eq!(check("power", good.into()), Ok(()), "{good}");
        }
        assert_eq!(check("power", vec!["pdu", "on", "7"].into()), Ok(()));
        let mut of = |kind, text: &str| checker.key(kind, "power", &text.into());
        assert_eq!(of(Kind::Host, "ipmi://bmc-[01-40]"), Ok(()));
        assert!(of(Kind::Group, "ipmi://bmc-[01-40]").is_err());
        let mut check = |name, value: Value| checker.key(Kind::Base, name, &value);
        for bad in ["", "on", "ipmi://", "redfish://a b"] {
            assert!(
                check("power", bad.into())
                    .unwrap_err()
                    .contains("write \"wol\""),
                "{bad}"
            );
        }
        assert!(
            check("kernel-args", "a\nb".into())
                .unwrap_err()
                .contains("line end")
        );
    }

    #[test]
    fn names_are_fit_for_dns_and_for_selectors() {
        for good in ["lab3-01", "a", "host.lab.example", "a-b", "7"] {
            assert_eq!(name(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "a b",
            "a/b",
            "é",
            "a..b",
            "_x_y",
            "a_b",
            "@a",
            "1.2.3.4",
            "525400123456",
            "lab*",
        ] {
            assert!(name(bad).is_err(), "{bad}");
        }
        assert!(name(&"a".repeat(64)).is_err());
    }
}
