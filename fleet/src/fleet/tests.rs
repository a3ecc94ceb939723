use super::*;
use crate::range::Range;
use proptest::prelude::*;
use std::fmt::Write as _;

const LAB: &str = r#"version = 1
[base]
attempts = 3
image = "base"
[network."192.168.1.0/24"]
router = "192.168.1.1"
dns = ["192.168.1.1"]
domain = "lab.example"
range = "192.168.1.150-192.168.1.199"
image = "network"
[group.lab3]
match = "lab3-*"
image = "golden-lab3"
kernel-args = "console=ttyS1,115200"
[group.windows]
image = "windows"
[host."lab3-[01-40]"]
mac = ["52:54:00:00:01:[01-40]"]
ip = "192.168.1.[101-140]"
power = "redfish://bmc-lab3-[01-40]/redfish/v1/Systems/1"
[host.desk]
mac = "52:54:00:12:34:56"
ip = "192.168.1.20"
groups = ["windows"]
uuid = "00112233-4455-6677-8899-aabbccddeeff"
serial = "PF-1"
attempts = 5
[ip."192.168.1.107"]
image = "seven"
"#;

fn problems(lines: &str) -> Vec<String> {
    let text = format!(
        "version = 1\n[network.\"10.0.0.0/24\"]\nrouter = \"10.0.0.1\"\nrange = \"10.0.0.200-10.0.0.220\"\n{lines}"
    );
    let bad = Fleet::parse(text.as_bytes(), "fleet.toml").unwrap_err();
    bad.to_string().lines().map(str::to_owned).collect()
}

#[test]
fn the_later_layer_wins_key_by_key() {
    let fleet = Fleet::parse(LAB.as_bytes(), "fleet.toml").unwrap();
    assert_eq!(fleet.machines.len(), 41);
    let setting = |machine: &str, key: &str| {
        let machine = fleet.named(machine).unwrap();
        let setting = fleet.settings(machine).remove(key).unwrap();
        assert_eq!(fleet.setting(machine, key).as_ref(), Some(&setting));
        (
            setting.value.to_string(),
            setting.layer.to_string(),
            setting.line,
        )
    };
    assert_eq!(
        setting("lab3-01", "image"),
        ("\"golden-lab3\"".into(), "group.lab3".into(), 13)
    );
    assert_eq!(
        setting("lab3-07", "image"),
        ("\"seven\"".into(), "ip.\"192.168.1.107\"".into(), 29)
    );
    assert_eq!(
        setting("desk", "image"),
        ("\"windows\"".into(), "group.windows".into(), 16)
    );
    assert_eq!(
        setting("desk", "attempts"),
        ("5".into(), "host.desk".into(), 27)
    );
    assert_eq!(
        setting("lab3-01", "attempts"),
        ("3".into(), "base".into(), 3)
    );
    assert_eq!(setting("lab3-40", "mac").0, "[\"52:54:00:00:01:40\"]");
    assert_eq!(
        setting("lab3-40", "power").0,
        "\"redfish://bmc-lab3-40/redfish/v1/Systems/1\""
    );
    assert_eq!(setting("lab3-40", "router").1, "network.\"192.168.1.0/24\"");
    assert_eq!(
        fleet.kernel_args(fleet.named("lab3-02").unwrap()),
        "console=ttyS1,115200"
    );
    assert_eq!(fleet.kernel_args(fleet.named("desk").unwrap()), "");
}

#[test]
fn a_bmc_that_is_said_to_be_of_two_machines_is_told() {
    let fleet = Fleet::parse(LAB.as_bytes(), "fleet.toml").unwrap();
    assert_eq!(fleet.shared_bmcs(), []);
    let text = "version = 1\n[host.a]\npower = \"ipmi://bmc\"\n[host.b]\npower = \"ipmi://admin@bmc?cipher=3\"\n";
    let fleet = Fleet::parse(text.as_bytes(), "fleet.toml").unwrap();
    let told: Vec<String> = fleet
        .shared_bmcs()
        .iter()
        .map(|problem| problem.in_file("f"))
        .collect();
    assert_eq!(
        told,
        [
            "f, line 5: the BMC ipmi://bmc:623 is said to be of 2 machines (a, b): who switches one of them switches another"
        ]
    );
}

