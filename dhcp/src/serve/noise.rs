//! Datagrams that cannot be read: counted, and told of now and then. Whoever sends them fills no journal.

use crate::question::Unread;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Noise {
    count: u64,
    told: Option<Instant>,
}

impl Noise {
    /// Counts one. The line to note, once a minute at most.
    pub fn heard(&mut self, why: Unread, from: Ipv4Addr, interface: &str) -> Option<String> {
        if why == Unread::NotForServers {
            return None;
        }
        self.count += 1;
        if self.told.is_some_and(|told| told.elapsed() < PAUSE) {
            return None;
        }
        self.told = Some(Instant::now());
        let count = std::mem::take(&mut self.count);
        Some(format!(
            "{from} DHCP on {interface}: {count} unreadable since the last such line; this one: {why}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line() {
        let mut noise = Noise::default();
        let mut heard = |why| noise.heard(why, Ipv4Addr::LOCALHOST, "eth0");
        assert_eq!(heard(Unread::NotForServers), None);
        let first = heard(Unread::Broken).unwrap();
        assert!(
            first.contains("1 unreadable") && first.contains("no whole DHCP message"),
            "{first}"
        );
        for _ in 0..1000 {
            assert_eq!(heard(Unread::Broken), None);
        }
    }
}
