//! What became of each run: a folder `runs/RUN` below the root, with the events as the machine reported them and a
//! summary. Plain files are the truth: this reads them, whoever wrote them.

mod from_logs;
mod log;
mod record;
mod summary;
mod thin;
pub mod token;

pub use from_logs::{all_from_logs, from_logs, is_reported, last_of_log};
pub use log::Log;
pub use record::{KEEP_LAST, Recorder, Refused, Reported};
pub use summary::{Live, Run, State, Summary};

use pitstop_protocol::event::{self, LONGEST_LINE, Line, What};
use pitstop_protocol::id::Id;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Below the root.
pub const FOLDER: &str = "runs";
/// In a run's folder.
const EVENTS: &str = "events.ndjson";
const SUMMARY: &str = "run.toml";

/// A machine that works reports each second. One that has not for so long is gone, or cut off.
const SILENCE: Duration = Duration::from_secs(180);

/// Which runs are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of the machine with this name, address or MAC.
    pub machine: Option<String>,
    pub job: Option<Id>,
    /// Older than this one.
    pub before: Option<Id>,
    /// Of these the newest so many.
    pub last: Option<usize>,
}

impl Filter {
    pub fn takes(&self, summary: &Summary) -> bool {
        let machine = self.machine.as_deref();
        machine.is_none_or(|machine| summary.is_of(machine))
            && (self.job.is_none() || self.job == summary.job)
            && self.is_before(&summary.run)
    }

    fn is_before(&self, run: &Id) -> bool {
        self.before.as_ref().is_none_or(|before| run < before)
    }
}

/// The runs below a root, for reading.
#[derive(Debug, Clone)]
pub struct Runs {
    folder: PathBuf,
}

impl Runs {
    /// Of the server whose root this is. Nothing need be there.
    pub fn below(root: &Path) -> Self {
        Self {
            folder: root.join(FOLDER),
        }
    }

    /// The identifiers of all runs, the newest first.
    pub fn ids(&self) -> io::Result<Vec<Id>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            ids.extend(
                entry?
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse().ok()),
            );
        }
        ids.sort_unstable_by(|a: &Id, b| b.cmp(a));
        Ok(ids)
    }

    /// The runs that `filter` takes, the newest first. One that cannot be read is left out: others are not lost by it.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self, filter: &Filter) -> io::Result<Vec<Run>> {
        let ids = self.ids()?.into_iter().filter(|id| filter.is_before(id));
        let found = ids.filter_map(|id| {
            let summary = self.summary(&id).ok().flatten()?;
            filter.takes(&summary).then(|| self.with_progress(summary))
        });
        Ok(found.take(filter.last.unwrap_or(usize::MAX)).collect())
    }

    /// One run; `None` where there is none of this name.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, id: &Id) -> io::Result<Option<Run>> {
        let summary = self.summary(id)?;
        Ok(summary.map(|summary| self.with_progress(summary)))
    }

    /// What the machine said, as the console showed it, with the time in front of each line. More of it can be asked for
    /// as it comes.
    pub fn log(&self, id: &Id) -> Log {
        Log::new(self.events(id))
    }

    fn events(&self, id: &Id) -> PathBuf {
        self.folder.join(id.as_str()).join(EVENTS)
    }

    fn summary(&self, id: &Id) -> io::Result<Option<Summary>> {
        match fs::read_to_string(self.folder.join(id.as_str()).join(SUMMARY)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(text) => Summary::parse(&text).map(Some).map_err(io::Error::other),
        }
    }

    /// How far a run is that goes on is in its events alone.
    fn with_progress(&self, summary: Summary) -> Run {
        if summary.ended.is_some() {
            return Run::ended(summary);
        }
        let events = self.events(&summary.run);
        let heard = fs::metadata(&events).and_then(|events| events.modified());
        let silent = heard.is_ok_and(is_silent);
        // What cannot be read is not known: the rest is.
        let live = last_progress(&events).unwrap_or_default();
        Run::at_work(summary, live, silent)
    }
}

/// Whether a machine that was last `heard` then is gone, or cut off.
fn is_silent(heard: SystemTime) -> bool {
    let since = SystemTime::now().duration_since(heard);
    since.unwrap_or_default() > SILENCE
}

/// The newest progress in the end of a file of events.
fn last_progress(path: &Path) -> io::Result<Option<Live>> {
    let mut file = File::open(path)?;
    let back = i64::try_from(2 * LONGEST_LINE).unwrap_or(i64::MAX);
    let length = file.metadata()?.len();
    if length > back.unsigned_abs() {
        file.seek(SeekFrom::End(-back))?;
    }
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let tail = String::from_utf8_lossy(&tail);
    let progress = tail
        .lines()
        .rev()
        .find_map(|line| match event::parse(line) {
            Ok(Line::Known(record)) => match record.what {
                What::Progress(moved) => Some(Live::new(record.about, moved)),
                _ => None,
            },
            _ => None,
        });
    Ok(progress)
}
