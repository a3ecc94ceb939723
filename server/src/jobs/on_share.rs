//! The log that a machine writes on the share.

use anyhow::{Context, bail};
use jiff::Timestamp;
use pitstop_api::Job;
use pitstop_protocol::host_name::printable;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// In each machine's folder, as the payload names it.
const LOG: &str = "maintenance.log";

/// No line is longer: what follows is the next one.
const LONGEST: u64 = 64 << 10;

/// The log that a machine writes on the share.
pub struct OnShare {
    machine: String,
    /// `None` where the machine's folder cannot be known.
    path: Option<PathBuf>,
    /// Of a job only its own lines; of a machine all.
    since: Option<Timestamp>,
    at: u64,
}

impl OnShare {
    /// Of a job only its own lines; of a machine all.
    pub fn of(root: &Path, job: &Job, of_job: bool) -> Self {
        let share = root.join("share");
        let folder = job.folder.as_ref();
        Self {
            machine: format!("{} ({})", job.shown(), job.machine),
            path: folder.map(|folder| share.join(folder).join(LOG)),
            since: of_job.then_some(job.set),
            at: 0,
        }
    }

    /// What was added since the last call.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn more(&mut self) -> anyhow::Result<String> {
        let mut text = String::new();
        if let Some(path) = &self.path {
            self.at = read_from(path, self.at, self.since, &mut text)?;
        }
        Ok(text)
    }

    /// # Errors
    /// Why there is nothing to read.
    pub fn is_there(&self) -> anyhow::Result<()> {
        match &self.path {
            Some(_) if self.at > 0 => Ok(()),
            Some(path) => bail!("there is no {} yet", path.display()),
            None => bail!(
                "{} has reported nothing, and which folder on the share is its is not known: look for {LOG} there",
                self.machine
            ),
        }
    }
}

/// Adds what is behind `at` to `to`. Returns where the next look begins.
fn read_from(
    path: &Path,
    at: u64,
    since: Option<Timestamp>,
    to: &mut String,
) -> anyhow::Result<u64> {
    use std::io::Seek as _;
    let reading = || format!("reading {}", path.display());
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error).with_context(reading),
    };
    let length = file.metadata().with_context(reading)?.len();
    // One that became shorter is another file.
    let mut at = if length < at { 0 } else { at };
    file.seek(std::io::SeekFrom::Start(at))
        .with_context(reading)?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(LONGEST).read_until(b'\n', &mut line);
        let read = read.with_context(reading)? as u64;
        // Of a line that is being written the rest comes later.
        if read == 0 || (line.last() != Some(&b'\n') && read < LONGEST) {
            return Ok(at);
        }
        at += read;
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\n', '\r']);
        if since.is_none_or(|since| is_later(text, since)) {
            to.push_str(&printable(text));
            to.push('\n');
        }
    }
}

/// Whether a line begins with a time from `since` on, to the second.
fn is_later(line: &str, since: Timestamp) -> bool {
    let time = line
        .split_once(": ")
        .and_then(|(time, _)| time.parse::<Timestamp>().ok());
    time.is_some_and(|time| time.as_second() >= since.as_second())
}
