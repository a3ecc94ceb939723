//! Whose an unfinished upload is. A store lets everybody go on with it who may write there, and tells nobody. So whoever
//! goes on with what another run left puts a mark in it, a part that is never one of the object. The other run, if it
//! lives, sees that, ends, and takes nothing away: the later one makes the object.

use super::Store;
use super::answer;
use super::sign::Ask;
use super::upload::{Told, told};
use crate::share::TakenOver;
use anyhow::bail;
use bytes::Bytes;

/// The part that is the mark: the last number that a store takes.
pub(super) const MARK: u16 = 10_000;

/// So many parts are sent between two looks at the mark. Whoever goes on leaves as many numbers free, for those that are
/// on their way then.
pub(super) const UNWATCHED: u16 = 16;

/// That an upload is one's own.
pub(super) struct Claim {
    /// The tag of one's own mark; `None` of who began the upload.
    mark: Option<String>,
    /// Parts that are sent before the next look.
    left: u16,
    /// It was seen to be another's.
    pub is_lost: bool,
}

impl Claim {
    /// Of who begins an upload.
    pub fn first() -> Self {
        Self {
            mark: None,
            left: UNWATCHED,
            is_lost: false,
        }
    }

    /// Takes over what another run left. `None` where it is gone, or the store takes no mark.
    pub fn put(store: &Store, key: &str, upload: &str) -> anyhow::Result<Option<Self>> {
        let mark = Bytes::from(format!("{:032x}", fastrand::u128(..)));
        let part = Ask::Part {
            upload: upload.into(),
            number: MARK,
        };
        let answer = store.ask(&part, key, &mark)?;
        let tag = answer.etag().map(|tag| answer::bare(tag).to_owned());
        let is_there = answer.status().is_success();
        Ok(tag.filter(|_| is_there).map(|tag| Self {
            mark: Some(tag),
            left: 0,
            is_lost: false,
        }))
    }

    /// To be called before each part that is sent: now and then it looks.
    ///
    /// # Errors
    /// [`TakenOver`]: somebody else goes on with the upload.
    pub fn watch(&mut self, store: &Store, key: &str, upload: &str) -> anyhow::Result<()> {
        if self.left == 0 {
            self.check(store, key, upload)?;
            self.left = UNWATCHED;
        }
        self.left -= 1;
        Ok(())
    }

    /// Looks now.
    ///
    /// # Errors
    /// As of [`watch`](Self::watch).
    pub fn check(&mut self, store: &Store, key: &str, upload: &str) -> anyhow::Result<()> {
        let told = told(store, key, upload, true)?;
        self.judge(&told, key)
    }

    /// The same, of what was told.
    pub fn judge(&mut self, told: &Told, key: &str) -> anyhow::Result<()> {
        self.is_lost |= match told {
            Told::Parts(parts) => {
                let mark = parts.iter().find(|part| part.number == MARK);
                mark.map(|part| &part.tag) != self.mark.as_ref()
            }
            Told::Gone => true,
            // Keys may be good for writing and for nothing else: then nobody goes on with their uploads.
            Told::Not => false,
        };
        if self.is_lost {
            bail!(TakenOver::new(format!(
                "{key}: another backup has gone on with this upload and makes the image, so this one ends: \
                 let one at a time write there"
            )));
        }
        Ok(())
    }

    /// What to say of a failure: that somebody else goes on with the upload, if that is why.
    pub fn explain(
        &mut self,
        store: &Store,
        key: &str,
        upload: &str,
        error: anyhow::Error,
    ) -> anyhow::Error {
        match told(store, key, upload, false) {
            Ok(told) => self.judge(&told, key).err().unwrap_or(error),
            Err(_) => error,
        }
    }

    /// Whether this run may take the upload back: in doubt it may not, for another may be at it.
    pub fn may_abort(&mut self, store: &Store, key: &str, upload: &str) -> bool {
        !self.is_lost
            && told(store, key, upload, false).is_ok_and(|told| self.judge(&told, key).is_ok())
    }
}
