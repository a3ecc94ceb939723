//! Configurations of other servers, made of a fleet: text out, nothing touched.

mod dhcpd;
mod dnsmasq;
mod hosts;
mod kea;
mod kea6;
mod pxelinux;

pub use hosts::merge_hosts;

use crate::boot::{self, Chain, Firmware};
use crate::fleet::{Fleet, Machine, Network, Unknown};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Dnsmasq,
    Dhcpd,
    Kea,
    Kea6,
    Pxelinux,
    Exports,
    Hosts,
}

impl Format {
    pub const ALL: [Format; 7] = [
        Format::Dnsmasq,
        Format::Dhcpd,
        Format::Kea,
        Format::Kea6,
        Format::Pxelinux,
        Format::Exports,
        Format::Hosts,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Format::Dnsmasq => "dnsmasq",
            Format::Dhcpd => "dhcpd",
            Format::Kea => "kea",
            Format::Kea6 => "kea6",
            Format::Pxelinux => "pxelinux",
            Format::Exports => "exports",
            Format::Hosts => "hosts",
        }
    }
}

impl Format {
    /// Whether machines are told in it where the server is.
    pub fn names_server(self) -> bool {
        !matches!(self, Format::Exports | Format::Hosts)
    }
}

/// What was made, and what could not be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Made {
    /// Name and text; one without a name, of `pxelinux` one a machine.
    pub files: Vec<(String, String)>,
    /// Sentences about machines that are left out.
    pub notes: Vec<String>,
}

/// What the fleet file need not say.
#[derive(Debug, Clone, Default)]
pub struct Around<'a> {
    /// The server's URL for boot loaders, where `[server] url` does not stand in the file.
    pub url: &'a str,
    /// The same for machines at work: another one where the server has https.
    pub machines: &'a str,
    /// The folder of the share, as machines mount it.
    pub share: &'a str,
    /// The names of the host files that are there: `C0A80132.toml`, `01-52-54-….toml`.
    pub jobs: BTreeSet<String>,
    /// What UEFI machines begin with: what the server has files for.
    pub chain: Chain,
}

/// Makes `format` of a fleet.
///
/// # Errors
/// What is missing in the file: where the server is, or any network.
pub fn generate(fleet: &Fleet, format: Format, around: &Around) -> Result<Made, String> {
    let boot = || Boot::of(fleet, around);
    let networks = || -> Result<(), String> {
        let any = fleet.networks.iter().any(|network| network.v4().is_some());
        any.then_some(()).ok_or_else(|| {
            format!(
                "{} has no IPv4 network: write [network.\"192.168.1.0/24\"] into it",
                fleet.file
            )
        })
    };
    let mut notes = Vec::new();
    let text = match format {
        Format::Dnsmasq => {
            networks()?;
            dnsmasq::config(fleet, &boot()?, &mut notes)
        }
        Format::Dhcpd => {
            networks()?;
            dhcpd::config(fleet, &boot()?, &mut notes)
        }
        Format::Kea => {
            networks()?;
            kea::config(fleet, &boot()?, &mut notes)
        }
        Format::Kea6 => kea6::config(fleet, around.url, &mut notes)?,
        Format::Pxelinux => {
            let files = pxelinux::files(fleet, &boot()?, &around.jobs, &mut notes);
            return Ok(Made { files, notes });
        }
        Format::Exports => exports(fleet, around.share)?,
        Format::Hosts => hosts::lines(fleet, &mut notes),
    };
    Ok(Made {
        files: vec![(String::new(), text)],
        notes,
    })
}

/// What stands in every text that is made, and in no other.
pub const MARK: &str = "Made by pitstop fleet generate ";

/// The first line of every text that is made.
fn header(fleet: &Fleet, format: Format) -> String {
    let file = Path::new(&fleet.file).file_name();
    let file = file.map_or_else(|| "fleet.toml".into(), |name| name.to_string_lossy());
    format!("{MARK}{} of {file}: changes here are lost.", format.name())
}

