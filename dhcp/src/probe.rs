//! Whether somebody has an address already. The kernel asks by ARP for whom a datagram goes to: its table has the answer,
//! and no right is needed that the server does not have.

use pitstop_protocol::host_name::Mac;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;
use tokio::net::UdpSocket;

/// A computer on the same wire answers within milliseconds. Clients ask again after a second or more.
const PATIENCE: Duration = Duration::from_millis(700);
const STEP: Duration = Duration::from_millis(50);
/// The port whose datagrams nobody misses (RFC 863).
const DISCARD: u16 = 9;
/// `ATF_COM` of `linux/if_arp.h`: the address is known.
const KNOWN: u32 = 2;

/// Whose card has `ip` on `interface`, but for these. What cannot be asked is not in use.
pub async fn holder(ip: Ipv4Addr, interface: &str, from: Ipv4Addr, but: &[Mac]) -> Option<String> {
    let socket = UdpSocket::bind(SocketAddrV4::new(from, 0)).await.ok()?;
    socket
        .send_to(&[], SocketAddrV4::new(ip, DISCARD))
        .await
        .ok()?;
    let mut waited = Duration::ZERO;
    while waited < PATIENCE {
        tokio::time::sleep(STEP).await;
        waited += STEP;
        let table = tokio::fs::read_to_string("/proc/self/net/arp").await.ok()?;
        if let Some(mac) = known(&table, ip, interface) {
            let other = but.iter().all(|but| mac != but.to_string());
            return other.then(|| mac.to_owned());
        }
    }
    None
}

/// The card of `ip` in the kernel's table (proc(5), /proc/net/arp).
fn known<'a>(table: &'a str, ip: Ipv4Addr, interface: &str) -> Option<&'a str> {
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [address, _, flags, mac, _, device] = words[..] else {
            return None;
        };
        let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok()?;
        let is_it = address.parse() == Ok(ip) && device == interface && flags & KNOWN != 0;
        is_it.then_some(mac)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernels_table_is_read() {
        let table = "IP address  HW type  Flags  HW address  Mask  Device\n\
            10.0.0.5  0x1  0x2  52:54:00:01:02:03  *  eth0\n\
            10.0.0.6  0x1  0x0  00:00:00:00:00:00  *  eth0\n";
        let known = |last, device| known(table, Ipv4Addr::new(10, 0, 0, last), device);
        assert_eq!(known(5, "eth0"), Some("52:54:00:01:02:03"));
        assert_eq!(
            (known(5, "eth1"), known(6, "eth0"), known(7, "eth0")),
            (None, None, None)
        );
    }

    proptest! {
        #[test]
        fn any_table_is_read_without_panic(table in "[0-9a-fx:. *\n]{0,120}") {
            let _ = known(&table, Ipv4Addr::LOCALHOST, "eth0");
        }
    }
}
