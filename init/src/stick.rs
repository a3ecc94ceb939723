//! What the machine booted from, and the share on a stick: brought up before the job, let go after it. A stick may ask what
//! is to be done.

use crate::console::{Consoles, boot_parameters};
use crate::menu::{self, Choice};
use crate::report::Report;
use crate::{data, medium};
use pitstop_imaging::event::Reporter;
use pitstop_imaging::inventory::{DATA, Machine};
use pitstop_payload::finish::Finish;
use pitstop_payload::stick::{self, Entry, Offer};
use pitstop_protocol::boot_parameters::Menu;
use pitstop_protocol::job::{After, CommandLine};
use pitstop_protocol::machine::Lease;
use std::path::Path;

/// What the stick has to say about the job.
pub enum Chosen {
    /// Nothing: the command line tells, as without a stick.
    AsBefore,
    Job {
        /// Names the host file, for the command line.
        parameter: String,
        how: Choosing,
    },
    /// No job, and why.
    Nothing(String),
}

/// How a job was come by.
#[derive(Debug, Default)]
pub struct Choosing {
    /// The machine has done it before.
    pub again: bool,
    /// It is not the machine's own, which would start by itself at the next boot.
    pub in_place_of_own: bool,
}

/// Mounts what the command line names, and asks what is to be done where that says nothing.
pub fn bring_up(machine: &Machine, lease: &Lease, consoles: &Consoles) -> anyhow::Result<Chosen> {
    let boot = boot_parameters();
    let volume = match &boot.data {
        Some(label) => Some(data::bring_up(machine, label, consoles)?),
        None => None,
    };
    let taken = volume.as_ref().map(|volume| volume.disk.as_str());
    if let Some(label) = &boot.medium {
        match medium::bring_up(machine, label, taken, consoles) {
            Ok(()) => {}
            // Everything is on the stick with the share.
            Err(error) if taken.is_some() => consoles.debug(format!("{error:#}")),
            Err(error) => return Err(error),
        }
    }
    if taken.is_none() || is_told(machine) {
        return Ok(Chosen::AsBefore);
    }
    let offer = stick::look(Path::new(DATA), machine, lease)?;
    let alive = || Report::Alive.send();
    Ok(match menu::choose(&offer, boot.menu, consoles, &alive) {
        Choice::Job { entry, again } => Chosen::Job {
            parameter: entry.parameter(),
            how: Choosing {
                again,
                in_place_of_own: own_waits(&offer, boot.menu, &entry),
            },
        },
        Choice::Nothing(why) => Chosen::Nothing(why),
    })
}

/// Whether the command line names a job, or cannot be understood, which the run tells.
fn is_told(machine: &Machine) -> bool {
    CommandLine::parse(&machine.command_line)
        .map_or(true, |line| line.host.is_some() || line.action.is_some())
}

/// Whether the machine's own job starts by itself when it boots again after the `chosen` one.
fn own_waits(offer: &Offer, menu: Menu, chosen: &Entry) -> bool {
    let own = offer.own.as_ref().filter(|_| offer.through.is_none());
    menu != Menu::Always && own.is_some_and(|own| own.path != chosen.path)
}

/// The end of a job that somebody chose in place of the machine's own: who only wanted to look at a machine does not want it
/// to be restored because it started again with the stick in it and nobody there.
pub fn hold(finish: &Finish, shells: bool, consoles: &Consoles) -> Finish {
    let held = finish.clone().without_reboot(shells);
    if held != *finish {
        consoles.info(
            "the machine does not start again: with the stick in it, it would do its own job"
                .into(),
        );
    }
    held
}

/// Lets go of the share's stick, unless somebody is to look at it.
pub fn release(finish: &Finish, consoles: &Consoles) {
    if boot_parameters().data.is_some() && finish.then != After::Rescue && finish.root.is_none() {
        data::release(consoles);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_payload::stick::{Through, What};
    use std::time::Duration;

    fn entry(path: &str) -> Entry {
        Entry {
            path: path.into(),
            title: String::new(),
            what: What::Wrong(String::new()),
        }
    }

    #[test]
    fn a_machine_whose_own_job_waits_does_not_start_again_after_another() {
        let (own, look) = (
            entry("/run/data/hosts/default.toml"),
            entry("/run/data/jobs/look.toml"),
        );
        let soon = Menu::For(Duration::from_secs(10));
        let offer = Offer {
            own: Some(own.clone()),
            ..Offer::default()
        };
        assert!(own_waits(&offer, soon, &look));
        assert!(!own_waits(&offer, soon, &own));
        assert!(!own_waits(&offer, Menu::Always, &look));
        assert!(!own_waits(&Offer::default(), soon, &look));
        let through = Offer {
            through: Some(Through {
                at: "noon".into(),
                is_sure: true,
            }),
            ..offer
        };
        assert!(!own_waits(&through, soon, &look));
    }
}
