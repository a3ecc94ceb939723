//! ISC dhcpd: a whole `dhcpd.conf`.

use super::{Boot, Format, header, joined, known_alone, known_by_card, networks, v4};
use crate::fleet::Fleet;
use std::fmt::Write;

pub(super) fn config(fleet: &Fleet, boot: &Boot, notes: &mut Vec<String>) -> String {
    let mut text = format!("# {}\n", header(fleet, Format::Dhcpd));
    text.push_str("authoritative;\nddns-update-style none;\n");
    // RFC 4578. The names are ours: dhcpd's own differ between its versions.
    text.push_str("option pitstop-arch code 93 = unsigned integer 16;\n");
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(text, "next-server {};\n", boot.address);
    loaders(fleet, boot, &mut text);
    for (_, network, net) in networks(fleet) {
        let _ = writeln!(
            text,
            "\nsubnet {} netmask {} {{",
            net.network(),
            net.netmask()
        );
        let mut line = |line: String| {
            let _ = writeln!(text, "  {line};");
        };
        if let Some(router) = network.router {
            line(format!("option routers {router}"));
        }
        if let Some(dns) = joined(&network.dns, ", ") {
            line(format!("option domain-name-servers {dns}"));
        }
        if let Some(ntp) = joined(&network.ntp, ", ") {
            line(format!("option ntp-servers {ntp}"));
        }
        if let Some(domain) = &network.domain {
            line(format!("option domain-name \"{domain}\""));
        }
        if let Some(address) = network.next_server {
            line(format!("next-server {address}"));
        }
        line(format!("default-lease-time {}", network.seconds()));
        line(format!("max-lease-time {}", network.seconds()));
        for (first, last) in &network.pools {
            line(format!("range {first} {last}"));
        }
        text.push_str("}\n");
    }
    text.push_str("\n# The machines\n");
    for machine in &fleet.machines {
        if !known_by_card(machine, notes) {
            continue;
        }
        for (at, mac) in machine.macs.iter().enumerate() {
            // One declaration has one card; the address may stand in several.
            let card = if at == 0 {
                String::new()
            } else {
                format!("-card{}", at + 1)
            };
            let name = &machine.name;
            let address =
                v4(machine).map_or_else(String::new, |ip| format!(" fixed-address {ip};"));
            let _ = writeln!(
                text,
                "host {name}{card} {{ hardware ethernet {mac};{address} option host-name \"{name}\"; }}"
            );
        }
    }
    text
}

fn loaders(fleet: &Fleet, boot: &Boot, text: &mut String) {
    let loaders = &boot.loaders;
    let http = "substring (option vendor-class-identifier, 0, 10) = \"HTTPClient\"";
    let (open, close) = if known_alone(fleet) {
        ("if known {\n", "}\n")
    } else {
        ("", "")
    };
    let _ = write!(
        text,
        "# What each kind of firmware boots; iPXE, however it came, asks the server what to do\n{open}\
         if exists user-class and option user-class = \"iPXE\" {{\n  filename \"{}\";\n\
         }} elsif {http} and option pitstop-arch = 19 {{\n  option vendor-class-identifier \"HTTPClient\";\n  filename \"{}\";\n\
         }} elsif {http} {{\n  option vendor-class-identifier \"HTTPClient\";\n  filename \"{}\";\n\
         }} elsif option pitstop-arch = 7 or option pitstop-arch = 9 {{\n  filename \"{}\";\n\
         }} elsif option pitstop-arch = 11 {{\n  filename \"{}\";\n\
         }} else {{\n  filename \"{}\";\n}}\n{close}",
        loaders.ipxe,
        loaders.http_arm64,
        loaders.http_x64,
        loaders.efi_x64,
        loaders.efi_arm64,
        loaders.bios
    );
}
