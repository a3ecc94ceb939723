//! What a client says to DHCP servers (RFC 2131 4.4), and which answers are meant for it.

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use std::net::Ipv4Addr;

/// What servers see of us in option 60.
const VENDOR_CLASS: &[u8] = b"pitstop";

/// Ethernet's: what every server may send without splitting it.
const LARGEST_ANSWER: u16 = 1500;

/// RFC 2132 9.14: the kind of address that follows is Ethernet's.
const HARDWARE_ETHERNET: u8 = 1;

/// One exchange with a server.
#[derive(Debug, Clone, Copy)]
pub struct Transaction {
    /// Ties answers to questions.
    pub id: u32,
    pub mac: [u8; 6],
    /// Ask for broadcast answers: this machine cannot hear others before it has an address.
    pub broadcast: bool,
    /// Since the client began, as relays and servers with a second choice look at it.
    pub seconds: u16,
}

impl Transaction {
    /// `DHCPDISCOVER`
    pub fn discover(&self) -> anyhow::Result<Vec<u8>> {
        Ok(self.message(MessageType::Discover).to_vec()?)
    }

    /// `DHCPREQUEST` that takes an offer.
    pub fn request(&self, address: Ipv4Addr, server: Ipv4Addr) -> anyhow::Result<Vec<u8>> {
        let mut message = self.message(MessageType::Request);
        message
            .opts_mut()
            .insert(DhcpOption::RequestedIpAddress(address));
        message
            .opts_mut()
            .insert(DhcpOption::ServerIdentifier(server));
        Ok(message.to_vec()?)
    }

    /// `DHCPREQUEST` to keep an address (RFC 2131 4.3.2: neither server nor requested address).
    pub fn renew(&self, address: Ipv4Addr) -> anyhow::Result<Vec<u8>> {
        let mut message = self.message(MessageType::Request);
        message.set_ciaddr(address);
        Ok(message.to_vec()?)
    }

    fn message(&self, kind: MessageType) -> Message {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(self.id, none, none, none, none, &self.mac);
        message.set_secs(self.seconds);
        if self.broadcast {
            message.set_flags(Flags::default().set_broadcast());
        }
        // The same identity as the boot ROM's, so that the server sees the same machine.
        let mut identity = vec![HARDWARE_ETHERNET];
        identity.extend(self.mac);
        for option in [
            DhcpOption::MessageType(kind),
            DhcpOption::ClientIdentifier(identity),
            DhcpOption::ClassIdentifier(VENDOR_CLASS.to_vec()),
            DhcpOption::MaxMessageSize(LARGEST_ANSWER),
            DhcpOption::ParameterRequestList(vec![
                OptionCode::SubnetMask,
                // RFC 3442: option 121 is asked for before option 3.
                OptionCode::ClasslessStaticRoute,
                OptionCode::Router,
                OptionCode::DomainNameServer,
                OptionCode::Hostname,
                OptionCode::DomainName,
                OptionCode::InterfaceMtu,
                OptionCode::AddressLeaseTime,
                OptionCode::Renewal,
                OptionCode::Rebinding,
                OptionCode::TFTPServerName,
                OptionCode::BootfileName,
                OptionCode::Unknown(209),
                OptionCode::Unknown(210),
            ]),
        ] {
            message.opts_mut().insert(option);
        }
        message
    }

    /// The answer in a UDP payload, where it is one to this question.
    pub fn answer(&self, payload: &[u8]) -> Option<(MessageType, Message)> {
        let message = Message::decode(&mut Decoder::new(payload)).ok()?;
        let ours = message.opcode() == Opcode::BootReply
            && message.xid() == self.id
            && message.hlen() == 6
            && message.chaddr() == self.mac;
        let kind = message.opts().msg_type().filter(|_| ours)?;
        Some((kind, message))
    }
}

/// The payload of a UDP datagram for the DHCP client's port in an IPv4 packet. Checksums are not looked at:
/// a virtual card leaves them unset, and Ethernet has its own.
pub fn udp_payload(packet: &[u8]) -> Option<&[u8]> {
    let sliced = etherparse::SlicedPacket::from_ip(packet).ok()?;
    match sliced.transport? {
        etherparse::TransportSlice::Udp(udp) if udp.destination_port() == super::CLIENT_PORT => {
            Some(udp.payload())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: Transaction = Transaction {
        id: 0x1234_5678,
        mac: [0x52, 0x54, 0, 1, 2, 3],
        broadcast: false,
        seconds: 3,
    };

    fn decoded(bytes: &[u8]) -> Message {
        Message::decode(&mut Decoder::new(bytes)).unwrap()
    }

    fn reply(change: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut message = OURS.message(MessageType::Offer);
        message.set_opcode(Opcode::BootReply);
        change(&mut message);
        message.to_vec().unwrap()
    }

    #[test]
    fn requests_say_what_rfc_2131_wants() {
        let offered = Ipv4Addr::new(10, 0, 2, 15);
        let server = Ipv4Addr::new(10, 0, 2, 2);
        let discover = decoded(&OURS.discover().unwrap());
        assert_eq!(discover.opts().msg_type(), Some(MessageType::Discover));
        assert_eq!((discover.xid(), discover.secs()), (OURS.id, 3));
        assert!(!discover.flags().broadcast());
        let request = decoded(&OURS.request(offered, server).unwrap());
        assert_eq!(request.ciaddr(), Ipv4Addr::UNSPECIFIED);
        assert_eq!(
            request.opts().get(OptionCode::RequestedIpAddress),
            Some(&DhcpOption::RequestedIpAddress(offered))
        );
        let renew = decoded(&OURS.renew(offered).unwrap());
        assert_eq!(renew.ciaddr(), offered);
        assert_eq!(renew.opts().get(OptionCode::ServerIdentifier), None);
        assert_eq!(renew.opts().get(OptionCode::RequestedIpAddress), None);
    }

    #[test]
    fn only_answers_to_our_question_count() {
        let kind = |bytes: &[u8]| OURS.answer(bytes).map(|(kind, _)| kind);
        assert_eq!(kind(&reply(|_| {})), Some(MessageType::Offer));
        assert_eq!(kind(&reply(|m| _ = m.set_xid(1))), None);
        assert_eq!(kind(&reply(|m| _ = m.set_chaddr(&[9; 6]))), None);
        assert_eq!(kind(&OURS.discover().unwrap()), None);
    }

    #[test]
    fn datagrams_are_taken_out_of_packets() {
        let build = |port| {
            let builder =
                etherparse::PacketBuilder::ipv4([10, 0, 2, 2], [255; 4], 64).udp(67, port);
            let mut packet = Vec::new();
            builder.write(&mut packet, b"payload").unwrap();
            packet
        };
        let mut padded = build(68);
        // Ethernet pads short frames.
        padded.extend([0; 20]);
        assert_eq!(udp_payload(&padded), Some(&b"payload"[..]));
        assert_eq!(udp_payload(&build(69)), None);
        assert_eq!(udp_payload(&build(68)[..30]), None);
    }

    proptest! {
        #[test]
        fn any_packet_is_read(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = udp_payload(&bytes);
            prop_assert!(OURS.answer(&bytes).is_none());
        }
    }
}
