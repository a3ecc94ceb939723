//! Machines and the fleet file, compared with how they were a moment ago: whoever looks hears what changed.

use super::machines::machines;
use crate::site::Site;
use pitstop_api::{Event, Machine};
use pitstop_fleet::Fleet;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What whoever looks was told.
#[derive(Default)]
pub struct Watch(Mutex<Told>);

#[derive(Default)]
struct Told {
    /// `None` while nobody looks.
    machines: Option<HashMap<String, Machine>>,
    fleet: Option<(Arc<Fleet>, bool)>,
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Told> {
        // Whoever panicked while it held this left whole values.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks once, and tells what changed since the last time.
    pub fn look(&self, site: &Site) {
        if !site.events.is_heard() {
            self.lock().machines = None;
            return;
        }
        let fleet = (site.fleet.current(), site.fleet.wrong().is_some());
        // What cannot be read is told by who asks for it.
        let Ok(now) = machines(site) else {
            return;
        };
        let now: HashMap<String, Machine> = now
            .into_iter()
            .map(|machine| (machine.id.clone(), machine))
            .collect();
        let mut told = self.lock();
        let same =
            |(file, wrong): &(Arc<Fleet>, bool)| Arc::ptr_eq(file, &fleet.0) && *wrong == fleet.1;
        if told.fleet.as_ref().is_some_and(|before| !same(before)) {
            site.events.tell(&Event::Fleet);
        }
        told.fleet = Some(fleet);
        if let Some(before) = &told.machines {
            for (id, machine) in &now {
                if before.get(id).map(lasting) != Some(lasting(machine)) {
                    site.events.tell(&Event::Machine(Box::new(machine.clone())));
                }
            }
        }
        told.machines = Some(now);
    }
}

/// A machine without what changes each second: that comes by its run's lines.
fn lasting(machine: &Machine) -> Machine {
    Machine {
        progress: None,
        seen: None,
        ..machine.clone()
    }
}
