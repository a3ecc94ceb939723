//! What waits to be reported: of fixed size, and never waited for. Whoever puts something in holds the lock for a moment and
//! goes on; what is too much is counted.

use jiff::Timestamp;
use pitstop_imaging::event::Act;
use pitstop_protocol::event::{About, Record, State, What};
use pitstop_protocol::id::Id;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Lines of the log that wait.
pub(super) const MOST_LINES: usize = 1000;
/// Bytes of their texts.
const MOST_TEXT: usize = 1 << 20;
/// Bytes that go at once: half of what a server takes.
const BATCH: usize = pitstop_protocol::event::LARGEST_REPORT / 2;
/// How often the progress of one step is looked at: it is told by every chunk.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) struct Queue {
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    run: Id,
    next: u64,
    waiting: BTreeMap<u64, Record>,
    /// Of each step and act: where its newest progress waits, and when it was looked at.
    moving: BTreeMap<(u32, Act), Moving>,
    lines: usize,
    text: usize,
    dropped: u64,
    sums: Sums,
    state: Doors,
}

struct Moving {
    seq: u64,
    looked: Instant,
}

/// What a result tells of the whole run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Bytes of disks in steps that are done.
    pub bytes: u64,
    /// Places of disks that could not be read.
    pub read_errors: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doors {
    Open,
    /// Nothing comes any more; what waits is still sent.
    Closed,
    /// Nobody wants to hear of it.
    Off,
}

impl Queue {
    pub(super) fn new(run: Id) -> Self {
        Self {
            inner: Mutex::new(Inner {
                run,
                next: 1,
                waiting: BTreeMap::new(),
                moving: BTreeMap::new(),
                lines: 0,
                text: 0,
                dropped: 0,
                sums: Sums::default(),
                state: Doors::Open,
            }),
            changed: Condvar::new(),
        }
    }

    /// Puts an event in, or drops it. Waits for nobody.
    pub(super) fn push(&self, about: About, what: What) {
        let mut inner = self.locked();
        if inner.state != Doors::Open {
            return;
        }
        match &what {
            What::Progress(moved) => {
                let key = (about.step, moved.act);
                let is_last = moved.total == Some(moved.done);
                if !inner.is_due(key, is_last) {
                    return;
                }
                let seq = inner.add(about, what);
                let moving = Moving {
                    seq,
                    looked: Instant::now(),
                };
                if let Some(before) = inner.moving.insert(key, moving) {
                    inner.waiting.remove(&before.seq);
                }
                return;
            }
            What::Log { text, .. } => {
                let length = text.len();
                if inner.lines >= MOST_LINES || inner.text + length > MOST_TEXT {
                    inner.dropped += 1;
                    return;
                }
                inner.lines += 1;
                inner.text += length;
            }
            What::Step {
                state: State::Done { bytes, .. },
                ..
            } => inner.sums.bytes = inner.sums.bytes.saturating_add(*bytes),
            What::ReadErrors { places, .. } => {
                inner.sums.read_errors = inner.sums.read_errors.saturating_add(*places);
            }
            What::Begin { .. }
            | What::Job { .. }
            | What::Plan { .. }
            | What::Step { .. }
            | What::Inventory { .. }
            | What::Dropped { .. }
            | What::Result(_) => {}
        }
        inner.add(about, what);
    }

    pub(super) fn sums(&self) -> Sums {
        self.locked().sums
    }

    /// Nothing comes any more.
    pub(super) fn close(&self) {
        let mut inner = self.locked();
        if inner.state == Doors::Open {
            inner.state = Doors::Closed;
        }
        self.changed.notify_all();
    }

    /// Nothing is to be reported at all.
    pub(super) fn turn_off(&self) {
        let mut inner = self.locked();
        inner.state = Doors::Off;
        inner.waiting.clear();
        inner.moving.clear();
    }

    /// Waits for `time`, or until it is closed. Returns whether it is.
    pub(super) fn wait(&self, time: Duration) -> bool {
        let inner = self.locked();
        let (inner, _) = self
            .changed
            .wait_timeout_while(inner, time, |inner| inner.state == Doors::Open)
            .unwrap_or_else(PoisonError::into_inner);
        inner.state != Doors::Open
    }

