//! Addresses of machines inside a range for others: dnsmasq and Kea give them to nobody else, and need not be told so. In a fleet
//! file a range is for machines that nobody named alone, so it is cut around them.

use super::Imported;
use crate::keys;
use std::net::{IpAddr, Ipv4Addr};
use toml::Value;

pub(super) fn leave_out(imported: &mut Imported) {
    let of_machine = imported.machines.iter().filter_map(|found| match found.ip {
        Some(IpAddr::V4(ip)) => Some(u32::from(ip)),
        _ => None,
    });
    let mut taken: Vec<u32> = of_machine.collect();
    taken.sort_unstable();
    for network in &mut imported.networks {
        for (key, value) in &mut network.keys {
            if *key == "range"
                && let Ok(pools) = keys::pools(value)
            {
                let rest = pools.iter().flat_map(|pool| around(*pool, &taken));
                *value = Value::Array(rest.map(Value::String).collect());
            }
        }
        let is_empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
        network
            .keys
            .retain(|(key, value)| *key != "range" || !is_empty(value));
    }
}

/// What is left of a range without these addresses, which are in order.
fn around((first, last): (IpAddr, IpAddr), taken: &[u32]) -> Vec<String> {
    let (IpAddr::V4(first), IpAddr::V4(last)) = (first, last) else {
        return vec![format!("{first}-{last}")];
    };
    // One more than an address has, so that the last one of all has a next one too.
    let (mut next, last) = (u64::from(u32::from(first)), u64::from(u32::from(last)));
    let mut parts = Vec::new();
    let inside = taken.iter().map(|ip| u64::from(*ip));
    let inside = inside.filter(|ip| (next..=last).contains(ip));
    for end in inside.chain([last + 1]).collect::<Vec<_>>() {
        if next < end {
            parts.push(format!("{}-{}", address(next), address(end - 1)));
        }
        next = end + 1;
    }
    parts
}

fn address(number: u64) -> Ipv4Addr {
    u32::try_from(number).unwrap_or(u32::MAX).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_around_what_is_taken() {
        let left = |range: &str, taken: &[&str]| {
            let pool = keys::pools(&Value::from(range)).unwrap()[0];
            let taken = taken.iter().map(|ip| ip.parse::<Ipv4Addr>().unwrap());
            around(pool, &taken.map(u32::from).collect::<Vec<_>>())
        };
        let range = "10.0.0.10-10.0.0.20";
        assert_eq!(left(range, &["10.0.0.9", "10.0.0.21"]), [range]);
        assert_eq!(
            left(range, &["10.0.0.10", "10.0.0.12", "10.0.0.12", "10.0.0.20"]),
            ["10.0.0.11-10.0.0.11", "10.0.0.13-10.0.0.19"]
        );
        assert_eq!(left("10.0.0.10-10.0.0.10", &["10.0.0.10"]), [""; 0]);
        let end = "255.255.255.254-255.255.255.255";
        assert_eq!(
            left(end, &["255.255.255.255"]),
            ["255.255.255.254-255.255.255.254"]
        );
        assert_eq!(left("fd00::1-fd00::9", &[]), ["fd00::1-fd00::9"]);
    }
}
