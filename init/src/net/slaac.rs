//! IPv6 as routers announce it (RFC 4862). The kernel does the work; what it came to is read here.

use anyhow::Context;
use netlink_packet_core::{NLM_F_REQUEST, NlasIterator};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

/// `RTNLGRP_ND_USEROPT` as a bit: what routers announce and the kernel has no use for.
const GROUP_ND_USEROPT: u32 = 1 << 19;

/// An address of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    pub address: Ipv6Addr,
    pub prefix: u8,
}

impl Announced {
    /// Whether the address is of a kind that no network is given any more (RFC 3879): emulators have it.
    pub fn is_site_local(&self) -> bool {
        self.address.segments()[0] & 0xffc0 == 0xfec0
    }
}

/// What routers on a link say about DHCPv6 (RFC 4861 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routers {
    /// It gives addresses.
    pub managed: bool,
    /// It tells other things.
    pub other: bool,
}

/// What the kernel has heard of routers on a link; `None` where there was none.
pub fn routers(index: u32) -> anyhow::Result<Option<Routers>> {
    const HEADER: usize = 16;
    const BODY: usize = 16;
    let act = "asking the kernel for IPv6 routers";
    let mut message = [0; HEADER + BODY];
    message[..4].copy_from_slice(&32u32.to_ne_bytes());
    message[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    message[HEADER + 4..HEADER + 8].copy_from_slice(&index.to_ne_bytes());
    let mut socket = Socket::new(NETLINK_ROUTE).context(act)?;
    socket.bind_auto().context(act)?;
    socket
        .send_to(&message, &SocketAddr::new(0, 0), 0)
        .context(act)?;
    let (answer, _) = socket.recv_from_full().context(act)?;
    let attributes = answer.get(HEADER + BODY..).unwrap_or_default();
    Ok(flags(attributes).and_then(routers_of))
}

/// `IFLA_AF_SPEC`, in it `AF_INET6`, in it `IFLA_INET6_FLAGS` (`linux/if_link.h`).
fn flags(attributes: &[u8]) -> Option<u32> {
    /// `AF_INET6`
    const INET6: u16 = 10;
    const FLAGS: u16 = 1;
    let families = attribute(attributes, libc::IFLA_AF_SPEC)?;
    let value = attribute(attribute(families, INET6)?, FLAGS)?;
    Some(u32::from_ne_bytes(value.try_into().ok()?))
}

fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    /// Its length and kind.
    const HEADER: usize = 4;
    let found = NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == kind)?;
    let length = found.value_length();
    found.into_inner().get(HEADER..HEADER + length)
}

/// `IF_RA_OTHERCONF`, `IF_RA_MANAGED` and `IF_RA_RCVD` (`net/if_inet6.h`).
fn routers_of(flags: u32) -> Option<Routers> {
    let is = |flag: u32| flags & flag != 0;
    is(0x20).then_some(Routers {
        managed: is(0x40),
        other: is(0x80),
    })
}

/// What the kernel has made of announcements on a link so far: an address that is known to be nobody else's and
/// reaches beyond the link.
pub fn address(procfs: &Path, index: u32) -> Option<Announced> {
    let text = fs::read_to_string(procfs.join("net/if_inet6")).ok()?;
    let mut found: Vec<(u8, Announced)> = text
        .lines()
        .filter_map(|line| line_of(line, index))
        .collect();
    // Global ones (0) before site-local ones (0x40).
    found.sort_by_key(|(scope, _)| *scope);
    found.first().map(|(_, announced)| *announced)
}

