//! An upload in segments, to a server that can append: what is acknowledged is never sent again, and what is not
//! is still in memory.
//!
//! Each segment is a PUT with a `Content-Range`, bound by `If-Match` to the file as the one before it left it: the
//! bytes of two writers never mix. Where a part of the same file is there already, as after a power cut, segments
//! whose digest the server tells are not sent. `docs/pitstop.md` has the protocol.

use super::{Facts, facts, send};
use crate::fetch::http::{Backoff, Response, Soon, asks_for_patience, is_away};
use crate::fetch::{HttpClient, HttpError};
use anyhow::{anyhow, bail};
use bytes::{Bytes, BytesMut};
use pitstop_imaging::units;
use pitstop_protocol::redacted;
use reqwest::{Method, StatusCode};
use std::io::{self, Write};
use url::Url;

/// Told by a server that appends: the most bytes of one request.
const APPENDS: &str = "pitstop-append";

/// Asks for, and tells, the BLAKE3 of a part of a file.
const DIGEST: &str = "pitstop-digest";

/// Bytes of a segment. Two are in memory: one being filled, one on its way.
pub(super) const SEGMENT: usize = 2 << 20;

/// A segment that has no answer yet.
struct Flying {
    bytes: Bytes,
    answer: Soon,
}

pub(super) struct Segments {
    http: HttpClient,
    part: Url,
    filling: BytesMut,
    flying: Option<Flying>,
    /// Bytes that the server has acknowledged, and its tag of them.
    held: u64,
    tag: Option<String>,
    /// What an earlier upload left, as long as it is the same.
    left: Option<Facts>,
    found: u64,
    /// Why the upload ended: whoever writes on is told the same again.
    failed: Option<String>,
}

/// Whether the server says that it appends to this name, in segments as they are here.
pub(super) fn appends(http: &HttpClient, part: &Url) -> anyhow::Result<bool> {
    let response = send(|| http.request(Method::OPTIONS, part))?;
    let most = response.header(APPENDS).and_then(|most| most.parse().ok());
    Ok(response.status().is_success() && most.is_some_and(|most: usize| most >= SEGMENT))
}

impl Segments {
    pub fn begin(http: &HttpClient, part: &Url) -> anyhow::Result<Self> {
        let left = facts(http, part)?.filter(|left| left.size > 0 && left.etag.is_some());
        Ok(Self {
            http: http.clone(),
            part: part.clone(),
            filling: BytesMut::with_capacity(SEGMENT),
            flying: None,
            held: 0,
            tag: None,
            left,
            found: 0,
            failed: None,
        })
    }

    /// Sends what is left, waits until the server has all, and returns how much that is.
    pub fn finish(mut self) -> anyhow::Result<u64> {
        self.check()?;
        if !self.filling.is_empty() {
            self.ship()?;
        }
        self.land()?;
        Ok(self.held)
    }

    fn check(&self) -> anyhow::Result<()> {
        match &self.failed {
            Some(failed) => bail!("{failed}"),
            None => Ok(()),
        }
    }

    /// Puts the full segment on its way, once the one before it has landed.
    fn ship(&mut self) -> anyhow::Result<()> {
        self.land()?;
        let bytes = self.filling.split().freeze();
        self.filling.reserve(SEGMENT);
        if self.is_there(&bytes)? {
            return Ok(());
        }
        let answer = self.send(&bytes);
        self.flying = Some(Flying { bytes, answer });
        Ok(())
    }

    /// Whether an earlier upload left these bytes at this place.
    fn is_there(&mut self, bytes: &Bytes) -> anyhow::Result<bool> {
        let Some(left) = self.left.take() else {
            return Ok(false);
        };
        let end = self.held + bytes.len() as u64;
        if end <= left.size && self.digest_is(bytes, left.etag.as_deref())? {
            self.held = end;
            self.found = end;
            self.tag.clone_from(&left.etag);
            self.left = Some(left);
            return Ok(true);
        }
        self.tell_found();
        Ok(false)
    }

    fn tell_found(&mut self) {
        if self.found > 0
            && let Some(reporter) = &self.http.settings().reporter.0
        {
            reporter.info(format!(
                "{}: {} of it are there from an interrupted run; the upload goes on from there",
                redacted(&self.part),
                units::bytes(self.found)
            ));
        }
        self.found = 0;
    }

