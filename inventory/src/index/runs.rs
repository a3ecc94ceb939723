//! Runs into the index.

use super::{Index, IndexError};
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};
use std::cmp::Ordering;

/// Runs that are put in at once: others get their turn in between.
const BATCH: usize = 5000;
/// Bytes of a reason that are kept.
const LONGEST_REASON: usize = 300;
const STAMP: &str = "runs";

/// What the index knows of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    pub id: String,
    /// What the machine is called; it may have no name.
    pub machine: String,
    pub address: String,
    pub mac: String,
    pub action: String,
    pub result: String,
    pub reason: String,
    /// When it ended, or began if it goes on.
    pub when: Timestamp,
    /// It goes on: what is known of it changes.
    pub is_open: bool,
    /// Known from a log alone: there is no file of it.
    pub from_log: bool,
}

impl Index {
    /// Takes in runs, or what is new of them. [`sync_machines`](Self::sync_machines) gives them to their machines.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn note_runs(&self, runs: &[RunRow]) -> Result<(), IndexError> {
        for batch in runs.chunks(BATCH) {
            self.with(|connection| {
                let change = connection.transaction()?;
                for run in batch {
                    put(&change, run)?;
                }
                change.commit()
            })?;
        }
        Ok(())
    }

    /// Brings the runs to those of `ids`, which ascend. Those that are not known yet are read by `read`; one that
    /// cannot be read is left out.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn sync_runs(
        &self,
        ids: &[String],
        read: impl Fn(&str) -> Option<RunRow>,
    ) -> Result<(), IndexError> {
        let (new, gone) = self.with(|connection| {
            let mut select =
                connection.prepare("SELECT id FROM run WHERE NOT from_log ORDER BY id")?;
            let mut there = select.query([])?;
            let (mut new, mut gone) = (Vec::new(), Vec::new());
            let mut ids = ids.iter().peekable();
            while let Some(row) = there.next()? {
                let known: String = row.get(0)?;
                while let Some(id) = ids.next_if(|id| **id < known) {
                    new.push(id);
                }
                match ids.peek().map(|id| id.as_str().cmp(&known)) {
                    Some(Ordering::Equal) => drop(ids.next()),
                    _ => gone.push(known),
                }
            }
            new.extend(ids);
            Ok((new, gone))
        })?;
        for batch in new.chunks(BATCH) {
            let rows: Vec<RunRow> = batch.iter().filter_map(|id| read(id)).collect();
            self.note_runs(&rows)?;
        }
        for batch in gone.chunks(BATCH) {
            self.with(|connection| {
                let change = connection.transaction()?;
                for id in batch {
                    change
                        .prepare_cached("DELETE FROM run WHERE id = ?")?
                        .execute([id])?;
                }
                change.commit()
            })?;
        }
        Ok(())
    }

    /// Runs that were going on when they were last looked at.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn open_runs(&self) -> Result<Vec<String>, IndexError> {
        self.with(|connection| {
            let mut select = connection.prepare_cached("SELECT id FROM run WHERE is_open")?;
            select.query_map([], |row| row.get(0))?.collect()
        })
    }

    /// What the folder of runs was like when all of them were taken in.
    ///
    /// # Errors
    /// `SQLite`'s.
    pub fn runs_stamp(&self) -> Result<Option<String>, IndexError> {
        self.with(|connection| {
            let mut select = connection.prepare_cached("SELECT value FROM note WHERE key = ?")?;
            select.query_row([STAMP], |row| row.get(0)).optional()
        })
    }

    /// # Errors
    /// `SQLite`'s.
    pub fn set_runs_stamp(&self, stamp: &str) -> Result<(), IndexError> {
        self.with(|connection| {
            let mut set = connection.prepare_cached("INSERT OR REPLACE INTO note VALUES (?, ?)")?;
            set.execute([STAMP, stamp]).map(drop)
        })
    }
}

fn put(change: &Transaction<'_>, run: &RunRow) -> rusqlite::Result<()> {
    let owner = [&run.mac, &run.address, &run.machine];
    let known: Option<i64> = change
        .prepare_cached("SELECT id FROM owner WHERE mac = ? AND address = ? AND name = ?")?
        .query_row(owner, |row| row.get(0))
        .optional()?;
    let owner = if let Some(id) = known {
        id
    } else {
        change
            .prepare_cached("INSERT INTO owner (mac, address, name) VALUES (?, ?, ?)")?
            .execute(owner)?;
        change.last_insert_rowid()
    };
    let reason = pitstop_protocol::event::shortened(&run.reason, LONGEST_REASON);
    change
        .prepare_cached("INSERT OR REPLACE INTO run VALUES (?,?,?,?,?,?,?,?)")?
        .execute(params![
            run.id,
            owner,
            run.when.as_second(),
            run.action,
            run.result,
            reason,
            run.is_open,
            run.from_log
        ])?;
    Ok(())
}
