//! Machines out of other programs' files. Each reader takes what it knows and lists the rest with its line; what goes into the
//! fleet file is decided here, machine by machine: whole or not at all.

mod clients_conf;
mod csv;
mod dhcpd;
mod dnsmasq;
mod kea;
mod leases;
mod reserved;
mod take;

pub use take::{Report, take};

use crate::Mac;
use ipnet::IpNet;
use pitstop_protocol::host_name::Uuid;
use std::net::IpAddr;
use toml::Value;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    ClientsConf,
    Dhcpd,
    Dnsmasq,
    Kea,
    FogCsv,
    Csv,
    Leases,
}

impl From {
    pub const ALL: [From; 7] = [
        From::ClientsConf,
        From::Dhcpd,
        From::Dnsmasq,
        From::Kea,
        From::FogCsv,
        From::Csv,
        From::Leases,
    ];

    pub fn name(self) -> &'static str {
        match self {
            From::ClientsConf => "clients.conf",
            From::Dhcpd => "dhcpd",
            From::Dnsmasq => "dnsmasq",
            From::Kea => "kea",
            From::FogCsv => "fog-csv",
            From::Csv => "csv",
            From::Leases => "leases",
        }
    }
}

/// A machine as another file has it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// Of the file it comes from.
    pub line: usize,
    pub name: String,
    pub macs: Vec<Mac>,
    pub ip: Option<IpAddr>,
    pub uuid: Option<Uuid>,
    pub serial: Option<String>,
    pub groups: Vec<String>,
    /// More keys of its section.
    pub keys: Vec<(String, Value)>,
}

/// A network as another file has it.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundNetwork {
    pub line: usize,
    pub net: IpNet,
    /// The file does not tell its size.
    pub is_guess: bool,
    pub keys: Vec<(&'static str, Value)>,
}

/// What is not taken over, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotTaken {
    pub line: usize,
    pub what: String,
}

/// All that a file has.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Imported {
    pub machines: Vec<Found>,
    pub networks: Vec<FoundNetwork>,
    /// It is a DHCP server's: a machine has its address, whatever range that lies in.
    pub is_server: bool,
    pub not_taken: Vec<NotTaken>,
}

impl Imported {
    fn leave(&mut self, line: usize, what: impl Into<String>) {
        let what = what.into();
        self.not_taken.push(NotTaken { line, what });
    }
}

/// Reads the text of a file.
///
/// # Errors
/// It is not of its kind at all.
pub fn read(text: &str, from: From) -> Result<Imported, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut imported = match from {
        From::ClientsConf => clients_conf::read(text),
        From::Dhcpd => dhcpd::read(text, false),
        From::Dnsmasq => dnsmasq::read(text),
        From::Kea => kea::read(text)?,
        From::FogCsv => csv::fog(text),
        From::Csv => csv::with_header(text)?,
        From::Leases => leases::read(text)?,
    };
    imported.is_server = matches!(from, From::Dhcpd | From::Dnsmasq | From::Kea | From::Leases);
    imported.not_taken.sort_by_key(|left| left.line);
    Ok(imported)
}

/// Adds the images of a `scheme.map` of sslbootmgr: address, partitioner, script for afterwards, image.
pub fn scheme_map(text: &str, imported: &mut Imported) -> Vec<NotTaken> {
    clients_conf::scheme_map(text, imported)
}

/// A name for a machine that has none: its address is what it is known by.
fn name_of(ip: IpAddr) -> String {
    format!(
        "host-{}",
        ip.to_string().replace(['.', ':'], "-").trim_matches('-')
    )
}

/// A text in quotation marks without them.
fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let inside = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    inside.unwrap_or(text)
}

/// The first of a few letters, for messages.
fn short(text: &str) -> String {
    let mut short: String = text.trim().chars().take(60).collect();
    if text.trim().chars().count() > 60 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
