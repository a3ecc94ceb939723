//! `--from`: the images of another machine. `--follow`: also those that its backup is still to make.

use super::target::{Need, Target, Who, targets};
use super::{Conflict, Machines, Wish};
use crate::jobs::Store;
use anyhow::{bail, ensure};
use pitstop_jobs::{Followed, Job, State, Verdict, followed};
use pitstop_protocol::id::Id;
use pitstop_protocol::job::ActionName;
use pitstop_protocol::job::hostfile::HostFile;
use std::path::Path;

/// Whose images are restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub machine: Who,
    /// Its backup is waited for.
    pub follow: bool,
}

/// The backup that jobs follow.
#[derive(Debug, Clone)]
pub struct Follows {
    pub job: Id,
    /// As people know its machine.
    pub name: String,
    /// What host files of its machine are called: it does not follow itself.
    files: Vec<String>,
    /// The image is there already.
    pub is_whole: bool,
    share: Option<String>,
}

impl Follows {
    pub fn is_of(&self, target: &Target) -> bool {
        target.files().iter().any(|file| self.files.contains(file))
    }

    /// What becomes of the jobs, for people.
    pub fn told(&self) -> String {
        let name = &self.name;
        if self.is_whole {
            return format!("{name} is backed up already: nothing is waited for");
        }
        format!(
            "each waits until {name} is backed up (job {}), and writes meanwhile what is there of the image: if the backup fails, it \
             fails, and its disk does not boot",
            self.job
        )
    }

    /// Refuses a job that would look for the image elsewhere.
    pub fn check_share(&self, text: &str) -> anyhow::Result<()> {
        let share = share_of(text);
        if share == self.share {
            return Ok(());
        }
        let shown = |share: &Option<String>| share.clone().unwrap_or_default();
        Err(Conflict(format!(
            "{} is backed up to {}, and the others would restore from {}",
            self.name,
            shown(&self.share),
            shown(&share)
        ))
        .into())
    }
}

fn share_of(text: &str) -> Option<String> {
    HostFile::parse(text.as_bytes(), "the job").ok()?.share
}

impl Wish {
    /// The same with the folder that `from` means, and the backup to wait for.
    ///
    /// # Errors
    /// It means no machine, or more than one; or nothing is being backed up there.
    pub fn with_origin(mut self, root: &Path) -> anyhow::Result<Self> {
        let Some(origin) = self.from.take() else {
            return Ok(self);
        };
        check(&self, &origin)?;
        let found = targets(root, std::slice::from_ref(&origin.machine), Need::Settings)?;
        let [target] = &found[..] else {
            bail!(
                "--from {}: images come from one machine, these are {}",
                origin.machine,
                found.len()
            );
        };
        let jobs = Store::at(root).all()?.jobs;
        let backups = backups(target, &jobs);
        if origin.follow {
            self.follows = Some(follows(target, backups.last().copied(), &jobs)?);
        }
        let folder = folder(target, maker(&backups))?;
        self.given.insert("image".into(), folder.into());
        Ok(self)
    }
}

fn check(wish: &Wish, origin: &Origin) -> anyhow::Result<()> {
    ensure!(
        wish.action == ActionName::Restore,
        "--from names whose images a restore takes: {} takes none",
        wish.action
    );
    ensure!(
        !wish.given.contains_key("image"),
        "--from and --image name the same thing: leave one out"
    );
    ensure!(
        !origin.follow || wish.many.every.is_none(),
        "--follow waits for one backup: it goes with --at, and not with --every"
    );
    ensure!(
        !origin.follow || wish.terms.is_none(),
        "--follow with --sign: a signed job names the image's digest, which nobody knows before the image is whole"
    );
    Ok(())
}

/// The backups of a machine among all jobs, the one that was set last at the end.
fn backups<'a>(target: &Target, jobs: &'a [Job]) -> Vec<&'a Job> {
    let machine = Machines::new([target]);
    let is_its = |job: &&Job| job.is_backup() && machine.whose(job).is_some();
    let mut its: Vec<&Job> = jobs.iter().filter(is_its).collect();
    its.sort_by_cached_key(|job| (job.set, job.id.clone()));
    its
}

