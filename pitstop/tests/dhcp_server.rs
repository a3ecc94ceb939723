//! `pitstop serve --dhcp server` in networks of its own.

mod dhcp_common;

use dhcp_common::{
    BIOS, Card, Lab, OTHER, SERVER, UEFI, file, kind, raw, server, udhcpc, udhcpc_tries,
};
use dhcproto::v4::MessageType;
use std::collections::HashSet;
use std::fs;
use std::net::Ipv4Addr;

const FIXED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 20);
const HOST: &str = "[host.pc]\nmac = \"52:54:00:77:00:01\"\nip = \"10.77.0.20\"\n";

#[test]
fn named_machines_get_their_address_and_strangers_one_of_the_range_over_a_restart() {
    let lab = Lab::new();
    lab.fleet(HOST);
    let pitstop = lab.serve(&["--dhcp", "server"]);
    pitstop.says("DHCP server on br0 (10.77.0.1)");
    let named = lab.join(None);
    named.ip("link set e0 address 52:54:00:77:00:01");
    assert_eq!(udhcpc(&named).unwrap(), FIXED);
    let card = Card::of(&named, 1);
    let offers = card.ask(&card.discover(BIOS), 1);
    assert_eq!(
        (offers[0].yiaddr(), file(&offers[0]).as_str()),
        (FIXED, "pxelinux.0")
    );
    assert_eq!(raw(&offers[0], 12).as_deref(), Some(&b"pc"[..]));
    assert_eq!(raw(&offers[0], 15).as_deref(), Some(&b"lab.example"[..]));
    assert_eq!(raw(&offers[0], 6).as_deref(), Some(&[10, 77, 0, 53][..]));
    // Somebody has one of the four without having asked.
    let squatter = lab.join(Some(Ipv4Addr::new(10, 77, 0, 101)));
    let strangers: Vec<_> = (0..3).map(|_| lab.join(None)).collect();
    let given: Vec<Ipv4Addr> = strangers
        .iter()
        .map(|place| udhcpc(place).unwrap())
        .collect();
    let all: HashSet<u8> = given.iter().map(|ip| ip.octets()[3]).collect();
    assert_eq!(all, HashSet::from([100, 102, 103]), "{given:?}");
    let late = lab.join(None);
    let said = udhcpc_tries(&late, 4).unwrap_err();
    assert!(said.contains("no lease"), "{said}");
    pitstop.says("no address: none is left in the range of 10.77.0.0/24");
    drop((pitstop, squatter));

    let pitstop = lab.serve(&["--dhcp", "server"]);
    let again: Vec<Ipv4Addr> = strangers
        .iter()
        .map(|place| udhcpc(place).unwrap())
        .collect();
    assert_eq!(again, given);
    // Given back, another gets it.
    let mut released = Card::of(&strangers[0], 0);
    let mac = fs_mac(&strangers[0].ip("link show e0"));
    released.mac = mac;
    let options = [(54, &SERVER.octets()[..])];
    let mut release = released.question(MessageType::Release, &options);
    release.set_ciaddr(given[0]);
    assert_eq!(released.ask(&release, 0), []);
    pitstop.says(&format!("gave {} back", given[0]));
    // The one address that is still somebody's elsewhere was left alone by the server before; this one asks anew.
    let address = udhcpc(&late).unwrap();
    assert!(
        address == given[0] || address == Ipv4Addr::new(10, 77, 0, 101),
        "{address}"
    );
}

/// The card's address, as `ip link` shows it.
fn fs_mac(shown: &str) -> [u8; 6] {
    let (_, after) = shown.split_once("link/ether ").unwrap();
    let text = after.split(' ').next().unwrap();
    let bytes: Vec<u8> = text
        .split(':')
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect();
    bytes.try_into().unwrap()
}

/// With shim-signed and grub-efi-amd64-signed installed; the proxy's default is another.
#[test]
fn uefi_machines_begin_with_shim() {
    let lab = Lab::new();
    lab.fleet(HOST);
    let pitstop = lab.serve(&["--dhcp", "server"]);
    let client = lab.join(None);
    let card = Card::of(&client, 1);
    let offers = card.ask(&card.discover(UEFI), 1);
    assert_eq!(file(&offers[0]), "shimx64.efi");
    drop((card, pitstop));
    lab.fleet(&format!("[server]\nloader-efi-x64 = \"ipxe.efi\"\n{HOST}"));
    let pitstop = lab.serve(&["--dhcp", "server"]);
    pitstop.says("UEFI machines with Secure Boot on do not start iPXE");
    let card = Card::of(&client, 1);
    let offers = card.ask(&card.discover(UEFI), 1);
    assert_eq!(file(&offers[0]), "ipxe.efi");
}

