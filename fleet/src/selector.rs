//! Which machines are meant: a name, an address, a MAC, `@group`, a network, a pattern, or several of them.

use crate::Mac;
use crate::fleet::{Fleet, Identity, Machine};
use crate::problem::nearest;
use crate::range::{BadRange, Pattern};
use ipnet::IpNet;
use pitstop_protocol::host_name::Uuid;
use std::convert::Infallible;
use std::net::IpAddr;
use std::str::FromStr;

/// One word of a selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    Address(IpAddr),
    Mac(Mac),
    Uuid(Uuid),
    Network(IpNet),
    Group(String),
    /// With `*`, `?` or a range in it.
    Pattern(String),
    /// A machine's name, or its serial number.
    Name(String),
}

impl FromStr for Selector {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if let Some(group) = text.strip_prefix('@') {
            Self::Group(group.to_owned())
        } else if let Ok(ip) = text.parse::<IpAddr>() {
            Self::Address(ip)
        } else if let Ok(net) = text.parse::<IpNet>() {
            Self::Network(net.trunc())
        } else if let Ok(mac) = text.parse::<Mac>() {
            Self::Mac(mac)
        } else if Pattern::is_one(text) {
            Self::Pattern(text.to_owned())
        } else if let (36, Some(uuid)) = (text.len(), Uuid::parse(text)) {
            Self::Uuid(uuid)
        } else {
            Self::Name(text.to_owned())
        })
    }
}

impl Selector {
    /// Whether it may mean more than one machine.
    pub fn is_of_several(&self) -> bool {
        matches!(self, Self::Network(_) | Self::Group(_) | Self::Pattern(_))
    }
}

/// A selector that fits no machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoMachine {
    #[error("no machine is named {name}{}", meant(.near.as_ref()))]
    Name { name: String, near: Option<String> },
    #[error("there is no group {name}{}", meant(.near.as_ref()))]
    Group { name: String, near: Option<String> },
    #[error("no machine is in the group {0}")]
    Empty(String),
    #[error("no machine has {0}")]
    Identity(String),
    #[error("no machine is in {0}")]
    Network(IpNet),
    #[error("no machine's name fits {0}")]
    Pattern(String),
    #[error(transparent)]
    Range(#[from] BadRange),
}

fn meant(near: Option<&String>) -> String {
    near.map_or_else(String::new, |near| format!(": did you mean {near}?"))
}