/// Where machines load what they boot.
struct Boot {
    /// Where host files are.
    machines: String,
    /// Boot ROMs take no name.
    address: Ipv4Addr,
    loaders: Loaders,
}

/// A file for each kind of firmware.
struct Loaders {
    bios: String,
    efi_x64: String,
    efi_arm64: String,
    http_x64: String,
    http_arm64: String,
    /// What iPXE goes on with.
    ipxe: String,
}

impl Boot {
    fn of(fleet: &Fleet, around: &Around<'_>) -> Result<Self, String> {
        let server = &fleet.server;
        let named = |other| server.url.as_deref().unwrap_or(other);
        let url = named(around.url).trim_end_matches('/').to_owned();
        let host = boot::address_in(&url);
        let given = match server.address {
            Some(IpAddr::V4(ip)) => Some(ip),
            _ => None,
        };
        let address = given.or(host).ok_or_else(|| {
            format!(
                "boot ROMs need the server's IPv4 address, and {url} has none: write address = \"192.168.1.10\" into \
                 [server] of {}",
                fleet.file
            )
        })?;
        let loader = |firmware| boot::loader(server, &url, firmware, around.chain);
        let loaders = Loaders {
            bios: loader(Firmware::Bios),
            efi_x64: loader(Firmware::EfiX64),
            efi_arm64: loader(Firmware::EfiArm64),
            http_x64: loader(Firmware::HttpX64),
            http_arm64: loader(Firmware::HttpArm64),
            ipxe: loader(Firmware::Ipxe),
        };
        Ok(Self {
            machines: named(around.machines).trim_end_matches('/').to_owned(),
            address,
            loaders,
        })
    }
}

/// Networks of IPv4 with their places in the file's list.
fn networks(fleet: &Fleet) -> impl Iterator<Item = (usize, &Network, ipnet::Ipv4Net)> {
    let networks = fleet.networks.iter().enumerate();
    networks.filter_map(|(at, network)| Some((at, network, network.v4()?)))
}

/// The addresses of IPv4 among `ips`, with `separator` between.
fn joined(ips: &[IpAddr], separator: &str) -> Option<String> {
    let ips: Vec<String> = ips
        .iter()
        .filter(|ip| ip.is_ipv4())
        .map(ToString::to_string)
        .collect();
    (!ips.is_empty()).then(|| ips.join(separator))
}

fn v4(machine: &Machine) -> Option<Ipv4Addr> {
    match machine.ip {
        Some(IpAddr::V4(ip)) => Some(ip),
        _ => None,
    }
}

/// Whether the machine can be in a DHCP server's configuration; else a note says why not.
fn known_by_card(machine: &Machine, notes: &mut Vec<String>) -> bool {
    let why = if machine.macs.is_empty() {
        "it has no mac"
    } else if machine.ip.is_some() && v4(machine).is_none() {
        "its address is not IPv4"
    } else {
        return true;
    };
    notes.push(format!("{} is left out: {why}", machine.name));
    false
}

fn known_alone(fleet: &Fleet) -> bool {
    fleet.server.unknown == Unknown::Ignore
}

/// Lets every network mount the share.
fn exports(fleet: &Fleet, share: &str) -> Result<String, String> {
    if share
        .chars()
        .any(|c| c.is_control() || c == '"' || c == '\\')
    {
        return Err(format!("{share:?} is no path for an exports file"));
    }
    if fleet.networks.is_empty() {
        return Err(format!(
            "{} has no network that may mount the share",
            fleet.file
        ));
    }
    let path = if share.contains([' ', '#']) {
        format!("\"{share}\"")
    } else {
        share.to_owned()
    };
    let clients: Vec<String> = fleet
        .networks
        .iter()
        // Images belong to root, who is the machine's payload.
        .map(|network| format!("{}(rw,sync,no_subtree_check,no_root_squash)", network.net))
        .collect();
    Ok(format!(
        "# {}\n{path} {}\n",
        header(fleet, Format::Exports),
        clients.join(" ")
    ))
}

#[cfg(test)]
mod tests;
