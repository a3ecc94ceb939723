//! The log of a run, as its console showed it: the events go through the same renderer.

use pitstop_imaging::event::Level;
use pitstop_imaging::render::{Renderer, Style};
use pitstop_protocol::event::{self, LONGEST_LINE, Line};
use pitstop_protocol::host_name::printable;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::summary::seconds;

/// Read at once.
const PIECE: u64 = 1 << 20;
// A line is whole in two pieces at most.
const _: () = assert!(PIECE > 2 * LONGEST_LINE as u64);

/// A log that is read to its end, and again when there is more.
pub struct Log {
    path: PathBuf,
    /// The file that was read, and how far: a run's events are put into a new file where there are too many.
    read: Option<(u64, u64)>,
    seen: Option<u64>,
    renderer: Renderer,
    /// The moment that stands for the run's first.
    start: Instant,
    first: Option<jiff::Timestamp>,
    ended: bool,
}

impl Log {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            read: None,
            seen: None,
            renderer: Renderer::new(Style::Lines, "", Level::Info),
            start: Instant::now(),
            first: None,
            ended: false,
        }
    }

    /// Whether the result has been read: nothing comes after it.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// What has come since the last call: a line each, `2026-11-28T21:30:01Z warning: …`. Empty where there is nothing new.
    ///
    /// # Errors
    /// The file cannot be read. A run that has not reported yet is no error.
    pub fn more(&mut self) -> io::Result<String> {
        let mut text = String::new();
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(text),
            file => file?,
        };
        let inode = file.metadata()?.ino();
        let mut at = match self.read {
            Some((known, at)) if known == inode => at,
            _ => 0,
        };
        file.seek(SeekFrom::Start(at))?;
        loop {
            let mut piece = Vec::new();
            file.by_ref().take(PIECE).read_to_end(&mut piece)?;
            // The last line may not be whole yet.
            let Some(end) = piece.iter().rposition(|&byte| byte == b'\n') else {
                break;
            };
            for line in String::from_utf8_lossy(&piece[..end]).lines() {
                self.show(line, &mut text);
            }
            at += end as u64 + 1;
            file.seek(SeekFrom::Start(at))?;
        }
        self.read = Some((inode, at));
        Ok(text)
    }

    fn show(&mut self, line: &str, text: &mut String) {
        // What is no event was not put there by a server.
        let Ok(line) = event::parse(line) else {
            return;
        };
        if self.seen.is_some_and(|seen| line.seq() <= seen) {
            return;
        }
        self.seen = Some(line.seq());
        if let Line::Known(record) = &line {
            self.ended |= matches!(record.what, event::What::Result(_));
        }
        let time = line.time();
        let first = *self.first.get_or_insert(time.unwrap_or_default());
        let since = time.map_or(Duration::ZERO, |time| {
            Duration::try_from(time.duration_since(first)).unwrap_or_default()
        });
        let now = self.start.checked_add(since).unwrap_or(self.start);
        let Some(shown) = self.renderer.render_at(&line.event(), now) else {
            return;
        };
        let time = time.map(seconds).unwrap_or_default();
        for line in shown.lines() {
            text.push_str(&time);
            text.push(' ');
            text.push_str(&printable(line));
            text.push('\n');
        }
    }
}
