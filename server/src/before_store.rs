//! The share where it is a store and this server stands before it: what machines that speak plain HTTP ask for becomes
//! requests to the store. Nothing is kept here, so that several servers may stand before one store, and any of them may die:
//! an upload that did not come to its end leaves nothing under its name.

mod again;
mod requests;

pub use requests::{act, body};

use crate::file::Facts;
use crate::journal::Journal;
use crate::path::RelPath;
use crate::refusal::{Refusal, blocking};
use crate::url::store_of;
use anyhow::{Context as _, anyhow, bail};
use axum::http::StatusCode;
use pitstop_imaging::event::{Event, Reporter};
use pitstop_imaging::image::ImageSource;
use pitstop_imaging::render::sentence;
use pitstop_protocol::share_url::{MARKERS, S3Url, ShareUrl};
use pitstop_transport::fetch::{HttpClient, HttpError, Listener, Roots, Settings};
use pitstop_transport::share::{Changed, Keys, Listed, Object, S3Share, Share as _, Signer};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a store that is away is waited for: less than a machine waits for this server.
const PATIENCE: Duration = Duration::from_secs(20);

/// A store that is the share.
pub struct Store {
    share: S3Share,
}

/// Tells the journal what the store's client tells.
struct ToJournal(Arc<Journal>);

impl Reporter for ToJournal {
    fn event(&self, event: &Event) {
        if let Some((_, text)) = sentence(event) {
            self.0.note(&format!("the store: {text}"));
        }
    }
}

impl Store {
    /// The store that `--share` names.
    ///
    /// # Errors
    /// It is none, there are no keys for it, or it cannot be opened.
    pub fn of_url(
        url: &ShareUrl,
        keys: Option<&Keys>,
        journal: &Arc<Journal>,
    ) -> anyhow::Result<Self> {
        let store = store_url(url)?;
        let listener = Listener(Some(Arc::new(ToJournal(Arc::clone(journal)))));
        let store = Self::open(store, needed(keys, url)?, listener)?;
        let made = store.make_marker();
        made.with_context(|| format!("opening the share {url}"))?;
        Ok(store)
    }

    /// The store that is `share`, or else that of the server of `root`, for who is at its root: with the keys in a file, or else those of
    /// the environment. `None` where the share is a folder below the root. Nothing is asked of it yet.
    ///
    /// # Errors
    /// It is none, or there are no keys for it.
    pub fn at_hand(
        root: &Path,
        share: Option<&ShareUrl>,
        keys: Option<&Path>,
    ) -> anyhow::Result<Option<Self>> {
        if let Some(url) = share {
            return Self::with_keys_of(url, keys).map(Some);
        }
        let Some(url) = store_of(root)? else {
            return Ok(None);
        };
        let parsed = url.parse::<ShareUrl>();
        let parsed = parsed.map_err(|why| anyhow!("{why}"));
        let store = parsed.and_then(|url| Self::with_keys_of(&url, keys));
        let shown = root.display();
        let store = store.with_context(|| format!("the share of {shown} is the store {url}"))?;
        Ok(Some(store))
    }

    fn with_keys_of(url: &ShareUrl, keys: Option<&Path>) -> anyhow::Result<Self> {
        let keys = match keys {
            Some(file) => Some(Keys::from_private_file(file)?),
            None => Keys::from_environment()?,
        };
        let store = store_url(url)?;
        Self::open(store, needed(keys.as_ref(), url)?, Listener::default())
    }

    fn open(url: &S3Url, keys: &Keys, reporter: Listener) -> anyhow::Result<Self> {
        let settings = Settings {
            retry_for: PATIENCE,
            // As curl on this computer does: the authorities of mkimage are in an initramfs alone.
            roots: Roots::System,
            reporter,
            ..Settings::default()
        };
        let share = S3Share::new(url, &HttpClient::new(settings)?, Signer::new(url, keys)?);
        Ok(Self { share })
    }

    /// Its files.
    pub fn share(&self) -> &S3Share {
        &self.share
    }

