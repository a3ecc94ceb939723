//! Disks appear late: controllers probe side by side and drives spin up. A job waits for what it needs.

use crate::lookout::{LOOK_EVERY, Seen};
use crate::plan::matching::{is_of, same_disk};
use crate::plan::select::{SelectError, Selection};
use pitstop_imaging::inventory::{self, Disk, DiskIdentity, Inventory, Machine, Standing};
use std::thread;
use std::time::{Duration, Instant};

/// How long the set of disks must stay the same before "every fixed disk" means these.
const QUIET: Duration = Duration::from_millis(500);

/// How long a disk that is asked for may take to appear; spinning drives need 10 s and more.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Watches the disks of the machine from the beginning of a run.
pub struct Watch {
    began: Instant,
    patience: Duration,
    seen: Seen,
    /// What the last run on this machine knew.
    expected: Vec<DiskIdentity>,
    /// What was there when the plan was made, by every name.
    planned: Vec<DiskIdentity>,
}

impl Watch {
    /// Takes the first look. What the run does until it needs the disks counts as waiting.
    pub fn new(machine: &Machine, patience: Duration) -> Self {
        Self {
            began: Instant::now(),
            patience,
            seen: Seen::now(machine),
            expected: Vec::new(),
            planned: Vec::new(),
        }
    }

    /// Somebody has looked on before the run began: the disks that are there have been there since then.
    #[must_use]
    pub fn since(mut self, seen: Option<Seen>) -> Self {
        self.seen = seen.unwrap_or(self.seen);
        self
    }

    /// A job that names no disk waits for these as for disks that are named.
    pub fn expect(&mut self, disks: Vec<DiskIdentity>) {
        self.expected = disks;
    }

    /// Of the disks that were expected, those that are not in `inventory`.
    pub fn missing(&self, inventory: &Inventory) -> Vec<DiskIdentity> {
        let names = || inventory.disks.iter().chain(paths(inventory));
        let is_here = |known: &DiskIdentity| names().any(|disk| is_of(known, &disk.identity));
        let missing = self.expected.iter().filter(|known| !is_here(known));
        missing.cloned().collect()
    }

    /// Fixed disks that were not there when the plan was made.
    ///
    /// # Errors
    /// When the machine's disks cannot be read.
    pub fn late(&self, machine: &Machine) -> anyhow::Result<Vec<Disk>> {
        let is_new = |disk: &Disk| {
            let here = &disk.identity;
            self.planned.iter().all(|known| {
                let by_wwn = !known.wwn.is_empty() && same_disk(known, here).is_some();
                known.device != here.device && !by_wwn
            })
        };
        let mut disks = inventory::read(machine)?.disks;
        disks.retain(|disk| disk.unused == Standing::Fixed && is_new(disk));
        Ok(disks)
    }

    /// Waits until `select` is content with what is there and nothing new has appeared for a moment. `every_one` is
    /// of a job that names no disk: what the last run knew is waited for, too.
    ///
    /// # Errors
    /// What `select` says last, when patience ends or waiting cannot mend it.
    pub fn wait_for(
        &mut self,
        machine: &Machine,
        every_one: bool,
        select: impl Fn(&Inventory) -> Result<Selection, SelectError>,
    ) -> anyhow::Result<(Inventory, Selection)> {
        loop {
            self.seen.look(machine);
            let quiet = self.seen.since.elapsed() >= QUIET.min(self.patience);
            let patient = self.began.elapsed() < self.patience;
            let inventory = inventory::joined(machine, inventory::read(machine)?);
            let complete = !(every_one && patient) || self.missing(&inventory).is_empty();
            match select(&inventory) {
                Ok(selection) if quiet && complete => {
                    let there = inventory.disks.iter().chain(paths(&inventory));
                    self.planned = there.map(|disk| disk.identity.clone()).collect();
                    return Ok((inventory, selection));
                }
                Err(error) if !patient || (quiet && !error.may_pass()) => return Err(error.into()),
                Ok(_) | Err(_) => thread::sleep(LOOK_EVERY),
            }
        }
    }
}

