use super::*;
use crate::edit::{Editor, NEW_FILE};
use crate::generate::{Around, Format, generate};
use crate::{Fleet, Machine};
use proptest::prelude::*;
use std::fmt::Write as _;

/// Imports into `there`. Gives the fleet that comes out, and the report.
fn into(there: &str, text: &str, from: From) -> (Fleet, Report) {
    let fleet = Fleet::parse(there.as_bytes(), "fleet.toml").unwrap();
    let mut editor = Editor::new(there, "fleet.toml").unwrap();
    let report = take(&fleet, read(text, from).unwrap(), &mut editor).unwrap();
    let text = editor.text();
    let fleet =
        Fleet::parse(text.as_bytes(), "fleet.toml").unwrap_or_else(|bad| panic!("{bad}\n{text}"));
    (fleet, report)
}

fn brief(machine: &Machine) -> String {
    let macs: Vec<String> = machine.macs.iter().map(ToString::to_string).collect();
    let ip = machine.ip.map_or_else(|| "-".into(), |ip| ip.to_string());
    format!("{} {} {ip}", machine.name, macs.join("+"))
}

fn machines(fleet: &Fleet) -> Vec<String> {
    fleet.machines.iter().map(brief).collect()
}

fn left(report: &Report) -> Vec<String> {
    let lines = report.not_taken.iter();
    lines
        .map(|left| format!("{}: {}", left.line, left.what))
        .collect()
}

/// Of the first network.
fn pools(fleet: &Fleet) -> Vec<String> {
    let pools = fleet.networks[0].pools.iter();
    pools.map(|(a, b)| format!("{a}-{b}")).collect()
}

#[test]
fn clients_of_sslbootmgr_are_taken() {
    let text = "# Simpsons\n!client-1 homer 00:11:22:33:44:55 192.168.1.11\n!kernel-1 2.6.18.2-diskless\n!nfsroot-1 /root/export/homer\n\
        !option-1 console=ttyS0 quiet\n\n!client-2 marge 00:11:22:33:44:56 192.168.1.12\n!option-2\n\
        !client-3 bart 00:11:22:33:44 192.168.1.13\n!client-4 lisa 00:11:22:33:44:55 192.168.1.14\nwhat\n";
    let mut imported = read(text, From::ClientsConf).unwrap();
    let scheme = "# ip part post image\n192.168.1.11 part.sh post.sh etch\n192.168.1.99 a b c\n";
    let scheme = scheme_map(scheme, &mut imported);
    assert_eq!(scheme[1].what, "no client has the address 192.168.1.99");
    let fleet = Fleet::parse(NEW_FILE.as_bytes(), "fleet.toml").unwrap();
    let mut editor = Editor::new(NEW_FILE, "f").unwrap();
    let report = take(&fleet, imported, &mut editor).unwrap();
    assert_eq!(report.guessed, ["192.168.1.0/24"]);
    assert_eq!(
        editor.text(),
        "version = 1\n\n[network.\"192.168.1.0/24\"]\n\n[host.homer]\nmac = [\"00:11:22:33:44:55\"]\nip = \"192.168.1.11\"\n\
         kernel-args = \"console=ttyS0 quiet\"\nimage = \"etch\"\n\n[host.marge]\nmac = [\"00:11:22:33:44:56\"]\nip = \"192.168.1.12\"\n"
    );
    assert_eq!(
        left(&report),
        [
            "3: the kernel 2.6.18.2-diskless: Pitstop boots its own",
            "4: the NFS root /root/export/homer: a machine runs from its own disk",
            "9: bart: \"00:11:22:33:44\" is not the MAC address of a card: write 52:54:00:12:34:56",
            "10: lisa: 00:11:22:33:44:55 is of the machine in line 2 already",
            "11: not understood: what"
        ]
    );
}

