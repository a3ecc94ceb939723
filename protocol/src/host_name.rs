//! The names of host files: which machine a name is for, and under which names a machine looks for its own.
//!
//! Everything that writes, reads, lists, serves or deletes a host file asks here. The names are PXELINUX's, with
//! `.toml` behind them: `<uuid>.toml`, `01-<mac>.toml`, `<HEXIP>.toml`, the same shortened digit by digit, and
//! `default.toml`.

mod identity;

pub use identity::{Mac, Uuid};

use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What every host file's name ends with.
pub const SUFFIX: &str = ".toml";

/// PXELINUX writes the ARP hardware type before the address: 1 is Ethernet.
const ETHERNET: &str = "01-";

/// Hex digits of an address of each kind.
pub const V4_DIGITS: usize = 8;
const V6_DIGITS: usize = 32;

/// A name under which machines look for a host file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostName {
    /// `4c4c4544-0038-4a10-804e-b7c04f503132`. PXELINUX writes the same one with three of its fields turned around.
    Uuid(Uuid),
    /// `01-52-54-00-12-34-56`
    Mac(Mac),
    /// `C0A80132`, of an IPv6 address 32 digits.
    Ip(IpAddr),
    /// `C0A801`: every machine whose address begins with these digits, which are in capitals.
    Shortened(String),
    /// `default`: every machine.
    Default,
}

/// What a file's name says of the machine that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// Machines look for exactly this name.
    Taken(HostName),
    /// It means this machine, but is spelled as no machine asks for it.
    Misspelled(HostName),
    /// It tells nothing: only a `pitstop.host` that names it leads here, as `{serial}.toml` does.
    Named,
}

/// An address in hexadecimal, as PXELINUX names configurations: 8 digits, of an IPv6 address 32.
pub fn hex_address(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{:08X}", u32::from(address)),
        IpAddr::V6(address) => format!("{:032X}", u128::from(address)),
    }
}

impl HostName {
    /// The name without `.toml`, as it is written.
    pub fn stem(&self) -> String {
        match self {
            Self::Uuid(uuid) => uuid.to_string(),
            Self::Mac(mac) => format!("{ETHERNET}{}", mac.dashed()),
            Self::Ip(address) => hex_address(*address),
            Self::Shortened(digits) => digits.clone(),
            Self::Default => "default".into(),
        }
    }

    /// The file's name, as it is written.
    pub fn file(&self) -> String {
        self.stem() + SUFFIX
    }

    /// Every name, without `.toml`, under which the file may be: a UUID has two, best first.
    pub fn stems(&self) -> Vec<String> {
        match self {
            Self::Uuid(uuid) => uuid.spellings().map(|uuid| uuid.to_string()).into(),
            other => vec![other.stem()],
        }
    }

    /// The name that is exactly this text without `.toml`, as a boot loader asks for it; `None` where it is another's
    /// or no machine's.
    pub fn from_stem(stem: &str) -> Option<Self> {
        let found = if stem == "default" {
            Self::Default
        } else if let Some(mac) = stem.strip_prefix(ETHERNET) {
            Self::Mac(mac.parse().ok()?)
        } else if let Some(uuid) = Uuid::parse(stem) {
            Self::Uuid(uuid)
        } else {
            hexadecimal(stem)?
        };
        // Only as it is written: neither in other letters nor with other dashes.
        (found.stem() == stem).then_some(found)
    }

    /// Whether more than one machine may find its job under this name.
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::Shortened(_) | Self::Default)
    }
}

impl Meaning {
    /// What the name of a file says, with or without `.toml`.
    pub fn of_file(file: &str) -> Self {
        let (stem, ends) = match file.strip_suffix(SUFFIX) {
            Some(stem) => (stem, true),
            None => (file, false),
        };
        match (HostName::from_stem(stem), ends) {
            (Some(name), _) => Self::Taken(name),
            (None, true) => guess(stem).map_or(Self::Named, Self::Misspelled),
            (None, false) => Self::Named,
        }
    }
}

