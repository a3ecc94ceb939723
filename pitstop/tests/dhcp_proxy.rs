//! `pitstop serve --dhcp proxy` in networks of its own, beside real DHCP servers.

mod dhcp_common;

use dhcp_common::{
    BIOS, Card, Lab, MACHINE, OTHER, Place, Rom, SERVER, file, kind, raw, server, udhcpc,
};
use dhcproto::v4::{Message, MessageType};
use std::fs;
use std::net::Ipv4Addr;

const RANGE: &str = "--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,1h";

/// Two offers: an address by the other server, a loader by Pitstop.
fn both(card: &Card, rom: Rom) -> (Message, Message) {
    let mut answers = card.ask(&card.discover(rom), 2).into_iter();
    let (Some(ours), Some(theirs)) = (answers.next(), answers.next()) else {
        panic!("not both answered")
    };
    assert_eq!(
        (server(&ours), server(&theirs)),
        (Some(SERVER), Some(OTHER))
    );
    assert_eq!(theirs.yiaddr().octets()[..3], [10, 77, 0]);
    assert_eq!(file(&theirs), "", "the other server names a loader");
    (ours, theirs)
}

/// A server that gives addresses and knows nothing of booting goes on undisturbed, and its clients boot.
fn beside(lab: &Lab, name: &str) {
    let pitstop = lab.serve(&["--dhcp", "proxy"]);
    let client = lab.join(None);
    let card = Card::of(&client, 1);
    let (ours, _) = both(&card, BIOS);
    assert_eq!(kind(&ours), MessageType::Offer);
    assert_eq!(
        ours.yiaddr(),
        Ipv4Addr::UNSPECIFIED,
        "{name}: a proxy gives an address"
    );
    assert_eq!(
        (file(&ours).as_str(), ours.siaddr()),
        ("pxelinux.0", SERVER)
    );
    assert_eq!(raw(&ours, 60).as_deref(), Some(&b"PXEClient"[..]));
    assert_eq!(raw(&ours, 43).as_deref(), Some(&[6, 1, 8, 255][..]));
    assert_eq!(raw(&ours, 97).as_deref(), Some(&MACHINE[..]));
    pitstop.says("52:54:00:77:00:01 DHCP on br0: BIOS is to load pxelinux.0 from 10.77.0.1");
    // Whoever does not boot hears nothing of it, and gets its address as before.
    let quiet = card.question(MessageType::Discover, &[(60, b"MSFT 5.0")]);
    let answers = card.ask(&quiet, 1);
    assert_eq!(
        answers.iter().map(server).collect::<Vec<_>>(),
        [Some(OTHER)]
    );
    drop(card);
    let address = udhcpc(&client).unwrap();
    assert!(
        (50..=60).contains(&address.octets()[3]),
        "{name}: {address}"
    );
}

#[test]
fn beside_dnsmasq_machines_boot_and_others_hear_nothing() {
    let lab = Lab::new();
    let other = lab.join(Some(OTHER));
    let _dnsmasq = lab.dnsmasq(&other, &["--interface=e0", RANGE]);
    beside(&lab, "dnsmasq");
}

#[test]
fn beside_iscs_dhcpd_machines_boot_and_others_hear_nothing() {
    let lab = Lab::new();
    let other = lab.join(Some(OTHER));
    let _dhcpd = lab.dhcpd(&other);
    beside(&lab, "dhcpd");
}

#[test]
fn beside_kea_machines_boot_and_others_hear_nothing() {
    let lab = Lab::new();
    let other = lab.join(Some(OTHER));
    let _kea = lab.kea(&other);
    beside(&lab, "kea");
}

