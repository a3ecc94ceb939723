//! Threads that share one job: some that compute, some that wait for disk or network.
//!
//! A [`WorkerPool`] starts the threads and collects the first error, which stops the others. Each thread takes the next piece
//! of work, reads it, holds a [`CpuPermit`] while it computes, and writes. No more threads hold a core than there are cores,
//! so the others can wait for disk or network in the meantime.
//!
//! Where results must be written in order, each piece has a ticket: 0, 1, 2, … without gaps, given out where pieces
//! are taken. [`Sequencer::run`] blocks the thread with ticket N until the one with N - 1 is done. There is no queue: a
//! thread that is early waits with its result in its own buffer, so memory is bounded by the number of threads. A
//! ticket that never comes would block all later ones; a thread that fails therefore stops the pool, and `run` looks
//! for that every [`STOP_CHECK`].

use crate::event::{Act, Progress, Reporter, Subject};
use crate::interrupt;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The most that the buffers of all workers take together, bytes.
const BUFFERS: usize = 64 << 20;
/// Beyond those that compute, so many wait for disk or network meanwhile. More of them would only spread the work
/// over more memory than the caches hold.
const WAITING: usize = 3;
/// So many more than there are cores may compute: while one wakes up, which takes a tenth of the time of a chunk, no
/// core is idle. On two cores a restore is a fifth faster for it.
const SPARE: usize = 1;
/// How soon a waiting worker notices that another failed.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// Takes a lock whatever happened to its last holder: every holder leaves whole values behind.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Workers that end together when one fails.
pub struct WorkerPool {
    places: usize,
    workers: usize,
    stop: AtomicBool,
    error: Mutex<Option<anyhow::Error>>,
    computing: Mutex<usize>,
    freed: Condvar,
}

impl WorkerPool {
    /// `threads` compute at once, 0 for every core; each worker holds `memory` bytes of buffers.
    pub fn new(threads: usize, memory: usize) -> Self {
        let places = match threads {
            0 => thread::available_parallelism().map_or(1, NonZero::get) + SPARE,
            some => some,
        };
        let fit = (BUFFERS / memory.max(1)).max(2);
        Self {
            places,
            workers: (places + WAITING).min(fit),
            stop: AtomicBool::new(false),
            error: Mutex::new(None),
            computing: Mutex::new(0),
            freed: Condvar::new(),
        }
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Runs `work` on every worker to its end; the first error is the result, and stops the others.
    pub fn run(&self, work: impl Fn() -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
        thread::scope(|scope| {
            for _ in 0..self.workers {
                scope.spawn(|| {
                    let whole = StopUnlessDone(self);
                    match work() {
                        Ok(()) => std::mem::forget(whole),
                        Err(error) => {
                            lock(&self.error).get_or_insert(error);
                        }
                    }
                });
            }
        });
        match lock(&self.error).take() {
            Some(error) => Err(error),
            None if interrupt::is_asked() => interrupt::check(),
            None if self.stopped() => Err(anyhow::anyhow!("a worker thread died")),
            None => Ok(()),
        }
    }

    /// Whether another worker failed, or a signal asks to end: leave what is left undone.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || interrupt::is_asked()
    }

    /// Waits for a place among those that compute. Hold it while computing, never while reading or writing.
    pub fn cpu_permit(&self) -> CpuPermit<'_> {
        let mut computing = lock(&self.computing);
        while *computing >= self.places {
            computing = self
                .freed
                .wait(computing)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *computing += 1;
        CpuPermit(self)
    }
}

/// The right to compute.
pub struct CpuPermit<'a>(&'a WorkerPool);

impl Drop for CpuPermit<'_> {
    fn drop(&mut self) {
        *lock(&self.0.computing) -= 1;
        self.0.freed.notify_one();
    }
}

/// Stops the pool when dropped, as by an error or a panic.
struct StopUnlessDone<'a>(&'a WorkerPool);

impl Drop for StopUnlessDone<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

/// Lets workers through in the order of their tickets, to a value that needs that order.
pub struct Sequencer<T> {
    state: Mutex<(u64, T)>,
    moved: Condvar,
}

impl<T> Sequencer<T> {
    pub fn new(value: T) -> Self {
        Self {
            state: Mutex::new((0, value)),
            moved: Condvar::new(),
        }
    }

