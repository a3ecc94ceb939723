//! Takes what machines report and keeps it. One machine waits for nobody but itself: each run has a lock of its own, which
//! is not held while a disk is flushed.

use super::summary::{Live, Run, Summary};
use super::thin::thin;
use super::{EVENTS, FOLDER, Runs, SUMMARY};
use crate::ends::Ends;
use crate::events::Events;
use crate::write;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use pitstop_protocol::event::{self, Line, What};
use pitstop_protocol::id::Id;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

/// The most bytes of one run's events. A run of a day that reports each second has fewer.
const MOST_EVENTS: u64 = 16 << 20;
/// What is left when they are thinned: it is not done again at the next line.
const THINNED: usize = 12 << 20;
/// Of each machine so many runs are kept: the newest.
pub const KEEP_LAST: usize = 200;
/// Runs that are known without looking at the disk.
const REMEMBERED: usize = 4096;

/// Why a report is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("run {0} is another job's")]
    OtherJob(Id),
    #[error("keeping run {run}: {error}")]
    Io { run: Id, error: io::Error },
}

/// The runs below a root, for writing.
pub struct Recorder {
    root: PathBuf,
    runs: Runs,
    entries: Mutex<HashMap<Id, Arc<Entry>>>,
    events: Arc<Events>,
    /// The last runs that have ended, so that they need not be read each time.
    ended: Mutex<HashMap<Id, Run>>,
    /// Who is told of ends.
    ends: OnceLock<Arc<Ends>>,
    keep_last: usize,
    /// Of each machine, by what tells it from others. Made of the disk when it is first wanted.
    by_machine: OnceLock<Mutex<HashMap<String, BTreeSet<Id>>>>,
}

#[derive(Default)]
struct Entry(Mutex<Option<Kept>>);

/// What is known of a run that reports.
struct Kept {
    summary: Summary,
    /// The last line's.
    seq: Option<u64>,
    /// Of the events, in bytes.
    size: u64,
    save: Save,
    /// How far it is.
    live: Option<Live>,
    heard: SystemTime,
}

impl Kept {
    /// What `line` says of how far the run is.
    fn hear(&mut self, line: &Line) {
        if let Line::Known(record) = line
            && let What::Progress(moved) = record.what
        {
            self.live = Some(Live::new(record.about.clone(), moved));
        }
    }
}

/// Who puts the summary on the disk: one at a time, and nobody waits for it with the lock held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Save {
    Idle,
    Saving,
    /// It has changed since it was taken to be saved.
    Again,
}

/// One line of a report, as it came and as it was read.
pub struct Reported<'a> {
    pub raw: &'a str,
    pub line: Line,
}

impl Recorder {
    /// Who looks hears of each line by `events`.
    pub fn new(root: &Path, keep_last: usize, events: Arc<Events>) -> Self {
        Self {
            root: root.to_owned(),
            runs: Runs::below(root),
            entries: Mutex::default(),
            events,
            ended: Mutex::default(),
            ends: OnceLock::new(),
            keep_last,
            by_machine: OnceLock::new(),
        }
    }

    /// From now on `ends` is told of each run that ends. Only the first who is named is told.
    pub fn tell(&self, ends: Arc<Ends>) {
        let _ = self.ends.set(ends);
    }

