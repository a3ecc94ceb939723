//! Keeps track of jobs while the server runs: who has a slot, who waits, what is due.
//!
//! A slot that is given is in the job's file before the machine hears of it; words that keep it are in memory alone. So a
//! server that restarts knows who works, and gives each of them one lease of grace.

mod follow;

use super::evidence::settle;
use super::moved;
use super::standing::{Shown, Standing, take_up};
use super::store::{Found, Store};
use super::{power, schedule};
use crate::ends::{Ends, JobEnd};
use crate::journal::Journal;
use crate::refusal::{Refusal, blocking};
use crate::site::{Site, Sites};
use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use pitstop_jobs::{Board, Effect, Gone, Happened, Job, Limits, State, Turn};
use pitstop_protocol::check_in::{Answer, CheckIn, Says, millis, ordinal};
use pitstop_protocol::id::Id;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Of a lease a machine at work speaks four times, and one that waits asks nine times.
const BEATS: u32 = 4;
const ASKS: u32 = 9;

/// How often jobs are looked after, at most.
const TICK: Duration = Duration::from_secs(1);

/// How often the folders are looked at for what nobody reports.
const SETTLE: Duration = Duration::from_secs(3);

/// How often machines are compared with how they were.
const WATCH: Duration = Duration::from_secs(1);

/// How long the files of jobs that are over are kept, and how often they are tidied up.
const KEEP: SignedDuration = SignedDuration::from_hours(30 * 24);
const TIDY: Duration = Duration::from_secs(3600);

/// A folder that changed so lately may change again without a new time.
const COARSE: Duration = Duration::from_secs(2);

pub struct Keeper {
    store: Store,
    journal: Arc<Journal>,
    lease: Duration,
    /// The clock of the board: nobody sets it.
    began: Instant,
    /// Held for a look, never while a file is written.
    board: Mutex<Board>,
    /// The place that each machine was last told, for the journal.
    told: Mutex<HashMap<Id, u32>>,
    /// Whose silence is not in its file yet.
    gone: Mutex<Vec<Gone>>,
    seen: Mutex<Seen>,
    /// The jobs that whoever looks was told of.
    shown: Shown,
    /// The jobs that wait where their machine is not any more.
    moved: moved::Told,
    /// Who is told of ends.
    ends: OnceLock<Arc<Ends>>,
}

