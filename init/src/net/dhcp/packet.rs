//! What a client says to DHCP servers (RFC 2131 4.4), and which answers are meant for it.

use dhcproto::v4::borrowed::{self, DhcpOptionIterator};
use dhcproto::v4::{DhcpOption, DhcpOptions, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use std::net::Ipv4Addr;
use std::ops::Range;

/// What servers see of us in option 60.
const VENDOR_CLASS: &[u8] = b"pitstop";

/// Ethernet's: what every server may send without splitting it.
const LARGEST_ANSWER: u16 = 1500;

/// RFC 2132 9.14: the kind of address that follows is Ethernet's.
const HARDWARE_ETHERNET: u8 = 1;

/// RFC 3442: option 121 is asked for before option 3.
const ASKED_FOR: [OptionCode; 15] = [
    OptionCode::SubnetMask,
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
    OptionCode::NtpServers,
    OptionCode::Unknown(209),
    OptionCode::Unknown(210),
];

/// What comes unasked.
const GIVEN: [OptionCode; 3] = [
    OptionCode::MessageType,
    OptionCode::ServerIdentifier,
    OptionCode::Message,
];

/// What matters of a server's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub kind: MessageType,
    /// `yiaddr`
    pub address: Ipv4Addr,
    /// `siaddr`
    pub next_server: Ipv4Addr,
    /// `sname` and `file`; empty where options lie in them.
    pub server_name: Vec<u8>,
    pub file: Vec<u8>,
    /// Those that are understood here. One that is damaged is left out; the others count.
    pub options: DhcpOptions,
}

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
        Ok(self.message(MessageType::Discover)?.to_vec()?)
    }

    /// `DHCPREQUEST` that takes an offer.
    pub fn request(&self, address: Ipv4Addr, server: Ipv4Addr) -> anyhow::Result<Vec<u8>> {
        let mut message = self.message(MessageType::Request)?;
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
        let mut message = self.message(MessageType::Request)?;
        message.set_ciaddr(address);
        Ok(message.to_vec()?)
    }

    fn message(&self, kind: MessageType) -> anyhow::Result<Message> {
        let mut message = empty()?;
        message.set_xid(self.id);
        message.set_chaddr(&self.mac);
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
            DhcpOption::ParameterRequestList(ASKED_FOR.to_vec()),
        ] {
            message.opts_mut().insert(option);
        }
        Ok(message)
    }

    /// The answer in a UDP payload, where it is one to this question.
    pub fn answer(&self, payload: &[u8]) -> Option<Answer> {
        let message = borrowed::Message::new(payload).ok()?;
        // The length first: the address is cut out by it.
        let ours = message.opcode() == Opcode::BootReply
            && message.xid() == self.id
            && usize::from(message.hlen()) == self.mac.len()
            && message.chaddr() == self.mac;
        if ours { Answer::read(payload) } else { None }
    }
}

impl Answer {
    /// Option 54. A PXE proxy's answer may have one too, but gives no address.
    pub fn server(&self) -> Option<Ipv4Addr> {
        match self.options.get(OptionCode::ServerIdentifier) {
            Some(DhcpOption::ServerIdentifier(server)) => Some(*server),
            _ => None,
        }
    }

    /// The server that this is from, if it is another one. An answer that does not say, as it must (RFC 2131 4.3.1),
    /// is believed.
    pub fn other_than(&self, chosen: Ipv4Addr) -> Option<Ipv4Addr> {
        self.server().filter(|&server| server != chosen)
    }

    /// Reads a message option by option. `None` where it has no type.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let message = borrowed::Message::new(payload).ok()?;
        let overload = message
            .opts()
            .find(|option| option.code() == OptionCode::OptionOverload)
            .and_then(|option| option.data().first().copied())
            .unwrap_or_default();
        let mut pieces = Pieces::default();
        pieces.add(message.opts());
        // RFC 2131 4.1: options may go on in `file`, and then in `sname`.
        for (bit, field) in [(1, FILE), (2, SERVER_NAME)] {
            if let (true, Some(bytes)) = (overload & bit != 0, payload.get(field)) {
                pieces.add(DhcpOptionIterator::new(bytes));
            }
        }
        let options = pieces.joined();
        let unless = |bit, bytes: &[u8]| match overload & bit {
            0 => bytes.to_vec(),
            _ => Vec::new(),
        };
        Some(Self {
            kind: options.msg_type()?,
            address: message.yiaddr(),
            next_server: message.siaddr(),
            server_name: unless(2, message.sname()),
            file: unless(1, message.fname()),
            options,
        })
    }
}

/// Where RFC 2131 2 has the fields that may hold options.
const SERVER_NAME: Range<usize> = 44..108;
const FILE: Range<usize> = 108..236;

/// What one piece of an option holds at most (RFC 2132 2).
const LARGEST_PIECE: usize = 255;

/// Options as they lie in a message. One that is long goes on behind itself, and one for which a field has no room goes
/// on in the next field, as ISC's server has it (RFC 3396 5). Else the first of a code counts.
#[derive(Default)]
struct Pieces(Vec<Piece>);

struct Piece {
    code: OptionCode,
    data: Vec<u8>,
    /// How much of the data came first.
    first: usize,
    /// Whether another piece of this code is the rest of this one, and not said twice.
    goes_on: bool,
}

