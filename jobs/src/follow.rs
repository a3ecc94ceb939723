//! Jobs that wait for an image which another machine's backup is to make.

use crate::job::Job;
use crate::state::State;
use pitstop_protocol::id::Id;
use pitstop_protocol::job::ActionName;
use pitstop_protocol::job::hostfile::{HostFile, WrittenSelector};
use std::collections::BTreeSet;

/// Of a machine that has begun to write what is there.
pub(crate) const PARTLY: &str = "its disk has a part of the image and does not boot";

/// How it stands with the backup that a job follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// The image is whole.
    Whole,
    /// It is still to come; why, for people.
    Awaited(String),
    /// It does not come; why, for people.
    Failed(String),
}

/// Where a backup puts its images, and of which disks.
struct Images {
    share: Option<String>,
    folder: Option<String>,
    /// Left out: of every fixed disk.
    disks: Option<Vec<WrittenSelector>>,
}

impl Job {
    /// Whether it makes an image that others can follow.
    pub fn is_backup(&self) -> bool {
        let makes = matches!(self.action, ActionName::Backup | ActionName::BackupAgain);
        makes && self.every.is_none()
    }

    /// `None` where its text makes no sense.
    fn images(&self) -> Option<Images> {
        let file = HostFile::parse(self.text.as_bytes(), &self.host_file).ok()?;
        let folder = file.image.or_else(|| self.folder.clone());
        Some(Images {
            share: file.share,
            folder: folder.map(|folder| folder.trim_matches('/').to_owned()),
            disks: file.disks,
        })
    }

    /// Whether `other` makes in its place what this backup was to make: the same machine's, later, with the same images. One that
    /// puts them elsewhere, or leaves a disk out, leaves an old image where those that follow this one look.
    fn is_made_up_by(&self, other: &Self) -> bool {
        let is_later = (other.since(), &other.id) > (self.since(), &self.id);
        if !(is_later && other.is_backup() && other.is_of_machine(self)) {
            return false;
        }
        let (Some(mine), Some(theirs)) = (self.images(), other.images()) else {
            return false;
        };
        let covers = theirs.disks.is_none() || theirs.disks == mine.disks;
        covers && (mine.share, mine.folder) == (theirs.share, theirs.folder)
    }

    /// `why`, and what is to be known of a disk that was written.
    pub fn with_disk(&self, why: &str) -> String {
        if self.written {
            format!("{why}; {PARTLY}")
        } else {
            why.to_owned()
        }
    }

    /// How it stands with this backup alone.
    fn stands(&self) -> Followed {
        let who = self.shown();
        match self.state {
            State::Done => Followed::Whole,
            State::Scheduled | State::Waiting => {
                Followed::Awaited(format!("{who} is to be backed up first"))
            }
            State::Queued => Followed::Awaited(format!("{who} waits for a slot to be backed up")),
            State::Running => Followed::Awaited(format!("{who} is being backed up")),
            State::Failed | State::Cancelled | State::Superseded => {
                let reason = self.reason.as_deref().unwrap_or("nobody knows why");
                Followed::Failed(format!("the backup of {who} is {}: {reason}", self.state))
            }
        }
    }
}

/// The backup that is at work in the place of the backup `id`, or that one itself.
pub fn at_work<'a>(jobs: &'a [Job], id: &Id) -> Option<&'a Job> {
    let first = jobs.iter().find(|job| job.id == *id)?;
    let is_it = |job: &&Job| job.id == *id || first.is_made_up_by(job);
    let at_work = jobs.iter().filter(|job| job.state == State::Running);
    at_work
        .filter(is_it)
        .max_by_key(|job| (job.since(), job.id.clone()))
}

/// How it stands with the backup `id` among all `jobs`. Where it failed and its machine was given another one of the same
/// images after it, that counts: who failed is backed up again, and those that wait for it need not be told. One that is done
/// or still to come is told by its own job alone.
pub fn followed(jobs: &[Job], id: &Id) -> Followed {
    let Some(first) = jobs.iter().find(|job| job.id == *id) else {
        return Followed::Failed(format!("nothing is known any more of the backup {id}"));
    };
    let stands = first.stands();
    if !matches!(stands, Followed::Failed(_)) {
        return stands;
    }
    let mut last = first;
    for job in jobs.iter().filter(|job| first.is_made_up_by(job)) {
        if job.state == State::Done {
            return Followed::Whole;
        }
        if (job.since(), &job.id) > (last.since(), &last.id) {
            last = job;
        }
    }
    last.stands()
}

/// The backup that a job which followed `id` follows when it is set again: the last one of the same images that is done, or
/// that is set. An image of long ago would not be what its machine has now.
pub fn follow_again(jobs: &[Job], id: &Id) -> Id {
    let Some(first) = jobs.iter().find(|job| job.id == *id) else {
        return id.clone();
    };
    let may_be = |job: &&Job| job.state == State::Done || job.state.is_set();
    let later = jobs.iter().filter(|job| first.is_made_up_by(job));
    let last = later
        .filter(may_be)
        .max_by_key(|job| (job.since(), job.id.clone()));
    last.unwrap_or(first).id.clone()
}

