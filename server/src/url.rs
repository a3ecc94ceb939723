//! The URL under which machines reach the server, and the file that tells it to `pitstop host set`.

use crate::machine_access::MachineAccess;
use crate::write::replace;
use anyhow::{Context, bail};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

/// Beside `hosts/` and `share/` under the root.
const FILE: &str = "server.toml";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ServerFile {
    /// For machines at work.
    url: String,
    #[serde(default)]
    machine_access: MachineAccess,
    /// For boot loaders, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot_url: Option<String>,
    /// The store that is the share, where it is no folder of the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share: Option<String>,
}

/// Under which URLs a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// By machines at work: host files, the share, reports.
    pub url: String,
    /// By boot loaders.
    pub boot_url: String,
}

/// Checks a URL of the form `http(s)://host[:port]`; drops a slash at its end.
pub fn valid_url(text: &str) -> Result<String, String> {
    let url = text.trim_end_matches('/');
    let uri: axum::http::Uri = url.parse().map_err(|_| "it is not a URL")?;
    let plain = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.authority().is_some_and(|a| !a.as_str().contains('@'))
        && matches!(uri.path(), "" | "/")
        && uri.query().is_none();
    if plain {
        Ok(url.to_owned())
    } else {
        Err("write it as http://host:port".into())
    }
}

/// Where `pitstop serve` listens if nobody says otherwise.
pub const DEFAULT_PORT: u16 = 8080;

/// How QEMU's user network shows the host's loopback to its guests.
const QEMU_HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// Addresses for documentation (RFC 5737, RFC 3849): never this machine's own.
const TEST_NET_1: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DOCUMENTATION: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// The best guess at how machines reach a server that listens on `address`. On the loopback no machine
/// does but a guest of QEMU's user network.
pub fn own(scheme: &str, address: SocketAddr) -> String {
    format!("{scheme}://{}", reached_as(address))
}

