//! The states of a job, and what brings it from one to another.

use crate::follow::PARTLY;
use crate::job::{Job, Verdict};
use jiff::Timestamp;
use pitstop_protocol::id::Id;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Tries of which the ids are kept.
const MOST_RUNS: usize = 50;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its time has not come: there is no host file yet.
    Scheduled,
    /// It is set, and the machine has not come for it.
    Waiting,
    /// The machine has come, and there is no slot for it.
    Queued,
    Running,
    Done,
    Failed,
    Cancelled,
    /// Another job of the same machine took its place.
    Superseded,
}

impl State {
    pub const ALL: [Self; 8] = [
        Self::Scheduled,
        Self::Waiting,
        Self::Queued,
        Self::Running,
        Self::Done,
        Self::Failed,
        Self::Cancelled,
        Self::Superseded,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Waiting => "waiting",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
        }
    }

    /// Whether nothing more comes by itself.
    pub fn is_over(self) -> bool {
        matches!(
            self,
            Self::Done | Self::Failed | Self::Cancelled | Self::Superseded
        )
    }

    /// Whether the machine finds a host file.
    pub fn is_set(self) -> bool {
        matches!(self, Self::Waiting | Self::Queued | Self::Running)
    }

    /// Whether somebody decided that the job is not wanted.
    pub fn is_withdrawn(self) -> bool {
        matches!(self, Self::Cancelled | Self::Superseded)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// Its time has come; the host file is written.
    Due,
    /// The machine came, and has to wait.
    Came,
    /// The machine came, and what it is to restore is not there yet.
    CameEarly {
        why: String,
        /// A part of it is on its disk already.
        written: bool,
    },
    /// What it is to restore will not be there.
    Unfed {
        why: String,
        written: bool,
    },
    /// The machine got a slot and begins.
    Granted {
        run: Id,
    },
    /// The machine says that it is at work.
    Beat {
        run: Id,
    },
    Done {
        run: Id,
    },
    Failed {
        run: Id,
        reason: String,
        /// It tries again by itself.
        again: bool,
    },
    /// No word from a machine that waited or was at work; of which run, if it was at work.
    Silent {
        run: Option<Id>,
    },
    /// The files tell that it is done: the machine has deleted its host file.
    SeenDone,
    /// The files tell of a failure.
    SeenFailed {
        reason: String,
        again: bool,
    },
    /// The files tell that the machine is at work.
    SeenRunning,
    /// The host file is gone, and not by a machine that was done.
    SeenRemoved,
    /// Its time has passed while nobody looked.
    Missed {
        reason: String,
    },
    Cancelled {
        by: String,
    },
    Superseded {
        by: Id,
    },
}

/// What a happening did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it came too late, or twice.
    None,
    Changed,
    /// The job is over with it: the history has a line more.
    Ended,
}

impl Job {
    /// Brings the job to where `what` leads.
    pub fn apply(&mut self, what: &Happened, now: Timestamp) -> Effect {
        let told = |job: &Self| (job.state, job.reason.clone(), job.runs.len());
        let before = (told(self), self.verdict);
        match what {
            Happened::Due if self.state == State::Scheduled => self.state = State::Waiting,
            Happened::Came if self.may_begin() => self.come(),
            Happened::CameEarly { why, written } if self.may_begin() => {
                self.come();
                self.written |= written;
                self.reason = Some(self.with_disk(why));
            }
            Happened::Unfed { why, written } if self.may_be_unfed(*written) => {
                self.written |= written;
                let why = self.with_disk(why);
                self.end(State::Failed, Some(Verdict::Failed), Some(why));
            }
            Happened::Granted { run } if self.may_begin() && !self.is_spent(run) => self.begin(run),
            Happened::Beat { run } if self.is_at_work(run) && !self.state.is_over() => {
                self.state = State::Running;
            }
            Happened::Done { run } if self.is_last(run) && self.state.is_withdrawn() => {
                self.verdict = Some(Verdict::Ok);
                self.written = false;
            }
            Happened::Done { run } if self.is_last(run) => {
                self.end(State::Done, Some(Verdict::Ok), None);
            }
            Happened::Failed { run, reason, again } if self.is_last(run) => {
                self.failed(reason, *again);
            }
            Happened::Silent { run } => self.silent(run.as_ref()),
            Happened::SeenDone if self.state.is_set() => {
                self.end(State::Done, Some(Verdict::Ok), None);
            }
            Happened::SeenFailed { reason, again } if self.state.is_set() => {
                self.failed(reason, *again);
            }
            Happened::SeenRunning if self.state == State::Waiting => self.state = State::Running,
            Happened::SeenRemoved if self.state.is_set() => {
                let reason = match self.verdict {
                    Some(Verdict::Lost) => {
                        "its host file is gone, and the machine did not say how its work ended"
                    }
                    _ => "its host file was removed by hand",
                };
                // Of one at work its log has told the end.
                let verdict = (self.state == State::Running).then_some(Verdict::Lost);
                self.end(State::Cancelled, verdict, Some(reason.into()));
            }
            Happened::Missed { reason } if self.state == State::Scheduled => {
                self.end(State::Failed, Some(Verdict::Missed), Some(reason.clone()));
            }
            Happened::Cancelled { by } if !self.state.is_over() => {
                self.end(State::Cancelled, None, Some(format!("cancelled by {by}")));
            }
            // It goes on to its end and tells of that; then the other one begins.
            Happened::Superseded { by } if self.state == State::Running && self.is_tracked() => {
                self.superseded_by = Some(by.clone());
                self.reason = Some(format!("at work; {by} comes after it"));
            }
            Happened::Superseded { by } if !self.state.is_over() => {
                self.superseded_by = Some(by.clone());
                self.end(
                    State::Superseded,
                    None,
                    Some(format!("{by} took its place")),
                );
            }
            _ => {}
        }
        if self.superseded_by.is_some() && self.state.is_set() && self.state != State::Running {
            // Its host file is another job's: it does not begin again.
            self.state = State::Superseded;
        }
        if before == (told(self), self.verdict) {
            return Effect::None;
        }
        let is_as_before = before.0.0 == self.state;
        let is_late = self.state.is_withdrawn() && before.0 == told(self);
        if is_late || (is_as_before && matches!(what, Happened::Unfed { .. })) {
            // How the machine's work came to its end after the job's; what it had done before that.
            return Effect::Changed;
        }
        self.changed = now;
        if self.state.is_over() {
            self.ended = Some(now);
            return Effect::Ended;
        }
        self.ended = None;
        Effect::Changed
    }

