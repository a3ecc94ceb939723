//! What a server needs of a store beside what a share is: what is known of objects, listings, parts of an object, conditions.

use super::answer;
use super::http::{Facts, HttpImage, Resuming};
use super::pending::S3Pending;
use super::sign::Ask;
use super::{Pending, S3Share, Store, send_made};
use crate::fetch::http::Response;
use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use jiff::Timestamp;
use pitstop_protocol::job::check_folder;
use reqwest::StatusCode;
use std::cell::Cell;
use std::io::Read;
use std::ops::Range;

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Bytes.
    pub size: u64,
    /// In quotes, as it came.
    pub tag: Option<String>,
    pub modified: Option<Timestamp>,
}

/// Something in a folder of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Below the folder that was listed.
    pub name: String,
    /// `None` of a folder.
    pub object: Option<Object>,
}

/// What must hold of a name for an object to take it. Stores that know no conditions take it in any case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    #[default]
    None,
    /// There is nothing.
    Absent,
    /// The object with this tag, in quotes.
    Is(String),
}

/// The object under the name is not what it was to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}: somebody else changed it meanwhile")]
pub struct Changed(pub String);

/// What a store says to a request on a condition.
pub(super) struct Answered {
    /// `None` where the condition does not hold.
    pub response: Option<Response>,
    /// The answer to an earlier one was lost: the store may have done it then, and the condition hold no more for that alone.
    pub may_be_done: bool,
}

impl Condition {
    pub(super) fn header(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::None => None,
            Self::Absent => Some(("if-none-match", "*")),
            Self::Is(tag) => Some(("if-match", tag)),
        }
    }
}

impl S3Share {
    /// The object at `path`; `None` when there is none.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub fn object(&self, path: &str) -> anyhow::Result<Option<Object>> {
        let key = self.key(path)?;
        let response = self.store.ask(&Ask::Head, &key, &Bytes::new())?;
        match response.status() {
            StatusCode::OK => Ok(Some(Object {
                size: response
                    .length()
                    .with_context(|| format!("{key}: the store does not tell its size"))?,
                tag: response.etag().map(str::to_owned),
                modified: response.header("last-modified").and_then(answer::http_time),
            })),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.store.refused(response)),
        }
    }

    /// Whatever is in the folder at `path`, which is empty for the share itself; all below it, if `deep`.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub fn list(&self, path: &str, deep: bool) -> anyhow::Result<Vec<Listed>> {
        let mut folder = self.url.key(path);
        if !path.is_empty() {
            check_folder(path).map_err(|why| anyhow!(why))?;
        }
        if !folder.is_empty() && !folder.ends_with('/') {
            folder.push('/');
        }
        let mut listed = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let response = {
                let after = after.as_deref().map(Into::into);
                let ask = Ask::List { deep, after };
                self.store.done(&ask, &folder, &Bytes::new())?
            };
            let (more, next) = answer::listed(response, &folder)?;
            listed.extend(more);
            match next {
                None => return Ok(listed),
                // Else there would be no end.
                next if next == after => {
                    bail!("{folder}: the store lists the same again and again")
                }
                next => after = next,
            }
        }
    }

    /// Bytes of the object that is known to be like this. A reader fails if it is another one by then.
    ///
    /// # Errors
    /// What is no path.
    pub fn part(
        &self,
        path: &str,
        object: &Object,
        part: Range<u64>,
    ) -> anyhow::Result<Box<dyn Read + Send>> {
        let facts = Facts {
            size: object.size,
            etag: object.tag.clone(),
        };
        let address = self.store.readable(&self.key(path)?);
        let image = HttpImage::at(&self.store.http, address, self.shown(path), facts);
        Ok(Box::new(Resuming::part(image, part.start, part.end)))
    }

    /// As [`create`](super::Share::create), where what is under the name must still be so.
    ///
    /// # Errors
    /// What is no path. [`Changed`] comes when it is finished.
    pub fn create_if(&self, path: &str, condition: Condition) -> anyhow::Result<Box<dyn Pending>> {
        let key = self.key(path)?;
        Ok(Box::new(S3Pending::when(&self.store, key, condition)))
    }
}

impl Store {
    /// As [`ask`](Self::ask), on a condition. Of a store that does not know it, it is asked without.
    pub(super) fn ask_if(
        &self,
        ask: &Ask<'_>,
        key: &str,
        body: &Bytes,
        condition: &Condition,
    ) -> anyhow::Result<Answered> {
        let header = condition.header();
        let asked_again = Cell::new(false);
        let send = |header: Option<(&'static str, &str)>| {
            let is_first = Cell::new(true);
            send_made(|| {
                asked_again.set(asked_again.get() || !is_first.replace(false));
                let request = self.request(ask, key, body)?;
                Ok(match header {
                    Some((name, value)) => request.header(name, value),
                    None => request,
                })
            })
        };
        let mut response = send(header)?;
        if header.is_some() && response.status() == StatusCode::NOT_IMPLEMENTED {
            response = send(None)?;
        }
        let is_unmet = header.is_some()
            && matches!(
                response.status(),
                StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT
            );
        Ok(Answered {
            response: (!is_unmet).then_some(response),
            may_be_done: asked_again.get(),
        })
    }
}
