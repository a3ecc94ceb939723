//! `bond=`, as dracut writes it (dracut.cmdline(7)): `bond=NAME[:CARDS[:OPTIONS[:MTU]]]`. Cards may be named by their
//! MAC address too, with dashes as in `BOOTIF`; `all`, or none, is every wired card.

use super::vlan::is_interface;
use super::{boot_mac, mtu};

/// Cards that act as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bond {
    /// The interface that they make: `bond0`.
    pub name: String,
    /// Empty for every wired card.
    pub cards: Vec<BondCard>,
    /// As the kernel's bonding driver names them (Documentation/networking/bonding.rst), in the order in which it
    /// takes them.
    pub options: Vec<(String, String)>,
    /// Bytes of the largest packet.
    pub mtu: Option<u16>,
}

/// How one of the cards is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BondCard {
    Name(String),
    Mac([u8; 6]),
}

/// By number, as the driver counts them.
const MODES: [&str; 7] = [
    "balance-rr",
    "active-backup",
    "balance-xor",
    "broadcast",
    "802.3ad",
    "balance-tlb",
    "balance-alb",
];

/// What has to be set before others: a mode without cards, a link that is watched before its delays.
const FIRST: [&str; 3] = ["mode", "miimon", "arp_interval"];

/// How a dead link is found out where nothing else is asked for, in milliseconds: the driver's own default is never.
const USUAL_MIIMON: &str = "100";

impl Bond {
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(value: &str) -> Result<Self, String> {
        read(value).map_err(|what| {
            format!(
                "bond={value}: {what}: write bond=NAME:CARDS:OPTIONS, such as \
                 bond=bond0:eth0,eth1:mode=active-backup,miimon=100"
            )
        })
    }
}

fn read(value: &str) -> Result<Bond, String> {
    let mut fields = value.split(':');
    let mut field = || fields.next().unwrap_or_default();
    let (name, cards, options, maximum) = (field(), field(), field(), field());
    if fields.next().is_some() {
        return Err("it has more than four fields (a MAC address is written with dashes)".into());
    }
    if !is_interface(name) {
        return Err(format!("{name:?} is not a name for an interface"));
    }
    let cards = match cards {
        "" | "all" => Vec::new(),
        list => list.split(',').map(card).collect::<Result<_, _>>()?,
    };
    if cards.contains(&BondCard::Name(name.to_owned())) {
        return Err(format!("{name} cannot be one of its own cards"));
    }
    Ok(Bond {
        name: name.to_owned(),
        cards,
        options: read_options(options)?,
        mtu: Some(maximum)
            .filter(|text| !text.is_empty())
            .map(mtu)
            .transpose()?,
    })
}

fn card(text: &str) -> Result<BondCard, String> {
    if let Some(mac) = boot_mac(text) {
        return Ok(BondCard::Mac(mac));
    }
    if !is_interface(text) {
        return Err(format!("{text:?} is not the name of a network card"));
    }
    Ok(BondCard::Name(text.to_owned()))
}

fn read_options(list: &str) -> Result<Vec<(String, String)>, String> {
    let mut options: Vec<(String, String)> = Vec::new();
    for option in list.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option
            .split_once('=')
            .filter(|(name, value)| is_option(name) && !value.is_empty())
            .ok_or_else(|| format!("{option:?} is not an option with a value"))?;
        if name == "mode" && !is_mode(value) {
            return Err(format!(
                "there is no mode {value:?}, but {}",
                MODES.join(", ")
            ));
        }
        if options.iter().any(|(other, _)| other == name) {
            return Err(format!("the option {name} is given twice"));
        }
        options.push((name.to_owned(), value.to_owned()));
    }
    let watched = |(name, _): &(String, String)| matches!(name.as_str(), "miimon" | "arp_interval");
    if !options.iter().any(watched) {
        options.push(("miimon".into(), USUAL_MIIMON.into()));
    }
    options.sort_by_key(|(name, _)| {
        FIRST
            .iter()
            .position(|first| first == name)
            .unwrap_or(FIRST.len())
    });
    Ok(options)
}

fn is_mode(value: &str) -> bool {
    MODES.contains(&value)
        || value
            .parse()
            .is_ok_and(|number: usize| number < MODES.len())
}

/// Names a file of the driver's: no path leads elsewhere by it.
fn is_option(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !name.is_empty() && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(name: &str) -> BondCard {
        BondCard::Name(name.into())
    }

    fn option(name: &str, value: &str) -> (String, String) {
        (name.into(), value.into())
    }

    #[test]
    fn dracuts_fields_are_understood() {
        let bond =
            Bond::parse("bond0:eth0,eth1:updelay=200,miimon=50,mode=active-backup:9000").unwrap();
        assert_eq!(bond.name, "bond0");
        assert_eq!(bond.cards, [named("eth0"), named("eth1")]);
        let wanted = [
            option("mode", "active-backup"),
            option("miimon", "50"),
            option("updelay", "200"),
        ];
        assert_eq!(bond.options, wanted, "in the order that the driver needs");
        assert_eq!(bond.mtu, Some(9000));
    }

    #[test]
    fn fields_that_are_left_out_have_their_defaults() {
        for text in ["bond0", "bond0:all", "bond0:::"] {
            let bond = Bond::parse(text).unwrap();
            assert_eq!((bond.cards, bond.mtu), (Vec::new(), None), "{text}");
            assert_eq!(bond.options, [option("miimon", "100")]);
        }
        let bond =
            Bond::parse("up:52-54-00-00-00-01,01-52-54-00-00-00-02:mode=4,arp_interval=1").unwrap();
        let mac = |last| BondCard::Mac([0x52, 0x54, 0, 0, 0, last]);
        assert_eq!(bond.cards, [mac(1), mac(2)]);
        assert_eq!(
            bond.options,
            [option("mode", "4"), option("arp_interval", "1")]
        );
    }

    #[test]
    fn nonsense_says_what_is_wrong() {
        for (value, why) in [
            ("", "\"\" is not a name"),
            ("a/b", "\"a/b\" is not a name"),
            ("bond0:eth0,,eth1", "\"\" is not the name of a network card"),
            ("bond0:bond0", "one of its own cards"),
            ("bond0:52:54:00:00:00:01", "written with dashes"),
            ("bond0:eth0:mode=fast", "no mode \"fast\""),
            ("bond0:eth0:mode=7", "no mode \"7\""),
            ("bond0:eth0:miimon", "\"miimon\" is not an option"),
            ("bond0:eth0:../x=1", "\"../x=1\" is not an option"),
            ("bond0:eth0:mode=1,mode=2", "mode is given twice"),
            ("bond0:eth0::100", "from 1280 to 65535"),
        ] {
            let error = Bond::parse(value).unwrap_err();
            assert!(
                error.contains(why) && error.contains("bond="),
                "{value}: {error}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".{0,60}", list in "[a-z0-9=,:_-]{0,60}") {
            let _ = Bond::parse(&text);
            if let Ok(bond) = Bond::parse(&format!("bond0:{list}")) {
                prop_assert!(bond.options.iter().all(|(name, _)| is_option(name)));
            }
        }
    }
}