/// The machine that a name means which no machine asks for.
fn guess(stem: &str) -> Option<HostName> {
    if stem.eq_ignore_ascii_case("default") {
        return Some(HostName::Default);
    }
    if let Ok(address) = stem.parse::<IpAddr>().or_else(|_| {
        // As folders on the share are named.
        stem.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)
    }) {
        return Some(HostName::Ip(address));
    }
    if let Some(uuid) = Uuid::parse(stem) {
        return Some(HostName::Uuid(uuid));
    }
    // With or without the hardware type, with colons, dashes, or nothing between the digits.
    let typed = stem.strip_prefix("01-").or(stem.strip_prefix("01:"));
    for text in typed.into_iter().chain([stem]) {
        if let Ok(mac) = text.parse() {
            return Some(HostName::Mac(mac));
        }
    }
    let bare = stem.len() == 12 && stem.bytes().any(|b| matches!(b, b'a'..=b'f'));
    if bare && let Some(mac) = Mac::from_digits(stem) {
        return Some(HostName::Mac(mac));
    }
    hexadecimal(&stem.to_ascii_uppercase())
}

/// An address or the beginning of one, in capitals.
fn hexadecimal(digits: &str) -> Option<HostName> {
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'A'..=b'F');
    if digits.is_empty() || digits.len() > V6_DIGITS || !digits.bytes().all(hex) {
        return None;
    }
    match digits.len() {
        V4_DIGITS => {
            let bits = u32::from_str_radix(digits, 16).ok()?;
            Some(HostName::Ip(Ipv4Addr::from(bits).into()))
        }
        V6_DIGITS => {
            let bits = u128::from_str_radix(digits, 16).ok()?;
            Some(HostName::Ip(Ipv6Addr::from(bits).into()))
        }
        // Longer than IPv4's: of IPv6 addresses, which machines have in 2000::/3 and from fc00:: up (RFC 4291 2.4).
        // Anything else of that length is some serial number.
        length if length > V4_DIGITS && !digits.starts_with(['2', '3', 'F']) => None,
        _ => Some(HostName::Shortened(digits.to_owned())),
    }
}

/// The names, without `.toml`, under which a machine's host file is looked for, in this order.
pub fn search(uuid: Option<Uuid>, mac: Option<Mac>, address: Option<IpAddr>) -> Vec<String> {
    let mut names: Vec<String> = uuid
        .map(HostName::Uuid)
        .iter()
        .flat_map(HostName::stems)
        .collect();
    names.extend(mac.map(|mac| HostName::Mac(mac).stem()));
    if let Some(address) = address {
        let digits = hex_address(address);
        let shortened = (1..=digits.len()).rev();
        names.extend(shortened.map(|length| digits[..length].to_owned()));
    }
    names.push(HostName::Default.stem());
    names
}

/// Who is meant, for people: `10.0.2.15`, `52:54:00:12:34:56`, `C0A801…`.
impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => uuid.fmt(f),
            Self::Mac(mac) => mac.fmt(f),
            Self::Ip(address) => address.fmt(f),
            Self::Shortened(digits) => write!(f, "{digits}…"),
            Self::Default => f.write_str("every other machine"),
        }
    }
}

