//! Questions to the inventory.

use super::{Inventory, Sources, is_damage};
use anyhow::Context;
use jiff::Timestamp;
use pitstop_api::inventory::{
    Facts, InventoryDiff, InventoryList, InventoryStep, MachineInventory,
};
use pitstop_inventory::{Hit, Query, diff};

/// A name that means no machine, or several.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotKnown {
    #[error("no machine is called {0}: give a name, an address, a MAC, a UUID or a serial number")]
    Nobody(String),
    #[error("{0} is the name of {1} machines: give a MAC or a UUID")]
    Several(String, usize),
    #[error("{0} has never said what it is: set it the action refresh-info")]
    NoFacts(String),
}

impl Inventory {
    /// The machines that a search is about; `text` is how it was written.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn search(
        &self,
        sources: &Sources<'_>,
        text: &str,
        query: &Query,
    ) -> anyhow::Result<InventoryList> {
        self.asked(sources, |index| {
            Ok(InventoryList {
                query: text.to_owned(),
                known: index.count()?,
                machines: index.search(query, Timestamp::now())?,
            })
        })
    }

    /// All that is known of one machine.
    ///
    /// # Errors
    /// [`NotKnown`], or the files cannot be read.
    pub fn machine(&self, sources: &Sources<'_>, name: &str) -> anyhow::Result<MachineInventory> {
        let Hit { folder, row } = self.named(sources, name)?;
        let mut machine = MachineInventory {
            name: row.name,
            groups: row.groups,
            last: row.last,
            ..MachineInventory::default()
        };
        if folder.is_empty() {
            return Ok(machine);
        }
        machine.history = steps(&self.copies(&folder)?);
        machine.facts = self.latest(&folder)?;
        machine.notes = self.store.notes(&folder).context("reading the inventory")?;
        machine.folder = folder;
        Ok(machine)
    }

    /// What changed of a machine since a time; without one, since it was first seen.
    ///
    /// # Errors
    /// [`NotKnown`], or the files cannot be read.
    pub fn changes(
        &self,
        sources: &Sources<'_>,
        name: &str,
        since: Option<Timestamp>,
    ) -> anyhow::Result<InventoryDiff> {
        let Hit { folder, row } = self.named(sources, name)?;
        let copies = self.copies(&folder)?;
        let before = since.and_then(|since| copies.iter().rev().find(|(time, _)| *time <= since));
        let from = before.or(copies.first());
        let now = self.latest(&folder)?;
        let (Some((from, old)), Some(now)) = (from, now) else {
            return Err(NotKnown::NoFacts(row.name).into());
        };
        Ok(InventoryDiff {
            name: row.name,
            from: from.to_string(),
            to: now.taken.clone(),
            changes: diff(old, &now),
        })
    }

    fn named(&self, sources: &Sources<'_>, name: &str) -> anyhow::Result<Hit> {
        let mut found = self.asked(sources, |index| Ok(index.named(name)?))?;
        match (found.pop(), found.len()) {
            (Some(hit), 0) => Ok(hit),
            (None, _) => Err(NotKnown::Nobody(name.to_owned()).into()),
            (Some(_), more) => Err(NotKnown::Several(name.to_owned(), more + 1).into()),
        }
    }

    /// Asks the index, once more where it was damaged.
    fn asked<T>(
        &self,
        sources: &Sources<'_>,
        ask: impl Fn(&pitstop_inventory::Index) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.catch_up(sources)?;
        let index = self.index()?;
        match ask(&index) {
            Err(error) if is_damage(&error) => {
                self.made_anew(sources)?;
                ask(&index)
            }
            asked => asked,
        }
    }

    fn copies(&self, folder: &str) -> anyhow::Result<Vec<(Timestamp, Facts)>> {
        if folder.is_empty() {
            return Ok(Vec::new());
        }
        self.store
            .history(folder)
            .with_context(|| format!("reading {}", self.store.folder().join(folder).display()))
    }

    fn latest(&self, folder: &str) -> anyhow::Result<Option<Facts>> {
        let known = self.machines()?.into_iter();
        let mut own = known.filter(|known| known.folder == folder);
        Ok(own.next().map(|known| known.facts))
    }
}

/// The newest first.
fn steps(copies: &[(Timestamp, Facts)]) -> Vec<InventoryStep> {
    let changes = copies.iter().enumerate().map(|(at, (time, facts))| {
        let before = at.checked_sub(1).and_then(|before| copies.get(before));
        InventoryStep {
            time: time.to_string(),
            changes: before.map(|(_, old)| diff(old, facts)).unwrap_or_default(),
        }
    });
    let mut steps: Vec<InventoryStep> = changes.collect();
    steps.reverse();
    steps
}