    fn make_marker(&self) -> anyhow::Result<()> {
        if self.has_marker()? {
            return Ok(());
        }
        let mut marker = self.share.create(MARKERS[0])?;
        marker.write_all(b"This folder is the share of pitstop.\n")?;
        marker.finish()
    }

    /// # Errors
    /// The store does not answer.
    pub fn has_marker(&self) -> anyhow::Result<bool> {
        for marker in MARKERS {
            if self.share.object(marker)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// An image, for random access.
    ///
    /// # Errors
    /// There is none, or the store does not answer.
    pub fn image(&self, path: &str) -> anyhow::Result<Box<dyn ImageSource>> {
        self.share.image(path)
    }

    /// Adds lines to a log: stores append nothing, so they become a part of an object of this server's own.
    ///
    /// # Errors
    /// The store does not take it.
    pub fn append(&self, path: &RelPath, lines: &str) -> Result<(), Refusal> {
        let added = self.share.append(path.as_str(), lines);
        added.map_err(|error| failed(&format!("adding to {path}"), &error))
    }

    /// What is known of a file; `None` where there is none.
    ///
    /// # Errors
    /// The store does not answer.
    pub fn facts(&self, path: &RelPath) -> Result<Option<Facts>, Refusal> {
        Ok(self.object(path)?.as_ref().map(facts))
    }

    /// The same, for who must not block.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn look(self: &Arc<Self>, path: &RelPath) -> Result<Option<Facts>, Refusal> {
        let (store, path) = (Arc::clone(self), path.clone());
        blocking(move || store.facts(&path)).await
    }

    /// The bytes of a small file.
    ///
    /// # Errors
    /// It is not there, or the store does not answer.
    pub fn read(&self, path: &str, most: u64) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.share.open(path)?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Every file below `folder`, which is empty for the share itself, by its path.
    ///
    /// # Errors
    /// The store does not answer.
    pub fn files_below(&self, folder: &str) -> Result<Vec<(String, Facts)>, Refusal> {
        let listed = self.share.list(folder, true);
        let listed = listed.map_err(|error| failed(&format!("listing {folder}/"), &error))?;
        let below = |name: String| {
            if folder.is_empty() {
                name
            } else {
                format!("{folder}/{name}")
            }
        };
        let files = listed.into_iter().filter_map(|one| {
            let facts = facts(one.object.as_ref()?);
            Some((below(one.name), facts))
        });
        Ok(files.collect())
    }

    fn object(&self, path: &RelPath) -> Result<Option<Object>, Refusal> {
        if path.is_root() {
            return Ok(None);
        }
        let object = self.share.object(path.as_str());
        object.map_err(|error| failed(&format!("looking for {path}"), &error))
    }

    fn list(&self, path: &RelPath) -> Result<Vec<Listed>, Refusal> {
        let listed = self.share.list(path.as_str(), false);
        listed.map_err(|error| failed(&format!("listing {path}/"), &error))
    }
}

fn store_url(url: &ShareUrl) -> anyhow::Result<&S3Url> {
    let ShareUrl::S3(store) = url else {
        bail!(
            "--share {url}: a share elsewhere is a store, s3://bucket/prefix; a folder is share/ under the root"
        );
    };
    Ok(store)
}

fn needed<'a>(keys: Option<&'a Keys>, url: &ShareUrl) -> anyhow::Result<&'a Keys> {
    keys.with_context(|| {
        format!(
            "--share {url} needs keys: --store-keys FILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    })
}

fn facts(object: &Object) -> Facts {
    Facts {
        length: object.size,
        modified: object.modified.map(Into::into),
        tag: object.tag.as_ref().and_then(|tag| tag.parse().ok()),
    }
}

/// What the client is told of a store that fails: to come again, where that may help.
fn failed(act: &str, error: &anyhow::Error) -> Refusal {
    if error.is::<Changed>() {
        return Refusal::precondition();
    }
    let passing = HttpError::behind(error).is_some_and(|error| error.failure.is_passing());
    let status = if passing {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    Refusal::new(status, format!("{act}: {error:#}"))
}
