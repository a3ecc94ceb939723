//! What the folders tell of jobs: host files that are gone, and the logs that machines leave on the share.

use super::store::Store;
use cap_std::fs::Dir;
use jiff::Timestamp;
use pitstop_jobs::{Effect, Evidence, Job, trace};
use std::io::{ErrorKind, Read, Seek, SeekFrom};

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
    let since = job.since();
    let log = folder.and_then(|(folder, share)| tail(share, &format!("{folder}/{LOG}"), since));
    Evidence {
        is_set: is_there(hosts, &job.host_file),
        trace: trace(&log.unwrap_or_default(), job.action.as_str(), since),
        is_counted: folder
            .is_some_and(|(folder, share)| share.is_file(format!("{folder}/{ATTEMPTS}"))),
    }
}

/// A file that cannot be looked at is not gone: a disk that fails must not end a job.
fn is_there(hosts: &Dir, name: &str) -> bool {
    let looked = hosts.metadata(name);
    looked
        .err()
        .is_none_or(|error| error.kind() != ErrorKind::NotFound)
}

/// A log that is not there, or cannot be read, tells nothing; nor does one that was written before `since`, in the same second,
/// which its lines cannot tell.
fn tail(share: &Dir, path: &str, since: Timestamp) -> Option<String> {
    let mut file = share.open(path).ok()?;
    let metadata = file.metadata().ok()?;
    let length = metadata.len();
    let written = metadata.modified().ok();
    let written = written.and_then(|time| Timestamp::try_from(time.into_std()).ok());
    let same_second = |time: &Timestamp| time.as_second() == since.as_second() && *time < since;
    if written.as_ref().is_some_and(same_second) {
        return None;
    }
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
