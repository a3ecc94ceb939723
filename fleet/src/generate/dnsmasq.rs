//! dnsmasq, for a file in `/etc/dnsmasq.d`: addresses, names and boot loaders. DNS stays as its own configuration has it.

use super::{Boot, Format, header, joined, known_alone, known_by_card, networks, v4};
use crate::boot::Firmware;
use crate::fleet::Fleet;
use std::fmt::Write;
use std::net::IpAddr;

/// Those that a tag is made for: everything else is BIOS or iPXE.
const TAGGED: [Firmware; 4] = [
    Firmware::EfiX64,
    Firmware::EfiArm64,
    Firmware::HttpX64,
    Firmware::HttpArm64,
];

pub(super) fn config(fleet: &Fleet, boot: &Boot, notes: &mut Vec<String>) -> String {
    let mut text = format!("# {}\ndhcp-authoritative\n", header(fleet, Format::Dnsmasq));
    // Writing to a String cannot fail, here and below.
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    for (at, network, net) in networks(fleet) {
        let (mask, time) = (net.netmask(), network.seconds());
        line(format!("\n# {net}"));
        let pools = network.pools.iter();
        for (first, last) in pools {
            line(format!(
                "dhcp-range=set:net{at},{first},{last},{mask},{time}s"
            ));
        }
        if network.pools.is_empty() {
            line(format!(
                "dhcp-range=set:net{at},{},static,{mask},{time}s",
                net.network()
            ));
        }
        match network.router {
            Some(router) => line(format!("dhcp-option=tag:net{at},option:router,{router}")),
            // dnsmasq would name itself.
            None => line(format!("dhcp-option=tag:net{at},option:router")),
        }
        if let Some(dns) = joined(&network.dns, ",") {
            line(format!("dhcp-option=tag:net{at},option:dns-server,{dns}"));
        }
        if let Some(ntp) = joined(&network.ntp, ",") {
            line(format!("dhcp-option=tag:net{at},option:ntp-server,{ntp}"));
        }
        if let Some(domain) = &network.domain {
            line(format!("domain={domain},{net}"));
            line(format!(
                "dhcp-option=tag:net{at},option:domain-name,{domain}"
            ));
        }
    }
    loaders(fleet, boot, &mut line);
    line("\n# The machines".into());
    for machine in &fleet.machines {
        if !known_by_card(machine, notes) {
            continue;
        }
        let macs = machine.macs.iter().map(ToString::to_string);
        let ip = v4(machine).map(|ip| ip.to_string());
        let name = Some(&machine.name).filter(|name| !is_keyword(name));
        if name.is_none() {
            notes.push(format!(
                "{} gets no name from dnsmasq, which would take it for a lease time or a word of its own",
                machine.name
            ));
        }
        let words: Vec<String> = macs.chain(ip).chain(name.cloned()).collect();
        line(format!("dhcp-host={}", words.join(",")));
    }
    text
}

/// Whether a word of a `dhcp-host` line means something else than a name: `7`, `12m`, `infinite`, `ignore`.
fn is_keyword(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let digits = name
        .strip_suffix(['s', 'm', 'h', 'd', 'w'])
        .unwrap_or(&name);
    let time = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    time || name == "infinite" || name == "ignore"
}

fn loaders(fleet: &Fleet, boot: &Boot, line: &mut impl FnMut(String)) {
    line(
        "\n# What each kind of firmware boots; iPXE, however it came, asks the server what to do"
            .into(),
    );
    line("dhcp-match=set:ipxe,175".into());
    line("dhcp-userclass=set:ipxe,iPXE".into());
    for firmware in TAGGED {
        let tag = firmware.name();
        for architecture in firmware.architectures() {
            line(format!(
                "dhcp-match=set:{tag},option:client-arch,{architecture}"
            ));
        }
    }
    for firmware in TAGGED.into_iter().filter(|firmware| firmware.is_http()) {
        let tag = firmware.name();
        // Firmware takes no answer for one to HTTP boot that does not say so (UEFI 2.10, 24.7.3).
        line(format!("dhcp-option-force=tag:{tag},60,HTTPClient"));
    }
    let known = if known_alone(fleet) { "tag:known," } else { "" };
    let others = TAGGED
        .map(|firmware| format!("tag:!{},", firmware.name()))
        .concat();
    let loaders = &boot.loaders;
    let mut from = |network: &str, address: IpAddr| {
        let mut loader = |tags: &str, file: &str| {
            line(format!("dhcp-boot={network}{known}{tags}{file},,{address}"));
        };
        loader(&format!("{others}tag:!ipxe,"), &loaders.bios);
        loader("tag:efi-x64,tag:!ipxe,", &loaders.efi_x64);
        loader("tag:efi-arm64,tag:!ipxe,", &loaders.efi_arm64);
        loader("tag:http-x64,tag:!ipxe,", &loaders.http_x64);
        loader("tag:http-arm64,tag:!ipxe,", &loaders.http_arm64);
        loader("tag:ipxe,", &loaders.ipxe);
    };
    // Lines that exclude each other: which of two that fit dnsmasq takes is not documented.
    if fleet
        .networks
        .iter()
        .any(|network| network.next_server.is_some())
    {
        for (at, network, _) in networks(fleet) {
            let address = network.next_server.unwrap_or(boot.address.into());
            from(&format!("tag:net{at},"), address);
        }
    } else {
        from("", boot.address.into());
    }
}
