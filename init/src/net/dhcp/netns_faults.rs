//! The client against servers that come late, refuse, or are one too many.

use super::netns_test::ask;
use super::renew;
use super::*;
use crate::net::netns::{Cable, Heard, SERVER, wait_for};
use dhcproto::v4::{DhcpOptions, Message, Opcode};
use dhcproto::{Decodable, Decoder, Encodable};
use pitstop_imaging::event::Silent;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const RANGE: &str = "--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,2h";
/// What a second server calls itself, and what it would give.
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);
const OTHERS: Ipv4Addr = Ipv4Addr::new(192, 168, 99, 7);

/// The next question at the server's end.
fn question(socket: &UdpSocket) -> Message {
    let mut buffer = [0; 1500];
    let (length, _) = socket.recv_from(&mut buffer).unwrap();
    Message::decode(&mut Decoder::new(&buffer[..length])).unwrap()
}

/// Answers a question as a server, to all. What is granted is to be renewed every two seconds.
fn say(socket: &UdpSocket, question: &Message, kind: MessageType, from: Ipv4Addr, to: Ipv4Addr) {
    let mut answer = question.clone();
    answer.set_opcode(Opcode::BootReply);
    answer.set_yiaddr(to);
    answer.set_opts(DhcpOptions::from_iter([
        DhcpOption::MessageType(kind),
        DhcpOption::ServerIdentifier(from),
        DhcpOption::AddressLeaseTime(60),
        DhcpOption::Renewal(2),
        DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
        DhcpOption::Message("moved".into()),
    ]));
    let all = (Ipv4Addr::BROADCAST, CLIENT_PORT);
    socket.send_to(&answer.to_vec().unwrap(), all).unwrap();
}

/// Sees to it that the client's end has its address, as after a start.
fn configure(nic: &Nic, address: Ipv4Addr) {
    let mut netlink = crate::net::netlink::Netlink::open().unwrap();
    netlink.add_address(nic.index, address.into(), 24).unwrap();
}

#[test]
fn a_server_that_appears_late_is_found_and_a_refused_renewal_is_told() {
    let mut cable = Cable::lay("late");
    cable.at_client(|nic| {
        let nobody = ask(&nic, Duration::from_secs(2));
        assert!(nobody.is_none(), "{nobody:?}");
    });
    cable.serve(&[RANGE]);
    let granted = cable.at_client(|nic| ask(&nic, Duration::from_secs(60)).expect("an address"));
    cable.stop_serving();
    let refusal = cable.at_server(|socket| {
        let asked = question(&socket);
        // RFC 2131 4.3.2: a no goes to all.
        let none = Ipv4Addr::UNSPECIFIED;
        say(&socket, &asked, MessageType::Nak, SERVER, none);
    });
    let refused = cable.at_client(move |nic| {
        configure(&nic, granted.settings.address);
        renew::ask(&nic, granted.settings.address, granted.settings.server).unwrap()
    });
    refusal.join().unwrap();
    assert!(
        matches!(&refused, renew::Reply::No(why) if why == "moved"),
        "{refused:?}"
    );
}

#[test]
fn a_short_lease_is_renewed_in_time_and_outlives_a_server_that_takes_it_back() {
    let cable = Cable::lay("short");
    let address = Ipv4Addr::new(10, 77, 0, 55);
    let takes_back = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&takes_back);
    // A client on a busy computer asks again before the answer is there: each question is answered for what it is.
    let server = cable.at_server(move |socket| {
        loop {
            let asked = question(&socket);
            if asked.opts().msg_type() == Some(MessageType::Discover) {
                say(&socket, &asked, MessageType::Offer, SERVER, address);
            } else if told.load(Ordering::SeqCst) {
                // RFC 2131 4.3.2: a no goes to all.
                let none = Ipv4Addr::UNSPECIFIED;
                return say(&socket, &asked, MessageType::Nak, SERVER, none);
            } else {
                say(&socket, &asked, MessageType::Ack, SERVER, address);
            }
        }
    });
    let (heard, said) = Heard::new();
    cable.at_client(move |nic| {
        let granted = ask(&nic, Duration::from_secs(60)).expect("an address");
        assert_eq!(granted.settings.times.renew, Duration::from_secs(2));
        configure(&nic, address);
        thread::spawn(move || renew::keep(&nic, granted, &heard));
    });
    for _ in 0..3 {
        wait_for(&said, &format!("DHCP lease of {address} renewed"));
    }
    takes_back.store(true, Ordering::SeqCst);
    wait_for(
        &said,
        &format!("the DHCP server takes {address} back (moved): the address is kept"),
    );
    server.join().unwrap();
    let addresses = cable.ip_at_client("addr show c0");
    assert!(
        addresses.contains(&format!("inet {address}/24")),
        "{addresses}"
    );
}

