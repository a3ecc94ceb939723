//! A share on an HTTP server: GET with Range, PUT, DELETE and `WebDAV`'s MOVE (RFC 9110, RFC 4918), as nginx,
//! Apache and the embedded server have them.

mod again;
mod append;
mod growing;
mod image;
mod moving;
mod pending;
mod relay;
mod segments;
mod whole;

pub use again::BaseLost;
pub use growing::{Grown, Growth, LAST_ROUND, ROUND};
pub use image::HttpImage;
pub(super) use image::{Address, Resuming};
pub use relay::{RELAY, RELAY_WANTED, RelayAt, relay_at};

use super::{NewAgain, Pending, Share, Stat};
use crate::fetch::http::{Backoff, Request, Response, asks_for_patience, is_away};
use crate::fetch::{HttpClient, HttpError};
use anyhow::{Context as _, anyhow, bail};
use moving::{Terms, move_file};
use pending::HttpPending;
pub(super) use pending::as_io;
use pitstop_imaging::image::ImageSource;
use pitstop_protocol::job::check_folder;
use pitstop_protocol::redacted;
use reqwest::{Method, StatusCode};
use std::collections::HashSet;
use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};
use url::Url;

/// A folder on an HTTP server.
#[derive(Debug)]
pub struct HttpShare {
    http: HttpClient,
    /// Ends in `/`.
    base: Url,
    name: String,
    /// Folders that have been asked for already.
    made: Mutex<HashSet<String>>,
}

/// What HEAD, or its stand-in, says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub size: u64,
    pub etag: Option<String>,
}

impl HttpShare {
    /// The share whose root is at `base`, which ends in `/`. Nothing is asked of the server yet.
    pub fn new(base: &Url, http: &HttpClient) -> Self {
        Self {
            http: http.clone(),
            base: base.clone(),
            name: redacted(base).trim_end_matches('/').to_owned(),
            made: Mutex::default(),
        }
    }

    /// The URL of a path on the share, whatever characters it has.
    fn url(&self, path: &str) -> anyhow::Result<Url> {
        check_folder(path).map_err(|why| anyhow!(why))?;
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow!("{} cannot hold files", self.name))?
            .pop_if_empty()
            .extend(path.split('/'));
        Ok(url)
    }

    /// Makes the folders that `path` lies in. A server without MKCOL makes them by itself or refuses the PUT.
    fn make_parents(&self, path: &str) -> anyhow::Result<()> {
        match path.rsplit_once('/') {
            Some((folder, _)) => self.make_folder(folder),
            None => Ok(()),
        }
    }

    /// Makes a folder, and where the one it lies in is missing (RFC 4918 9.3.1 has 409 for it) that one first: those
    /// further out mostly exist, and may be nobody's to make.
    fn make_folder(&self, folder: &str) -> anyhow::Result<()> {
        if self.made().contains(folder) {
            return Ok(());
        }
        let mut answer = self.mkcol(folder)?;
        if answer.is_some_and(wants_parents)
            && let Some((above, _)) = folder.rsplit_once('/')
        {
            self.make_folder(above)?;
            answer = self.mkcol(folder)?;
        }
        // Whatever it answers: 405 says that the folder is there, and the PUT tells the rest.
        if answer.is_some() {
            self.made().insert(folder.to_owned());
        }
        Ok(())
    }

    /// `None` where there is no answer: some servers hang up on a method that they do not know.
    fn mkcol(&self, folder: &str) -> anyhow::Result<Option<StatusCode>> {
        let mut url = self.url(folder)?;
        url.set_path(&format!("{}/", url.path()));
        let mkcol = Method::from_bytes(b"MKCOL").context("MKCOL")?;
        let answer = send(|| self.http.request(mkcol.clone(), &url));
        Ok(answer.ok().map(|answer| answer.status()))
    }

    fn made(&self) -> MutexGuard<'_, HashSet<String>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn facts(&self, path: &str) -> anyhow::Result<Option<Facts>> {
        facts(&self.http, &self.url(path)?)
    }
}

impl Share for HttpShare {
    fn name(&self) -> &str {
        &self.name
    }

    fn stat(&self, path: &str) -> anyhow::Result<Option<Stat>> {
        Ok(self.facts(path)?.map(|facts| Stat { size: facts.size }))
    }

