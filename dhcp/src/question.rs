//! What a client asks (RFC 2131 2): any bytes in, a question or nothing out.

use dhcproto::v4::borrowed::{self, DhcpOptionIterator};
use dhcproto::v4::{HType, Opcode};
use pitstop_protocol::host_name::{Mac, Uuid};
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::ops::Range;

/// Options by number (RFC 2132, 3004, 3046, 4578).
pub mod code {
    pub const HOSTNAME: u8 = 12;
    pub const VENDOR: u8 = 43;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const WANTED: u8 = 55;
    pub const CLASS: u8 = 60;
    pub const CLIENT: u8 = 61;
    pub const TFTP_SERVER: u8 = 66;
    pub const BOOT_FILE: u8 = 67;
    pub const USER_CLASS: u8 = 77;
    pub const RELAY: u8 = 82;
    pub const ARCHITECTURE: u8 = 93;
    pub const MACHINE: u8 = 97;
    /// iPXE's own.
    pub const IPXE: u8 = 175;
}

/// Where options may go on (RFC 2131 4.1), by the bit in option 52.
const OVERLOADED: [(u8, Range<usize>); 2] = [(1, 108..236), (2, 44..108)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Discover,
    Request,
    Decline,
    Release,
    Inform,
}

/// A client's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub kind: Kind,
    pub id: u32,
    pub flags: u16,
    /// The client's own address, if it has one that works.
    pub client: Option<Ipv4Addr>,
    /// The relay it came through.
    pub relay: Option<Ipv4Addr>,
    pub mac: Mac,
    options: HashMap<u8, Vec<u8>>,
}

/// Why a datagram is no question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// Answers of servers, BOOTP: others' business.
    #[error("it is not for a DHCP server")]
    NotForServers,
    #[error("it is no whole DHCP message")]
    Broken,
    #[error("its sender's card has no Ethernet address")]
    NotEthernet,
}

impl Question {
    /// Reads a datagram. Whatever is damaged in it beyond what is needed here is let pass.
    pub fn read(datagram: &[u8]) -> Result<Self, Unread> {
        let message = borrowed::Message::new(datagram).map_err(|_| Unread::Broken)?;
        if message.opcode() != Opcode::BootRequest {
            return Err(Unread::NotForServers);
        }
        // The length first: the address is cut out by it.
        if message.htype() != HType::Eth || message.hlen() != 6 {
            return Err(Unread::NotEthernet);
        }
        let mac = <[u8; 6]>::try_from(message.chaddr()).map_err(|_| Unread::NotEthernet)?;
        if mac[0] & 1 != 0 || mac == [0; 6] {
            return Err(Unread::NotEthernet);
        }
        let options = options(&message, datagram);
        let kind = match options.get(&code::MESSAGE_TYPE).map(Vec::as_slice) {
            Some([1]) => Kind::Discover,
            Some([3]) => Kind::Request,
            Some([4]) => Kind::Decline,
            Some([7]) => Kind::Release,
            Some([8]) => Kind::Inform,
            // Without the cookie or this option it is BOOTP (RFC 951).
            _ => return Err(Unread::NotForServers),
        };
        let given = |address: Ipv4Addr| (!address.is_unspecified()).then_some(address);
        Ok(Self {
            kind,
            id: message.xid(),
            flags: message.flags().into(),
            client: given(message.ciaddr()).filter(|ip| is_one_machines(*ip)),
            relay: given(message.giaddr()).filter(|ip| is_one_machines(*ip)),
            mac: Mac(mac),
            options,
        })
    }

    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.get(&code).map(Vec::as_slice)
    }

    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let bytes = <[u8; 4]>::try_from(self.option(code)?).ok()?;
        Some(Ipv4Addr::from(bytes))
    }

    /// The server whose offer is taken up.
    pub fn server(&self) -> Option<Ipv4Addr> {
        self.address(code::SERVER)
    }

    pub fn requested(&self) -> Option<Ipv4Addr> {
        self.address(code::REQUESTED_ADDRESS)
    }

    /// Whether the client asked for this option. One that has no list wants what there is.
    pub fn wants(&self, code: u8) -> bool {
        self.option(code::WANTED)
            .is_none_or(|list| list.contains(&code))
    }

    /// The firmware's UUID (RFC 4578 2.3: type 0), unless it is one that many machines share.
    pub fn uuid(&self) -> Option<Uuid> {
        let bytes = self.option(code::MACHINE)?.strip_prefix(&[0])?;
        let bytes = <[u8; 16]>::try_from(bytes).ok()?;
        Uuid::parse(&Uuid(bytes).to_string())
    }

    /// What the client calls itself, if that is fit to be shown.
    pub fn hostname(&self) -> Option<&str> {
        let bytes = self.option(code::HOSTNAME)?;
        let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0');
        pitstop_fleet::is_name(text).then_some(text)
    }

    /// What kinds of firmware it says it is, best first (RFC 4578 2.1).
    pub fn architectures(&self) -> Vec<u16> {
        if let Some(bytes) = self.option(code::ARCHITECTURE) {
            let pairs = bytes.chunks_exact(2);
            return pairs
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .collect();
        }
        // `PXEClient:Arch:00000:UNDI:002001`, where the option is missing.
        let class = self.option(code::CLASS).unwrap_or_default();
        let text = std::str::from_utf8(class).unwrap_or_default();
        let number = text
            .split(':')
            .nth(2)
            .and_then(|digits| digits.parse().ok());
        number.into_iter().collect()
    }
}

/// Whether an answer may be sent to `ip` alone.
fn is_one_machines(ip: Ipv4Addr) -> bool {
    !(ip.is_broadcast() || ip.is_multicast() || ip.octets()[0] == 0)
}

