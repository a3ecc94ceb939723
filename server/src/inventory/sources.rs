//! What the index is made of beside the inventory's own files: the fleet file, the share and the runs.

use crate::runs::{Run, Runs, State};
use crate::site::Site;
use cap_std::fs::Dir;
use pitstop_fleet::Fleet;
use pitstop_inventory::{Named, RunRow};
use pitstop_protocol::id::Id;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Everything that is known of machines elsewhere.
pub struct Sources<'a> {
    pub(super) share: Option<&'a Dir>,
    pub(super) fleet: Vec<Named>,
    runs: Runs,
    root: &'a Path,
}

impl<'a> Sources<'a> {
    /// What the site knows of machines.
    pub(crate) fn of(site: &'a Site) -> Self {
        Self::new(site.runs.root(), Some(&site.share), &site.fleet.current())
    }

    pub fn new(root: &'a Path, share: Option<&'a Dir>, fleet: &Fleet) -> Self {
        Self {
            share,
            fleet: fleet
                .machines
                .iter()
                .map(|machine| Named {
                    name: machine.name.clone(),
                    groups: machine
                        .groups
                        .iter()
                        .filter_map(|group| Some(fleet.groups.get(*group)?.name.clone()))
                        .collect(),
                    macs: machine.macs.iter().map(ToString::to_string).collect(),
                    address: machine.ip.map(|ip| ip.to_string()).unwrap_or_default(),
                    uuid: machine
                        .uuid
                        .map(|uuid| uuid.to_string())
                        .unwrap_or_default(),
                    serial: machine.serial.clone().unwrap_or_default(),
                })
                .collect(),
            runs: Runs::below(root),
            root,
        }
    }

    /// Changes whenever a run is added or removed.
    pub(super) fn runs_stamp(&self) -> String {
        let folder = std::fs::metadata(self.root.join(crate::runs::FOLDER));
        folder.map_or_else(
            |_| String::new(),
            |it| format!("{}-{}.{}", it.ino(), it.mtime(), it.mtime_nsec()),
        )
    }

    /// Ascending.
    pub(super) fn run_ids(&self) -> io::Result<Vec<String>> {
        let ids = self.runs.ids()?;
        let mut ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// None where its time is not known, or it cannot be read.
    pub(super) fn run(&self, id: &Id) -> Option<RunRow> {
        row(&self.runs.read(id).ok()??)
    }
}

/// What a search may ask for of a run.
pub(super) fn row(run: &Run) -> Option<RunRow> {
    let summary = &run.summary;
    let when = summary.ended.as_ref().unwrap_or(&summary.began);
    Some(RunRow {
        id: summary.run.to_string(),
        machine: summary.machine.clone(),
        address: summary.address.clone(),
        mac: summary.mac.clone(),
        action: summary.action.clone(),
        result: match run.state {
            State::Running => "running",
            State::Ok => "ok",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Silent => "silent",
        }
        .to_owned(),
        reason: summary.reason.clone(),
        when: when.parse().ok()?,
        is_open: matches!(run.state, State::Running | State::Silent),
        from_log: false,
    })
}
