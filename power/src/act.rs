//! What is done to a machine, by whatever switches it.

use crate::bmc::{boot, drive};
use crate::credentials::Credentials;
use crate::error::PowerError;
use crate::ipmi::Bmc as IpmiBmc;
use crate::redfish::Bmc as RedfishBmc;
use crate::setting::Power;
use crate::wol;
use ipnet::IpNet;
use pitstop_protocol::host_name::Mac;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// What may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    On,
    Off,
    /// Off, then on; of a machine that is off, on.
    Cycle,
    Status,
    /// Its next boot, and no later one, is from the network.
    Pxe,
}

impl Act {
    pub const ALL: [Self; 5] = [Self::On, Self::Off, Self::Cycle, Self::Status, Self::Pxe];

    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Cycle => "cycle",
            Self::Status => "status",
            Self::Pxe => "pxe",
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Act {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|act| act.name() == text);
        found.ok_or_else(|| {
            format!(
                "{text:?}: there are {}",
                Self::ALL.map(Self::name).join(", ")
            )
        })
    }
}

/// Whether a machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    On,
    Off,
    /// Nothing tells, or it is between the two.
    Unknown,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The machine that is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    pub name: String,
    pub macs: Vec<Mac>,
    pub ip: Option<IpAddr>,
    /// The network it is in: a magic packet goes to its broadcast address.
    pub network: Option<IpNet>,
}

/// How long things may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// One question to a BMC, with its answer.
    pub call: Duration,
    /// Until an order has come true; also how long a command of the admin's may run.
    pub settle: Duration,
    /// Between two questions whether it has.
    pub pause: Duration,
}

impl Default for Limits {
    /// Some BMCs take ten seconds for an answer, and some machines half a minute to switch off.
    fn default() -> Self {
        Self {
            call: Duration::from_secs(20),
            settle: Duration::from_secs(60),
            pause: Duration::from_secs(1),
        }
    }
}

impl Power {
    /// Does `act` to the machine, and waits until it has come true. What a magic packet did nobody can ask.
    ///
    /// # Errors
    /// It cannot be done, or did not come true.
    pub fn act(
        &self,
        act: Act,
        target: &Target,
        credentials: &Credentials,
    ) -> Result<State, PowerError> {
        self.act_within(act, target, credentials, &Limits::default())
    }

    /// [`act`](Self::act) with other limits.
    ///
    /// # Errors
    /// As there.
    pub fn act_within(
        &self,
        act: Act,
        target: &Target,
        credentials: &Credentials,
        limits: &Limits,
    ) -> Result<State, PowerError> {
        self.can(act)?;
        match self {
            Self::None => Ok(State::Unknown),
            Self::Wol => wol::wake(target).map(|()| State::Unknown),
            Self::Command(words) => words.act(act, target, limits),
            Self::Ipmi(ipmi) => drive(&IpmiBmc::new(ipmi, credentials, limits)?, act, limits),
            Self::Redfish(redfish) => drive(
                &RedfishBmc::open(redfish, credentials, limits)?,
                act,
                limits,
            ),
        }
    }

    /// Switches the machine so that it boots from the network: by `Act::Cycle` or `Act::On`. Where nothing can tell it to,
    /// its own boot order decides.
    ///
    /// # Errors
    /// As [`act`](Self::act). A machine that cannot be told to boot from the network is not switched off.
    pub fn boot(
        &self,
        act: Act,
        target: &Target,
        credentials: &Credentials,
    ) -> Result<State, PowerError> {
        self.boot_within(act, target, credentials, &Limits::default())
    }

    /// [`boot`](Self::boot) with other limits.
    ///
    /// # Errors
    /// As there.
    pub fn boot_within(
        &self,
        act: Act,
        target: &Target,
        credentials: &Credentials,
        limits: &Limits,
    ) -> Result<State, PowerError> {
        self.can(act)?;
        match self {
            Self::Ipmi(ipmi) => boot(&IpmiBmc::new(ipmi, credentials, limits)?, act, limits),
            Self::Redfish(redfish) => boot(
                &RedfishBmc::open(redfish, credentials, limits)?,
                act,
                limits,
            ),
            Self::None | Self::Wol | Self::Command(_) => {
                if self.can(Act::Pxe).is_ok() {
                    self.act_within(Act::Pxe, target, credentials, limits)?;
                }
                self.act_within(act, target, credentials, limits)
            }
        }
    }

    /// Whether `act` can be tried on this machine with these credentials, without asking anybody.
    ///
    /// # Errors
    /// Why not.
    pub fn check(
        &self,
        act: Act,
        target: &Target,
        credentials: &Credentials,
    ) -> Result<(), PowerError> {
        self.can(act)?;
        match self {
            Self::Wol => wol::check(target),
            Self::Command(words) => words.check(act, target),
            Self::Ipmi(ipmi) => IpmiBmc::new(ipmi, credentials, &Limits::default()).map(|_| ()),
            Self::None | Self::Redfish(_) => Ok(()),
        }
    }

    /// Whether there is any way to do it, before anything is done.
    ///
    /// # Errors
    /// Why not.
    pub fn can(&self, act: Act) -> Result<(), PowerError> {
        let cannot = |why| {
            Err(PowerError::Cannot {
                what: match self {
                    Self::Wol => "Wake-on-LAN".into(),
                    _ => "power = \"none\"".into(),
                },
                act,
                why,
            })
        };
        match (self, act) {
            (Self::None, _) => cannot("this machine is switched by hand"),
            (Self::Wol, Act::Off | Act::Cycle) => cannot(
                "it only wakes. A BMC could: set power to ipmi:// or redfish:// in fleet.toml",
            ),
            (Self::Wol, Act::Status) => cannot("a magic packet has no answer"),
            (Self::Wol, Act::Pxe) => cannot("what it boots is up to the machine's own boot order"),
            (Self::Command(words), act) => words.can(act),
            (Self::Wol | Self::Ipmi(_) | Self::Redfish(_), _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_done_is_told_before_anything_is() {
        let credentials = Credentials::default();
        let target = Target {
            name: "a".into(),
            ..Target::default()
        };
        for (act, why) in [
            (Act::Off, "Wake-on-LAN cannot do off: it only wakes"),
            (Act::Cycle, "Wake-on-LAN cannot do cycle: it only wakes"),
            (Act::Status, "has no answer"),
            (Act::Pxe, "boot order"),
            (Act::On, "a has no mac in fleet.toml"),
        ] {
            let error = Power::Wol.act(act, &target, &credentials).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        let error = Power::None.act(Act::On, &target, &credentials).unwrap_err();
        assert!(error.to_string().contains("by hand"), "{error}");
    }

    #[test]
    fn acts_are_read_as_they_are_written() {
        for act in Act::ALL {
            assert_eq!(act.name().parse(), Ok(act));
        }
        assert_eq!(
            "reset".parse::<Act>(),
            Err("\"reset\": there are on, off, cycle, status, pxe".into())
        );
    }
}
