//! Addresses that were lent, and the file that keeps them over a restart.

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use pitstop_protocol::host_name::Mac;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::Path;

/// Beside `fleet.toml` under the root.
pub const FILE: &str = "leases.toml";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Kept for a client until it is known that nobody has it.
    Probed,
    /// Kept for a client that has not taken it up.
    Offered,
    Lent,
    /// Somebody has it who did not get it here.
    Taken,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whose it is or was.
    pub mac: Mac,
    /// What the client calls itself.
    pub name: Option<String>,
    pub state: State,
    pub until: Timestamp,
}

impl Lease {
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until <= now
    }
}

/// Every address that is not simply free. One that ran out is remembered: its client gets the same again.
#[derive(Debug, Default)]
pub struct Leases(BTreeMap<Ipv4Addr, Lease>);

/// The file.
#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lease: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    ip: Ipv4Addr,
    mac: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// RFC 3339.
    until: String,
}

impl Leases {
    /// What the file under `root` keeps; nothing if there is none yet.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let path = root.join(FILE);
        let act = || {
            format!(
                "reading {}, the addresses that DHCP has lent: mend it, or remove it if machines may change theirs",
                path.display()
            )
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).with_context(act),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(act),
        }
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let written: Written = toml::from_str(text)?;
        let mut leases = BTreeMap::new();
        for entry in written.lease {
            let wrong = || format!("the lease of {}", entry.ip);
            let lease = Lease {
                mac: entry.mac.parse().with_context(wrong)?,
                until: entry.until.parse().with_context(wrong)?,
                name: entry.name.filter(|name| pitstop_fleet::is_name(name)),
                state: State::Lent,
            };
            leases.insert(entry.ip, lease);
        }
        Ok(Self(leases))
    }

    /// What is lent, as the file has it.
    pub fn text(&self) -> String {
        let lent = self
            .0
            .iter()
            .filter(|(_, lease)| lease.state == State::Lent);
        let entry = |(ip, lease): (&Ipv4Addr, &Lease)| Entry {
            ip: *ip,
            mac: lease.mac.to_string(),
            name: lease.name.clone(),
            until: lease.until.to_string(),
        };
        let written = Written {
            lease: lent.map(entry).collect(),
        };
        let entries = toml::to_string(&written).unwrap_or_default();
        format!(
            "# Written by pitstop serve --dhcp server: the addresses that it has lent.\n{entries}"
        )
    }

    pub fn get(&self, ip: Ipv4Addr) -> Option<&Lease> {
        self.0.get(&ip)
    }

    /// Whose `ip` was or is, if it was lent.
    pub fn former(&self, ip: Ipv4Addr) -> Option<Mac> {
        let lease = self.0.get(&ip)?;
        (lease.state == State::Lent).then_some(lease.mac)
    }

    /// The address among `ips` that this client has or had.
    pub fn of(&self, mac: Mac, ips: RangeInclusive<Ipv4Addr>) -> Option<Ipv4Addr> {
        let its =
            |(_, lease): &(&Ipv4Addr, &Lease)| lease.mac == mac && lease.state != State::Taken;
        let found = self.0.range(ips).filter(its);
        found
            .max_by_key(|(_, lease)| lease.until)
            .map(|(ip, _)| *ip)
    }

    /// Whether nobody has `ip` now but perhaps this client.
    pub fn is_free(&self, ip: Ipv4Addr, mac: Mac, now: Timestamp) -> bool {
        self.0.get(&ip).is_none_or(|lease| {
            lease.is_over(now) || (lease.mac == mac && lease.state != State::Taken)
        })
    }

    pub fn set(&mut self, ip: Ipv4Addr, lease: Lease) {
        self.0.insert(ip, lease);
    }

    /// The client gives `ip` back. It stays remembered as its.
    pub fn release(&mut self, ip: Ipv4Addr, mac: Mac, now: Timestamp) -> bool {
        match self.0.get_mut(&ip) {
            Some(lease) if lease.mac == mac && lease.state == State::Lent => {
                lease.until = now;
                true
            }
            _ => false,
        }
    }

    /// What was only kept for this client is free again.
    pub fn forget_offers(&mut self, mac: Mac) {
        self.0.retain(|_, lease| {
            lease.mac != mac || matches!(lease.state, State::Lent | State::Taken)
        });
    }
}

/// So many seconds after `now`.
pub fn after(now: Timestamp, seconds: u64) -> Timestamp {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    now.saturating_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

/// Puts the file in place in one step. Returns when it is on the disk.
pub fn write(root: &Path, text: &str) -> anyhow::Result<()> {
    let path = root.join(FILE);
    let outcome = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(root)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        // The file's new name is the folder's.
        File::open(root)?.sync_all()
    };
    outcome().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);
    const OTHER: Mac = Mac([0x52, 0x54, 0, 1, 2, 4]);

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    fn lent(mac: Mac, until: i64) -> Lease {
        Lease {
            mac,
            name: Some("pc".into()),
            state: State::Lent,
            until: Timestamp::from_second(until).unwrap(),
        }
    }

    #[test]
    fn what_is_lent_outlives_a_restart() {
        let root = tempfile::tempdir().unwrap();
        assert!(Leases::read(root.path()).unwrap().0.is_empty());
        let mut leases = Leases::default();
        leases.set(ip(5), lent(MAC, 1000));
        leases.set(
            ip(6),
            Lease {
                state: State::Offered,
                ..lent(OTHER, 1000)
            },
        );
        write(root.path(), &leases.text()).unwrap();
        let read = Leases::read(root.path()).unwrap();
        assert_eq!(read.0, BTreeMap::from([(ip(5), lent(MAC, 1000))]));
        std::fs::write(root.path().join(FILE), "[[lease]]\nip = \"10.0.0.5\"\n").unwrap();
        let error = format!("{:#}", Leases::read(root.path()).unwrap_err());
        assert!(
            error.contains("leases.toml") && error.contains("mac"),
            "{error}"
        );
    }

    #[test]
    fn a_client_finds_its_own_again_and_others_only_what_ran_out() {
        let mut leases = Leases::default();
        leases.set(ip(5), lent(MAC, 1000));
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!(leases.of(MAC, ip(0)..=ip(9)), Some(ip(5)));
        assert_eq!(leases.of(MAC, ip(6)..=ip(9)), None);
        assert!(leases.is_free(ip(5), MAC, at(1)) && !leases.is_free(ip(5), OTHER, at(999)));
        assert!(leases.is_free(ip(5), OTHER, at(1000)));
        assert!(!leases.release(ip(5), OTHER, at(10)) && leases.release(ip(5), MAC, at(10)));
        assert!(leases.is_free(ip(5), OTHER, at(10)));
        leases.set(
            ip(5),
            Lease {
                state: State::Taken,
                ..lent(MAC, 1000)
            },
        );
        assert!(!leases.is_free(ip(5), MAC, at(10)));
        assert_eq!(leases.of(MAC, ip(0)..=ip(9)), None);
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_panic(text in "(\\[\\[lease\\]\\]\n)?[a-z0-9 =\".:\n-]{0,80}") {
            let _ = Leases::parse(&text);
        }
    }
}
