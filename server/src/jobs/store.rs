//! The files of jobs, and the lock that keeps two writers from losing each other's change.

mod setting;

use crate::runs::token;
use crate::write::{give_to_owner_of, make_folder, remove};
use anyhow::{Context, bail};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions};
use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use pitstop_jobs::{Effect, Entry, Happened, Job, MOST_BYTES, MOST_LINE, asked_about};
use pitstop_protocol::host_name::SUFFIX;
use pitstop_protocol::id::Id;
use setting::put;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Below the root.
const FOLDER: &str = "jobs";
/// In the folder: of what ended, and who writes.
const HISTORY: &str = "history.ndjson";
const LOCK: &str = ".lock";

/// Names that were taken, until one is given up: two jobs of one millisecond share one in 16 thousand.
const TRIES: u32 = 100;

/// The jobs of a root.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// The jobs that are there.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Oldest first.
    pub jobs: Vec<Job>,
    /// What is wrong with files that hold none.
    pub wrong: Vec<String>,
}

impl Store {
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The folder that the server serves.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// As it is named in messages.
    pub fn path(&self) -> PathBuf {
        self.root.join(FOLDER)
    }

    /// `None` where no job was ever set.
    fn folder(&self) -> anyhow::Result<Option<Dir>> {
        match Dir::open_ambient_dir(self.path(), ambient_authority()) {
            Ok(folder) => Ok(Some(folder)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("opening {}", self.path().display())),
        }
    }

    /// When the folder last changed; a reader that knows what was there then need not look again.
    pub fn changed(&self) -> Option<SystemTime> {
        std::fs::metadata(self.path()).ok()?.modified().ok()
    }

    pub fn read(&self, id: &Id) -> anyhow::Result<Option<Job>> {
        match self.folder()? {
            Some(folder) => read(&folder, &pitstop_jobs::file(id)),
            None => Ok(None),
        }
    }

    /// Every job. A file that holds none is told, and the others are there all the same.
    pub fn all(&self) -> anyhow::Result<Found> {
        match self.folder()? {
            Some(folder) => all(&folder),
            None => Ok(Found::default()),
        }
    }

    /// What ended, oldest first. Lines that make no sense are left out: the last may be half written. Of an end that was
    /// written twice, the first line counts.
    pub fn history(&self) -> anyhow::Result<Vec<Entry>> {
        let Some(folder) = self.folder()? else {
            return Ok(Vec::new());
        };
        let file = match folder.open(HISTORY) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| self.named("reading", HISTORY)),
        };
        let mut reader = BufReader::new(file);
        let mut entries = Vec::new();
        let mut known = HashSet::new();
        let mut line = Vec::new();
        loop {
            line.clear();
            let limit = 1 + MOST_LINE as u64;
            let read = reader.by_ref().take(limit).read_until(b'\n', &mut line);
            if read.with_context(|| self.named("reading", HISTORY))? == 0 {
                return Ok(entries);
            }
            let entry = Entry::parse(&String::from_utf8_lossy(&line));
            entries.extend(entry.filter(|entry| known.insert(entry.end())));
        }
    }

    /// Waits until nobody else writes. Keep it for a change, never while you wait for anybody.
    pub fn lock(&self) -> anyhow::Result<Locked> {
        let folder = self.made()?;
        let doing = || self.named("locking", LOCK);
        let new = !folder.exists(LOCK);
        let file = open_lock(&folder).with_context(doing)?;
        if new {
            give_to_owner_of(&folder, &file).with_context(doing)?;
        }
        let lock = Flock::lock(file.into_std(), FlockArg::LockExclusive)
            .map_err(|(_, errno)| std::io::Error::from(errno))
            .with_context(doing)?;
        Ok(Locked {
            store: self.clone(),
            folder,
            _lock: lock,
            known: RefCell::default(),
        })
    }

    fn made(&self) -> anyhow::Result<Dir> {
        if let Some(folder) = self.folder()? {
            return Ok(folder);
        }
        make_folder(&self.root, &[FOLDER])
            .with_context(|| format!("making {}", self.path().display()))
    }

    fn named(&self, doing: &str, name: &str) -> String {
        format!("{doing} {}", self.path().join(name).display())
    }
}

/// The jobs, for one who writes.
pub struct Locked {
    store: Store,
    folder: Dir,
    _lock: Flock<std::fs::File>,
    /// What is there, once it was asked for: nobody else changes it meanwhile.
    known: RefCell<Option<BTreeMap<Id, Job>>>,
}

impl Locked {
    pub fn read(&self, id: &Id) -> anyhow::Result<Option<Job>> {
        read(&self.folder, &pitstop_jobs::file(id))
    }

    pub fn all(&self) -> anyhow::Result<Found> {
        all(&self.folder)
    }

    /// A name that no job has, behind those of earlier ones.
    pub fn new_id(&self, now: Timestamp) -> anyhow::Result<Id> {
        for _ in 0..TRIES {
            let id = Id::in_turn(now, fastrand::u32(..));
            if !self.folder.exists(pitstop_jobs::file(&id)) {
                return Ok(id);
            }
        }
        bail!("every name for a job of this moment is taken: try again")
    }

    /// Writes the job's file, in place of what it had.
    pub fn put(&self, job: &Job) -> anyhow::Result<()> {
        put(&self.store, &self.folder, job)?;
        self.know(job);
        Ok(())
    }

    /// Notes that the job's file was written.
    fn know(&self, job: &Job) {
        if let Some(known) = &mut *self.known.borrow_mut() {
            known.insert(job.id.clone(), job.clone());
        }
    }

