use super::*;
use crate::question::tests::{MAC, datagram};
use dhcproto::v4::{Message, OptionCode};
use pitstop_fleet::boot::Chain;
use proptest::prelude::*;
use std::collections::HashMap;

const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const STRANGER: Mac = Mac([0x52, 0x54, 0, 9, 9, 9]);

const LAB: &str = r#"version = 1
[network."10.0.0.0/24"]
router = "10.0.0.254"
dns = ["10.0.0.53"]
ntp = ["10.0.0.123"]
domain = "lab.example"
range = "10.0.0.50-10.0.0.53"
lease-time = "1h"
[network."10.1.0.0/24"]
range = "10.1.0.50-10.1.0.53"
[host.pc]
mac = "52:54:00:01:02:03"
ip = "10.0.0.7"
"#;

struct Lab {
    fleet: Fleet,
    here: Here,
    lender: Lender,
    now: i64,
}

impl Lab {
    fn new(text: &str) -> Self {
        Self {
            fleet: Fleet::parse(text.as_bytes(), "fleet.toml").unwrap(),
            here: Here {
                interface: "eth0".into(),
                address: HERE,
                files: HERE,
                url: "http://10.0.0.1:8080".into(),
                chain: Chain::Plain,
            },
            lender: Lender::new(Leases::default()),
            now: 1000,
        }
    }

    fn asked(&mut self, question: &Question) -> Verdict {
        let scene = Scene {
            fleet: &self.fleet,
            here: &self.here,
            own: &[HERE],
            now: Timestamp::from_second(self.now).unwrap(),
        };
        self.lender.answer(question, &scene)
    }

    fn probed(&mut self, question: &Question, ip: Ipv4Addr, taken: bool) -> Verdict {
        let scene = Scene {
            fleet: &self.fleet,
            here: &self.here,
            own: &[HERE],
            now: Timestamp::from_second(self.now).unwrap(),
        };
        self.lender.probed(question, &scene, ip, taken)
    }

    /// Asks until there is an answer; nobody else has an address.
    fn told(&mut self, question: &Question) -> Message {
        match self.asked(question) {
            Verdict::Answer(answer, _) | Verdict::Kept(answer, _) => answer.message().clone(),
            Verdict::Probe(Probe { ip, .. }) => match self.probed(question, ip, false) {
                Verdict::Answer(answer, _) => answer.message().clone(),
                other => panic!("{other:?}"),
            },
            other => panic!("no answer: {other:?}"),
        }
    }

    /// What a new client gets, and keeps.
    fn lease(&mut self, mac: Mac) -> Ipv4Addr {
        let offer = self.told(&from(mac, MessageType::Discover, &[], |_| {}));
        let ip = offer.yiaddr();
        let options = [(50, &ip.octets()[..]), (54, &HERE.octets()[..])];
        let ack = self.told(&from(mac, MessageType::Request, &options, |_| {}));
        assert_eq!((kind(&ack), ack.yiaddr()), (MessageType::Ack, ip));
        ip
    }
}

fn from(
    mac: Mac,
    kind: MessageType,
    options: &[(u8, &[u8])],
    change: impl FnOnce(&mut Message),
) -> Question {
    let bytes = datagram(kind, options, |message| {
        message.set_chaddr(&mac.0);
        change(message);
    });
    Question::read(&bytes).unwrap()
}

fn kind(message: &Message) -> MessageType {
    message.opts().msg_type().unwrap()
}

fn stranger(number: u8) -> Mac {
    Mac([0x52, 0x54, 0, 8, 8, number])
}

