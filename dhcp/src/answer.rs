//! What a server says (RFC 2131 4.3.1), and to whom it goes.

use crate::question::{Question, code};
use dhcproto::Encodable;
use dhcproto::v4::{
    CLIENT_PORT, DhcpOption, DhcpOptions, MIN_PACKET_SIZE, Message, MessageType, Opcode,
    OptionCode, SERVER_PORT, UnknownOption,
};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

/// The longest name that the field for the boot file holds, with a zero behind it (RFC 2131 2).
const LONGEST_FILE: usize = 127;

/// Echoed as they came: clients look for theirs (RFC 6842, RFC 4578 2.3).
const ECHOED: [u8; 2] = [code::CLIENT, code::MACHINE];

/// A message on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    message: Message,
    kind: MessageType,
    /// What a relay agent put in. It looks for it, once and behind all others (RFC 3046 2.1, 2.2).
    relayed: Option<Vec<u8>>,
}

/// What a machine is told to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFile {
    pub name: String,
    /// The TFTP server.
    pub server: Ipv4Addr,
}

impl fmt::Display for BootFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains("://") {
            f.write_str(&self.name)
        } else {
            write!(f, "{} from {}", self.name, self.server)
        }
    }
}

impl Answer {
    /// An answer to `question` from the server that calls itself `server`.
    pub fn new(question: &Question, kind: MessageType, server: Ipv4Addr) -> Self {
        let mut message = Message::default();
        message
            .set_opcode(Opcode::BootReply)
            .set_xid(question.id)
            .set_flags(question.flags.into())
            .set_chaddr(&question.mac.0);
        if let Some(relay) = question.relay {
            message.set_giaddr(relay);
        }
        if let (MessageType::Ack, Some(client)) = (kind, question.client) {
            message.set_ciaddr(client);
        }
        message.set_opts(DhcpOptions::from_iter([
            DhcpOption::MessageType(kind),
            DhcpOption::ServerIdentifier(server),
        ]));
        let relayed = question.option(code::RELAY);
        let mut answer = Self {
            message,
            kind,
            relayed: relayed.map(<[u8]>::to_vec),
        };
        for code in ECHOED {
            if let Some(data) = question.option(code) {
                answer.add_raw(code, data);
            }
        }
        answer
    }

    pub fn add(&mut self, option: DhcpOption) {
        self.message.opts_mut().insert(option);
    }

    /// Adds an option as bytes. One that is longer than any sender writes at once is left out.
    pub fn add_raw(&mut self, code: u8, data: &[u8]) {
        if u8::try_from(data.len()).is_ok() {
            let option = UnknownOption::new(OptionCode::from(code), data.to_vec());
            self.add(DhcpOption::Unknown(option));
        }
    }

    /// The address that the client is given.
    pub fn give(&mut self, address: Ipv4Addr) {
        self.message.set_yiaddr(address);
    }

    /// The address that the client has from now on.
    pub fn given(&self) -> Option<Ipv4Addr> {
        let ip = self.message.yiaddr();
        (self.kind == MessageType::Ack && !ip.is_unspecified()).then_some(ip)
    }

    /// Says what to load: in the fields that old firmware reads, and in the options that new firmware asks for.
    pub fn boot(&mut self, question: &Question, file: &BootFile) {
        self.message.set_siaddr(file.server);
        let fits = file.name.len() <= LONGEST_FILE;
        if fits {
            self.message.set_fname_str(&file.name);
        }
        if !fits || question.wants(code::BOOT_FILE) {
            self.add_raw(code::BOOT_FILE, file.name.as_bytes());
        }
        if question.wants(code::TFTP_SERVER) {
            self.add_raw(code::TFTP_SERVER, file.server.to_string().as_bytes());
        }
    }

