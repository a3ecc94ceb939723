//! Disks appear late: controllers probe side by side and drives spin up. A job waits for what it needs.

use crate::plan::select::{SelectError, Selection};
use pitstop_imaging::inventory::{self, Inventory, Machine, names};
use std::thread;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long the set of disks must stay the same before "every fixed disk" means these.
const QUIET: Duration = Duration::from_millis(500);

/// How long a disk that is asked for may take to appear; spinning drives need 10 s and more.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Watches the disks of the machine from the beginning of a run.
pub struct Watch {
    began: Instant,
    patience: Duration,
    seen: Vec<String>,
    changed: Instant,
}

impl Watch {
    /// Takes the first look. What the run does until it needs the disks counts as waiting.
    pub fn new(machine: &Machine, patience: Duration) -> Self {
        let now = Instant::now();
        Self {
            began: now,
            patience,
            seen: block_devices(machine),
            changed: now,
        }
    }

    /// Waits until `select` is content with what is there and nothing new has appeared for a moment.
    ///
    /// # Errors
    /// What `select` says last, when patience ends or waiting cannot mend it.
    pub fn wait_for(
        &mut self,
        machine: &Machine,
        select: impl Fn(&Inventory) -> Result<Selection, SelectError>,
    ) -> anyhow::Result<(Inventory, Selection)> {
        loop {
            let seen = block_devices(machine);
            if seen != self.seen {
                self.seen = seen;
                self.changed = Instant::now();
            }
            let quiet = self.changed.elapsed() >= QUIET.min(self.patience);
            let patient = self.began.elapsed() < self.patience;
            let inventory = inventory::read(machine)?;
            match select(&inventory) {
                Ok(selection) if quiet => return Ok((inventory, selection)),
                Err(error) if !patient || (quiet && !error.may_pass()) => return Err(error.into()),
                Ok(_) | Err(_) => thread::sleep(LOOK_EVERY),
            }
        }
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
    use crate::plan::select::select;
    use pitstop_imaging::inventory::fake::{FakeDisk, FakeMachine};
    use pitstop_protocol::job::DiskSelector;

    #[test]
    fn a_disk_that_appears_late_is_waited_for() {
        let fake = FakeMachine::new();
        let machine = fake.machine();
        let mut watch = Watch::new(&machine, Duration::from_secs(10));
        let late = thread::spawn(move || {
            thread::sleep(Duration::from_millis(150));
            fake.add(&FakeDisk::new("sda", 4096));
            fake
        });
        let (_, selection) = watch
            .wait_for(&machine, |inventory| select(inventory, &[], None, true))
            .unwrap();
        assert_eq!(selection.disks[0].identity.device, "sda");
        late.join().unwrap();
    }

    #[test]
    fn patience_ends_with_what_is_missing() {
        let fake = FakeMachine::new();
        fake.add(&FakeDisk::new("sda", 4096));
        let machine = fake.machine();
        let mut watch = Watch::new(&machine, Duration::from_millis(100));
        let wanted = [DiskSelector::Name("sdb".into())];
        let error = watch
            .wait_for(&machine, |inventory| select(inventory, &wanted, None, true))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the disk sdb is not in this machine; seen: sda (4.0 KiB)"
        );
    }
}
