//! Wake-on-LAN: a packet that a sleeping card waits for.

use crate::act::Target;
use crate::error::PowerError;
use ipnet::IpNet;
use pitstop_protocol::host_name::Mac;
use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::Duration;

/// Discard, and echo: what cards, switches and relays are set up for.
const PORTS: [u16; 2] = [9, 7];
/// A packet that gets lost wakes nobody, and one more harms nobody.
const ROUNDS: u32 = 3;
const BETWEEN: Duration = Duration::from_millis(100);

/// Six times `ff`, then the card's address sixteen times.
fn packet(mac: Mac) -> [u8; 102] {
    let mut packet = [0xff; 102];
    for place in packet[6..].chunks_exact_mut(6) {
        place.copy_from_slice(&mac.0);
    }
    packet
}

/// Where it goes: the network's own broadcast address, which the kernel routes, and everybody's.
fn addresses(network: Option<IpNet>) -> Vec<Ipv4Addr> {
    let own = match network.map(|network| network.broadcast()) {
        Some(IpAddr::V4(address)) => Some(address),
        Some(IpAddr::V6(_)) | None => None,
    };
    own.into_iter().chain([Ipv4Addr::BROADCAST]).collect()
}

/// Wakes a machine by every card it has.
///
/// # Errors
/// It has no card that is known, or no packet could be sent.
pub fn wake(target: &Target) -> Result<(), PowerError> {
    check(target)?;
    send(target).map_err(|error| PowerError::Wake {
        name: target.name.clone(),
        error,
    })
}

/// Whether a card is known that could wake.
pub fn check(target: &Target) -> Result<(), PowerError> {
    if target.macs.is_empty() {
        return Err(PowerError::Lacks {
            name: target.name.clone(),
            what: "mac",
        });
    }
    Ok(())
}

fn send(target: &Target) -> Result<(), Error> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_broadcast(true)?;
    let mut sent = false;
    let mut refused = None;
    for round in 0..ROUNDS {
        if round > 0 {
            thread::sleep(BETWEEN);
        }
        for mac in &target.macs {
            for address in addresses(target.network) {
                for port in PORTS {
                    match socket.send_to(&packet(*mac), SocketAddrV4::new(address, port)) {
                        Ok(_) => sent = true,
                        // Without a default route everybody's address leads nowhere; the network's own may do.
                        Err(error) => refused = Some(error),
                    }
                }
            }
        }
    }
    match (sent, refused) {
        (true, _) => Ok(()),
        (false, error) => Err(error.unwrap_or_else(|| Error::from(ErrorKind::NetworkUnreachable))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_is_the_cards_address_sixteen_times() {
        let mac: Mac = "52:54:00:12:34:56".parse().unwrap();
        let packet = packet(mac);
        assert_eq!(packet[..6], [0xff; 6]);
        assert_eq!(
            packet[6..].chunks(6).filter(|part| *part == mac.0).count(),
            16
        );
    }

    #[test]
    fn it_goes_to_the_network_and_to_everybody() {
        let net = "192.168.1.0/24".parse().unwrap();
        assert_eq!(
            addresses(Some(net)),
            [Ipv4Addr::new(192, 168, 1, 255), Ipv4Addr::BROADCAST]
        );
        let six = "2001:db8::/64".parse().unwrap();
        assert_eq!(addresses(Some(six)), [Ipv4Addr::BROADCAST]);
        assert_eq!(addresses(None), [Ipv4Addr::BROADCAST]);
    }
}
