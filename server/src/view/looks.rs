//! What was looked at lately: what takes long to read, and may be some seconds old.

use crate::runs::{Run, all_from_logs};
use cap_std::fs::Dir;
use pitstop_imaging::image::ImageMeta;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The logs on the share are of machines that do not report: their last words may be so old.
const LOGS: Duration = Duration::from_secs(5);

/// Descriptions of images that are remembered.
const MOST_IMAGES: usize = 10_000;

/// When a description was written, and how long it is.
type Stamp = (Option<SystemTime>, u64);

/// What was read of a description.
type Seen = (Stamp, Arc<Result<ImageMeta, String>>);

/// What is remembered.
#[derive(Default)]
pub struct Looks {
    logs: Mutex<Option<(Instant, Arc<Vec<Run>>)>>,
    images: Mutex<HashMap<String, Seen>>,
}

impl Looks {
    /// The last run of each machine, as its log on the share tells.
    pub fn logs(&self, share: &Dir) -> Arc<Vec<Run>> {
        // Held while the logs are read: one reads them for all who ask meanwhile.
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        match &*logs {
            Some((when, runs)) if when.elapsed() < LOGS => Arc::clone(runs),
            _ => {
                let runs = Arc::new(all_from_logs(share));
                *logs = Some((Instant::now(), Arc::clone(&runs)));
                runs
            }
        }
    }

    /// The description of an image at `path`, read by `read` where it changed since.
    pub fn image(
        &self,
        path: &str,
        stamp: Stamp,
        read: impl FnOnce() -> Result<ImageMeta, String>,
    ) -> Arc<Result<ImageMeta, String>> {
        let lock = || self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, meta)) = lock().get(path)
            && *known == stamp
        {
            return Arc::clone(meta);
        }
        let meta = Arc::new(read());
        let mut images = lock();
        if images.len() >= MOST_IMAGES {
            images.clear();
        }
        images.insert(path.to_owned(), (stamp, Arc::clone(&meta)));
        meta
    }
}
