//! An upload in segments, to a server that can append: what is acknowledged is never sent again, and what is not
//! is still in memory.
//!
//! Each segment is a PUT with a `Content-Range`, bound by `If-Match` to the file as the one before it left it: the
//! bytes of two writers never mix. Where a part of the same file is there already, as after a power cut, segments
//! whose digest the server tells are not sent. A segment may also be [composed]: it names what the server has. `docs/pitstop.md` has the protocol.

mod found;

use super::again::{self, Base, MADE, portions};
use super::{Facts, facts, send};
use crate::fetch::http::{Backoff, Response, Soon, asks_for_patience, is_away};
use crate::fetch::{HttpClient, HttpError};
use crate::share::Standing;
use anyhow::{anyhow, bail};
use blake3::Hash;
use bytes::{Bytes, BytesMut};
use found::{Found, Told};
use pitstop_imaging::units;
use pitstop_protocol::pieces::{Composer, MOST_MADE, Member, PIECES, PIECES_WHOLE};
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

/// What one request adds.
#[derive(Clone)]
struct Segment {
    body: Bytes,
    /// Bytes that it adds to the file: those of the body, where it is not composed.
    made: u64,
}

/// A segment that has no answer yet.
struct Flying {
    segment: Segment,
    answer: Soon,
}

/// A segment that is not full yet.
enum Filling {
    Plain(BytesMut),
    Composed(Composer),
}

pub(super) struct Segments {
    http: HttpClient,
    part: Url,
    filling: Filling,
    flying: Option<Flying>,
    /// Where composed segments take members from.
    base: Option<Base>,
    /// The last composed segment that the server has.
    told: Option<Told>,
    /// Bytes that the server has acknowledged, and its tag of them.
    held: u64,
    tag: Option<String>,
    /// What an earlier upload left, as long as it is the same.
    left: Option<Facts>,
    found: u64,
    /// The BLAKE3 of each segment that was found, until one is sent.
    same: Vec<Hash>,
    /// Why the upload ended: whoever writes on is told the same again.
    failed: Option<String>,
}

/// What a server does with a file that is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Skills {
    /// It appends, in segments as they are here.
    pub appends: bool,
    /// It composes segments of what it has.
    pub composes: bool,
    /// It composes a whole file, in one request.
    pub composes_whole: bool,
}

/// What the server says that it does with this name.
pub(super) fn skills(http: &HttpClient, part: &Url) -> anyhow::Result<Skills> {
    let response = send(|| http.request(Method::OPTIONS, part))?;
    let most = |name| response.header(name).and_then(|most| most.parse().ok());
    let appends =
        response.status().is_success() && most(APPENDS).is_some_and(|it: usize| it >= SEGMENT);
    Ok(Skills {
        appends,
        composes_whole: most(PIECES_WHOLE).is_some(),
        composes: appends && most(PIECES).is_some_and(|it| it as u64 >= MOST_MADE),
    })
}

impl Segments {
    pub fn begin(http: &HttpClient, part: &Url) -> anyhow::Result<Self> {
        let left = facts(http, part)?.filter(|left| left.size > 0 && left.etag.is_some());
        let filling = Filling::Plain(BytesMut::with_capacity(SEGMENT));
        Ok(Self {
            left,
            ..Self::with(http, part, filling)
        })
    }

    /// Segments that take members of `base`. What an earlier upload left is not gone on from: little travels anyway.
    pub fn composed(http: &HttpClient, part: &Url, base: Base) -> Self {
        Self {
            base: Some(base),
            ..Self::with(http, part, Filling::Composed(Composer::default()))
        }
    }

    fn with(http: &HttpClient, part: &Url, filling: Filling) -> Self {
        Self {
            http: http.clone(),
            part: part.clone(),
            filling,
            flying: None,
            base: None,
            told: None,
            held: 0,
            tag: None,
            left: None,
            found: 0,
            same: Vec::new(),
            failed: None,
        }
    }

    /// What a run that dies now leaves to the next one.
    pub fn standing(&self) -> Standing {
        if self.base.is_some() {
            Standing::Alone
        } else if self.left.is_some() {
            Standing::Found
        } else {
            Standing::Sends
        }
    }

    /// The server's tag of what it has acknowledged.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Sends what is left, waits until the server has all, and returns how much that is.
    pub fn finish(&mut self) -> anyhow::Result<u64> {
        self.check()?;
        let is_empty = match &self.filling {
            Filling::Plain(bytes) => bytes.is_empty(),
            Filling::Composed(composer) => composer.is_empty(),
        };
        if !is_empty {
            self.ship()?;
        }
        self.land()?;
        Ok(self.held)
    }

    /// Adds what the server is to make of what it has; sends the segment that is full before.
    fn compose(&mut self, made: u64, add: impl FnOnce(&mut Composer)) -> io::Result<()> {
        self.check().map_err(io::Error::other)?;
        let Filling::Composed(composer) = &self.filling else {
            return Err(io::Error::other("the upload has no image before"));
        };
        let full = composer.made() + made > MADE || composer.len() >= SEGMENT;
        if full && !composer.is_empty() {
            self.ship_or_fail()?;
        }
        if let Filling::Composed(composer) = &mut self.filling {
            add(composer);
        }
        Ok(())
    }

    /// The member of the base at `offset`.
    pub fn member(&mut self, offset: u64, member: Member) -> io::Result<()> {
        self.compose(member.size.into(), |composer| {
            composer.member(offset, member);
        })
    }

