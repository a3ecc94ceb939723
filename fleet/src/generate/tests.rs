use super::*;
use std::io::Write as _;
use std::process::Command;

const LAB: &str = r#"version = 1
[server]
url = "http://192.168.1.10:8080"
[network."192.168.1.0/24"]
router = "192.168.1.1"
dns = ["192.168.1.1", "9.9.9.9"]
domain = "lab.example"
range = "192.168.1.150-192.168.1.199"
ntp = "192.168.1.2"
[network."10.0.0.0/16"]
next-server = "10.0.0.5"
lease-time = "30m"
[network."fd00::/64"]
[group.lab3]
match = "lab3-*"
kernel-args = "console=ttyS1,115200"
[host."lab3-[01-02]"]
mac = ["52:54:00:00:01:[01-02]"]
ip = "192.168.1.[101-102]"
[host.two]
mac = ["52:54:00:00:02:01", "52:54:00:00:02:02"]
ip = "10.0.7.7"
action = "refresh-info"
[host.six]
mac = "52:54:00:00:03:01"
ip = "fd00::7"
[host.bare]
mac = "52:54:00:00:04:01"
[host.cardless]
ip = "10.0.7.8"
"#;

fn lab() -> Fleet {
    Fleet::parse(LAB.as_bytes(), "/srv/pitstop/fleet.toml").unwrap()
}

fn made(fleet: &Fleet, format: Format) -> Made {
    let around = Around {
        share: "/srv/pitstop/share",
        jobs: ["01-52-54-00-00-01-02.toml".to_owned()].into(),
        ..Around::default()
    };
    generate(fleet, format, &around).unwrap()
}

fn text(fleet: &Fleet, format: Format) -> String {
    made(fleet, format).files.remove(0).1
}

/// Fleets of every shape: with and without pools, options, machines; only what is known; another server's names.
fn fleets() -> Vec<Fleet> {
    let small =
        "version = 1\n[server]\nurl = \"http://192.168.1.10:8080\"\n[network.\"192.168.1.0/24\"]\n";
    let named = "version = 1\n[server]\nurl = \"http://pxe.lab:8080\"\naddress = \"192.168.1.10\"\nloader-bios = \"undionly.kpxe\"\n[network.\"192.168.1.0/30\"]\nrange = [\"192.168.1.1-192.168.1.1\", \"192.168.1.2-192.168.1.2\"]\n";
    let ignoring = LAB.replace("[server]", "[server]\nunknown = \"ignore\"");
    let many = format!("{small}[host.\"m-[1-200]\"]\nmac = \"52:54:00:00:00:[01-99]\"\n")
        .replace("[1-200]", "[1-99]");
    [LAB, small, named, &ignoring, &many]
        .into_iter()
        .map(|text| Fleet::parse(text.as_bytes(), "fleet.toml").unwrap())
        .collect()
}

