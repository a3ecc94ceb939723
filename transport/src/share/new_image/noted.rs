//! What lets a backup go on whose machine died: beside the upload, how each of its chunks was compressed.
//!
//! Bytes that are on the share are not sent again if they come out the same. With `auto` that takes a note: the clock is
//! another one. The note is a small file, written anew now and then, wherever an upload can be gone on from; it goes with the
//! upload, whether that ends well or not. Only a machine that dies leaves both.

use crate::share::{Pending, Share, Standing};
use anyhow::bail;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::image::Levels;
use std::io::{self, Read as _, Write};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The note is written anew when so much more of the image is there, or a part of what is there: what came after it is lost
/// to who goes on.
const EVERY: u64 = 4 << 20;
const PART: u64 = 64;
/// And not sooner than after this: writing it takes a few requests.
const PAUSE: Duration = Duration::from_secs(1);
/// A letter for each chunk: the index of an image has no room for so many.
const LONGEST: u64 = 8 << 20;

/// The note of an image, on its share.
pub(super) struct Note<'s> {
    share: &'s dyn Share,
    path: String,
    /// What an earlier upload noted.
    earlier: Levels,
    /// It has to go when the upload ends.
    is_there: bool,
    /// What has the name of the note is none, or cannot be read: it stays as it is.
    is_foreign: bool,
}

impl<'s> Note<'s> {
    /// Looks for what an earlier upload of `image` left.
    pub fn of(share: &'s dyn Share, image: &str) -> Self {
        let path = format!("{image}.levels");
        // Keys of a store may be good for writing and for nothing else: then there is nothing to go on with.
        let is_found = matches!(share.stat(&path), Ok(Some(_)));
        let text = if is_found {
            read(share, &path).unwrap_or_default()
        } else {
            Vec::new()
        };
        let is_there = Levels::is_note(&text);
        Self {
            share,
            path,
            earlier: Levels::following(&text).unwrap_or_default(),
            is_there,
            is_foreign: is_found && !is_there,
        }
    }

    /// Levels to follow, where somebody noted any.
    pub fn take_earlier(&mut self) -> Levels {
        mem::take(&mut self.earlier)
    }

    pub fn path(&self) -> &str {
        &self.path
    }

    fn write(&mut self, levels: &Levels) -> anyhow::Result<()> {
        if self.is_foreign {
            bail!("a file that is no note has this name");
        }
        let mut file = self.share.create(&self.path)?;
        // It may be there whatever comes of it.
        self.is_there = true;
        file.write_all(&levels.to_text())?;
        file.finish()
    }

    /// Nobody goes on with this upload.
    pub fn remove(&mut self) -> anyhow::Result<()> {
        if self.is_there {
            self.share.remove(&self.path)?;
            self.is_there = false;
        }
        Ok(())
    }
}

fn read(share: &dyn Share, path: &str) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    share.open(path)?.take(LONGEST).read_to_end(&mut text)?;
    Ok(text)
}

/// An upload that is noted.
pub(super) struct Noted<'a, 's> {
    pending: &'a mut dyn Pending,
    note: &'a mut Note<'s>,
    levels: Arc<Levels>,
    reporter: &'a dyn Reporter,
    written: u64,
    /// Of `written`, when the note was written last.
    covered: u64,
    since: Instant,
    /// The share takes no note.
    failed: bool,
}

impl<'a, 's> Noted<'a, 's> {
    pub fn new(
        pending: &'a mut dyn Pending,
        note: &'a mut Note<'s>,
        levels: Arc<Levels>,
        reporter: &'a dyn Reporter,
    ) -> Self {
        Self {
            pending,
            note,
            levels,
            reporter,
            written: 0,
            covered: 0,
            since: Instant::now(),
            failed: false,
        }
    }

    fn is_due(&self) -> bool {
        let more = self.written - self.covered;
        !self.failed && more >= EVERY.max(self.covered / PART) && self.since.elapsed() >= PAUSE
    }

    fn write_note(&mut self) {
        if let Err(error) = self.note.write(&self.levels) {
            self.failed = true;
            self.reporter.warn(format!(
                "{}: if this machine loses power now, the next run sends all of the image again: {error:#}",
                self.note.path
            ));
        }
        self.covered = self.written;
        self.since = Instant::now();
    }
}

impl Write for Noted<'_, '_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.pending.write(data)?;
        self.written += count as u64;
        if self.pending.standing() == Standing::Sends {
            self.levels.leave();
            if self.is_due() {
                self.write_note();
            }
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pending.flush()
    }
}
