//! Kea's server for IPv4: a whole `kea-dhcp4.conf`. Plain JSON, though Kea would take comments: others read it, too.

use super::{Boot, Format, header, joined, known_alone, known_by_card, networks, v4};
use crate::fleet::{Fleet, Network};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

pub(super) fn config(fleet: &Fleet, boot: &Boot, notes: &mut Vec<String>) -> String {
    let ids = subnet_ids(fleet);
    let subnets: Vec<Value> = networks(fleet)
        .map(|(at, _, _)| subnet(fleet, boot, at, ids[at]))
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

/// Kea keeps leases by the number of their subnet: it is made of the network alone, whatever else is in the file, and in which
/// order. Two networks that would have the same one (one in four thousand million) take the next.
pub(super) fn subnet_ids(fleet: &Fleet) -> Vec<u32> {
    let names: Vec<String> = fleet.networks.iter().map(|it| it.net.to_string()).collect();
    ids_of(&names, fnv)
}

/// What Kea takes for a subnet; 0 and the number above them mean something else there.
const IDS: RangeInclusive<u32> = 1..=u32::MAX - 1;

fn ids_of(names: &[String], number: impl Fn(&[u8]) -> u32) -> Vec<u32> {
    let mut order: Vec<usize> = (0..names.len()).collect();
    order.sort_by_key(|at| &names[*at]);
    let mut ids = vec![0; names.len()];
    let mut taken = BTreeSet::new();
    for at in order {
        let mut id = number(names[at].as_bytes());
        while !IDS.contains(&id) || !taken.insert(id) {
            id = id.wrapping_add(1);
        }
        ids[at] = id;
    }
    ids
}

/// FNV-1a of 32 bits: the same in every version of every program.
fn fnv(bytes: &[u8]) -> u32 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    bytes.iter().fold(0x811c_9dc5, step)
}

fn subnet(fleet: &Fleet, boot: &Boot, at: usize, id: u32) -> Value {
    let network = &fleet.networks[at];
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
        "id": id,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_has_its_number_whatever_is_beside_it() {
        let names =
            |names: &[&str]| -> Vec<String> { names.iter().map(ToString::to_string).collect() };
        let one = ids_of(&names(&["192.168.1.0/24"]), fnv);
        // FNV-1a as anybody computes it.
        assert_eq!(fnv(b"foobar"), 0xbf9c_f968);
        let three = ids_of(&names(&["10.0.0.0/8", "192.168.1.0/24", "fd00::/64"]), fnv);
        assert_eq!(three[1], one[0]);
        let alike = names(&["c", "a", "b"]);
        assert_eq!(ids_of(&alike, |_| u32::MAX), [3, 1, 2]);
        assert_eq!(ids_of(&alike, |_| 7), [9, 7, 8]);
    }
}
