//! `ip=`, in the kernel's own form (Documentation/admin-guide/nfs/nfsroot.rst), of which PXELINUX's
//! IPAPPEND writes the first four fields:
//! `CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF:DNS0:DNS1:NTP0`.

use std::net::Ipv4Addr;

/// How the machine gets its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IpSetting {
    /// DHCP, on the named NIC only where one is named.
    Dhcp {
        interface: Option<String>,
    },
    Static(StaticAddress),
    /// Not understood: the sentence says why. The network stage fails with it.
    Invalid(String),
}

impl Default for IpSetting {
    fn default() -> Self {
        IpSetting::Dhcp { interface: None }
    }
}

/// An address that needs no DHCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticAddress {
    pub address: Ipv4Addr,
    /// Bits of the network part, 0 to 32.
    pub prefix: u8,
    pub gateway: Option<Ipv4Addr>,
    /// The server that the boot loader came from.
    pub boot_server: Option<Ipv4Addr>,
    pub hostname: Option<String>,
    /// The only NIC to use: `eth0`.
    pub interface: Option<String>,
    /// Name servers, best first.
    pub dns: Vec<Ipv4Addr>,
    pub ntp: Option<Ipv4Addr>,
}

impl IpSetting {
    pub(super) fn parse(value: &str) -> Self {
        parse(value).unwrap_or_else(|why| IpSetting::Invalid(format!("ip={value}: {why}")))
    }
}

fn parse(value: &str) -> Result<IpSetting, String> {
    if is_dhcp(value) {
        return Ok(IpSetting::default());
    }
    if matches!(value, "off" | "none") {
        return Err("the network is needed: write ip=dhcp or a static address".into());
    }
    let fields: Vec<&str> = value.split(':').collect();
    let field = |index: usize| fields.get(index).copied().filter(|field| !field.is_empty());
    let text = |index: usize| field(index).map(str::to_owned);
    let interface = text(5);
    if fields.len() > 10 {
        return Err("more fields than the kernel's ip= has".into());
    }
    if field(0).is_none() {
        return match field(6) {
            Some(how) if !is_dhcp(how) => Err(format!(
                "no address is given and {how:?} is not a way to get one: write dhcp"
            )),
            _ => Ok(IpSetting::Dhcp { interface }),
        };
    }
    let address = |index: usize| match field(index) {
        None => Ok(None),
        Some(text) => match text.parse::<Ipv4Addr>() {
            // An empty field and 0.0.0.0 mean the same to the kernel.
            Ok(Ipv4Addr::UNSPECIFIED) => Ok(None),
            Ok(address) => Ok(Some(address)),
            Err(_) => Err(format!("{text:?} is not an IPv4 address")),
        },
    };
    let client = address(0)?.ok_or("0.0.0.0 is no address for a machine")?;
    Ok(IpSetting::Static(StaticAddress {
        address: client,
        prefix: field(3).map_or_else(|| Ok(class_prefix(client)), prefix)?,
        gateway: address(2)?,
        boot_server: address(1)?,
        hostname: text(4),
        interface,
        dns: [address(7)?, address(8)?].into_iter().flatten().collect(),
        ntp: address(9)?,
    }))
}

fn is_dhcp(word: &str) -> bool {
    matches!(word, "" | "dhcp" | "on" | "any" | "both" | "bootp")
}

/// A dotted mask without holes, or a number of bits.
fn prefix(text: &str) -> Result<u8, String> {
    let wrong = || format!("{text:?} is not a netmask: write 255.255.255.0 or 24");
    if let Ok(bits) = text.parse::<u8>() {
        return if bits <= 32 { Ok(bits) } else { Err(wrong()) };
    }
    let mask = u32::from(text.parse::<Ipv4Addr>().map_err(|_| wrong())?);
    let bits = mask.leading_ones();
    if mask.count_ones() != bits {
        return Err(wrong());
    }
    u8::try_from(bits).map_err(|_| wrong())
}

/// What the kernel assumes without a netmask: the address's class (RFC 791 3.2).
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

    #[test]
    fn pxelinux_writes_four_fields() {
        let IpSetting::Static(address) =
            IpSetting::parse("10.0.2.15:10.0.2.2:10.0.2.1:255.255.255.0")
        else {
            panic!("not static")
        };
        assert_eq!(address.address, Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!(address.prefix, 24);
        assert_eq!(address.gateway, Some(Ipv4Addr::new(10, 0, 2, 1)));
        assert_eq!(address.boot_server, Some(Ipv4Addr::new(10, 0, 2, 2)));
    }

    #[test]
    fn the_kernels_other_fields_are_understood() {
        let IpSetting::Static(address) =
            IpSetting::parse("192.168.1.5::192.168.1.1::box:eth1:off:9.9.9.9:0.0.0.0:10.0.0.9")
        else {
            panic!("not static")
        };
        assert_eq!(address.hostname.as_deref(), Some("box"));
        assert_eq!(address.interface.as_deref(), Some("eth1"));
        assert_eq!((address.prefix, address.dns.len()), (24, 1));
        assert_eq!(address.ntp, Some(Ipv4Addr::new(10, 0, 0, 9)));
        assert_eq!(
            IpSetting::parse(":::::eth2:dhcp"),
            IpSetting::Dhcp {
                interface: Some("eth2".into())
            }
        );
        assert_eq!(IpSetting::parse("dhcp"), IpSetting::default());
    }

    #[test]
    fn nonsense_says_what_is_wrong() {
        for (value, why) in [
            ("off", "network is needed"),
            ("10.0.0.300", "not an IPv4 address"),
            ("10.0.0.3:::255.0.255.0", "not a netmask"),
            ("10.0.0.3:::33", "not a netmask"),
            ("0.0.0.0:::24", "no address for a machine"),
            (":::::eth0:static", "not a way to get one"),
            ("1.2.3.4:::::::::::", "more fields"),
        ] {
            let IpSetting::Invalid(text) = IpSetting::parse(value) else {
                panic!("{value} was taken")
            };
            assert!(text.contains(why), "{value}: {text}");
        }
    }
}
