//! Withdrawing jobs, and setting them again.

use super::which::jobs;
use crate::fleet::FleetFile;
use crate::host::{Root, say, who};
use pitstop_server::jobs::{self as job, Cancelled, Chosen, Store, Which};
use std::sync::Arc;

pub fn cancel(root: &Root, which: &[Which]) -> anyhow::Result<()> {
    let hosts = root.hosts()?;
    let named = Chosen::new(&root.path, which)?;
    let store = Store::at(&root.path);
    let cancelled = job::cancel(&store, &hosts, jobs(root)?, &named, &who())?;
    say(&cancelled.iter().map(Cancelled::told).collect::<String>())
}

pub fn retry(root: &Root, which: &[Which]) -> anyhow::Result<()> {
    let hosts = root.hosts()?;
    let named = Chosen::new(&root.path, which)?;
    let store = Store::at(&root.path);
    let fleet = FleetFile::at(root).read_if_there();
    let fleet = fleet.map(|fleet| Arc::new(fleet.unwrap_or_default()));
    let all = jobs(root)?;
    job::retry(&store, &hosts, fleet, all, &named, &who(), |next| {
        say(&job::set_again(next))
    })
}
