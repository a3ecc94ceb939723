//! The jobs of a root.

use crate::host::Root;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use jiff::Timestamp;
use pitstop_jobs::Job;
use pitstop_server::jobs::{Chosen, Found, Store, Which, one as meant, settle};

/// The jobs that are there, brought to where the folders show them to be. Oldest first. Files that hold no job are warned of.
pub fn jobs(root: &Root) -> anyhow::Result<Vec<Job>> {
    let found = found(root)?;
    for wrong in &found.wrong {
        eprintln!("pitstop: warning: {wrong}");
    }
    Ok(found.jobs)
}

/// The same, and what is wrong with files that hold none.
pub fn found(root: &Root) -> anyhow::Result<Found> {
    let store = Store::at(&root.path);
    let hosts = root.hosts()?;
    let share = Dir::open_ambient_dir(root.path.join("share"), ambient_authority()).ok();
    if let Err(error) = settle(&store, &hosts, share.as_ref(), Timestamp::now()) {
        // A user who may look and not write still gets to look.
        eprintln!("pitstop: warning: jobs may be further than this shows: {error:#}");
    }
    store.all()
}

/// The one job that is meant.
pub fn one(root: &Root, which: &Which) -> anyhow::Result<Job> {
    let named = Chosen::new(&root.path, std::slice::from_ref(which))?;
    meant(jobs(root)?, &named)
}