#[test]
fn underscores_in_names_become_dashes() {
    let csv = "name;mac;groups\nlab_3_01;52:54:00:00:00:01;lab_3\n_x;52:54:00:00:00:02;\n";
    let (fleet, report) = into(NEW_FILE, csv, From::Csv);
    assert_eq!(machines(&fleet), ["lab-3-01 52:54:00:00:00:01 -"]);
    assert_eq!(fleet.groups[0].name, "lab-3");
    let left = left(&report);
    assert!(left[0].contains("\"-x\" is no name"), "{left:?}");
}

#[test]
fn dhcpd_hosts_groups_and_subnets_are_taken() {
    let text = "option domain-name \"x\"; # global\nsubnet 10.0.0.0 netmask 255.255.255.0 {\n option routers 10.0.0.1;\n\
        option domain-name-servers 10.0.0.1, 9.9.9.9;\n range 10.0.0.200 10.0.0.220;\n}\ngroup lab3 {\n next-server 10.0.0.5;\n\
        host a { hardware ethernet 52:54:00:00:00:01; fixed-address 10.0.0.11; option host-name \"a\"; }\n\
        host b {\n hardware ethernet 52:54:00:00:00:02;\n fixed-address 10.0.0.210;\n filename \"x\";\n}\n}\n\
        host c { hardware ethernet 52:54:00:00:00:03; fixed-address c.lab; }\ninclude \"more.conf\";\nhost d { hardware ethernet 52:54:00:00:00:04";
    let (fleet, report) = into(NEW_FILE, text, From::Dhcpd);
    assert_eq!(
        machines(&fleet),
        [
            "a 52:54:00:00:00:01 10.0.0.11",
            "b 52:54:00:00:00:02 10.0.0.210"
        ]
    );
    assert_eq!(
        pools(&fleet),
        ["10.0.0.200-10.0.0.209", "10.0.0.211-10.0.0.220"]
    );
    assert_eq!(fleet.groups[fleet.machines[0].groups[0]].name, "lab3");
    assert_eq!(fleet.networks[0].router, "10.0.0.1".parse().ok());
    assert_eq!(fleet.networks[0].dns.len(), 2);
    assert_eq!(report.networks, ["10.0.0.0/24"]);
    let left = left(&report);
    for what in [
        "13: b: filename \"x\"",
        "16: c: \"c.lab\" is a name, and no address",
        "17: include \"more.conf\": import that file, too",
        "18: no ; ends it: hardware ethernet 52:54:00:00:00:04",
    ] {
        assert!(left.iter().any(|left| left == what), "{what}: {left:?}");
    }
}

#[test]
fn what_dhcpd_says_outside_holds_inside_and_what_is_for_some_is_for_nobody() {
    let text = "option domain-name \"lab\";\noption domain-name-servers 10.0.0.9;\noption routers 10.9.9.9;\n\
        shared-network x { option ntp-servers 10.0.0.8;\nsubnet 10.0.0.0 netmask 255.255.255.0 {\n\
        option routers 10.0.0.1, 10.0.0.2;\npool { deny unknown-clients; range 10.0.0.100 10.0.0.110; }\n\
        pool { allow unknown-clients; deny dynamic bootp clients;\nrange 10.0.0.200 10.0.0.220; }\nhost a { hardware ethernet 52:54:0:0:0:1; fixed-address 10.0.0.11; }\n\
        host b { option dhcp-client-identifier 1:2; fixed-address 10.0.0.12; }\n} }\n";
    let (fleet, report) = into(NEW_FILE, text, From::Dhcpd);
    assert_eq!(machines(&fleet), ["a 52:54:00:00:00:01 10.0.0.11"]);
    let network = &fleet.networks[0];
    assert_eq!(network.router, "10.0.0.1".parse().ok());
    assert_eq!(network.domain.as_deref(), Some("lab"));
    assert_eq!((network.dns.len(), network.ntp.len()), (1, 1));
    assert_eq!(network.pools.len(), 1, "{:?}", network.pools);
    let left = left(&report);
    for what in [
        "6: the second router 10.0.0.2",
        "7: these addresses are not for everybody: range 10.0.0.100 10.0.0.110",
        "11: b: it names no network card of Ethernet",
    ] {
        assert!(left.iter().any(|left| left == what), "{what}: {left:?}");
    }
}

