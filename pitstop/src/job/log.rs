//! The log of a job: what its machine wrote on the share.

use super::which::{Which, jobs, one};
use crate::host::{Root, say};
use anyhow::{Context, bail};
use jiff::Timestamp;
use pitstop_jobs::Job;
use pitstop_payload::execute::log::LOG;
use pitstop_protocol::host_name::printable;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// No line is longer: what follows is the next one.
const LONGEST: u64 = 64 << 10;

pub fn print(root: &Root, which: &Which, follow: bool) -> anyhow::Result<()> {
    let job = one(root, which)?;
    let Some(folder) = &job.folder else {
        bail!(
            "{} is known by {} alone, so its folder on the share is not known: look for {LOG} there",
            job.shown(),
            job.machine
        );
    };
    let path = root.path.join("share").join(folder).join(LOG);
    // Of a job only its own lines; of a machine all.
    let since = matches!(which, Which::Job(_)).then_some(job.set);
    let mut at = 0;
    loop {
        let is_over = is_over(root, &job)?;
        at = print_from(&path, at, since)?;
        if !follow {
            return match at {
                0 => bail!("there is no {} yet", path.display()),
                _ => Ok(()),
            };
        }
        if is_over {
            return Ok(());
        }
        sleep(LOOK);
    }
}

/// Asked before the log is read: what was written before the end is printed.
fn is_over(root: &Root, job: &Job) -> anyhow::Result<bool> {
    let now = jobs(root)?;
    let now = now.iter().find(|now| now.id == job.id);
    Ok(now.is_none_or(|now| now.state.is_over()))
}

/// Prints what is behind `at`. Returns where the next look begins.
fn print_from(path: &Path, at: u64, since: Option<Timestamp>) -> anyhow::Result<u64> {
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
            say(&format!("{}\n", printable(text)))?;
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