    /// `bytes` so many times.
    pub fn repeated(&mut self, bytes: &[u8], count: u32) -> io::Result<()> {
        portions(bytes.len(), count).try_for_each(|(times, made)| {
            self.compose(made, |composer| composer.repeated(bytes, times))
        })
    }

    fn ship_or_fail(&mut self) -> io::Result<()> {
        self.ship().map_err(|error| {
            self.failed = Some(format!("{error:#}"));
            super::pending::as_io(error)
        })
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
        let segment = match &mut self.filling {
            Filling::Plain(bytes) => {
                let body = bytes.split().freeze();
                bytes.reserve(SEGMENT);
                let made = body.len() as u64;
                Segment { body, made }
            }
            Filling::Composed(composer) => {
                let (body, made) = composer.take();
                let body = body.into();
                Segment { body, made }
            }
        };
        if self.is_there(&segment)? {
            return Ok(());
        }
        let answer = self.send(&segment);
        self.flying = Some(Flying { segment, answer });
        Ok(())
    }

    /// Whether an earlier upload left these bytes at this place.
    fn is_there(&mut self, segment: &Segment) -> anyhow::Result<bool> {
        let Some(left) = self.left.take() else {
            return Ok(false);
        };
        let end = self.held + segment.made;
        let hash = blake3::hash(&segment.body);
        let holds = if end <= left.size {
            self.digest_is(self.held, end - 1, hash, left.etag.as_deref())
        } else {
            Ok(false)
        };
        if matches!(holds, Ok(true)) {
            self.same.push(hash);
            self.held = end;
            self.found = end;
            self.tag.clone_from(&left.etag);
        }
        if !matches!(holds, Ok(false)) {
            // Also where that cannot be told: nothing was sent, so that nothing is this one's to remove.
            self.left = Some(left);
            return holds;
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

    fn send(&self, segment: &Segment) -> Soon {
        let last = self.held + segment.made - 1;
        let request = self
            .http
            .request(Method::PUT, &self.part)
            .header("content-range", &format!("bytes {}-{last}/*", self.held));
        let request = match &self.tag {
            Some(tag) => request.header("if-match", tag),
            None => request,
        };
        let request = match &self.base {
            Some(base) => base.named_in(request),
            None => request,
        };
        request.body(segment.body.clone()).begin()
    }

    /// Waits for the segment on its way; sends it again as long as there is patience.
    fn land(&mut self) -> anyhow::Result<()> {
        let Some(Flying {
            segment,
            mut answer,
        }) = self.flying.take()
        else {
            return Ok(());
        };
        let mut backoff = Backoff::new(&self.http);
        loop {
            let Some(error) = self.landed(answer.wait(), &segment)? else {
                return Ok(());
            };
            if !backoff.again(&error) {
                self.http.give_up();
                // A text: nothing is gained by reading the disk again for a server that was waited for.
                bail!("{error}{}", backoff.told());
            }
            if self.look(&segment)? == Found::Arrived {
                return Ok(());
            }
            answer = self.send(&segment);
        }
    }

    /// What an answer says of a segment: `None` when the server has it, an error when asking again may help.
    fn landed(
        &mut self,
        answer: Result<Response, HttpError>,
        segment: &Segment,
    ) -> anyhow::Result<Option<HttpError>> {
        let mut response = match answer {
            Err(error) if error.failure.is_passing() => return Ok(Some(error)),
            Err(error) => return Err(error.into()),
            Ok(response) => response,
        };
        let status = response.status();
        if asks_for_patience(status) || is_away(status) {
            return Ok(Some(response.broken()));
        }
        if let Some(lost) = again::lost(&mut response) {
            return Err(lost.into());
        }
        if status == StatusCode::PRECONDITION_FAILED || status == StatusCode::CONFLICT {
            // A request that was thought to be lost may have come late.
            let before = self.tag.clone();
            return match self.look(segment)? {
                Found::Arrived => Ok(None),
                Found::SendAgain if self.tag != before => Ok(Some(response.broken())),
                Found::SendAgain => Err(self.changed()),
            };
        }
        if !status.is_success() {
            bail!(response.refusal());
        }
        let tag = response.etag().map(str::to_owned);
        self.tag = Some(tag.ok_or_else(|| anyhow!("{}: no ETag came", redacted(&self.part)))?);
        let digest = response.header(DIGEST);
        let digest = digest.and_then(|digest| Hash::from_hex(digest).ok());
        self.told = digest.map(|digest| Told {
            first: self.held,
            last: self.held + segment.made - 1,
            digest,
        });
        self.held += segment.made;
        self.same.clear();
        Ok(None)
    }
}

impl Write for Segments {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.check().map_err(io::Error::other)?;
        // Members may have filled the body to the brim.
        if matches!(&self.filling, Filling::Composed(composer) if composer.len() >= SEGMENT) {
            self.ship_or_fail()?;
        }
        let (count, full) = match &mut self.filling {
            Filling::Plain(bytes) => {
                let count = data.len().min(SEGMENT - bytes.len());
                bytes.extend_from_slice(&data[..count]);
                (count, bytes.len() == SEGMENT)
            }
            Filling::Composed(composer) => {
                let count = data.len().min(SEGMENT - composer.len());
                composer.bytes(&data[..count]);
                (count, composer.len() >= SEGMENT || composer.made() >= MADE)
            }
        };
        if full {
            self.ship_or_fail()?;
        }
        Ok(count)
    }

    /// Segments are sent when they are full: nothing to do before the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