#[test]
fn dnsmasq_kea_and_tables_are_taken() {
    let text = "dhcp-range=set:l,10.0.0.200,10.0.0.220,255.255.255.0,12h\ndhcp-option=tag:l,option:router,10.0.0.1\nport=0\nno-resolv\n\
        dhcp-host=52:54:00:00:00:01,10.0.0.11,a,12h # desk\ndhcp-host=52:54:00:00:00:02,52:54:00:00:00:03,set:lab,10.0.0.12,b\n\
        dhcp-host=52:54:00:00:00:04,c,infinite\n10.0.0.13 c.lab c\n127.0.0.1 localhost\ndhcp-host=id:*,x\n";
    let (fleet, report) = into(NEW_FILE, text, From::Dnsmasq);
    assert_eq!(
        machines(&fleet),
        [
            "a 52:54:00:00:00:01 10.0.0.11",
            "b 52:54:00:00:00:02+52:54:00:00:00:03 10.0.0.12",
            "c 52:54:00:00:00:04 10.0.0.13"
        ]
    );
    assert_eq!(
        left(&report),
        ["10: id:* tells no card's MAC address: id:*,x"]
    );
    assert_eq!(fleet.networks[0].router, "10.0.0.1".parse().ok());

    let kea = "// ours\n{ \"Dhcp4\": { # all\n \"subnet4\": [ { \"subnet\": \"10.0.0.0/24\", /* one\n two */\n \"pools\": [{\"pool\": \"10.0.0.200 - 10.0.0.220\"}],\n\
        \"reservations\": [\n { \"hw-address\": \"52:54:00:00:00:01\", \"ip-address\": \"10.0.0.11\", \"hostname\": \"a\" },\n\
        { \"hw-address\": \"52:54:00:00:00:02\", \"ip-address\": \"10.0.0.12\" },\n { \"duid\": \"01:02\", \"hostname\": \"z\" } ] } ] } }";
    let (fleet, report) = into(NEW_FILE, kea, From::Kea);
    assert_eq!(
        machines(&fleet),
        [
            "a 52:54:00:00:00:01 10.0.0.11",
            "host-10-0-0-12 52:54:00:00:00:02 10.0.0.12"
        ]
    );
    assert_eq!(
        left(&report),
        ["9: the reservation of z names no network card"]
    );

    let csv = "Name;MAC Address;IP;Serial;Attempts;Owner\na;52:54:00:00:00:01;10.0.0.11;PF1;5;x\nb;52:54;;;;\n";
    let (fleet, report) = into(NEW_FILE, csv, From::Csv);
    assert_eq!(machines(&fleet), ["a 52:54:00:00:00:01 10.0.0.11"]);
    assert_eq!(
        fleet.setting(&fleet.machines[0], "attempts").unwrap().value,
        5.into()
    );
    assert_eq!(left(&report).len(), 2);
    assert!(read("1;2\n", From::Csv).unwrap_err().contains("no header"));

    let fog = "\"52:54:00:00:00:01|52:54:00:00:00:02\",\"a\",\"desk\",\"10.0.0.11\",\"1\"\n\"52:54:00:00:00:03\",\"b\",\"10.0.0.12\",\"note\"\n";
    let (fleet, _) = into(NEW_FILE, fog, From::FogCsv);
    assert_eq!(
        machines(&fleet),
        [
            "a 52:54:00:00:00:01+52:54:00:00:00:02 10.0.0.11",
            "b 52:54:00:00:00:03 10.0.0.12"
        ]
    );
}