    fn open(&self, path: &str) -> anyhow::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Resuming::whole(&self.http, &self.url(path)?)?))
    }

    fn image(&self, path: &str) -> anyhow::Result<Box<dyn ImageSource>> {
        Ok(Box::new(HttpImage::open(&self.http, &self.url(path)?)?))
    }

    fn relay(&self, path: &str) -> anyhow::Result<Option<RelayAt>> {
        relay_at(&self.http, &self.url(path)?)
    }

    fn growing(&self, path: &str, round: Option<u64>) -> anyhow::Result<Growth> {
        growing::round(&self.http, &self.url(path)?, round)
    }

    fn create(&self, path: &str) -> anyhow::Result<Box<dyn Pending>> {
        let target = self.url(path)?;
        let part = self.url(&format!("{path}.part"))?;
        self.make_parents(path)?;
        Ok(Box::new(HttpPending::new(&self.http, part, target)))
    }

    fn create_again(&self, path: &str, before: &str) -> anyhow::Result<Option<NewAgain>> {
        let (before, target) = (self.url(before)?, self.url(path)?);
        let part = self.url(&format!("{path}.part"))?;
        self.make_parents(path)?;
        again::begin(&self.http, &before, part, target)
    }

    fn rename(&self, from: &str, to: &str) -> anyhow::Result<()> {
        self.make_parents(to)?;
        let terms = Terms::default();
        move_file(&self.http, &self.url(from)?, &self.url(to)?, terms)?;
        Ok(())
    }

    fn remove(&self, path: &str) -> anyhow::Result<()> {
        let url = self.url(path)?;
        let response = send(|| self.http.request(Method::DELETE, &url))?;
        match response.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(()),
            status if status.is_success() => Ok(()),
            _ => bail!(response.refusal()),
        }
    }

    fn append(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let url = self.url(path)?;
        self.make_parents(path)?;
        append::append(&self.http, &url, text)
    }
}

/// Whether MKCOL failed for something that the folder around it may mend. 405: it is there, or the server makes none.
fn wants_parents(status: StatusCode) -> bool {
    let none_are_made = matches!(
        status,
        StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
    );
    status.is_client_error() && !none_are_made
}

/// Sends a request that may be repeated, and repeats it while no connection comes about or a server
/// behind a proxy is away.
pub(super) fn send(request: impl Fn() -> Request) -> Result<Response, HttpError> {
    send_made(|| Ok(request()))
}

/// The same for a request that somebody has to make, who may fail.
pub(super) fn send_made(
    request: impl Fn() -> Result<Request, HttpError>,
) -> Result<Response, HttpError> {
    let mut asked = request()?;
    let client = asked.client().clone();
    let mut backoff = Backoff::new(&client);
    loop {
        let outcome = asked.send();
        let passing = match &outcome {
            Ok(response) => {
                let status = response.status();
                (asks_for_patience(status) || is_away(status)).then(|| response.refusal())
            }
            Err(error) => error.failure.is_passing().then(|| error.to_string()),
        };
        let Some(what) = passing else {
            return outcome;
        };
        if !backoff.again(&what) {
            return outcome.map_err(|mut error| {
                client.give_up();
                error.what.push_str(&backoff.told());
                error
            });
        }
        asked = request()?;
    }
}

/// Size and tag of a file; `None` when there is none.
pub(super) fn facts(http: &HttpClient, url: &Url) -> anyhow::Result<Option<Facts>> {
    facts_told(http, url, &send(|| http.request(Method::HEAD, url))?)
}

/// The same by the answer to HEAD, as far as it tells.
fn facts_told(http: &HttpClient, url: &Url, response: &Response) -> anyhow::Result<Option<Facts>> {
    match response.status() {
        StatusCode::OK => {
            if let Some(size) = response.length() {
                let etag = response.etag().map(str::to_owned);
                return Ok(Some(Facts { size, etag }));
            }
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
        // Servers made by hand often know no HEAD, and some allow nothing but GET, as a presigned URL does.
        StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::NOT_IMPLEMENTED
        | StatusCode::BAD_REQUEST
        | StatusCode::FORBIDDEN => {}
        _ => bail!(response.refusal()),
    }
    facts_by_get(http, url)
}

/// Asks for the first byte: the answer tells the size of the whole.
fn facts_by_get(http: &HttpClient, url: &Url) -> anyhow::Result<Option<Facts>> {
    let response = send(|| http.request(Method::GET, url).header("range", "bytes=0-0"))?;
    let size = match response.status() {
        StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(None),
        StatusCode::PARTIAL_CONTENT => response.content_range().map(|(_, _, whole)| whole),
        StatusCode::OK => response.length(),
        // Nothing can be had from an empty file (RFC 9110 15.5.17).
        StatusCode::RANGE_NOT_SATISFIABLE => Some(0),
        _ => bail!(response.refusal()),
    };
    let etag = response.etag().map(str::to_owned);
    match size {
        Some(size) => Ok(Some(Facts { size, etag })),
        None => bail!(
            "GET {}: the server does not tell the file's size",
            redacted(url)
        ),
    }
}

#[cfg(test)]
mod patience_tests;
#[cfg(test)]
mod tests;
