//! IPMI over the network, by `ipmitool`.

use crate::act::{Limits, State};
use crate::bmc::{Bmc as _, Order};
use crate::credentials::{Credentials, Login, Secret};
use crate::error::PowerError;
use crate::program;
use std::fmt;
use std::io::ErrorKind;
use std::process::Command;
use url::Url;

const PROGRAM: &str = "ipmitool";
/// Where it reads the password: the arguments of a process are everybody's to read, its environment is its owner's.
const PASSWORD: &str = "IPMITOOL_PASSWORD";
const PORT: u16 = 623;

/// `ipmi://[user@]host[:port][?efi=true&cipher=N&privilege=LEVEL]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipmi {
    user: Option<String>,
    /// A plain name or an address.
    host: String,
    port: u16,
    /// The boot override is told to be meant for UEFI: some BMCs boot a BIOS for it otherwise.
    efi: Option<bool>,
    /// Cipher suite: old BMCs want 3.
    cipher: Option<u8>,
    privilege: Option<Privilege>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Privilege {
    Operator,
    Administrator,
}

impl Privilege {
    const ALL: [Self; 2] = [Self::Operator, Self::Administrator];

    fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Administrator => "administrator",
        }
    }
}

impl Ipmi {
    /// Without what tells how it is asked.
    pub(crate) fn bmc(&self) -> String {
        format!("ipmi://{}:{}", self.host.to_ascii_lowercase(), self.port)
    }

    pub(crate) fn of_url(url: &Url) -> Result<Self, String> {
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return Err("there is no path in IPMI: write \"ipmi://BMC\"".into());
        }
        let user = percent_encoding::percent_decode_str(url.username());
        let user = user
            .decode_utf8()
            .map_err(|_| "its user is not UTF-8 text".to_owned())?;
        if user.chars().any(char::is_control) {
            return Err("its user has a control character in it".into());
        }
        let host = url.host_str().unwrap_or_default();
        let mut ipmi = Self {
            user: (!user.is_empty()).then(|| user.into_owned()),
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(PORT),
            efi: None,
            cipher: None,
            privilege: None,
        };
        for (key, value) in url.query_pairs() {
            match key.as_ref() {
                "efi" => {
                    let efi = value
                        .parse()
                        .map_err(|_| "efi is true or false".to_owned())?;
                    ipmi.efi = Some(efi);
                }
                "cipher" => {
                    let cipher = value.parse().ok().filter(|cipher| *cipher <= 17);
                    ipmi.cipher = Some(cipher.ok_or("cipher is a number up to 17")?);
                }
                "privilege" => {
                    let level = Privilege::ALL
                        .into_iter()
                        .find(|level| level.name() == value);
                    ipmi.privilege = Some(level.ok_or("privilege is operator or administrator")?);
                }
                other => {
                    return Err(format!(
                        "{other:?} is not known behind the ?: there are efi, cipher and privilege"
                    ));
                }
            }
        }
        Ok(ipmi)
    }
}

impl fmt::Display for Ipmi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ipmi://")?;
        if let Some(user) = &self.user {
            let user =
                percent_encoding::utf8_percent_encode(user, percent_encoding::NON_ALPHANUMERIC);
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        if self.port != PORT {
            write!(f, ":{}", self.port)?;
        }
        let options = [
            self.efi.map(|efi| format!("efi={efi}")),
            self.cipher.map(|cipher| format!("cipher={cipher}")),
            self.privilege
                .map(|level| format!("privilege={}", level.name())),
        ];
        for (index, option) in options.into_iter().flatten().enumerate() {
            write!(f, "{}{option}", if index == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

/// A BMC that is asked by IPMI.
pub(crate) struct Bmc<'a> {
    ipmi: &'a Ipmi,
    user: String,
    login: Login,
    limits: &'a Limits,
}

impl<'a> Bmc<'a> {
    pub fn new(
        ipmi: &'a Ipmi,
        credentials: &Credentials,
        limits: &'a Limits,
    ) -> Result<Self, PowerError> {
        let login = credentials.of(&ipmi.host);
        let user = ipmi.user.clone().or_else(|| login.user.clone());
        match (user, &login.password) {
            (Some(user), Some(_)) => Ok(Self {
                ipmi,
                user,
                login,
                limits,
            }),
            _ => Err(PowerError::NoLogin {
                bmc: ipmi.host.clone(),
                file: credentials.file(),
            }),
        }
    }

    /// Runs `ipmitool … chassis WORDS`. Returns what it prints.
    fn chassis(&self, words: &[&str]) -> Result<String, PowerError> {
        let mut command = Command::new(PROGRAM);
        // -R and -N: how often and how long it asks itself; the limit is for what it does beside.
        command
            .args([
                "-I",
                "lanplus",
                "-H",
                &self.ipmi.host,
                "-p",
                &self.ipmi.port.to_string(),
            ])
            .args(["-U", &self.user, "-E", "-R", "2", "-N", "3"]);
        if let Some(cipher) = self.ipmi.cipher {
            command.args(["-C", &cipher.to_string()]);
        }
        if let Some(level) = self.ipmi.privilege {
            command.args(["-L", &level.name().to_ascii_uppercase()]);
        }
        command.arg("chassis").args(words);
        let password = self.login.password.as_ref();
        command.env(PASSWORD, password.map_or("", Secret::tell));
        match program::run(command, PROGRAM, self.limits.call) {
            Ok(outcome) => Ok(outcome.stdout),
            Err(PowerError::Running { error, .. }) if error.kind() == ErrorKind::NotFound => {
                Err(PowerError::Missing { program: PROGRAM })
            }
            Err(PowerError::Hangs { limit, .. }) => Err(PowerError::Slow {
                bmc: self.name(),
                limit,
            }),
            Err(PowerError::Failed { said, .. }) => Err(PowerError::Refused {
                bmc: self.name(),
                said: self.login.redact(&said),
            }),
            Err(error) => Err(error),
        }
    }
}

impl crate::bmc::Bmc for Bmc<'_> {
    fn name(&self) -> String {
        self.ipmi.host.clone()
    }

    fn state(&self) -> Result<State, PowerError> {
        Ok(match self.chassis(&["power", "status"])?.trim() {
            "Chassis Power is on" => State::On,
            "Chassis Power is off" => State::Off,
            _ => State::Unknown,
        })
    }

    fn order(&self, order: Order) -> Result<(), PowerError> {
        let word = match order {
            Order::On => "on",
            Order::Off => "off",
            Order::Restart => "cycle",
        };
        self.chassis(&["power", word]).map(|_| ())
    }

    fn pxe(&self) -> Result<(), PowerError> {
        // Without "persistent": the boot after the next one is from the disk again (IPMI 2.0 28.13, parameter 5).
        let mut words = vec!["bootdev", "pxe"];
        if self.ipmi.efi == Some(true) {
            words.push("options=efiboot");
        }
        self.chassis(&words).map(|_| ())
    }
}