    /// The oldest that wait, as lines; empty where nothing does.
    pub(super) fn take(&self) -> String {
        let mut inner = self.locked();
        let mut batch = String::new();
        while batch.len() < BATCH {
            let Some((_, record)) = inner.waiting.pop_first() else {
                break;
            };
            if let What::Log { text, .. } = &record.what {
                inner.lines -= 1;
                inner.text -= text.len();
            }
            match record.line() {
                Ok(line) => {
                    batch.push_str(&line);
                    batch.push('\n');
                }
                Err(_too_long) => inner.dropped += 1,
            }
        }
        if inner.dropped > 0 && inner.waiting.is_empty() {
            let lines = std::mem::take(&mut inner.dropped);
            inner.add(About::default(), What::Dropped { lines });
        }
        batch
    }

    fn locked(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The last of a transfer is always told.
    fn is_due(&self, key: (u32, Act), is_last: bool) -> bool {
        let before = self.moving.get(&key);
        is_last || before.is_none_or(|before| before.looked.elapsed() >= LOOK_EVERY)
    }

    fn add(&mut self, about: About, what: What) -> u64 {
        let seq = self.next;
        self.next += 1;
        let record = Record {
            run: self.run.clone(),
            seq,
            time: Timestamp::now(),
            about,
            what,
        };
        self.waiting.insert(seq, record);
        seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pitstop_imaging::event::Level;
    use pitstop_protocol::event::{Line, Moved, parse};

    fn queue() -> Queue {
        Queue::new("20261128-213000-a1b2c3".parse().unwrap())
    }

    fn log(text: &str) -> What {
        What::Log {
            level: Level::Info,
            text: text.into(),
        }
    }

    fn progress(done: u64) -> What {
        What::Progress(Moved {
            act: Act::Backup,
            done,
            total: Some(100),
            transferred: done,
            elapsed_ms: done,
        })
    }

    fn taken(queue: &Queue) -> Vec<Record> {
        let batch = queue.take();
        let known = batch.lines().map(|line| match parse(line) {
            Ok(Line::Known(record)) => record,
            other => panic!("{other:?}"),
        });
        known.collect()
    }

    #[test]
    fn of_progress_the_newest_of_each_step_is_told_and_the_last_always() {
        let queue = queue();
        let about = |step| About {
            step,
            ..About::default()
        };
        for done in 1..=100 {
            queue.push(about(1), progress(done));
            queue.push(about(2), progress(done / 2));
        }
        let done: Vec<(u32, What)> = taken(&queue)
            .into_iter()
            .map(|record| (record.about.step, record.what))
            .collect();
        // Of the one that is not at its end there is what came first in the last moment that was looked at.
        assert_eq!(done.len(), 2, "{done:?}");
        assert!(done.contains(&(1, progress(100))), "{done:?}");
        assert!(done.iter().any(|(step, _)| *step == 2), "{done:?}");
        assert_eq!(queue.take(), "");
    }

    #[test]
    fn lines_that_are_too_many_are_counted_and_what_was_planned_is_not_dropped() {
        let queue = queue();
        for number in 0..MOST_LINES + 20 {
            queue.push(About::default(), log(&number.to_string()));
        }
        let job = What::Job {
            action: "backup".into(),
        };
        queue.push(About::default(), job.clone());
        let mut all = Vec::new();
        loop {
            let batch = taken(&queue);
            if batch.is_empty() {
                break;
            }
            all.extend(batch);
        }
        assert_eq!(all.len(), MOST_LINES + 2);
        assert!(all.is_sorted_by_key(|record| record.seq));
        assert_eq!(all[MOST_LINES].what, job);
        assert_eq!(all[MOST_LINES + 1].what, What::Dropped { lines: 20 });
        // There is room again.
        queue.push(About::default(), log("x"));
        assert_eq!(taken(&queue).len(), 1);
    }

    #[test]
    fn long_texts_are_bounded_by_their_bytes_and_a_batch_by_what_a_server_takes() {
        let queue = queue();
        let text = "x".repeat(8000);
        for _ in 0..500 {
            queue.push(About::default(), log(&text));
        }
        let mut batches = 0;
        loop {
            let batch = queue.take();
            if batch.is_empty() {
                break;
            }
            assert!(batch.len() <= pitstop_protocol::event::LARGEST_REPORT);
            batches += 1;
        }
        assert_eq!(batches, 4, "three of lines, and the count of those dropped");
    }

    #[test]
    fn a_queue_that_nobody_wants_stays_empty() {
        let queue = queue();
        queue.push(About::default(), log("x"));
        queue.turn_off();
        queue.push(About::default(), log("y"));
        assert_eq!(queue.take(), "");
        assert!(queue.wait(Duration::from_secs(600)));
    }
}