    /// Where it goes (RFC 2131 4.1). A client without an address does not answer ARP yet: it gets a broadcast.
    pub fn to(&self) -> SocketAddrV4 {
        let (relay, client) = (self.message.giaddr(), self.message.ciaddr());
        if !relay.is_unspecified() {
            SocketAddrV4::new(relay, SERVER_PORT)
        } else if !client.is_unspecified() && self.kind == MessageType::Ack {
            SocketAddrV4::new(client, CLIENT_PORT)
        } else {
            SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT)
        }
    }

    /// A no goes to everybody; a relay has to be told so (RFC 2131 4.3.2).
    pub fn to_all(&mut self) {
        self.message.set_flags(self.message.flags().set_broadcast());
    }

    pub fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = self.message.to_vec()?;
        if let Some(data) = &self.relayed
            && let Ok(length) = u8::try_from(data.len())
        {
            let end = bytes.pop();
            bytes.extend([code::RELAY, length]);
            bytes.extend(data);
            bytes.extend(end);
        }
        // Old clients take nothing shorter for BOOTP's (RFC 1542 2.1).
        if bytes.len() < MIN_PACKET_SIZE {
            bytes.resize(MIN_PACKET_SIZE, 0);
        }
        Ok(bytes)
    }

    #[cfg(test)]
    pub(crate) fn message(&self) -> &Message {
        &self.message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::tests::{asked, datagram};
    use dhcproto::v4::borrowed;
    use proptest::prelude::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
    const RELAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

    fn through(client: Option<Ipv4Addr>, relay: Option<Ipv4Addr>) -> Question {
        let mut bytes = datagram(MessageType::Request, &[], |message| {
            message.set_ciaddr(client.unwrap_or(Ipv4Addr::UNSPECIFIED));
            message.set_giaddr(relay.unwrap_or(Ipv4Addr::UNSPECIFIED));
        });
        // As a relay agent does it: in place of the end.
        bytes.pop();
        bytes.extend([code::RELAY, 4, 1, 2, 3, 4, 255]);
        Question::read(&bytes).unwrap()
    }

    #[test]
    fn an_answer_goes_where_its_client_hears_it() {
        let to = |kind, client, relay| Answer::new(&through(client, relay), kind, SERVER).to();
        let all = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);
        assert_eq!(to(MessageType::Offer, None, None), all);
        assert_eq!(
            to(MessageType::Ack, Some(CLIENT), None),
            SocketAddrV4::new(CLIENT, 68)
        );
        assert_eq!(to(MessageType::Nak, Some(CLIENT), None), all);
        assert_eq!(
            to(MessageType::Nak, Some(CLIENT), Some(RELAY)),
            SocketAddrV4::new(RELAY, 67)
        );
    }

    #[test]
    fn what_a_relay_put_in_comes_back_once_and_last() {
        let bytes = Answer::new(&through(None, Some(RELAY)), MessageType::Offer, SERVER)
            .bytes()
            .unwrap();
        let message = borrowed::Message::new(&bytes).unwrap();
        let codes: Vec<u8> = message.opts().map(|it| it.code().into()).collect();
        let (last, others) = codes.split_last().unwrap();
        assert_eq!(*last, code::RELAY);
        assert!(!others.contains(&code::RELAY), "{codes:?}");
        let wanted = [code::RELAY, 4, 1, 2, 3, 4, 255];
        assert!(bytes.windows(wanted.len()).any(|it| it == wanted));
    }

    #[test]
    fn names_go_into_fields_and_into_options_that_are_asked_for() {
        let question = asked(MessageType::Discover, &[(code::WANTED, &[code::BOOT_FILE])]);
        let mut answer = Answer::new(&question, MessageType::Offer, SERVER);
        let mut file = BootFile {
            name: "pxelinux.0".into(),
            server: SERVER,
        };
        answer.boot(&question, &file);
        let bytes = answer.bytes().unwrap();
        assert!(bytes.len() >= MIN_PACKET_SIZE);
        let message = borrowed::Message::new(&bytes).unwrap();
        assert_eq!(message.fname(), b"pxelinux.0");
        assert_eq!(message.siaddr(), SERVER);
        let option = |code| message.opts().find(|option| option.code() == code);
        let named = option(OptionCode::BootfileName).unwrap();
        assert_eq!(named.data(), b"pxelinux.0");
        assert!(option(OptionCode::TFTPServerName).is_none());

        file.name = format!("http://10.0.0.1/{}", "a".repeat(150));
        let mut answer = Answer::new(&question, MessageType::Offer, SERVER);
        answer.boot(&question, &file);
        assert_eq!(answer.message().fname(), None);
    }

    proptest! {
        #[test]
        fn whatever_was_asked_has_an_answer_that_reads(
            tail in prop::collection::vec(any::<u8>(), 0..600),
            name in "[a-z]{0,300}",
        ) {
            let mut bytes = datagram(MessageType::Discover, &[], |_| {});
            // In place of the end.
            bytes.pop();
            bytes.extend(tail);
            if let Ok(question) = Question::read(&bytes) {
                let mut answer = Answer::new(&question, MessageType::Offer, SERVER);
                answer.boot(&question, &BootFile { name, server: SERVER });
                let bytes = answer.bytes().unwrap();
                prop_assert!(borrowed::Message::new(&bytes).is_ok());
            }
        }
    }
}