/// `fec0…3456 02 40 40 00 eth0`: address, interface, prefix, scope and flags, all hexadecimal
/// (`if6_seq_show` in net/ipv6/addrconf.c).
fn line_of(line: &str, wanted: u32) -> Option<(u8, Announced)> {
    /// `IPV6_ADDR_LOOPBACK` and `IPV6_ADDR_LINKLOCAL`
    const NEAR: u8 = 0x10 | 0x20;
    /// `IFA_F_TEMPORARY`, `IFA_F_DADFAILED`, `IFA_F_DEPRECATED`, `IFA_F_TENTATIVE`: not to be relied on.
    const DOUBTFUL: u8 = 0x01 | 0x08 | 0x20 | 0x40;
    let mut fields = line.split_ascii_whitespace();
    let address = fields.next().filter(|digits| digits.len() == 32)?;
    let address = Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?);
    let mut number = || u32::from_str_radix(fields.next()?, 16).ok();
    let index = number()?;
    let prefix = u8::try_from(number()?).ok().filter(|&bits| bits <= 128)?;
    let scope = u8::try_from(number()?).ok()?;
    let flags = u8::try_from(number()?).ok()?;
    let good = index == wanted && scope & NEAR == 0 && flags & DOUBTFUL == 0;
    good.then_some((scope, Announced { address, prefix }))
}

/// Hears which name servers routers announce (RFC 8106). Opened before any link is on: announcements come at once.
pub struct Listener {
    socket: Socket,
}

impl Listener {
    pub fn open() -> anyhow::Result<Self> {
        let act = "listening for name servers of IPv6 routers";
        let mut socket = Socket::new(NETLINK_ROUTE).context(act)?;
        socket
            .bind(&SocketAddr::new(0, GROUP_ND_USEROPT))
            .context(act)?;
        socket.set_non_blocking(true).context(act)?;
        Ok(Self { socket })
    }

    /// Those announced on a link so far.
    pub fn name_servers(&self, index: u32) -> Vec<IpAddr> {
        let mut servers: Vec<IpAddr> = Vec::new();
        // An error is the end of what there is, or of what was kept of it.
        while let Ok((message, _)) = self.socket.recv_from_full() {
            for server in announced(&message, index).unwrap_or_default() {
                if !servers.contains(&IpAddr::V6(server)) {
                    servers.push(IpAddr::V6(server));
                }
            }
        }
        servers
    }
}

