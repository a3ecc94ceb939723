//! Whose a host file is. Some jobs leave theirs: of one that failed it is there for another try, of `run` for every boot.

use cap_std::fs::Dir;
use pitstop_jobs::Job;
use pitstop_protocol::job::beside::UNSIGNED;

/// The one of `jobs` that the host file `name` is of.
pub fn owner<'a>(
    jobs: impl IntoIterator<Item = &'a Job>,
    hosts: &Dir,
    name: &str,
) -> Option<&'a Job> {
    let its = |job: &&Job| job.host_file == name && has_file(job, hosts);
    jobs.into_iter().filter(its).max_by_key(|job| job.since())
}

/// Whether the host file that `job` is named after is of `job`, of all `jobs`.
pub fn is_owner(jobs: &[Job], hosts: &Dir, job: &Job) -> bool {
    job.leaves_host_file()
        && owner(jobs, hosts, &job.host_file).is_some_and(|owner| owner.id == job.id)
}

/// Of a job that is over somebody may have removed the file, or put one of his own in its place.
fn has_file(job: &Job, hosts: &Dir) -> bool {
    job.leaves_host_file() && (job.state.is_set() || holds(job, hosts))
}

/// Whether what lies there was written for `job`.
fn holds(job: &Job, hosts: &Dir) -> bool {
    let read = |name: &str| hosts.read_to_string(name).unwrap_or_default();
    let unsigned = read(&format!("{}{UNSIGNED}", job.host_file));
    let found = read(&job.host_file) + &unsigned;
    let id = job.id.as_str();
    let written = job.host_files(Some(""));
    let texts = [Some(written.text), written.unsigned];
    if texts.into_iter().flatten().any(|text| text.contains(id)) {
        found.contains(id)
    } else {
        found.starts_with(&job.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::fake::{Root, job};
    use jiff::Timestamp;
    use pitstop_jobs::Happened;
    use pitstop_protocol::job::ActionName;

    #[test]
    fn a_job_that_failed_or_comes_at_every_boot_leaves_its_host_file_and_one_by_hand_is_nobodys() {
        let root = Root::new();
        let failed = root.set(15, Timestamp::UNIX_EPOCH);
        let mut run = job(16, Timestamp::UNIX_EPOCH);
        run.action = ActionName::Run;
        run.server = None;
        let lock = root.store.lock().unwrap();
        lock.set(&root.hosts, &run).unwrap();
        let reason = "no disk".into();
        let again = false;
        let failure = Happened::SeenFailed { reason, again };
        for (job, what) in [(&failed, &failure), (&run, &Happened::SeenDone)] {
            let (now, _) = lock.change(&job.id, what, job.set).unwrap().unwrap();
            assert!(now.state.is_over());
            let jobs = root.store.all().unwrap().jobs;
            let found = owner(&jobs, &root.hosts, &job.host_file).map(|owner| &owner.id);
            assert_eq!(found, Some(&job.id));
            root.hosts.write(&job.host_file, "by hand").unwrap();
            assert!(!is_owner(&jobs, &root.hosts, &now));
        }
    }
}