#[test]
fn a_machine_is_found_by_all_it_is_known_by() {
    let fleet = Fleet::parse(LAB.as_bytes(), "fleet.toml").unwrap();
    let found = |who: Identity| fleet.find(&who).map(|machine| machine.name.clone());
    let empty = Identity::default;
    let desk = Some("desk".to_owned());
    let other: Mac = "52:54:00:99:99:99".parse().unwrap();
    let card: Mac = "52:54:00:12:34:56".parse().unwrap();
    assert_eq!(
        found(Identity {
            macs: vec![other, card],
            ..empty()
        }),
        desk
    );
    for uuid in [
        "00112233-4455-6677-8899-aabbccddeeff",
        "33221100-5544-7766-8899-aabbccddeeff",
    ] {
        let uuid = Uuid::parse(uuid);
        assert_eq!(found(Identity { uuid, ..empty() }), desk);
    }
    assert_eq!(
        found(Identity {
            serial: Some(" PF-1 ".into()),
            ..empty()
        }),
        desk
    );
    assert_eq!(
        found(Identity {
            ip: "192.168.1.20".parse().ok(),
            ..empty()
        }),
        desk
    );
    assert_eq!(
        found(Identity {
            macs: vec![other],
            ..empty()
        }),
        None
    );
    assert_eq!(found(empty()), None);
}

#[test]
fn what_two_machines_share_is_told_with_both_places() {
    assert_eq!(
        problems(
            "[host.a]\nmac = \"52:54:00:00:00:01\"\n[host.b]\nmac = [\"52-54-00-00-00-01\"]\n"
        ),
        ["fleet.toml, line 8: the mac 52:54:00:00:00:01 of b is also that of a in line 6"]
    );
    assert_eq!(
        problems("[host.a]\nip = \"10.0.0.9\"\n[host.b]\nip = \"10.0.0.9\"\n"),
        ["fleet.toml, line 8: the ip 10.0.0.9 of b is also that of a in line 6"]
    );
    assert_eq!(
        problems("[host.a]\n[host.A]\n"),
        ["fleet.toml, line 6: there are two machines A: this one and that in line 5"]
    );
    assert_eq!(
        problems("[host.\"a-[1-3]\"]\nip = \"10.0.0.[1-3]\"\n[host.a-2]\nip = \"10.0.0.9\"\n"),
        [
            "fleet.toml, line 6: the address 10.0.0.1 of a-1 is the router's in line 3",
            "fleet.toml, line 7: there are two machines a-2: this one and that in line 5"
        ]
    );
    assert_eq!(
        problems(
            "[host.a]\nuuid = \"00112233-4455-6677-8899-aabbccddeeff\"\n[host.b]\nuuid = \"33221100-5544-7766-8899-aabbccddeeff\"\n"
        ),
        [
            "fleet.toml, line 8: the uuid 33221100-5544-7766-8899-aabbccddeeff of b is also that of a in line 6"
        ]
    );
    assert_eq!(
        problems("[host.a]\nmac = [\"52:54:00:00:00:01\", \"52:54:00:00:00:01\"]\n"),
        ["fleet.toml, line 6: a has the mac 52:54:00:00:00:01 twice: here and in line 6"]
    );
}

