//! What holds for one machine: its layers, merged key by key, each value with the place that gave it.

use crate::fleet::{Fleet, Machine};
use crate::keys::{self, Kind};
use crate::problem::Problem;
use crate::written::Section;
use pitstop_power::{Power, Target};
use pitstop_protocol::job::is_secret;
use std::collections::BTreeMap;
use std::fmt;
use toml::Value;

/// So many machines of a BMC are named.
const TOLD: usize = 5;

/// Who gave a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layer {
    pub kind: Kind,
    /// Empty of `base`.
    pub name: String,
}

impl fmt::Display for Layer {
    /// As its header in the file: `base`, `group.lab3`, `network."192.168.1.0/24"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Server => "server",
            Kind::Base => "base",
            Kind::Network => "network",
            Kind::Group => "group",
            Kind::Host => "host",
            Kind::Ip => "ip",
        };
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let text = if self.name.is_empty() {
            kind.to_owned()
        } else if self.name.chars().all(bare) {
            format!("{kind}.{}", self.name)
        } else {
            format!("{kind}.{:?}", self.name)
        };
        f.pad(&text)
    }
}

/// One effective setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    pub value: Value,
    pub layer: Layer,
    /// From 1, in the fleet file.
    pub line: usize,
}

impl Machine {
    /// Whether it is one of the machines of a range.
    pub fn is_of_range(&self) -> bool {
        self.count > 0
    }
}

impl Setting {
    /// The value as it may be shown: of secrets that there is one.
    pub fn shown(&self, key: &str) -> Value {
        if is_secret(key) {
            Value::String("(secret)".into())
        } else {
            self.value.clone()
        }
    }
}

impl Fleet {
    /// Every setting of a machine by its key: what the host file takes, what a network says, and what it is known by.
    pub fn settings(&self, machine: &Machine) -> BTreeMap<&str, Setting> {
        let mut settings = BTreeMap::new();
        for (kind, section) in self.layers(machine) {
            merge(&mut settings, kind, section, machine);
        }
        settings
    }

    /// One setting, without making all of them.
    pub fn setting(&self, machine: &Machine, key: &str) -> Option<Setting> {
        let layers = self.layers(machine);
        layers.into_iter().rev().find_map(|(kind, section)| {
            let key = section.key(key)?;
            Some(setting(kind, section, key, machine))
        })
    }

    /// How a machine is switched: what its layers say, else by Wake-on-LAN.
    ///
    /// # Errors
    /// What a range fills in makes no such setting. The others were checked when the file was read.
    pub fn power(&self, machine: &Machine) -> Result<Power, String> {
        let Some(setting) = self.setting(machine, "power") else {
            return Ok(Power::default());
        };
        Power::parse(&setting.value).map_err(|what| {
            format!(
                "{}, line {}: key \"power\": {what}",
                self.file, setting.line
            )
        })
    }

    /// BMCs that are said to be of several machines: an order to the one would switch the others.
    pub fn shared_bmcs(&self) -> Vec<Problem> {
        let mut bmcs: BTreeMap<String, Vec<(usize, &str)>> = BTreeMap::new();
        for machine in &self.machines {
            let line = self.setting(machine, "power").map(|found| found.line);
            let bmc = self.power(machine).ok().and_then(|power| power.bmc());
            if let (Some(line), Some(bmc)) = (line, bmc) {
                bmcs.entry(bmc).or_default().push((line, &machine.name));
            }
        }
        bmcs.retain(|_, of| of.len() > 1);
        let told = bmcs.into_iter().map(|(bmc, of)| {
            let names: Vec<&str> = of.iter().map(|(_, name)| *name).take(TOLD).collect();
            let more = if of.len() > TOLD { ", …" } else { "" };
            let what = format!(
                "the BMC {bmc} is said to be of {} machines ({}{more}): who switches one of them switches another",
                of.len(),
                names.join(", ")
            );
            Problem::at(of.last().map_or(0, |(line, _)| *line), what)
        });
        told.collect()
    }

    /// What switches a machine has to know of it.
    pub fn power_target(&self, machine: &Machine) -> Target {
        let network = machine.network.and_then(|at| self.networks.get(at));
        Target {
            name: machine.name.clone(),
            macs: machine.macs.clone(),
            ip: machine.ip,
            network: network.map(|network| network.net),
        }
    }

    /// The kernel parameters of a machine, empty for none.
    pub fn kernel_args(&self, machine: &Machine) -> String {
        let setting = self.setting(machine, "kernel-args");
        let text = setting.and_then(|setting| setting.value.as_str().map(str::to_owned));
        text.unwrap_or_default()
    }
}

fn merge<'a>(
    settings: &mut BTreeMap<&'a str, Setting>,
    kind: Kind,
    section: &'a Section,
    machine: &Machine,
) {
    for key in &section.keys {
        // Which names are a group's and how many of it work at once is said of the group, not of a machine.
        if kind == Kind::Group && kind.own_keys().contains(&key.name.as_str()) {
            continue;
        }
        settings.insert(&key.name, setting(kind, section, key, machine));
    }
}

fn setting(kind: Kind, section: &Section, key: &crate::written::Key, machine: &Machine) -> Setting {
    let value = if kind == Kind::Host && machine.count > 0 {
        keys::at_index(&key.value, machine.count, machine.index)
    } else {
        key.value.clone()
    };
    Setting {
        value,
        layer: Layer {
            kind,
            name: section.name.clone(),
        },
        line: key.line,
    }
}
