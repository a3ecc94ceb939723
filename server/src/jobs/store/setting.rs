//! Jobs are set: their files, the host files, and the end of what their machines had before.

use super::{Locked, Store};
use crate::host_files;
use crate::jobs::owner;
use crate::machine_access::{MachineAccess, add_token};
use crate::runs::token;
use crate::url::read_machine_access;
use crate::write::replace;
use anyhow::Context;
use cap_std::fs::Dir;
use pitstop_jobs::{Effect, Entry, Happened, Job};
use std::collections::{BTreeMap, HashSet};
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Threads that write at once. Each file is on the disk before it has its name, and most of the time is waiting for that: what several
/// ask for, a filesystem does with one write of its journal.
const WRITERS: usize = 16;

/// A job that is to be set, and the others of its machine.
struct Setting<'a> {
    job: &'a Job,
    before: Option<Job>,
    others: Vec<Job>,
}

impl Locked {
    /// Sets a job for its machine's next boot: its file, the host file, and the end of what the machine had before. Where the
    /// host file cannot be written, everything is as it was. Returns the host file's text.
    pub fn set(&self, hosts: &Dir, job: &Job) -> anyhow::Result<String> {
        let mut texts = self.set_all(hosts, slice::from_ref(job))?;
        texts.pop().context("a job that was set has a host file")
    }

    /// Sets jobs, each of another machine. When one fails no other is begun; those that are set stay so. Returns the host files'
    /// texts.
    pub fn set_all(&self, hosts: &Dir, jobs: &[Job]) -> anyhow::Result<Vec<String>> {
        let setting: Vec<Setting> = jobs
            .iter()
            .map(|job| self.about(job))
            .collect::<anyhow::Result<_>>()?;
        let writer = Writer {
            store: &self.store,
            folder: &self.folder,
            hosts,
            access: read_machine_access(self.store.root())?,
        };
        let outcomes = at_once(&setting, |one| writer.set(one));
        let (mut texts, mut set, mut wrong) = (Vec::new(), Vec::new(), None);
        for (one, outcome) in setting.iter().zip(outcomes) {
            match outcome {
                Some(Ok(text)) => {
                    texts.push(text);
                    self.know(one.job);
                    set.push(one);
                }
                Some(Err(error)) => wrong = wrong.or(Some(error)),
                None => {}
            }
        }
        self.supersede(&set)?;
        self.remove_other_names(hosts, &set)?;
        wrong.map_or(Ok(texts), Err)
    }

    /// Writes the files of jobs, in place of what they had.
    pub fn put_all(&self, jobs: &[Job]) -> anyhow::Result<()> {
        let (store, folder) = (&self.store, &self.folder);
        let outcomes = at_once(jobs, |job| put(store, folder, job));
        for (job, outcome) in jobs.iter().zip(outcomes) {
            if let Some(written) = outcome {
                written?;
                self.know(job);
            }
        }
        Ok(())
    }

    fn about<'a>(&self, job: &'a Job) -> anyhow::Result<Setting<'a>> {
        Ok(Setting {
            job,
            before: self.read(&job.id)?,
            others: self.others_of(job)?,
        })
    }

    /// Ends what the machines had before.
    fn supersede(&self, set: &[&Setting]) -> anyhow::Result<()> {
        let (mut changed, mut ended) = (Vec::new(), Vec::new());
        let mut pairs: Vec<(&Job, &Job)> = Vec::new();
        for one in set {
            let its = one.others.iter().filter(|old| old.state.is_set());
            pairs.extend(its.map(|old| (one.job, old)));
        }
        // Where machines have changed addresses, one job may be in the place of two: its own machine's takes it.
        pairs.sort_by_key(|(new, old)| !old.is_of_machine(new));
        let mut seen = HashSet::new();
        pairs.retain(|(_, old)| seen.insert(&old.id));
        for (new, old) in pairs {
            let mut old = old.clone();
            let by = Happened::Superseded { by: new.id.clone() };
            let effect = old.apply(&by, new.changed);
            if effect == Effect::Ended {
                ended.push(Entry::of(&old));
            }
            if effect != Effect::None {
                changed.push(old);
            }
        }
        // The history first, as of any end.
        self.note(&ended)?;
        self.put_all(&changed)
    }

    /// Under its other name the machine would find an old job, its own or another machine's, or find it when this one is done.
    /// Under an address that it had before, another machine would: what is that one's by now stays.
    fn remove_other_names(&self, hosts: &Dir, set: &[&Setting]) -> anyhow::Result<()> {
        let new: HashSet<&str> = set.iter().map(|one| one.job.host_file.as_str()).collect();
        let known = self.known.borrow();
        let jobs = || known.iter().flat_map(BTreeMap::values);
        for one in set {
            let is_left = |old: &&Job| {
                let name = &old.host_file;
                // A machine that had this one's address has names of its own.
                let was_its = old.state.is_set() || old.name == one.job.name;
                if !was_its || !old.leaves_host_file() || new.contains(name.as_str()) {
                    return false;
                }
                match owner(jobs(), hosts, name) {
                    Some(owner) => one.others.iter().any(|other| other.id == owner.id),
                    // It has just been superseded.
                    None => old.state.is_set(),
                }
            };
            let before = one.others.iter().filter(is_left);
            let other_names = one.job.other_files.iter();
            let other_names = other_names.filter(|name| !new.contains(name.as_str()));
            for name in other_names.chain(before.map(|old| &old.host_file)) {
                host_files::remove(hosts, name)
                    .with_context(|| format!("removing the job it had under the name {name}"))?;
            }
        }
        Ok(())
    }
}

