//! Whether another DHCP server gives addresses here: asked as a client asks (RFC 2131 4.4.1), nothing taken.

use crate::socket::Socket;
use anyhow::Context;
use dhcproto::Encodable;
use dhcproto::v4::{
    CLIENT_PORT, DhcpOption, DhcpOptions, Flags, Message, MessageType, Opcode, OptionCode,
    SERVER_PORT, borrowed,
};
use nix::ifaddrs::getifaddrs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Servers may look for three seconds whether the address is free before they offer it: dnsmasq does.
const PATIENCE: Duration = Duration::from_millis(4200);
/// Asked again after this time: one question may get lost.
const AGAIN: Duration = Duration::from_millis(1500);

/// The server that offers an address on `interface` first.
pub async fn find(interface: &str, own: Ipv4Addr) -> anyhow::Result<Option<Ipv4Addr>> {
    let act = || format!("looking for other DHCP servers on {interface}");
    let mac = mac(interface).with_context(act)?;
    let socket = Socket::bind_beside_others(interface, CLIENT_PORT).with_context(act)?;
    let question = discover(mac);
    let bytes = question.to_vec().with_context(act)?;
    let all = SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT);
    let end = Instant::now() + PATIENCE;
    let mut buffer = [0; 2048];
    while Instant::now() < end {
        socket.send(&bytes, all, own).await.with_context(act)?;
        let again = (Instant::now() + AGAIN).min(end);
        while let Ok(received) = timeout_at(again, socket.receive(&mut buffer)).await {
            let (length, from) = received.with_context(act)?;
            let datagram = buffer.get(..length).unwrap_or_default();
            if let Some(offer) = offer(datagram, question.xid()) {
                return Ok(Some(offer.server.unwrap_or(*from.ip())));
            }
        }
    }
    Ok(None)
}

/// The interface's Ethernet address; zeros for one that has none. Asked of the kernel: `/sys` may be that of another
/// network namespace.
fn mac(interface: &str) -> anyhow::Result<[u8; 6]> {
    let mut entries = getifaddrs().context("asking for this computer's addresses")?;
    let address = entries.find_map(|entry| {
        let is_its = entry.interface_name == interface;
        entry.address.filter(|_| is_its)?.as_link_addr()?.addr()
    });
    Ok(address.unwrap_or_default())
}

fn discover(mac: [u8; 6]) -> Message {
    let mut message = Message::default();
    message
        .set_chaddr(&mac)
        .set_flags(Flags::default().set_broadcast())
        .set_opts(DhcpOptions::from_iter([
            DhcpOption::MessageType(MessageType::Discover),
            DhcpOption::ParameterRequestList(vec![OptionCode::SubnetMask, OptionCode::Router]),
        ]));
    message
}

/// An address that is offered.
#[derive(Debug, PartialEq, Eq)]
struct Offer {
    /// By whom, if it says.
    server: Option<Ipv4Addr>,
}

/// What a datagram offers to the question `id`. A proxy's offer has no address, and is none.
fn offer(datagram: &[u8], id: u32) -> Option<Offer> {
    let message = borrowed::Message::new(datagram).ok()?;
    let is_ours = message.opcode() == Opcode::BootReply && message.xid() == id;
    if !is_ours || message.yiaddr().is_unspecified() {
        return None;
    }
    let server = message
        .opts()
        .find(|option| option.code() == OptionCode::ServerIdentifier)
        .and_then(|option| <[u8; 4]>::try_from(option.data()).ok());
    Some(Offer {
        server: server.map(Ipv4Addr::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_offer_of_an_address_is_one_of_a_rival() {
        let question = discover([2, 0, 0, 0, 0, 1]);
        let server = Ipv4Addr::new(10, 0, 0, 9);
        let mut answer = question.clone();
        answer.set_opcode(Opcode::BootReply);
        answer
            .opts_mut()
            .insert(DhcpOption::ServerIdentifier(server));
        let told = |message: &Message| offer(&message.to_vec().unwrap(), question.xid());
        assert_eq!(told(&answer), None, "a proxy gives no address");
        answer.set_yiaddr(Ipv4Addr::new(10, 0, 0, 50));
        assert_eq!(
            told(&answer),
            Some(Offer {
                server: Some(server)
            })
        );
        assert_eq!(offer(&answer.to_vec().unwrap(), question.xid() ^ 1), None);
        assert_eq!(told(&question), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = offer(&bytes, 0);
        }
    }
}
