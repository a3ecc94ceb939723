//! Whose configuration a host file is: a machine can delete its own and nobody else's.

use crate::path::RelPath;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};

/// Machines that are remembered for one file; more than that is not a machine looking for its job.
const READERS: usize = 64;

/// What a host file's name says about whom it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owner {
    /// `C0A80132.toml`
    Address(IpAddr),
    /// `01-52-54-00-12-34-56.toml`
    Mac(String),
    /// `<uuid>.toml`, `<hostname>.toml`: the name tells nothing of the address.
    Reader(String),
    /// `default.toml`, `C0A801.toml`: several machines share it.
    Many,
}

/// Who read which host file since the server began.
#[derive(Debug, Default)]
pub struct Claims {
    readers: Mutex<HashMap<String, HashSet<IpAddr>>>,
}

impl Claims {
    /// Notes that `peer` fetched the host file at `path`.
    pub fn read_by(&self, path: &RelPath, peer: IpAddr) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let peers = readers.entry(path.as_str().to_owned()).or_default();
        if peers.len() == READERS {
            peers.clear();
        }
        peers.insert(peer);
    }

    /// Forgets a file that is gone.
    pub fn forget(&self, path: &RelPath) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.remove(path.as_str());
    }

    /// Whether `peer` may delete the host file at `path`; if not, why.
    ///
    /// The server's own machine may: an admin there could as well remove the file, and what runs behind
    /// its address, such as a VM on QEMU's user network, cannot be told apart.
    pub fn may_delete(&self, path: &RelPath, peer: IpAddr) -> Result<(), String> {
        let owner = owner(path);
        if owner == Owner::Many {
            return Err(format!(
                "{path} is for more than one machine: no machine deletes it"
            ));
        }
        if is_own_address(peer) {
            return Ok(());
        }
        let readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let has_read = |name: &str| readers.get(name).is_some_and(|peers| peers.contains(&peer));
        let allowed = match owner {
            Owner::Address(address) => address == peer,
            Owner::Mac(mac) => match neighbour(peer) {
                Some(known) => known == mac,
                // Behind a router there is no telling: that it looked for this name must do.
                None => has_read(path.as_str()),
            },
            Owner::Reader(name) => has_read(&name),
            Owner::Many => false,
        };
        if allowed {
            Ok(())
        } else {
            Err(format!("{path} is not the configuration of {peer}"))
        }
    }
}

/// The host file that a name stands for: the name itself, or, of a name made to probe
/// (`0A00020F.toml.probe`), the part up to `.toml`.
pub fn probed(path: &RelPath) -> Option<RelPath> {
    let (end, _) = path.as_str().match_indices(".toml").last()?;
    RelPath::from_text(&path.as_str()[..end + ".toml".len()]).ok()
}

fn owner(path: &RelPath) -> Owner {
    let name = path.split().map_or("", |(_, name)| name);
    let stem = name.strip_suffix(".toml").unwrap_or(name);
    let hex = !stem.is_empty()
        && stem.len() <= 8
        && stem.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
    if stem == "default" || (hex && stem.len() < 8) {
        return Owner::Many;
    }
    if hex && let Ok(bits) = u32::from_str_radix(stem, 16) {
        return Owner::Address(IpAddr::V4(bits.into()));
    }
    match stem.strip_prefix("01-") {
        Some(mac) if is_mac(mac) => Owner::Mac(mac.to_ascii_lowercase()),
        _ => Owner::Reader(path.as_str().to_owned()),
    }
}

/// Six pairs of hex digits with dashes.
fn is_mac(text: &str) -> bool {
    let mut pairs = text.split('-');
    let hex = |pair: &str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
    pairs.by_ref().take(6).filter(|pair| hex(pair)).count() == 6 && pairs.next().is_none()
}

/// Whether `peer` is this machine: only an address of its own can be bound.
fn is_own_address(peer: IpAddr) -> bool {
    peer.is_loopback() || UdpSocket::bind((peer, 0)).is_ok()
}

