//! Reading a file on an HTTP server: any part of it, or all of it in one stream that survives a broken connection.

use super::{Facts, facts, facts_told, send_made};
use crate::fetch::http::{Backoff, Response};
use crate::fetch::{HttpClient, HttpError};
use anyhow::{anyhow, bail};
use pitstop_imaging::image::ImageSource;
use pitstop_imaging::source::ReadAt;
use pitstop_protocol::redacted;
use reqwest::{Method, StatusCode};
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use url::Url;

/// Where a file is now: some addresses are good for a while only.
pub(in crate::share) trait Address: Send + Sync {
    fn now(&self) -> Result<Url, HttpError>;

    /// An answer that is none, as a sentence.
    fn refused(&self, response: Response) -> String {
        response.refusal()
    }
}

impl Address for Url {
    fn now(&self) -> Result<Url, HttpError> {
        Ok(self.clone())
    }
}

/// A file as it was when it was opened: a change on the server is an error, never a mixture.
#[derive(Clone)]
pub struct HttpImage {
    http: HttpClient,
    address: Arc<dyn Address>,
    name: String,
    facts: Facts,
    /// It may become longer; of its bytes somebody else proves what they are.
    grows: bool,
}

impl fmt::Debug for HttpImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpImage").field(&self.name).finish()
    }
}

impl HttpImage {
    /// # Errors
    /// When there is no such file or the server does not tell its size.
    pub fn open(http: &HttpClient, url: &Url) -> anyhow::Result<Self> {
        Self::known(http, url, facts(http, url)?)
    }

    /// The same of who has asked for it with HEAD.
    pub(in crate::share) fn told(
        http: &HttpClient,
        url: &Url,
        response: &Response,
    ) -> anyhow::Result<Self> {
        Self::known(http, url, facts_told(http, url, response)?)
    }

    fn known(http: &HttpClient, url: &Url, facts: Option<Facts>) -> anyhow::Result<Self> {
        let name = redacted(url);
        let facts = facts.ok_or_else(|| anyhow!("{name}: there is no such file"))?;
        Ok(Self::at(http, Arc::new(url.clone()), name, facts))
    }

    /// A file of which these facts are known.
    pub(in crate::share) fn at(
        http: &HttpClient,
        address: Arc<dyn Address>,
        name: String,
        facts: Facts,
    ) -> Self {
        Self {
            http: http.clone(),
            address,
            name,
            facts,
            grows: false,
        }
    }

    /// The first `size` bytes of a file that is still being written.
    pub(super) fn growing(http: &HttpClient, url: &Url, size: u64) -> Self {
        let facts = Facts { size, etag: None };
        let image = Self::at(http, Arc::new(url.clone()), redacted(url), facts);
        Self {
            grows: true,
            ..image
        }
    }

    /// Asks for the bytes of `first..=last`, and proves that what comes begins there. A server may send less than it
    /// was asked for (RFC 9110 15.3.7); the second value is where the answer ends.
    fn range(&self, first: u64, last: u64) -> io::Result<(Response, u64)> {
        let range = format!("bytes={first}-{last}");
        let response = send_made(|| {
            let request = self.http.request(Method::GET, &self.address.now()?);
            let request = request.header("range", &range);
            Ok(match self.strong_tag() {
                Some(tag) => request.header("if-match", tag),
                None => request,
            })
        })
        .map_err(io::Error::other)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            // The whole is as good where the whole was asked for.
            StatusCode::OK if first == 0 && last + 1 == self.facts.size => {
                self.check_same(response.length(), response.etag())?;
                return Ok((response, self.facts.size));
            }
            StatusCode::OK => {
                return Err(io::Error::other(format!(
                    "{}: the server sends the whole file instead of a part: it has no Range support",
                    self.name
                )));
            }
            StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(self.changed());
            }
            _ => return Err(io::Error::other(self.address.refused(response))),
        }
        let Some((got_first, got_last, size)) = response.content_range() else {
            return Err(io::Error::other(format!(
                "{}: a partial answer without a Content-Range",
                self.name
            )));
        };
        self.check_same(Some(size), response.etag())?;
        if got_first != first || !(first..=last).contains(&got_last) {
            return Err(io::Error::other(format!(
                "{}: bytes {first} to {last} were asked for, {got_first} to {got_last} came",
                self.name
            )));
        }
        Ok((response, got_last + 1))
    }

    /// If-Match compares strongly: a weak tag would never match (RFC 9110 13.1.1).
    pub(in crate::share) fn strong_tag(&self) -> Option<&str> {
        let tag = self.facts.etag.as_deref()?;
        (!tag.starts_with("W/")).then_some(tag)
    }

    fn check_same(&self, size: Option<u64>, etag: Option<&str>) -> io::Result<()> {
        let same_tag = match (&self.facts.etag, etag) {
            (Some(pinned), Some(now)) => opaque(pinned) == opaque(now),
            _ => true,
        };
        let same_size = |size| size == self.facts.size || self.grows && size > self.facts.size;
        if same_tag && size.is_none_or(same_size) {
            Ok(())
        } else {
            Err(self.changed())
        }
    }

    fn changed(&self) -> io::Error {
        io::Error::other(format!("{}: the file changed while it was read", self.name))
    }
}

