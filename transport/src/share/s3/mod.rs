//! A folder of an S3-compatible store. An object appears whole or not at all, so an image needs no temporary name;
//! nothing can be appended to, so each run's lines of a log are an object of their own.

mod answer;
mod log;
mod pending;
mod sign;

pub use sign::Signer;

use super::http::{HttpImage, Resuming, facts, send};
use super::{Pending, Share, Stat};
use crate::fetch::HttpClient;
use crate::fetch::http::Response;
use answer::{Part, refused};
use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use log::Logs;
use pending::S3Pending;
use pitstop_imaging::image::ImageSource;
use pitstop_protocol::job::check_folder;
use pitstop_protocol::share_url::S3Url;
use reqwest::StatusCode;
use sign::Ask;
use std::io::Read;
use std::sync::Arc;
use url::Url;

/// The most that a store copies in one request is 5 GiB; larger objects are copied in parts of this size.
const COPIED: u64 = 1 << 30;

/// Images, logs and info files as objects whose keys begin with the prefix.
pub struct S3Share {
    store: Store,
    url: S3Url,
    name: String,
    logs: Logs,
}

/// What every request takes. Cheap to clone.
#[derive(Clone)]
struct Store {
    http: HttpClient,
    signer: Arc<Signer>,
}

impl S3Share {
    /// The share at `url`. Nothing is asked of the store yet.
    pub fn new(url: &S3Url, http: &HttpClient, signer: Arc<Signer>) -> Self {
        Self {
            store: Store {
                http: http.clone(),
                signer,
            },
            url: url.clone(),
            name: url.to_string(),
            logs: Logs::default(),
        }
    }

    fn key(&self, path: &str) -> anyhow::Result<String> {
        check_folder(path).map_err(|why| anyhow!(why))?;
        Ok(self.url.key(path))
    }
}

impl Store {
    /// Asks, again and again as long as there is patience, and hands out whatever is answered.
    fn ask(&self, ask: &Ask<'_>, key: &str, body: &Bytes) -> anyhow::Result<Response> {
        Ok(send(|| self.request(ask, key, body))?)
    }

    fn request(&self, ask: &Ask<'_>, key: &str, body: &Bytes) -> crate::fetch::http::Request {
        let signed = self.signer.sign(ask, key);
        let mut request = self.http.request(signed.method, &signed.url);
        for (name, value) in &signed.headers {
            request = request.header(name, value);
        }
        match ask {
            // A store wants a length, also of nothing.
            Ask::Put | Ask::Part { .. } => request
                .header("content-md5", &answer::md5_for_header(body))
                .body(body.clone()),
            Ask::Begin | Ask::Copy { .. } | Ask::CopyPart { .. } | Ask::Complete { .. } => {
                request.body(body.clone())
            }
            _ => request,
        }
    }

    /// As [`ask`](Self::ask), and anything but a success is an error.
    fn done(&self, ask: &Ask<'_>, key: &str, body: &Bytes) -> anyhow::Result<Response> {
        let response = self.ask(ask, key, body)?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(refused(response))
        }
    }

    /// A URL that reads the object, by Range too.
    fn readable(&self, key: &str) -> Url {
        self.signer.sign(&Ask::Get, key).url
    }

    /// Bytes of the object; `None` when there is none.
    fn size(&self, key: &str) -> anyhow::Result<Option<u64>> {
        let response = self.ask(&Ask::Head, key, &Bytes::new())?;
        match response.status() {
            StatusCode::OK => match response.length() {
                Some(size) => Ok(Some(size)),
                None => Ok(facts(&self.http, &self.readable(key))?.map(|facts| facts.size)),
            },
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(refused(response)),
        }
    }

    fn remove(&self, key: &str) -> anyhow::Result<()> {
        let response = self.ask(&Ask::Delete, key, &Bytes::new())?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(refused(response)),
        }
    }

    /// The object `to` becomes what `from` is, without a byte through this machine.
    fn copy(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let size = self
            .size(from)?
            .with_context(|| format!("{from}: there is no such object"))?;
        if size <= COPIED {
            let response = self.done(&Ask::Copy { from }, to, &Bytes::new())?;
            answer::no_late_error(response)?;
        } else {
            self.copy_in_parts(from, size, to)?;
        }
        match self.size(to)? {
            Some(copied) if copied == size => Ok(()),
            _ => bail!("{to}: copied there, but the store does not hold its {size} bytes"),
        }
    }

    /// Has the store make the object of its parts. When the answer is lost, the object tells whether it was done.
    fn complete(&self, upload: &str, parts: &[Part], key: &str, size: u64) -> anyhow::Result<()> {
        let list = answer::list_of_parts(parts);
        let response = self.ask(&Ask::Complete { upload }, key, &list)?;
        let outcome = match response.status() {
            StatusCode::NOT_FOUND => Err(refused(response)),
            status if status.is_success() => answer::no_late_error(response),
            _ => return Err(refused(response)),
        };
        let done = self.ask(&Ask::Head, key, &Bytes::new())?;
        let tag = done.etag().map(answer::bare);
        let is_whole = done.status() == StatusCode::OK && done.length() == Some(size);
        let expected = answer::tag_of_parts(parts);
        let is_ours = expected.is_some() && tag == expected.as_deref();
        match outcome {
            Ok(()) if is_whole => Ok(()),
            Err(_) if is_whole && is_ours => Ok(()),
            Ok(()) => bail!("{key}: the store took it, but does not hold its {size} bytes"),
            Err(error) => Err(error),
        }
    }

    fn copy_in_parts(&self, from: &str, size: u64, to: &str) -> anyhow::Result<()> {
        let upload = &answer::begun(self.done(&Ask::Begin, to, &Bytes::new())?)?;
        let copied = || {
            let mut parts = Vec::new();
            let mut first = 0;
            while first < size {
                let number = u16::try_from(parts.len() + 1).context("too many parts")?;
                let last = (first + COPIED).min(size) - 1;
                let ask = Ask::CopyPart {
                    upload,
                    number,
                    from,
                    first,
                    last,
                };
                let response = self.done(&ask, to, &Bytes::new())?;
                parts.push(answer::copied(response, number)?);
                first = last + 1;
            }
            self.complete(upload, &parts, to, size)
        };
        let outcome = copied();
        if outcome.is_err() {
            // Best effort: the error that led here is the one to report.
            let _ = self.ask(&Ask::Abort { upload }, to, &Bytes::new());
        }
        outcome
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
        let url = self.store.readable(&self.key(path)?);
        Ok(Box::new(Resuming::whole(&self.store.http, &url)?))
    }

    fn image(&self, path: &str) -> anyhow::Result<Box<dyn ImageSource>> {
        let url = self.store.readable(&self.key(path)?);
        Ok(Box::new(HttpImage::open(&self.store.http, &url)?))
    }

    fn create(&self, path: &str) -> anyhow::Result<Box<dyn Pending>> {
        Ok(Box::new(S3Pending::new(&self.store, self.key(path)?)))
    }

    fn rename(&self, from: &str, to: &str) -> anyhow::Result<()> {
        let (from, to) = (self.key(from)?, self.key(to)?);
        self.store.copy(&from, &to)?;
        self.store.remove(&from)
    }

    fn remove(&self, path: &str) -> anyhow::Result<()> {
        self.store.remove(&self.key(path)?)
    }

    fn append(&self, path: &str, text: &str) -> anyhow::Result<()> {
        self.logs.append(&self.store, &self.key(path)?, text)
    }
}

#[cfg(test)]
mod moto;
#[cfg(test)]
mod tests;
