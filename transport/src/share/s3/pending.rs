//! An object on its way to a store: in one request, or in parts where it is large. It appears when it is whole.

use super::Store;
use super::answer::{self, Part, md5_tag, md5_told, refused};
use super::sign::Ask;
use crate::fetch::HttpError;
use crate::fetch::http::{Backoff, Soon, asks_for_patience, is_away};
use crate::share::http::as_io;
use anyhow::{Context as _, anyhow, bail};
use bytes::{Bytes, BytesMut};
use pitstop_imaging::units;
use reqwest::StatusCode;
use std::io::{self, Write};

/// Bytes of the first parts. A store takes no smaller ones than 5 MiB, and 10,000 of them.
const PART: usize = 8 << 20;

/// After so many parts their size doubles, so that 10,000 are enough for an image of 496 GiB. Two are in memory: one being
/// filled, one on its way.
const PARTS_OF_A_SIZE: u16 = 2000;

/// How often a part is sent again whose tag is not that of its bytes.
const WRONG_TAGS: u32 = 3;

pub(super) struct S3Pending {
    store: Store,
    key: String,
    filling: BytesMut,
    /// Once there is more than a part.
    upload: Option<Upload>,
    written: u64,
    /// Why it ended: whoever writes on is told the same again.
    failed: Option<String>,
    done: bool,
}

struct Upload {
    id: String,
    sent: Vec<Part>,
    flying: Option<Flying>,
    /// What an earlier upload left.
    left: Vec<Part>,
    found: u64,
}

/// A part that has no answer yet.
struct Flying {
    number: u16,
    bytes: Bytes,
    answer: Soon,
}

/// Bytes of the part with this number, from 1.
fn size_of(number: usize) -> usize {
    let doublings = number.saturating_sub(1) / usize::from(PARTS_OF_A_SIZE);
    PART << doublings.min(4)
}

impl S3Pending {
    pub fn new(store: &Store, key: String) -> Self {
        Self {
            store: store.clone(),
            key,
            filling: BytesMut::new(),
            upload: None,
            written: 0,
            failed: None,
            done: false,
        }
    }

    /// Bytes that make the part being filled whole.
    fn full(&self) -> usize {
        let before = self.upload.as_ref().map_or(0, Upload::parts);
        size_of(before + 1)
    }

    /// Puts the part that is full on its way, once the one before it has landed.
    fn ship(&mut self) -> anyhow::Result<()> {
        let bytes = self.filling.split().freeze();
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => self.upload.insert(Upload::begin(&self.store, &self.key)?),
        };
        upload.land(&self.store, &self.key)?;
        upload.ship(&self.store, &self.key, bytes)?;
        self.filling.reserve(self.full());
        Ok(())
    }

    fn put(&mut self) -> anyhow::Result<()> {
        let bytes = self.filling.split().freeze();
        let expected = md5_tag(&bytes);
        for _ in 0..WRONG_TAGS {
            let response = self.store.done(&Ask::Put, &self.key, &bytes)?;
            if md5_told(&response).is_none_or(|tag| tag == expected) {
                return Ok(());
            }
        }
        bail!(
            "{}: the store's tag is not that of the bytes it was sent",
            self.key
        )
    }
}

impl Upload {
    /// Goes on with what a run that died has left, or begins anew.
    fn begin(store: &Store, key: &str) -> anyhow::Result<Self> {
        let listed = store.ask(&Ask::Uploads, key, &Bytes::new())?;
        // Keys may be allowed to write and not to list: then there is nothing to go on with.
        let left = if listed.status() == StatusCode::OK {
            answer::newest_upload(listed, key)?
        } else {
            None
        };
        if let Some(id) = left
            && let Some(left) = parts_left(store, key, &id)?
        {
            return Ok(Self::with(id, left));
        }
        let begun = store.done(&Ask::Begin, key, &Bytes::new())?;
        Ok(Self::with(answer::begun(begun)?, Vec::new()))
    }

    fn with(id: String, left: Vec<Part>) -> Self {
        Self {
            id,
            sent: Vec::new(),
            flying: None,
            left,
            found: 0,
        }
    }

    fn parts(&self) -> usize {
        self.sent.len() + usize::from(self.flying.is_some())
    }

    fn ship(&mut self, store: &Store, key: &str, bytes: Bytes) -> anyhow::Result<()> {
        let number = u16::try_from(self.sent.len() + 1)
            .ok()
            .filter(|number| *number <= 10_000)
            .context("a store takes 10,000 parts, and this is larger")?;
        let tag = md5_tag(&bytes);
        let size = bytes.len() as u64;
        let part = Part { number, tag, size };
        if self.left.contains(&part) {
            self.found += size;
            self.sent.push(part);
            return Ok(());
        }
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
        let upload = &self.id;
        store
            .request(&Ask::Part { upload, number }, key, bytes)
            .begin()
    }

    /// Waits for the part on its way; sends it again as long as there is patience. A part may come twice.
    fn land(&mut self, store: &Store, key: &str) -> anyhow::Result<()> {
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
            let again = match landed(answer.wait())? {
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

/// What came of a part: the store has it, under its tag and with the MD5 that it tells; or asking again may help.
enum Landed {
    Has(String, Option<String>),
    Away(HttpError),
}

fn landed(answer: Result<crate::fetch::http::Response, HttpError>) -> anyhow::Result<Landed> {
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
        return Err(refused(response));
    }
    let tag = response.etag().map(|tag| answer::bare(tag).to_owned());
    let tag = tag.with_context(|| format!("{}: no ETag came", response.asked()))?;
    Ok(Landed::Has(tag, md5_told(&response)))
}

/// `None` when the upload is gone.
fn parts_left(store: &Store, key: &str, upload: &str) -> anyhow::Result<Option<Vec<Part>>> {
    let mut parts = Vec::new();
    let mut after = 0;
    loop {
        let response = store.ask(&Ask::Parts { upload, after }, key, &Bytes::new())?;
        if response.status() != StatusCode::OK {
            return Ok(None);
        }
        let (more, next) = answer::parts(response)?;
        parts.extend(more);
        match next {
            Some(next) if next > after => after = next,
            _ => return Ok(Some(parts)),
        }
    }
}

impl Write for S3Pending {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if let Some(failed) = &self.failed {
            return Err(io::Error::other(failed.clone()));
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
        if let Some(failed) = &self.failed {
            bail!("{failed}");
        }
        if self.upload.is_none() {
            self.put()?;
        } else {
            self.ship()?;
        }
        if let Some(upload) = &mut self.upload {
            upload.land(&self.store, &self.key)?;
            self.store
                .complete(&upload.id, &upload.sent, &self.key, self.written)?;
        } else if self.store.size(&self.key)? != Some(self.written) {
            bail!(
                "{}: the store took it, but does not hold its {} bytes",
                self.key,
                self.written
            );
        }
        self.done = true;
        Ok(())
    }
}

impl Drop for S3Pending {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Some(upload) = &mut self.upload {
            upload.flying = None;
            // Best effort: the error that led here is the one to report. A store that is away keeps the parts, and the
            // next upload goes on with them.
            let ask = Ask::Abort { upload: &upload.id };
            let _ = self.store.request(&ask, &self.key, &Bytes::new()).send();
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
