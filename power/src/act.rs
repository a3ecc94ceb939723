//! What is done to a machine, and whether it came true: a BMC's word is not taken for it.

use crate::credentials::Credentials;
use crate::ipmi::Bmc as IpmiBmc;
use crate::redfish::Bmc as RedfishBmc;
use crate::setting::Power;
use crate::wol;
use ipnet::IpNet;
use pitstop_protocol::host_name::{Mac, printable};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

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

/// Why a machine was not switched.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    #[error("{what} cannot do {act}: {why}")]
    Cannot {
        what: String,
        act: Act,
        why: &'static str,
    },
    #[error("{name} has no {what} in fleet.toml, and its power needs one")]
    Lacks { name: String, what: &'static str },
    #[error("sending a magic packet for {name}: {error}")]
    Wake {
        name: String,
        #[source]
        error: std::io::Error,
    },
    #[error("nothing says user and password for {bmc}: write them into {}", file.display())]
    NoLogin { bmc: String, file: PathBuf },
    #[error("{bmc} does not take the user or the password of {}", file.display())]
    Login { bmc: String, file: PathBuf },
    #[error(
        "nobody this computer trusts has signed the certificate of {bmc}. If it is the right one, write \
         fingerprint = \"{fingerprint}\" for it into {}; insecure = true takes any",
        file.display()
    )]
    Certificate {
        bmc: String,
        fingerprint: String,
        file: PathBuf,
    },
    #[error(
        "{bmc} has another certificate than {} says: {fingerprint}. Somebody may stand between; if it was renewed, \
         change the fingerprint",
        file.display()
    )]
    OtherCertificate {
        bmc: String,
        fingerprint: String,
        file: PathBuf,
    },
    #[error("{bmc} did not answer within {limit:?}")]
    Slow { bmc: String, limit: Duration },
    #[error("{bmc} cannot be asked: {why}")]
    Reach { bmc: String, why: String },
    #[error("{bmc} refused: {said}")]
    Refused { bmc: String, said: String },
    #[error("{bmc} does not answer as Redfish does: {why}")]
    Nonsense { bmc: String, why: String },
    #[error("{bmc} offers no way to do {order}: it has {offered}")]
    NotOffered {
        bmc: String,
        order: &'static str,
        offered: String,
    },
    #[error(
        "{bmc} took the order, but {limit:?} later the machine is still not {wanted}: it is {state}"
    )]
    Stays {
        bmc: String,
        wanted: State,
        state: State,
        limit: Duration,
    },
    #[error("{bmc} took the order to boot from the network once, and still says {says}")]
    NoPxe { bmc: String, says: String },
    #[error("{program} is not installed here: apt-get install {program}")]
    Missing { program: &'static str },
    #[error("running {program}: {error}")]
    Running {
        program: String,
        #[source]
        error: std::io::Error,
    },
    #[error("{program} did not end within {limit:?}, and was stopped")]
    Hangs { program: String, limit: Duration },
    #[error("{program} failed with {status}: {said}")]
    Failed {
        program: String,
        status: String,
        said: String,
    },
}

impl PowerError {
    /// Whether the next question may be answered: a BMC that switches its machine is busy.
    fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Slow { .. }
                | Self::Reach { .. }
                | Self::Refused { .. }
                | Self::Hangs { .. }
                | Self::Failed { .. }
        )
    }
}

/// What somebody else said, as a line of an error.
pub(crate) fn one_line(text: &str) -> String {
    const MOST: usize = 300;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join("; ");
    if line.is_empty() {
        return "it says nothing".into();
    }
    let shown: String = printable(&line).chars().take(MOST).collect();
    if shown.len() < line.len() {
        shown + "…"
    } else {
        shown
    }
}

/// What a BMC is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    On,
    Off,
    /// Where it cannot be switched off and on by itself.
    Restart,
}

impl Order {
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Restart => "cycle",
        }
    }
}

/// Something beside the machine that switches it and is asked about it.
pub(crate) trait Bmc {
    fn name(&self) -> String;
    fn state(&self) -> Result<State, PowerError>;
    fn order(&self, order: Order) -> Result<(), PowerError>;
    /// The next boot, and no later one, is from the network.
    fn pxe(&self) -> Result<(), PowerError>;
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

fn drive(bmc: &dyn Bmc, act: Act, limits: &Limits) -> Result<State, PowerError> {
    match act {
        Act::Status => bmc.state(),
        Act::Pxe => {
            bmc.pxe()?;
            bmc.state()
        }
        Act::On => switch(bmc, State::On, limits),
        Act::Off => switch(bmc, State::Off, limits),
        Act::Cycle => cycle(bmc, limits, &|| Ok(())),
    }
}

fn boot(bmc: &dyn Bmc, act: Act, limits: &Limits) -> Result<State, PowerError> {
    bmc.pxe()?;
    match act {
        // IPMI forgets it after a minute without a boot (2.0 28.12), and switching off may take as long.
        Act::Cycle => cycle(bmc, limits, &|| bmc.pxe()),
        act => drive(bmc, act, limits),
    }
}

/// Off, `between`, and on.
fn cycle(
    bmc: &dyn Bmc,
    limits: &Limits,
    between: &dyn Fn() -> Result<(), PowerError>,
) -> Result<State, PowerError> {
    if bmc.state()? == State::Off {
        return switch(bmc, State::On, limits);
    }
    // One order for both would leave nothing to see: was it ever off?
    match bmc.order(Order::Off) {
        Ok(()) => {
            wait(bmc, State::Off, limits)?;
            // A machine that was switched off is switched on again, whatever else fails.
            let between = between();
            let state = switch(bmc, State::On, limits)?;
            between.map(|()| state)
        }
        Err(PowerError::NotOffered { .. }) => {
            bmc.order(Order::Restart)?;
            wait(bmc, State::On, limits)
        }
        Err(error) => Err(error),
    }
}

fn switch(bmc: &dyn Bmc, wanted: State, limits: &Limits) -> Result<State, PowerError> {
    if bmc.state()? == wanted {
        return Ok(wanted);
    }
    let order = if wanted == State::On {
        Order::On
    } else {
        Order::Off
    };
    bmc.order(order)?;
    wait(bmc, wanted, limits)
}

/// Asks until it is so.
fn wait(bmc: &dyn Bmc, wanted: State, limits: &Limits) -> Result<State, PowerError> {
    let began = Instant::now();
    loop {
        let state = bmc.state();
        let late = began.elapsed() > limits.settle;
        match state {
            Ok(state) if state == wanted => return Ok(state),
            Ok(state) if late => {
                return Err(PowerError::Stays {
                    bmc: bmc.name(),
                    wanted,
                    state,
                    limit: limits.settle,
                });
            }
            Err(error) if late || !error.may_pass() => return Err(error),
            Ok(_) | Err(_) => thread::sleep(limits.pause),
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

    #[test]
    fn words_of_others_are_one_short_line() {
        assert_eq!(one_line(" \n\n"), "it says nothing");
        assert_eq!(one_line(" a\n\nb \u{1b}[2J"), "a; b \\u{1b}[2J");
        assert!(one_line(&"x".repeat(4000)).len() < 400);
    }
}
