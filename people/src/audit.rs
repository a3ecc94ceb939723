//! Who did what: a line of JSON for each act, added to a file that nobody changes afterwards.

use crate::files::{make_private_folder, open_private};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const FILE: &str = "audit.log";
/// Refusals that are noted a minute: strangers must not fill the disk.
const REFUSALS: u32 = 60;
const MINUTE: i64 = 60;
/// Bytes of a text that a client chose.
const LONGEST: usize = 512;

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Done,
    /// Whoever it was might not.
    Refused,
    /// They might, and it did not work.
    Failed,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub time: Timestamp,
    /// A user; empty where nobody was logged in.
    pub who: String,
    /// `loopback`, `session`, `token NAME`, `password`, `command`.
    pub how: String,
    /// An address; empty for commands.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    pub act: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub object: String,
    pub outcome: Outcome,
    /// Of refusals: so many before were not noted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Debug, Default)]
struct Refusals {
    minute: i64,
    noted: u32,
    left_out: u32,
}

#[derive(Debug)]
pub struct Audit {
    folder: PathBuf,
    refusals: Mutex<Refusals>,
}

impl Audit {
    pub fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            refusals: Mutex::default(),
        }
    }

    /// Adds a line, and makes it safe from a power cut.
    ///
    /// # Errors
    /// Names the file.
    pub fn note(&self, mut entry: Entry) -> io::Result<()> {
        if entry.outcome == Outcome::Refused {
            let Some(left_out) = self.admit(entry.time) else {
                return Ok(());
            };
            entry.left_out = left_out;
        }
        for text in [&mut entry.who, &mut entry.act, &mut entry.object] {
            shorten(text);
        }
        self.write(&entry).map_err(|error| {
            let path = self.folder.join(FILE);
            io::Error::new(error.kind(), format!("writing {}: {error}", path.display()))
        })
    }

    fn write(&self, entry: &Entry) -> io::Result<()> {
        make_private_folder(&self.folder)?;
        let mut line = serde_json::to_string(entry).map_err(io::Error::other)?;
        line.push('\n');
        let mut file = open_private(&self.folder, FILE, OpenOptions::new().append(true))?;
        // One write: lines of others, commands too, come before it or behind it.
        file.write_all(line.as_bytes())?;
        file.sync_data()
    }

    /// Whether one more refusal is noted this minute; then how many were not before.
    fn admit(&self, now: Timestamp) -> Option<u32> {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.as_second() / MINUTE;
        if refusals.minute != minute {
            refusals.minute = minute;
            refusals.noted = 0;
        }
        if refusals.noted >= REFUSALS {
            refusals.left_out = refusals.left_out.saturating_add(1);
            return None;
        }
        refusals.noted += 1;
        Some(std::mem::take(&mut refusals.left_out))
    }

    /// Reads the lines, the oldest first. A line that a lost power cut off is left out.
    ///
    /// # Errors
    /// Names the file.
    pub fn read(&self) -> io::Result<Vec<Entry>> {
        let path = self.folder.join(FILE);
        let failed = |error: &io::Error| {
            io::Error::new(error.kind(), format!("reading {}: {error}", path.display()))
        };
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            file => file.map_err(|e| failed(&e))?,
        };
        let mut entries = Vec::new();
        for line in BufReader::new(file).split(b'\n') {
            let line = line.map_err(|e| failed(&e))?;
            entries.extend(serde_json::from_slice::<Entry>(&line));
        }
        Ok(entries)
    }
}

fn shorten(text: &mut String) {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or_default());
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn entry(object: &str, outcome: Outcome) -> Entry {
        Entry {
            time: "2026-11-29T12:00:00Z".parse().unwrap(),
            who: "ann".into(),
            how: "session".into(),
            from: "192.0.2.1".into(),
            act: "POST /api/v1/jobs".into(),
            object: object.into(),
            outcome,
            left_out: 0,
        }
    }

    #[test]
    fn lines_are_added_and_a_broken_one_spoils_no_other() {
        let root = tempfile::tempdir().unwrap();
        let audit = Audit::at(&root.path().join("people"));
        assert_eq!(audit.read().unwrap(), []);
        audit
            .note(entry("lab3-01\n{\"time\"", Outcome::Done))
            .unwrap();
        let path = root.path().join("people").join(FILE);
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("{\"time\":\"2026\n");
        fs::write(&path, text).unwrap();
        audit
            .note(entry(&"ä".repeat(5000), Outcome::Failed))
            .unwrap();
        let read = audit.read().unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].object, "lab3-01\n{\"time\"");
        assert!(read[1].object.len() < 600 && read[1].object.ends_with('…'));
    }

    #[test]
    fn who_is_refused_again_and_again_fills_no_disk() {
        let root = tempfile::tempdir().unwrap();
        let audit = Audit::at(root.path());
        for _ in 0..1000 {
            audit.note(entry("x", Outcome::Refused)).unwrap();
        }
        audit.note(entry("x", Outcome::Done)).unwrap();
        let mut later = entry("x", Outcome::Refused);
        later.time = "2026-11-29T12:01:00Z".parse().unwrap();
        audit.note(later).unwrap();
        let read = audit.read().unwrap();
        assert_eq!(read.len(), REFUSALS as usize + 2);
        assert_eq!(read.last().unwrap().left_out, 1000 - REFUSALS);
    }
}
