//! An object on its way to a store: in one request, or in parts where it is large. It appears when it is whole.

use super::again::LEAST;
use super::answer::{md5_tag, md5_told};
use super::sign::Ask;
use super::upload::{Source, Upload, WRONG_TAGS};
use super::{COPIED, Changed, Condition, Store};
use crate::share::http::as_io;
use crate::share::{Pending as _, Standing};
use anyhow::bail;
use bytes::{Bytes, BytesMut};
use std::io::{self, Write};
use std::ops::Range;

/// Bytes of the first parts. A store takes no smaller ones than 5 MiB, and 10,000 of them.
const PART: usize = 8 << 20;

/// After so many parts their size doubles, so that 10,000 are enough for an image of 496 GiB. Two are in memory: one being
/// filled, one on its way.
const PARTS_OF_A_SIZE: u16 = 2000;

pub(super) struct S3Pending {
    store: Store,
    key: String,
    condition: Condition,
    /// Whether it may go on with what an earlier upload left.
    resumes: bool,
    filling: BytesMut,
    /// The part being filled grows beyond its size, and is not sent: a copy follows.
    together: bool,
    /// Once there is more than a part.
    upload: Option<Upload>,
    written: u64,
    /// Why it ended: whoever writes on is told the same again.
    failed: Option<String>,
    done: bool,
}

/// Bytes of the part with this number, from 1.
fn size_of(number: usize) -> usize {
    let doublings = number.saturating_sub(1) / usize::from(PARTS_OF_A_SIZE);
    PART << doublings.min(4)
}

impl S3Pending {
    /// Of who is alone in writing there: it goes on with what a run that died has left.
    pub fn new(store: &Store, key: String) -> Self {
        let mut pending = Self::when(store, key, Condition::None);
        pending.resumes = true;
        pending
    }

    /// It takes its name if this holds then. An upload that has begun may be somebody else's, who is at it still and takes it
    /// back when it breaks: so this one is its own.
    pub fn when(store: &Store, key: String, condition: Condition) -> Self {
        Self {
            store: store.clone(),
            key,
            condition,
            resumes: false,
            filling: BytesMut::new(),
            together: false,
            upload: None,
            written: 0,
            failed: None,
            done: false,
        }
    }

    /// Of who goes on with nothing, for it does not know the bytes.
    pub fn alone(store: &Store, key: String) -> Self {
        Self::when(store, key, Condition::None)
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Whoever writes on is told the same.
    pub fn fail(&mut self, error: &io::Error) {
        self.failed = Some(error.to_string());
    }

    /// Bytes that the next part has to have, unless it is the last, and those that wait for it.
    pub fn room(&self) -> (u64, u64) {
        let before = self.upload.as_ref().map_or(0, Upload::parts);
        let least = if before < usize::from(PARTS_OF_A_SIZE) {
            LEAST
        } else {
            // Smaller ones would use up their numbers.
            size_of(before + 1) as u64
        };
        (least, self.filling.len() as u64)
    }

    /// Whether what is written from now on stays in one part, however large that gets.
    pub fn keep_together(&mut self, together: bool) {
        self.together = together;
    }

    /// Has the store copy bytes of another object, behind all that was written.
    pub fn copy(&mut self, from: &Source, mut bytes: Range<u64>) -> anyhow::Result<()> {
        if !self.filling.is_empty() {
            self.ship()?;
        }
        self.begin()?;
        let Some(upload) = &mut self.upload else {
            bail!("{}: no upload began", self.key);
        };
        upload.land(&self.store, &self.key)?;
        while bytes.start < bytes.end {
            let mut end = bytes.end.min(bytes.start + COPIED);
            if bytes.end - end < LEAST {
                end = bytes.end;
            }
            upload.copy(&self.store, &self.key, from, bytes.start..end)?;
            self.written += end - bytes.start;
            bytes.start = end;
        }
        Ok(())
    }

    pub fn has_copied(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| upload.copied)
    }

    /// The store has every part as it should be.
    pub fn check_parts(&mut self) -> anyhow::Result<()> {
        let Some(upload) = &mut self.upload else {
            return Ok(());
        };
        upload.check(&self.store, &self.key)
    }

    /// Sends what is left of an upload in parts, and waits until the store has it.
    pub fn send_rest(&mut self) -> anyhow::Result<()> {
        if let Some(failed) = &self.failed {
            bail!("{failed}");
        }
        if self.upload.is_some() && !self.filling.is_empty() {
            self.ship()?;
        }
        if let Some(upload) = &mut self.upload {
            let landed = upload.land(&self.store, &self.key);
            landed.map_err(|error| upload.explain(&self.store, &self.key, error))?;
        }
        Ok(())
    }