#[test]
fn what_dnsmasq_and_kea_let_pass_is_taken() {
    // An address of one machine inside the range for all.
    let dnsmasq = "dhcp-range=10.0.0.200,10.0.0.220,255.255.255.0\ndhcp-host=52:54:00:00:00:01,10.0.0.210,a\n";
    // And commas behind the last of a list; `kea-dhcp4 -t` warns of them.
    let kea = "{ \"Dhcp4\": { \"subnet4\": [ { \"subnet\": \"10.0.0.0/24\", \"pools\": [ { \"pool\": \"10.0.0.200-10.0.0.220\", }, // one\n ],\n\
        \"reservations\": [ { \"hw-address\": \"52:54:00:00:00:01\", \"ip-address\": \"10.0.0.210\", \"hostname\": \"a\" /* , */ }, ], }, ] }, }";
    for (text, from) in [(dnsmasq, From::Dnsmasq), (kea, From::Kea)] {
        let (fleet, report) = into(NEW_FILE, text, from);
        assert_eq!(machines(&fleet), ["a 52:54:00:00:00:01 10.0.0.210"]);
        assert_eq!(left(&report), [""; 0]);
        assert_eq!(
            pools(&fleet),
            ["10.0.0.200-10.0.0.209", "10.0.0.211-10.0.0.220"]
        );
    }
    // What is no JSON otherwise either is told as ever.
    let error = read("{ \"Dhcp4\": [,,] }", From::Kea).unwrap_err();
    assert!(error.contains("no configuration of Kea"), "{error}");
    let text = "{ \"Dhcp4\": { \"x\": \"a,]\", \"subnet4\": [ { \"subnet\": \",}\" } ] } }";
    assert_eq!(
        read(text, From::Kea).unwrap().not_taken[0].what,
        "\",}\" is no network"
    );
}

#[test]
fn lines_of_dnsmasq_are_taken_whole_or_not_at_all() {
    let text = "dhcp-range=10.0.0.200,10.0.0.220,255.255.255.0\ndomain = lab.example\n\
        dhcp-host = 52:54:00:00:00:01 , 10.0.0.11 , a\ndhcp-host=52:54:00:00:00:*,10.0.0.12\n\
        dhcp-host=id:01:52:54:00:00:00:03,c,10.0.0.13\ndhcp-host=06-00:20:e0:3b:13:af,d,10.0.0.14\n\
        dhcp-host=52:54:00:00:00:05,id:*,\"e\",10.0.0.15\ndomain=#\n";
    let (fleet, report) = into(NEW_FILE, text, From::Dnsmasq);
    assert_eq!(
        machines(&fleet),
        [
            "a 52:54:00:00:00:01 10.0.0.11",
            "e 52:54:00:00:00:05 10.0.0.15"
        ]
    );
    assert_eq!(fleet.networks[0].domain.as_deref(), Some("lab.example"));
    assert_eq!(
        left(&report),
        [
            "4: 52:54:00:00:00:* is no MAC address of a card of Ethernet: 52:54:00:00:00:*,10.0.0.12",
            "5: id:01:52:54:00:00:00:03 tells no card's MAC address: id:01:52:54:00:00:00:03,c,10.0.0.13",
            "6: 06-00:20:e0:3b:13:af is no MAC address of a card of Ethernet: 06-00:20:e0:3b:13:af,d,10.0.0.14",
            "7: not taken over: id:*"
        ]
    );
}