/// A netlink message: header, `struct nduseroptmsg` (linux/rtnetlink.h), and an option as it came from the
/// network. `None` where it is something else.
fn announced(message: &[u8], wanted: u32) -> Option<Vec<Ipv6Addr>> {
    const RTM_NEWNDUSEROPT: u16 = 68;
    const HEADER: usize = 16;
    const BODY: usize = 16;
    /// RFC 8106 5.1
    const RDNSS: u8 = 25;
    let short = |at: usize| -> Option<u16> {
        Some(u16::from_ne_bytes(
            message.get(at..at + 2)?.try_into().ok()?,
        ))
    };
    let long = |bytes: Option<&[u8]>| -> Option<[u8; 4]> { bytes?.try_into().ok() };
    if short(4)? != RTM_NEWNDUSEROPT {
        return None;
    }
    let index = u32::from_ne_bytes(long(message.get(HEADER + 4..HEADER + 8))?);
    let length = usize::from(short(HEADER + 2)?);
    let mut options = message.get(HEADER + BODY..)?.get(..length)?;
    let mut servers = Vec::new();
    while let [kind, units, ..] = *options {
        let size = usize::from(units) * 8;
        if size == 0 {
            break;
        }
        let (option, rest) = options.split_at_checked(size)?;
        options = rest;
        let lives = long(option.get(4..8)).is_some_and(|lifetime| lifetime != [0; 4]);
        if kind == RDNSS && lives && index == wanted {
            let (addresses, _) = option.get(8..)?.as_chunks::<16>();
            servers.extend(addresses.iter().map(|bytes| Ipv6Addr::from(*bytes)));
        }
    }
    // One on the link alone would need the link's name with it.
    servers.retain(|server| !server.is_unicast_link_local() && !server.is_multicast());
    Some(servers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::netns::Cable;
    use proptest::prelude::*;
    use std::thread;
    use std::time::{Duration, Instant};

    #[test]
    fn dnsmasq_announces_a_prefix_and_a_name_server() {
        let mut cable = Cable::lay("ra");
        cable.ip_at_server("addr add fd77::1/64 dev s0 nodad");
        cable.serve(&[
            "--enable-ra",
            "--dhcp-range=fd77::,ra-only,64",
            "--dhcp-option=option6:dns-server,[fd77::53]",
        ]);
        let (announced, mut servers) = cable.at_client(|nic| {
            let listener = Listener::open().unwrap();
            let until = Instant::now() + Duration::from_secs(60);
            // Of the thread, not of the process: that is in another namespace.
            let procfs = Path::new("/proc/thread-self");
            let mut servers = Vec::new();
            loop {
                servers.extend(listener.name_servers(nic.index));
                match address(procfs, nic.index) {
                    Some(announced) if !servers.is_empty() => return (announced, servers),
                    _ if Instant::now() < until => thread::sleep(Duration::from_millis(50)),
                    other => panic!("{other:?} and {servers:?} after a minute"),
                }
            }
        });
        servers.dedup();
        assert_eq!(announced.address.segments()[0], 0xfd77);
        assert_eq!(announced.prefix, 64);
        assert_eq!(servers, ["fd77::53".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn the_address_is_global_and_certain() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("net")).unwrap();
        let read = |lines: &[&str]| {
            fs::write(folder.path().join("net/if_inet6"), lines.join("\n")).unwrap();
            address(folder.path(), 2).map(|found| (found.address.to_string(), found.prefix))
        };
        let link = "fe80000000000000505400fffe123456 02 40 20 80     eth0";
        let tentative = "20010db8000000000000000000000007 02 40 00 40     eth0";
        let other = "20010db8000000000000000000000008 03 40 00 00     eth1";
        assert_eq!(read(&[link, tentative, other]), None);
        let site = "fec0000000000000505400fffe123456 02 40 40 00     eth0";
        assert_eq!(
            read(&[link, site]),
            Some(("fec0::5054:ff:fe12:3456".into(), 64))
        );
        let global = "20010db8000000000000000000000009 02 30 00 80     eth0";
        assert_eq!(read(&[site, global]), Some(("2001:db8::9".into(), 48)));
    }

    #[test]
    fn routers_say_where_addresses_come_from() {
        let heard = |managed, other| Some(Routers { managed, other });
        assert_eq!(routers_of(0x8000_0010), None);
        assert_eq!(routers_of(0x8000_0030), heard(false, false));
        assert_eq!(routers_of(0x60), heard(true, false));
        assert_eq!(routers_of(0xe0), heard(true, true));
    }

    fn message(index: u32, options: &[u8]) -> Vec<u8> {
        let mut message = vec![0; 32];
        message[4..6].copy_from_slice(&68u16.to_ne_bytes());
        let length = u16::try_from(options.len()).unwrap();
        message[18..20].copy_from_slice(&length.to_ne_bytes());
        message[20..24].copy_from_slice(&index.to_ne_bytes());
        message.extend(options);
        message
    }

    fn rdnss(lifetime: u8, servers: &[&str]) -> Vec<u8> {
        let units = u8::try_from(1 + 2 * servers.len()).unwrap();
        let mut option = vec![25, units, 0, 0, 0, 0, 0, lifetime];
        for server in servers {
            option.extend(server.parse::<Ipv6Addr>().unwrap().octets());
        }
        option
    }

    #[test]
    fn name_servers_are_those_of_the_link_that_are_still_there() {
        let two = rdnss(60, &["fec0::3", "fe80::1", "2001:db8::53"]);
        let servers = announced(&message(2, &two), 2).unwrap();
        assert_eq!(
            servers,
            ["fec0::3", "2001:db8::53"].map(|text| text.parse::<Ipv6Addr>().unwrap())
        );
        assert_eq!(announced(&message(3, &two), 2), Some(Vec::new()));
        let gone = rdnss(0, &["fec0::3"]);
        assert_eq!(announced(&message(2, &gone), 2), Some(Vec::new()));
        assert_eq!(announced(&message(2, &two[..10]), 2), None);
        assert_eq!(announced(&[0; 40], 2), None);
    }

    proptest! {
        #[test]
        fn anything_is_read(
            line in "[0-9a-f]{30,34}( [0-9a-f]{0,9}){0,5}",
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = line_of(&line, 2);
            let _ = flags(&bytes);
            let _ = announced(&bytes, 2);
            let _ = announced(&message(2, &bytes), 2);
        }
    }
}
