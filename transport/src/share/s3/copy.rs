//! Copies that the store makes, and names that change with them: of the object that was looked at, and of no other that
//! somebody puts under its name meanwhile.

use super::answer::{self, Part};
use super::http::Facts;
use super::objects::{Changed, Condition};
use super::sign::Ask;
use super::{COPIED, S3Share, Store};
use crate::fetch::http::{Backoff, Response};
use anyhow::{Context as _, bail};
use bytes::Bytes;
use reqwest::StatusCode;

/// How often a copy is begun that fails behind the store's 200.
const TRIES: u32 = 5;

impl S3Share {
    /// As [`rename`](super::Share::rename), of the object with this tag, in quotes.
    ///
    /// # Errors
    /// [`Changed`] when it is another one, and whatever a store may fail at.
    pub fn rename_if(&self, from: &str, to: &str, tag: Option<&str>) -> anyhow::Result<()> {
        let (from, to) = (self.key(from)?, self.key(to)?);
        self.store.rename(&from, &to, tag, COPIED)
    }

    /// As [`remove`](super::Share::remove), of the object with this tag, in quotes.
    ///
    /// # Errors
    /// [`Changed`] when it is another one, and whatever a store may fail at.
    pub fn remove_if(&self, path: &str, tag: &str) -> anyhow::Result<()> {
        self.store.remove_if(&self.key(path)?, tag)
    }
}

impl Store {
    /// The object `from` is called `to`. With a `tag` only that object is; at most `at_once` bytes are copied in one request.
    pub(super) fn rename(
        &self,
        from: &str,
        to: &str,
        tag: Option<&str>,
        at_once: u64,
    ) -> anyhow::Result<()> {
        let facts = self.facts(from)?;
        let facts = facts.with_context(|| format!("{from}: there is no such object"))?;
        if tag.is_some() && facts.etag.as_deref() != tag {
            bail!(Changed(from.to_owned()));
        }
        self.copy(from, &facts, to, at_once)?;
        match strong(&facts) {
            Some(tag) => self.remove_if(from, tag),
            None => self.remove(from),
        }
    }

    /// The object `to` becomes what `from` is, without a byte through this machine.
    fn copy(&self, from: &str, facts: &Facts, to: &str, at_once: u64) -> anyhow::Result<()> {
        let size = facts.size;
        if size <= at_once {
            let ask = Ask::Copy {
                from: from.into(),
                tag: strong(facts).map(Into::into),
            };
            self.copied(&ask, to, answer::no_late_error)?;
            // Stores differ in whether they look when they copy.
            if let Some(tag) = strong(facts) {
                self.check(from, tag)?;
            }
        } else {
            self.copy_in_parts(from, facts, to, at_once)?;
        }
        match self.size(to)? {
            Some(copied) if copied == size => Ok(()),
            _ => bail!("{to}: copied there, but the store does not hold its {size} bytes"),
        }
    }

    fn copy_in_parts(
        &self,
        from: &str,
        facts: &Facts,
        to: &str,
        at_once: u64,
    ) -> anyhow::Result<()> {
        let size = facts.size;
        let upload = &answer::begun(self.done(&Ask::Begin, to, &Bytes::new())?)?;
        let copied = || {
            let mut parts: Vec<Part> = Vec::new();
            let mut first = 0;
            while first < size {
                let number = u16::try_from(parts.len() + 1).context("too many parts")?;
                let last = (first + at_once).min(size) - 1;
                let ask = Ask::CopyPart {
                    upload: upload.into(),
                    number,
                    from: from.into(),
                    first,
                    last,
                    tag: strong(facts).map(Into::into),
                };
                parts.push(self.copied(&ask, to, |answer| answer::copied(answer, number))?);
                first = last + 1;
            }
            if let Some(tag) = strong(facts) {
                self.check(from, tag)?;
            }
            self.complete(upload, &parts, to, size, &Condition::None)
        };
        let outcome = copied();
        if outcome.is_err() {
            // Best effort: the error that led here is the one to report.
            let abort = Ask::Abort {
                upload: upload.into(),
            };
            let _ = self.ask(&abort, to, &Bytes::new());
        }
        outcome
    }

    /// Has the store copy, and reads its answer: what goes wrong behind its 200 may go well another time.
    pub(super) fn copied<T>(
        &self,
        ask: &Ask<'_>,
        to: &str,
        read: impl Fn(Response) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut backoff = Backoff::new(&self.http);
        let mut tries = 0;
        loop {
            let response = self.ask(ask, to, &Bytes::new())?;
            match response.status() {
                status if status.is_success() => {}
                StatusCode::PRECONDITION_FAILED => {
                    bail!(Changed(ask.source().unwrap_or(to).to_owned()))
                }
                _ => return Err(self.refused(response)),
            }
            tries += 1;
            match read(response) {
                Err(late) if tries < TRIES && backoff.again(&format!("{late:#}")) => {}
                outcome => return outcome,
            }
        }
    }

    /// The object with this tag is there still.
    fn check(&self, key: &str, tag: &str) -> anyhow::Result<()> {
        let now = self.facts(key)?;
        if now.and_then(|now| now.etag).as_deref() == Some(tag) {
            Ok(())
        } else {
            bail!(Changed(key.to_owned()))
        }
    }

    /// Removes the object with this tag. A store that knows no conditions of a DELETE has been asked a moment before.
    pub(super) fn remove_if(&self, key: &str, tag: &str) -> anyhow::Result<()> {
        self.check(key, tag)?;
        let condition = Condition::Is(tag.to_owned());
        let answered = self.ask_if(&Ask::Delete, key, &Bytes::new(), &condition)?;
        match answered.response {
            Some(response) if response.status() == StatusCode::NOT_FOUND => Ok(()),
            Some(response) if response.status().is_success() => Ok(()),
            Some(response) => Err(self.refused(response)),
            // It was removed, and the answer to that was lost: asked once more, the store has no such object.
            None if self.facts(key)?.is_none() => Ok(()),
            None => bail!(Changed(key.to_owned())),
        }
    }
}

/// A tag that no other object has.
fn strong(facts: &Facts) -> Option<&str> {
    facts.etag.as_deref().filter(|tag| !tag.starts_with("W/"))
}