/// What was there when the folder was last read.
#[derive(Default)]
struct Seen {
    changed: Option<SystemTime>,
    found: Arc<Found>,
    settled: Option<Instant>,
    tidied: Option<Instant>,
    watched: Option<Instant>,
    /// What was said to be wrong.
    wrong: Vec<String>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while it held one of these left whole values: each change is one call.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeper {
    /// Takes up the jobs of `root`. A machine at work that is silent for `lease` loses its slot.
    pub fn new(root: &Path, lease: Duration, journal: Arc<Journal>) -> Self {
        let store = Store::at(root);
        let mut board = Board::new(lease);
        if let Err(error) = take_up(&store, &mut board) {
            journal.note(&format!("jobs: {error:#}"));
        }
        Self {
            store,
            journal,
            lease,
            began: Instant::now(),
            board: Mutex::new(board),
            told: Mutex::default(),
            gone: Mutex::default(),
            seen: Mutex::default(),
            shown: Shown::default(),
            moved: moved::Told::default(),
            ends: OnceLock::new(),
        }
    }

    /// From now on `ends` is told of each job that is given up, and of each machine that falls silent.
    pub fn tell_ends(&self, ends: Arc<Ends>) {
        let _ = self.ends.set(ends);
    }

    fn end(&self, job: &Job, end: JobEnd) {
        if let Some(ends) = self.ends.get() {
            ends.job(job, end);
        }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Who has a slot, and who waits for one.
    pub fn standing(&self) -> Standing {
        let board = locked(&self.board);
        let pair = |(job, run): (&Id, &Id)| (job.clone(), run.clone());
        Standing {
            working: board.working().map(pair).collect(),
            waiting: board.waiting().into_iter().cloned().collect(),
        }
    }

    /// What a machine says at the door of the job `id`. Whether it may speak for the job is `may`'s to say.
    pub fn check_in(
        &self,
        id: &Id,
        message: CheckIn,
        limits: &Limits,
        may: impl FnOnce(&Job) -> Result<(), String>,
    ) -> Result<Answer, Refusal> {
        let job = self.store.read(id).map_err(|e| failed(&e))?;
        let job = job.ok_or_else(|| Refusal::not_found(format_args!("the job {id}")))?;
        may(&job).map_err(|why| Refusal::new(StatusCode::FORBIDDEN, why))?;
        let run = message.run;
        let job = self.given_up(job, &run, &message.says)?;
        match message.says {
            Says::Ready => self.ready(&job, &run, message.written, limits),
            Says::Working => self.working(&job, run),
            Says::Done => self.ended(&job, &run, &Happened::Done { run: run.clone() }),
            Says::Failed { reason, again } => {
                let what = Happened::Failed {
                    run: run.clone(),
                    reason,
                    again,
                };
                self.ended(&job, &run, &what)
            }
        }
    }

    /// A machine that comes anew is not at work any more for a job that is withdrawn, or that another one took the place of.
    fn given_up(&self, job: Job, run: &Id, says: &Says) -> Result<Job, Refusal> {
        let last = job.runs.last().filter(|last| *last != run).cloned();
        let is_given_up = job.superseded_by.is_some() || job.state.is_withdrawn();
        if last.is_none() || !is_given_up || !job.may_be_at_work() || !matches!(says, Says::Ready) {
            return Ok(job);
        }
        let (job, _) = self.change(&job.id, &Happened::Silent { run: last })?;
        Ok(job)
    }

    fn ready(
        &self,
        job: &Job,
        run: &Id,
        written: bool,
        limits: &Limits,
    ) -> Result<Answer, Refusal> {
        if job.is_spent(run) {
            return Err(spent(job, run));
        }
        if let Some(answer) = withdrawn(job) {
            locked(&self.board).leave(&job.id);
            return Ok(answer);
        }
        if let Some(answer) = self.follows(job, run, written)? {
            return Ok(answer);
        }
        let now = self.now();
        let claim = job.claim();
        let (turn, writer) = {
            let mut board = locked(&self.board);
            let turn = board.ask(claim.clone(), run.clone(), limits, now);
            (turn, board.writes_there(&claim).cloned())
        };
        match turn {
            Turn::Go => self.go(job, run),
            Turn::Wait { place, of } => {
                if job.state != State::Queued {
                    self.change(&job.id, &Happened::Came)?;
                }
                let before = locked(&self.told).insert(job.id.clone(), place);
                let why = self.waits_to_write(&claim, writer.as_ref());
                if before != Some(place) {
                    let what = match &why {
                        Some(why) => format!(": {why}"),
                        None => format!(" for a slot: {} of {of}", ordinal(place)),
                    };
                    self.journal.note(&format!("{} waits{what}", job.shown()));
                }
                Ok(Answer::Wait {
                    place,
                    of,
                    ask_ms: millis(self.lease / ASKS),
                    why,
                    grows: None,
                })
            }
        }
    }

    /// The slot is the machine's once the file says so. The job may have been withdrawn in between.
    fn go(&self, job: &Job, run: &Id) -> Result<Answer, Refusal> {
        let changed = self.change(&job.id, &Happened::Granted { run: run.clone() });
        let answer = match &changed {
            Ok((now, _)) => withdrawn(now),
            Err(_) => None,
        };
        if changed.is_err() || answer.is_some() {
            locked(&self.board).leave(&job.id);
        }
        let (job, effect) = changed?;
        if let Some(answer) = answer {
            return Ok(answer);
        }
        // Its last word may have come since the job was read.
        if effect == Effect::None && job.is_spent(run) {
            locked(&self.board).leave(&job.id);
            return Err(spent(&job, run));
        }
        locked(&self.told).remove(&job.id);
        if effect != Effect::None {
            let machine = job.shown();
            self.journal
                .note(&format!("{machine} begins: {}, job {}", job.action, job.id));
        }
        Ok(Answer::Go {
            beat_ms: millis(self.lease / BEATS),
            written: job.written,
        })
    }

    fn working(&self, job: &Job, run: Id) -> Result<Answer, Refusal> {
        let answer = withdrawn(job).unwrap_or(Answer::Noted);
        // What an earlier try says, or one that is over, comes too late.
        if !job.is_at_work(&run) {
            return Ok(answer);
        }
        // Where the job was withdrawn, the machine goes on to its end all the same, and has its slot until then.
        locked(&self.board).beat(job.claim(), &run, self.now());
        // Its last word may have come since the job was read, and freed the slot.
        let now = self.store.read(&job.id).map_err(|e| failed(&e))?;
        let Some(job) = now.filter(|job| job.is_at_work(&run)) else {
            locked(&self.board).leave(&job.id);
            return Ok(answer);
        };
        if job.state.is_set() && job.state != State::Running {
            self.change(&job.id, &Happened::Beat { run })?;
        }
        Ok(answer)
    }

    /// The last word of a `run`: it leaves its slot, whatever became of the job.
    fn ended(&self, job: &Job, run: &Id, what: &Happened) -> Result<Answer, Refusal> {
        let (job, effect) = self.change(&job.id, what)?;
        if job.runs.last() == Some(run) {
            locked(&self.board).leave(&job.id);
        }
        if effect == Effect::Ended && job.state == State::Failed {
            self.end(&job, JobEnd::GaveUp);
        }
        if effect != Effect::None {
            let reason = job.reason.as_ref().map(|why| format!(": {why}"));
            self.journal.note(&format!(
                "{} {}: {}, job {}{}",
                job.shown(),
                job.state,
                job.action,
                job.id,
                reason.unwrap_or_default()
            ));
        }
        Ok(Answer::Noted)
    }

    fn change(&self, id: &Id, what: &Happened) -> Result<(Job, Effect), Refusal> {
        let now = Timestamp::now();
        let changed = self
            .store
            .lock()
            .and_then(|jobs| jobs.change(id, what, now));
        let changed = changed.map_err(|e| failed(&e))?;
        changed.ok_or_else(|| Refusal::not_found(format_args!("the job {id}")))
    }

    /// Looks after everything once. Called again and again.
    pub fn tick(&self, site: &Site) -> anyhow::Result<()> {
        let gone = self.note_silence();
        if self.is_time(|seen| &mut seen.settled, SETTLE.min(self.lease)) {
            let share = Some(site.share.as_ref());
            for job in settle(&self.store, &site.hosts, share, Timestamp::now())? {
                if job.state != State::Running {
                    locked(&self.board).leave(&job.id);
                }
                if job.state == State::Failed {
                    self.end(&job, JobEnd::GaveUp);
                }
            }
        }
        let now = Timestamp::now();
        let found = self.found()?;
        let fleet = site.fleet.current();
        self.moved
            .tell(Arc::clone(&fleet), &found, &site.hosts, &self.journal);
        let unfed = self.give_up_unfed(&found.jobs);
        let mut set = Vec::new();
        let tell = |said: schedule::Said| {
            self.journal.note(&said.line);
            set.extend(said.set);
        };
        let due = schedule::set_due(&self.store, &found.jobs, &site.hosts, &fleet, now, tell);
        power::switch(set, fleet, self.store.root(), &self.journal);
        self.tell(site);
        if self.is_time(|seen| &mut seen.watched, WATCH) {
            site.watch.look(site);
        }
        if self.is_time(|seen| &mut seen.tidied, TIDY)
            && let Ok(before) = now.checked_sub(KEEP)
            && !found.jobs.is_empty()
        {
            self.store.lock()?.tidy(before)?;
        }
        gone.and(unfed).and(due)
    }

    /// Tells whoever looks of the jobs that changed since the last time.
    pub fn tell(&self, site: &Site) {
        // What cannot be read is told by others.
        if let Ok(found) = self.found() {
            self.shown.tell(&found, &site.events);
        }
    }

    /// Frees the slots and places of machines that were silent for too long.
    fn note_silence(&self) -> anyhow::Result<()> {
        let mut gone = std::mem::take(&mut *locked(&self.gone));
        gone.extend(locked(&self.board).silent(self.now()));
        let mut noted = Ok(());
        for gone in gone {
            locked(&self.told).remove(&gone.job);
            if let Err(error) = self.note_gone(&gone) {
                // The disk is full, perhaps: its file is changed later. If it speaks meanwhile, its next word sets that right.
                locked(&self.gone).push(gone);
                noted = Err(error);
            }
        }
        noted
    }

    /// Notes the silence of a machine in its job's file.
    fn note_gone(&self, gone: &Gone) -> anyhow::Result<()> {
        let run = gone.run.clone();
        let what = Happened::Silent { run };
        let jobs = self.store.lock()?;
        let changed = jobs.change(&gone.job, &what, Timestamp::now())?;
        drop(jobs);
        // One that another job took the place of ends by it.
        if let Some((job, effect)) = changed
            && effect != Effect::None
        {
            let why = job.reason.as_deref().unwrap_or("no word from it");
            let machine = job.shown();
            self.journal
                .note(&format!("{machine} has left its place: {why}"));
            // One that only waited is no one's trouble.
            if gone.run.is_some() {
                self.end(&job, JobEnd::Silent);
            }
        }
        Ok(())
    }

    /// Whether it was not done for `every`; now it is being done.
    fn is_time(&self, which: fn(&mut Seen) -> &mut Option<Instant>, every: Duration) -> bool {
        let mut seen = locked(&self.seen);
        let last = which(&mut seen);
        let due = last.is_none_or(|last| last.elapsed() >= every);
        if due {
            *last = Some(Instant::now());
        }
        due
    }

    /// The jobs as the last look told, without another.
    pub fn last_found(&self) -> Arc<Found> {
        Arc::clone(&locked(&self.seen).found)
    }

    /// The jobs, read anew where the folder changed.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn found(&self) -> anyhow::Result<Arc<Found>> {
        let changed = self.store.changed();
        let settled = |time: SystemTime| time.elapsed().is_ok_and(|age| age > COARSE);
        {
            let seen = locked(&self.seen);
            if seen.changed == changed && changed.is_none_or(settled) {
                return Ok(Arc::clone(&seen.found));
            }
        }
        let found = Arc::new(self.store.all()?);
        let mut seen = locked(&self.seen);
        let news: Vec<String> = found
            .wrong
            .iter()
            .filter(|wrong| !seen.wrong.contains(wrong))
            .cloned()
            .collect();
        seen.wrong.clone_from(&found.wrong);
        seen.changed = changed;
        seen.found = Arc::clone(&found);
        drop(seen);
        for line in news {
            self.journal.note(&line);
        }
        Ok(found)
    }
}

fn spent(job: &Job, run: &Id) -> Refusal {
    let why = format!(
        "the run {run} of the job {} is over: it begins nothing again",
        job.id
    );
    Refusal::new(StatusCode::CONFLICT, why)
}

fn withdrawn(job: &Job) -> Option<Answer> {
    let reason = match (job.state, &job.reason) {
        (State::Cancelled | State::Superseded, Some(reason)) => reason.clone(),
        (State::Cancelled | State::Superseded, None) => job.state.to_string(),
        (State::Scheduled, _) => "its time has not come".into(),
        _ => return None,
    };
    let written = job.written;
    Some(Answer::Cancelled { reason, written })
}

fn failed(error: &anyhow::Error) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}"))
}

/// Looks after the jobs for as long as the server runs. What cannot be done now is told once, and tried again.
pub async fn watch(sites: Arc<Sites>) {
    let mut ticks = tokio::time::interval(TICK.min(sites.jobs.lease / BEATS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = None;
    loop {
        ticks.tick().await;
        let here = Arc::clone(&sites);
        let tick = blocking(move || {
            let site = here.now().map_err(|e| failed(&e))?;
            here.jobs.tick(&site).map_err(|e| failed(&e))
        });
        let wrong = tick.await.err().map(|refusal| refusal.reason);
        if let Some(wrong) = wrong.as_ref().filter(|_| told != wrong) {
            sites.journal.note(&format!("jobs: {wrong}"));
        }
        told = wrong;
    }
}

#[cfg(test)]
mod tests;
