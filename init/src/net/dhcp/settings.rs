//! A DHCP answer as settings. Everything in it comes from the network: what makes no sense is left out.

use super::packet::Answer;
use crate::net::netlink::Route;
use dhcproto::v4::{DhcpOption, OptionCode};
use pitstop_protocol::machine::BootSource;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// What a server that gives no lease time is taken to mean.
const USUAL_LEASE: Duration = Duration::from_secs(3600);

/// A lease shorter than this would be renewed without end.
const SHORTEST_LEASE: Duration = Duration::from_secs(60);

/// RFC 791: no link may have less. An MTU of less has broken networks before.
const LEAST_MTU: u16 = 576;

/// What the network wants of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub routes: Vec<Route>,
    /// Bytes.
    pub mtu: Option<u16>,
    /// Name servers, best first.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers, best first.
    pub ntp: Vec<Ipv4Addr>,
    pub domain: Option<String>,
    pub hostname: Option<String>,
    pub times: Times,
    /// The DHCP server that granted the lease.
    pub server: Ipv4Addr,
    pub boot: BootSource,
}

/// How long the address is ours, from the moment of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// T1: when to ask the server that granted it.
    pub renew: Duration,
    /// T2: when to ask any server.
    pub rebind: Duration,
    pub lease: Duration,
}

impl Settings {
    /// Reads an answer that offers or grants an address. `None` where it names no address or no server:
    /// a PXE proxy's answer (RFC 2131 has no such thing, PXE 2.1 2.4.5 has) does neither.
    pub fn read(answer: &Answer) -> Option<Self> {
        let address = answer.address;
        let options = &answer.options;
        let server = answer.server()?;
        if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
            return None;
        }
        let prefix = match options.get(OptionCode::SubnetMask) {
            Some(DhcpOption::SubnetMask(mask)) => prefix_of(*mask),
            _ => None,
        };
        let dns = match options.get(OptionCode::DomainNameServer) {
            Some(DhcpOption::DomainNameServer(servers)) => servers.clone(),
            _ => Vec::new(),
        };
        Some(Self {
            address,
            prefix: prefix.unwrap_or_else(|| class_prefix(address)),
            routes: routes(answer),
            mtu: match options.get(OptionCode::InterfaceMtu) {
                Some(DhcpOption::InterfaceMtu(mtu)) => Some(*mtu).filter(|&mtu| mtu >= LEAST_MTU),
                _ => None,
            },
            dns,
            ntp: match options.get(OptionCode::NtpServers) {
                Some(DhcpOption::NtpServers(servers)) => servers.clone(),
                _ => Vec::new(),
            },
            domain: match options.get(OptionCode::DomainName) {
                Some(DhcpOption::DomainName(name)) => host_name(name),
                _ => None,
            },
            hostname: match options.get(OptionCode::Hostname) {
                Some(DhcpOption::Hostname(name)) => host_name(name),
                _ => None,
            },
            times: times(answer),
            server,
            boot: boot_source(answer),
        })
    }
}

/// Why an answer that offers an address cannot be used; `None` where it can, or offers none, as a PXE proxy's does.
pub fn flaw(answer: &Answer) -> Option<String> {
    let address = answer.address;
    if address.is_unspecified() || answer.server().is_some() {
        return None;
    }
    Some(format!(
        "a server offers {address} and does not say who it is (option 54, the server identifier, is missing: RFC 2131 \
         4.3.1): the address cannot be asked for"
    ))
}

/// RFC 3442: with option 121, option 3 is ignored.
fn routes(answer: &Answer) -> Vec<Route> {
    let options = &answer.options;
    if let Some(DhcpOption::ClasslessStaticRoute(routes)) =
        options.get(OptionCode::ClasslessStaticRoute)
    {
        let mut routes: Vec<Route> = routes
            .iter()
            .map(|(network, gateway)| Route {
                destination: network.network().into(),
                prefix: network.prefix_len(),
                // 0.0.0.0 is "on this link".
                gateway: Some(IpAddr::V4(*gateway)).filter(|gateway| !gateway.is_unspecified()),
            })
            .collect();
        // Routes on the link first: routers may lie behind them.
        routes.sort_by_key(|route| route.gateway.is_some());
        return routes;
    }
    match options.get(OptionCode::Router) {
        Some(DhcpOption::Router(routers)) => routers
            .first()
            .map(|&gateway| default_route(gateway.into()))
            .into_iter()
            .collect(),
        _ => Vec::new(),
    }
}

