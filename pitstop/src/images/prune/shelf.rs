//! Where the images are that leave: files below the root, or objects of a store.

use super::in_store::InStore;
use super::{BEING_WRITTEN, UNFINISHED, aside};
use pitstop_api::Image;
use pitstop_server::ShareStore;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

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