#[test]
fn what_kea_says_outside_holds_inside_and_a_pool_may_be_a_prefix() {
    let text = r#"{ "Dhcp4": { "option-data": [ { "code": 6, "data": "10.0.0.2, 10.0.0.3" }, { "name": "domain-name", "data": "lab.example" } ],
        "shared-networks": [ { "option-data": [ { "name": "domain-name", "data": "shared.example" } ],
          "subnet4": [ { "subnet": "10.1.0.0/24", "pools": [ { "pool": "10.1.0.0/24" } ] } ] } ],
        "subnet4": [ { "subnet": "10.0.0.0/24", "option-data": [ { "name": "domain-name-servers", "data": "9.9.9.9" } ],
          "pools": [ { "pool": "10.0.0.64/26" }, { "pool": "10.0.0.10 - 10.0.0.20" }, { "pool": "10.0.0.0/32" }, { "pool": "10.0.0.255/32" } ] } ] } }"#;
    let (fleet, report) = into(NEW_FILE, text, From::Kea);
    assert_eq!(left(&report), [""; 0]);
    let networks = fleet.networks.iter().map(|network| {
        let pools = network.pools.iter().map(|(a, b)| format!("{a}-{b}"));
        let pools: Vec<String> = pools.collect();
        format!(
            "{} {:?} {} {}",
            network.net,
            network.domain,
            network.dns.len(),
            pools.join(" ")
        )
    });
    let mut found: Vec<String> = networks.collect();
    found.sort();
    assert_eq!(
        found,
        [
            "10.0.0.0/24 Some(\"lab.example\") 1 10.0.0.64-10.0.0.127 10.0.0.10-10.0.0.20",
            "10.1.0.0/24 Some(\"shared.example\") 2 10.1.0.1-10.1.0.254"
        ]
    );
}

#[test]
fn what_has_a_lease_keeps_its_address() {
    let isc = "# comment\nlease 10.0.0.11 {\n  starts 1 2026/11/23 10:00:00;\n  binding state active;\n  hardware ethernet 52:54:00:00:00:01;\n  client-hostname \"old\";\n}\n\
        lease 10.0.0.12 {\n  binding state free;\n  hardware ethernet 52:54:00:00:00:02;\n}\n\
        lease 10.0.0.11 {\n  binding state active;\n  hardware ethernet 52:54:00:00:00:03;\n  uid \"\\001RT\\\"}\";\n  client-hostname \"new\";\n}\n";
    let (fleet, report) = into(NEW_FILE, isc, From::Leases);
    assert_eq!(machines(&fleet), ["new 52:54:00:00:00:03 10.0.0.11"]);
    assert_eq!(left(&report), ["8: the lease of 10.0.0.12 is free"]);

    let dnsmasq = "1795900000 52:54:00:00:00:01 10.0.0.11 a 01:52\n1795900000 52:54:00:00:00:02 10.0.0.12 * *\nduid 00:01\n";
    let (fleet, _) = into(NEW_FILE, dnsmasq, From::Leases);
    assert_eq!(
        machines(&fleet),
        [
            "a 52:54:00:00:00:01 10.0.0.11",
            "host-10-0-0-12 52:54:00:00:00:02 10.0.0.12"
        ]
    );

    let kea = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context\n\
        10.0.0.11,52:54:00:00:00:01,,3600,1,1,0,0,old,0,\n10.0.0.12,52:54:00:00:00:02,,3600,1,1,0,0,,2,\n10.0.0.11,52:54:00:00:00:01,,3600,2,1,0,0,a.lab.,0,\n";
    let (fleet, report) = into(NEW_FILE, kea, From::Leases);
    assert_eq!(machines(&fleet), ["a.lab 52:54:00:00:00:01 10.0.0.11"]);
    assert_eq!(left(&report), ["3: the lease of 10.0.0.12 has ended"]);
    assert!(
        read("what is this\n", From::Leases)
            .unwrap_err()
            .contains("no lease file")
    );
}

#[test]
fn what_has_a_lease_out_of_the_range_of_the_fleet_file_keeps_its_address() {
    let there =
        "version = 1\n[network.\"10.0.0.0/24\"]\nrange = \"10.0.0.100-10.0.0.102\" # ours\n";
    let lease =
        |last: u8| format!("1795900000 52:54:00:00:00:{last:02x} 10.0.0.{last} m{last} *\n");
    let (fleet, report) = into(there, &lease(101), From::Leases);
    assert_eq!(machines(&fleet), ["m101 52:54:00:00:00:65 10.0.0.101"]);
    assert_eq!(
        pools(&fleet),
        ["10.0.0.100-10.0.0.100", "10.0.0.102-10.0.0.102"]
    );
    assert_eq!(report.cut.into_iter().collect::<Vec<_>>(), ["10.0.0.0/24"]);
    let all: String = (100..=102).map(lease).collect();
    assert_eq!(pools(&into(there, &all, From::Leases).0), [""; 0]);
    // A table is somebody's, who may have mistaken himself.
    let (fleet, report) = into(there, "name,ip\na,10.0.0.101\n", From::Csv);
    assert!(fleet.machines.is_empty());
    assert!(left(&report)[0].contains("for machines that nobody named"));
}