    /// The root below which they are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn runs(&self) -> &Runs {
        &self.runs
    }

    /// Takes lines of one run. Those that are there already are left out: an answer was lost.
    ///
    /// # Errors
    /// They are another job's, or cannot be written.
    pub fn take(
        &self,
        run: &Id,
        job: &Id,
        peer: IpAddr,
        lines: &[Reported<'_>],
    ) -> Result<(), Refused> {
        let io = |error| Refused::Io {
            run: run.clone(),
            error,
        };
        let entry = self.entry(run);
        let (file, important, is_new, ended_now) = {
            let mut slot = lock(&entry.0);
            let is_new = slot.is_none();
            let kept = match &mut *slot {
                Some(kept) => kept,
                none => none.insert(self.load(run, job, peer).map_err(io)?),
            };
            if kept.summary.job.as_ref() != Some(job) {
                return Err(Refused::OtherJob(run.clone()));
            }
            let before = kept.summary.ended.is_some();
            match self.append(kept, lines) {
                Ok((file, important)) => {
                    let ended = kept.summary.ended.is_some() && !before;
                    let ended = ended.then(|| kept.summary.clone());
                    (file, important, is_new, ended)
                }
                Err(error) => {
                    // How much of it is there is read anew the next time.
                    *slot = None;
                    return Err(io(error));
                }
            }
        };
        if important {
            file.sync_data().map_err(io)?;
            self.save(run, &entry).map_err(io)?;
        }
        if let (Some(summary), Some(ends)) = (ended_now, self.ends.get()) {
            ends.run(&summary);
        }
        let ended = lines.iter().any(|it| is_result(&it.line));
        if ended {
            lock_map(&self.entries).remove(run);
        }
        if is_new {
            self.drop_old(run, &entry);
        }
        Ok(())
    }

    fn entry(&self, run: &Id) -> Arc<Entry> {
        let mut entries = lock_map(&self.entries);
        if entries.len() >= REMEMBERED {
            // What nobody works on is read again when it is wanted.
            entries.retain(|_, entry| Arc::strong_count(entry) > 1);
        }
        Arc::clone(entries.entry(run.clone()).or_default())
    }

    fn folder(&self, run: &Id) -> PathBuf {
        self.root.join(FOLDER).join(run.as_str())
    }

    /// What is on the disk of a run, or its beginning.
    fn load(&self, run: &Id, job: &Id, peer: IpAddr) -> io::Result<Kept> {
        let folder = self.folder(run);
        fs::create_dir_all(&folder)?;
        let path = folder.join(EVENTS);
        let known = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            known => known?,
        };
        let mut kept = Kept {
            summary: match self.runs.summary(run) {
                Ok(Some(summary)) => {
                    Summary::new(run.clone(), summary.job, summary.peer.parse().ok())
                }
                // It can be made anew of the events.
                Ok(None) | Err(_) => Summary::new(run.clone(), Some(job.clone()), Some(peer)),
            },
            seq: None,
            size: known.len() as u64,
            save: Save::Idle,
            live: None,
            heard: SystemTime::now(),
        };
        for line in String::from_utf8_lossy(&known).lines() {
            if let Ok(line) = event::parse(line) {
                kept.seq = kept.seq.max(Some(line.seq()));
                kept.summary.take(&line);
                kept.hear(&line);
            }
        }
        if known.last().is_some_and(|&byte| byte != b'\n') {
            // The power failed in the middle of a line.
            append_to(&path)?.write_all(b"\n")?;
            kept.size += 1;
        }
        Ok(kept)
    }

    /// Adds what is new. Returns the file, and whether it holds something now that must not be lost.
    fn append(&self, kept: &mut Kept, lines: &[Reported<'_>]) -> io::Result<(File, bool)> {
        let path = self.folder(&kept.summary.run).join(EVENTS);
        let mut text = String::new();
        let mut important = false;
        let (mut summary, mut seq) = (kept.summary.clone(), kept.seq);
        for Reported { raw, line } in lines {
            if seq.is_some_and(|seq| line.seq() <= seq) {
                continue;
            }
            seq = Some(line.seq());
            important |= summary.take(line);
            text.push_str(raw);
            text.push('\n');
            kept.hear(line);
            self.events.run(raw);
        }
        kept.heard = SystemTime::now();
        let mut file = append_to(&path)?;
        file.write_all(text.as_bytes())?;
        (kept.summary, kept.seq) = (summary, seq);
        kept.size += text.len() as u64;
        if kept.size > MOST_EVENTS {
            let thinned = thin(&fs::read_to_string(&path)?, THINNED);
            let beside = path.with_extension("thinned");
            fs::write(&beside, &thinned)?;
            fs::rename(&beside, &path)?;
            kept.size = thinned.len() as u64;
            file = append_to(&path)?;
        }
        Ok((file, important))
    }

    /// Puts the summary on the disk, and again if it changed meanwhile. Where somebody is at it already, they see to it.
    fn save(&self, run: &Id, entry: &Entry) -> io::Result<()> {
        let folder = self.folder(run);
        loop {
            let summary = {
                let mut slot = lock(&entry.0);
                let Some(kept) = &mut *slot else {
                    return Ok(());
                };
                if kept.save != Save::Idle {
                    kept.save = Save::Again;
                    return Ok(());
                }
                kept.save = Save::Saving;
                kept.summary.clone()
            };
            let saved = summary.text().map_err(io::Error::other).and_then(|text| {
                let folder = Dir::open_ambient_dir(&folder, ambient_authority())?;
                write::replace(&folder, SUMMARY, &text)
            });
            let mut slot = lock(&entry.0);
            let again = slot.as_mut().is_some_and(|kept| {
                let again = kept.save == Save::Again;
                kept.save = Save::Idle;
                again
            });
            drop(slot);
            saved?;
            if !again {
                return Ok(());
            }
        }
    }

    /// Removes the oldest runs of the machine of a run that has just begun, beyond those that are kept.
    fn drop_old(&self, run: &Id, entry: &Entry) {
        let Some(machine) = lock(&entry.0)
            .as_ref()
            .map(|kept| kept.summary.identity().to_owned())
        else {
            return;
        };
        let by_machine = self
            .by_machine
            .get_or_init(|| Mutex::new(self.of_machines()));
        let old: Vec<Id> = {
            let mut by_machine = by_machine.lock().unwrap_or_else(PoisonError::into_inner);
            let runs = by_machine.entry(machine).or_default();
            runs.insert(run.clone());
            let many = runs.len().saturating_sub(self.keep_last);
            let old: Vec<Id> = runs
                .iter()
                .filter(|old| *old != run)
                .take(many)
                .cloned()
                .collect();
            runs.retain(|run| !old.contains(run));
            old
        };
        for old in old {
            // One that cannot be removed is tried again when the server has been started anew.
            let _ = fs::remove_dir_all(self.folder(&old));
        }
    }

    fn of_machines(&self) -> HashMap<String, BTreeSet<Id>> {
        let mut by_machine: HashMap<String, BTreeSet<Id>> = HashMap::new();
        for id in self.runs.ids().unwrap_or_default() {
            // One that cannot be read is nobody's, and stays.
            if let Ok(Some(summary)) = self.runs.summary(&id) {
                let machine = summary.identity().to_owned();
                by_machine.entry(machine).or_default().insert(id);
            }
        }
        by_machine
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn is_result(line: &Line) -> bool {
    matches!(line, Line::Known(record) if matches!(record.what, What::Result(_)))
}

fn lock(slot: &Mutex<Option<Kept>>) -> MutexGuard<'_, Option<Kept>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lock_map(entries: &Mutex<HashMap<Id, Arc<Entry>>>) -> MutexGuard<'_, HashMap<Id, Arc<Entry>>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

mod now;
#[cfg(test)]
mod tests;
