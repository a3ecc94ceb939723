//! The key `power` of the fleet file: read and written in one place.

use crate::command::Words;
use crate::ipmi::Ipmi;
use crate::redfish::Redfish;
use std::fmt;
use toml::Value;
use url::Url;

/// What every error of a value ends with.
const FORMS: &str = "write \"wol\", \"ipmi://BMC\", \"redfish://BMC/redfish/v1/Systems/1\", \"none\" or a command as a list";

/// How a machine is switched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Power {
    /// A magic packet: it can switch on, and nothing else. What a machine has of which nothing is said.
    #[default]
    Wol,
    /// By hand alone.
    None,
    Ipmi(Ipmi),
    Redfish(Redfish),
    Command(Words),
}

impl Power {
    /// Reads a value of the key `power`.
    ///
    /// # Errors
    /// What is wrong with it, and what may stand there.
    pub fn parse(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => match text.as_str() {
                "wol" => Ok(Self::Wol),
                "none" => Ok(Self::None),
                text => Self::of_url(text).map_err(|what| format!("{:?}: {what}", shown(text))),
            },
            Value::Array(words) => Words::parse(words).map(Self::Command),
            other => Err(format!("{}: {FORMS}", other.type_str())),
        }
    }

    /// Which BMC's system is switched, however it is asked: of two machines it is not the same.
    pub fn bmc(&self) -> Option<String> {
        match self {
            Self::Ipmi(ipmi) => Some(ipmi.bmc()),
            Self::Redfish(redfish) => Some(redfish.bmc()),
            Self::Wol | Self::None | Self::Command(_) => None,
        }
    }

    fn of_url(text: &str) -> Result<Self, String> {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        match scheme {
            Some("ipmi") => Ipmi::of_url(&plain_url(text)?).map(Self::Ipmi),
            Some("redfish") => {
                let url = plain_url(&text.replacen("redfish", "https", 1))?;
                Redfish::of_url(url).map(Self::Redfish)
            }
            Some("redfish+http") => {
                let url = plain_url(&text.replacen("redfish+http", "http", 1))?;
                Redfish::of_url(url).map(Self::Redfish)
            }
            _ => Err(FORMS.into()),
        }
    }
}

/// A value that is wrong, for a message: what stands before an @ may be a password.
fn shown(text: &str) -> String {
    let Some((login, host)) = text.rsplit_once('@') else {
        return text.to_owned();
    };
    match login.split_once("://") {
        Some((scheme, _)) => format!("{scheme}://…@{host}"),
        None => format!("…@{host}"),
    }
}

/// The URL of a BMC. It goes to other programs: its host is a plain name or address.
fn plain_url(text: &str) -> Result<Url, String> {
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("it has a blank in it: {FORMS}"));
    }
    let url = Url::parse(text).map_err(|error| format!("{error}: {FORMS}"))?;
    if url.password().is_some() {
        return Err(
            "a password has no place here: put user and password into credentials.toml".into(),
        );
    }
    let host = url.host_str().unwrap_or_default();
    let address = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let plain = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.starts_with(|c: char| c.is_ascii_alphanumeric())
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        }
    };
    if !plain {
        return Err(format!("it names no BMC: {FORMS}"));
    }
    Ok(url)
}

impl fmt::Display for Power {
    /// As it is written in the fleet file; of a command its program.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wol => f.write_str("wol"),
            Self::None => f.write_str("none"),
            Self::Ipmi(ipmi) => ipmi.fmt(f),
            Self::Redfish(redfish) => redfish.fmt(f),
            Self::Command(words) => f.write_str(words.program()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Power, String> {
        Power::parse(&Value::String(text.into()))
    }

    #[test]
    fn each_form_is_read_and_written_alike() {
        for text in [
            "wol",
            "none",
            "ipmi://bmc-lab3-01",
            "ipmi://admin@10.0.0.7:6623",
            "ipmi://[2001:db8::7]",
            "ipmi://bmc?efi=true&cipher=3&privilege=operator",
            "redfish://bmc-lab3-01/redfish/v1/Systems/1",
            "redfish://bmc:8443/redfish/v1/Systems/1",
            "redfish+http://10.0.0.7:8000/redfish/v1/Systems/abc",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            parse("redfish://bmc").unwrap().to_string(),
            "redfish://bmc/"
        );
        let command = Power::parse(&vec!["/usr/local/bin/pdu", "{act}", "7"].into()).unwrap();
        assert_eq!(command.to_string(), "/usr/local/bin/pdu");
    }

    #[test]
    fn a_bmc_is_the_same_by_whatever_user_or_cipher() {
        let bmc = |text| parse(text).unwrap().bmc();
        assert_eq!(bmc("ipmi://admin@BMC?cipher=3"), bmc("ipmi://bmc:623"));
        assert_ne!(bmc("ipmi://bmc:624"), bmc("ipmi://bmc"));
        let system = "redfish://bmc/redfish/v1/Systems/1";
        assert_eq!(bmc("redfish://root@bmc/redfish/v1/Systems/1/"), bmc(system));
        assert_ne!(bmc("redfish://bmc/redfish/v1/Systems/2"), bmc(system));
        assert_eq!(bmc("wol"), None);
    }

    #[test]
    fn what_cannot_be_meant_is_told_with_what_can() {
        for text in [
            "",
            "on",
            "ipmi://",
            "redfish://a b",
            "bmc",
            "http://bmc/x",
            "ipmi://-x",
            "ipmi://a%20b",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("write \"wol\""), "{text}: {error}");
        }
        for (text, what) in [
            (
                "ipmi://root:calvin@bmc",
                "\"ipmi://…@bmc\": a password has no place",
            ),
            ("ipmi://root:cal@vin@bmc", "credentials.toml"),
            ("ipmi://root:calvin@bmc:x", "ipmi://…@bmc:x"),
            ("http://root:calvin@bmc", "http://…@bmc"),
            ("root:calvin@bmc", "…@bmc"),
            ("redfish://root:cal vin@bmc", "blank"),
            (
                "redfish://root:calvin@bmc/redfish/v1/Systems/1",
                "credentials.toml",
            ),
            ("ipmi://bmc/path", "no path"),
            ("ipmi://bmc?efi=perhaps", "efi"),
            ("ipmi://bmc?cipher=99", "cipher"),
            ("ipmi://bmc?x=1", "\"x\""),
            ("redfish://bmc/redfish/v1/Systems/1?x", "no query"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.contains(what) && !error.contains("cal"),
                "{text}: {error}"
            );
        }
        for (words, what) in [
            (vec![], "no program"),
            (vec![""], "no program"),
            (vec!["pdu", "{host}"], "{host}"),
        ] {
            let error = Power::parse(&words.into()).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
        assert!(
            Power::parse(&3.into())
                .unwrap_err()
                .starts_with("integer: ")
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(ipmi|redfish|redfish\\+http)?(://)?[a-z@:/?=&%\\[\\]0-9 é-]{0,30}") {
            if let Ok(power) = parse(&text) {
                prop_assert_eq!(parse(&power.to_string()), Ok(power));
            }
        }
    }
}