/// The last one that has made an image, or will. Where one that was set by mistake would have put it, another machine's may be.
fn maker<'a>(backups: &[&'a Job]) -> Option<&'a Job> {
    let makes = |job: &&&Job| {
        let has_made = job.state == State::Done || job.verdict == Some(Verdict::Ok);
        has_made || !job.state.is_over()
    };
    backups.iter().rev().find(makes).copied()
}

/// Where on the share images of a machine may be: where its last backup put them, where its layers of the fleet file say, the
/// folder of its address.
pub fn image_folders(target: &Target, jobs: &[Job]) -> Vec<String> {
    let mut folders = folders(target, maker(&backups(target, jobs)));
    folders.retain(|folder| !folder.contains('{'));
    folders
}

/// The likeliest first.
fn folders(target: &Target, last: Option<&Job>) -> Vec<String> {
    let of_job = last.and_then(|job| {
        let file = HostFile::parse(job.text.as_bytes(), &job.host_file).ok()?;
        file.image.or_else(|| job.folder.clone())
    });
    let layer = target.settings.get("image").and_then(toml::Value::as_str);
    let found = [of_job, layer.map(str::to_owned), target.folder()];
    let filled = |image: String| target.filled(image.trim_matches('/'));
    found.into_iter().flatten().map(filled).collect()
}

/// The folder of the machine's images.
fn folder(target: &Target, last: Option<&Job>) -> anyhow::Result<String> {
    match folders(target, last).into_iter().next() {
        Some(image) if !image.contains('{') => Ok(image),
        _ => bail!(
            "where on the share the images of {target} are cannot be known from here: name the folder with --image"
        ),
    }
}

fn follows(target: &Target, last: Option<&Job>, jobs: &[Job]) -> anyhow::Result<Follows> {
    let name = target
        .label
        .clone()
        .unwrap_or_else(|| target.machine.to_string());
    let how = format!("set it first: pitstop host set {name} backup");
    let Some(job) = last else {
        return Err(Conflict(format!("{name} has no backup to follow: {how}")).into());
    };
    if !job.is_tracked() {
        // That its host file is gone would pass for a whole image.
        return Err(Conflict(format!(
            "the backup of {name} (job {}) tells no server how it goes: set it again, without --url: pitstop host set {name} backup",
            job.id
        ))
        .into());
    }
    let is_whole = match followed(jobs, &job.id) {
        Followed::Whole => true,
        Followed::Awaited(_) => false,
        Followed::Failed(why) => return Err(Conflict(format!("{why}; {how}")).into()),
    };
    Ok(Follows {
        job: job.id.clone(),
        name,
        files: target.files(),
        is_whole,
        share: share_of(&job.text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::fake::job;
    use jiff::Timestamp;

    #[test]
    fn a_backup_that_made_no_image_tells_no_folder() {
        let target = Target::alone("10.0.2.15".parse().unwrap());
        let backup = |second, image: &str, state| {
            let mut backup = job(15, Timestamp::from_second(second).unwrap());
            backup.text = format!("version = 1\nimage = \"{image}\"\n");
            backup.state = state;
            backup
        };
        let folder_of = |jobs: &[Job]| folder(&target, maker(&backups(&target, jobs))).unwrap();
        let mut jobs = vec![
            backup(1, "golden", State::Done),
            backup(2, "lab", State::Cancelled),
            backup(3, "other", State::Failed),
        ];
        assert_eq!(folder_of(&jobs), "golden");
        assert_eq!(image_folders(&target, &jobs), ["golden", "10.0.2.15"]);
        assert_eq!(folder_of(&jobs[1..]), "10.0.2.15");
        // It went on to its end though it was withdrawn.
        jobs[1].verdict = Some(Verdict::Ok);
        assert_eq!(folder_of(&jobs), "lab");
        jobs.push(backup(4, "next", State::Waiting));
        assert_eq!(folder_of(&jobs), "next");
    }
}
