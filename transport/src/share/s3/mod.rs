//! A folder of an S3-compatible store. An object appears whole or not at all, so an image needs no temporary name;
//! nothing can be appended to, so each run's lines of a log are an object of their own.

mod again;
mod answer;
mod by_server;
mod claim;
mod copy;
mod keys;
mod log;
mod objects;
mod pending;
mod sign;
mod unfinished;
mod upload;

pub use by_server::ByServer;
pub(super) use by_server::WHAT_TO_DO;
pub use keys::Keys;
pub use objects::{Changed, Condition, Listed, Object};
pub use sign::{Signed, Signer};

use super::http;
use super::http::{Address, Facts, HttpImage, Resuming, facts, send_made};
use super::{NewAgain, Pending, Share, Stat};
use crate::fetch::http::{Request, Response};
use crate::fetch::{HttpClient, HttpError};
use answer::Part;
use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use jiff::Timestamp;
use log::Logs;
use pending::S3Pending;
use pitstop_imaging::image::ImageSource;
use pitstop_protocol::job::check_folder;
use pitstop_protocol::share_url::S3Url;
use reqwest::StatusCode;
use sign::Ask;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use upload::Told;
use url::Url;

/// The most that a store copies in one request is 5 GiB; larger objects are copied in parts of this size.
const COPIED: u64 = 1 << 30;

/// An address that is no longer good than this is not used any more: the request has to arrive.
const MARGIN: Duration = Duration::from_secs(60);

/// Images, logs and info files as objects whose keys begin with the prefix.
pub struct S3Share {
    store: Store,
    url: S3Url,
    name: String,
    logs: Logs,
}

/// Who signs requests.
#[derive(Debug, Clone)]
pub enum Signing {
    /// Whoever asks has the keys.
    Keys(Arc<Signer>),
    /// A server has them.
    Server(Arc<ByServer>),
}

impl From<Signer> for Signing {
    fn from(signer: Signer) -> Self {
        Self::Keys(Arc::new(signer))
    }
}

impl Signing {
    fn sign(&self, ask: &Ask<'_>, key: &str) -> Result<Signed, HttpError> {
        match self {
            Self::Keys(signer) => Ok(signer.sign(ask, key)),
            Self::Server(server) => server.sign(ask, key),
        }
    }

    /// Whose clock is in the signatures, and what it says.
    fn clock(&self) -> (String, Timestamp) {
        match self {
            Self::Keys(_) => ("this machine's clock".into(), Timestamp::now()),
            Self::Server(server) => server.clock(),
        }
    }
}

/// What every request takes. Cheap to clone.
#[derive(Clone)]
struct Store {
    http: HttpClient,
    signing: Signing,
}

/// Where an object can be read, for as long as that address is good.
struct Readable {
    store: Store,
    key: String,
    last: Mutex<Option<Signed>>,
}

impl Address for Readable {
    fn now(&self) -> Result<Url, HttpError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(signed) = &*last
            && signed.until.saturating_duration_since(Instant::now()) > MARGIN
        {
            return Ok(signed.url.clone());
        }
        // Whoever asks for the same meanwhile waits for this answer.
        let signed = self.store.signing.sign(&Ask::Get, &self.key)?;
        Ok(last.insert(signed).url.clone())
    }

    fn refused(&self, response: Response) -> String {
        self.store.refused(response).to_string()
    }
}

impl S3Share {
    /// The share at `url`. Nothing is asked of the store yet.
    pub fn new(url: &S3Url, http: &HttpClient, signing: impl Into<Signing>) -> Self {
        Self {
            store: Store {
                http: http.clone(),
                signing: signing.into(),
            },
            url: url.clone(),
            name: url.to_string(),
            logs: Logs::default(),
        }
    }

    /// The same for a machine with this folder: its logs have its name.
    #[must_use]
    pub fn written_by(self, machine: String) -> Self {
        Self {
            logs: Logs::of(Some(machine)),
            ..self
        }
    }

    fn key(&self, path: &str) -> anyhow::Result<String> {
        check_folder(path).map_err(|why| anyhow!(why))?;
        Ok(self.url.key(path))
    }

    /// A name for messages, without what a signature says.
    fn shown(&self, path: &str) -> String {
        format!("{}: {path}", self.name)
    }
}

impl Store {
    /// Asks, again and again as long as there is patience, and hands out whatever is answered.
    fn ask(&self, ask: &Ask<'_>, key: &str, body: &Bytes) -> anyhow::Result<Response> {
        Ok(send_made(|| self.request(ask, key, body))?)
    }

    fn request(&self, ask: &Ask<'_>, key: &str, body: &Bytes) -> Result<Request, HttpError> {
        let signed = self.signing.sign(ask, key)?;
        let mut request = self.http.request(signed.method, &signed.url);
        for (name, value) in &signed.headers {
            request = request.header(name, value);
        }
        Ok(match ask {
            // A store wants a length, also of nothing.
            Ask::Put | Ask::Part { .. } => request
                .header("content-md5", &answer::md5_for_header(body))
                .body(body.clone()),
            Ask::Begin => request.body(body.clone()),
            Ask::Copy { .. } | Ask::CopyPart { .. } | Ask::Complete { .. } => {
                request.body(body.clone()).patient()
            }
            _ => request,
        })
    }

    /// An answer that is no success, as an error.
    fn refused(&self, response: Response) -> anyhow::Error {
        answer::refused(response, || self.signing.clock())
    }

