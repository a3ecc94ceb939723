//! An upload in parts: what the store has of it, what is on its way, and what an earlier run left.

use super::Store;
use super::answer::{self, Part, md5_tag, md5_told};
use super::claim::{Claim, MARK, UNWATCHED};
use super::objects::Changed;
use super::sign::Ask;
use super::unfinished::newest_upload;
use crate::fetch::HttpError;
use crate::fetch::http::{Backoff, Soon, asks_for_patience, is_away};
use crate::share::http::BaseLost;
use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use pitstop_imaging::units;
use reqwest::StatusCode;
use std::ops::Range;

/// How often a part is sent again whose tag is not that of its bytes.
pub(super) const WRONG_TAGS: u32 = 3;

pub(super) struct Upload {
    pub id: String,
    pub sent: Vec<Part>,
    pub flying: Option<Flying>,
    /// What an earlier upload left, as long as it is the same.
    pub left: Vec<Part>,
    /// Numbers that an earlier run may be sending still, if it lives: they stay free.
    in_doubt: Range<u16>,
    claim: Claim,
    found: u64,
    /// Some of it was never sent.
    pub copied: bool,
}

/// An object that is copied from, as it is known to be.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub key: String,
    /// In quotes, as it came.
    pub tag: String,
}

/// A part that has no answer yet.
pub(super) struct Flying {
    number: u16,
    bytes: Bytes,
    answer: Soon,
}

impl Upload {
    /// Begins, or, if it `resumes`, goes on with what a run that died has left.
    pub fn begin(store: &Store, key: &str, resumes: bool) -> anyhow::Result<Self> {
        if resumes && let Some(left) = Self::left(store, key)? {
            return Ok(left);
        }
        let begun = store.done(&Ask::Begin, key, &Bytes::new())?;
        Ok(Self::with(answer::begun(begun)?, Claim::first()))
    }

    fn left(store: &Store, key: &str) -> anyhow::Result<Option<Self>> {
        let listed = store.ask(&Ask::Uploads, key, &Bytes::new())?;
        // Keys may be allowed to write and not to list: then there is nothing to go on with.
        let left = if listed.status() == StatusCode::OK {
            newest_upload(listed, key)?
        } else {
            None
        };
        let Some(id) = left else {
            return Ok(None);
        };
        // Ceph makes an object of all parts of an upload or of none: the mark of whoever goes on would keep it from ever ending.
        if id.starts_with("2~") {
            return Ok(None);
        }
        let is_worth_it = |told: &Told| match told {
            Told::Parts(parts) => parts.iter().any(|part| part.number < MARK),
            Told::Gone | Told::Not => false,
        };
        // One that just began is as likely to be another's.
        if !is_worth_it(&told(store, key, &id, true)?) {
            return Ok(None);
        }
        let Some(claim) = Claim::put(store, key, &id)? else {
            return Ok(None);
        };
        // What came before the mark.
        let Told::Parts(mut parts) = told(store, key, &id, true)? else {
            return Ok(None);
        };
        parts.retain(|part| part.number < MARK);
        let first = parts.iter().map(|part| part.number + 1).max().unwrap_or(1);
        Ok(Some(Self {
            in_doubt: first..first.saturating_add(UNWATCHED),
            left: parts,
            ..Self::with(id, claim)
        }))
    }

    fn with(id: String, claim: Claim) -> Self {
        Self {
            id,
            sent: Vec::new(),
            flying: None,
            left: Vec::new(),
            in_doubt: 0..0,
            claim,
            found: 0,
            copied: false,
        }
    }

    pub fn parts(&self) -> usize {
        self.sent.len() + usize::from(self.flying.is_some())
    }

    /// The number of the next part, once nothing is on its way.
    fn next_number(&self) -> anyhow::Result<u16> {
        let next = self.sent.last().map_or(1, |part| part.number + 1);
        let number = if self.in_doubt.contains(&next) {
            self.in_doubt.end
        } else {
            next
        };
        if number >= MARK {
            bail!("a store takes 10,000 parts, and this is larger");
        }
        Ok(number)
    }

    /// The part that an earlier run left of these bytes, behind what was found so far. Numbers may have been left free.
    fn find(&self, tag: &str, size: u64) -> Option<Part> {
        let last = self.sent.last().map_or(0, |part| part.number);
        let is_it = |part: &&Part| part.number > last && part.size == size && part.tag == tag;
        self.left.iter().find(is_it).cloned()
    }

    pub fn ship(&mut self, store: &Store, key: &str, bytes: Bytes) -> anyhow::Result<()> {
        let size = bytes.len() as u64;
        if let Some(part) = self.find(&md5_tag(&bytes), size) {
            self.found += size;
            self.sent.push(part);
            return Ok(());
        }
        let number = self.next_number()?;
        self.claim.watch(store, key, &self.id)?;
        if self.found > 0
            && let Some(reporter) = &store.http.settings().reporter.0
        {
            reporter.info(format!(
                "{key}: {} of it are there from an interrupted run; the upload goes on from there",
                units::bytes(self.found)
            ));
        }
        self.found = 0;
        self.left.clear();
        let answer = self.send(store, key, number, &bytes);
        self.flying = Some(Flying {
            number,
            bytes,
            answer,
        });
        Ok(())
    }

    fn send(&self, store: &Store, key: &str, number: u16, bytes: &Bytes) -> Soon {
        let upload = self.id.as_str().into();
        match store.request(&Ask::Part { upload, number }, key, bytes) {
            Ok(request) => request.begin(),
            Err(error) => Soon::failed(error),
        }
    }

