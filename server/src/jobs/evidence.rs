//! What the folders tell of jobs: host files that are gone, and the logs that machines leave on the share.

use super::store::Store;
use cap_std::fs::Dir;
use jiff::Timestamp;
use pitstop_jobs::{Effect, Evidence, Job, trace};
use std::io::{Read, Seek, SeekFrom};

/// In a machine's folder on the share, as the payload names them.
const LOG: &str = "maintenance.log";
const ATTEMPTS: &str = "attempts.toml";

/// The end of a log that is looked at: the last run is in it.
const TAIL: u64 = 256 << 10;

/// Brings the jobs to where the folders show them to be. Returns those that changed.
pub fn settle(
    store: &Store,
    hosts: &Dir,
    share: Option<&Dir>,
    now: Timestamp,
) -> anyhow::Result<Vec<Job>> {
    let news = |job: &Job| job.seen(&look(job, hosts, share));
    let all = store.all()?.jobs;
    let moved: Vec<_> = all.into_iter().filter(|job| news(job).is_some()).collect();
    if moved.is_empty() {
        return Ok(Vec::new());
    }
    let locked = store.lock()?;
    let mut changed = Vec::new();
    for job in moved {
        // A job that is being set has its host file a moment later: under the lock it is there.
        let Some(job) = locked.read(&job.id)? else {
            continue;
        };
        if let Some(what) = news(&job)
            && let Some((job, effect)) = locked.change(&job.id, &what, now)?
            && effect != Effect::None
        {
            changed.push(job);
        }
    }
    Ok(changed)
}

/// What lies in the folders about one job.
pub fn look(job: &Job, hosts: &Dir, share: Option<&Dir>) -> Evidence {
    let folder = job.folder.as_deref().zip(share);
    let log = folder.and_then(|(folder, share)| tail(share, &format!("{folder}/{LOG}")));
    Evidence {
        is_set: hosts.is_file(&job.host_file),
        trace: trace(&log.unwrap_or_default(), job.action.as_str(), job.set),
        is_counted: folder
            .is_some_and(|(folder, share)| share.is_file(format!("{folder}/{ATTEMPTS}"))),
    }
}

/// A log that is not there, or cannot be read, tells nothing.
fn tail(share: &Dir, path: &str) -> Option<String> {
    let mut file = share.open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