    /// The other jobs of the machine of `job`, and those whose host file its machine would find, whosever they are.
    pub fn others_of(&self, job: &Job) -> anyhow::Result<Vec<Job>> {
        let mut known = self.known.borrow_mut();
        if known.is_none() {
            let jobs = self.all()?.jobs.into_iter();
            *known = Some(jobs.map(|job| (job.id.clone(), job)).collect());
        }
        let jobs = known.iter().flat_map(BTreeMap::values);
        let is_in_its_place = |other: &Job| {
            other.is_of_machine(job) || job.files().any(|file| *file == other.host_file)
        };
        let others = jobs.filter(|other| other.id != job.id && is_in_its_place(other));
        Ok(others.cloned().collect())
    }

    /// Removes the job's file.
    fn forget(&self, job: &Job) -> anyhow::Result<()> {
        forget(&self.store, &self.folder, job)?;
        if let Some(known) = &mut *self.known.borrow_mut() {
            known.remove(&job.id);
        }
        Ok(())
    }

    /// Tells the job `id`, as it is on the disk now, that something happened. `None` where there is no such job.
    pub fn change(
        &self,
        id: &Id,
        what: &Happened,
        now: Timestamp,
    ) -> anyhow::Result<Option<(Job, Effect)>> {
        match self.read(id)? {
            Some(job) => self.apply(job, what, now).map(Some),
            None => Ok(None),
        }
    }

    fn apply(
        &self,
        mut job: Job,
        what: &Happened,
        now: Timestamp,
    ) -> anyhow::Result<(Job, Effect)> {
        let effect = job.apply(what, now);
        // The history first: whoever is ended between the two writes says the same once more, and nothing is lost.
        if effect == Effect::Ended {
            self.note(&[Entry::of(&job)])?;
        }
        if effect != Effect::None {
            self.put(&job)?;
        }
        Ok((job, effect))
    }

    /// Adds lines to the history.
    fn note(&self, entries: &[Entry]) -> anyhow::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let doing = || self.store.named("writing", HISTORY);
        let mut options = OpenOptions::new();
        options.append(true).read(true).create(true);
        let is_new = !self.folder.exists(HISTORY);
        let mut file = self
            .folder
            .open_with(HISTORY, &options)
            .with_context(doing)?;
        if is_new {
            give_to_owner_of(&self.folder, &file).with_context(doing)?;
        }
        let mut lines: String = entries.iter().map(Entry::line).collect();
        if !ends_with_newline(&file).with_context(doing)? {
            // A line that a lost power cut off spoils no other.
            lines.insert(0, '\n');
        }
        file.write_all(lines.as_bytes()).with_context(doing)?;
        file.sync_all().with_context(doing)
    }

    /// Removes the files and the tokens of jobs that are long over: of files all but each machine's last, and those that another
    /// job asks about. The history has them.
    pub fn tidy(&self, before: Timestamp) -> anyhow::Result<()> {
        let jobs = self.all()?.jobs;
        let asked_about = asked_about(&jobs);
        for (at, job) in jobs.iter().enumerate() {
            if job.ended.is_none_or(|ended| ended >= before) {
                continue;
            }
            token::revoke(&self.store.root, &job.id)
                .with_context(|| format!("removing the token of job {}", job.id))?;
            let is_last = !jobs[at + 1..].iter().any(|other| other.is_of_machine(job));
            if !is_last && !asked_about.contains(&job.id) {
                self.forget(job)?;
            }
        }
        Ok(())
    }
}

/// Removes the job's file.
fn forget(store: &Store, folder: &Dir, job: &Job) -> anyhow::Result<()> {
    let name = job.file();
    let removed = remove(folder, &name).with_context(|| store.named("removing", &name));
    removed.map(|_| ())
}

/// NFS locks only what is open for writing.
fn open_lock(folder: &Dir) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    match folder.open_with(LOCK, &options) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => folder.open(LOCK),
        opened => opened,
    }
}

fn ends_with_newline(file: &File) -> std::io::Result<bool> {
    use std::os::unix::fs::FileExt as _;
    let length = file.metadata()?.len();
    let Some(last) = length.checked_sub(1) else {
        return Ok(true);
    };
    let mut byte = [0];
    let file = file.try_clone()?.into_std();
    file.read_exact_at(&mut byte, last)?;
    Ok(byte == *b"\n")
}

fn read(folder: &Dir, name: &str) -> anyhow::Result<Option<Job>> {
    let file = match folder.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("reading the job {name}")),
    };
    let mut text = String::new();
    file.take(MOST_BYTES)
        .read_to_string(&mut text)
        .with_context(|| format!("reading the job {name}"))?;
    Ok(Some(Job::parse(&text, name)?))
}

fn all(folder: &Dir) -> anyhow::Result<Found> {
    let mut names = Vec::new();
    for entry in folder.entries().context("listing the jobs")? {
        let name = entry.context("listing the jobs")?.file_name();
        let name = name.to_string_lossy().into_owned();
        let is_job = |name: &str| {
            let stem = name.strip_suffix(SUFFIX);
            stem.is_some_and(|stem| stem.parse::<Id>().is_ok())
        };
        if is_job(&name) {
            names.push(name);
        }
    }
    let mut found = Found::default();
    for name in names {
        match read(folder, &name) {
            Ok(job) => found.jobs.extend(job),
            Err(error) => found.wrong.push(format!("{error:#}")),
        }
    }
    // Names have whole seconds only.
    let order = |job: &Job| (job.since(), job.place, job.id.clone());
    found.jobs.sort_by_cached_key(order);
    Ok(found)
}

#[cfg(test)]
mod tests;