#[test]
fn a_second_server_is_refused_and_named() {
    let lab = Lab::new();
    lab.fleet(HOST);
    let other = lab.join(Some(OTHER));
    // As it comes: it looks for three seconds whether an address is free before it offers it.
    let range = "--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,1h";
    let _dnsmasq = lab.dnsmasq(&other, &["--interface=e0", range]);
    let said = lab.refuses(&["--dhcp", "server"]);
    assert!(
        said.contains("another DHCP server, 10.77.0.2, answers on br0"),
        "{said}"
    );
    assert!(said.contains("--dhcp proxy"), "{said}");
}

#[test]
fn a_proxy_beside_it_is_no_second_server() {
    let lab = Lab::new();
    lab.fleet(HOST);
    let other = lab.join(Some(OTHER));
    let _proxy = lab.serve_in(&other, "second", &["--dhcp", "proxy"]);
    let _server = lab.serve(&["--dhcp", "server"]);
    let client = lab.join(None);
    let card = Card::of(&client, 1);
    let offers = card.ask(&card.discover(BIOS), 2);
    let given: Vec<_> = offers
        .iter()
        .map(|offer| (server(offer), offer.yiaddr()))
        .collect();
    assert_eq!(
        given,
        [(Some(SERVER), FIXED), (Some(OTHER), Ipv4Addr::UNSPECIFIED)]
    );
}

#[test]
fn what_cannot_start_says_what_to_do() {
    let lab = Lab::new();
    let said = lab.refuses(&["--dhcp", "server"]);
    assert!(
        said.contains("fleet.toml says, and there is none"),
        "{said}"
    );
    let wrong = "version = 1\n[network.\"10.99.0.0/24\"]\n";
    fs::write(lab.root().join("fleet.toml"), wrong).unwrap();
    let said = lab.refuses(&["--dhcp", "server"]);
    assert!(
        said.contains("has no network of this computer, which is on br0 (10.77.0.1)"),
        "{said}"
    );
    fs::write(lab.root().join("fleet.toml"), "version = 2\n").unwrap();
    let said = lab.refuses(&["--dhcp", "server"]);
    assert!(said.contains("line 1: version = 2"), "{said}");
    lab.fleet(HOST);
    let said = lab.refuses(&["--dhcp", "proxy", "--dhcp-interface", "eth9"]);
    assert!(
        said.contains("DHCP on eth9: there is no such interface"),
        "{said}"
    );
    fs::write(lab.root().join("leases.toml"), "[[lease]]\nip = 3\n").unwrap();
    let said = lab.refuses(&["--dhcp", "server"]);
    assert!(
        said.contains("leases.toml") && said.contains("mend it, or remove it"),
        "{said}"
    );
    fs::remove_file(lab.root().join("leases.toml")).unwrap();
    let range = "--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,1h";
    let _dnsmasq = lab.dnsmasq(&lab.bridge, &["--interface=br0", range]);
    for mode in ["proxy", "server"] {
        let said = lab.refuses(&["--dhcp", mode]);
        assert!(
            said.contains("UDP port 67 on br0 is taken by dnsmasq (process "),
            "{said}"
        );
        assert!(said.contains("pitstop fleet generate"), "{said}");
    }
}

#[test]
fn a_wrong_address_is_refused_and_a_renewal_goes_on() {
    let lab = Lab::new();
    lab.fleet(HOST);
    let pitstop = lab.serve(&["--dhcp", "server"]);
    let client = lab.join(None);
    let card = Card::of(&client, 1);
    let elsewhere = card.question(MessageType::Request, &[(50, &[192, 168, 1, 9])]);
    let naks = card.ask(&elsewhere, 1);
    assert_eq!(
        (kind(&naks[0]), naks[0].yiaddr()),
        (MessageType::Nak, Ipv4Addr::UNSPECIFIED)
    );
    pitstop.says("(pc) DHCP on br0: refused 192.168.1.9: its address is 10.77.0.20");
    client.ip("addr add 10.77.0.20/24 dev e0");
    let mut renewal = card.question(MessageType::Request, &[]);
    renewal.set_ciaddr(FIXED);
    let acks = card.ask_at(&renewal, (SERVER, 67), 1);
    assert_eq!(
        (kind(&acks[0]), acks[0].yiaddr()),
        (MessageType::Ack, FIXED)
    );
    assert_eq!(
        raw(&acks[0], 51).as_deref(),
        Some(&3600u32.to_be_bytes()[..])
    );
    // It takes another server's offer: that is told, once.
    let options = [(54, &OTHER.octets()[..]), (50, &[10, 77, 0, 9][..])];
    let taken = card.question(MessageType::Request, &options);
    assert_eq!(card.ask(&taken, 0), []);
    pitstop.says("10.77.0.2 DHCP on br0: another server gives addresses, too");
}
