//! Checking images on the share, one after the other, in a thread of its own. What came of it is written down, so that it
//! outlives the server; it counts for the file that was checked, and for no later one.

use crate::file::Facts;
use crate::path::RelPath;
use crate::refusal::Refusal;
use crate::site::Site;
use crate::write::{make_folder, replace};
use axum::http::StatusCode;
use jiff::Timestamp;
use pitstop_api::{Change, Event, ImageChange, Verified, VerifyState};
use pitstop_imaging::event::{Event as Told, Reporter};
use pitstop_imaging::image::encrypted::is_named_encrypted;
use pitstop_imaging::image::verify;
use pitstop_protocol::image_version::split;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Below the root: a file for each image that was checked.
const FOLDER: &str = "verified";

/// Checks that are asked for and not done: more wait for none.
const MOST: usize = 100;

/// Cores that a check may have: machines at work come first.
const THREADS: usize = 1;

/// As written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Outcome {
    image: String,
    /// Of the file that was checked.
    size: u64,
    modified: Option<Timestamp>,
    at: Timestamp,
    /// Why it failed; left out where all is right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// A check that goes on, or waits.
#[derive(Clone)]
struct Going {
    since: Timestamp,
    percent: Arc<AtomicU8>,
}

/// The checks of a root.
pub struct Verifier {
    root: PathBuf,
    going: Mutex<HashMap<String, Going>>,
    /// One at a time.
    turn: Arc<Mutex<()>>,
}

impl Verifier {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            going: Mutex::default(),
            turn: Arc::default(),
        }
    }

    fn going(&self) -> MutexGuard<'_, HashMap<String, Going>> {
        self.going.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of the image at `path`, whose file is like this.
    pub fn known(&self, path: &str, file: &Facts) -> Option<Verified> {
        if let Some(going) = self.going().get(path) {
            return Some(Verified {
                state: VerifyState::Running,
                at: going.since,
                reason: String::new(),
                percent: Some(going.percent.load(Ordering::Relaxed)),
            });
        }
        let outcome = self.root.join(FOLDER).join(name(path));
        let known: Outcome = toml::from_str(&std::fs::read_to_string(outcome).ok()?).ok()?;
        let is_it =
            known.image == path && known.size == file.length && known.modified == modified(file);
        is_it.then(|| Verified {
            state: if known.reason.is_some() {
                VerifyState::Failed
            } else {
                VerifyState::Ok
            },
            at: known.at,
            reason: known.reason.unwrap_or_default(),
            percent: None,
        })
    }

    /// Begins to check an image. One that is being checked is not checked twice.
    ///
    /// # Errors
    /// It cannot be opened, or too many wait.
    pub fn begin(&self, site: &Arc<Site>, path: &RelPath) -> Result<(), Refusal> {
        let file = site.facts(path)?;
        if is_locked(path.as_str()) && site.unlocking.is_none() {
            return Err(Refusal::new(
                StatusCode::CONFLICT,
                format!(
                    "{path} is encrypted, and this server has no keys (pitstop serve --identities): pitstop verify --identity \
                     FILE checks it where the key is"
                ),
            ));
        }
        let going = Going {
            since: Timestamp::now(),
            percent: Arc::default(),
        };
        {
            let mut all = self.going();
            if all.contains_key(path.as_str()) {
                return Ok(());
            }
            if all.len() >= MOST {
                return Err(Refusal::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    format!("{MOST} images wait to be checked already"),
                ));
            }
            all.insert(path.as_str().to_owned(), going.clone());
        }
        let (site, path, turn) = (Arc::clone(site), path.clone(), Arc::clone(&self.turn));
        thread::spawn(move || {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            let reason = check(&site, path.as_str(), &going).err();
            let done = Outcome {
                image: path.as_str().to_owned(),
                size: file.length,
                modified: modified(&file),
                at: Timestamp::now(),
                reason,
            };
            site.verifier.end(&site, &done);
        });
        Ok(())
    }

    fn end(&self, site: &Site, done: &Outcome) {
        match &done.reason {
            None => site
                .journal
                .note(&format!("{}: every chunk is right", done.image)),
            Some(why) => site.journal.note(&format!("{}: {why}", done.image)),
        }
        if let Err(error) = self.write(done) {
            let name = name(&done.image);
            site.journal
                .note(&format!("writing {FOLDER}/{name}: {error}"));
        }
        self.going().remove(&done.image);
        site.events.tell(&Event::Image(ImageChange {
            path: done.image.clone(),
            change: Change::Verified,
        }));
    }

    fn write(&self, done: &Outcome) -> std::io::Result<()> {
        let text = toml::to_string(done).map_err(std::io::Error::other)?;
        let folder = make_folder(&self.root, &[FOLDER])?;
        replace(&folder, &name(&done.image), &text)
    }

    /// Forgets what was found of an image that is gone.
    pub fn forget(&self, path: &str) -> std::io::Result<()> {
        match std::fs::remove_file(self.root.join(FOLDER).join(name(path))) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// A file's name for whatever path.
pub fn name(path: &str) -> String {
    let hash = blake3::hash(path.as_bytes()).to_hex();
    format!("{}.toml", &hash[..32])
}

/// When it was changed, to the nanosecond.
pub fn modified(file: &Facts) -> Option<Timestamp> {
    Timestamp::try_from(file.modified?).ok()
}

/// Whether an image is encrypted, as its name says: the last one of its disk, or one that was before it.
fn is_locked(path: &str) -> bool {
    is_named_encrypted(split(path).0)
}

/// Reads all of the image; the error is a sentence for people.
fn check(site: &Site, path: &str, going: &Going) -> Result<(), String> {
    let told = |error: anyhow::Error| format!("{error:#}");
    let mut image = site.image(path).map_err(told)?;
    if let Some(unlocking) = site.unlocking.as_ref().filter(|_| is_locked(path)) {
        image = unlocking.open(image).map_err(told)?;
    }
    let progress = Percent(Arc::clone(&going.percent));
    match verify(&*image, THREADS, &progress) {
        Ok(_) => Ok(()),
        Err(error) => Err(told(error.into())),
    }
}

/// Hears how far it is.
struct Percent(Arc<AtomicU8>);

impl Reporter for Percent {
    fn event(&self, event: &Told) {
        if let Told::Progress(progress) = event
            && let Some(percent) = progress.percent()
        {
            self.0.store(percent, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_before_the_last_are_encrypted_as_it_is() {
        for path in [
            "m/sda.raw.gz.age",
            "m/sda.raw.gz.age.old",
            "m/sda.raw.gz.age.20261120T120000Z",
        ] {
            assert!(is_locked(path), "{path}");
        }
        for path in ["m/sda.raw.gz", "m/sda.raw.gz.old", "m.age/sda.raw.gz.old"] {
            assert!(!is_locked(path), "{path}");
        }
    }
}