    /// As [`ask`](Self::ask), and anything but a success is an error.
    fn done(&self, ask: &Ask<'_>, key: &str, body: &Bytes) -> anyhow::Result<Response> {
        let response = self.ask(ask, key, body)?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(self.refused(response))
        }
    }

    /// What reads the object, by Range too.
    fn readable(&self, key: &str) -> Arc<Readable> {
        Arc::new(Readable {
            store: self.clone(),
            key: key.to_owned(),
            last: Mutex::default(),
        })
    }

    /// What is known of the object; `None` when there is none.
    fn facts(&self, key: &str) -> anyhow::Result<Option<Facts>> {
        let response = self.ask(&Ask::Head, key, &Bytes::new())?;
        match response.status() {
            StatusCode::OK => match response.length() {
                Some(size) => Ok(Some(Facts {
                    size,
                    etag: response.etag().map(str::to_owned),
                })),
                None => facts(&self.http, &self.readable(key).now()?),
            },
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.refused(response)),
        }
    }

    /// Bytes of the object; `None` when there is none.
    fn size(&self, key: &str) -> anyhow::Result<Option<u64>> {
        Ok(self.facts(key)?.map(|facts| facts.size))
    }

    fn remove(&self, key: &str) -> anyhow::Result<()> {
        let response = self.ask(&Ask::Delete, key, &Bytes::new())?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(self.refused(response)),
        }
    }

    /// Has the store make the object of its parts. When the answer is lost, the object tells whether it was done: asked once more, the
    /// store says that there is no such upload, or that the name is taken.
    fn complete(
        &self,
        upload: &str,
        parts: &[Part],
        key: &str,
        size: u64,
        condition: &Condition,
    ) -> anyhow::Result<()> {
        let list = answer::list_of_parts(parts);
        let complete = Ask::Complete {
            upload: upload.into(),
        };
        let answered = self.ask_if(&complete, key, &list, condition)?;
        let outcome = match answered.response {
            None if answered.may_be_done => Err(Changed(key.to_owned()).into()),
            None => bail!(Changed(key.to_owned())),
            Some(response) => match response.status() {
                status if status.is_success() => answer::no_late_error(response),
                status if status == StatusCode::NOT_FOUND || status.is_server_error() => {
                    Err(self.refused(response))
                }
                _ => return Err(self.refused(response)),
            },
        };
        let done = self.ask(&Ask::Head, key, &Bytes::new())?;
        let is_whole = done.status() == StatusCode::OK && done.length() == Some(size);
        match outcome {
            Ok(()) if is_whole => Ok(()),
            Ok(()) => bail!("{key}: the store took it, but does not hold its {size} bytes"),
            Err(error) => {
                let expected = answer::tag_of_parts(parts);
                let tag = done.etag().map(answer::bare);
                let is_ours = expected.is_some() && tag == expected.as_deref();
                // A store that encrypts with a key of its own tells no tag that could be known here.
                let is_ours = is_ours
                    || is_whole
                        && answered.may_be_done
                        && matches!(upload::told(self, key, upload, true), Ok(Told::Gone));
                if is_whole && is_ours {
                    Ok(())
                } else {
                    Err(error)
                }
            }
        }
    }

    /// Whether the object is these bytes, as far as its size and its tag tell.
    fn holds(&self, key: &str, bytes: &Bytes) -> anyhow::Result<bool> {
        let there = self.ask(&Ask::Head, key, &Bytes::new())?;
        Ok(there.status() == StatusCode::OK
            && there.length() == Some(bytes.len() as u64)
            && answer::md5_told(&there) == Some(answer::md5_tag(bytes)))
    }
}

impl Share for S3Share {
    fn name(&self) -> &str {
        &self.name
    }

    fn stat(&self, path: &str) -> anyhow::Result<Option<Stat>> {
        let size = self.store.size(&self.key(path)?)?;
        Ok(size.map(|size| Stat { size }))
    }

    fn open(&self, path: &str) -> anyhow::Result<Box<dyn Read + Send>> {
        let address = self.store.readable(&self.key(path)?);
        let name = self.shown(path);
        Ok(Box::new(Resuming::whole_at(
            &self.store.http,
            address,
            name,
        )?))
    }

    fn image(&self, path: &str) -> anyhow::Result<Box<dyn ImageSource>> {
        let (key, name) = (self.key(path)?, self.shown(path));
        let facts = self.store.facts(&key)?;
        let facts = facts.with_context(|| format!("{name}: there is no such file"))?;
        let address = self.store.readable(&key);
        Ok(Box::new(HttpImage::at(
            &self.store.http,
            address,
            name,
            facts,
        )))
    }

    fn create(&self, path: &str) -> anyhow::Result<Box<dyn Pending>> {
        Ok(Box::new(S3Pending::new(&self.store, self.key(path)?)))
    }

    fn create_again(&self, path: &str, before: &str) -> anyhow::Result<Option<NewAgain>> {
        self.begin_again(path, before)
    }

    fn rename(&self, from: &str, to: &str) -> anyhow::Result<()> {
        self.rename_if(from, to, None)
    }

    fn remove(&self, path: &str) -> anyhow::Result<()> {
        self.store.remove(&self.key(path)?)
    }

    fn append(&self, path: &str, text: &str) -> anyhow::Result<()> {
        self.logs.append(&self.store, &self.key(path)?, text)
    }
}

#[cfg(test)]
mod faults;
#[cfg(test)]
mod tests;