#[test]
fn a_router_inside_the_range_is_left_out_of_it() {
    let dnsmasq = "dhcp-range=10.0.0.1,10.0.0.9,255.255.255.0\ndhcp-option=3,10.0.0.1\ndhcp-host=52:54:00:00:00:01,10.0.0.20,a\n";
    let dhcpd = "subnet 10.0.0.0 netmask 255.255.255.0 { range 10.0.0.1 10.0.0.9; option routers 10.0.0.1; }\n\
        host a { hardware ethernet 52:54:00:00:00:01; fixed-address 10.0.0.20; }\n";
    let kea = r#"{ "Dhcp4": { "subnet4": [ { "subnet": "10.0.0.0/24", "pools": [ { "pool": "10.0.0.1-10.0.0.9" } ],
        "option-data": [ { "name": "routers", "data": "10.0.0.1" } ],
        "reservations": [ { "hw-address": "52:54:00:00:00:01", "ip-address": "10.0.0.20", "hostname": "a" } ] } ] } }"#;
    for (text, from) in [
        (dnsmasq, From::Dnsmasq),
        (dhcpd, From::Dhcpd),
        (kea, From::Kea),
    ] {
        let (fleet, report) = into(NEW_FILE, text, from);
        assert_eq!(left(&report), [""; 0]);
        assert_eq!(pools(&fleet), ["10.0.0.2-10.0.0.9"]);
        assert_eq!(fleet.machines.len(), 1);
        assert!(report.cut.is_empty());
    }
}

#[test]
fn a_range_of_dnsmasq_without_a_netmask_is_in_a_network_whose_size_is_a_guess() {
    let text = "dhcp-range=set:l,10.0.0.50,10.0.0.150,12h\ndhcp-option=tag:l,3,10.0.0.1\ndhcp-range=10.0.1.50,10.0.2.150\n\
        dhcp-range=10.0.3.0,static\ndhcp-range=10.0.4.0,proxy\n";
    let (fleet, report) = into(NEW_FILE, text, From::Dnsmasq);
    assert_eq!(report.guessed, ["10.0.0.0/24", "10.0.3.0/24"]);
    assert_eq!(report.networks, [""; 0]);
    assert_eq!(pools(&fleet), ["10.0.0.50-10.0.0.150"]);
    assert_eq!(fleet.networks[0].router, "10.0.0.1".parse().ok());
    let left = left(&report);
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.iter().all(|left| left.contains("without a netmask")));
}

#[test]
fn what_is_there_stays_and_what_contradicts_it_is_told() {
    let there = "version = 1\n[network.\"10.0.0.0/24\"] # ours\nrouter = \"10.0.0.1\"\n[host.a]\nmac = \"52:54:00:00:00:01\"\nip = \"10.0.0.11\"\n";
    let text = "52:54:00:00:00:01,10.0.0.11,a\n52:54:00:00:00:01,10.0.0.12,b\n52:54:00:00:00:03,10.0.0.11,c\n52:54:00:00:00:04,10.0.0.1,d\n52:54:00:00:00:05,10.0.0.255,e\n52:54:00:00:00:06,a\n52:54:00:00:00:07,10.0.0.17,f\n";
    let (fleet, report) = into(there, text, From::Dnsmasq);
    assert_eq!(report.there, ["a"]);
    assert_eq!(report.added, ["f"]);
    assert_eq!(machines(&fleet).len(), 2);
    assert_eq!(
        left(&report),
        [
            "2: b: its MAC 52:54:00:00:00:01 is that of a in fleet.toml, line 4",
            "3: c: its address is that of a in fleet.toml, line 4",
            "4: d: the address 10.0.0.1 is a router's",
            "5: e: the address 10.0.0.255 is all machines' in 10.0.0.0/24",
            "6: a: its name is that of a in fleet.toml, line 4"
        ]
    );
}

