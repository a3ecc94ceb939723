//! `ip=`, in the kernel's own form (Documentation/admin-guide/nfs/nfsroot.rst), of which PXELINUX's
//! IPAPPEND writes the first four fields:
//! `CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF:DNS0:DNS1:NTP0`.
//! IPv6 as dracut has it (dracut.cmdline(7)): addresses in brackets, `auto6` for the network's own; and so an MTU in
//! place of the name servers.

use super::mtu;
use std::net::{IpAddr, Ipv4Addr};

/// How the machine gets its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IpSetting {
    /// DHCP, on the named NIC only where one is named. A network that has IPv6 alone is found out.
    Dhcp {
        interface: Option<String>,
        mtu: Option<u16>,
    },
    /// What IPv6 routers announce (RFC 4862), or DHCP for IPv6 where they say so, and no IPv4.
    Auto6 {
        interface: Option<String>,
        mtu: Option<u16>,
    },
    Static(StaticAddress),
    /// No network at all: what the machine needs is on a stick.
    Off,
    /// Not understood: the sentence says why. The network stage fails with it.
    Invalid(String),
}

impl Default for IpSetting {
    fn default() -> Self {
        IpSetting::Dhcp {
            interface: None,
            mtu: None,
        }
    }
}

/// An address that needs no DHCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticAddress {
    pub address: IpAddr,
    /// Bits of the network part, 0 to 32, or to 128.
    pub prefix: u8,
    /// Of the address's own kind.
    pub gateway: Option<IpAddr>,
    /// The server that the boot loader came from.
    pub boot_server: Option<IpAddr>,
    pub hostname: Option<String>,
    /// The only NIC to use: `eth0`.
    pub interface: Option<String>,
    /// Name servers, best first.
    pub dns: Vec<IpAddr>,
    pub ntp: Option<IpAddr>,
    /// Bytes of the largest packet.
    pub mtu: Option<u16>,
}

impl IpSetting {
    pub fn parse(value: &str) -> Self {
        parse(value).unwrap_or_else(|why| IpSetting::Invalid(format!("ip={value}: {why}")))
    }

    /// The only NIC to use, where one is named.
    pub fn interface(&self) -> Option<&str> {
        match self {
            IpSetting::Dhcp { interface, .. } | IpSetting::Auto6 { interface, .. } => {
                interface.as_deref()
            }
            IpSetting::Static(address) => address.interface.as_deref(),
            IpSetting::Off | IpSetting::Invalid(_) => None,
        }
    }

    /// Bytes of the largest packet, where they are given: whatever the network says.
    pub fn mtu(&self) -> Option<u16> {
        match self {
            IpSetting::Dhcp { mtu, .. } | IpSetting::Auto6 { mtu, .. } => *mtu,
            IpSetting::Static(address) => address.mtu,
            IpSetting::Off | IpSetting::Invalid(_) => None,
        }
    }
}

fn parse(value: &str) -> Result<IpSetting, String> {
    let fields = fields(value)?;
    let text = |index: usize| fields.get(index).filter(|field| !field.is_empty());
    if matches!(value, "off" | "none") {
        return Ok(IpSetting::Off);
    }
    let given = |field: &String| !field.is_empty();
    let short = match fields.as_slice() {
        [how] => automatic(how, None, None),
        // dracut's short form has the device first, and may end with an MTU.
        [interface, how, rest @ ..] if given(interface) && given(how) => {
            let mtu = given_mtu(rest)?;
            let whole = rest.is_empty() || mtu.is_some();
            automatic(how, Some(interface), mtu).filter(|_| whole)
        }
        _ => None,
    };
    if let Some(setting) = short {
        return Ok(setting);
    }
    let mtu = given_mtu(fields.get(7..).unwrap_or_default())?;
    if fields.len() > 10 {
        return Err("more fields than the kernel's ip= has".into());
    }
    if text(0).is_none() {
        let how = text(6).map_or("", String::as_str);
        return automatic(how, text(5), mtu).ok_or_else(|| {
            format!("no address is given and {how:?} is not a way to get one: write dhcp or auto6")
        });
    }
    static_address(&fields, mtu).map(IpSetting::Static)
}

/// dracut's last fields, if a number shows that these are they: an MTU, and a MAC address.
fn given_mtu(fields: &[String]) -> Result<Option<u16>, String> {
    match fields {
        [text, rest @ ..] if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            if rest.iter().any(|field| !field.is_empty()) {
                return Err("a card keeps its MAC address: end with the MTU".into());
            }
            mtu(text).map(Some)
        }
        _ => Ok(None),
    }
}

