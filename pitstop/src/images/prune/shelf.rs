//! Where the images are that leave: files below the root, or objects of a store.

use super::in_store::InStore;
use super::{BEING_WRITTEN, UNFINISHED, aside};
use pitstop_api::Image;
use pitstop_imaging::image::members::{FOOTER, begins_like_indexed, parse_footer};
use pitstop_server::ShareStore;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::SystemTime;

/// The fixed part of a member's header.
const START: usize = 20;

pub enum Shelf<'a> {
    Folder(&'a Path),
    Store(InStore<'a>),
}

impl<'a> Shelf<'a> {
    pub fn of(root: &'a Path, store: Option<&'a ShareStore>) -> anyhow::Result<Self> {
        Ok(match store {
            None => Self::Folder(root),
            Some(store) => Self::Store(InStore::look(store.share())?),
        })
    }

    /// Whether a backup may be at work on the disk whose last image is `last`.
    pub fn is_being_written(&self, last: &str) -> anyhow::Result<bool> {
        let root = match self {
            Self::Folder(root) => root,
            Self::Store(store) => return store.is_being_written(last),
        };
        let fresh = |suffix: &&str| {
            let path = root.join("share").join(format!("{last}{suffix}"));
            let changed = fs::metadata(path).and_then(|found| found.modified());
            changed.is_ok_and(|time| {
                let age = SystemTime::now().duration_since(time);
                age.unwrap_or_default() < BEING_WRITTEN
            })
        };
        Ok(UNFINISHED.iter().any(fresh))
    }

    /// Whether this is no whole image, as a copy leaves it that broke off. Of other tools' images nothing here tells, and what is
    /// in a store appears there whole.
    pub fn is_cut(&self, image: &Image) -> bool {
        match self {
            Self::Folder(root) => is_cut(&root.join("share").join(&image.path)),
            Self::Store(_) => false,
        }
    }

    /// Removes an image that is as it was when it was judged, and what describes it.
    pub fn remove(&self, image: &Image) -> anyhow::Result<()> {
        match self {
            Self::Folder(root) => aside::remove(root, image),
            Self::Store(store) => store.remove(image),
        }
    }

    /// What a run that was cut short has left in these folders, as sentences; with `removes` it goes where it can.
    pub fn leftovers(&self, folders: &BTreeSet<String>, removes: bool) -> Vec<String> {
        match self {
            Self::Folder(root) => aside::left_aside(root, folders),
            Self::Store(store) => store.leftovers(folders, removes),
        }
    }
}

/// One that cannot be read is none to count on either.
fn is_cut(path: &Path) -> bool {
    let looked = || -> io::Result<bool> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut start = [0; START];
        if size < START as u64 {
            return Ok(size == 0);
        }
        file.read_exact_at(&mut start, 0)?;
        if !begins_like_indexed(&start) {
            return Ok(false);
        }
        let Some(at) = size.checked_sub(FOOTER as u64) else {
            return Ok(true);
        };
        let mut footer = [0; FOOTER];
        file.read_exact_at(&mut footer, at)?;
        Ok(parse_footer(&footer, size).is_err())
    };
    looked().unwrap_or(true)
}
