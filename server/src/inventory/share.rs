//! Machines that do not report: their `inventory.json` and their logs on the share.

use super::sources::row;
use super::{Inventory, locked};
use crate::runs::last_of_log;
use anyhow::Context;
use cap_std::fs::{Dir, MetadataExt};
use jiff::{SignedDuration, Timestamp};
use pitstop_inventory::{Index, RunRow};
use pitstop_protocol::facts::{FILE, Facts, LARGEST};
use std::collections::HashMap;
use std::io::Read;

/// A result in a log and a report are of one run if they are no farther apart.
const APART: SignedDuration = SignedDuration::from_mins(5);
const LOG: &str = "maintenance.log";

/// What changes with a file.
type Stamp = (u64, i64, i64, u64);

/// Files that were looked at, by folder.
#[derive(Default)]
pub(super) struct Seen {
    facts: HashMap<String, Stamp>,
    logs: HashMap<String, Stamp>,
}

impl Seen {
    /// The index has lost what they said.
    pub(super) fn forget_logs(&mut self) {
        self.logs.clear();
    }
}

impl Inventory {
    /// Takes in each machine's file that has changed since it was looked at. One that is wrong is passed over until it changes.
    pub(super) fn take_from_share(&self, share: &Dir) -> anyhow::Result<()> {
        for folder in folders(share)? {
            let path = format!("{folder}/{FILE}");
            let Some(stamp) = stamp(share, &path) else {
                continue;
            };
            let before = locked(&self.seen).facts.insert(folder, stamp);
            if before == Some(stamp) {
                continue;
            }
            if let Some(facts) = read(share, &path) {
                self.take(facts)?;
            }
        }
        Ok(())
    }

    /// The last run of each machine whose log has changed, unless it was reported. Whether there was one.
    pub(super) fn runs_of_logs(&self, index: &Index, share: &Dir) -> anyhow::Result<bool> {
        let mut rows = Vec::new();
        for folder in folders(share)? {
            let Some(stamp) = stamp(share, &format!("{folder}/{LOG}")) else {
                continue;
            };
            let before = locked(&self.seen).logs.insert(folder.clone(), stamp);
            if before == Some(stamp) {
                continue;
            }
            let told = last_of_log(share, &folder).and_then(|run| row(&run));
            if let Some(told) = told
                && !is_known(index, &told)?
            {
                rows.push(RunRow {
                    from_log: true,
                    ..told
                });
            }
        }
        index.note_runs(&rows)?;
        Ok(!rows.is_empty())
    }
}

/// Whether the machine has reported this run, or a later one.
fn is_known(index: &Index, told: &RunRow) -> anyhow::Result<bool> {
    let near = |hit: &pitstop_inventory::Hit| {
        let last = hit.row.last.as_ref();
        let when: Option<Timestamp> = last.and_then(|last| last.when.parse().ok());
        when.is_some_and(|when| told.when.duration_since(when) <= APART)
    };
    Ok(index.named(&told.address)?.iter().any(near))
}

fn folders(share: &Dir) -> anyhow::Result<Vec<String>> {
    let mut folders = Vec::new();
    for entry in share.entries().context("listing the share")? {
        let entry = entry.context("listing the share")?;
        let is_folder = entry.file_type().is_ok_and(|kind| !kind.is_file());
        if let (true, Ok(name)) = (is_folder, entry.file_name().into_string()) {
            folders.push(name);
        }
    }
    Ok(folders)
}

fn stamp(share: &Dir, path: &str) -> Option<Stamp> {
    let file = share.metadata(path).ok()?;
    Some((file.ino(), file.mtime(), file.mtime_nsec(), file.size()))
}

fn read(share: &Dir, path: &str) -> Option<Facts> {
    let mut bytes = Vec::new();
    let file = share.open(path).ok()?;
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes).ok()?;
    Facts::parse(&bytes).ok()
}
