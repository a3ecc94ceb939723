//! `host set --power`: machines that have a job are brought to the network boot that begins it.

use super::{failures, say, switches, work};
use crate::host::Root;
use crate::host::target::Who;
use anyhow::anyhow;
use pitstop_power::{Act, Credentials, Switch};

/// What `--power` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Order {
    /// Off and on, at once: what runs on them ends as by the button
    Cycle,
    /// On, if they are off
    On,
    /// Not at all: they begin at their next network boot
    #[default]
    None,
}

impl Order {
    /// The same in the file of a job that is not due yet.
    pub fn of_job(self) -> Option<pitstop_jobs::Power> {
        match self {
            Self::Cycle => Some(pitstop_jobs::Power::Cycle),
            Self::On => Some(pitstop_jobs::Power::On),
            Self::None => None,
        }
    }

    fn act(self) -> Option<Act> {
        match self {
            Self::Cycle => Some(Act::Cycle),
            Self::On => Some(Act::On),
            Self::None => None,
        }
    }
}

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

    pub fn new(root: &Root, machines: &[Who], order: Order) -> anyhow::Result<Self> {
        let Some(act) = order.act() else {
            return Ok(Self::nothing());
        };
        let switches = switches(root, machines)?;
        let credentials = Credentials::read(&root.path)?;
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

    /// Has them boot from the network, a line for each.
    pub fn switch(&self) -> anyhow::Result<()> {
        let Some(act) = self.act else {
            return Ok(());
        };
        let failed = work(
            &self.switches,
            |switch| switch.power.boot(act, &switch.target, &self.credentials),
            |_, switch, result| match result {
                Ok(state) => say(&format!(
                    "{}  {}\n",
                    switch.target.name,
                    super::told(act, *state)
                )),
                Err(error) => {
                    eprintln!("pitstop: {}: {error}", switch.target.name);
                    Ok(())
                }
            },
        )?;
        failures(&failed, self.switches.len())
            .map_err(|error| error.context("the jobs are set, but not every machine is switched"))
    }
}