#[test]
fn each_kind_of_firmware_is_told_its_own_loader() {
    let lab = Lab::new();
    let pitstop = lab.serve(&["--dhcp", "proxy", "--listen", "10.77.0.1:8080"]);
    let client = lab.join(Some(Ipv4Addr::new(10, 77, 0, 70)));
    let card = Card::of(&client, 2);
    let http = "http://10.77.0.1:8080";
    for (architecture, class, user_class, loader, says) in [
        (
            7,
            "PXEClient:Arch:00007",
            "",
            "ipxe.efi".to_owned(),
            "PXEClient",
        ),
        (
            9,
            "PXEClient:Arch:00009",
            "",
            "ipxe.efi".to_owned(),
            "PXEClient",
        ),
        (
            11,
            "PXEClient:Arch:00011",
            "",
            "ipxe-arm64.efi".to_owned(),
            "PXEClient",
        ),
        (
            16,
            "HTTPClient:Arch:00016",
            "",
            format!("{http}/boot/ipxe.efi"),
            "HTTPClient",
        ),
        (
            19,
            "HTTPClient:Arch:00019",
            "",
            format!("{http}/boot/ipxe-arm64.efi"),
            "HTTPClient",
        ),
        (
            0,
            "PXEClient:Arch:00000",
            "iPXE",
            format!("{http}/boot.ipxe"),
            "PXEClient",
        ),
        (
            7,
            "PXEClient:Arch:00007",
            "iPXE",
            format!("{http}/boot.ipxe"),
            "PXEClient",
        ),
    ] {
        let rom = Rom {
            class,
            architecture,
            user_class,
        };
        let question = card.discover(rom);
        let offers = card.ask(&question, 1);
        let offer = offers
            .first()
            .unwrap_or_else(|| panic!("no answer to {class}"));
        assert_eq!(file(offer), loader);
        assert_eq!(raw(offer, 60).as_deref(), Some(says.as_bytes()));
        assert_eq!(raw(offer, 43), None, "UEFI looks for a menu in it");
        if says == "PXEClient" && user_class.is_empty() {
            // The firmware has an address by now, and asks the server alone.
            let mut question = card.discover(rom);
            question
                .opts_mut()
                .insert(dhcproto::v4::DhcpOption::MessageType(MessageType::Request));
            question.set_ciaddr(Ipv4Addr::new(10, 77, 0, 70));
            let acks = card.ask_at(&question, (SERVER, 4011), 1);
            let ack = acks
                .first()
                .unwrap_or_else(|| panic!("port 4011 is silent for {class}"));
            assert_eq!((kind(ack), file(ack)), (MessageType::Ack, loader));
        }
    }
    let old = Rom {
        class: "PXEClient:Arch:00006",
        architecture: 6,
        user_class: "",
    };
    assert_eq!(card.ask(&card.discover(old), 0), []);
    pitstop.says("not answered: nothing here boots 32-bit UEFI (architecture 6)");
}

#[test]
fn a_machine_that_is_not_in_the_fleet_file_gets_no_answer_until_it_is() {
    let lab = Lab::new();
    lab.fleet("[server]\nunknown = \"ignore\"\n");
    let pitstop = lab.serve(&["--dhcp", "proxy"]);
    let client = lab.join(None);
    let card = Card::of(&client, 3);
    assert_eq!(card.ask(&card.discover(BIOS), 0), []);
    pitstop.says("52:54:00:77:00:03 DHCP on br0: not answered: it is not in the fleet file");
    lab.fleet(
        "[server]\nunknown = \"ignore\"\nloader-bios = \"lpxelinux.0\"\n[host.pc]\nmac = \"52:54:00:77:00:03\"\n",
    );
    let offers = card.ask(&card.discover(BIOS), 1);
    assert_eq!(offers.iter().map(file).collect::<Vec<_>>(), ["lpxelinux.0"]);
    pitstop.says("52:54:00:77:00:03 (pc) DHCP on br0: BIOS is to load lpxelinux.0");
    // By the firmware's UUID, in the other byte order; the card is a new one.
    lab.fleet(
        "[server]\nunknown = \"ignore\"\n[host.pc]\nuuid = \"04030201-0605-0807-090a-0b0c0d0e0f10\"\n",
    );
    let mut card = card;
    card.mac = [0x52, 0x54, 0, 0x77, 0, 4];
    assert_eq!(card.ask(&card.discover(BIOS), 1).len(), 1);
}