/// Writes the files of one job.
struct Writer<'a> {
    store: &'a Store,
    folder: &'a Dir,
    hosts: &'a Dir,
    access: MachineAccess,
}

impl Writer<'_> {
    fn set(&self, one: &Setting) -> anyhow::Result<String> {
        // Before the host file: a machine that has just read that is known at the door.
        put(self.store, self.folder, one.job)?;
        self.write_host_file(one.job).map_err(|error| {
            let undone = match &one.before {
                Some(before) => put(self.store, self.folder, before),
                None => super::forget(self.store, self.folder, one.job),
            };
            match undone {
                Ok(()) => error,
                Err(second) => error.context(format!("and after that: {second:#}")),
            }
        })
    }

    fn write_host_file(&self, job: &Job) -> anyhow::Result<String> {
        let token = match &job.server {
            Some(_) => Some(token::issue(self.store.root(), &job.id)?),
            None => None,
        };
        let mut files = job.host_files(token.as_deref());
        if let (Some(server), Some(token)) = (&job.server, &token)
            && self.access == MachineAccess::Token
        {
            add_token(&mut files, server, &job.id, token);
        }
        host_files::put(self.hosts, &job.host_file, &files)
            .with_context(|| format!("writing the host file {}", job.host_file))?;
        Ok(files.text)
    }
}

/// Writes the job's file, in place of what it had.
pub(super) fn put(store: &Store, folder: &Dir, job: &Job) -> anyhow::Result<()> {
    let name = job.file();
    replace(folder, &name, &job.to_toml()).with_context(|| store.named("writing", &name))
}

/// Does it with each, several at once. When one fails no other is begun: those have no outcome.
fn at_once<T: Sync, R: Send>(
    items: &[T],
    act: impl Fn(&T) -> anyhow::Result<R> + Sync,
) -> Vec<Option<anyhow::Result<R>>> {
    let outcomes: Vec<Mutex<Option<anyhow::Result<R>>>> =
        items.iter().map(|_| Mutex::new(None)).collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let (Some(item), Some(place)) = (items.get(at), outcomes.get(at)) else {
                return;
            };
            let outcome = act(item);
            if outcome.is_err() {
                failed.store(true, Ordering::Relaxed);
            }
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        }
    };
    thread::scope(|scope| {
        // This thread is one of them.
        for _ in 1..WRITERS.min(items.len()) {
            scope.spawn(work);
        }
        work();
    });
    let inner = |place: Mutex<_>| place.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.into_iter().map(inner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_done_once_and_none_is_begun_behind_a_failure() {
        let items: Vec<usize> = (0..500).collect();
        let done: Vec<usize> = at_once(&items, |item| Ok(*item))
            .into_iter()
            .map(|outcome| outcome.unwrap().unwrap())
            .collect();
        assert_eq!(done, items);
        let begun = AtomicUsize::new(0);
        let outcomes = at_once(&items, |_| {
            begun.fetch_add(1, Ordering::Relaxed);
            anyhow::bail!("no")
        });
        assert!(begun.into_inner() <= WRITERS);
        let failed = |outcome: &&Option<anyhow::Result<()>>| matches!(outcome, Some(Err(_)));
        assert!(outcomes.iter().filter(failed).count() >= 1);
        assert_eq!(at_once(&[(); 0], |()| Ok(())).len(), 0);
    }
}
