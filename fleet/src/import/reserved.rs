//! What no machine may have as its address: a router's, and what is for machines that nobody named. DHCP servers give the address of
//! one machine inside a range to nobody else, and need not be told so; in a fleet file a range is cut around it.

use crate::fleet::Fleet;
use crate::keys;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};
use toml::Value;

/// From the first address to the last.
type Pool = (IpAddr, IpAddr);

pub(super) struct Reserved {
    routers: Vec<IpAddr>,
    pools: Vec<(IpNet, Pool)>,
}

impl Reserved {
    pub(super) fn of(fleet: &Fleet) -> Self {
        let networks = fleet.networks.iter();
        Self {
            routers: networks.clone().filter_map(|one| one.router).collect(),
            pools: networks
                .flat_map(|one| one.pools.iter().map(|pool| (one.net, *pool)))
                .collect(),
        }
    }

    /// Notes what is said of a network.
    pub(super) fn note(&mut self, net: IpNet, key: &str, value: &Value) {
        match key {
            "router" => self.routers.extend(keys::address(value)),
            "range" => {
                let pools = keys::pools(value).unwrap_or_default();
                self.pools.extend(pools.into_iter().map(|pool| (net, pool)));
            }
            _ => {}
        }
    }

    pub(super) fn is_router(&self, ip: IpAddr) -> bool {
        self.routers.contains(&ip)
    }

    /// The range that an address lies in.
    pub(super) fn pool(&self, ip: IpAddr) -> Option<Pool> {
        let mut pools = self.pools.iter().map(|(_, pool)| *pool);
        pools.find(|pool| has(*pool, ip))
    }

    /// Takes an address out of the range that it lies in. Returns the network, if its range is another one now, and what is left
    /// of that.
    pub(super) fn cut(&mut self, ip: IpAddr) -> Option<(IpNet, Vec<String>)> {
        let at = self.pools.iter().position(|(_, pool)| has(*pool, ip))?;
        let (net, pool) = self.pools[at];
        let rest = around(pool, ip)?;
        self.pools
            .splice(at..=at, rest.into_iter().map(|pool| (net, pool)));
        let left = self.pools.iter().filter(|(of, _)| *of == net);
        let left = left.map(|(_, (first, last))| format!("{first}-{last}"));
        Some((net, left.collect()))
    }
}

fn has((first, last): Pool, ip: IpAddr) -> bool {
    first <= ip && ip <= last
}

/// What is left of a range without an address in it.
fn around(pool: Pool, ip: IpAddr) -> Option<Vec<Pool>> {
    let ((IpAddr::V4(first), IpAddr::V4(last)), IpAddr::V4(ip)) = (pool, ip) else {
        return None;
    };
    let beside = |by: i64| -> IpAddr {
        let number = u32::try_from(i64::from(u32::from(ip)) + by);
        Ipv4Addr::from(number.unwrap_or_default()).into()
    };
    let before = (first < ip).then(|| (first.into(), beside(-1)));
    let behind = (ip < last).then(|| (beside(1), last.into()));
    Some(before.into_iter().chain(behind).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_around_what_is_taken() {
        let left = |range: &str, taken: &[&str]| {
            let net = "0.0.0.0/0".parse().unwrap();
            let mut reserved = Reserved::of(&Fleet::default());
            reserved.note(net, "range", &Value::from(range));
            let mut left = vec![range.to_owned()];
            for ip in taken {
                if let Some((_, rest)) = reserved.cut(ip.parse().unwrap()) {
                    left = rest;
                }
            }
            left
        };
        let range = "10.0.0.10-10.0.0.20";
        assert_eq!(left(range, &["10.0.0.9", "10.0.0.21"]), [range]);
        assert_eq!(
            left(range, &["10.0.0.20", "10.0.0.12", "10.0.0.12", "10.0.0.10"]),
            ["10.0.0.11-10.0.0.11", "10.0.0.13-10.0.0.19"]
        );
        assert_eq!(left("10.0.0.10-10.0.0.10", &["10.0.0.10"]), [""; 0]);
        let end = "255.255.255.254-255.255.255.255";
        assert_eq!(
            left(end, &["255.255.255.255"]),
            ["255.255.255.254-255.255.255.254"]
        );
        assert_eq!(left("0.0.0.0-0.0.0.1", &["0.0.0.0"]), ["0.0.0.1-0.0.0.1"]);
        assert_eq!(left("fd00::1-fd00::9", &["fd00::2"]), ["fd00::1-fd00::9"]);
    }
}
