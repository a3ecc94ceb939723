//! Beside a server that gives addresses (PXE 2.1, 2.2.3): machines that boot are told what to load, and nothing else.

use crate::answer::Answer;
use crate::boot::{self, Client, Here};
use crate::question::{Kind, Question, code};
use dhcproto::v4::MessageType;
use pitstop_fleet::Fleet;
use pitstop_fleet::boot::Firmware;

/// PXE's option 43: discovery control (6), one byte, bit 3: load the file that is named here, ask nobody for more
/// (PXE 2.1, table 2-1). BIOS wants it. UEFI that sees it looks for a menu in it, and finds none.
const LOAD_AT_ONCE: [u8; 4] = [6, 1, 8, 255];

/// Where a question came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// 67
    Dhcp,
    /// 4011: clients that have an address already.
    Pxe,
}

/// What became of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// An answer, and its line for the journal.
    Answer(Box<Answer>, String),
    /// None; a line where an admin would wonder why.
    Nothing(Option<String>),
}

pub fn answer(fleet: Option<&Fleet>, question: &Question, here: &Here, port: Port) -> Told {
    let kind = match (question.kind, port) {
        (Kind::Discover, _) => MessageType::Offer,
        (Kind::Request | Kind::Inform, Port::Pxe) => MessageType::Ack,
        // Everybody hears whose offer a client takes: only one that takes ours is answered.
        (Kind::Request, Port::Dhcp) if question.server() == Some(here.address) => MessageType::Ack,
        _ => return Told::Nothing(None),
    };
    let client = Client::of(question);
    if client == Client::Other {
        return Told::Nothing(None);
    }
    let machine = boot::machine(fleet, question);
    let who = format!(
        "{} DHCP on {}",
        boot::who(question, machine),
        here.interface
    );
    if !boot::may_boot(fleet, machine) {
        let why = "it is not in the fleet file, which says unknown = \"ignore\"";
        return Told::Nothing(Some(format!("{who}: not answered: {why}")));
    }
    let firmware = match client {
        Client::Boots(firmware) => firmware,
        Client::CannotBoot(which) => {
            return Told::Nothing(Some(format!(
                "{who}: not answered: nothing here boots {which}"
            )));
        }
        Client::Other => return Told::Nothing(None),
    };
    let mut answer = Answer::new(question, kind, here.address);
    if question.relay.is_some() && question.client.is_none() {
        // A relay would send it to the address that it gives, and it gives none (RFC 1542 4.1.2).
        answer.to_all();
    }
    let class = if firmware.is_http() {
        boot::HTTP
    } else {
        boot::PXE
    };
    answer.add_raw(code::CLASS, class.as_bytes());
    if firmware == Firmware::Bios {
        answer.add_raw(code::VENDOR, &LOAD_AT_ONCE);
    }
    let file = here.boot_file(fleet, question, firmware);
    answer.boot(question, &file);
    let line = format!("{who}: {} is to load {file}", boot::title(firmware));
    Told::Answer(Box::new(answer), line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::tests::{asked, datagram};
    use dhcproto::v4::{DhcpOption, Message, OptionCode};
    use pitstop_fleet::boot::Chain;
    use std::net::Ipv4Addr;

    const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn here() -> Here {
        Here {
            interface: "eth0".into(),
            address: HERE,
            files: HERE,
            url: "http://10.0.0.1:8080".into(),
            chain: Chain::Plain,
        }
    }

    fn rom(kind: MessageType, architecture: u8, more: &[(u8, &[u8])]) -> Question {
        let machine = [0x11; 17];
        let architecture = [0, architecture];
        let mut options = vec![
            (code::CLASS, &b"PXEClient:Arch:00000:UNDI:002001"[..]),
            (code::ARCHITECTURE, &architecture),
            (code::MACHINE, &machine),
        ];
        options.retain(|(code, _)| more.iter().all(|(other, _)| other != code));
        options.extend(more);
        asked(kind, &options)
    }

    fn told(question: &Question, port: Port) -> Message {
        match answer(None, question, &here(), port) {
            Told::Answer(answer, _) => answer.message().clone(),
            Told::Nothing(why) => panic!("no answer: {why:?}"),
        }
    }

    fn raw(message: &Message, code: u8) -> Option<Vec<u8>> {
        let bytes = dhcproto::Encodable::to_vec(message).unwrap();
        let read = dhcproto::v4::borrowed::Message::new(&bytes).unwrap();
        let mut options = read.opts();
        let found = options.find(|option| u8::from(option.code()) == code);
        found.map(|option| option.data().to_vec())
    }

    #[test]
    fn a_bios_is_told_at_once_and_gets_no_address() {
        let offer = told(&rom(MessageType::Discover, 0, &[]), Port::Dhcp);
        assert_eq!(offer.yiaddr(), Ipv4Addr::UNSPECIFIED);
        assert_eq!((offer.siaddr(), offer.xid()), (HERE, 0x1234_5678));
        assert_eq!(offer.fname(), Some(&b"pxelinux.0"[..]));
        assert_eq!(offer.opts().msg_type(), Some(MessageType::Offer));
        assert_eq!(
            offer.opts().get(OptionCode::ServerIdentifier),
            Some(&DhcpOption::ServerIdentifier(HERE))
        );
        assert_eq!(raw(&offer, code::CLASS).as_deref(), Some(&b"PXEClient"[..]));
        assert_eq!(
            raw(&offer, code::VENDOR).as_deref(),
            Some(&[6, 1, 8, 255][..])
        );
        assert_eq!(raw(&offer, code::MACHINE), Some(vec![0x11; 17]));
        assert_eq!(raw(&offer, 51), None, "a lease time without a lease");
    }

    #[test]
    fn uefi_comes_again_to_the_other_port() {
        for (architecture, loader) in [(7, "ipxe.efi"), (9, "ipxe.efi"), (11, "ipxe-arm64.efi")] {
            let offer = told(&rom(MessageType::Discover, architecture, &[]), Port::Dhcp);
            assert_eq!(raw(&offer, code::VENDOR), None);
            let ack = told(&rom(MessageType::Request, architecture, &[]), Port::Pxe);
            assert_eq!(ack.opts().msg_type(), Some(MessageType::Ack));
            assert_eq!(ack.fname(), Some(loader.as_bytes()));
        }
    }

    #[test]
    fn http_and_ipxe_get_urls() {
        let class = b"HTTPClient:Arch:00016:UNDI:003001";
        let offer = told(
            &rom(MessageType::Discover, 16, &[(code::CLASS, class)]),
            Port::Dhcp,
        );
        assert_eq!(
            raw(&offer, code::CLASS).as_deref(),
            Some(&b"HTTPClient"[..])
        );
        let url = b"http://10.0.0.1:8080/boot/ipxe.efi";
        assert_eq!(raw(&offer, code::BOOT_FILE).as_deref(), Some(&url[..]));
        let ipxe = rom(MessageType::Discover, 7, &[(code::USER_CLASS, b"iPXE")]);
        let offer = told(&ipxe, Port::Dhcp);
        assert_eq!(offer.fname(), Some(&b"http://10.0.0.1:8080/boot.ipxe"[..]));
    }

    #[test]
    fn what_is_anothers_business_is_not_answered() {
        let nothing = |question: &Question| answer(None, question, &here(), Port::Dhcp);
        let other = Ipv4Addr::new(10, 0, 0, 2).octets();
        let taken = rom(MessageType::Request, 0, &[(code::SERVER, &other)]);
        assert_eq!(nothing(&taken), Told::Nothing(None));
        assert_eq!(
            nothing(&rom(MessageType::Request, 0, &[])),
            Told::Nothing(None)
        );
        let ours = rom(MessageType::Request, 0, &[(code::SERVER, &HERE.octets())]);
        assert!(matches!(nothing(&ours), Told::Answer(..)));
        let windows = rom(MessageType::Discover, 0, &[(code::CLASS, b"MSFT 5.0")]);
        assert_eq!(nothing(&windows), Told::Nothing(None));
        let Told::Nothing(Some(why)) = nothing(&rom(MessageType::Discover, 6, &[])) else {
            panic!("32-bit UEFI boots")
        };
        assert!(why.contains("nothing here boots 32-bit UEFI"), "{why}");
    }

    #[test]
    fn a_relay_is_told_to_broadcast_what_has_no_address_in_it() {
        let bytes = datagram(
            MessageType::Discover,
            &[(code::CLASS, b"PXEClient"), (code::ARCHITECTURE, &[0, 0])],
            |message| {
                message.set_giaddr(Ipv4Addr::new(10, 1, 0, 1));
            },
        );
        let offer = told(&Question::read(&bytes).unwrap(), Port::Dhcp);
        assert!(offer.flags().broadcast());
        assert!(
            !told(&rom(MessageType::Discover, 0, &[]), Port::Dhcp)
                .flags()
                .broadcast()
        );
    }

    #[test]
    fn the_fleet_file_says_who_boots_and_what() {
        let text = "version = 1\n[server]\nunknown = \"ignore\"\nloader-bios = \"lpxelinux.0\"\nloader-ipxe = \"pxelinux.0\"\n\
             address = \"10.0.0.9\"\n[host.a]\nmac = \"52:54:00:01:02:03\"\n";
        let fleet = Fleet::parse(text.as_bytes(), "fleet.toml").unwrap();
        let known = rom(MessageType::Discover, 0, &[]);
        let Told::Answer(offer, line) = answer(Some(&fleet), &known, &here(), Port::Dhcp) else {
            panic!("a known machine is not answered")
        };
        assert_eq!(offer.message().fname(), Some(&b"lpxelinux.0"[..]));
        assert_eq!(offer.message().siaddr(), Ipv4Addr::new(10, 0, 0, 9));
        assert_eq!(
            line,
            "52:54:00:01:02:03 (a) DHCP on eth0: BIOS is to load lpxelinux.0 from 10.0.0.9"
        );
        let ipxe = rom(MessageType::Discover, 0, &[(code::USER_CLASS, b"iPXE")]);
        let Told::Answer(offer, _) = answer(Some(&fleet), &ipxe, &here(), Port::Dhcp) else {
            panic!("its iPXE is not answered")
        };
        assert_eq!(offer.message().fname(), Some(&b"pxelinux.0"[..]));
        let text = text.replace("01:02:03", "01:02:04");
        for (text, answered) in [
            (text.clone(), false),
            (text.replace("ignore", "enroll"), true),
        ] {
            let fleet = Fleet::parse(text.as_bytes(), "fleet.toml").unwrap();
            let told = answer(Some(&fleet), &known, &here(), Port::Dhcp);
            assert_eq!(matches!(told, Told::Answer(..)), answered, "{told:?}");
        }
    }
}
