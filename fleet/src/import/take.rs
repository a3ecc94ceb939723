//! From what other files have to changes of a fleet file: each machine whole, or not at all and with the reason.

use super::reserved::Reserved;
use super::{Found, Imported, NotTaken};
use crate::edit::{Editor, Target};
use crate::fleet::{Fleet, Identity, Machine};
use crate::keys;
use ipnet::{IpNet, Ipv4Net};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use toml::Value;

/// What came of an import.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Names of machines that are new.
    pub added: Vec<String>,
    /// Names of machines that were there, just so.
    pub there: Vec<String>,
    /// Networks that are new; of those that the file does not tell, only the address was known.
    pub networks: Vec<String>,
    pub guessed: Vec<String>,
    /// Networks that were there, and whose range is cut around addresses of machines that are new.
    pub cut: BTreeSet<String>,
    /// In the order of the lines.
    pub not_taken: Vec<NotTaken>,
}

/// Puts into `editor`, whose text is `fleet`'s, what is new of `imported`.
///
/// # Errors
/// Something in the file stands where a section should be.
pub fn take(fleet: &Fleet, imported: Imported, editor: &mut Editor) -> Result<Report, String> {
    let mut taking = Taking {
        nets: fleet.networks.iter().map(|network| network.net).collect(),
        reserved: Reserved::of(fleet),
        cuts: imported.is_server,
        seen: HashMap::new(),
        groups: fleet
            .groups
            .iter()
            .map(|group| group.name.clone())
            .collect(),
        fleet,
        editor,
        report: Report {
            not_taken: imported.not_taken,
            ..Report::default()
        },
    };
    for network in &imported.networks {
        taking.network(network)?;
    }
    for found in imported.machines {
        if let Err(what) = taking.machine(&found)? {
            let line = found.line;
            taking.report.not_taken.push(NotTaken { line, what });
        }
    }
    let mut report = taking.report;
    report.not_taken.sort_by_key(|left| left.line);
    Ok(report)
}

struct Taking<'a> {
    fleet: &'a Fleet,
    editor: &'a mut Editor,
    nets: Vec<IpNet>,
    reserved: Reserved,
    /// Whether ranges are cut around the addresses of machines.
    cuts: bool,
    /// What machines of this import are known by, and their lines.
    seen: HashMap<String, usize>,
    groups: HashSet<String>,
    report: Report,
}