#[test]
fn addresses_out_of_place_are_told() {
    for (lines, what) in [
        (
            "[host.a]\nip = \"10.0.1.9\"\n",
            "line 6: the address 10.0.1.9 of a is in no network: there are 10.0.0.0/24 in line 2",
        ),
        (
            "[host.a]\nip = \"10.0.0.0\"\n",
            "line 6: the address 10.0.0.0 of a is all machines' in 10.0.0.0/24, defined in line 2",
        ),
        ("[host.a]\nip = \"10.0.0.255\"\n", "is all machines'"),
        (
            "[host.a]\nip = \"10.0.0.210\"\n",
            "is in 10.0.0.200-10.0.0.220, the range for machines that nobody named, in line 4",
        ),
        (
            "[network.\"10.0.0.128/25\"]\n",
            "line 5: the network 10.0.0.128/25 overlaps 10.0.0.0/24 in line 2",
        ),
        (
            "[network.\"10.1.0.1/24\"]\n",
            "10.1.0.1/24 has bits of a host in it: write [network.\"10.1.0.0/24\"]",
        ),
        (
            "[network.\"10.1.0.0/24\"]\nrange = [\"10.1.0.5-10.1.0.9\", \"10.1.0.9-10.1.0.12\"]\n",
            "the range 10.1.0.9-10.1.0.12 overlaps 10.1.0.5-10.1.0.9",
        ),
        (
            "[network.\"10.1.0.0/24\"]\nrouter = \"10.2.0.1\"\n",
            "key \"router\": 10.2.0.1 is not in 10.1.0.0/24",
        ),
        (
            "[network.\"10.1.0.0/24\"]\nrange = \"10.1.0.9-10.1.0.255\"\n",
            "key \"range\": 10.1.0.255 is no address for a machine",
        ),
        (
            "[network.lab]\n",
            "is no network: write [network.\"192.168.1.0/24\"]",
        ),
        (
            "[ip.\"10.9.0.1\"]\nattempts = 1\n",
            "line 5: the address 10.9.0.1 is in no network",
        ),
        ("[ip.lab]\n", "[ip.\"lab\"] is no address"),
    ] {
        let told = problems(lines);
        assert!(
            told.iter().any(|told| told.contains(what)),
            "{lines}: {told:?}"
        );
    }
    let none = Fleet::parse(b"version = 1\n[host.a]\nip = \"10.0.0.9\"\n", "f").unwrap_err();
    assert_eq!(
        none.to_string(),
        "f, line 3: the address 10.0.0.9 of a is in no network: there is none; write [network.\"ADDRESS/BITS\"]"
    );
}

#[test]
fn wrong_keys_groups_types_and_ranges_are_told_with_their_lines() {
    for (lines, what) in [
        (
            "[host.a]\ngroups = [\"lab\"]\n",
            "line 6: key \"groups\": nobody defined the group \"lab\": write [group.lab]",
        ),
        (
            "[group.lab3]\n[host.a]\ngroups = [\"lba3\"]\n",
            "did you mean \"lab3\"?",
        ),
        (
            "[host.a]\nmca = \"x\"\n",
            "line 6: unknown key \"mca\": did you mean \"mac\"?",
        ),
        (
            "[host.a]\nmac = 3\n",
            "line 6: key \"mac\": it must be a text in quotation marks, not integer 3",
        ),
        (
            "[host.a]\nmac = \"52:54\"\n",
            "\"52:54\" is not the MAC address of a card",
        ),
        ("[host.a]\nuuid = \"x\"\n", "is not the UUID of a machine"),
        (
            "[host.a]\nattempts = \"3\"\n",
            "line 6: key \"attempts\": invalid type: string",
        ),
        ("[base]\nimage = \"../x\"\n", "line 6: key \"image\""),
        (
            "[host.a.b]\nip = \"10.0.0.9\"\n",
            "unknown key \"b\": a name with dots stands in quotation marks",
        ),
        (
            "[host.\"a-[1-3]\"]\nip = \"10.0.0.[11-14]\"\n",
            "line 6: key \"ip\": \"10.0.0.[11-14]\" stands for 4, the machines are 3",
        ),
        ("[host.\"a-[3-1]\"]\n", "counts down"),
        (
            "[host.\"a-[1-60000]\"]\n[host.\"b-[1-60000]\"]\n",
            "more than 65536 machines",
        ),
        (
            "[host.\"a-[8-12]\"]\nmac = \"52:54:00:00:00:[8-12]\"\n",
            "line 6: key \"mac\": \"52:54:00:00:00:8\" is not the MAC",
        ),
        ("[host.\"a b\"]\n", "line 5: \"a b\" is no name"),
        (
            "[server]\nunknown = \"maybe\"\n",
            "there are boot, ignore and enroll",
        ),
        ("[server]\nurl = \"lab\"\n", "write it as http://host:port"),
    ] {
        let told = problems(lines);
        assert!(
            told.iter().any(|told| told.contains(what)),
            "{lines}: {told:?}"
        );
        // A fault of a range is told once, not forty times.
        assert_eq!(told.len(), 1, "{lines}: {told:?}");
    }
}

