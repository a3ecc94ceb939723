//! Withdrawing jobs, and setting them again.

use super::which::jobs;
use crate::host::{Root, say, who};
use pitstop_server::jobs::{self as job, Cancelled, Chosen, Store, Which};

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
    job::retry(&store, &hosts, jobs(root)?, &named, &who(), |next| {
        say(&job::set_again(next))
    })
}
