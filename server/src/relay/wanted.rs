//! How many jobs are for one image. A folder is named in a job; two folders may hold the same image, which its digest
//! tells, as it stands in the footer.

use crate::by_digest::Digests;
use crate::file::{self, Found as File, etag};
use crate::jobs::Found;
use crate::path::RelPath;
use crate::view::is_image;
use cap_std::fs::{Dir, FileExt as _};
use pitstop_imaging::image::members::{FOOTER, parse_footer};
use pitstop_jobs::Job;
use pitstop_protocol::job::ActionName;
use pitstop_protocol::job::hostfile::HostFile;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files of one folder that are looked at.
const FILES: usize = 256;

/// Jobs by the folder whose image they restore.
type Folders = HashMap<String, usize>;

/// What is remembered, so that a question costs a look at times of files.
#[derive(Default)]
pub struct Wanted {
    folders: Mutex<Option<(Arc<Found>, Arc<Folders>)>>,
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
    /// How many jobs of `jobs` that are not over restore the image at `path`, under this name or, where the share is a folder,
    /// another.
    pub fn count(&self, on_disk: Option<Shelf<'_>>, jobs: &Arc<Found>, path: &RelPath) -> usize {
        let Some((folder, _)) = path.split() else {
            return 0;
        };
        let folders = self.folders(jobs);
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

    fn folders(&self, jobs: &Arc<Found>) -> Arc<Folders> {
        let mut known = locked(&self.folders);
        match &*known {
            Some((of, folders)) if Arc::ptr_eq(of, jobs) => Arc::clone(folders),
            _ => {
                let folders = Arc::new(restored(&jobs.jobs));
                *known = Some((Arc::clone(jobs), Arc::clone(&folders)));
                folders
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

/// The folders that jobs which are not over restore from, as far as their host files name them outright.
fn restored(jobs: &[Job]) -> Folders {
    let mut folders = Folders::new();
    for job in jobs {
        if job.action != ActionName::Restore || !job.state.is_set() {
            continue;
        }
        let file = HostFile::parse(job.text.as_bytes(), &job.host_file).ok();
        let folder = file.and_then(|file| file.image);
        if let Some(folder) = folder.filter(|folder| !folder.contains('{')) {
            *folders
                .entry(folder.trim_matches('/').to_owned())
                .or_default() += 1;
        }
    }
    folders
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
}