/// A tag without its weakness mark: the same state may lose it as time goes by.
fn opaque(tag: &str) -> &str {
    tag.trim_start_matches("W/")
}

impl ReadAt for HttpImage {
    fn size(&self) -> u64 {
        self.facts.size
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let length = buf.len() as u64;
        let end = offset
            .checked_add(length)
            .filter(|end| *end <= self.facts.size);
        let Some(end) = end else {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!(
                    "{}: {length} bytes at {offset} lie beyond its end at {}",
                    self.name, self.facts.size
                ),
            ));
        };
        if buf.is_empty() {
            return Ok(());
        }
        let mut reader = Resuming::part(self.clone(), offset, end);
        reader.read_exact(buf)
    }
}

impl ImageSource for HttpImage {
    fn name(&self) -> &str {
        &self.name
    }

    fn stream_from(&self, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        if offset > self.facts.size {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{}: offset {offset} lies beyond its end", self.name),
            ));
        }
        Ok(Box::new(Resuming::part(
            self.clone(),
            offset,
            self.facts.size,
        )))
    }
}

/// Reads a part of a file in one GET; where the connection breaks, another GET takes up from there.
pub(in crate::share) struct Resuming {
    image: HttpImage,
    at: u64,
    end: u64,
    /// What comes now, and where that ends.
    response: Option<(Response, u64)>,
    backoff: Backoff,
}

impl Resuming {
    /// The bytes `at..end`.
    pub fn part(image: HttpImage, at: u64, end: u64) -> Self {
        let backoff = Backoff::new(&image.http);
        Self {
            image,
            at,
            end,
            response: None,
            backoff,
        }
    }

    /// The whole file by one plain GET, for which the server needs neither HEAD nor Range.
    pub fn whole(http: &HttpClient, url: &Url) -> anyhow::Result<Self> {
        Self::whole_at(http, Arc::new(url.clone()), redacted(url))
    }

    /// The same of a file whose address may change.
    pub fn whole_at(
        http: &HttpClient,
        address: Arc<dyn Address>,
        name: String,
    ) -> anyhow::Result<Self> {
        let response = send_made(|| Ok(http.request(Method::GET, &address.now()?)))?;
        if response.status() != StatusCode::OK {
            bail!(address.refused(response));
        }
        let (size, response) = match response.length() {
            Some(size) => (size, Some(response)),
            // Chunked: the size has to be asked for, so that the end can be proven.
            None => match facts(http, &address.now()?)? {
                Some(facts) => (facts.size, None),
                None => bail!("{name}: there is no such file"),
            },
        };
        let etag = response
            .as_ref()
            .and_then(Response::etag)
            .map(str::to_owned);
        let image = HttpImage {
            http: http.clone(),
            address,
            name,
            facts: Facts { size, etag },
            grows: false,
        };
        let mut whole = Self::part(image, 0, size);
        whole.response = response.map(|response| (response, size));
        Ok(whole)
    }

    /// Waits a little after a break; when nothing has come for too long, that is an error.
    fn broke(&mut self, cause: &io::Error) -> io::Result<()> {
        self.response = None;
        if self.backoff.again(cause) {
            return Ok(());
        }
        Err(io::Error::new(
            cause.kind(),
            format!(
                "{cause} at byte {} of {}{}",
                self.at,
                self.image.facts.size,
                self.backoff.told()
            ),
        ))
    }
}

impl Read for Resuming {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() || self.at >= self.end {
            return Ok(0);
        }
        loop {
            // The server had enough of it, and the rest is asked for.
            self.response.take_if(|(_, end)| self.at >= *end);
            let (response, end) = match &mut self.response {
                Some(response) => response,
                // Asking repeats itself; what still fails then is no passing trouble.
                None => self
                    .response
                    .insert(self.image.range(self.at, self.end - 1)?),
            };
            let left = usize::try_from(*end - self.at).unwrap_or(usize::MAX);
            let wanted = buf.len().min(left);
            let cause = match response.read(&mut buf[..wanted]) {
                Ok(0) => io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("{}: the server ended the file early", self.image.name),
                ),
                Ok(count) => {
                    self.at += count as u64;
                    self.backoff.progress();
                    return Ok(count);
                }
                Err(cause) => cause,
            };
            self.broke(&cause)?;
        }
    }
}