    /// Whether a machine that comes for it may have it: also for one that failed, whose host file is still there.
    fn may_begin(&self) -> bool {
        self.state != State::Scheduled && !self.state.is_withdrawn()
    }

    /// Whether the end of what it follows is news: also where that was told before its machine said that it had `written`.
    fn may_be_unfed(&self, written: bool) -> bool {
        match self.state {
            State::Waiting | State::Queued => true,
            State::Failed => written && !self.written,
            _ => false,
        }
    }

    /// Its machine is at the door, and at nothing else: a run that it was at is over.
    fn come(&mut self) {
        if self.state == State::Running {
            self.verdict = Some(Verdict::Lost);
        }
        self.state = State::Queued;
    }

    fn begin(&mut self, run: &Id) {
        if !self.is_last(run) {
            self.attempts = self.attempts.saturating_add(1);
            self.runs.push(run.clone());
            let surplus = self.runs.len().saturating_sub(MOST_RUNS);
            self.runs.drain(..surplus);
        }
        self.state = State::Running;
        self.verdict = None;
        self.forget_what_it_waited_for();
    }

    /// It is no reason of anything any more.
    fn forget_what_it_waited_for(&mut self) {
        if self.follows.is_some() {
            self.reason = None;
        }
    }

    fn end(&mut self, state: State, verdict: Option<Verdict>, reason: Option<String>) {
        self.written &= state != State::Done;
        self.state = state;
        self.verdict = verdict.or(self.verdict);
        self.reason = reason;
    }

    fn failed(&mut self, reason: &str, again: bool) {
        let state = match (self.state.is_withdrawn(), again) {
            // That it ran after all is worth a word; it stays withdrawn.
            (true, _) => self.state,
            (false, true) => State::Waiting,
            (false, false) => State::Failed,
        };
        self.end(state, Some(Verdict::Failed), Some(reason.to_owned()));
    }

    fn silent(&mut self, run: Option<&Id>) {
        match (self.state, run) {
            (State::Queued, None) => {
                self.state = State::Waiting;
                self.forget_what_it_waited_for();
                if self.written {
                    self.reason = Some(PARTLY.into());
                }
            }
            (State::Running, Some(run)) if self.is_last(run) => {
                let reason =
                    "no word from the machine: it was switched off, crashed or lost its network";
                let reason = self.with_disk(reason);
                self.end(State::Waiting, Some(Verdict::Lost), Some(reason));
            }
            (state, Some(run)) if state.is_withdrawn() && self.is_at_work(run) => {
                self.verdict = Some(Verdict::Lost);
            }
            _ => {}
        }
    }

    /// Whether the machine may still be at work in this `run`: it began, and has not said how it ended. So it may though the
    /// job was withdrawn meanwhile, or nothing was heard for a while.
    pub fn is_at_work(&self, run: &Id) -> bool {
        let may = self.state.is_set() || self.state.is_withdrawn();
        may && self.is_last(run) && matches!(self.verdict, None | Some(Verdict::Lost))
    }

    /// Whether this `run` is over: it has said how it ended, or another one has begun behind it. Each try of a machine has a run of its
    /// own, so what such a one says at the door comes late, twice or from somebody else.
    pub fn is_spent(&self, run: &Id) -> bool {
        let is_open = self.is_last(run) && matches!(self.verdict, None | Some(Verdict::Lost));
        self.runs.contains(run) && !is_open
    }

    fn is_last(&self, run: &Id) -> bool {
        self.runs.last() == Some(run)
    }
}

#[cfg(test)]
mod tests;
