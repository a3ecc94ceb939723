//! Under which names and addresses clients reach this computer: what its certificate has to be for.

use super::certificate::Name;
use crate::url::addresses;
use pitstop_fleet::Fleet;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// More names than this are no server's: containers come and go with an address each.
const MOST: usize = 100;

/// Names and addresses of this computer as they are now, with `given` and those that the fleet file has for it.
pub fn found(given: &BTreeSet<Name>, fleet: &Fleet) -> BTreeSet<Name> {
    let mut names = given.clone();
    names.extend(
        ["localhost", "127.0.0.1", "::1"]
            .map(str::parse)
            .into_iter()
            .flatten(),
    );
    names.extend(addresses().into_iter().filter_map(reachable).map(Name::Ip));
    // What the admin has written is of more use than a name that nobody asks for.
    names.extend(fleet.server.address.map(Name::Ip));
    let url = fleet.server.url.as_deref();
    names.extend(url.and_then(host_of_url));
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host = host.to_string_lossy();
    if let Ok(name) = host.parse::<Name>() {
        names.insert(name);
        let domains = fleet.networks.iter().filter_map(|it| it.domain.as_deref());
        let short = host.split('.').next().unwrap_or(&host);
        names.extend(domains.filter_map(|domain| format!("{short}.{domain}").parse().ok()));
    }
    names
}

/// The host of `http(s)://host[:port]`.
pub fn host_of_url(url: &str) -> Option<Name> {
    let (_, authority) = url.split_once("://")?;
    Name::of_authority(authority.trim_end_matches('/'))
}

/// What a certificate can name: an address of one link means nothing without the link.
fn reachable(address: IpAddr) -> Option<IpAddr> {
    let only_here = match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    (!only_here).then_some(address)
}

/// The names of the next certificate: those that are wanted now, and those that `last` had, for as long as they are few. An
/// address that comes and goes then makes no new certificate each time.
pub fn next(wanted: &BTreeSet<Name>, last: &BTreeSet<Name>) -> BTreeSet<Name> {
    let both: BTreeSet<Name> = wanted.union(last).cloned().collect();
    if both.len() <= MOST {
        return both;
    }
    wanted.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<Name> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn the_fleet_file_and_the_command_line_name_the_server_too() {
        let text = "version = 1\n[server]\nurl = \"http://boot.lab.example:8080\"\naddress = \"192.0.2.7\"\n\
                    [network.\"192.0.2.0/24\"]\ndomain = \"lab.example\"\n";
        let fleet = Fleet::parse(text.as_bytes(), "fleet.toml").unwrap();
        let names = found(&set(&["srv.example"]), &fleet);
        let wanted = [
            "srv.example",
            "boot.lab.example",
            "192.0.2.7",
            "localhost",
            "127.0.0.1",
            "::1",
        ];
        assert!(names.is_superset(&set(&wanted)), "{names:?}");
        let host = nix::unistd::gethostname().unwrap();
        let full = format!("{}.lab.example", host.to_str().unwrap());
        assert!(names.contains(&full.parse().unwrap()), "{names:?}");
    }

    #[test]
    fn an_address_of_one_link_is_left_out() {
        let kept = |text: &str| reachable(text.parse().unwrap()).is_some();
        assert!(kept("192.168.1.10") && kept("2001:db8::7") && !kept("fe80::1"));
    }

    #[test]
    fn names_that_were_there_stay_while_they_are_few() {
        assert_eq!(next(&set(&["a"]), &set(&["b"])), set(&["a", "b"]));
        let many: BTreeSet<Name> = (0..MOST)
            .map(|i| format!("n{i}").parse().unwrap())
            .collect();
        assert_eq!(next(&set(&["a"]), &many), set(&["a"]));
    }
}