    /// Gives it its name, after [`send_rest`](Self::send_rest).
    pub fn end(&mut self) -> anyhow::Result<()> {
        if let Some(upload) = &mut self.upload {
            upload.check_claim(&self.store, &self.key)?;
            self.store.complete(
                &upload.id,
                &upload.sent,
                &self.key,
                self.written,
                &self.condition,
            )?;
        } else {
            self.put()?;
            if self.store.size(&self.key)? != Some(self.written) {
                bail!(
                    "{}: the store took it, but does not hold its {} bytes",
                    self.key,
                    self.written
                );
            }
        }
        self.done = true;
        Ok(())
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        if self.upload.is_none() {
            let begun = Upload::begin(&self.store, &self.key, self.resumes)?;
            self.upload = Some(begun);
        }
        Ok(())
    }

    /// Bytes that make the part being filled whole.
    fn full(&self) -> usize {
        let before = self.upload.as_ref().map_or(0, Upload::parts);
        size_of(before + 1)
    }

    /// Puts the part that is full on its way, once the one before it has landed.
    fn ship(&mut self) -> anyhow::Result<()> {
        self.begin()?;
        let bytes = self.filling.split().freeze();
        let Some(upload) = &mut self.upload else {
            bail!("{}: no upload began", self.key);
        };
        let (store, key) = (&self.store, &self.key);
        let landed = upload.land(store, key);
        let shipped = landed.and_then(|()| upload.ship(store, key, bytes));
        shipped.map_err(|error| upload.explain(store, key, error))?;
        self.filling.reserve(self.full());
        Ok(())
    }

    fn put(&mut self) -> anyhow::Result<()> {
        let bytes = self.filling.split().freeze();
        let expected = md5_tag(&bytes);
        let mut may_be_done = false;
        for _ in 0..WRONG_TAGS {
            let store = &self.store;
            let answered = store.ask_if(&Ask::Put, &self.key, &bytes, &self.condition)?;
            may_be_done |= answered.may_be_done;
            let Some(response) = answered.response else {
                if may_be_done && store.holds(&self.key, &bytes)? {
                    return Ok(());
                }
                bail!(Changed(self.key.clone()));
            };
            if !response.status().is_success() {
                return Err(store.refused(response));
            }
            if md5_told(&response).is_none_or(|tag| tag == expected) {
                return Ok(());
            }
            // It may be the answer that is wrong.
            may_be_done = true;
        }
        bail!(
            "{}: the store's tag is not that of the bytes it was sent",
            self.key
        )
    }
}

impl Write for S3Pending {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if let Some(failed) = &self.failed {
            return Err(io::Error::other(failed.clone()));
        }
        if self.together {
            self.filling.extend_from_slice(data);
            self.written += data.len() as u64;
            return Ok(data.len());
        }
        if self.filling.len() >= self.full()
            && let Err(error) = self.ship()
        {
            self.failed = Some(format!("{error:#}"));
            return Err(as_io(error));
        }
        let count = data.len().min(self.full() - self.filling.len());
        self.filling.extend_from_slice(&data[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl super::Pending for S3Pending {
    fn finish(mut self: Box<Self>) -> anyhow::Result<()> {
        self.send_rest()?;
        self.end()
    }

    fn finish_new(mut self: Box<Self>) -> anyhow::Result<()> {
        self.condition = Condition::Absent;
        self.finish()
    }

    fn standing(&self) -> Standing {
        match &self.upload {
            Some(upload) if upload.is_lost() => Standing::Alone,
            Some(upload) if self.resumes && upload.left.is_empty() => Standing::Sends,
            Some(_) if self.resumes => Standing::Found,
            _ => Standing::Alone,
        }
    }
}

impl Drop for S3Pending {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // What an earlier upload left is not this one's to remove, as long as it has sent nothing.
        if self.standing() == Standing::Found {
            return;
        }
        if let Some(upload) = &mut self.upload {
            upload.flying = None;
            if !upload.may_abort(&self.store, &self.key) {
                return;
            }
            // Best effort: the error that led here is the one to report. A store that is away keeps the parts, and the
            // next upload goes on with them.
            let ask = Ask::Abort {
                upload: upload.id.as_str().into(),
            };
            let abort = self.store.request(&ask, &self.key, &Bytes::new());
            let _ = abort.and_then(crate::fetch::http::Request::send);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_parts_are_enough_for_large_images() {
        assert_eq!(
            (size_of(1), size_of(2000), size_of(2001)),
            (PART, PART, 2 * PART)
        );
        let all: u64 = (1..=10_000).map(|number| size_of(number) as u64).sum();
        assert!(all >= 480 << 30, "{all}");
    }
}