    /// Whether the server holds these bytes where they belong, in the file that `tag` names.
    fn digest_is(&self, bytes: &Bytes, tag: Option<&str>) -> anyhow::Result<bool> {
        let last = self.held + bytes.len() as u64 - 1;
        let range = format!("bytes={}-{last}", self.held);
        let response = send(|| {
            let request = self.http.request(Method::HEAD, &self.part);
            let request = request.header(DIGEST, &range);
            match tag {
                Some(tag) => request.header("if-match", tag),
                None => request,
            }
        })?;
        let told = response.header(DIGEST);
        Ok(response.status() == StatusCode::OK
            && told == Some(blake3::hash(bytes).to_hex().as_str()))
    }

    fn send(&self, bytes: &Bytes) -> Soon {
        let last = self.held + bytes.len() as u64 - 1;
        let request = self
            .http
            .request(Method::PUT, &self.part)
            .header("content-range", &format!("bytes {}-{last}/*", self.held));
        let request = match &self.tag {
            Some(tag) => request.header("if-match", tag),
            None => request,
        };
        request.body(bytes.clone()).begin()
    }

    /// Waits for the segment on its way; sends it again as long as there is patience.
    fn land(&mut self) -> anyhow::Result<()> {
        let Some(Flying { bytes, mut answer }) = self.flying.take() else {
            return Ok(());
        };
        let mut backoff = Backoff::new(&self.http);
        loop {
            let Some(error) = self.landed(answer.wait(), &bytes)? else {
                return Ok(());
            };
            if !backoff.again(&error) {
                self.http.give_up();
                // A text: nothing is gained by reading the disk again for a server that was waited for.
                bail!("{error}{}", backoff.told());
            }
            if self.arrived_unseen(&bytes)? {
                return Ok(());
            }
            answer = self.send(&bytes);
        }
    }

    /// What an answer says of a segment: `None` when the server has it, an error when asking again may help.
    fn landed(
        &mut self,
        answer: Result<Response, HttpError>,
        bytes: &Bytes,
    ) -> anyhow::Result<Option<HttpError>> {
        let response = match answer {
            Err(error) if error.failure.is_passing() => return Ok(Some(error)),
            Err(error) => return Err(error.into()),
            Ok(response) => response,
        };
        let status = response.status();
        if asks_for_patience(status) || is_away(status) {
            return Ok(Some(response.broken()));
        }
        if status == StatusCode::PRECONDITION_FAILED || status == StatusCode::CONFLICT {
            // A request that was thought to be lost may have come late.
            if self.arrived_unseen(bytes)? {
                return Ok(None);
            }
            return Err(self.changed());
        }
        if !status.is_success() {
            bail!(response.refusal());
        }
        let tag = response.etag().map(str::to_owned);
        self.tag = Some(tag.ok_or_else(|| anyhow!("{}: no ETag came", redacted(&self.part)))?);
        self.held += bytes.len() as u64;
        Ok(None)
    }

    /// After a lost answer: whether the segment went in all the same. A file that is neither as it was before nor
    /// as it would be is somebody else's, or the server's power failed too.
    fn arrived_unseen(&mut self, bytes: &Bytes) -> anyhow::Result<bool> {
        let now = facts(&self.http, &self.part)?;
        let tag = now.as_ref().and_then(|now| now.etag.clone());
        if self.tag.is_some() && tag == self.tag {
            return Ok(false);
        }
        let size = now.map_or(0, |now| now.size);
        let whole = self.held + bytes.len() as u64;
        if size == whole && self.digest_is(bytes, tag.as_deref())? {
            self.held = whole;
            self.tag = tag;
            return Ok(true);
        }
        // The first segment replaces whatever is there.
        if self.held == 0 {
            return Ok(false);
        }
        Err(self.changed())
    }

    fn changed(&self) -> anyhow::Error {
        anyhow!(
            "{} is not as this upload left it: somebody else wrote to it, or the server lost bytes",
            redacted(&self.part)
        )
    }
}

impl Write for Segments {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.check().map_err(io::Error::other)?;
        let count = data.len().min(SEGMENT - self.filling.len());
        self.filling.extend_from_slice(&data[..count]);
        if self.filling.len() == SEGMENT
            && let Err(error) = self.ship()
        {
            self.failed = Some(format!("{error:#}"));
            return Err(super::pending::as_io(error));
        }
        Ok(count)
    }

    /// Segments are sent when they are full: nothing to do before the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
