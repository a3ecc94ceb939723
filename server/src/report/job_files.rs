//! Which host file is a job's. Machines at work ask each second, and strangers as often as they like: a file is read again
//! only when it changed.

use crate::path::RelPath;
use cap_std::fs::{Dir, Metadata, MetadataExt};
use pitstop_protocol::host_name::SUFFIX;
use pitstop_protocol::id::Id;
use pitstop_protocol::job::beside::{UNSIGNED, Unsigned};
use pitstop_protocol::job::hostfile::{HostFile, Secret};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use url::Url;

/// No host file is larger.
const LARGEST: u64 = 1 << 20;
/// Seconds. A file that changed so lately may change again without a new time: clocks of filesystems are coarse.
const SETTLED: u64 = 2;

/// What was last seen of each host file, and of what lies beside signed ones.
#[derive(Debug, Default)]
pub struct JobFiles(Mutex<HashMap<String, Seen>>);

#[derive(Debug, Clone)]
struct Seen {
    stamp: Stamp,
    report: Option<Report>,
}

/// Where a host file has its machine report.
#[derive(Debug, Clone)]
struct Report {
    /// The last part of the URL.
    job: String,
    token: Option<Secret>,
}

/// What changes with a file: its number, its size, when it was last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, (i64, i64));

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self(file.ino(), file.size(), (file.ctime(), file.ctime_nsec()))
    }

    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        u64::try_from(self.2.0).is_ok_and(|changed| now.abs_diff(changed) > SETTLED)
    }
}

impl JobFiles {
    /// The host file in `hosts` whose reports are this job's, with the token that it names.
    pub fn of(&self, hosts: &Dir, job: &Id) -> Option<(RelPath, Option<Secret>)> {
        // Nothing is read with the lock held.
        let before = self.lock().clone();
        let mut now = HashMap::new();
        for entry in hosts.entries().ok()?.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with('.') || !(name.ends_with(SUFFIX) || name.ends_with(UNSIGNED)) {
                continue;
            }
            // Of what a link leads to, as it is read.
            let Ok(file) = hosts.metadata(&name) else {
                continue;
            };
            let stamp = Stamp::of(&file);
            let known = before.get(&name);
            let seen = match known.filter(|seen| seen.stamp == stamp && stamp.is_settled()) {
                Some(seen) => seen.clone(),
                None => Seen {
                    stamp,
                    report: (file.len() <= LARGEST)
                        .then(|| report(hosts, &name))
                        .flatten(),
                },
            };
            now.insert(name, seen);
        }
        let is_jobs = |seen: &Seen| {
            let report = seen.report.as_ref();
            report.is_some_and(|report| report.job == job.as_str())
        };
        let found = now.iter().find(|(_, seen)| is_jobs(seen));
        let found = found.and_then(|(name, seen)| {
            let token = seen.report.as_ref()?.token.clone();
            let name = name.strip_suffix(UNSIGNED).unwrap_or(name);
            Some((RelPath::from_text(name).ok()?, token))
        });
        *self.lock() = now;
        found
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn report(hosts: &Dir, name: &str) -> Option<Report> {
    let bytes = hosts.read(name).ok()?;
    // What a machine would not run is nobody's job.
    let (report, token) = if name.ends_with(UNSIGNED) {
        let beside = Unsigned::parse(&bytes).ok()?;
        (beside.report, beside.report_token)
    } else {
        let file = HostFile::parse(&bytes, name).ok()?;
        (file.report, file.report_token)
    };
    let url = Url::parse(&report?).ok()?;
    Some(Report {
        job: url.path_segments()?.next_back()?.to_owned(),
        token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;
    use std::fs;
    use std::time::Duration;

    #[test]
    fn of_a_signed_job_what_lies_beside_tells() {
        let root = tempfile::tempdir().unwrap();
        let hosts = Dir::open_ambient_dir(root.path(), ambient_authority()).unwrap();
        let job: Id = "20261128-212955-0f3a".parse().unwrap();
        let signed = "version = 1\naction = \"backup\"\nshare = \"http://s/share\"\nid = \"one\"\n";
        fs::write(root.path().join("7F000001.toml"), signed).unwrap();
        let beside = format!("report = \"http://s/report/{job}\"\nreport-token = \"t\"\n");
        fs::write(root.path().join("7F000001.toml.unsigned"), beside).unwrap();
        let (path, token) = JobFiles::default().of(&hosts, &job).unwrap();
        assert_eq!(path.as_str(), "7F000001.toml");
        assert_eq!(token, Some(Secret("t".into())));
    }

    #[test]
    fn a_host_file_is_read_again_only_when_it_changed() {
        let root = tempfile::tempdir().unwrap();
        let hosts = Dir::open_ambient_dir(root.path(), ambient_authority()).unwrap();
        let job: Id = "20261128-212955-0f3a".parse().unwrap();
        let other: Id = "20261128-212955-0f3b".parse().unwrap();
        let path = root.path().join("7F000001.toml");
        let write = |job: &Id| {
            let text = format!(
                "version = 1\naction = \"backup\"\nshare = \"http://s/share\"\nreport = \"http://s/report/{job}\"\n"
            );
            fs::write(&path, text).unwrap();
        };
        let files = JobFiles::default();
        write(&job);
        assert!(files.of(&hosts, &job).is_some());
        // In place, with as many bytes, in the same moment.
        write(&other);
        assert!(files.of(&hosts, &job).is_none());
        assert!(files.of(&hosts, &other).is_some());
        std::thread::sleep(Duration::from_secs(SETTLED + 1));
        assert!(files.of(&hosts, &other).is_some());
        // What is remembered is believed from now on.
        if let Some(seen) = files.lock().get_mut("7F000001.toml") {
            seen.report = None;
        }
        assert!(files.of(&hosts, &other).is_none());
        write(&job);
        assert!(files.of(&hosts, &job).is_some());
        fs::remove_file(&path).unwrap();
        assert!(files.of(&hosts, &job).is_none());
    }
}
