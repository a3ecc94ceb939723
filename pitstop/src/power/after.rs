//! `host set --power`: machines that have a job are brought to the network boot that begins it.

use super::{failures, say};
use pitstop_server::set::After;

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
}

/// Has the machines of jobs that were set boot from the network, a line for each.
pub fn switch(after: &After) -> anyhow::Result<()> {
    let switches = after.switches();
    let mut failed = Vec::new();
    let mut told = Ok(());
    after.switch(|at, act, result| {
        let Some(switch) = switches.get(at) else {
            return;
        };
        let name = &switch.target.name;
        match result {
            // Who does not listen any more has machines switched all the same.
            Ok(state) if told.is_ok() => {
                told = say(&format!("{name}  {}\n", super::told(act, state)));
            }
            Ok(_) => {}
            Err(error) => {
                eprintln!("pitstop: {name}: {error}");
                failed.push(name.clone());
            }
        }
    });
    told?;
    failed.sort();
    failures(&failed, switches.len())
        .map_err(|error| error.context("the jobs are set, but not every machine is switched"))
}
