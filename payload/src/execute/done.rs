//! Whether a job is done already, and only its configuration is left to be deleted.
//!
//! A run that did its work may still not come to its end: the server refuses the deletion, the power fails. The next
//! run must know its own work. Else a `backup` finds "an image already", a `backup-again` takes the new image for the
//! old one, and a `wipe` wipes what somebody has installed since.
//!
//! What names a job is its work and its configurations, each with the version that its server tells (`ETag`, time of
//! change): the same job, set again later, is another. It is noted in `last-run.toml` before the deletion, and in
//! every image; the note goes when the configuration is gone, so that a configuration whose server tells no version
//! is done again, too. The name in the images is also of the series of tries: a server whose `ETag` is of the content
//! shows a job that is set again as the one that has made the image before.

use super::pace::{self, LastRun};
use pitstop_protocol::job::{ActionName, DeleteTarget, Job};
use pitstop_transport::share::delete::{self, Seen};
use pitstop_transport::share::{Carriers, Share};
use serde::{Deserialize, Serialize};

/// A job as it is set now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    action: ActionName,
    digest: String,
    /// Each configuration by its name without credentials.
    configurations: Vec<(String, Seen)>,
}

/// The job that a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current<'a> {
    /// Names the job this time that it was set.
    pub id: &'a str,
    /// It was begun before and not ended: images that name it are an earlier try's. Else they are of a job that a
    /// server without versions of its files shows as the same.
    pub was_begun: bool,
}

/// A job that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Done {
    /// Names the job this time that it was set.
    pub request: String,
    pub action: String,
    digest: String,
    /// RFC 3339, UTC.
    pub finished: String,
    #[serde(default)]
    configurations: Vec<Configuration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Configuration {
    name: String,
    /// Empty where its server tells none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    version: String,
}

impl Request {
    /// Looks at each configuration of the job. `None` for a job that deletes none: it is to be done at every boot.
    ///
    /// # Errors
    /// When one cannot be looked at.
    pub fn look(job: &Job, carriers: &Carriers) -> anyhow::Result<Option<Self>> {
        let mut configurations = Vec::new();
        for target in &job.delete {
            configurations.push((target.to_string(), delete::look(target, carriers)?));
        }
        configurations.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok((!configurations.is_empty()).then(|| Self {
            action: job.action.name(),
            digest: job.digest.clone(),
            configurations,
        }))
    }

    /// Whether a configuration of the job was not there any more.
    pub fn is_gone(&self, target: &DeleteTarget) -> bool {
        let name = target.to_string();
        let mut all = self.configurations.iter();
        all.any(|(known, seen)| *known == name && *seen == Seen::Gone)
    }

    /// Whether another configuration, `now`, was put in the place of the one that this job is of. Of a server that tells no
    /// versions nobody knows.
    pub fn is_replaced(&self, target: &DeleteTarget, now: &Seen) -> bool {
        let name = target.to_string();
        let mut all = self.configurations.iter();
        all.any(|(known, before)| match (before, now) {
            (Seen::There(before), Seen::There(now)) => {
                *known == name && !before.is_empty() && before != now
            }
            _ => false,
        })
    }

    /// BLAKE3 in hex; `series` names the tries since it was set.
    pub fn id(&self, series: &str) -> String {
        let text = format!("{:?}\n{:?}\n{series:?}", self.digest, self.configurations);
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }
}

impl Done {
    fn of(request: &Request, id: &str) -> Self {
        let configurations = request.configurations.iter().map(|(name, seen)| {
            let version = match seen {
                Seen::There(version) => version.clone(),
                Seen::Gone => String::new(),
            };
            Configuration {
                name: name.clone(),
                version,
            }
        });
        Self {
            request: id.to_owned(),
            action: request.action.to_string(),
            digest: request.digest.clone(),
            finished: pace::now(),
            configurations: configurations.collect(),
        }
    }