#[test]
fn two_proxies_do_not_disturb_each_other() {
    let lab = Lab::new();
    let other = lab.join(Some(OTHER));
    let _first = lab.serve(&["--dhcp", "proxy"]);
    let _second = lab.serve_in(&other, "second", &["--dhcp", "proxy"]);
    let client = lab.join(None);
    let card = Card::of(&client, 5);
    let offers = card.ask(&card.discover(BIOS), 2);
    let told: Vec<_> = offers
        .iter()
        .map(|offer| (server(offer), offer.siaddr()))
        .collect();
    assert_eq!(told, [(Some(SERVER), SERVER), (Some(OTHER), OTHER)]);
}

/// A network behind dnsmasq as a relay, at the address 10.78.0.1, and somebody in it.
fn behind_relay(lab: &Lab) -> (Place, Place) {
    let relay = lab.join(Some(Ipv4Addr::new(10, 77, 0, 3)));
    let client = lab.join(None);
    // Its cable leads to the relay instead of the bridge.
    client.ip("link del e0");
    relay.ip(&format!(
        "link add far type veth peer name e0 netns {}",
        client.name
    ));
    relay.ip("addr add 10.78.0.1/24 dev far");
    relay.ip("link set far up");
    client.ip("link set e0 up");
    lab.bridge.ip("route add 10.78.0.0/24 via 10.77.0.3");
    (relay, client)
}

#[test]
fn machines_behind_a_relay_boot() {
    let lab = Lab::new();
    let _pitstop = lab.serve(&["--dhcp", "proxy"]);
    let (relay, client) = behind_relay(&lab);
    let to = format!("--dhcp-relay=10.78.0.1,{SERVER}");
    let _dnsmasq = lab.dnsmasq(&relay, &["--interface=far", "--interface=e0", &to]);
    let card = Card::of(&client, 6);
    let offers = card.ask(&card.discover(BIOS), 1);
    assert_eq!(offers.iter().map(file).collect::<Vec<_>>(), ["pxelinux.0"]);
    assert_eq!(offers[0].siaddr(), SERVER);
}

#[test]
fn a_relay_gets_an_address_of_its_network_from_the_server() {
    let lab = Lab::new();
    lab.fleet(
        "[network.\"10.78.0.0/24\"]\nrouter = \"10.78.0.1\"\nrange = \"10.78.0.100-10.78.0.103\"\n",
    );
    let _pitstop = lab.serve(&["--dhcp", "server"]);
    let (relay, client) = behind_relay(&lab);
    let to = format!("--dhcp-relay=10.78.0.1,{SERVER}");
    let _dnsmasq = lab.dnsmasq(&relay, &["--interface=far", "--interface=e0", &to]);
    let address = udhcpc(&client).unwrap();
    assert_eq!(address.octets()[..3], [10, 78, 0]);
    let leases = fs::read_to_string(lab.root().join("leases.toml")).unwrap();
    assert!(leases.contains(&format!("ip = \"{address}\"")), "{leases}");
}

#[test]
fn noise_stops_nobody() {
    let lab = Lab::new();
    let pitstop = lab.serve(&["--dhcp", "proxy"]);
    let client = lab.join(None);
    let card = Card::of(&client, 7);
    let whole = dhcproto::Encodable::to_vec(&card.discover(BIOS)).unwrap();
    for length in 0..whole.len() {
        card.send(&whole[..length]);
    }
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0xff;
        card.send(&flipped);
    }
    assert!(!card.ask(&card.discover(BIOS), 1).is_empty());
    let lines = pitstop.said();
    assert_eq!(lines.matches("unreadable").count(), 1, "{lines}");
}
