//! The log of a job: what its machine reported, or else wrote on the share.

use super::which::{Which, jobs, one};
use crate::host::{Root, say};
use anyhow::{Context, bail};
use jiff::Timestamp;
use pitstop_jobs::Job;
use pitstop_payload::execute::log::LOG;
use pitstop_protocol::host_name::printable;
use pitstop_protocol::id::Id;
use pitstop_server::runs::{Log, Runs};
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How long the end of a report is waited for when its job is over.
const LATE: Duration = Duration::from_secs(10);

/// No line is longer: what follows is the next one.
const LONGEST: u64 = 64 << 10;

pub fn print(root: &Root, which: &Which, follow: bool) -> anyhow::Result<()> {
    let job = one(root, which)?;
    let runs = Runs::below(&root.path);
    let mut on_share = OnShare::of(root, &job, matches!(which, Which::Job(_)));
    let mut reported: Option<(Id, Log)> = None;
    let mut over: Option<Instant> = None;
    loop {
        // Asked before the log is read: what was written before the end is printed.
        let (is_over, last) = now(root, &job)?;
        let known = |run: &Id| runs.read(run).is_ok_and(|found| found.is_some());
        if let Some(run) = last.filter(known)
            && reported.as_ref().is_none_or(|(of, _)| *of != run)
        {
            // What the machine reported says more than its log on the share.
            let log = runs.log(&run);
            reported = Some((run, log));
        }
        let ended = if let Some((run, log)) = &mut reported {
            let more = log.more();
            say(&more.with_context(|| format!("reading the run {run}"))?)?;
            log.has_ended()
        } else {
            on_share.print()?;
            true
        };
        if !follow {
            return if reported.is_some() {
                Ok(())
            } else {
                on_share.is_there()
            };
        }
        // The last lines of a report may come a moment after the end, or never: of a machine that lost its power.
        let since = *over.get_or_insert_with(Instant::now);
        if is_over && (ended || since.elapsed() > LATE) {
            return Ok(());
        }
        if !is_over {
            over = None;
        }
        sleep(LOOK);
    }
}

/// Whether the job is over, and its last run.
fn now(root: &Root, job: &Job) -> anyhow::Result<(bool, Option<Id>)> {
    let now = jobs(root)?.into_iter().find(|now| now.id == job.id);
    Ok(now.map_or((true, None), |now| {
        (now.state.is_over(), now.runs.last().cloned())
    }))
}

/// The log that a machine writes on the share.
struct OnShare {
    machine: String,
    /// `None` where the machine's folder cannot be known.
    path: Option<PathBuf>,
    /// Of a job only its own lines; of a machine all.
    since: Option<Timestamp>,
    at: u64,
}

impl OnShare {
    fn of(root: &Root, job: &Job, of_job: bool) -> Self {
        let share = root.path.join("share");
        let folder = job.folder.as_ref();
        Self {
            machine: format!("{} ({})", job.shown(), job.machine),
            path: folder.map(|folder| share.join(folder).join(LOG)),
            since: of_job.then_some(job.set),
            at: 0,
        }
    }

    fn print(&mut self) -> anyhow::Result<()> {
        if let Some(path) = &self.path {
            self.at = print_from(path, self.at, self.since)?;
        }
        Ok(())
    }

    fn is_there(&self) -> anyhow::Result<()> {
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
