//! An upload of which the server has most already: it takes members of the image before, and is sent the rest.

use super::pending::{Body, HttpPending};
use super::segments::{Segments, skills};
use super::whole::Whole;
use super::{HttpImage, facts};
use crate::fetch::HttpClient;
use crate::fetch::http::{Request, Response, behind};
use crate::share::{NewAgain, PendingAgain};
use pitstop_imaging::image::{Again, Held};
use pitstop_protocol::pieces::{
    BASE, BASE_CHANGED, BASE_DAMAGED, BASE_MATCH, BASE_NOT_COPIED, MOST_MADE, Member, PIECES,
};
use std::io;
use std::iter;
use url::Url;

/// What one composed piece of an upload makes, at most: more of it is more that the server holds at once.
pub(super) const MADE: u64 = 8 << 20;

/// So many bytes, so many times, in portions that make no more than [`MADE`]: how many times, and what that makes.
pub(super) fn portions(length: usize, mut times: u32) -> impl Iterator<Item = (u32, u64)> {
    let each = (length as u64).max(1);
    let most = u32::try_from(MADE / each).unwrap_or(u32::MAX).max(1);
    iter::from_fn(move || {
        let now = times.min(most);
        times -= now;
        (now > 0).then(|| (now, each * u64::from(now)))
    })
}

/// The image before, as it was when its index was read.
pub(super) struct Base {
    path: String,
    tag: String,
}

/// Nothing more is taken from the image before: the new one has to be sent as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseLost {
    #[error("the image before was replaced or removed meanwhile")]
    Changed,
    #[error("the image before is damaged: {0}")]
    Damaged(String),
    #[error("nothing is taken from the image before: {0}")]
    NotCopied(String),
}

impl BaseLost {
    /// The loss that was behind a failure, however it was wrapped on the way.
    pub fn behind(error: &anyhow::Error) -> Option<&Self> {
        behind(error)
    }
}

/// What the server says of the image before, where that is why it refuses.
pub(super) fn lost(answer: &mut Response) -> Option<BaseLost> {
    match answer.header(BASE_MATCH)? {
        BASE_CHANGED => Some(BaseLost::Changed),
        BASE_NOT_COPIED => Some(BaseLost::NotCopied(answer.words().unwrap_or_default())),
        BASE_DAMAGED => Some(BaseLost::Damaged(answer.words().unwrap_or_default())),
        _ => None,
    }
}

impl Base {
    /// The headers of a request whose body is pieces, members of this among them.
    pub fn headers(&self) -> [(&'static str, String); 3] {
        [
            (PIECES, MOST_MADE.to_string()),
            (BASE, self.path.clone()),
            (BASE_MATCH, self.tag.clone()),
        ]
    }

    pub fn named_in(&self, request: Request) -> Request {
        self.headers()
            .into_iter()
            .fold(request, |request, (name, value)| {
                request.header(name, &value)
            })
    }
}

/// Begins `target` by way of `part`, if the server composes and has `before`, under a tag that no other file ever has.
pub(super) fn begin(
    http: &HttpClient,
    before: &Url,
    part: Url,
    target: Url,
) -> anyhow::Result<Option<NewAgain>> {
    if facts(http, before)?.is_none() {
        return Ok(None);
    }
    let skills = skills(http, &part)?;
    if !skills.composes && !skills.composes_whole {
        return Ok(None);
    }
    let image = HttpImage::open(http, before)?;
    let Some(tag) = image.strong_tag() else {
        return Ok(None);
    };
    let base = Base {
        path: before.path().to_owned(),
        tag: tag.to_owned(),
    };
    let body = if skills.composes {
        Body::Segments(Box::new(Segments::composed(http, &part, base)))
    } else {
        Body::Whole(Box::new(Whole::begin(http, &part, &base)?))
    };
    Ok(Some(NewAgain {
        before: Box::new(image),
        pending: Box::new(HttpPending::of(http, part, target, body)),
    }))
}

impl Again for HttpPending {
    fn member(&mut self, member: &Held) -> io::Result<()> {
        let Held { hash, offset, size } = *member;
        let member = Member { size, hash };
        match self.body()? {
            Body::Segments(segments) => segments.member(offset, member),
            Body::Whole(whole) => whole.member(offset, member),
            Body::Small(_) | Body::Stream(_) => Err(without_base()),
        }
    }

    fn repeated(&mut self, bytes: &[u8], count: u32) -> io::Result<()> {
        match self.body()? {
            Body::Segments(segments) => segments.repeated(bytes, count),
            Body::Whole(whole) => whole.repeated(bytes, count),
            Body::Small(_) | Body::Stream(_) => Err(without_base()),
        }
    }
}

fn without_base() -> io::Error {
    io::Error::other("the upload has no image before")
}

impl PendingAgain for HttpPending {}