#[test]
fn a_machine_of_the_file_gets_its_address_name_and_network() {
    let mut lab = Lab::new(LAB);
    let offer = lab.told(&from(MAC, MessageType::Discover, &[], |_| {}));
    assert_eq!(
        (kind(&offer), offer.yiaddr()),
        (MessageType::Offer, Ipv4Addr::new(10, 0, 0, 7))
    );
    for option in [
        DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
        DhcpOption::Router(vec![Ipv4Addr::new(10, 0, 0, 254)]),
        DhcpOption::DomainNameServer(vec![Ipv4Addr::new(10, 0, 0, 53)]),
        DhcpOption::NtpServers(vec![Ipv4Addr::new(10, 0, 0, 123)]),
        DhcpOption::DomainName("lab.example".into()),
        DhcpOption::Hostname("pc".into()),
        DhcpOption::AddressLeaseTime(3600),
        DhcpOption::ServerIdentifier(HERE),
    ] {
        let code = OptionCode::from(&option);
        assert_eq!(offer.opts().get(code), Some(&option));
    }
    assert_eq!(
        offer.fname(),
        None,
        "an operating system is not told to boot"
    );
    let wrong = [(50, &[10, 0, 0, 8][..])];
    let nak = lab.told(&from(MAC, MessageType::Request, &wrong, |_| {}));
    assert_eq!(
        (kind(&nak), nak.yiaddr()),
        (MessageType::Nak, Ipv4Addr::UNSPECIFIED)
    );
    assert!(nak.flags().broadcast());
}

#[test]
fn strangers_get_addresses_of_the_range_until_none_is_left() {
    let mut lab = Lab::new(LAB);
    let mut given: Vec<Ipv4Addr> = (0..3).map(|n| lab.lease(stranger(n))).collect();
    given.sort();
    // 10.0.0.53 is the name server's.
    let expected: Vec<Ipv4Addr> = (50..53).map(|n| Ipv4Addr::new(10, 0, 0, n)).collect();
    assert_eq!(given, expected);
    let late = from(STRANGER, MessageType::Discover, &[], |_| {});
    let Verdict::Nothing(Some(why)) = lab.asked(&late) else {
        panic!("there was a fourth address")
    };
    assert!(
        why.contains("none is left in the range of 10.0.0.0/24"),
        "{why}"
    );
    // The first again has what it had; one that ran out is free.
    let again = lab.lease(stranger(1));
    lab.now += 1800;
    assert_eq!(lab.lease(stranger(1)), again);
    lab.now += 1801;
    assert_ne!(lab.lease(STRANGER), again);
}

#[test]
fn an_address_that_somebody_has_is_left_alone() {
    let mut lab = Lab::new(LAB);
    let question = from(STRANGER, MessageType::Discover, &[], |_| {});
    let Verdict::Probe(Probe { ip: first, former }) = lab.asked(&question) else {
        panic!("not looked at before it is offered")
    };
    assert!(
        matches!(lab.asked(&question), Verdict::Nothing(None)),
        "looked at twice"
    );
    assert_eq!(former, None);
    let Verdict::Probe(Probe { ip: second, .. }) = lab.probed(&question, first, true) else {
        panic!("no second address")
    };
    assert_ne!(first, second);
    let Verdict::Answer(offer, _) = lab.probed(&question, second, false) else {
        panic!("no offer")
    };
    assert_eq!(offer.message().yiaddr(), second);
    // The client finds somebody there after all.
    let options = [(50, &second.octets()[..])];
    let decline = from(STRANGER, MessageType::Decline, &options, |_| {});
    assert!(matches!(lab.asked(&decline), Verdict::Changed(_)));
    let third = lab.lease(STRANGER);
    assert!(third != first && third != second, "{third}");
}

/// The kernel may know the last client there for long: that is nobody.
#[test]
fn who_cannot_be_looked_after_now_is_asked_for_again_at_once() {
    let mut lab = Lab::new(LAB);
    let discover = from(STRANGER, MessageType::Discover, &[], |_| {});
    assert!(matches!(lab.asked(&discover), Verdict::Probe(_)));
    assert!(matches!(lab.asked(&discover), Verdict::Nothing(None)));
    lab.lender.forget(STRANGER);
    assert!(matches!(lab.asked(&discover), Verdict::Probe(_)));
}

