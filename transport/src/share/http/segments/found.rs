//! What of an upload is on the server: after an answer that was lost, and of a run before.

use super::{DIGEST, Flying, SEGMENT, Segment, Segments};
use crate::share::TakenOver;
use crate::share::http::{facts, send};
use blake3::Hash;
use bytes::Bytes;
use pitstop_protocol::redacted;
use reqwest::{Method, StatusCode};

/// Bytes of the file that the server has told the digest of.
pub(super) struct Told {
    pub first: u64,
    pub last: u64,
    pub digest: Hash,
}

/// What the file on the server is, after an answer that was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The segment is in it.
    Arrived,
    /// It is as it was before, or has to be sent again whatever it is.
    SendAgain,
}

impl Segments {
    /// Takes back what this upload has sent, and nothing else: what an earlier one left, and what somebody else has put in its place, are
    /// not this one's to remove.
    pub fn abandon(mut self) {
        if self.left.is_some() {
            return;
        }
        if let Some(Flying { segment, answer }) = self.flying.take() {
            // Its answer names the file. Where none comes, the file may tell by itself.
            let landed = self.landed(answer.wait(), &segment);
            if !matches!(landed, Ok(None)) {
                let _ = self.look(&segment);
            }
        }
        if let Some(tag) = &self.tag {
            let request = self.http.request(Method::DELETE, &self.part);
            // Best effort: the error that led here is the one to report, and the next upload replaces the rest.
            let _ = request.header("if-match", tag).send();
        }
    }

    /// Whether the server holds these bytes where they belong, in the file that `tag` names.
    fn holds(&self, bytes: &Bytes, tag: Option<&str>) -> anyhow::Result<bool> {
        let last = self.held + bytes.len() as u64 - 1;
        self.digest_is(self.held, last, blake3::hash(bytes), tag)
    }

    /// Whether the server tells this digest of a part of the file that `tag` names.
    pub(super) fn digest_is(
        &self,
        first: u64,
        last: u64,
        digest: Hash,
        tag: Option<&str>,
    ) -> anyhow::Result<bool> {
        let range = format!("bytes={first}-{last}");
        let response = send(|| {
            let request = self.http.request(Method::HEAD, &self.part);
            let request = request.header(DIGEST, &range);
            match tag {
                Some(tag) => request.header("if-match", tag),
                None => request,
            }
        })?;
        let told = response.header(DIGEST);
        Ok(response.status() == StatusCode::OK && told == Some(digest.to_hex().as_str()))
    }

    /// After a lost answer: whether the segment went in all the same. A file that is neither as it was before nor
    /// as it would be is somebody else's, or the server's power failed too.
    pub(super) fn look(&mut self, segment: &Segment) -> anyhow::Result<Found> {
        let now = facts(&self.http, &self.part)?;
        let tag = now.as_ref().and_then(|now| now.etag.clone());
        if self.tag.is_some() && tag == self.tag {
            return Ok(Found::SendAgain);
        }
        let size = now.map_or(0, |now| now.size);
        let whole = self.held + segment.made;
        let plain = self.base.is_none();
        if plain && size == whole && self.holds(&segment.body, tag.as_deref())? {
            self.held = whole;
            self.tag = tag;
            return Ok(Found::Arrived);
        }
        // The first segment replaces whatever is there.
        if self.held == 0 {
            return Ok(Found::SendAgain);
        }
        if !plain && size >= self.held && self.is_ours(tag.as_deref())? {
            // What a composed segment makes is not known here: the server cuts it off and makes it again.
            self.tag = tag;
            return Ok(Found::SendAgain);
        }
        if plain && size >= self.held && self.is_as_found(tag.as_deref())? {
            // Whoever left it is at it still. It is cut off behind what is the same, and that one told.
            self.tag = tag;
            return Ok(Found::SendAgain);
        }
        Err(self.changed())
    }

    /// Whether all that was found is in the file that `tag` names, and nothing was sent since.
    fn is_as_found(&self, tag: Option<&str>) -> anyhow::Result<bool> {
        let mut first = 0;
        for hash in &self.same {
            let next = first + SEGMENT as u64;
            if !self.digest_is(first, next - 1, *hash, tag)? {
                return Ok(false);
            }
            first = next;
        }
        Ok(first > 0 && first == self.held)
    }

    /// Whether what the file that `tag` names has before the segment on its way is what this upload has put there.
    fn is_ours(&self, tag: Option<&str>) -> anyhow::Result<bool> {
        match &self.told {
            Some(told) => self.digest_is(told.first, told.last, told.digest, tag),
            None => Ok(false),
        }
    }

    pub(super) fn changed(&self) -> anyhow::Error {
        let part = redacted(&self.part);
        TakenOver::new(format!(
            "{part} is not as this upload left it: somebody else wrote to it, or the server lost bytes"
        ))
        .into()
    }
}
