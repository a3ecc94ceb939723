//! Kea's server for IPv6: a whole `kea-dhcp6.conf`. Machines are known by their cards, as Kea tells them from what a machine or its
//! relay says of it; a client's own identifier (DUID) is another one in its firmware and in its system.

use super::kea::{option_data, pools, subnet_ids};
use super::{Format, header, known_alone};
use crate::boot::{self, Chain, Firmware};
use crate::fleet::{Fleet, Machine, Network};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv6Addr};

pub(super) fn config(fleet: &Fleet, url: &str, notes: &mut Vec<String>) -> Result<String, String> {
    let url = fleet.server.url.as_deref().unwrap_or(url);
    let ids = subnet_ids(fleet);
    let subnets: Vec<Value> = fleet
        .networks
        .iter()
        .enumerate()
        .filter(|(_, network)| is_v6(network))
        .map(|(at, network)| subnet(fleet, at, network, ids[at]))
        .collect();
    if subnets.is_empty() {
        return Err(format!(
            "{} has no IPv6 network: write [network.\"2001:db8::/64\"] into it",
            fleet.file
        ));
    }
    for machine in &fleet.machines {
        let why = match (v6(machine), machine.macs.is_empty()) {
            (None, _) => "its address is not IPv6",
            (Some(_), true) => "it has no mac",
            (Some(_), false) => continue,
        };
        notes.push(format!("{} is left out: {why}", machine.name));
    }
    let config = json!({ "Dhcp6": {
        "user-context": { "comment": header(fleet, Format::Kea6) },
        "interfaces-config": { "interfaces": ["*"] },
        "lease-database": { "type": "memfile", "lfc-interval": 3600 },
        "host-reservation-identifiers": ["hw-address"],
        "mac-sources": ["any"],
        // A machine of two cards has one address.
        "ip-reservations-unique": fleet.machines.iter().all(|machine| machine.macs.len() < 2),
        "client-classes": classes(fleet, url)?,
        "subnet6": subnets,
    }});
    // A value of texts, numbers and lists is always JSON.
    Ok(serde_json::to_string_pretty(&config).unwrap_or_default() + "\n")
}

fn is_v6(network: &Network) -> bool {
    matches!(network.net, ipnet::IpNet::V6(_))
}

fn v6(machine: &Machine) -> Option<Ipv6Addr> {
    match machine.ip {
        Some(IpAddr::V6(ip)) => Some(ip),
        _ => None,
    }
}

fn joined(ips: &[IpAddr]) -> Option<String> {
    let ips: Vec<String> = ips
        .iter()
        .filter(|ip| ip.is_ipv6())
        .map(ToString::to_string)
        .collect();
    (!ips.is_empty()).then(|| ips.join(", "))
}

fn subnet(fleet: &Fleet, at: usize, network: &Network, id: u32) -> Value {
    let options = [
        ("dns-servers", joined(&network.dns)),
        ("sntp-servers", joined(&network.ntp)),
        ("domain-search", network.domain.clone()),
    ];
    let options = option_data(options);
    let pools = pools(network);
    let machines = fleet
        .machines
        .iter()
        .filter(|machine| machine.network == Some(at));
    let reservations: Vec<Value> = machines
        .filter_map(|machine| Some((machine, v6(machine)?)))
        .flat_map(|(machine, ip)| {
            machine.macs.iter().map(move |mac| {
                json!({ "hw-address": mac.to_string(), "ip-addresses": [ip.to_string()], "hostname": machine.name })
            })
        })
        .collect();
    json!({
        "id": id,
        "subnet": network.net.to_string(),
        "valid-lifetime": network.seconds(),
        "option-data": options,
        "pools": pools,
        "reservations": reservations,
    })
}

/// What UEFI's HTTP boot wants to be answered (UEFI 2.10 24.7.3.1): a vendor class of enterprise 343 with `HTTPClient`.
const SAYS_HTTP: &str = "00000157000A48545450436C69656E74";

fn classes(fleet: &Fleet, url: &str) -> Result<Vec<Value>, String> {
    // Behind the length of the first of the user classes (RFC 8415 21.15).
    let ipxe = "(substring(option[15].hex,2,4) == 'iPXE')";
    let known = if known_alone(fleet) {
        "member('KNOWN') and "
    } else {
        ""
    };
    [
        Firmware::Ipxe,
        Firmware::EfiX64,
        Firmware::EfiArm64,
        Firmware::HttpX64,
        Firmware::HttpArm64,
    ]
    .into_iter()
    .map(|firmware| {
        // Option 61 (RFC 5970 3.3) has the numbers that DHCP's option 93 has.
        let is = firmware
            .architectures()
            .iter()
            .map(|number| format!("option[61].hex == 0x{number:04x}"))
            .collect::<Vec<_>>()
            .join(" or ");
        let test = match firmware {
            Firmware::Ipxe => format!("{known}{ipxe}"),
            _ => format!("{known}not {ipxe} and ({is})"),
        };
        let mut options = vec![json!({
            "name": "bootfile-url",
            "data": place(fleet, url, firmware)?,
        })];
        if firmware.is_http() {
            options.push(json!({
                "name": "vendor-class", "csv-format": false, "data": SAYS_HTTP, "always-send": true
            }));
        }
        Ok(json!({
            "name": format!("pitstop-{}", firmware.name()),
            "test": test,
            "option-data": options,
        }))
    })
    .collect()
}

/// The loader's URL: there is no other way to name one in IPv6 (RFC 5970 3.1). A plain file is loaded over TFTP.
/// The signed GRUB has been seen to work over IPv4 alone.
fn place(fleet: &Fleet, url: &str, firmware: Firmware) -> Result<String, String> {
    let loader = boot::loader(&fleet.server, url, firmware, Chain::Plain);
    if loader.contains("://") {
        return Ok(loader);
    }
    let host = match fleet.server.address {
        Some(IpAddr::V6(ip)) => Some(format!("[{ip}]")),
        _ => url::Url::parse(url)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned)),
    };
    let host = host.ok_or_else(|| format!("{url} names no server"))?;
    Ok(format!("tftp://{host}/{loader}"))
}