#[test]
fn of_two_servers_only_the_chosen_one_grants_and_refuses() {
    let cable = Cable::lay("two");
    let address = Ipv4Addr::new(10, 77, 0, 55);
    let none = Ipv4Addr::UNSPECIFIED;
    // A client on a busy computer asks again before the answer is there: each question is answered for what it is.
    let servers = cable.at_server(move |socket| {
        loop {
            let asked = question(&socket);
            if asked.opts().msg_type() == Some(MessageType::Discover) {
                say(&socket, &asked, MessageType::Offer, SERVER, address);
                say(&socket, &asked, MessageType::Offer, OTHER, OTHERS);
                continue;
            }
            let renews = !asked.ciaddr().is_unspecified();
            say(&socket, &asked, MessageType::Nak, OTHER, none);
            if !renews {
                say(&socket, &asked, MessageType::Ack, OTHER, OTHERS);
            }
            say(&socket, &asked, MessageType::Ack, SERVER, address);
            if renews {
                return;
            }
        }
    });
    let (heard, said) = Heard::new();
    let renewed = cable.at_client(move |nic| {
        let began = Instant::now();
        let until = began + Duration::from_secs(120);
        let granted = acquire(&nic, began, until, &mut Backoff::default(), &heard)
            .unwrap()
            .expect("an address");
        assert_eq!(granted.settings.address, address);
        assert_eq!(granted.settings.server, SERVER);
        configure(&nic, address);
        renew::ask(&nic, address, SERVER).unwrap()
    });
    servers.join().unwrap();
    assert!(matches!(renewed, renew::Reply::Granted(_)), "{renewed:?}");
    wait_for(
        &said,
        "there is a second DHCP server, 10.77.0.9: its answers are ignored",
    );
}

#[test]
fn an_offer_that_does_not_name_its_server_is_told_with_what_it_lacks() {
    let cable = Cable::lay("nameless");
    let address = Ipv4Addr::new(10, 77, 0, 55);
    let server = cable.at_server(move |socket| {
        let asked = question(&socket);
        let mut answer = asked.clone();
        answer.set_opcode(Opcode::BootReply);
        answer.set_yiaddr(address);
        answer.set_opts(DhcpOptions::from_iter([DhcpOption::MessageType(
            MessageType::Offer,
        )]));
        let all = (Ipv4Addr::BROADCAST, CLIENT_PORT);
        socket.send_to(&answer.to_vec().unwrap(), all).unwrap();
    });
    let outcome = cable.at_client(|nic| {
        let began = Instant::now();
        // A server that listens late hears the second question.
        let until = began + Duration::from_secs(40);
        acquire(&nic, began, until, &mut Backoff::default(), &Silent).unwrap()
    });
    server.join().unwrap();
    let Err(NoAddress::Unusable(why)) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(why.contains("offers 10.77.0.55"), "{why}");
    assert!(why.contains("server identifier"), "{why}");
}

#[test]
fn a_server_that_offers_and_never_grants_is_passed_over() {
    let mut cable = Cable::lay("rogue");
    cable.serve(&[RANGE]);
    // Its offer is always the first: dnsmasq looks for three seconds whether the address is free.
    let rogue = cable.at_server(|socket| {
        loop {
            let asked = question(&socket);
            match asked.opts().msg_type() {
                Some(MessageType::Discover) => {
                    say(&socket, &asked, MessageType::Offer, OTHER, OTHERS);
                }
                Some(MessageType::Request) if wanted(&asked) == Some(SERVER) => return,
                _ => {}
            }
        }
    });
    let granted = cable.at_client(|nic| ask(&nic, Duration::from_secs(60)).expect("an address"));
    assert_eq!(granted.settings.server, SERVER);
    rogue.join().unwrap();
}

/// The server whose offer a question takes up.
fn wanted(question: &Message) -> Option<Ipv4Addr> {
    match question.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => Some(*server),
        _ => None,
    }
}