/// Everything that has no route of its own goes to `gateway`.
pub fn default_route(gateway: IpAddr) -> Route {
    Route {
        destination: match gateway {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        },
        prefix: 0,
        gateway: Some(gateway),
    }
}

/// RFC 2131 4.4.5: T1 is half of the lease and T2 seven eighths, where the server does not say.
fn times(answer: &Answer) -> Times {
    let options = &answer.options;
    let seconds = |code| match options.get(code) {
        Some(
            DhcpOption::AddressLeaseTime(seconds)
            | DhcpOption::Renewal(seconds)
            | DhcpOption::Rebinding(seconds),
        ) => Some(Duration::from_secs(u64::from(*seconds))),
        _ => None,
    };
    let lease = seconds(OptionCode::AddressLeaseTime)
        .unwrap_or(USUAL_LEASE)
        .max(SHORTEST_LEASE);
    let rebind = seconds(OptionCode::Rebinding)
        .filter(|&rebind| rebind < lease && rebind > Duration::ZERO)
        .unwrap_or(lease / 8 * 7);
    let renew = seconds(OptionCode::Renewal)
        .filter(|&renew| renew < rebind && renew > Duration::ZERO)
        .unwrap_or((lease / 2).min(rebind));
    Times {
        renew,
        rebind,
        lease,
    }
}

fn boot_source(answer: &Answer) -> BootSource {
    let options = &answer.options;
    let option = |code| match options.get(code) {
        Some(DhcpOption::TFTPServerName(bytes) | DhcpOption::BootfileName(bytes)) => text(bytes),
        Some(DhcpOption::Unknown(unknown)) => text(unknown.data()),
        _ => None,
    };
    BootSource {
        next_server: Some(answer.next_server).filter(|server| !server.is_unspecified()),
        server_name: option(OptionCode::TFTPServerName).or_else(|| text(&answer.server_name)),
        file: option(OptionCode::BootfileName).or_else(|| text(&answer.file)),
        config_file: option(OptionCode::Unknown(209)),
        path_prefix: option(OptionCode::Unknown(210)),
    }
}

/// Up to the first zero byte, printable; `None` when nothing is left.
fn text(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.split(|&byte| byte == 0).next()?;
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// A name as RFC 1123 2.1 allows it, at most as long as the kernel's (64 bytes). It becomes a file's name on
/// the share and a line of `resolv.conf`: nothing else gets through.
pub fn host_name(name: &str) -> Option<String> {
    const LONGEST: usize = 64;
    let name = name.trim_end_matches(['\0', '.']);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let sound = !name.is_empty()
        && name.len() <= LONGEST
        && name.bytes().all(plain)
        && !name.starts_with(['.', '-'])
        && !name.contains("..");
    sound.then(|| name.to_owned())
}

fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    let ones = bits.leading_ones();
    (ones == bits.count_ones() && ones > 0).then(|| u8::try_from(ones).ok())?
}