    /// Waits for the turn of `ticket`, tickets counting from 0; `None` when the pool stopped first.
    ///
    /// An `act` that fails is the last: what came after it would leave a gap, and an error of its own that hides
    /// the first.
    pub fn run<R, E>(
        &self,
        ticket: u64,
        pool: &WorkerPool,
        act: impl FnOnce(&mut T) -> Result<R, E>,
    ) -> Option<Result<R, E>> {
        let mut state = lock(&self.state);
        while state.0 != ticket {
            if pool.stopped() {
                return None;
            }
            state = self
                .moved
                .wait_timeout(state, STOP_CHECK)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let result = act(&mut state.1);
        if result.is_ok() {
            state.0 += 1;
        }
        drop(state);
        self.moved.notify_all();
        Some(result)
    }

    pub fn into_inner(self) -> T {
        self.state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .1
    }
}

/// Counts what a transfer moved, and tells the reporter.
pub struct Meter<'a> {
    act: Act,
    subject: Subject,
    total: Option<u64>,
    done: AtomicU64,
    transferred: AtomicU64,
    begun: Instant,
    reporter: &'a dyn Reporter,
}

impl<'a> Meter<'a> {
    pub fn new(act: Act, subject: &str, total: Option<u64>, reporter: &'a dyn Reporter) -> Self {
        Self {
            act,
            subject: Subject::named(subject),
            total,
            done: AtomicU64::new(0),
            transferred: AtomicU64::new(0),
            begun: Instant::now(),
            reporter,
        }
    }

    /// `raw` more bytes of the disk are dealt with.
    pub fn done(&self, raw: u64) {
        let done = self.done.fetch_add(raw, Ordering::Relaxed) + raw;
        self.reporter.progress(Progress {
            act: self.act,
            subject: self.subject.clone(),
            done,
            total: self.total,
            transferred: self.transferred(),
            elapsed: self.begun.elapsed(),
        });
    }

    /// Something went wrong, and the transfer goes on.
    pub fn warn(&self, text: String) {
        self.reporter.warn(text);
    }

    /// `bytes` more moved to or from the image.
    pub fn moved(&self, bytes: u64) {
        self.transferred.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes moved so far.
    pub fn transferred(&self) -> u64 {
        self.transferred.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_in_order_and_places_are_never_overdrawn() {
        let pool = WorkerPool::new(2, 1 << 20);
        let next = AtomicU64::new(0);
        let sequencer = Sequencer::new(Vec::new());
        let (computing, most) = (AtomicU64::new(0), AtomicU64::new(0));
        pool.run(|| {
            loop {
                let ticket = next.fetch_add(1, Ordering::SeqCst);
                if ticket >= 200 {
                    return Ok(());
                }
                let permit = pool.cpu_permit();
                let now = computing.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                thread::yield_now();
                computing.fetch_sub(1, Ordering::SeqCst);
                drop(permit);
                let turn = sequencer.run(ticket, &pool, |seen| {
                    seen.push(ticket);
                    anyhow::Ok(())
                });
                assert!(matches!(turn, Some(Ok(()))));
            }
        })
        .unwrap();
        assert!(most.into_inner() <= 2);
        assert_eq!(sequencer.into_inner(), (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn one_failure_ends_all_that_wait_for_their_turn() {
        let pool = WorkerPool::new(4, 1 << 20);
        let first = AtomicBool::new(true);
        let sequencer = Sequencer::new(());
        let result = pool.run(|| {
            if first.swap(false, Ordering::Relaxed) {
                anyhow::bail!("ticket 0 is lost");
            }
            sequencer
                .run(1, &pool, |()| anyhow::Ok(()))
                .unwrap_or(Ok(()))
        });
        assert_eq!(result.unwrap_err().to_string(), "ticket 0 is lost");
    }

    #[test]
    fn nobody_acts_after_a_failure_and_the_failure_is_what_is_told() {
        for _ in 0..50 {
            let pool = WorkerPool::new(4, 1 << 20);
            let next = AtomicU64::new(0);
            let sequencer = Sequencer::new(0);
            let result = pool.run(|| {
                let ticket = next.fetch_add(1, Ordering::SeqCst);
                let act = |acted: &mut u64| {
                    *acted += 1;
                    anyhow::bail!("act {acted} failed")
                };
                sequencer.run(ticket, &pool, act).unwrap_or(Ok(()))
            });
            assert_eq!(result.unwrap_err().to_string(), "act 1 failed");
            assert_eq!(sequencer.into_inner(), 1);
        }
    }
}