/// Asks a daemon about a configuration, as the command does before it installs one.
fn checked(program: &str, arguments: &[&str], text: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let output = Command::new(program)
        .args(arguments)
        .arg(file.path())
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("running {program}: {error}; .ci/setup test installs it"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{program}: {said}\n{text}");
    assert!(
        !said.to_lowercase().contains("warning"),
        "{program}: {said}\n{text}"
    );
}

#[test]
fn dnsmasq_takes_its_configuration() {
    for fleet in fleets() {
        checked("dnsmasq", &["--test", "-C"], &text(&fleet, Format::Dnsmasq));
    }
}

#[test]
fn dhcpd_takes_its_configuration() {
    for fleet in fleets() {
        checked("dhcpd", &["-4", "-t", "-cf"], &text(&fleet, Format::Dhcpd));
    }
}

#[test]
fn kea_takes_its_configuration() {
    for fleet in fleets() {
        checked("kea-dhcp4", &["-t"], &text(&fleet, Format::Kea));
    }
}

#[test]
fn kea_takes_its_configuration_of_ipv6() {
    let mut took = 0;
    for fleet in fleets() {
        match generate(&fleet, Format::Kea6, &Around::default()) {
            Ok(made) => checked("kea-dhcp6", &["-t"], &made.files[0].1),
            Err(error) => {
                assert!(error.contains("no IPv6 network"), "{error}");
                continue;
            }
        }
        took += 1;
    }
    assert!(took > 0);
    let six = LAB.replace(
        "url = \"http://192.168.1.10:8080\"",
        "url = \"http://[fd00::1]:8080\"\nunknown = \"ignore\"",
    ) + "[network.\"2001:db8::/64\"]\nrange = \"2001:db8::100-2001:db8::1ff\"\ndns = \"2001:db8::1\"\n\
           ntp = \"2001:db8::2\"\ndomain = \"lab.example\"\n\
           [host.seven]\nmac = [\"52:54:00:00:07:01\", \"52:54:00:00:07:02\"]\nip = \"2001:db8::7\"\n";
    let fleet = Fleet::parse(six.as_bytes(), "fleet.toml").unwrap();
    let made = made(&fleet, Format::Kea6);
    checked("kea-dhcp6", &["-t"], &made.files[0].1);
    let config: serde_json::Value = serde_json::from_str(&made.files[0].1).unwrap();
    let subnet = &config["Dhcp6"]["subnet6"][1];
    assert_eq!(subnet["reservations"][1]["ip-addresses"][0], "2001:db8::7");
    assert_eq!(subnet["pools"][0]["pool"], "2001:db8::100 - 2001:db8::1ff");
    let classes = &config["Dhcp6"]["client-classes"];
    assert_eq!(
        classes[0]["option-data"][0]["data"],
        "http://[fd00::1]:8080/boot.ipxe"
    );
    assert_eq!(
        classes[1]["option-data"][0]["data"],
        "tftp://[fd00::1]/ipxe.efi"
    );
    assert!(
        classes[1]["test"]
            .as_str()
            .unwrap()
            .starts_with("member('KNOWN') and not (substring(option[15]")
    );
    assert!(
        made.notes
            .contains(&"lab3-01 is left out: its address is not IPv6".to_owned())
    );
}

#[test]
fn dnsmasq_is_told_of_networks_loaders_and_machines() {
    let text = text(&lab(), Format::Dnsmasq);
    for line in [
        "# Made by pitstop fleet generate dnsmasq of fleet.toml: changes here are lost.",
        "dhcp-range=set:net0,192.168.1.150,192.168.1.199,255.255.255.0,43200s",
        "dhcp-range=set:net1,10.0.0.0,static,255.255.0.0,1800s",
        "dhcp-option=tag:net0,option:router,192.168.1.1",
        "dhcp-option=tag:net0,option:dns-server,192.168.1.1,9.9.9.9",
        "domain=lab.example,192.168.1.0/24",
        "dhcp-match=set:efi-arm64,option:client-arch,11",
        "dhcp-option-force=tag:http-x64,60,HTTPClient",
        "dhcp-boot=tag:net0,tag:!efi-x64,tag:!efi-arm64,tag:!http-x64,tag:!http-arm64,tag:!ipxe,pxelinux.0,,192.168.1.10",
        "dhcp-boot=tag:net0,tag:efi-x64,tag:!ipxe,ipxe.efi,,192.168.1.10",
        "dhcp-boot=tag:net1,tag:efi-arm64,tag:!ipxe,ipxe-arm64.efi,,10.0.0.5",
        "dhcp-boot=tag:net0,tag:http-x64,tag:!ipxe,http://192.168.1.10:8080/boot/ipxe.efi,,192.168.1.10",
        "dhcp-boot=tag:net0,tag:ipxe,http://192.168.1.10:8080/boot.ipxe,,192.168.1.10",
        "dhcp-host=52:54:00:00:01:01,192.168.1.101,lab3-01",
        "dhcp-host=52:54:00:00:02:01,52:54:00:00:02:02,10.0.7.7,two",
        "dhcp-host=52:54:00:00:04:01,bare",
    ] {
        assert!(text.lines().any(|there| there == line), "{line}\n{text}");
    }
    let notes = made(&lab(), Format::Dnsmasq).notes;
    assert_eq!(
        notes,
        [
            "six is left out: its address is not IPv4",
            "cardless is left out: it has no mac"
        ]
    );
}

#[test]
fn uefi_machines_begin_with_shim_where_it_is() {
    let around = Around {
        url: "http://192.168.1.10:8080",
        chain: Chain::Signed,
        ..Around::default()
    };
    for format in [Format::Dnsmasq, Format::Dhcpd, Format::Kea] {
        let text = &generate(&lab(), format, &around).unwrap().files[0].1;
        assert!(text.contains("shimx64.efi"), "{text}");
        // Over HTTP it is iPXE: the signed GRUB loads nothing by it.
        assert!(text.contains("/boot/ipxe.efi"), "{text}");
        assert!(
            !text.contains("\"ipxe.efi\"") && !text.contains(",ipxe.efi,"),
            "{text}"
        );
    }
}

#[test]
fn names_that_dnsmasq_would_take_for_times_are_left_out() {
    let names = [
        "7", "101", "12m", "1H", "infinite", "ignore", "7a", "m", "12y",
    ];
    let hosts: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(n, name)| {
            format!("[host.{name}]\nmac = \"52:54:00:00:05:0{n}\"\nip = \"192.168.1.2{n}\"\n")
        })
        .collect();
    let lab = format!("{LAB}{}", hosts.concat());
    let fleet = Fleet::parse(lab.as_bytes(), "fleet.toml").unwrap();
    let made = made(&fleet, Format::Dnsmasq);
    for line in [
        "dhcp-host=52:54:00:00:05:00,192.168.1.20",
        "dhcp-host=52:54:00:00:05:03,192.168.1.23",
        "dhcp-host=52:54:00:00:05:05,192.168.1.25",
        "dhcp-host=52:54:00:00:05:06,192.168.1.26,7a",
        "dhcp-host=52:54:00:00:05:07,192.168.1.27,m",
        "dhcp-host=52:54:00:00:05:08,192.168.1.28,12y",
    ] {
        let text = &made.files[0].1;
        assert!(text.lines().any(|there| there == line), "{line}\n{text}");
    }
    let told = made.notes.iter().filter(|note| note.contains("no name"));
    assert_eq!(told.count(), 6, "{:?}", made.notes);
    checked("dnsmasq", &["--test", "-C"], &made.files[0].1);
}