/// Text that somebody else chose, for a terminal or a page: what moves a cursor or turns the line around is written
/// as an escape.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || turns {
            // Writing to a String cannot fail.
            let _ = write!(shown, "{}", c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UUID: &str = "4c4c4544-0038-4a10-804e-b7c04f503132";
    const TURNED: &str = "44454c4c-3800-104a-804e-b7c04f503132";

    fn ip(text: &str) -> HostName {
        HostName::Ip(text.parse().unwrap())
    }

    #[test]
    fn each_name_is_read_as_it_is_written() {
        for (stem, shown, name) in [
            ("C0A80132", "192.168.1.50", ip("192.168.1.50")),
            (
                "20010DB8000000000000000000000007",
                "2001:db8::7",
                ip("2001:db8::7"),
            ),
            (
                "01-52-54-00-ab-34-56",
                "52:54:00:ab:34:56",
                HostName::Mac(Mac([0x52, 0x54, 0, 0xab, 0x34, 0x56])),
            ),
            (UUID, UUID, HostName::Uuid(Uuid::parse(UUID).unwrap())),
            ("C0A801", "C0A801…", HostName::Shortened("C0A801".into())),
            (
                "FEC0000000",
                "FEC0000000…",
                HostName::Shortened("FEC0000000".into()),
            ),
            ("default", "every other machine", HostName::Default),
        ] {
            assert_eq!(HostName::from_stem(stem).as_ref(), Some(&name));
            assert_eq!(
                (name.stem().as_str(), name.to_string().as_str()),
                (stem, shown)
            );
            assert_eq!(name.file(), format!("{stem}.toml"));
            assert_eq!(Meaning::of_file(&name.file()), Meaning::Taken(name));
        }
    }

    #[test]
    fn other_spellings_mean_a_machine_that_does_not_ask_for_them() {
        for (file, meant) in [
            ("c0a80132.toml", "C0A80132"),
            ("c0a801.toml", "C0A801"),
            ("192.168.1.50.toml", "C0A80132"),
            ("2001:db8::7.toml", "20010DB8000000000000000000000007"),
            ("2001-db8--7.toml", "20010DB8000000000000000000000007"),
            ("01-52-54-00-AB-34-56.toml", "01-52-54-00-ab-34-56"),
            ("01:52:54:00:ab:34:56.toml", "01-52-54-00-ab-34-56"),
            ("52:54:00:ab:34:56.toml", "01-52-54-00-ab-34-56"),
            ("52-54-00-12-34-56.toml", "01-52-54-00-12-34-56"),
            ("525400ab3456.toml", "01-52-54-00-ab-34-56"),
            ("4C4C4544-0038-4A10-804E-B7C04F503132.toml", UUID),
            ("4c4c454400384a10804eb7c04f503132.toml", UUID),
            ("Default.toml", "default"),
        ] {
            let Meaning::Misspelled(name) = Meaning::of_file(file) else {
                panic!("{file}: {:?}", Meaning::of_file(file));
            };
            assert_eq!(name.stem(), meant, "{file}");
        }
        for file in [
            "lab-7.toml",
            "PF-12-34.toml",
            "123456789012.toml",
            "notes",
            "01-ff-ff-ff-ff-ff-ff.toml",
            ".toml",
        ] {
            assert_eq!(Meaning::of_file(file), Meaning::Named, "{file}");
        }
    }

    #[test]
    fn one_uuid_has_two_spellings_and_is_found_by_either() {
        let names = |text: &str| search(Uuid::parse(text), None, None);
        assert_eq!(names(UUID), [UUID, TURNED, "default"]);
        assert_eq!(names(TURNED), [TURNED, UUID, "default"]);
        let one = HostName::from_stem(UUID).unwrap();
        assert_eq!(one.stems(), [UUID, TURNED]);
    }

    #[test]
    fn the_search_is_pxelinuxs() {
        let address = "10.0.2.15".parse().ok();
        let names = search(None, "52:54:00:12:34:56".parse().ok(), address);
        assert_eq!(
            names,
            [
                "01-52-54-00-12-34-56",
                "0A00020F",
                "0A00020",
                "0A0002",
                "0A000",
                "0A00",
                "0A0",
                "0A",
                "0",
                "default",
            ]
        );
        let names = search(None, None, "2001:db8::7".parse().ok());
        assert_eq!(names.len(), 33);
        assert_eq!((names[0].len(), names[31].as_str()), (32, "2"));
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(
            printable("a\u{1b}[31mb\u{9b}\u{202e}é"),
            "a\\u{1b}[31mb\\u{9b}\\u{202e}é"
        );
    }

    proptest! {
        #[test]
        fn any_name_is_read_and_what_is_taken_is_written_the_same(
            text in "(\\PC{0,40}|[0-9a-fA-F]{1,34}|(01[-:])?([0-9a-fA-F]{2}[-:]?){6}|[0-9a-fA-F-]{30,40}|[0-9.]{1,16})",
        ) {
            if let Some(name) = HostName::from_stem(&text) {
                prop_assert_eq!(name.stem(), text.clone());
                prop_assert!(name.stems().contains(&text));
            }
            match Meaning::of_file(&format!("{text}.toml")) {
                Meaning::Taken(name) => prop_assert_eq!(name.stem(), text),
                Meaning::Misspelled(name) => {
                    prop_assert_ne!(name.stem(), text);
                    // What it should be called is a name that machines ask for.
                    prop_assert_eq!(HostName::from_stem(&name.stem()), Some(name));
                }
                Meaning::Named => {}
            }
        }

        #[test]
        fn a_machine_finds_itself(bits: u128, v4: u32, mac: [u8; 6], uuid: [u8; 16]) {
            for address in [IpAddr::from(Ipv4Addr::from(v4)), Ipv6Addr::from(bits).into()] {
                let names = search(Some(Uuid(uuid)), Some(Mac(mac)), Some(address));
                prop_assert!(names.contains(&HostName::Ip(address).stem()));
                prop_assert!(names.contains(&HostName::Mac(Mac(mac)).stem()));
                for spelling in Uuid(uuid).spellings() {
                    prop_assert!(names.contains(&spelling.to_string()));
                    // Whichever way it was written down, the machine looks for it.
                    prop_assert!(HostName::Uuid(spelling).stems().iter().all(|name| names.contains(name)));
                }
            }
        }
    }
}
