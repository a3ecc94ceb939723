//! Which earlier images are being read: whoever restores one asks for it range by range, and has no job that is known. Kept below
//! the root for `pitstop image prune`, which leaves alone what was given away a moment ago.

use crate::path::RelPath;
use crate::view::is_image;
use axum::body::Body;
use futures_util::StreamExt as _;
use pitstop_protocol::image_version::{self, Version};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Below the root: an empty file for each image, whose time is when bytes of it were given away.
const FOLDER: &str = "given";
/// How often that is written down.
const EVERY: Duration = Duration::from_secs(60);
/// Older files tell nobody anything.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Images that are remembered.
const MOST: usize = 1000;

#[derive(Debug)]
pub struct Given {
    folder: PathBuf,
    /// When it was last written down of an image.
    noted: Mutex<HashMap<String, Instant>>,
}

impl Given {
    pub fn new(root: &Path) -> Self {
        let folder = root.join(FOLDER);
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let modified = entry.metadata().and_then(|found| found.modified());
            if modified.is_ok_and(|time| age(time) > KEPT) {
                // What stays takes no room worth a word.
                let _ = fs::remove_file(entry.path());
            }
        }
        Self {
            folder,
            noted: Mutex::default(),
        }
    }

    /// The same body of the file at `path`. That somebody reads an earlier image is noted for as long as its bytes go out; the last
    /// one stays in any case.
    pub fn noted(self: &Arc<Self>, path: &RelPath, body: Body) -> Body {
        let path = path.as_str();
        if !is_image(path) || image_version::split(path).1 == Version::Last {
            return body;
        }
        let (given, path) = (Arc::clone(self), path.to_owned());
        let bytes = body.into_data_stream();
        Body::from_stream(bytes.inspect(move |_| given.note(&path)))
    }

    fn note(&self, path: &str) {
        {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            if noted.get(path).is_some_and(|last| last.elapsed() < EVERY) {
                return;
            }
            if noted.len() >= MOST {
                noted.clear();
            }
            noted.insert(path.to_owned(), Instant::now());
        }
        // A root that takes no more files gives images all the same.
        let _ = fs::create_dir_all(&self.folder)
            .and_then(|()| fs::write(self.folder.join(name(path)), ""));
    }
}

/// How long ago the server of this root last gave bytes of the image at `path` away, as far as that is still written down. It is
/// right to a minute.
pub fn last_given(root: &Path, path: &str) -> Option<Duration> {
    let found = fs::metadata(root.join(FOLDER).join(name(path)));
    Some(age(found.ok()?.modified().ok()?))
}

fn age(time: SystemTime) -> Duration {
    // One in the future is as new as can be.
    SystemTime::now().duration_since(time).unwrap_or_default()
}

fn name(path: &str) -> String {
    blake3::hash(path.as_bytes()).to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, FileTimes};

    #[test]
    fn it_is_told_of_earlier_images_when_they_were_read() {
        let root = tempfile::tempdir().unwrap();
        let given = Given::new(root.path());
        let old = "golden/sda.raw.gz.old";
        assert_eq!(last_given(root.path(), old), None);
        given.note(old);
        assert!(last_given(root.path(), old).unwrap() < Duration::from_secs(60));
        let file = File::open(root.path().join(FOLDER).join(name(old))).unwrap();
        let long_ago = SystemTime::now() - KEPT - EVERY;
        file.set_times(FileTimes::new().set_modified(long_ago))
            .unwrap();
        assert!(last_given(root.path(), old).unwrap() > KEPT);
        Given::new(root.path());
        assert_eq!(last_given(root.path(), old), None);
    }
}