/// RFC 791 3.2, for servers that send no mask.
fn class_prefix(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        _ => 24,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhcproto::Encodable;
    use dhcproto::v4::{Message, MessageType, UnknownOption};
    use proptest::prelude::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

    fn answer(options: Vec<DhcpOption>) -> Answer {
        let mut message = Message::default();
        message
            .opts_mut()
            .insert(DhcpOption::MessageType(MessageType::Ack));
        message.set_yiaddr(Ipv4Addr::new(10, 0, 2, 15));
        message
            .opts_mut()
            .insert(DhcpOption::ServerIdentifier(SERVER));
        for option in options {
            message.opts_mut().insert(option);
        }
        // Through the wire format, as it comes.
        Answer::read(&message.to_vec().unwrap()).unwrap()
    }

    fn read(options: Vec<DhcpOption>) -> Settings {
        Settings::read(&answer(options)).unwrap()
    }

    #[test]
    fn a_usual_answer_becomes_settings() {
        let settings = read(vec![
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
            DhcpOption::Router(vec![SERVER]),
            DhcpOption::DomainNameServer(vec![Ipv4Addr::new(10, 0, 2, 3)]),
            DhcpOption::NtpServers(vec![SERVER]),
            DhcpOption::Hostname("box7".into()),
            DhcpOption::DomainName("lab.example".into()),
            DhcpOption::InterfaceMtu(1400),
            DhcpOption::AddressLeaseTime(86400),
            DhcpOption::BootfileName(b"pxelinux.0\0".to_vec()),
            DhcpOption::Unknown(UnknownOption::new(
                OptionCode::Unknown(209),
                b"x.cfg".to_vec(),
            )),
        ]);
        assert_eq!(settings.address, Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!((settings.prefix, settings.mtu), (24, Some(1400)));
        assert_eq!(settings.routes, [default_route(SERVER.into())]);
        assert_eq!(settings.ntp, [SERVER]);
        assert_eq!(settings.dns, [Ipv4Addr::new(10, 0, 2, 3)]);
        assert_eq!(settings.hostname.as_deref(), Some("box7"));
        assert_eq!(settings.domain.as_deref(), Some("lab.example"));
        assert_eq!(settings.times.renew, Duration::from_secs(43_200));
        assert_eq!(settings.times.rebind, Duration::from_secs(75_600));
        assert_eq!(settings.boot.file.as_deref(), Some("pxelinux.0"));
        assert_eq!(settings.boot.config_file.as_deref(), Some("x.cfg"));
    }

    #[test]
    fn classless_routes_win_and_links_come_before_what_lies_behind_them() {
        let far = ("0.0.0.0/0".parse().unwrap(), Ipv4Addr::new(192, 0, 2, 1));
        let near = ("192.0.2.1/32".parse().unwrap(), Ipv4Addr::UNSPECIFIED);
        let settings = read(vec![
            DhcpOption::Router(vec![SERVER]),
            DhcpOption::ClasslessStaticRoute(vec![far, near]),
        ]);
        assert_eq!(
            settings.routes,
            [
                Route {
                    destination: Ipv4Addr::new(192, 0, 2, 1).into(),
                    prefix: 32,
                    gateway: None
                },
                default_route(Ipv4Addr::new(192, 0, 2, 1).into()),
            ]
        );
    }

    #[test]
    fn senseless_values_are_left_out() {
        let settings = read(vec![
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 0, 255, 0)),
            DhcpOption::InterfaceMtu(68),
            DhcpOption::Hostname("../../etc/passwd".into()),
            DhcpOption::AddressLeaseTime(0),
            DhcpOption::Renewal(900),
            DhcpOption::Rebinding(50),
        ]);
        assert_eq!((settings.prefix, settings.mtu), (8, None));
        assert_eq!(settings.hostname, None);
        assert_eq!(settings.times.lease, SHORTEST_LEASE);
        assert_eq!(settings.times.rebind, Duration::from_secs(50));
        assert_eq!(settings.times.renew, Duration::from_secs(30));
    }

    #[test]
    fn a_proxys_answer_is_none() {
        let mut proxy = answer(Vec::new());
        proxy.address = Ipv4Addr::UNSPECIFIED;
        assert_eq!(Settings::read(&proxy), None);
    }

    #[test]
    fn names_are_names() {
        assert_eq!(host_name("box7.lab.").as_deref(), Some("box7.lab"));
        for wrong in ["", ".", "-x", "a b", "a/b", "a..b", "ä", &"x".repeat(65)] {
            assert_eq!(host_name(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_packet_is_read(bytes in prop::collection::vec(any::<u8>(), 240..600)) {
            if let Some(answer) = Answer::read(&bytes) {
                let _ = Settings::read(&answer);
            }
        }

        #[test]
        fn any_options_give_sane_times(lease: u32, renew: u32, rebind: u32) {
            let times = read(vec![
                DhcpOption::AddressLeaseTime(lease),
                DhcpOption::Renewal(renew),
                DhcpOption::Rebinding(rebind),
            ]).times;
            prop_assert!(times.renew <= times.rebind && times.rebind <= times.lease);
            prop_assert!(times.renew > Duration::ZERO);
        }
    }
}
