//! Machines that have a job are brought to the network boot that begins it.

use super::target::{Lab, Meant, Who, meant};
use crate::machine::MachineName;
use anyhow::anyhow;
use pitstop_jobs::Power as Wanted;
use pitstop_power::{Act, Credentials, Power, PowerError, State, Switch, Target, each};
use std::path::Path;

/// The machines that are switched when their jobs are set. It is made before that: one that cannot be switched is found
/// while nothing has been written.
pub struct After {
    act: Option<Act>,
    switches: Vec<Switch>,
    credentials: Credentials,
}

impl After {
    pub fn nothing() -> Self {
        Self {
            act: None,
            switches: Vec::new(),
            credentials: Credentials::default(),
        }
    }

    /// `but`: the one that is left alone, as people know it.
    pub(super) fn new(
        root: &Path,
        machines: &[Who],
        but: Option<&str>,
        wanted: Option<Wanted>,
    ) -> anyhow::Result<Self> {
        let act = match wanted {
            None => return Ok(Self::nothing()),
            Some(Wanted::Cycle) => Act::Cycle,
            Some(Wanted::On) => Act::On,
        };
        let mut switches = switches(root, machines)?;
        switches.retain(|switch| Some(switch.target.name.as_str()) != but);
        let credentials = Credentials::read(root)?;
        for Switch { power, target } in &switches {
            power
                .check(act, target, &credentials)
                .map_err(|error| anyhow!("{}: {error}", target.name))?;
        }
        Ok(Self {
            act: Some(act),
            switches,
            credentials,
        })
    }

    pub fn switches(&self) -> &[Switch] {
        &self.switches
    }

    /// Has them boot from the network, and tells `done` of each as soon as it is, by its place.
    pub fn switch(&self, mut done: impl FnMut(usize, Act, Result<State, PowerError>)) {
        let Some(act) = self.act else {
            return;
        };
        each(
            &self.switches,
            |switch| switch.power.boot(act, &switch.target, &self.credentials),
            |at, result| done(at, act, result),
        );
    }
}

/// What switches the machines that are meant, each once.
///
/// # Errors
/// A word means no machine, or what the fleet file says of one makes no sense.
pub fn switches(root: &Path, machines: &[Who]) -> anyhow::Result<Vec<Switch>> {
    let lab = Lab::read(root)?;
    let mut found: Vec<Switch> = Vec::new();
    for who in machines {
        for meant in meant(&lab, who)? {
            let switch = match (meant, lab.fleet.as_ref()) {
                (Meant::Known(machine, _), Some(fleet)) => Switch {
                    power: fleet.power(machine).map_err(|what| anyhow!(what))?,
                    target: fleet.power_target(machine),
                },
                (Meant::Alone(name), _) => alone(&name),
                (Meant::Known(..), None) => continue,
            };
            if found
                .iter()
                .all(|other| other.target.name != switch.target.name)
            {
                found.push(switch);
            }
        }
    }
    Ok(found)
}

/// A machine of which nothing is known but its address: a card's can be woken.
fn alone(name: &MachineName) -> Switch {
    Switch {
        power: Power::default(),
        target: Target {
            name: name.to_string(),
            macs: name.to_string().parse().ok().into_iter().collect(),
            ip: name.address(),
            network: None,
        },
    }
}
