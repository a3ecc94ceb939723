//! Kea's server for IPv4: a whole `kea-dhcp4.conf`. Plain JSON, though Kea would take comments: others read it, too.

use super::{Boot, Format, header, joined, known_alone, known_by_card, networks, v4};
use crate::fleet::{Fleet, Network};
use serde_json::{Value, json};
use std::net::IpAddr;

pub(super) fn config(fleet: &Fleet, boot: &Boot, notes: &mut Vec<String>) -> String {
    let subnets: Vec<Value> = networks(fleet)
        .map(|(at, network, _)| subnet(fleet, boot, at, network))
        .collect();
    for machine in &fleet.machines {
        if known_by_card(machine, notes) && v4(machine).is_none() {
            notes.push(format!("{} is left out: it has no ip", machine.name));
        }
    }
    let config = json!({ "Dhcp4": {
        "user-context": { "comment": header(fleet, Format::Kea) },
        "authoritative": true,
        "interfaces-config": { "interfaces": ["*"] },
        "lease-database": { "type": "memfile", "lfc-interval": 3600 },
        // A machine of two cards has one address.
        "ip-reservations-unique": fleet.machines.iter().all(|machine| machine.macs.len() < 2),
        "client-classes": classes(fleet, boot),
        "subnet4": subnets,
    }});
    // A value of texts, numbers and lists is always JSON.
    serde_json::to_string_pretty(&config).unwrap_or_default() + "\n"
}

/// Kea's `option-data`, of the options that have a value.
pub(super) fn option_data<const N: usize>(options: [(&str, Option<String>); N]) -> Vec<Value> {
    let given = options.into_iter();
    given
        .filter_map(|(name, data)| Some(json!({ "name": name, "data": data? })))
        .collect()
}

/// Kea's `pools`, of the network's addresses for machines that nobody named.
pub(super) fn pools(network: &Network) -> Vec<Value> {
    let pools = network.pools.iter();
    pools
        .map(|(first, last)| json!({ "pool": format!("{first} - {last}") }))
        .collect()
}

fn subnet(fleet: &Fleet, boot: &Boot, at: usize, network: &Network) -> Value {
    let router = network.router.map(|ip| ip.to_string());
    let options = [
        ("routers", router),
        ("domain-name-servers", joined(&network.dns, ", ")),
        ("ntp-servers", joined(&network.ntp, ", ")),
        ("domain-name", network.domain.clone()),
    ];
    let options = option_data(options);
    let pools = pools(network);
    let machines = fleet
        .machines
        .iter()
        .filter(|machine| machine.network == Some(at));
    let reservations: Vec<Value> = machines
        .filter_map(|machine| Some((machine, v4(machine)?)))
        .flat_map(|(machine, ip)| {
            machine.macs.iter().map(move |mac| {
                json!({ "hw-address": mac.to_string(), "ip-address": ip.to_string(), "hostname": machine.name })
            })
        })
        .collect();
    let server = network.next_server.unwrap_or(IpAddr::V4(boot.address));
    json!({
        // Leases are kept by it: it must not change with the order of the file's other parts.
        "id": at + 1,
        "subnet": network.net.to_string(),
        "next-server": server.to_string(),
        "valid-lifetime": network.seconds(),
        "option-data": options,
        "pools": pools,
        "reservations": reservations,
    })
}

fn classes(fleet: &Fleet, boot: &Boot) -> Vec<Value> {
    let ipxe = "substring(option[77].hex,0,4) == 'iPXE'";
    let http = "substring(option[60].hex,0,10) == 'HTTPClient'";
    let loaders = &boot.loaders;
    let known = if known_alone(fleet) {
        "member('KNOWN') and "
    } else {
        ""
    };
    let class = |name: &str, test: String, file: &str, options: Value| {
        json!({
            "name": format!("pitstop-{name}"),
            "test": format!("{known}{test}"),
            "boot-file-name": file,
            "option-data": options,
        })
    };
    let plain = || json!([]);
    let says_http = || json!([{ "name": "vendor-class-identifier", "data": "HTTPClient", "always-send": true }]);
    let arch = |number: u16| format!("option[93].hex == 0x{number:04x}");
    let neither = format!("not ({ipxe}) and not ({http})");
    let efi_x64 = format!("({} or {})", arch(7), arch(9));
    vec![
        class("ipxe", format!("({ipxe})"), &loaders.ipxe, plain()),
        class(
            "http-x64",
            format!("not ({ipxe}) and ({http}) and not ({})", arch(19)),
            &loaders.http_x64,
            says_http(),
        ),
        class(
            "http-arm64",
            format!("not ({ipxe}) and ({http}) and ({})", arch(19)),
            &loaders.http_arm64,
            says_http(),
        ),
        class(
            "efi-x64",
            format!("{neither} and {efi_x64}"),
            &loaders.efi_x64,
            plain(),
        ),
        class(
            "efi-arm64",
            format!("{neither} and ({})", arch(11)),
            &loaders.efi_arm64,
            plain(),
        ),
        class(
            "bios",
            format!("{neither} and not {efi_x64} and not ({})", arch(11)),
            &loaders.bios,
            plain(),
        ),
    ]
}
