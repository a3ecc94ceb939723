//! From what the engine tells to what is reported, and back again for whoever shows it: console, log and page render one
//! and the same event.

use super::{
    About, LONGEST_NAME, LONGEST_TEXT, Line, Moved, Outcome, Record, State, Verdict, What,
    shortened,
};
use pitstop_imaging::event::{BadSectors, Event, Level, Progress, Stage, Subject};
use std::time::Duration;

/// What is reported of an event. Messages for whoever debugs are not.
pub fn of(event: &Event) -> Option<(About, What)> {
    Some(match event {
        Event::Message {
            level: Level::Debug,
            ..
        } => return None,
        Event::Message { level, text } => (
            About::default(),
            What::Log {
                level: *level,
                text: shortened(text, LONGEST_TEXT),
            },
        ),
        Event::Progress(progress) => (
            about(&progress.subject),
            What::Progress(Moved {
                act: progress.act,
                done: progress.done,
                total: progress.total,
                transferred: progress.transferred,
                elapsed_ms: millis(progress.elapsed),
            }),
        ),
        Event::Step {
            act,
            subject,
            stage,
        } => (
            about(subject),
            What::Step {
                act: *act,
                state: (*stage).into(),
            },
        ),
        Event::BadSectors(bad) => (
            about(&bad.subject),
            What::ReadErrors {
                places: bad.places,
                bytes: bad.bytes,
                first: bad.first.clone(),
                zeroed: bad.zeroed,
            },
        ),
    })
}

fn about(subject: &Subject) -> About {
    About {
        step: subject.step,
        disk: shortened(&subject.name, LONGEST_NAME),
        label: shortened(&subject.label, LONGEST_NAME),
    }
}

/// Milliseconds, as the lines have them.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Line {
    /// What a renderer shows of it. A line that is not known is shown as it is.
    pub fn event(&self) -> Event {
        match self {
            Self::Known(record) => record.event(),
            Self::Unknown { raw, .. } => Event::Message {
                level: Level::Info,
                text: raw.clone(),
            },
        }
    }
}

impl From<Stage> for State {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Begun => Self::Begun,
            Stage::Done {
                bytes,
                transferred,
                took,
            } => Self::Done {
                bytes,
                transferred,
                elapsed_ms: millis(took),
            },
        }
    }
}

impl From<State> for Stage {
    fn from(state: State) -> Self {
        match state {
            State::Begun => Self::Begun,
            State::Done {
                bytes,
                transferred,
                elapsed_ms,
            } => Self::Done {
                bytes,
                transferred,
                took: Duration::from_millis(elapsed_ms),
            },
        }
    }
}

impl Record {
    fn event(&self) -> Event {
        let message = |level, text| Event::Message { level, text };
        match &self.what {
            What::Progress(moved) => Event::Progress(Progress {
                act: moved.act,
                subject: self.subject(),
                done: moved.done,
                total: moved.total,
                transferred: moved.transferred,
                elapsed: Duration::from_millis(moved.elapsed_ms),
            }),
            What::Step { act, state } => Event::Step {
                act: *act,
                subject: self.subject(),
                stage: (*state).into(),
            },
            What::ReadErrors {
                places,
                bytes,
                first,
                zeroed,
            } => Event::BadSectors(BadSectors {
                subject: self.subject(),
                first: first.clone(),
                places: *places,
                bytes: *bytes,
                zeroed: *zeroed,
            }),
            What::Log { level, text } => message(*level, text.clone()),
            What::Dropped { lines } => message(
                Level::Warning,
                format!(
                    "{lines} lines came too fast to be reported: the log on the share has them"
                ),
            ),
            What::Result(outcome) => message(outcome.level(), outcome.to_string()),
            // The log has these as people read them; here they are for whoever asks for more.
            What::Begin {
                address, pitstop, ..
            } => message(
                Level::Debug,
                format!("run {} of {address}, Pitstop {pitstop}", self.run),
            ),
            What::Job { action } => message(Level::Debug, format!("the job is {action}")),
            What::Inventory { facts } => {
                let (disks, nics) = (facts.disks.len(), facts.nics.len());
                let text = format!("the machine has {disks} disks and {nics} network cards");
                message(Level::Debug, text)
            }
            What::Plan { action, disks } => {
                let names: Vec<&str> = disks.iter().map(|disk| disk.disk.as_str()).collect();
                message(Level::Debug, format!("{action} of {}", names.join(", ")))
            }
        }
    }

    fn subject(&self) -> Subject {
        Subject {
            name: self.about.disk.clone(),
            label: self.about.label.clone(),
            step: self.about.step,
        }
    }
}

impl Outcome {
    /// How much it matters, for a log.
    pub fn level(&self) -> Level {
        match self.verdict {
            Verdict::Ok => Level::Info,
            Verdict::Cancelled => Level::Warning,
            Verdict::Failed => Level::Error,
        }
    }
}