#[test]
fn a_file_of_nothing_but_faults_is_told_in_short() {
    let hosts: Vec<String> = (0..500)
        .map(|n| format!("[host.h{n}]\nip = \"10.0.1.9\"\n"))
        .collect();
    let told = problems(&hosts.concat());
    assert_eq!(told.len(), 51);
    assert!(told[50].starts_with("fleet.toml: and "), "{}", told[50]);
}

/// Prints what five thousand machines cost: one section each, and in ranges.
#[test]
fn five_thousand_machines_are_read_and_merged() {
    let mut text = LAB
        .split("[host")
        .next()
        .unwrap()
        .replace("192.168.1.0/24", "10.0.0.0/8");
    text = text.replace("192.168.1.", "10.0.0.");
    for n in 0..5000u32 {
        let (high, low) = (n / 250, n % 250 + 1);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "[host.lab{}-{n:04}]\nmac = [\"52:54:00:00:{high:02x}:{low:02x}\"]\nip = \"10.1.{high}.{low}\"\n",
            n % 7
        );
    }
    let began = std::time::Instant::now();
    let fleet = Fleet::parse(text.as_bytes(), "fleet.toml").unwrap();
    let parsed = began.elapsed();
    let merging = std::time::Instant::now();
    let settings: usize = fleet
        .machines
        .iter()
        .map(|machine| fleet.settings(machine).len())
        .sum();
    println!(
        "5,000 machines, {} KB: read and checked in {parsed:?}, {settings} settings merged in {:?}",
        text.len() / 1000,
        merging.elapsed()
    );
    assert_eq!(fleet.machines.len(), 5000);
}

proptest! {
    #[test]
    fn any_lines_are_read_without_panic(
        lines in prop::collection::vec(
            prop_oneof![
                Just("[host.\"a-[1-3]\"]"), Just("[host.b]"), Just("[group.g]"), Just("match = \"a*\""), Just("groups = \"g\""),
                Just("ip = \"10.0.0.[1-3]\""), Just("ip = \"10.0.0.1\""), Just("mac = \"52:54:00:00:00:0[1-3]\""), Just("[ip.\"10.0.0.2\"]"),
                Just("[network.\"10.0.0.0/8\"]"), Just("[network.\"::/0\"]"), Just("range = \"10.0.0.1-10.0.0.9\""), Just("attempts = 2"),
                Just("[base]"), Just("[server]"), Just("slots = 2"), Just("uuid = \"x[1-3]\""), Just("image = \"[1-9]\""),
            ], 0..12)
    ) {
        let text = format!("version = 1\n{}\n", lines.join("\n"));
        if let Ok(fleet) = Fleet::parse(text.as_bytes(), "f") {
            for machine in &fleet.machines {
                let settings = fleet.settings(machine);
                prop_assert!(settings.values().all(|setting| setting.line > 1));
            }
        }
    }

    #[test]
    fn a_range_of_hosts_is_the_same_as_its_machines(first in 1usize..100, count in 1usize..50) {
        let last = first + count - 1;
        let range = format!("h[{first:03}-{last:03}]");
        let network = "version = 1\n[network.\"10.0.0.0/16\"]\n";
        let one = format!("{network}[host.\"{range}\"]\nip = \"10.0.1.[{first}-{last}]\"\nimage = \"i[{first}-{last}]\"\n");
        let mut each = network.to_owned();
        for (n, name) in (first..=last).zip(Range::find(&range).unwrap().unwrap().all()) {
            let _ = write!(each, "[host.{name}]\nip = \"10.0.1.{n}\"\nimage = \"i{n}\"\n");
        }
        let shown = |text: &str| {
            let fleet = Fleet::parse(text.as_bytes(), "f").unwrap();
            fleet.machines.iter().map(|machine| {
                (machine.name.clone(), machine.ip, fleet.setting(machine, "image").unwrap().value)
            }).collect::<Vec<_>>()
        };
        prop_assert_eq!(shown(&one), shown(&each));
    }
}