/// Splits at colons, but for those in brackets, which are taken off.
fn fields(value: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = Some(value);
    while let Some(text) = rest {
        let (inside, after) = match text.strip_prefix('[') {
            Some(text) => text
                .split_once(']')
                .ok_or("an address has no closing bracket")?,
            None => ("", text),
        };
        let (field, next) = match after.split_once(':') {
            Some((field, next)) => (field, Some(next)),
            None => (after, None),
        };
        fields.push(format!("{inside}{field}"));
        rest = next;
    }
    Ok(fields)
}

fn automatic(how: &str, interface: Option<&String>, mtu: Option<u16>) -> Option<IpSetting> {
    let interface = interface.cloned();
    match how {
        "auto6" | "dhcp6" | "either6" => Some(IpSetting::Auto6 { interface, mtu }),
        "" | "dhcp" | "on" | "any" | "both" | "bootp" => Some(IpSetting::Dhcp { interface, mtu }),
        _ => None,
    }
}

fn static_address(fields: &[String], mtu: Option<u16>) -> Result<StaticAddress, String> {
    let field = |index: usize| fields.get(index).map_or("", String::as_str);
    let text = |index: usize| Some(field(index).to_owned()).filter(|text| !text.is_empty());
    let address = |index: usize| match field(index) {
        "" => Ok(None),
        text => match text.parse::<IpAddr>() {
            // An empty field and 0.0.0.0 mean the same to the kernel.
            Ok(address) if address.is_unspecified() => Ok(None),
            Ok(address) => Ok(Some(address)),
            Err(_) => Err(format!(
                "{text:?} is not an address: write 10.0.0.2, or [2001:db8::2] in brackets"
            )),
        },
    };
    let (client, bits) = match field(0).split_once('/') {
        Some((client, bits)) => (client, Some(bits)),
        None => (field(0), None),
    };
    let client: IpAddr = client.parse().map_err(|_| {
        format!("{client:?} is not an address: write 10.0.0.2, or [2001:db8::2] in brackets")
    })?;
    if client.is_unspecified() {
        return Err(format!("{client} is no address for a machine"));
    }
    let gateway = address(2)?;
    if gateway.is_some_and(|gateway| gateway.is_ipv4() != client.is_ipv4()) {
        return Err("the address and its gateway are of two kinds".into());
    }
    let mask = bits.or(Some(field(3)).filter(|mask| !mask.is_empty()));
    Ok(StaticAddress {
        address: client,
        prefix: match (client, mask) {
            (IpAddr::V4(_), Some(mask)) => prefix(mask)?,
            (IpAddr::V4(client), None) => class_prefix(client),
            (IpAddr::V6(_), Some(bits)) => prefix6(bits)?,
            (IpAddr::V6(_), None) => USUAL_PREFIX,
        },
        gateway,
        boot_server: address(1)?,
        hostname: text(4),
        interface: text(5),
        dns: match mtu {
            None => [address(7)?, address(8)?].into_iter().flatten().collect(),
            Some(_) => Vec::new(),
        },
        ntp: address(9)?,
        mtu,
    })
}

/// RFC 4291 2.5.4: what nearly every network has.
const USUAL_PREFIX: u8 = 64;