proptest! {
    #[test]
    fn what_is_generated_reads_back(first in 1u32..50, count in 1u32..40, cards in 1usize..3, pool in any::<bool>()) {
        let last = first + count - 1;
        let mut text = "version = 1\n[server]\nurl = \"http://10.0.0.2:8080\"\n[network.\"10.0.0.0/24\"]\nrouter = \"10.0.0.1\"\ndns = \"9.9.9.9\"\ndomain = \"lab.example\"\n".to_owned();
        if pool {
            text.push_str("range = \"10.0.0.240-10.0.0.250\"\n");
        }
        let macs: Vec<String> = (0..cards).map(|card| format!("\"52:54:00:00:{card:02}:[{first:02}-{last:02}]\"")).collect();
        let _ = write!(text, "[host.\"lab-[{first:03}-{last:03}]\"]\nmac = [{}]\nip = \"10.0.0.[{}-{}]\"\n", macs.join(", "), first + 100, last + 100);
        let fleet = Fleet::parse(text.as_bytes(), "f").unwrap();
        for (format, from) in [(Format::Dnsmasq, From::Dnsmasq), (Format::Dhcpd, From::Dhcpd), (Format::Kea, From::Kea)] {
            let made = generate(&fleet, format, &Around::default()).unwrap().files.remove(0).1;
            let (read_back, _) = into(NEW_FILE, &made, from);
            let mut cards = machines(&read_back);
            // dhcpd has one declaration a card: the second of an address is told, not taken.
            if format == Format::Dhcpd {
                let first: Vec<String> = fleet.machines.iter().map(|machine| brief(&Machine { macs: machine.macs[..1].to_vec(), ..machine.clone() })).collect();
                prop_assert_eq!(&cards, &first);
                cards = machines(&fleet);
            }
            prop_assert_eq!(cards, machines(&fleet));
            let (network, was) = (&read_back.networks[0], &fleet.networks[0]);
            prop_assert_eq!((network.router, &network.dns, &network.domain, &network.pools), (was.router, &was.dns, &was.domain, &was.pools));
        }
    }

    #[test]
    fn any_text_is_read_without_panic(
        text in prop::collection::vec(prop_oneof![
            Just("host a {"), Just("}"), Just("lease 10.0.0.1 {"), Just("hardware ethernet 52:54:00:00:00:01;"), Just("subnet 10.0.0.0 netmask 255.0.0.0 {"),
            Just("dhcp-host=52:54:00:00:00:01,"), Just("dhcp-range=10.0.0.1,10.0.0.9,255.0.0.0"), Just("10.0.0.1 a"), Just("!client-1 a 52:54:00:00:00:01 10.0.0.1"),
            Just("address,hwaddr"), Just("name,mac,ip"), Just("a,52:54:00:00:00:01,10.0.0.1"), Just("\"\\"), Just("{\"Dhcp4\":{\"subnet4\":[1,{}]}}"), Just("{{{{"), Just("/*"),
        ], 0..10),
        noise in ".{0,30}",
    ) {
        for from in From::ALL {
            for text in [text.join("\n"), text.join(" "), noise.clone()] {
                if let Ok(imported) = read(&text, from) {
                    let fleet = Fleet::parse(NEW_FILE.as_bytes(), "f").unwrap();
                    let mut editor = Editor::new(NEW_FILE, "f").unwrap();
                    take(&fleet, imported, &mut editor).unwrap();
                    let text = editor.text();
                    let checked = Fleet::parse(text.as_bytes(), "f");
                    prop_assert!(checked.is_ok(), "{:?}\n{}", checked, text);
                }
            }
        }
    }
}