#[test]
fn whose_an_address_was_is_told_to_who_looks_for_somebody_there() {
    let mut lab = Lab::new(LAB);
    let given: Vec<Ipv4Addr> = (0..3).map(|n| lab.lease(stranger(n))).collect();
    lab.now += 3601;
    let question = from(STRANGER, MessageType::Discover, &[], |_| {});
    let Verdict::Probe(Probe { ip, former }) = lab.asked(&question) else {
        panic!("what ran out is not looked at")
    };
    let number = given.iter().position(|one| *one == ip).unwrap();
    assert_eq!(former, Some(stranger(u8::try_from(number).unwrap())));
}

#[test]
fn what_is_given_back_is_free_and_remembered() {
    let mut lab = Lab::new(LAB);
    let ip = lab.lease(STRANGER);
    let release = |mac| {
        from(mac, MessageType::Release, &[], |m| {
            m.set_ciaddr(ip);
        })
    };
    assert!(matches!(
        lab.asked(&release(stranger(1))),
        Verdict::Nothing(None)
    ));
    assert!(matches!(lab.asked(&release(STRANGER)), Verdict::Changed(_)));
    assert_eq!(lab.lease(STRANGER), ip);
}

#[test]
fn a_relay_names_the_network() {
    let mut lab = Lab::new(LAB);
    let through = |m: &mut Message| {
        m.set_giaddr(Ipv4Addr::new(10, 1, 0, 1));
    };
    let offer = lab.told(&from(MAC, MessageType::Discover, &[], through));
    // Its own address is in the other network.
    assert_eq!(offer.yiaddr().octets()[..3], [10, 1, 0]);
    let nowhere = |m: &mut Message| {
        m.set_giaddr(Ipv4Addr::new(10, 9, 0, 1));
    };
    let lost = from(MAC, MessageType::Discover, &[], nowhere);
    let Verdict::Nothing(Some(why)) = lab.asked(&lost) else {
        panic!("an answer")
    };
    assert!(
        why.contains("10.9.0.1 is in no network of fleet.toml"),
        "{why}"
    );
    // A renewal comes without the relay.
    let ip = offer.yiaddr();
    let renewal = from(MAC, MessageType::Request, &[], |m| {
        m.set_ciaddr(ip);
    });
    let ack = lab.told(&renewal);
    assert_eq!(
        (kind(&ack), ack.yiaddr(), ack.ciaddr()),
        (MessageType::Ack, ip, ip)
    );
}

#[test]
fn what_is_no_longer_right_is_refused() {
    let mut lab = Lab::new(LAB);
    let ip = lab.lease(STRANGER);
    let reboot = |mac, ip: [u8; 4]| from(mac, MessageType::Request, &[(50, &ip)], |_| {});
    let ack = lab.told(&reboot(STRANGER, ip.octets()));
    assert_eq!(kind(&ack), MessageType::Ack);
    for (mac, wanted) in [
        (stranger(1), ip.octets()),
        (STRANGER, [192, 168, 9, 9]),
        (STRANGER, [10, 0, 0, 7]),
        (STRANGER, [10, 0, 0, 53]),
        (STRANGER, [10, 0, 0, 99]),
    ] {
        let nak = lab.told(&reboot(mac, wanted));
        assert_eq!(kind(&nak), MessageType::Nak, "{wanted:?}");
    }
    // What others may have lent on the same wire is theirs.
    let foreign = reboot(stranger(2), [10, 0, 0, 99]);
    let verdict = lab.asked(&foreign);
    assert!(matches!(verdict, Verdict::Nothing(None)), "{verdict:?}");
    let other = Ipv4Addr::new(10, 0, 0, 2);
    let options = [(50, &ip.octets()[..]), (54, &other.octets()[..])];
    let taken = from(STRANGER, MessageType::Request, &options, |_| {});
    assert!(matches!(lab.asked(&taken), Verdict::Rival(server) if server == other));
}

