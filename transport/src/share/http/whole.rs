//! An upload whose pieces name what the server has, in one PUT: to a server that cannot append, because it stands before a store.
//!
//! The body is blocks, each its length as four bytes (little-endian) and as many bytes of pieces.

use super::again::{Base, MADE, lost, portions};
use super::pending::as_io;
use crate::fetch::http::{Upload, is_away};
use crate::fetch::{HttpClient, HttpError};
use anyhow::bail;
use pitstop_protocol::pieces::{Composer, Member};
use std::io::{self, Write};
use std::time::{Duration, Instant};
use url::Url;

/// Bytes of a block, about.
const BLOCK: usize = 256 << 10;
/// What there is is sent after so long: of a disk that is mostly the same a few bytes name gigabytes, and a proxy takes a client for
/// dead that is silent for a minute.
const SILENCE: Duration = Duration::from_secs(5);

pub(super) struct Whole {
    upload: Upload,
    composer: Composer,
    made: u64,
    /// When all that there was was sent.
    since: Instant,
}

impl Whole {
    pub fn begin(http: &HttpClient, part: &Url, base: &Base) -> Result<Self, HttpError> {
        Ok(Self {
            upload: http.upload_with(part, &base.headers())?,
            composer: Composer::default(),
            made: 0,
            since: Instant::now(),
        })
    }

    /// Adds what makes so many bytes; sends the block that is full before.
    fn add(&mut self, made: u64, add: impl FnOnce(&mut Composer)) -> io::Result<()> {
        let full = self.composer.made() + made > MADE || self.composer.len() >= BLOCK;
        if (full || self.is_silent()) && !self.composer.is_empty() {
            self.send().map_err(as_io)?;
        }
        add(&mut self.composer);
        Ok(())
    }

    /// The member of the base at `offset`.
    pub fn member(&mut self, offset: u64, member: Member) -> io::Result<()> {
        self.add(member.size.into(), |composer| {
            composer.member(offset, member);
        })
    }

    /// `bytes` so many times.
    pub fn repeated(&mut self, bytes: &[u8], count: u32) -> io::Result<()> {
        portions(bytes.len(), count).try_for_each(|(times, made)| {
            self.add(made, |composer| composer.repeated(bytes, times))
        })
    }

    fn is_silent(&self) -> bool {
        self.since.elapsed() >= SILENCE
    }

    fn send(&mut self) -> anyhow::Result<()> {
        let is_silent = self.is_silent();
        let (body, made) = self.composer.take();
        let length = u32::try_from(body.len())?;
        let mut sent = self
            .upload
            .write_all(&length.to_le_bytes())
            .and_then(|()| self.upload.write_all(&body));
        if is_silent && sent.is_ok() {
            sent = self.upload.flush();
            self.since = Instant::now();
        }
        if let Err(error) = sent {
            // A server that has said why does not take the rest.
            if let Some(lost) = self.upload.last_words().and_then(lost) {
                bail!(lost);
            }
            return Err(error.into());
        }
        self.made += made;
        Ok(())
    }

    /// Sends what is left; returns how many bytes the server has made.
    pub fn finish(mut self) -> anyhow::Result<u64> {
        if !self.composer.is_empty() {
            self.send()?;
        }
        let mut response = self.upload.finish()?;
        if let Some(lost) = lost(&mut response) {
            bail!(lost);
        }
        match response.status() {
            status if status.is_success() => Ok(self.made),
            status if is_away(status) => Err(response.broken().into()),
            _ => bail!(response.refusal()),
        }
    }
}

impl Write for Whole {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = data.len().min(BLOCK);
        self.add(count as u64, |composer| composer.bytes(&data[..count]))?;
        Ok(count)
    }

    /// Blocks are sent when they are full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
