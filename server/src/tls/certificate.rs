//! What a certificate says of itself.

use super::der::Read;
use anyhow::Context;
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, IpAddr as PkiAddress, ServerName};
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::str::FromStr;

/// A name or an address under which clients ask for the server: what a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// Lower case.
    Dns(String),
    Ip(IpAddr),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither a host name nor an address");
        match ServerName::try_from(text.trim_end_matches('.')).map_err(|_| wrong())? {
            ServerName::DnsName(name) => Ok(Self::Dns(name.as_ref().to_ascii_lowercase())),
            ServerName::IpAddress(address) => Ok(Self::Ip(address_of(address))),
            _ => Err(wrong()),
        }
    }
}

impl Name {
    /// The host of an authority, `name:port`, as a URL or a `Host` field has it.
    pub fn of_authority(authority: &str) -> Option<Self> {
        let authority: axum::http::uri::Authority = authority.parse().ok()?;
        let host = authority.host();
        let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        bare.unwrap_or(host).parse().ok()
    }

    /// As a URL has it.
    pub fn in_url(&self) -> String {
        match self {
            Self::Ip(IpAddr::V6(address)) => format!("[{address}]"),
            other => other.to_string(),
        }
    }

    /// Whether a name of a certificate is this one, or a wildcard for it (RFC 9525 6.3).
    fn is_covered_by(&self, other: &Self) -> bool {
        let (Self::Dns(wanted), Self::Dns(pattern)) = (self, other) else {
            return self == other;
        };
        match pattern.strip_prefix("*.") {
            Some(domain) => wanted.split_once('.').is_some_and(|(_, of)| of == domain),
            None => wanted == pattern,
        }
    }
}

fn address_of(address: PkiAddress) -> IpAddr {
    std::net::IpAddr::from(address)
}

/// What people and the server want to know of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The common name of whom it is of.
    pub subject: String,
    pub names: BTreeSet<Name>,
    pub from: Timestamp,
    pub until: Timestamp,
    /// SHA-256 of the certificate, as browsers show it.
    pub fingerprint: String,
}

impl Facts {
    pub fn read(certificate: &CertificateDer<'_>) -> anyhow::Result<Self> {
        let read = Read::certificate(certificate).context("it is no certificate")?;
        Ok(Self {
            subject: read.common_name.unwrap_or_default().to_owned(),
            names: read.names.into_iter().collect(),
            from: read.from,
            until: read.until,
            fingerprint: fingerprint(certificate),
        })
    }

    /// Whether clients that ask for `name` take it.
    pub fn is_for(&self, name: &Name) -> bool {
        self.names.iter().any(|own| name.is_covered_by(own))
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let mut text = String::new();
    for (at, byte) in digest.as_ref().iter().enumerate() {
        let colon = if at == 0 { "" } else { ":" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{colon}{byte:02X}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn hosts_of_urls_are_names_or_addresses() {
        for (authority, wanted) in [
            ("10.0.2.2:8080", "10.0.2.2"),
            ("Srv.Lab.Example:1", "srv.lab.example"),
            ("srv", "srv"),
            ("[2001:DB8::7]:80", "2001:db8::7"),
        ] {
            let found = Name::of_authority(authority).unwrap();
            assert_eq!(found.to_string(), wanted);
        }
        assert_eq!(name("2001:db8::7").in_url(), "[2001:db8::7]");
        for wrong in ["", ":80", "a b", "*.lab"] {
            assert_eq!(Name::of_authority(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let wild = Name::Dns("*.lab.example".into());
        assert!(name("srv.lab.example").is_covered_by(&wild));
        for other in ["lab.example", "a.srv.lab.example", "10.0.0.1"] {
            assert!(!name(other).is_covered_by(&wild), "{other}");
        }
    }
}