fn paths(inventory: &Inventory) -> impl Iterator<Item = &Disk> {
    inventory.paths.iter().map(|(disk, _)| disk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::select::select;
    use pitstop_imaging::inventory::fake::{FakeDisk, FakeMachine};
    use pitstop_protocol::job::DiskSelector;

    /// Longer than a computer may let a thread wait that has much else to do.
    const LONG: Duration = Duration::from_secs(120);

    #[test]
    fn a_disk_that_appears_late_is_waited_for() {
        let fake = FakeMachine::new();
        let machine = fake.machine();
        let mut watch = Watch::new(&machine, LONG);
        let late = thread::spawn(move || {
            thread::sleep(Duration::from_millis(150));
            fake.add(&FakeDisk::new("sda", 4096));
            fake
        });
        let (_, selection) = watch
            .wait_for(&machine, true, |inventory| {
                select(inventory, &[], None, true)
            })
            .unwrap();
        assert_eq!(selection.disks[0].identity.device, "sda");
        late.join().unwrap();
    }

    #[test]
    fn disks_that_were_seen_before_the_run_have_been_quiet_since() {
        let fake = FakeMachine::new();
        fake.add(&FakeDisk::new("sda", 4096));
        let machine = fake.machine();
        let long_ago = Instant::now().checked_sub(QUIET * 2).unwrap();
        let seen = |devices: &[&str]| Seen {
            devices: devices.iter().map(ToString::to_string).collect(),
            since: long_ago,
        };
        let since = |seen: Seen| {
            let mut watch = Watch::new(&machine, LONG).since(Some(seen));
            let all = |inventory: &Inventory| select(inventory, &[], None, true);
            watch.wait_for(&machine, true, all).unwrap();
            watch.seen.since
        };
        assert_eq!(since(seen(&["sda"])), long_ago);
        assert!(since(seen(&[])).elapsed() >= QUIET, "sda has just come");
    }

    #[test]
    fn a_disk_that_the_last_run_knew_is_waited_for_where_none_is_named() {
        let fake = FakeMachine::new();
        fake.add(&FakeDisk::new("sda", 4096).serial("A"));
        let machine = fake.machine();
        fake.add(&FakeDisk::new("sdb", 4096).serial("B"));
        let known = inventory::read(&machine).unwrap().disks;
        fake.remove("sdb");
        let known: Vec<DiskIdentity> = known.into_iter().map(|disk| disk.identity).collect();
        let all = |inventory: &Inventory| select(inventory, &[], None, true);
        let mut watch = Watch::new(&machine, LONG);
        watch.expect(known.clone());
        let late = thread::spawn(move || {
            thread::sleep(Duration::from_millis(700));
            fake.add(&FakeDisk::new("sdb", 4096).serial("B"));
            fake
        });
        let (_, selection) = watch.wait_for(&machine, true, all).unwrap();
        assert_eq!(selection.disks.len(), 2);
        let fake = late.join().unwrap();

        fake.remove("sdb");
        let mut watch = Watch::new(&machine, Duration::from_millis(100));
        watch.expect(known);
        let (inventory, selection) = watch.wait_for(&machine, true, all).unwrap();
        assert_eq!(selection.disks.len(), 1);
        assert_eq!(watch.missing(&inventory)[0].serial, "B");
        assert!(watch.late(&machine).unwrap().is_empty());
        fake.add(&FakeDisk::new("sdc", 4096).serial("C"));
        assert_eq!(watch.late(&machine).unwrap()[0].identity.serial, "C");
    }

    #[test]
    fn patience_ends_with_what_is_missing() {
        let fake = FakeMachine::new();
        fake.add(&FakeDisk::new("sda", 4096));
        let machine = fake.machine();
        let mut watch = Watch::new(&machine, Duration::from_millis(100));
        let wanted = [DiskSelector::Name("sdb".into())];
        let error = watch
            .wait_for(&machine, true, |inventory| {
                select(inventory, &wanted, None, true)
            })
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the disk sdb is not in this machine; seen: sda (4.0 KiB)"
        );
    }
}