    /// Has the store make the next part of bytes that it has. Nothing is on its way.
    pub fn copy(
        &mut self,
        store: &Store,
        key: &str,
        from: &Source,
        bytes: Range<u64>,
    ) -> anyhow::Result<()> {
        let number = self.next_number()?;
        self.claim.watch(store, key, &self.id)?;
        let ask = Ask::CopyPart {
            upload: self.id.as_str().into(),
            number,
            from: from.key.as_str().into(),
            first: bytes.start,
            last: bytes.end - 1,
            tag: Some(from.tag.as_str().into()),
        };
        let part = store.copied(&ask, key, |answer| answer::copied(answer, number));
        let part = match part {
            Ok(part) => part,
            Err(error) if passes(&error) => return Err(error),
            Err(error) if error.is::<Changed>() => bail!(BaseLost::Changed),
            Err(error) => bail!(BaseLost::NotCopied(format!("{error:#}"))),
        };
        self.left.clear();
        self.copied = true;
        self.sent.push(Part {
            size: bytes.end - bytes.start,
            ..part
        });
        Ok(())
    }

    /// Whether the store tells of every part that it is as it should be.
    pub fn check(&mut self, store: &Store, key: &str) -> anyhow::Result<()> {
        let told = told(store, key, &self.id, true)?;
        self.claim.judge(&told, key)?;
        let Told::Parts(parts) = told else {
            bail!(BaseLost::NotCopied(
                "the store does not tell what it has".into()
            ));
        };
        match self.sent.iter().find(|part| !parts.contains(part)) {
            None => Ok(()),
            Some(part) => bail!(BaseLost::NotCopied(format!(
                "part {} of {key} is not what it should be",
                part.number
            ))),
        }
    }

    /// Whether it is this run's to finish.
    pub fn check_claim(&mut self, store: &Store, key: &str) -> anyhow::Result<()> {
        self.claim.check(store, key, &self.id)
    }

    /// What to say of a failure.
    pub fn explain(&mut self, store: &Store, key: &str, error: anyhow::Error) -> anyhow::Error {
        self.claim.explain(store, key, &self.id, error)
    }

    /// Whether it is this run's to take back.
    pub fn may_abort(&mut self, store: &Store, key: &str) -> bool {
        self.claim.may_abort(store, key, &self.id)
    }

    /// Whether it is another's by now.
    pub fn is_lost(&self) -> bool {
        self.claim.is_lost
    }

    /// Waits for the part on its way; sends it again as long as there is patience. A part may come twice.
    pub fn land(&mut self, store: &Store, key: &str) -> anyhow::Result<()> {
        let Some(Flying {
            number,
            bytes,
            mut answer,
        }) = self.flying.take()
        else {
            return Ok(());
        };
        let expected = md5_tag(&bytes);
        let mut backoff = Backoff::new(&store.http);
        let mut wrong = 0;
        loop {
            let again = match landed(store, answer.wait())? {
                Landed::Has(tag, told) if told.as_ref().is_none_or(|told| *told == expected) => {
                    let size = bytes.len() as u64;
                    self.sent.push(Part { number, tag, size });
                    return Ok(());
                }
                Landed::Has(tag, _) => {
                    wrong += 1;
                    anyhow!(
                        "part {number} of {key}: its tag is {tag}, that of its bytes {expected}"
                    )
                }
                Landed::Away(error) => error.into(),
            };
            if wrong >= WRONG_TAGS || !backoff.again(&again) {
                store.http.give_up();
                bail!("{again:#}{}", backoff.told());
            }
            answer = self.send(store, key, number, &bytes);
        }
    }
}

/// Whether it may go better another time.
fn passes(error: &anyhow::Error) -> bool {
    HttpError::behind(error).is_some_and(|error| error.failure.is_passing())
}

/// What came of a part: the store has it, under its tag and with the MD5 that it tells; or asking again may help.
enum Landed {
    Has(String, Option<String>),
    Away(HttpError),
}

fn landed(
    store: &Store,
    answer: Result<crate::fetch::http::Response, HttpError>,
) -> anyhow::Result<Landed> {
    let response = match answer {
        Err(error) if error.failure.is_passing() => return Ok(Landed::Away(error)),
        other => other?,
    };
    let status = response.status();
    let passes = status == StatusCode::INTERNAL_SERVER_ERROR;
    if asks_for_patience(status) || is_away(status) || passes {
        return Ok(Landed::Away(response.broken()));
    }
    if !status.is_success() {
        return Err(store.refused(response));
    }
    let tag = response.etag().map(|tag| answer::bare(tag).to_owned());
    let tag = tag.with_context(|| format!("{}: no ETag came", response.asked()))?;
    Ok(Landed::Has(tag, md5_told(&response)))
}

/// What the store tells of an upload.
pub(super) enum Told {
    /// Every part that it has.
    Parts(Vec<Part>),
    /// There is no such upload, any more.
    Gone,
    /// It may not be looked at.
    Not,
}

/// Asks for every part of an upload, once or with patience.
pub(super) fn told(store: &Store, key: &str, upload: &str, patient: bool) -> anyhow::Result<Told> {
    let mut parts = Vec::new();
    let mut after = 0;
    loop {
        let parts_behind = Ask::Parts {
            upload: upload.into(),
            after,
        };
        let response = if patient {
            store.ask(&parts_behind, key, &Bytes::new())?
        } else {
            store.request(&parts_behind, key, &Bytes::new())?.send()?
        };
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(Told::Gone),
            status if patient || status == StatusCode::FORBIDDEN => return Ok(Told::Not),
            _ => return Err(store.refused(response)),
        }
        let (more, next) = answer::parts(response)?;
        parts.extend(more);
        match next {
            Some(next) if next > after => after = next,
            _ => return Ok(Told::Parts(parts)),
        }
    }
}