#[test]
fn dhcpd_is_told_of_networks_loaders_and_machines() {
    let text = text(&lab(), Format::Dhcpd);
    for part in [
        "subnet 192.168.1.0 netmask 255.255.255.0 {\n  option routers 192.168.1.1;\n  option domain-name-servers 192.168.1.1, 9.9.9.9;\n",
        "  range 192.168.1.150 192.168.1.199;\n",
        "subnet 10.0.0.0 netmask 255.255.0.0 {\n  next-server 10.0.0.5;\n  default-lease-time 1800;\n",
        "host lab3-01 { hardware ethernet 52:54:00:00:01:01; fixed-address 192.168.1.101; option host-name \"lab3-01\"; }\n",
        "host two-card2 { hardware ethernet 52:54:00:00:02:02; fixed-address 10.0.7.7;",
        "filename \"http://192.168.1.10:8080/boot.ipxe\";",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn kea_is_told_of_networks_loaders_and_machines() {
    let config: serde_json::Value = serde_json::from_str(&text(&lab(), Format::Kea)).unwrap();
    let subnet = &config["Dhcp4"]["subnet4"][0];
    assert_eq!(subnet["pools"][0]["pool"], "192.168.1.150 - 192.168.1.199");
    assert_eq!(subnet["reservations"][1]["hw-address"], "52:54:00:00:01:02");
    assert_eq!(subnet["reservations"][1]["hostname"], "lab3-02");
    assert_eq!(config["Dhcp4"]["subnet4"][1]["next-server"], "10.0.0.5");
    assert_eq!(config["Dhcp4"]["ip-reservations-unique"], false);
    let notes = made(&lab(), Format::Kea).notes;
    assert!(
        notes.contains(&"bare is left out: it has no ip".to_owned()),
        "{notes:?}"
    );
}

#[test]
fn pxelinux_boots_pitstop_where_there_is_a_job() {
    let files = made(&lab(), Format::Pxelinux).files;
    let file = |name: &str| {
        let found = files.iter().find(|(file, _)| file == name);
        found.unwrap_or_else(|| panic!("{name}")).1.clone()
    };
    assert!(file("default").contains("DEFAULT local\n"));
    assert!(file("01-52-54-00-00-01-01").contains("DEFAULT local\n"));
    let job = file("01-52-54-00-00-01-02");
    assert!(job.contains("DEFAULT pitstop\n"), "{job}");
    assert!(
        job.contains("APPEND pitstop.host=http://192.168.1.10:8080/hosts/01-52-54-00-00-01-02.toml console=ttyS1,115200\n"),
        "{job}"
    );
    // An action that the file itself gives is a job at every boot.
    assert!(file("01-52-54-00-00-02-02").contains("DEFAULT pitstop\n"));
    assert!(file("0A000708").contains("DEFAULT local\n"));
}

#[test]
fn pxelinux_finds_a_job_under_every_name_that_a_machine_asks_for() {
    let lab = LAB.replace(
        "[host.cardless]\n",
        "[host.cardless]\nuuid = \"00112233-4455-6677-8899-aabbccddeeff\"\n",
    );
    let fleet = Fleet::parse(lab.as_bytes(), "fleet.toml").unwrap();
    for (asked, jobs, found) in [
        (
            "0A000708",
            &["33221100-5544-7766-8899-aabbccddeeff.toml"][..],
            Some("33221100-5544-7766-8899-aabbccddeeff.toml"),
        ),
        ("0A000708", &["0A0007.toml"], Some("0A0007.toml")),
        ("01-52-54-00-00-01-01", &["C0A80166.toml"], None),
        (
            "01-52-54-00-00-01-01",
            &["default.toml", "C0A8.toml", "C0A80165.toml"],
            Some("C0A80165.toml"),
        ),
        (
            "01-52-54-00-00-04-01",
            &["default.toml"],
            Some("default.toml"),
        ),
        // By its other card.
        (
            "01-52-54-00-00-02-01",
            &["0A00.toml", "01-52-54-00-00-02-02.toml"],
            Some("01-52-54-00-00-02-02.toml"),
        ),
    ] {
        let around = Around {
            jobs: jobs.iter().map(|job| (*job).to_owned()).collect(),
            ..Around::default()
        };
        let files = generate(&fleet, Format::Pxelinux, &around).unwrap().files;
        let (_, text) = files.iter().find(|(name, _)| name == asked).unwrap();
        let place = format!("/hosts/{} ", found.unwrap_or_default());
        assert!(text.replace('\n', " ").contains(&place), "{jobs:?}: {text}");
        assert!(
            text.contains("DEFAULT pitstop\n") == found.is_some(),
            "{jobs:?}: {text}"
        );
    }
}

#[test]
fn exports_and_hosts_are_for_the_networks_and_machines() {
    let exports = text(&lab(), Format::Exports);
    assert!(
        exports.contains("\n/srv/pitstop/share 192.168.1.0/24(rw,sync,no_subtree_check,no_root_squash) 10.0.0.0/16("),
        "{exports}"
    );
    let hosts = text(&lab(), Format::Hosts);
    assert!(
        hosts.contains("\n192.168.1.101\tlab3-01.lab.example lab3-01\n"),
        "{hosts}"
    );
    assert!(
        hosts.contains("\n10.0.7.7\ttwo\n") && hosts.contains("\nfd00::7\tsix\n"),
        "{hosts}"
    );
    let there = "127.0.0.1 localhost\n";
    let merged = merge_hosts(there, &hosts);
    assert!(merged.starts_with(there) && merged.ends_with(&hosts));
    let more = merged + "10.9.9.9 mine\n";
    assert_eq!(merge_hosts(&more, &hosts), more);
    assert_eq!(merge_hosts("", &hosts), hosts);
}

#[test]
fn lines_of_the_admin_stay_where_an_end_mark_was_deleted() {
    let hosts = text(&lab(), Format::Hosts);
    let open = "# Begin of pitstop's machines. cut off\n1.2.3.4 mine\n";
    let mended = format!("{hosts}1.2.3.4 mine\n");
    assert_eq!(merge_hosts(open, &hosts), mended);
    // One that an earlier version appended a second time.
    let twice = format!("10.0.0.1 first\n{open}{hosts}10.0.0.2 last\n");
    let merged = merge_hosts(&twice, &hosts);
    assert_eq!(merged, format!("10.0.0.1 first\n{mended}10.0.0.2 last\n"));
    assert_eq!(merge_hosts(&merged, &hosts), merged);
}

#[test]
fn what_is_missing_is_told() {
    let error = |text: &str| {
        let fleet = Fleet::parse(text.as_bytes(), "fleet.toml").unwrap();
        generate(&fleet, Format::Dnsmasq, &Around::default()).unwrap_err()
    };
    assert!(error("version = 1\n").contains("has no IPv4 network"));
    let net = "[network.\"10.0.0.0/8\"]\n";
    let named = format!("version = 1\n{net}[server]\nurl = \"http://pxe:80\"\n");
    assert!(error(&named).contains("http://pxe:80 has none: write address ="));
}

#[test]
fn kea_goes_on_with_its_leases_when_a_network_comes_before_others() {
    let ids = |fleet: &Fleet, format: Format, key: [&str; 2]| {
        let config: serde_json::Value = serde_json::from_str(&text(fleet, format)).unwrap();
        let subnets = config[key[0]][key[1]].as_array().unwrap().clone();
        let of = |it: &serde_json::Value| (it["subnet"].to_string(), it["id"].to_string());
        subnets
            .iter()
            .map(of)
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let more = LAB.replacen(
        "[network.",
        "[network.\"172.16.0.0/24\"]\n[network.\"fd01::/64\"]\n[network.",
        1,
    );
    let more = Fleet::parse(more.as_bytes(), "/srv/pitstop/fleet.toml").unwrap();
    for (format, key) in [
        (Format::Kea, ["Dhcp4", "subnet4"]),
        (Format::Kea6, ["Dhcp6", "subnet6"]),
    ] {
        let (before, after) = (ids(&lab(), format, key), ids(&more, format, key));
        assert!(after.len() > before.len());
        for (subnet, id) in before {
            assert_eq!(after[&subnet], id, "{subnet}");
        }
    }
}