/// Of `jobs` the backups that a job which is not at its end asks about: their files stay.
pub fn asked_about(jobs: &[Job]) -> BTreeSet<&Id> {
    let is_open = |job: &&Job| job.state != State::Done && !job.state.is_withdrawn();
    let open = jobs.iter().filter(is_open);
    let firsts: BTreeSet<&Id> = open.filter_map(|job| job.follows.as_ref()).collect();
    let firsts: Vec<&Job> = jobs.iter().filter(|job| firsts.contains(&job.id)).collect();
    let is_asked_about = |job: &&Job| {
        let same = |first: &&Job| first.id == job.id || first.is_made_up_by(job);
        firsts.iter().any(same)
    };
    let asked_about = jobs.iter().filter(is_asked_about);
    asked_about.map(|job| &job.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::sample;
    use jiff::{SignedDuration, Timestamp};

    fn backup(number: u32, state: State) -> Job {
        let set = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(number.into());
        Job {
            id: Id::new(set, number),
            set,
            state,
            reason: state.is_over().then(|| "no disk".into()),
            ..sample()
        }
    }

    #[test]
    fn the_image_is_there_when_the_backup_or_a_later_one_of_its_machine_is_done() {
        let stands = |jobs: &[Job]| followed(jobs, &jobs[0].id);
        let awaited = |why: &str| Followed::Awaited(why.into());
        let runs = "lab3-01 is being backed up";
        assert_eq!(stands(&[backup(1, State::Running)]), awaited(runs));
        assert_eq!(stands(&[backup(1, State::Done)]), Followed::Whole);
        let why = "the backup of lab3-01 is failed: no disk";
        let failed = backup(1, State::Failed);
        let over = Followed::Failed(why.into());
        assert_eq!(stands(std::slice::from_ref(&failed)), over);
        let again = [failed.clone(), backup(2, State::Running)];
        assert_eq!(stands(&again), awaited(runs));
        let who = |jobs: &[Job]| at_work(jobs, &jobs[0].id).map(|job| job.id.clone());
        assert_eq!(who(&again), Some(again[1].id.clone()));
        assert_eq!(who(&[failed.clone(), backup(2, State::Queued)]), None);
        let again = [failed.clone(), backup(2, State::Done)];
        assert_eq!(stands(&again), Followed::Whole);
        // A backup that comes after one that is done takes nothing from it.
        let more = [backup(1, State::Done), backup(2, State::Failed)];
        assert_eq!(stands(&more), Followed::Whole);
    }

    #[test]
    fn neither_another_machine_nor_another_action_nor_an_earlier_backup_makes_the_image() {
        let failed = backup(5, State::Failed);
        let mut stranger = backup(6, State::Done);
        stranger.host_file = "0A000210.toml".into();
        stranger.name = Some("lab3-02".into());
        let mut rescue = backup(7, State::Done);
        rescue.action = ActionName::Rescue;
        let mut nightly = backup(8, State::Scheduled);
        nightly.every = Some("0 22 * * *".into());
        let jobs = [failed, stranger, rescue, nightly, backup(4, State::Done)];
        let stands = followed(&jobs, &jobs[0].id);
        assert!(matches!(stands, Followed::Failed(_)), "{stands:?}");
        let gone = followed(&jobs[1..], &jobs[0].id);
        assert!(matches!(&gone, Followed::Failed(why) if why.contains("nothing is known")));
    }

    #[test]
    fn a_later_backup_that_leaves_an_old_image_there_makes_it_not() {
        let with = |number, more: &str| {
            let text = format!("version = 1\naction = \"backup-again\"\n{more}");
            Job {
                text,
                ..backup(number, State::Done)
            }
        };
        let follows = |later: Job| {
            let jobs = [backup(1, State::Failed), later];
            followed(&jobs, &jobs[0].id)
        };
        for more in [
            "image = \"other\"\n",
            "share = \"http://10.0.0.9/share\"\n",
            "disks = [\"sdb\"]\n",
            "disks = \n",
        ] {
            let stands = follows(with(2, more));
            assert!(matches!(stands, Followed::Failed(_)), "{more}: {stands:?}");
        }
        for more in ["", "image = \"10.0.2.15/\"\n", "exact = true\n"] {
            assert_eq!(follows(with(2, more)), Followed::Whole, "{more}");
        }
    }

    #[test]
    fn a_backup_for_tonight_is_not_made_up_by_one_of_this_noon() {
        let tonight = |state| {
            let mut job = backup(1, state);
            job.at = Some(job.set + SignedDuration::from_hours(10));
            job
        };
        let noon = backup(2, State::Done);
        let stands = |state| {
            let jobs = [tonight(state), noon.clone()];
            followed(&jobs, &jobs[0].id)
        };
        let awaited = Followed::Awaited("lab3-01 is to be backed up first".into());
        assert_eq!(stands(State::Scheduled), awaited);
        let failed = stands(State::Failed);
        assert!(matches!(failed, Followed::Failed(_)), "{failed:?}");
    }

    #[test]
    fn who_is_set_again_follows_the_last_backup_and_that_one_is_not_tidied_away() {
        let mut room = backup(9, State::Failed);
        room.host_file = "0A000210.toml".into();
        room.name = Some("lab3-02".into());
        room.follows = Some(backup(1, State::Done).id);
        let mut jobs = vec![
            backup(1, State::Done),
            backup(2, State::Done),
            backup(3, State::Running),
            backup(4, State::Failed),
            room,
        ];
        assert_eq!(follow_again(&jobs, &jobs[0].id), jobs[2].id);
        assert_eq!(follow_again(&jobs[..1], &jobs[0].id), jobs[0].id);
        assert_eq!(follow_again(&[], &jobs[0].id), jobs[0].id);
        let asked: Vec<&Id> = asked_about(&jobs).into_iter().collect();
        let backups: Vec<&Id> = jobs[..4].iter().map(|job| &job.id).collect();
        assert_eq!(asked, backups);
        jobs[4].state = State::Done;
        assert!(asked_about(&jobs).is_empty());
    }
}
