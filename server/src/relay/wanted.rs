//! How many jobs are for one image. A folder is named in a job; two folders may hold the same image, which its digest
//! tells, as it stands in the footer. Of a tree a version is named, or the current one is meant.

use crate::by_digest::Digests;
use crate::file::{self, Found as File, etag};
use crate::jobs::Found;
use crate::path::RelPath;
use crate::view::is_image;
use cap_std::fs::{Dir, FileExt as _};
use pitstop_imaging::image::members::{FOOTER, parse_footer};
use pitstop_jobs::{Job, State};
use pitstop_protocol::job::ActionName;
use pitstop_protocol::job::hostfile::HostFile;
use pitstop_protocol::tree::version_of;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files of one folder that are looked at.
const FILES: usize = 256;

/// How many jobs get what.
#[derive(Default)]
struct Counts {
    /// By the folder whose image they restore.
    folders: HashMap<String, usize>,
    /// By the tree's place on the share.
    trees: HashMap<String, usize>,
}

/// What is remembered, so that a question costs a look at times of files.
#[derive(Default)]
pub struct Wanted {
    counts: Mutex<Option<(Arc<Found>, Arc<Counts>)>>,
}

/// The share where it is a folder, and what its images are known by.
#[derive(Clone, Copy)]
pub struct Shelf<'a> {
    pub share: &'a Dir,
    pub digests: &'a Digests,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is one call: whoever panicked left whole values.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wanted {
    /// How many jobs of `jobs` that are not over get the image at `path`, under this name or, of disks and where the share is a
    /// folder, another.
    pub fn count(&self, on_disk: Option<Shelf<'_>>, jobs: &Arc<Found>, path: &RelPath) -> usize {
        let Some((folder, _)) = path.split() else {
            return 0;
        };
        let counts = self.counts(jobs);
        if version_of(path.as_str()).is_some() {
            // Who means the current version may mean another one: then it is alone in its chain.
            let of = |place: &str| counts.trees.get(place).copied().unwrap_or(0);
            return of(path.as_str()) + of(folder.as_str());
        }
        let folders = &counts.folders;
        let own = folders.get(folder.as_str()).copied().unwrap_or(0);
        let Some(on_disk) = on_disk else {
            return own;
        };
        let mut others = folders
            .iter()
            .filter(|(other, _)| **other != folder.as_str());
        let mut next = others.next();
        if next.is_none() {
            return own;
        }
        let Some(digest) = on_disk.digest(path) else {
            return own;
        };
        let mut all = own;
        while let Some((other, jobs)) = next {
            if on_disk.holds(other, digest) {
                all += jobs;
            }
            next = others.next();
        }
        all
    }

    fn counts(&self, jobs: &Arc<Found>) -> Arc<Counts> {
        let mut known = locked(&self.counts);
        match &*known {
            Some((of, counts)) if Arc::ptr_eq(of, jobs) => Arc::clone(counts),
            _ => {
                let counts = Arc::new(count(&jobs.jobs));
                *known = Some((Arc::clone(jobs), Arc::clone(&counts)));
                counts
            }
        }
    }
}

impl Shelf<'_> {
    /// Whether a file of `folder` is the image with this digest.
    fn holds(self, folder: &str, digest: blake3::Hash) -> bool {
        let Ok(entries) = self.share.read_dir(folder) else {
            return false;
        };
        let mut names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .map(|name| format!("{folder}/{name}"))
            .filter(|path| is_image(path))
            .filter_map(|path| RelPath::from_text(&path).ok())
            .take(FILES);
        names.any(|path| self.digest(&path) == Some(digest))
    }

    /// `None` of what has no index, or cannot be read just now.
    fn digest(self, path: &RelPath) -> Option<blake3::Hash> {
        let File::File(file, metadata) = file::open(self.share, path).ok()? else {
            return None;
        };
        let size = metadata.len();
        let read = || {
            let mut footer = [0; FOOTER];
            let Some(at) = size.checked_sub(FOOTER as u64) else {
                return Ok(None);
            };
            file.read_exact_at(&mut footer, at)?;
            let footer = parse_footer(&footer, size).ok();
            Ok::<_, io::Error>(footer.map(|footer| footer.hash.into()))
        };
        let digest = self.digests.of(path.as_str(), etag(&metadata), read);
        digest.ok().flatten()
    }
}

