//! A file on its way to an HTTP share: PUT under a temporary name, proven, then moved to its own.
//!
//! A small file is kept until its end and can be sent again as a whole. A large one goes in segments where the
//! server appends, else in one stream that nobody can take up again.

use super::again::BaseLost;
use super::moving::Terms;
use super::segments::{SEGMENT, Segments, skills};
use super::whole::Whole;
use super::{facts, move_file, send};
use crate::fetch::http::{Upload, is_away};
use crate::fetch::{HttpClient, HttpError};
use crate::share::{Standing, TakenOver};
use anyhow::{Context as _, bail};
use bytes::{Bytes, BytesMut};
use pitstop_protocol::redacted;
use reqwest::Method;
use std::io::{self, Write};
use url::Url;

pub(super) struct HttpPending {
    http: HttpClient,
    part: Url,
    target: Url,
    body: Option<Body>,
    /// What is under the temporary name may be of this upload.
    has_sent: bool,
    /// Bytes of it that the server was seen to hold.
    landed: Option<u64>,
    moved: bool,
}

pub(super) enum Body {
    /// Not sent yet; shorter than a segment.
    Small(BytesMut),
    Segments(Box<Segments>),
    Stream(Box<Upload>),
    /// In one stream, too: what the server has is named in it.
    Whole(Box<Whole>),
}

impl HttpPending {
    pub fn new(http: &HttpClient, part: Url, target: Url) -> Self {
        Self {
            http: http.clone(),
            part,
            target,
            body: Some(Body::Small(BytesMut::new())),
            has_sent: false,
            landed: None,
            moved: false,
        }
    }

    /// One that is sent from the beginning.
    pub fn of(http: &HttpClient, part: Url, target: Url, body: Body) -> Self {
        let mut pending = Self::new(http, part, target);
        pending.body = Some(body);
        pending.has_sent = true;
        pending
    }

    pub fn body(&mut self) -> io::Result<&mut Body> {
        self.body
            .as_mut()
            .ok_or_else(|| io::Error::other("the upload has ended"))
    }

    /// Begins to send what has grown too large to keep.
    fn begin(&mut self, kept: &[u8]) -> anyhow::Result<Body> {
        let mut body = if skills(&self.http, &self.part)?.appends {
            Body::Segments(Box::new(Segments::begin(&self.http, &self.part)?))
        } else {
            self.has_sent = true;
            Body::Stream(Box::new(self.http.upload(&self.part)?))
        };
        match &mut body {
            Body::Segments(segments) => segments.write_all(kept)?,
            Body::Stream(upload) => upload.write_all(kept)?,
            Body::Whole(_) | Body::Small(_) => {}
        }
        Ok(body)
    }

    /// Sends what is left; returns how many bytes the server should hold.
    fn send_rest(&mut self) -> anyhow::Result<u64> {
        if let Some(Body::Segments(segments)) = &mut self.body {
            // It stays, to be taken back if it does not get its name.
            return segments.finish();
        }
        let (response, written) = match self.body.take().context("the upload has ended")? {
            Body::Segments(_) => bail!("the upload has ended"),
            Body::Whole(whole) => return whole.finish(),
            Body::Small(bytes) => {
                self.has_sent = true;
                let bytes: Bytes = bytes.freeze();
                let put = || self.http.request(Method::PUT, &self.part);
                let response = send(|| put().body(bytes.clone()))?;
                (response, bytes.len() as u64)
            }
            Body::Stream(upload) => {
                let written = upload.written();
                (upload.finish()?, written)
            }
        };
        if is_away(response.status()) {
            return Err(response.broken().into());
        }
        if !response.status().is_success() {
            bail!(response.refusal());
        }
        Ok(written)
    }
}

/// An error for `Write`; what the network did stays to be found by [`HttpError::behind`], what happened to the image
/// before by [`BaseLost::behind`], and that another writes there by [`TakenOver::behind`].
pub(in crate::share) fn as_io(error: anyhow::Error) -> io::Error {
    error
        .downcast::<HttpError>()
        .map(io::Error::other)
        .or_else(|error| error.downcast::<BaseLost>().map(io::Error::other))
        .or_else(|error| error.downcast::<TakenOver>().map(io::Error::other))
        .or_else(anyhow::Error::downcast::<io::Error>)
        .unwrap_or_else(|error| io::Error::other(format!("{error:#}")))
}

impl Write for HttpPending {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let kept = match self.body()? {
            Body::Segments(segments) => return segments.write(data),
            Body::Stream(upload) => return upload.write(data),
            Body::Whole(whole) => return whole.write(data),
            Body::Small(bytes) if bytes.len() + data.len() < SEGMENT => {
                bytes.extend_from_slice(data);
                return Ok(data.len());
            }
            Body::Small(bytes) => bytes.split().freeze(),
        };
        match self.begin(&kept) {
            Ok(body) => self.body = Some(body),
            Err(error) => {
                // What was written before is lost: this must not become a file.
                self.body = None;
                return Err(as_io(error));
            }
        }
        self.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.body()? {
            Body::Small(_) => Ok(()),
            Body::Segments(segments) => segments.flush(),
            Body::Stream(upload) => upload.flush(),
            Body::Whole(whole) => whole.flush(),
        }
    }
}

impl HttpPending {
    /// Bytes that the server holds, which are all.
    fn landed(&mut self) -> anyhow::Result<u64> {
        if let Some(written) = self.landed {
            return Ok(written);
        }
        let written = self.send_rest()?;
        let shown = redacted(&self.part);
        match facts(&self.http, &self.part)? {
            Some(facts) if facts.size == written => {}
            Some(facts) => bail!(
                "{shown}: {written} bytes were sent, but the server holds {}",
                facts.size
            ),
            None => bail!("{shown}: the server took it, but does not have it"),
        }
        self.landed = Some(written);
        Ok(written)
    }

    fn end(mut self: Box<Self>, is_new: bool) -> anyhow::Result<()> {
        let written = self.landed()?;
        // Between the look and the move somebody else may begin to write there: half of theirs must not get the name.
        let tag = match &self.body {
            Some(Body::Segments(segments)) => segments.tag(),
            _ => None,
        };
        let there = move_file(&self.http, &self.part, &self.target, Terms { tag, is_new })?;
        self.moved = true;
        anyhow::ensure!(
            there.size == written,
            "{}: moved there, but the server does not hold its {written} bytes",
            redacted(&self.target)
        );
        Ok(())
    }
}

impl super::Pending for HttpPending {
    fn land(&mut self) -> anyhow::Result<()> {
        self.landed().map(|_| ())
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        self.end(false)
    }

    fn finish_new(self: Box<Self>) -> anyhow::Result<()> {
        self.end(true)
    }

    fn standing(&self) -> Standing {
        match &self.body {
            Some(Body::Segments(segments)) => segments.standing(),
            _ => Standing::Alone,
        }
    }
}

impl Drop for HttpPending {
    fn drop(&mut self) {
        if self.moved {
            return;
        }
        match self.body.take() {
            // What an earlier upload left is not this one's to remove, as long as it has sent nothing.
            Some(Body::Small(_)) => return,
            Some(Body::Segments(segments)) => return segments.abandon(),
            None if !self.has_sent => return,
            // First the connection, then the file: the server may still be writing.
            Some(Body::Stream(_) | Body::Whole(_)) | None => {}
        }
        // Best effort: the error that led here is the one to report, and the next upload replaces the rest.
        let _ = self.http.request(Method::DELETE, &self.part).send();
    }
}