/// Splits words at commas: `lab3-01,lab3-02 @lab4`.
pub fn selectors<S: AsRef<str>>(words: &[S]) -> Vec<Selector> {
    words
        .iter()
        .flat_map(|word| word.as_ref().split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(|word| match word.parse() {
            Ok(selector) => selector,
            Err(never) => match never {},
        })
        .collect()
}

impl Fleet {
    /// The machines that are meant, each once, in the file's order.
    ///
    /// # Errors
    /// The first selector that fits no machine: a mistyped one must not be taken for an empty lab.
    pub fn select(&self, selectors: &[Selector]) -> Result<Vec<&Machine>, NoMachine> {
        let mut chosen = vec![false; self.machines.len()];
        for selector in selectors {
            self.choose(selector, &mut chosen)?;
        }
        let machines = self.machines.iter().zip(chosen);
        Ok(machines
            .filter(|(_, chosen)| *chosen)
            .map(|(machine, _)| machine)
            .collect())
    }

    fn choose(&self, selector: &Selector, chosen: &mut [bool]) -> Result<(), NoMachine> {
        let mut where_ = |fits: &dyn Fn(&Machine) -> bool, none: NoMachine| {
            let mut any = false;
            for (machine, chosen) in self.machines.iter().zip(chosen.iter_mut()) {
                if fits(machine) {
                    *chosen = true;
                    any = true;
                }
            }
            any.then_some(()).ok_or(none)
        };
        let identity = |who: Identity| self.find(&who).map(|machine| machine.name.as_str());
        match selector {
            Selector::Address(ip) => where_(
                &|machine| machine.ip == Some(*ip),
                NoMachine::Identity(format!("the address {ip}")),
            ),
            Selector::Mac(mac) => where_(
                &|machine| machine.macs.contains(mac),
                NoMachine::Identity(format!("the MAC {mac}")),
            ),
            Selector::Uuid(uuid) => {
                let found = identity(Identity {
                    uuid: Some(*uuid),
                    ..Identity::default()
                });
                where_(
                    &|machine| found == Some(&machine.name),
                    NoMachine::Identity(format!("the UUID {uuid}")),
                )
            }
            Selector::Network(net) => where_(
                &|machine| machine.ip.is_some_and(|ip| net.contains(&ip)),
                NoMachine::Network(*net),
            ),
            Selector::Group(name) => {
                let names = self.groups.iter().map(|group| group.name.as_str());
                let group = self.group(name).ok_or_else(|| NoMachine::Group {
                    name: name.clone(),
                    near: nearest(name, names).map(str::to_owned),
                })?;
                where_(
                    &|machine| machine.groups.contains(&group),
                    NoMachine::Empty(name.clone()),
                )
            }
            Selector::Pattern(text) => {
                let pattern = Pattern::new(text)?;
                where_(
                    &|machine| pattern.fits(&machine.name),
                    NoMachine::Pattern(text.clone()),
                )
            }
            Selector::Name(name) => {
                let found = self
                    .named(name)
                    .map(|machine| machine.name.as_str())
                    .or_else(|| {
                        identity(Identity {
                            serial: Some(name.clone()),
                            ..Identity::default()
                        })
                    });
                let near = || {
                    let names = self.machines.iter().map(|machine| machine.name.as_str());
                    nearest(name, names).map(str::to_owned)
                };
                match found {
                    Some(found) => where_(
                        &|machine| machine.name == found,
                        NoMachine::Identity(name.clone()),
                    ),
                    None => Err(NoMachine::Name {
                        name: name.clone(),
                        near: near(),
                    }),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LAB: &str = "version = 1\n[network.\"10.0.0.0/24\"]\n[network.\"10.0.1.0/24\"]\n[group.lab]\nmatch = \"lab-*\"\n\
        [group.empty]\n[host.\"lab-[1-3]\"]\nip = \"10.0.0.[11-13]\"\nmac = \"52:54:00:00:00:[11-13]\"\n\
        [host.other]\nip = \"10.0.1.9\"\nuuid = \"00112233-4455-6677-8899-aabbccddeeff\"\nserial = \"PF123\"\n";

    fn select(words: &[&str]) -> Result<Vec<String>, String> {
        let fleet = Fleet::parse(LAB.as_bytes(), "fleet.toml").unwrap();
        let machines = fleet.select(&selectors(words)).map_err(|e| e.to_string())?;
        Ok(machines
            .into_iter()
            .map(|machine| machine.name.clone())
            .collect())
    }

    #[test]
    fn machines_are_named_in_every_way() {
        let all = ["lab-1", "lab-2", "lab-3"].map(str::to_owned).to_vec();
        for words in [
            &["@lab"][..],
            &["lab-*"],
            &["10.0.0.0/24"],
            &["lab-[1-3]"],
            &["lab-3,lab-1", "LAB-2"],
        ] {
            assert_eq!(select(words), Ok(all.clone()), "{words:?}");
        }
        for word in [
            "other",
            "10.0.1.9",
            "PF123",
            "00112233-4455-6677-8899-aabbccddeeff",
            "33221100-5544-7766-8899-AABBCCDDEEFF",
        ] {
            assert_eq!(select(&[word]), Ok(vec!["other".into()]), "{word}");
        }
        assert_eq!(select(&["52-54-00-00-00-12"]), Ok(vec!["lab-2".into()]));
    }

    #[test]
    fn what_fits_nothing_is_told() {
        for (word, error) in [
            ("lab-9", "no machine is named lab-9: did you mean lab-1?"),
            ("@lba", "there is no group lba: did you mean lab?"),
            ("@empty", "no machine is in the group empty"),
            ("10.0.0.99", "no machine has the address 10.0.0.99"),
            ("10.9.0.0/16", "no machine is in 10.9.0.0/16"),
            ("x*", "no machine's name fits x*"),
        ] {
            assert_eq!(select(&["@lab", word]), Err(error.into()), "{word}");
        }
    }

    proptest! {
        #[test]
        fn any_word_is_read_without_panic(word in "[@a-z0-9.:/*\\[\\]-]{0,20}") {
            let _ = select(&[&word]);
        }
    }
}