fn prefix6(text: &str) -> Result<u8, String> {
    let bits = text.parse().ok().filter(|bits| *bits <= 128);
    bits.ok_or_else(|| format!("{text:?} is not a number of bits from 0 to 128"))
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
    use proptest::prelude::*;

    #[test]
    fn pxelinux_writes_four_fields() {
        let IpSetting::Static(address) =
            IpSetting::parse("10.0.2.15:10.0.2.2:10.0.2.1:255.255.255.0")
        else {
            panic!("not static")
        };
        assert_eq!(address.address, Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!(address.prefix, 24);
        assert_eq!(address.gateway, Some(Ipv4Addr::new(10, 0, 2, 1).into()));
        assert_eq!(address.boot_server, Some(Ipv4Addr::new(10, 0, 2, 2).into()));
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
        assert_eq!(address.ntp, Some(Ipv4Addr::new(10, 0, 0, 9).into()));
        assert_eq!(
            IpSetting::parse(":::::eth2:dhcp"),
            IpSetting::Dhcp {
                interface: Some("eth2".into()),
                mtu: None,
            }
        );
        assert_eq!(IpSetting::parse("dhcp"), IpSetting::default());
    }

    #[test]
    fn an_mtu_stands_where_dracut_has_it() {
        for (value, interface) in [
            ("10.0.0.3::10.0.0.1:24:box:eth1:none:9000", "eth1"),
            ("[2001:db8::10]/48::[fe80::1]::box:eth1:none:9000", "eth1"),
            (":::::eth1:dhcp:9000", "eth1"),
            ("eth1:dhcp:9000", "eth1"),
            ("eth1:auto6:9000:", "eth1"),
        ] {
            let setting = IpSetting::parse(value);
            assert_eq!(setting.mtu(), Some(9000), "{value}: {setting:?}");
            assert_eq!(setting.interface(), Some(interface), "{value}");
        }
        let named = IpSetting::parse("10.0.0.3::10.0.0.1:24::eth1:none:9.9.9.9");
        assert_eq!(named.mtu(), None, "a name server is no MTU");
    }

    #[test]
    fn ipv6_is_in_brackets_as_dracut_has_it() {
        for value in [
            "[2001:db8::10]/48::[fe80::1]::box:eth1:none:[2001:db8::53]",
            "[2001:db8::10]::[fe80::1]:48:box:eth1:none:[2001:db8::53]",
        ] {
            let IpSetting::Static(address) = IpSetting::parse(value) else {
                panic!("not static")
            };
            assert_eq!(address.address.to_string(), "2001:db8::10");
            assert_eq!(
                (address.prefix, address.gateway),
                (48, "fe80::1".parse().ok())
            );
            assert_eq!(address.interface.as_deref(), Some("eth1"));
            assert_eq!(address.dns, ["2001:db8::53".parse::<IpAddr>().unwrap()]);
        }
        let IpSetting::Static(bare) = IpSetting::parse("[2001:db8::10]") else {
            panic!("not static")
        };
        assert_eq!((bare.prefix, bare.gateway), (64, None));
        assert_eq!(
            IpSetting::parse("auto6"),
            IpSetting::Auto6 {
                interface: None,
                mtu: None,
            }
        );
        let interface = Some("eth2".to_owned());
        assert_eq!(
            IpSetting::parse("eth2:auto6"),
            IpSetting::Auto6 {
                interface: interface.clone(),
                mtu: None,
            }
        );
        assert_eq!(
            IpSetting::parse(":::::eth2:auto6"),
            IpSetting::Auto6 {
                interface,
                mtu: None,
            }
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read(value in "[0-9a-f:./\\[\\]]{0,40}") {
            if let IpSetting::Static(address) = IpSetting::parse(&value) {
                let most = if address.address.is_ipv4() { 32 } else { 128 };
                prop_assert!(address.prefix <= most && !address.address.is_unspecified());
            }
        }

        #[test]
        fn any_words_are_read(value in "(eth0|10.0.0.2|dhcp|none|[0-9]{1,6}|:){0,16}") {
            let mtu = IpSetting::parse(&value).mtu();
            prop_assert!(mtu.is_none_or(|bytes| bytes >= 1280));
        }
    }

    #[test]
    fn nonsense_says_what_is_wrong() {
        for (value, why) in [
            ("10.0.0.300", "not an address"),
            ("2001:db8::1", "not an address"),
            ("[2001:db8::1", "no closing bracket"),
            ("[2001:db8::1]::10.0.0.1", "of two kinds"),
            ("[2001:db8::1]/129", "not a number of bits"),
            ("eth0:ibft", "not an address"),
            ("10.0.0.3:::255.0.255.0", "not a netmask"),
            ("10.0.0.3:::33", "not a netmask"),
            ("0.0.0.0:::24", "no address for a machine"),
            (":::::eth0:static", "not a way to get one"),
            ("1.2.3.4:::::::::::", "more fields"),
            ("1.2.3.4::::::none:1279", "not a number from 1280"),
            ("eth0:dhcp:65536", "not a number from 1280"),
            ("eth0:dhcp:9000:52:54:00:00:00:01", "keeps its MAC address"),
            ("eth0:dhcp:large", "not an address"),
        ] {
            let IpSetting::Invalid(text) = IpSetting::parse(value) else {
                panic!("{value} was taken")
            };
            assert!(text.contains(why), "{value}: {text}");
        }
    }
}