/// The first of each number counts.
fn options(message: &borrowed::Message, datagram: &[u8]) -> HashMap<u8, Vec<u8>> {
    let mut options = HashMap::new();
    let mut add = |source: DhcpOptionIterator| {
        for option in source {
            let data = option.data().to_vec();
            options.entry(u8::from(option.code())).or_insert(data);
        }
    };
    add(message.opts());
    let overload = options
        .get(&code::OVERLOAD)
        .and_then(|data: &Vec<u8>| data.first().copied());
    for (bit, field) in OVERLOADED {
        if let (true, Some(bytes)) = (overload.unwrap_or(0) & bit != 0, datagram.get(field)) {
            for option in DhcpOptionIterator::new(bytes) {
                let data = option.data().to_vec();
                options.entry(u8::from(option.code())).or_insert(data);
            }
        }
    }
    options
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use dhcproto::Encodable;
    use dhcproto::v4::{DhcpOption, DhcpOptions, Message, MessageType, OptionCode, UnknownOption};
    use proptest::prelude::*;

    pub const MAC: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);

    /// A client's datagram with these options, as bytes.
    pub fn datagram(
        kind: MessageType,
        options: &[(u8, &[u8])],
        change: impl FnOnce(&mut Message),
    ) -> Vec<u8> {
        let mut message = Message::default();
        message.set_xid(0x1234_5678).set_chaddr(&MAC.0);
        let mut all = DhcpOptions::from_iter([DhcpOption::MessageType(kind)]);
        for (code, data) in options {
            let option = UnknownOption::new(OptionCode::from(*code), data.to_vec());
            all.insert(DhcpOption::Unknown(option));
        }
        message.set_opts(all);
        change(&mut message);
        message.to_vec().unwrap()
    }

    pub fn asked(kind: MessageType, options: &[(u8, &[u8])]) -> Question {
        Question::read(&datagram(kind, options, |_| {})).unwrap()
    }

    #[test]
    fn a_boot_rom_is_read() {
        let machine = [&[0][..], &[0x11; 16]].concat();
        let question = asked(
            MessageType::Discover,
            &[
                (code::CLASS, b"PXEClient:Arch:00007:UNDI:003016"),
                (code::ARCHITECTURE, &[0, 7]),
                (code::MACHINE, &machine),
                (code::WANTED, &[1, 3, 67]),
            ],
        );
        assert_eq!((question.kind, question.mac), (Kind::Discover, MAC));
        assert_eq!(question.architectures(), [7]);
        assert_eq!(question.uuid(), Some(Uuid([0x11; 16])));
        assert!(question.wants(67) && !question.wants(66));
        assert_eq!((question.client, question.relay), (None, None));
        let old = asked(
            MessageType::Discover,
            &[
                (code::CLASS, b"PXEClient:Arch:00009:UNDI:003016"),
                (code::MACHINE, &[0; 17]),
            ],
        );
        assert_eq!(old.architectures(), [9]);
        assert_eq!(old.uuid(), None);
        assert!(old.wants(66));
    }

    #[test]
    fn options_go_on_in_the_file_and_the_servers_name() {
        let mut bytes = datagram(MessageType::Discover, &[(code::OVERLOAD, &[3])], |_| {});
        bytes[108..113].copy_from_slice(&[60, 2, b'a', b'b', 255]);
        bytes[44..49].copy_from_slice(&[93, 2, 0, 7, 255]);
        let question = Question::read(&bytes).unwrap();
        assert_eq!(question.option(code::CLASS), Some(&b"ab"[..]));
        assert_eq!(question.architectures(), [7]);
    }

    #[test]
    fn what_is_no_question_is_told_apart() {
        let of = |change: fn(&mut Message)| {
            Question::read(&datagram(MessageType::Discover, &[], change)).unwrap_err()
        };
        assert_eq!(
            of(|m| {
                m.set_opcode(Opcode::BootReply);
            }),
            Unread::NotForServers
        );
        assert_eq!(
            of(|m| {
                m.set_opts(DhcpOptions::new());
            }),
            Unread::NotForServers
        );
        assert_eq!(
            of(|m| {
                m.set_chaddr(&[1; 16]);
            }),
            Unread::NotEthernet
        );
        assert_eq!(
            of(|m| {
                m.set_chaddr(&[0xff; 6]);
            }),
            Unread::NotEthernet
        );
        assert_eq!(Question::read(&[1; 239]), Err(Unread::Broken));
        // The longest address that a byte can claim.
        let mut bytes = datagram(MessageType::Discover, &[], |_| {});
        bytes[2] = 255;
        assert_eq!(Question::read(&bytes), Err(Unread::NotEthernet));
        let addresses = datagram(MessageType::Discover, &[], |m| {
            m.set_ciaddr(Ipv4Addr::BROADCAST)
                .set_giaddr(Ipv4Addr::new(224, 0, 0, 1));
        });
        let question = Question::read(&addresses).unwrap();
        assert_eq!((question.client, question.relay), (None, None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            noise in prop::collection::vec(any::<u8>(), 0..700),
            tail in prop::collection::vec(any::<u8>(), 0..80),
            at in 0usize..300,
            byte in any::<u8>(),
        ) {
            let _ = Question::read(&noise);
            let mut bytes = datagram(MessageType::Request, &[(code::OVERLOAD, &[3])], |_| {});
            bytes.extend(tail);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            if let Ok(question) = Question::read(&bytes) {
                let _ = (question.uuid(), question.hostname(), question.architectures());
                let _ = (question.server(), question.requested());
            }
            let _ = Question::read(&bytes[..at.min(bytes.len())]);
        }
    }
}