impl Taking<'_> {
    fn network(&mut self, network: &super::FoundNetwork) -> Result<(), String> {
        if self.nets.contains(&network.net) {
            return Ok(());
        }
        if let Some(other) = overlapping(&self.nets, network.net) {
            let what = format!(
                "the network {} overlaps {other} of the fleet file",
                network.net
            );
            self.report.not_taken.push(NotTaken {
                line: network.line,
                what,
            });
            return Ok(());
        }
        let target = Target::Network(network.net);
        self.editor.make(&target)?;
        for (key, value) in &network.keys {
            // What the file would not take is left out key by key: the network is worth having.
            if fits(network.net, key, value) {
                self.editor.set(&target, key, value)?;
                self.reserved.note(network.net, key, value);
            } else {
                let what = format!("{key} = {value} of {}", network.net);
                self.report.not_taken.push(NotTaken {
                    line: network.line,
                    what,
                });
            }
        }
        // Its server gives that to nobody either.
        let router = network.keys.iter().find(|(key, _)| *key == "router");
        if let Some(Ok(router)) = router.map(|(_, value)| keys::address(value)) {
            self.cut(router)?;
        }
        self.nets.push(network.net);
        if network.is_guess {
            self.report.guessed.push(network.net.to_string());
        } else {
            self.report.networks.push(network.net.to_string());
        }
        Ok(())
    }

    /// Takes an address out of the range that it lies in. Returns the network, if its range is another one now.
    fn cut(&mut self, ip: IpAddr) -> Result<Option<IpNet>, String> {
        let Some((net, left)) = self.reserved.cut(ip) else {
            return Ok(None);
        };
        let target = Target::Network(net);
        if left.is_empty() {
            self.editor.unset(&target, "range");
        } else {
            let left = left.into_iter().map(Value::String).collect();
            self.editor.set(&target, "range", &Value::Array(left))?;
        }
        Ok(Some(net))
    }

    /// The inner error says why the machine is not taken.
    fn machine(&mut self, found: &Found) -> Result<Result<(), String>, String> {
        let name = plain(&found.name);
        if let Err(what) = keys::name(&name) {
            return Ok(Err(what));
        }
        if found.macs.is_empty()
            && found.ip.is_none()
            && found.uuid.is_none()
            && found.serial.is_none()
        {
            return Ok(Err(format!("{name}: nothing tells which machine it is")));
        }
        match self.known(found, &name) {
            Ok(true) => {
                self.report.there.push(name);
                return Ok(Ok(()));
            }
            Ok(false) => {}
            Err(what) => return Ok(Err(what)),
        }
        let guess = match found.ip.map(|ip| self.place(ip)).transpose() {
            Ok(guess) => guess.flatten(),
            Err(what) => return Ok(Err(format!("{name}: {what}"))),
        };
        if let Some(other) = self.twice(found, &name) {
            return Ok(Err(other));
        }
        if self.cuts
            && let Some(ip) = found.ip
            && let Some(net) = self.cut(ip)?
            && self.fleet.networks.iter().any(|there| there.net == net)
        {
            self.report.cut.insert(net.to_string());
        }
        if let Some(net) = guess {
            self.editor.make(&Target::Network(net))?;
            self.nets.push(net);
            self.report.guessed.push(net.to_string());
        }
        self.write(found, &name)?;
        self.report.added.push(name);
        Ok(Ok(()))
    }

    /// Whether the fleet has this machine already. One that differs is an error.
    fn known(&self, found: &Found, name: &str) -> Result<bool, String> {
        let of = |machine: &Machine, what: String| {
            format!(
                "{name}: {what} that of {} in {}, line {}",
                machine.name, self.fleet.file, machine.line
            )
        };
        if let Some(machine) = self.fleet.named(name) {
            let same_cards = found.macs.iter().all(|mac| machine.macs.contains(mac));
            let same_ip = found.ip.is_none() || found.ip == machine.ip;
            return if same_cards && same_ip {
                Ok(true)
            } else {
                Err(of(machine, "its name is".into()))
            };
        }
        let by = |who: Identity, what: String| match self.fleet.find(&who) {
            Some(machine) => Err(of(machine, what)),
            None => Ok(()),
        };
        for mac in &found.macs {
            by(
                Identity {
                    macs: vec![*mac],
                    ..Identity::default()
                },
                format!("its MAC {mac} is"),
            )?;
        }
        by(
            Identity {
                ip: found.ip,
                ..Identity::default()
            },
            "its address is".into(),
        )?;
        by(
            Identity {
                uuid: found.uuid,
                ..Identity::default()
            },
            "its UUID is".into(),
        )?;
        by(
            Identity {
                serial: found.serial.clone(),
                ..Identity::default()
            },
            "its serial number is".into(),
        )?;
        Ok(false)
    }

    /// Notes what the machine is known by; if another of this file is known by it, says so.
    fn twice(&mut self, found: &Found, name: &str) -> Option<String> {
        let names = [
            Some(name.to_ascii_lowercase()),
            found.ip.map(|ip| ip.to_string()),
            found.uuid.map(|uuid| uuid.to_string()),
            found
                .serial
                .as_ref()
                .map(|serial| format!("serial {serial}")),
        ];
        let macs = found.macs.iter().map(ToString::to_string);
        let all: Vec<String> = names.into_iter().flatten().chain(macs).collect();
        for (at, word) in all.iter().enumerate() {
            if let Some(line) = self.seen.get(word) {
                return Some(format!(
                    "{name}: {word} is of the machine in line {line} already"
                ));
            }
            if all[..at].contains(word) {
                return Some(format!("{name}: it has {word} twice"));
            }
        }
        self.seen
            .extend(all.into_iter().map(|word| (word, found.line)));
        None
    }

    /// Checks an address; `Some` is the network that has to be made for it.
    fn place(&self, ip: IpAddr) -> Result<Option<IpNet>, String> {
        if self.reserved.is_router(ip) {
            return Err(format!("the address {ip} is a router's"));
        }
        if let Some((first, last)) = self.reserved.pool(ip)
            && !(self.cuts && ip.is_ipv4())
        {
            return Err(format!(
                "the address {ip} is in {first}-{last}, which is for machines that nobody named"
            ));
        }
        if let Some(net) = self.nets.iter().find(|net| net.contains(&ip)) {
            if crate::fleet::usable(*net, ip) {
                return Ok(None);
            }
            return Err(format!("the address {ip} is all machines' in {net}"));
        }
        let IpAddr::V4(v4) = ip else {
            return Err(format!(
                "the address {ip} is in no network of the fleet file"
            ));
        };
        // Nothing tells the mask: most networks of a lab are of this size, and the command says so.
        let net = Ipv4Net::new(v4, 24)
            .map(|net| IpNet::V4(net.trunc()))
            .map_err(|error| error.to_string())?;
        match overlapping(&self.nets, net) {
            None if crate::fleet::usable(net, ip) => Ok(Some(net)),
            _ => Err(format!(
                "the address {ip} is in no network of the fleet file"
            )),
        }
    }

    fn write(&mut self, found: &Found, name: &str) -> Result<(), String> {
        let target = Target::Host(name.to_owned());
        self.editor.make(&target)?;
        let list =
            |words: Vec<String>| Value::Array(words.into_iter().map(Value::String).collect());
        let mut set = |key: &str, value: Value| self.editor.set(&target, key, &value);
        if !found.macs.is_empty() {
            set(
                "mac",
                list(found.macs.iter().map(ToString::to_string).collect()),
            )?;
        }
        if let Some(ip) = found.ip {
            set("ip", ip.to_string().into())?;
        }
        if let Some(uuid) = found.uuid {
            set("uuid", uuid.to_string().into())?;
        }
        if let Some(serial) = &found.serial {
            set("serial", serial.as_str().into())?;
        }
        for (key, value) in &found.keys {
            set(key, value.clone())?;
        }
        let groups: Vec<String> = found
            .groups
            .iter()
            .map(|group| plain(group))
            .filter(|group| keys::name(group).is_ok())
            .collect();
        if !groups.is_empty() {
            set("groups", list(groups.clone()))?;
        }
        for group in groups {
            if self.groups.insert(group.clone()) {
                self.editor.make(&Target::Group(group))?;
            }
        }
        Ok(())
    }
}

/// Whether a network takes a key with this value.
fn fits(net: IpNet, key: &str, value: &Value) -> bool {
    let text = format!("version = 1\n[network.\"{net}\"]\n{key} = {value}\n");
    Fleet::parse(text.as_bytes(), "").is_ok()
}

fn overlapping(nets: &[IpNet], net: IpNet) -> Option<IpNet> {
    nets.iter()
        .find(|other| other.contains(&net) || net.contains(*other))
        .copied()
}

/// A name without the dot at its end, and with dashes for blanks and underscores: what other programs let pass.
fn plain(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    text.replace([' ', '_'], "-")
}
