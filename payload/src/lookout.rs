//! The machine's disks, watched while the network comes up. A job that names no disk begins once none has come for a moment:
//! of a machine that is slow to get an address, that moment is over by then.

use pitstop_imaging::inventory::{Machine, names};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How often disks are looked for, here and by a job that waits for them.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Which block devices there are, and since when it is these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub(crate) devices: Vec<String>,
    pub(crate) since: Instant,
}

impl Seen {
    /// What is there now, as if it had come this moment.
    pub(crate) fn now(machine: &Machine) -> Self {
        Self {
            devices: block_devices(machine),
            since: Instant::now(),
        }
    }

    /// When the last of them came, or went.
    pub fn since(&self) -> Instant {
        self.since
    }

    pub(crate) fn look(&mut self, machine: &Machine) {
        let devices = block_devices(machine);
        if devices != self.devices {
            self.devices = devices;
            self.since = Instant::now();
        }
    }
}

/// Looks on for as long as this value lives.
#[derive(Debug, Clone)]
pub struct Lookout {
    seen: Arc<Mutex<Seen>>,
}

impl Lookout {
    pub fn begin(machine: &Machine) -> Self {
        let seen = Arc::new(Mutex::new(Seen::now(machine)));
        let (watched, machine) = (Arc::downgrade(&seen), machine.clone());
        thread::spawn(move || look_on(&watched, &machine));
        Self { seen }
    }

    /// Drivers are loaded now: disks may come from here on, as if none had been seen yet.
    pub fn anew(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.since = Instant::now();
    }

    pub fn seen(&self) -> Seen {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }
}

fn look_on(watched: &Weak<Mutex<Seen>>, machine: &Machine) {
    while let Some(seen) = watched.upgrade() {
        seen.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .look(machine);
        drop(seen);
        thread::sleep(LOOK_EVERY);
    }
}

/// The kernel's names alone: cheap, and partitions are not among them. Folders that cannot be read
/// show up as an error when the inventory is taken.
fn block_devices(machine: &Machine) -> Vec<String> {
    names(&machine.sysfs.join("block")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::inventory::fake::{FakeDisk, FakeMachine};

    #[test]
    fn a_disk_that_comes_is_seen_and_drivers_that_are_loaded_begin_the_wait_anew() {
        let fake = FakeMachine::new();
        fake.add(&FakeDisk::new("sda", 4096));
        let lookout = Lookout::begin(&fake.machine());
        let first = lookout.seen();
        assert_eq!(first.devices, ["sda"]);
        fake.add(&FakeDisk::new("sdb", 4096));
        let second = loop {
            let seen = lookout.seen();
            if seen.devices.len() == 2 {
                break seen;
            }
            thread::sleep(Duration::from_millis(5));
        };
        assert!(second.since > first.since);
        thread::sleep(LOOK_EVERY * 2);
        assert_eq!(lookout.seen(), second, "nothing has come since");
        lookout.anew();
        assert_eq!(lookout.seen().devices, second.devices);
        assert!(lookout.seen().since > second.since);
    }

    #[test]
    fn nobody_looks_on_for_a_value_that_is_gone() {
        let fake = FakeMachine::new();
        let lookout = Lookout::begin(&fake.machine());
        let watched = Arc::downgrade(&lookout.seen);
        drop(lookout);
        look_on(&watched, &fake.machine());
    }
}