impl Pieces {
    /// Adds those of one field.
    fn add(&mut self, source: DhcpOptionIterator<'_>) {
        for option in source {
            let (code, data) = (option.code(), option.data());
            if !ASKED_FOR.contains(&code) && !GIVEN.contains(&code) {
                continue;
            }
            let goes_on = data.len() == LARGEST_PIECE;
            match self.0.iter_mut().find(|piece| piece.code == code) {
                Some(piece) if piece.goes_on => {
                    piece.data.extend_from_slice(data);
                    piece.goes_on = goes_on;
                }
                Some(_said_twice) => {}
                None => self.0.push(Piece {
                    code,
                    data: data.to_vec(),
                    first: data.len(),
                    goes_on,
                }),
            }
        }
        for piece in &mut self.0 {
            piece.goes_on = true;
        }
    }

    /// Those that make sense, whole or by what came first.
    fn joined(self) -> DhcpOptions {
        let option = |piece: &Piece| {
            let first = || option(piece.code, piece.data.get(..piece.first)?);
            option(piece.code, &piece.data).or_else(first)
        };
        self.0.iter().filter_map(option).collect()
    }
}

/// An option of any length.
fn option(code: OptionCode, data: &[u8]) -> Option<DhcpOption> {
    let mut bytes = Vec::new();
    // Even of nothing there is one piece.
    let (first, more) = data.split_at(data.len().min(LARGEST_PIECE));
    for piece in std::iter::once(first).chain(more.chunks(LARGEST_PIECE)) {
        bytes.push(code.into());
        bytes.push(u8::try_from(piece.len()).ok()?);
        bytes.extend_from_slice(piece);
    }
    DhcpOption::decode(&mut Decoder::new(&bytes)).ok()
}

/// A request in which nothing is said yet. Not by `Message::new`: that takes random numbers from the kernel,
/// which on a machine without a source of them is a wait of seconds at this point of a boot.
fn empty() -> anyhow::Result<Message> {
    // RFC 2131 2: op, htype, hlen; then zeros up to the magic of RFC 2132 2.
    let mut bytes = [0; 240];
    bytes[..3].copy_from_slice(&[1, HARDWARE_ETHERNET, 6]);
    bytes[236..].copy_from_slice(&[99, 130, 83, 99]);
    Ok(Message::decode(&mut Decoder::new(&bytes))?)
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
        let mut message = OURS.message(MessageType::Offer).unwrap();
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
        let kind = |bytes: &[u8]| OURS.answer(bytes).map(|answer| answer.kind);
        assert_eq!(kind(&reply(|_| {})), Some(MessageType::Offer));
        assert_eq!(kind(&reply(|m| _ = m.set_xid(1))), None);
        assert_eq!(kind(&reply(|m| _ = m.set_chaddr(&[9; 6]))), None);
        assert_eq!(kind(&OURS.discover().unwrap()), None);
    }

    #[test]
    fn a_damaged_option_leaves_the_others_and_options_go_on_in_the_file_field() {
        let mut bytes = reply(|m| _ = m.set_yiaddr([10, 0, 2, 15]));
        bytes.truncate(240);
        // Type offer; a name that is no UTF-8; a mask of three bytes; overload; an MTU.
        bytes.extend([53, 1, 2, 12, 2, 0xff, 0xfe, 1, 3, 255, 255, 255, 52, 1, 1]);
        bytes.extend([26, 2, 5, 120, 255]);
        bytes[108..115].copy_from_slice(&[54, 4, 10, 0, 2, 2, 255]);
        let answer = OURS.answer(&bytes).unwrap();
        assert_eq!(answer.kind, MessageType::Offer);
        assert_eq!(answer.options.get(OptionCode::Hostname), None);
        assert_eq!(answer.options.get(OptionCode::SubnetMask), None);
        assert_eq!(
            answer.options.get(OptionCode::InterfaceMtu),
            Some(&DhcpOption::InterfaceMtu(1400))
        );
        assert_eq!(
            answer.options.get(OptionCode::ServerIdentifier),
            Some(&DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 2, 2)))
        );
        assert_eq!(answer.file, Vec::<u8>::new());
    }

    #[test]
    fn an_option_in_pieces_is_one_and_of_what_is_said_twice_the_first_counts() {
        let url = format!("http://10.0.2.2/{}.toml", "a".repeat(300));
        let file = |pieces: [&str; 3]| {
            let mut bytes = reply(|_| {});
            bytes.truncate(240);
            bytes.extend([53, 1, 2, 52, 1, 1, 53, 1, 5]);
            let option = |text: &str| {
                let length = u8::try_from(text.len()).unwrap();
                [&[67, length][..], text.as_bytes()].concat()
            };
            // What lies between: pieces side by side are joined by the library.
            let mtu = vec![26, 2, 5, 120];
            bytes.extend([option(pieces[0]), mtu, option(pieces[1]), vec![255]].concat());
            let rest = [option(pieces[2]), vec![255]].concat();
            bytes[108..108 + rest.len()].copy_from_slice(&rest);
            let answer = OURS.answer(&bytes).unwrap();
            assert_eq!(answer.kind, MessageType::Offer);
            match answer.options.get(OptionCode::BootfileName) {
                Some(DhcpOption::BootfileName(name)) => String::from_utf8(name.clone()).unwrap(),
                other => panic!("{other:?}"),
            }
        };
        // Full, and where the field ends.
        assert_eq!(file([&url[..255], &url[255..280], &url[280..]]), url);
        assert_eq!(file(["first", "second", ""]), "first");
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
            let _ = OURS.answer(&bytes);
            // Past the fields of a message that is ours, too.
            let mut message = reply(|_| {});
            message.truncate(240);
            message.extend(&bytes);
            let _ = OURS.answer(&message);
        }
    }
}
