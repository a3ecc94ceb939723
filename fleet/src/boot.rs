//! What each kind of firmware loads, and from where: one table for the configurations that are made and for the DHCP server
//! inside.

use crate::fleet::{Network, Server};
use std::net::Ipv4Addr;
use std::time::Duration;

/// How long an address is lent where the network does not say.
const LEASE_TIME: Duration = Duration::from_secs(12 * 3600);

/// Kinds of firmware that a loader is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Firmware {
    Bios,
    EfiX64,
    EfiArm64,
    /// UEFI that loads over HTTP by itself.
    HttpX64,
    HttpArm64,
    /// Of any kind: it asks the server what to do.
    Ipxe,
}

impl Firmware {
    pub const ALL: [Firmware; 6] = [
        Firmware::Bios,
        Firmware::EfiX64,
        Firmware::EfiArm64,
        Firmware::HttpX64,
        Firmware::HttpArm64,
        Firmware::Ipxe,
    ];

    /// As its key in `[server]` ends: `loader-efi-x64`.
    pub fn name(self) -> &'static str {
        match self {
            Firmware::Bios => "bios",
            Firmware::EfiX64 => "efi-x64",
            Firmware::EfiArm64 => "efi-arm64",
            Firmware::HttpX64 => "http-x64",
            Firmware::HttpArm64 => "http-arm64",
            Firmware::Ipxe => "ipxe",
        }
    }

    /// What it calls itself in option 93 (RFC 4578 2.1, and IANA's list of processor architectures for HTTP).
    pub fn architectures(self) -> &'static [u16] {
        match self {
            Firmware::Bios => &[0],
            Firmware::EfiX64 => &[7, 9],
            Firmware::EfiArm64 => &[11],
            Firmware::HttpX64 => &[16],
            Firmware::HttpArm64 => &[19],
            Firmware::Ipxe => &[],
        }
    }

    pub fn of_architecture(architecture: u16) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|firmware| firmware.architectures().contains(&architecture))
    }

    /// The same machine's firmware where it loads over HTTP.
    #[must_use]
    pub fn over_http(self) -> Self {
        match self {
            Firmware::EfiX64 => Firmware::HttpX64,
            Firmware::EfiArm64 => Firmware::HttpArm64,
            other => other,
        }
    }

    pub fn is_http(self) -> bool {
        matches!(self, Firmware::HttpX64 | Firmware::HttpArm64)
    }
}

/// shim, which Microsoft has signed: the first program of machines with Secure Boot on.
pub const SHIM: &str = "shimx64.efi";
/// GRUB for the network, which Debian has signed: shim asks for it by this name, beside itself.
pub const GRUB: &str = "grubx64.efi";

pub const IPXE: &str = "ipxe.efi";

/// What UEFI machines of `x86_64` begin with where `[server]` does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Chain {
    /// [`SHIM`] and [`GRUB`]: with Secure Boot on, and without it. GRUB finds its server only by the DHCP server that gave the
    /// address, so a DHCP server that knows nothing of booting cannot stand beside it.
    Signed,
    /// iPXE, which nobody has signed.
    #[default]
    Plain,
}

/// The loader of `firmware`: a file's name on the boot server, or a URL. `url` is the server's.
pub fn loader(server: &Server, url: &str, firmware: Firmware, chain: Chain) -> String {
    let key = format!("loader-{}", firmware.name());
    if let Some(given) = server.loaders.get(&key) {
        return given.clone();
    }
    let url = url.trim_end_matches('/');
    match firmware {
        Firmware::Bios => "pxelinux.0".into(),
        Firmware::EfiX64 if chain == Chain::Signed => SHIM.into(),
        Firmware::EfiX64 => IPXE.into(),
        Firmware::EfiArm64 => "ipxe-arm64.efi".into(),
        Firmware::HttpX64 => format!("{url}/boot/ipxe.efi"),
        Firmware::HttpArm64 => format!("{url}/boot/ipxe-arm64.efi"),
        Firmware::Ipxe => format!("{url}/boot.ipxe"),
    }
}

/// The IPv4 address in a server's URL, if it has one.
pub fn address_in(url: &str) -> Option<Ipv4Addr> {
    match url::Url::parse(url).ok()?.host()? {
        url::Host::Ipv4(ip) => Some(ip),
        _ => None,
    }
}

impl Network {
    /// Of IPv4; machines are given no other addresses.
    pub fn v4(&self) -> Option<ipnet::Ipv4Net> {
        match self.net {
            ipnet::IpNet::V4(net) => Some(net),
            ipnet::IpNet::V6(_) => None,
        }
    }

    /// How long an address is lent.
    pub fn seconds(&self) -> u64 {
        self.lease_time.unwrap_or(LEASE_TIME).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn every_loader_has_a_key_and_every_architecture_one_firmware() {
        let keys = Kind::Server.own_keys().iter();
        let keys: Vec<&str> = keys.filter_map(|key| key.strip_prefix("loader-")).collect();
        assert_eq!(keys, Firmware::ALL.map(Firmware::name));
        for firmware in Firmware::ALL {
            for architecture in firmware.architectures() {
                assert_eq!(Firmware::of_architecture(*architecture), Some(firmware));
            }
        }
        assert_eq!(Firmware::of_architecture(6), None);
        assert_eq!(Firmware::EfiX64.over_http(), Firmware::HttpX64);
    }

    #[test]
    fn the_files_say_wins_over_the_usual_loader() {
        let mut server = Server::default();
        let url = "http://10.0.0.1:8080/";
        let of = |server: &Server| loader(server, url, Firmware::HttpX64, Chain::Signed);
        // GRUB loads nothing over HTTP.
        assert_eq!(of(&server), "http://10.0.0.1:8080/boot/ipxe.efi");
        let signed = loader(&server, url, Firmware::EfiX64, Chain::Signed);
        assert_eq!(signed, SHIM);
        assert_eq!(
            loader(&server, url, Firmware::EfiX64, Chain::Plain),
            "ipxe.efi"
        );
        let own = "http://cdn/own.efi".to_owned();
        server.loaders.insert("loader-http-x64".into(), own.clone());
        assert_eq!(of(&server), own);
        assert_eq!(
            address_in("http://10.0.0.1:8080"),
            Some(Ipv4Addr::new(10, 0, 0, 1))
        );
        assert_eq!(address_in("http://server:8080"), None);
    }
}