/// The MAC of a machine on the same wire, lower case with dashes, as the kernel's neighbour table has it.
fn neighbour(peer: IpAddr) -> Option<String> {
    neighbour_in(&std::fs::read_to_string("/proc/net/arp").ok()?, peer)
}

fn neighbour_in(table: &str, peer: IpAddr) -> Option<String> {
    /// `ATF_COM`: the entry is complete.
    const COMPLETE: u32 = 2;
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace();
        let address: IpAddr = columns.next()?.parse().ok()?;
        let flags = columns.nth(1)?.strip_prefix("0x")?;
        let mac = columns.next()?;
        let complete = u32::from_str_radix(flags, 16).ok()? & COMPLETE != 0;
        (address == peer && complete).then(|| mac.to_ascii_lowercase().replace(':', "-"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::from_text(text).unwrap()
    }

    #[test]
    fn a_machine_deletes_its_own_file_only() {
        let claims = Claims::default();
        // TEST-NET-3: never an address of the machine that runs the test.
        let peer: IpAddr = "203.0.113.9".parse().unwrap();
        assert_eq!(claims.may_delete(&path("CB007109.toml"), peer), Ok(()));
        assert_eq!(claims.may_delete(&path("CB007109"), peer), Ok(()));
        assert_eq!(
            claims.may_delete(&path("CB00710A.toml"), peer),
            Err("CB00710A.toml is not the configuration of 203.0.113.9".into())
        );
        for shared in ["default.toml", "CB0071.toml", "C.toml"] {
            let error = claims.may_delete(&path(shared), peer).unwrap_err();
            assert!(error.contains("more than one machine"), "{error}");
            let local = claims.may_delete(&path(shared), "127.0.0.1".parse().unwrap());
            assert_eq!(local, Err(error));
        }
    }

    #[test]
    fn behind_the_servers_own_address_any_machine_may_be() {
        let claims = Claims::default();
        for local in ["127.0.0.1", "127.9.9.9", "::1"] {
            let peer = local.parse().unwrap();
            assert_eq!(claims.may_delete(&path("0A00020F.toml"), peer), Ok(()));
        }
    }

    #[test]
    fn a_name_without_an_address_belongs_to_who_read_it() {
        let claims = Claims::default();
        let (peer, other) = (
            "203.0.113.9".parse().unwrap(),
            "203.0.113.10".parse().unwrap(),
        );
        for name in [
            "4c4c4544-0038.toml",
            "01-52-54-00-12-34-56.toml",
            "rack1/web.toml",
        ] {
            assert!(claims.may_delete(&path(name), peer).is_err(), "{name}");
            claims.read_by(&path(name), peer);
            assert_eq!(claims.may_delete(&path(name), peer), Ok(()), "{name}");
            assert!(claims.may_delete(&path(name), other).is_err(), "{name}");
            claims.forget(&path(name));
            assert!(claims.may_delete(&path(name), peer).is_err(), "{name}");
        }
    }

    #[test]
    fn the_neighbour_table_tells_macs() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     192.168.1.50     0x1         0x2         52:54:00:AB:cd:01     *        br0\n\
                     192.168.1.51     0x1         0x0         00:00:00:00:00:00     *        br0\n\
                     nonsense\n";
        let mac = |ip: &str| neighbour_in(table, ip.parse().unwrap());
        assert_eq!(mac("192.168.1.50").as_deref(), Some("52-54-00-ab-cd-01"));
        assert_eq!(mac("192.168.1.51"), None);
        assert_eq!(mac("192.168.1.52"), None);
    }

    #[test]
    fn probes_stand_for_the_file_they_are_made_of() {
        for (name, stands_for) in [
            ("0A00020F.toml.pitstop-probe", Some("0A00020F.toml")),
            ("0A00020F.toml", Some("0A00020F.toml")),
            ("a.toml.toml~", Some("a.toml.toml")),
            ("probe", None),
        ] {
            let probed = probed(&path(name));
            assert_eq!(probed.as_ref().map(RelPath::as_str), stands_for);
        }
        assert!(is_mac("52-54-00-12-34-56"));
        assert!(!is_mac("52-54-00-12-34") && !is_mac("52-54-00-12-34-56-78"));
    }
}
