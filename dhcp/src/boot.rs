//! Which machines boot over the network, and what they are told to load.

use crate::answer::BootFile;
use crate::question::{Question, code};
use pitstop_fleet::boot::{self, Chain, Firmware};
use pitstop_fleet::{Fleet, Identity, Machine, Unknown};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// The vendor classes of boot ROMs (RFC 4578; UEFI 2.10, 24.7.3).
pub const PXE: &str = "PXEClient";
pub const HTTP: &str = "HTTPClient";

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Firmware or a boot loader that wants something to load.
    Boots(Firmware),
    /// A boot ROM for which there is nothing.
    CannotBoot(Architecture),
    /// An operating system, a telephone, a printer.
    Other,
}

/// A number of option 93; `None` where a boot ROM says none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture(Option<u16>);

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(6) => f.write_str("32-bit UEFI (architecture 6)"),
            Some(number) => write!(f, "architecture {number}"),
            None => f.write_str("no architecture that can be read"),
        }
    }
}

impl Client {
    pub fn of(question: &Question) -> Self {
        let class = question.option(code::CLASS).unwrap_or_default();
        let user = question.option(code::USER_CLASS).unwrap_or_default();
        // The class by itself, as iPXE writes it, or in a list with lengths (RFC 3004).
        let is_ipxe = user.windows(4).any(|word| word == b"iPXE");
        if is_ipxe || question.option(code::IPXE).is_some() {
            return Self::Boots(Firmware::Ipxe);
        }
        let over_http = class.starts_with(HTTP.as_bytes());
        if !over_http && !class.starts_with(PXE.as_bytes()) {
            return Self::Other;
        }
        let architectures = question.architectures();
        let known = architectures
            .iter()
            .find_map(|number| Firmware::of_architecture(*number));
        match known {
            Some(Firmware::Bios) if over_http => {}
            Some(firmware) if over_http => return Self::Boots(firmware.over_http()),
            Some(firmware) => return Self::Boots(firmware),
            None => {}
        }
        Self::CannotBoot(Architecture(architectures.first().copied()))
    }
}

/// How a kind of firmware is called in the journal.
pub fn title(firmware: Firmware) -> &'static str {
    match firmware {
        Firmware::Bios => "BIOS",
        Firmware::EfiX64 => "UEFI x86_64",
        Firmware::EfiArm64 => "UEFI arm64",
        Firmware::HttpX64 => "UEFI x86_64 over HTTP",
        Firmware::HttpArm64 => "UEFI arm64 over HTTP",
        Firmware::Ipxe => "iPXE",
    }
}

/// The server on the network that a question came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// The interface's name.
    pub interface: String,
    /// The server's own there.
    pub address: Ipv4Addr,
    /// Where boot files are, unless the fleet file says otherwise.
    pub files: Ipv4Addr,
    /// Under which machines reach it, unless the fleet file says otherwise.
    pub url: String,
    /// What UEFI machines begin with.
    pub chain: Chain,
}

impl Here {
    /// What the machine that asks loads.
    pub fn boot_file(
        &self,
        fleet: Option<&Fleet>,
        question: &Question,
        firmware: Firmware,
    ) -> BootFile {
        let none = pitstop_fleet::Server::default();
        let server = fleet.map_or(&none, |fleet| &fleet.server);
        let url = server.url.as_deref().unwrap_or(&self.url);
        let near = question.relay.unwrap_or(self.address);
        let network = fleet.and_then(|fleet| fleet.networks.get(fleet.network_of(near.into())?));
        let given = network.and_then(|network| network.next_server);
        let address = match given.or(server.address) {
            Some(IpAddr::V4(ip)) => Some(ip),
            _ => server.url.as_deref().and_then(boot::address_in),
        };
        BootFile {
            name: boot::loader(server, url, firmware, self.chain),
            server: address.unwrap_or(self.files),
        }
    }
}