/// What jobs which are not over get, as far as their host files name it outright.
fn count(jobs: &[Job]) -> Counts {
    let mut counts = Counts::default();
    for job in jobs {
        // One for every boot is there for the next one, too.
        let is_left = job.state == State::Done && job.action.is_repeated();
        if !job.state.is_set() && !is_left {
            continue;
        }
        let file = HostFile::parse(job.text.as_bytes(), &job.host_file).ok();
        let Some(what) = file.and_then(|file| job.gets(&file)) else {
            continue;
        };
        let places = match job.action {
            ActionName::Restore => &mut counts.folders,
            _ => &mut counts.trees,
        };
        if !what.contains('{') {
            *places.entry(what.trim_matches('/').to_owned()).or_default() += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use cap_std::ambient_authority;
    use jiff::Timestamp;
    use pitstop_imaging::image::members::seal;
    use std::fs;

    fn restore(number: u8, image: &str) -> Job {
        let mut job = crate::jobs::fake::job(number, Timestamp::UNIX_EPOCH);
        job.action = ActionName::Restore;
        job.text = format!("version = 1\naction = \"restore\"\nimage = \"{image}\"\n");
        job
    }

    #[test]
    fn an_image_is_the_same_under_any_name_and_a_name_is_no_image() {
        let root = tempfile::tempdir().unwrap();
        for (path, index) in [
            ("golden/sda.raw.gz", "one"),
            ("lab3/nvme0n1.raw.gz", "one"),
            ("other/sda.raw.gz", "two"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, seal(index.as_bytes(), 0)).unwrap();
        }
        let share = Dir::open_ambient_dir(root.path(), ambient_authority()).unwrap();
        let jobs = |jobs: Vec<Job>| {
            Arc::new(Found {
                jobs,
                wrong: Vec::new(),
            })
        };
        let wanted = Wanted::default();
        let golden = RelPath::from_text("golden/sda.raw.gz").unwrap();
        let on_disk = Shelf {
            share: &share,
            digests: &Digests::default(),
        };
        let count = |found: &Arc<Found>| wanted.count(Some(on_disk), found, &golden);
        let alone = jobs(vec![restore(15, "golden"), restore(16, "golden")]);
        assert_eq!(count(&alone), 2);
        let lab = jobs(vec![
            restore(15, "golden"),
            restore(16, "lab3"),
            restore(17, "other"),
            restore(18, "gone"),
        ]);
        assert_eq!(count(&lab), 2);
        // Another image takes the name.
        let new = root.path().join("new");
        fs::write(&new, seal(b"three", 0)).unwrap();
        fs::rename(new, root.path().join("golden/sda.raw.gz")).unwrap();
        assert_eq!(count(&lab), 1);
    }

    #[test]
    fn machines_that_get_one_tree_are_counted_by_its_version_and_at_every_boot() {
        let tree = |number: u8, action: ActionName, tree: &str| {
            let mut job = crate::jobs::fake::job(number, Timestamp::UNIX_EPOCH);
            job.action = action;
            job.text = format!("version = 1\naction = \"{action}\"\ntree = \"{tree}\"\n");
            job
        };
        let mut ran = tree(18, ActionName::Run, "web");
        ran.state = State::Done;
        let mut deployed = tree(19, ActionName::Deploy, "web");
        deployed.state = State::Done;
        let jobs = Arc::new(Found {
            jobs: vec![
                tree(15, ActionName::Deploy, "web@1"),
                tree(16, ActionName::Run, "web@2"),
                tree(17, ActionName::Run, "kiosk"),
                // It gets what changed alone.
                tree(20, ActionName::Update, "web"),
                restore(21, "trees/web"),
                ran,
                deployed,
            ],
            wrong: Vec::new(),
        });
        let wanted = Wanted::default();
        let count = |path: &str| wanted.count(None, &jobs, &RelPath::from_text(path).unwrap());
        assert_eq!(count("trees/web/1.tar.gz"), 2);
        assert_eq!(count("trees/web/2.tar.gz"), 2);
        assert_eq!(count("trees/web/3.tar.gz"), 1);
        assert_eq!(count("trees/kiosk/1.tar.gz"), 1);
        assert_eq!(count("trees/other/1.tar.gz"), 0);
    }
}