    /// Whether it is this job, set at the same time: its configurations are as they were, or deleted already.
    fn is_of(&self, request: &Request) -> bool {
        let names = self.configurations.iter().map(|it| &it.name);
        let same_names = names.eq(request.configurations.iter().map(|(name, _)| name));
        let both = self.configurations.iter().zip(&request.configurations);
        let unchanged = both.clone().all(|(known, (_, now))| match now {
            Seen::There(version) => *version == known.version,
            Seen::Gone => true,
        });
        let one_is_left = both.clone().any(|(_, (_, now))| *now != Seen::Gone);
        self.digest == request.digest && same_names && unchanged && one_is_left
    }
}

/// The note of `request`, if it was done.
///
/// # Errors
/// When the share cannot be read.
pub fn find(share: &dyn Share, folder: &str, request: &Request) -> anyhow::Result<Option<Done>> {
    let done = pace::read(share, folder)?.done;
    Ok(done.filter(|done| done.is_of(request)))
}

/// Notes that `request` is done, and the `id` that its images have.
///
/// # Errors
/// When the share cannot be read or written.
pub fn note(share: &dyn Share, folder: &str, request: &Request, id: &str) -> anyhow::Result<()> {
    let done = Some(Done::of(request, id));
    let last = pace::read(share, folder)?;
    pace::write(share, folder, &LastRun { done, ..last })
}

/// Forgets the note: the configuration is gone, and what comes next is another job.
///
/// # Errors
/// When the share cannot be read or written.
pub fn clear(share: &dyn Share, folder: &str) -> anyhow::Result<()> {
    let last = pace::read(share, folder)?;
    if last.done.is_none() {
        return Ok(());
    }
    pace::write(share, folder, &LastRun { done: None, ..last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_transport::share::DirectoryShare;

    fn request(versions: &[(&str, Seen)]) -> Request {
        let named = versions.iter();
        Request {
            action: ActionName::Restore,
            digest: "d".into(),
            configurations: named
                .map(|(name, seen)| ((*name).to_owned(), seen.clone()))
                .collect(),
        }
    }

    fn there(version: &str) -> Seen {
        Seen::There(version.into())
    }

    #[test]
    fn only_the_same_job_set_at_the_same_time_is_done() {
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        let set = request(&[("a", there("1")), ("b", there("1"))]);
        note(&share, "m", &set, &set.id("monday")).unwrap();
        let is_done = |request: &Request| find(&share, "m", request).unwrap().is_some();
        assert!(is_done(&set));
        assert!(is_done(&request(&[("a", Seen::Gone), ("b", there("1"))])));
        for other in [
            request(&[("a", there("2")), ("b", there("1"))]),
            request(&[("a", Seen::Gone), ("b", Seen::Gone)]),
            request(&[("a", there("1"))]),
            request(&[("a", there("1")), ("c", there("1"))]),
            Request {
                digest: "e".into(),
                ..set.clone()
            },
        ] {
            assert!(!is_done(&other), "{other:?}");
            assert_ne!(other.id("monday"), set.id("monday"));
        }
        assert_ne!(set.id("tuesday"), set.id("monday"));
        clear(&share, "m").unwrap();
        assert!(!is_done(&set));
    }

    #[test]
    fn only_another_version_is_another_job() {
        let target: DeleteTarget = "http://server/a".parse().unwrap();
        let name = target.to_string();
        for (before, now, replaced) in [
            (there("1"), there("2"), true),
            (there("1"), there("1"), false),
            (there(""), there("2"), false),
            (there("1"), Seen::Gone, false),
            (Seen::Gone, there("1"), false),
        ] {
            let request = request(&[(&name, before)]);
            assert_eq!(request.is_replaced(&target, &now), replaced, "{now:?}");
        }
    }

    #[test]
    fn the_note_and_the_paces_stand_side_by_side() {
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        let took = std::time::Duration::from_secs(10);
        let set = request(&[("a", there("1"))]);
        note(&share, "m", &set, &set.id("monday")).unwrap();
        pace::record(&share, "m", "backup", 100, took).unwrap();
        assert!(find(&share, "m", &set).unwrap().is_some());
        clear(&share, "m").unwrap();
        assert!(
            pace::read(&share, "m")
                .unwrap()
                .paces
                .contains_key("backup")
        );
    }
}