/// The machine that asks, where the fleet file knows it.
pub fn machine<'a>(fleet: Option<&'a Fleet>, question: &Question) -> Option<&'a Machine> {
    fleet?.find(&Identity {
        macs: vec![question.mac],
        uuid: question.uuid(),
        serial: None,
        ip: question.client.map(IpAddr::V4),
    })
}

/// Whether a machine is to boot from here. Without a fleet file every one is; `enroll` boots strangers, too: what
/// they do then the server says when they ask it for their job.
pub fn may_boot(fleet: Option<&Fleet>, machine: Option<&Machine>) -> bool {
    match fleet {
        Some(fleet) => machine.is_some() || fleet.server.unknown != Unknown::Ignore,
        None => true,
    }
}

/// For the journal: `52:54:00:12:34:56 (lab3-01)`.
pub fn who(question: &Question, machine: Option<&Machine>) -> String {
    match machine {
        Some(machine) => format!("{} ({})", question.mac, machine.name),
        None => question.mac.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::tests::asked;
    use dhcproto::v4::MessageType;

    fn client(class: &[u8], architecture: &[u8], more: &[(u8, &[u8])]) -> Client {
        let mut options = vec![(code::CLASS, class), (code::ARCHITECTURE, architecture)];
        options.extend(more);
        Client::of(&asked(MessageType::Discover, &options))
    }

    #[test]
    fn firmware_is_told_apart() {
        let pxe = b"PXEClient:Arch:00000:UNDI:002001";
        assert_eq!(client(pxe, &[0, 0], &[]), Client::Boots(Firmware::Bios));
        assert_eq!(client(pxe, &[0, 7], &[]), Client::Boots(Firmware::EfiX64));
        assert_eq!(client(pxe, &[0, 9], &[]), Client::Boots(Firmware::EfiX64));
        assert_eq!(
            client(pxe, &[0, 11], &[]),
            Client::Boots(Firmware::EfiArm64)
        );
        let http = b"HTTPClient:Arch:00016:UNDI:003001";
        assert_eq!(
            client(http, &[0, 16], &[]),
            Client::Boots(Firmware::HttpX64)
        );
        assert_eq!(
            client(http, &[0, 19], &[]),
            Client::Boots(Firmware::HttpArm64)
        );
        assert_eq!(client(http, &[0, 7], &[]), Client::Boots(Firmware::HttpX64));
        // Several at once: the first that something is there for.
        assert_eq!(
            client(pxe, &[0, 6, 0, 7], &[]),
            Client::Boots(Firmware::EfiX64)
        );
    }

    #[test]
    fn ipxe_is_known_by_either_sign() {
        let pxe = b"PXEClient:Arch:00000:UNDI:002001";
        let ipxe = Client::Boots(Firmware::Ipxe);
        assert_eq!(client(pxe, &[0, 0], &[(code::USER_CLASS, b"iPXE")]), ipxe);
        assert_eq!(
            client(pxe, &[0, 7], &[(code::USER_CLASS, b"\x04iPXE")]),
            ipxe
        );
        assert_eq!(client(pxe, &[0, 7], &[(code::IPXE, &[1, 1, 1])]), ipxe);
    }

    #[test]
    fn others_are_left_alone() {
        assert_eq!(client(b"MSFT 5.0", &[0, 0], &[]), Client::Other);
        assert_eq!(client(b"", &[], &[]), Client::Other);
        let Client::CannotBoot(which) = client(b"PXEClient:Arch:00006", &[0, 6], &[]) else {
            panic!("32-bit UEFI boots")
        };
        assert_eq!(which.to_string(), "32-bit UEFI (architecture 6)");
        let odd = client(b"HTTPClient", &[0, 0], &[]);
        assert_eq!(odd, Client::CannotBoot(Architecture(Some(0))));
        assert_eq!(
            client(b"PXEClient", &[], &[]),
            Client::CannotBoot(Architecture(None))
        );
    }
}