/// The address and port under which machines reach a server that listens on `address`.
pub fn reached_as(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip().to_canonical() {
        ip if ip.is_loopback() => QEMU_HOST.into(),
        // Boot ROMs speak IPv4 first.
        ip if ip.is_unspecified() => outgoing(Ipv4Addr::UNSPECIFIED.into(), TEST_NET_1.into())
            .or_else(|| outgoing(Ipv6Addr::UNSPECIFIED.into(), DOCUMENTATION.into()))
            // A network of its own has no way out, and no route that tells.
            .or_else(|| nearest(&addresses()))
            .unwrap_or(QEMU_HOST.into()),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The best guess before any server has been started here: the address of this computer in the first of `networks`
/// that it is in, else the one that it has towards the world, with the usual port.
pub fn assumed(networks: &[ipnet::IpNet]) -> String {
    let addresses = addresses();
    let inside = networks
        .iter()
        .find_map(|network| addresses.iter().find(|ip| network.contains(*ip)));
    let ip = inside.copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    own("http", SocketAddr::new(ip, DEFAULT_PORT))
}

/// The address that this machine has towards the rest of the world, as which `far` will do. No packet is
/// sent: connecting a UDP socket only looks at the routes.
fn outgoing(any: IpAddr, far: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((far, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

/// The addresses of this machine's interfaces, in their order. None where the kernel does not tell.
pub fn addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    let ip = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
    };
    interfaces
        .filter_map(|interface| interface.address.and_then(ip))
        .collect()
}

/// The first that machines on the same wire can reach without naming an interface; boot ROMs speak IPv4 first.
fn nearest(addresses: &[IpAddr]) -> Option<IpAddr> {
    let usable = |ip: &&IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
    };
    let mut found: Vec<&IpAddr> = addresses.iter().filter(usable).collect();
    found.sort_by_key(|ip| ip.is_ipv6());
    found.first().copied().copied()
}

/// Writes down the URLs of the server that now serves `root`, and whether it wants tokens of machines.
pub fn write_server_file(
    root: &Path,
    served: &Served,
    machine_access: MachineAccess,
    store: Option<String>,
) -> anyhow::Result<()> {
    let path = root.join(FILE);
    let file = ServerFile {
        url: served.url.clone(),
        machine_access,
        boot_url: (served.boot_url != served.url).then(|| served.boot_url.clone()),
        share: store,
    };
    let text = toml::to_string(&file).context("writing TOML")?;
    let text = format!("# Written by pitstop serve; pitstop host set reads it.\n{text}");
    Dir::open_ambient_dir(root, ambient_authority())
        .and_then(|root| replace(&root, FILE, &text))
        .with_context(|| format!("writing {}", path.display()))
}

/// The URLs of the server that serves `root`, or served it last; `None` if none ever did.
pub fn read_server_file(root: &Path) -> anyhow::Result<Option<Served>> {
    let Some(file) = read(root)? else {
        return Ok(None);
    };
    let valid = |url: &str| match valid_url(url) {
        Ok(url) => Ok(url),
        Err(why) => {
            let path = root.join(FILE);
            bail!("{}: {url:?} is no URL: {why}", path.display())
        }
    };
    let url = valid(&file.url)?;
    let boot_url = file.boot_url.as_deref().map(valid).transpose()?;
    Ok(Some(Served {
        boot_url: boot_url.unwrap_or_else(|| url.clone()),
        url,
    }))
}

/// The store that is the share of the server that serves `root`, or served it last: then its files are not below the root.
pub fn store_of(root: &Path) -> anyhow::Result<Option<String>> {
    Ok(read(root)?.and_then(|file| file.share))
}

/// Whether the server that serves `root`, or served it last, wants tokens of machines.
pub fn read_machine_access(root: &Path) -> anyhow::Result<MachineAccess> {
    Ok(read(root)?
        .map(|file| file.machine_access)
        .unwrap_or_default())
}

fn read(root: &Path) -> anyhow::Result<Option<ServerFile>> {
    let path = root.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let file = toml::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_scheme_and_a_host_and_nothing_else() {
        assert_eq!(
            valid_url("http://10.0.2.2:8080/"),
            Ok("http://10.0.2.2:8080".into())
        );
        assert_eq!(valid_url("https://srv"), Ok("https://srv".into()));
        for wrong in [
            "srv:8080",
            "ftp://srv",
            "http://srv/share",
            "http://u@srv",
            "http://",
            "",
            "http://a b",
        ] {
            assert!(valid_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_server_without_a_way_out_is_reached_by_its_own_address() {
        let near = |list: &[&str]| {
            let addresses: Vec<IpAddr> = list.iter().map(|ip| ip.parse().unwrap()).collect();
            nearest(&addresses).map(|ip| ip.to_string())
        };
        let all = [
            "127.0.0.1",
            "::1",
            "fe80::1",
            "2001:db8::2",
            "169.254.1.1",
            "10.77.0.2",
        ];
        assert_eq!(near(&all).as_deref(), Some("10.77.0.2"));
        assert_eq!(near(&all[..4]).as_deref(), Some("2001:db8::2"));
        assert_eq!(near(&all[..3]), None);
    }

    #[test]
    fn the_file_reads_back() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read_server_file(root.path()).unwrap(), None);
        let mode = || read_machine_access(root.path()).unwrap();
        assert_eq!(mode(), MachineAccess::Open);
        for (url, boot_url) in [
            ("http://srv:80", "http://srv:80"),
            ("https://srv:8443", "http://srv:8080"),
        ] {
            let served = Served {
                url: url.into(),
                boot_url: boot_url.into(),
            };
            write_server_file(root.path(), &served, MachineAccess::Token, None).unwrap();
            assert_eq!(read_server_file(root.path()).unwrap(), Some(served));
            assert_eq!(mode(), MachineAccess::Token);
        }
        // As servers before this one wrote it.
        std::fs::write(root.path().join(FILE), "url = \"http://srv:80\"\n").unwrap();
        assert_eq!(mode(), MachineAccess::Open);
        std::fs::write(root.path().join(FILE), "url = 1").unwrap();
        let error = format!("{:#}", read_server_file(root.path()).unwrap_err());
        assert!(error.contains("server.toml"), "{error}");
    }

    #[test]
    fn an_address_that_is_given_is_kept() {
        assert_eq!(
            own("http", "192.0.2.1:81".parse().unwrap()),
            "http://192.0.2.1:81"
        );
        assert_eq!(
            own("http", "127.0.0.1:81".parse().unwrap()),
            "http://10.0.2.2:81"
        );
        assert_eq!(
            own("http", "[::ffff:192.0.2.1]:81".parse().unwrap()),
            "http://192.0.2.1:81"
        );
        assert!(own("http", "0.0.0.0:81".parse().unwrap()).ends_with(":81"));
    }
}