#[test]
fn boot_roms_are_told_what_to_load_with_their_address() {
    let mut lab = Lab::new(LAB);
    let rom = |class: &[u8], architecture: u8| {
        let architecture = [0, architecture];
        let options = [(60, class), (93, &architecture[..])];
        from(MAC, MessageType::Discover, &options, |_| {})
    };
    let bios = lab.told(&rom(b"PXEClient:Arch:00000:UNDI:002001", 0));
    assert_eq!(
        (bios.fname(), bios.siaddr()),
        (Some(&b"pxelinux.0"[..]), HERE)
    );
    assert_eq!(bios.opts().get(OptionCode::ClassIdentifier), None);
    let http = lab.told(&rom(b"HTTPClient:Arch:00016:UNDI:003001", 16));
    assert_eq!(
        http.fname(),
        Some(&b"http://10.0.0.1:8080/boot/ipxe.efi"[..])
    );
    let Verdict::Answer(_, line) = lab.asked(&rom(b"PXEClient:Arch:00006", 6)) else {
        panic!("no address")
    };
    assert!(
        line.ends_with("offered 10.0.0.7, but nothing here boots 32-bit UEFI (architecture 6)")
    );
}

#[test]
fn who_asks_for_the_rest_gets_no_address() {
    let mut lab = Lab::new(LAB);
    let inform = from(STRANGER, MessageType::Inform, &[], |m| {
        m.set_ciaddr(Ipv4Addr::new(10, 0, 0, 20));
    });
    let ack = lab.told(&inform);
    assert_eq!(
        (kind(&ack), ack.yiaddr()),
        (MessageType::Ack, Ipv4Addr::UNSPECIFIED)
    );
    assert_eq!(ack.opts().get(OptionCode::AddressLeaseTime), None);
}

/// Two clients may never have one address at a time.
#[derive(Debug, Clone)]
enum Step {
    Discover(u8),
    Request(u8, u8),
    Release(u8, u8),
    Wait(u16),
}

proptest! {
    #[test]
    fn no_address_is_lent_twice(steps in prop::collection::vec(prop_oneof![
        (0u8..6).prop_map(Step::Discover),
        (0u8..6, 48u8..56).prop_map(|(who, ip)| Step::Request(who, ip)),
        (0u8..6, 48u8..56).prop_map(|(who, ip)| Step::Release(who, ip)),
        (0u16..4000).prop_map(Step::Wait),
    ], 0..60)) {
        let mut lab = Lab::new(LAB);
        let mut lent: HashMap<Ipv4Addr, (u8, i64)> = HashMap::default();
        for step in steps {
            match step {
                Step::Wait(seconds) => lab.now += i64::from(seconds),
                Step::Discover(who) => {
                    let question = from(stranger(who), MessageType::Discover, &[], |_| {});
                    if let Verdict::Probe(Probe { ip, .. }) = lab.asked(&question) {
                        lab.probed(&question, ip, false);
                    }
                }
                Step::Request(who, last) => {
                    let ip = [10, 0, 0, last];
                    let question = from(stranger(who), MessageType::Request, &[(50, &ip)], |_| {});
                    if let Verdict::Kept(answer, _) = lab.asked(&question) {
                        let ip = answer.message().yiaddr();
                        if let Some((other, until)) = lent.get(&ip) {
                            prop_assert!(*other == who || *until <= lab.now, "{ip}");
                        }
                        lent.insert(ip, (who, lab.now + 3600));
                    }
                }
                Step::Release(who, last) => {
                    let ip = Ipv4Addr::new(10, 0, 0, last);
                    let question = from(stranger(who), MessageType::Release, &[], |m| {
                        m.set_ciaddr(ip);
                    });
                    if let Verdict::Changed(_) = lab.asked(&question) {
                        lent.remove(&ip);
                    }
                }
            }
        }
    }
}
