//! Machines whose jobs became due are brought to the network boot that begins them.

use crate::journal::Journal;
use anyhow::{anyhow, bail};
use pitstop_fleet::{Fleet, Mac};
use pitstop_jobs::{Job, Power as Wanted};
use pitstop_power::{Act, Credentials, Power, Switch, Target, each};
use std::path::Path;
use std::sync::Arc;
use std::thread;

/// Switches the machines of those of `due` that say so. A BMC may take minutes: a thread of its own waits for it, and the
/// journal is told how each went.
pub fn switch(due: Vec<Job>, fleet: Arc<Fleet>, root: &Path, journal: &Arc<Journal>) {
    let due: Vec<Job> = due.into_iter().filter(|job| job.power.is_some()).collect();
    if due.is_empty() {
        return;
    }
    let (root, journal) = (root.to_owned(), Arc::clone(journal));
    thread::spawn(move || {
        let credentials = match Credentials::read(&root) {
            Ok(credentials) => credentials,
            Err(error) => return journal.note(&format!("no machine is switched: {error}")),
        };
        for (wanted, act) in [(Wanted::Cycle, Act::Cycle), (Wanted::On, Act::On)] {
            let of_this = due.iter().filter(|job| job.power == Some(wanted));
            let mut switches = Vec::new();
            for job in of_this {
                match found(job, &fleet) {
                    Ok(switch) => switches.push(switch),
                    Err(error) => journal.note(&format!("{}: not switched: {error}", job.shown())),
                }
            }
            each(
                &switches,
                |one| one.power.boot(act, &one.target, &credentials),
                |at, result| {
                    let name = switches.get(at).map(|one| one.target.name.as_str());
                    let name = name.unwrap_or_default();
                    match result {
                        Ok(state) => {
                            journal.note(&format!("{name}: switched for its job: {state}"));
                        }
                        Err(error) => journal.note(&format!("{name}: not switched: {error}")),
                    }
                },
            );
        }
    });
}

/// How the machine of a job is switched: as the fleet file says, or, where it is known by its card alone, by waking that.
fn found(job: &Job, fleet: &Fleet) -> anyhow::Result<Switch> {
    let named = |name: &String| fleet.machines.iter().find(|machine| machine.name == *name);
    if let Some(machine) = job.name.as_ref().and_then(named) {
        return Ok(Switch {
            power: fleet.power(machine).map_err(|what| anyhow!(what))?,
            target: fleet.power_target(machine),
        });
    }
    let Ok(mac) = job.machine.parse::<Mac>() else {
        bail!("fleet.toml does not have it any more, and its job does not name its network card");
    };
    Ok(Switch {
        power: Power::default(),
        target: Target {
            name: job.machine.clone(),
            macs: vec![mac],
            ip: None,
            network: None,
        },
    })
}
