//! Whose configuration a host file is: a machine can delete its own and nobody else's.

use crate::path::RelPath;
use crate::readers::Readers;
use pitstop_protocol::host_name::{HostName, Mac, SUFFIX, V4_DIGITS};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

/// What a host file's name says about whom it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owner {
    /// `C0A80132.toml`
    Address(IpAddr),
    /// `01-52-54-00-12-34-56.toml`
    Mac(Mac),
    /// `<uuid>.toml`, `<hostname>.toml`: the name tells nothing of the address.
    Reader,
    /// `default.toml`, `C0A801.toml`: several machines share it.
    Many,
}

/// Who may delete what. What a name does not tell, who read the file does.
#[derive(Debug)]
pub struct Claims {
    readers: Readers,
}

impl Claims {
    /// Who read a file is kept below `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            readers: Readers::new(root),
        }
    }

    /// Notes that `peer` fetched the host file at `path`. An error is that this will be forgotten with the server's end.
    pub fn read_by(&self, path: &RelPath, peer: IpAddr) -> io::Result<()> {
        match owner(path, peer) {
            Owner::Mac(_) | Owner::Reader => self.readers.add(path, peer),
            Owner::Address(_) | Owner::Many => Ok(()),
        }
    }

    /// Forgets a file that is gone.
    pub fn forget(&self, path: &RelPath) {
        self.readers.forget(path);
    }

    /// Forgets the files that are not in the folder any more.
    pub fn tidy(&self, is_there: impl Fn(&RelPath) -> bool) {
        self.readers.tidy(is_there);
    }

    /// Whether `peer` may delete the host file at `path`; if not, why.
    ///
    /// The server's own machine may: an admin there could as well remove the file, and what runs behind
    /// its address, such as a VM on QEMU's user network, cannot be told apart.
    pub fn may_delete(&self, path: &RelPath, peer: IpAddr) -> Result<(), String> {
        let owner = owner(path, peer);
        if owner == Owner::Many {
            return Err(format!(
                "{path} is for more than one machine: no machine deletes it"
            ));
        }
        if is_own_address(peer) {
            return Ok(());
        }
        let allowed = match owner {
            Owner::Address(address) => address == peer,
            Owner::Mac(mac) => match neighbour(peer) {
                Some(known) => known == mac,
                // Behind a router there is no telling: that it looked for this name must do.
                None => self.readers.has(path, peer),
            },
            Owner::Reader => self.readers.has(path, peer),
            Owner::Many => false,
        };
        if allowed {
            Ok(())
        } else {
            Err(format!("{path} is not the configuration of {peer}"))
        }
    }

    /// Whether `peer` may read the host file at `path`, where not everybody may; if not, why. Who asks for a UUID, a serial
    /// number or a name knows it, and what several machines share is no secret.
    pub fn may_read(path: &RelPath, peer: IpAddr) -> Result<(), String> {
        if is_own_address(peer) {
            return Ok(());
        }
        let allowed = match owner(path, peer) {
            Owner::Address(address) => address == peer,
            // Behind a router there is no telling.
            Owner::Mac(mac) => neighbour(peer).is_none_or(|known| known == mac),
            Owner::Reader | Owner::Many => true,
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
    let (end, _) = path.as_str().match_indices(SUFFIX).last()?;
    RelPath::from_text(&path.as_str()[..end + SUFFIX.len()]).ok()
}

fn owner(path: &RelPath, peer: IpAddr) -> Owner {
    let name = path.split().map_or("", |(_, name)| name);
    let stem = name.strip_suffix(SUFFIX).unwrap_or(name);
    match HostName::from_stem(stem) {
        Some(HostName::Ip(address)) => Owner::Address(address),
        Some(HostName::Mac(mac)) => Owner::Mac(mac),
        // No machine with an IPv4 address looks for the beginning of an IPv6 one: to it, it is some serial number.
        Some(HostName::Shortened(digits)) if digits.len() > V4_DIGITS && peer.is_ipv4() => {
            Owner::Reader
        }
        Some(name) if name.is_shared() => Owner::Many,
        Some(HostName::Uuid(_) | HostName::Shortened(_) | HostName::Default) | None => {
            Owner::Reader
        }
    }
}

/// Whether `peer` is this machine: only an address of its own can be bound.
pub fn is_own_address(peer: IpAddr) -> bool {
    peer.is_loopback() || UdpSocket::bind((peer, 0)).is_ok()
}

/// The MAC of a machine on the same wire, as the kernel's neighbour table has it.
pub fn neighbour(peer: IpAddr) -> Option<Mac> {
    neighbour_in(&std::fs::read_to_string("/proc/net/arp").ok()?, peer)
}

fn neighbour_in(table: &str, peer: IpAddr) -> Option<Mac> {
    /// `ATF_COM`: the entry is complete.
    const COMPLETE: u32 = 2;
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_whitespace();
        let address: IpAddr = columns.next()?.parse().ok()?;
        let flags = columns.nth(1)?.strip_prefix("0x")?;
        let mac = columns.next()?;
        let complete = u32::from_str_radix(flags, 16).ok()? & COMPLETE != 0;
        (address == peer && complete).then(|| mac.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::from_text(text).unwrap()
    }

    fn claims() -> (tempfile::TempDir, Claims) {
        let root = tempfile::tempdir().unwrap();
        let claims = Claims::new(root.path());
        (root, claims)
    }

    #[test]
    fn a_serial_number_that_looks_like_the_beginning_of_an_ipv6_address_is_its_readers() {
        let (_root, claims) = claims();
        let file = path("2019080012345.toml");
        let v4: IpAddr = "203.0.113.9".parse().unwrap();
        let v6: IpAddr = "2001:db8::9".parse().unwrap();
        assert!(claims.may_delete(&file, v4).is_err());
        for peer in [v4, v6] {
            claims.read_by(&file, peer).unwrap();
        }
        assert_eq!(claims.may_delete(&file, v4), Ok(()));
        assert!(claims.may_delete(&file, v6).is_err());
    }

    #[test]
    fn a_machine_deletes_its_own_file_only() {
        let (_root, claims) = claims();
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
    fn a_machine_reads_its_own_file_and_what_is_for_many() {
        let peer: IpAddr = "203.0.113.9".parse().unwrap();
        for (name, may) in [
            ("CB007109.toml", true),
            ("CB00710A.toml", false),
            ("default.toml", true),
            ("4c4c4544-0038-4a10-804e-b7c04f503132.toml", true),
            // It is behind a router, as nobody has this address.
            ("01-52-54-00-12-34-56.toml", true),
        ] {
            assert_eq!(Claims::may_read(&path(name), peer).is_ok(), may, "{name}");
        }
        let local = "127.0.0.1".parse().unwrap();
        assert_eq!(Claims::may_read(&path("CB00710A.toml"), local), Ok(()));
    }

    #[test]
    fn of_ipv6_a_machine_deletes_its_own_file_and_no_shared_one() {
        let (root, claims) = claims();
        // RFC 3849: nobody's address.
        let peer: IpAddr = "2001:db8::7".parse().unwrap();
        let own = path("20010DB8000000000000000000000007.toml");
        let beside = path("20010DB8000000000000000000000008.toml");
        let shared = [
            "20010DB8000000.toml",
            "20010DB80000000000000000000000.toml",
            "20010DB.toml",
            "2.toml",
        ];
        for name in [own.as_str(), beside.as_str()].into_iter().chain(shared) {
            claims.read_by(&path(name), peer).unwrap();
        }
        for claims in [claims, Claims::new(root.path())] {
            assert_eq!(claims.may_delete(&own, peer), Ok(()));
            assert!(claims.may_delete(&beside, peer).is_err());
            for name in shared {
                let error = claims.may_delete(&path(name), peer).unwrap_err();
                assert!(error.contains("more than one machine"), "{error}");
            }
            // What could be an IPv4 address is not this machine's either.
            assert!(claims.may_delete(&path("20010DB8.toml"), peer).is_err());
        }
    }

    #[test]
    fn behind_the_servers_own_address_any_machine_may_be() {
        let (_root, claims) = claims();
        for local in ["127.0.0.1", "127.9.9.9", "::1"] {
            let peer = local.parse().unwrap();
            assert_eq!(claims.may_delete(&path("0A00020F.toml"), peer), Ok(()));
        }
    }

    #[test]
    fn a_name_without_an_address_belongs_to_who_read_it() {
        let (root, claims) = claims();
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
            claims.read_by(&path(name), peer).unwrap();
            assert_eq!(claims.may_delete(&path(name), peer), Ok(()), "{name}");
            let later = Claims::new(root.path());
            assert_eq!(later.may_delete(&path(name), peer), Ok(()), "{name}");
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
        assert_eq!(mac("192.168.1.50"), "52:54:00:ab:cd:01".parse().ok());
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
    }
}
