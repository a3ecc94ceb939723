//! How hard each chunk is compressed: as hard as the time allows.
//!
//! A capture is as fast as the slowest of disk, processor and line. Where the processor is not the slowest it has time
//! left, and that time makes the image smaller. [`Effort`] looks at what threads do. While they wait for disk or line, and
//! cores have time left, chunks are compressed harder; else they are compressed faster. So a slow line gets a small image, a
//! fast disk is not waited for, and nobody has to choose.
//!
//! Both are asked, because time that is left is no reason by itself: where other programs take the cores, threads wait for
//! each other as well.
//!
//! There are a few [`RUNGS`], each with its cost. What may be spent on a chunk is a number between them; chunks take
//! turns between the rung below and the rung above it, so that on average just that much is spent.

use super::Level;
use super::codec::Deflater;
use super::workers::lock;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A way to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A level of ISA-L, 1 or 2.
    Isal(u8),
    /// A level of libdeflate.
    Libdeflate(i32),
}

impl Method {
    /// What it is called in a note of [`Levels`](super::levels::Levels).
    pub(super) fn letter(self) -> u8 {
        match self {
            Self::Isal(1) => b'i',
            Self::Isal(_) => b'j',
            Self::Libdeflate(level) => u8::try_from(level).map_or(b'?', |level| b'0' + level),
        }
    }

    /// The way of `auto` with this letter.
    pub(super) fn of_letter(letter: u8) -> Option<Self> {
        let rung = RUNGS.iter().find(|rung| rung.method.letter() == letter);
        rung.map(|rung| rung.method)
    }
}

/// A way to compress, and what it takes.
struct Rung {
    method: Method,
    /// Processor time a byte, against the first rung, as `examples/levels.rs` measures it.
    cost: f64,
}

/// The fastest first. What lies between them saves less than a mixture of two of these.
const RUNGS: [Rung; 5] = [
    Rung {
        method: Method::Isal(1),
        cost: 1.0,
    },
    Rung {
        method: Method::Isal(2),
        cost: 1.04,
    },
    Rung {
        method: Method::Libdeflate(3),
        cost: 4.0,
    },
    Rung {
        method: Method::Libdeflate(5),
        cost: 4.8,
    },
    Rung {
        method: Method::Libdeflate(8),
        cost: 11.4,
    },
];
const FASTEST: usize = 0;
const SMALLEST: usize = RUNGS.len() - 1;
/// Level 8 takes twice the time for four hundredths less: only where the time is there.
const SMALL: Method = Method::Libdeflate(6);

/// How often the budget is looked at again.
const WINDOW: Duration = Duration::from_millis(100);
/// A window has so many chunks at least. Where there are fewer, cores are idle because there was nothing to compress, not
/// because disk or line are slow: zeros pass by, or the share stands still.
const ENOUGH: u32 = 4;
/// So much of the cores' time may be computed: reading and sending need some, too.
const TARGET: f64 = 0.85;
/// Above this, threads wait for cores. How far the budget is above what it should be cannot be seen any more.
const FULL: f64 = 1.05;
/// A line is the slowest if somebody writes to it for so much of the time.
const WRITING: f64 = 0.85;
/// A disk is the slowest if so many threads wait for it, for each core. Copies from memory take a fifth of that.
const READING: f64 = 0.6;
/// A budget grows at most so much in a window, and shrinks at most to so much of itself: what a chunk takes varies.
const GROWTH: f64 = 1.3;
const SHRINKING: f64 = 0.6;

/// Chooses a rung for each chunk.
pub struct Effort {
    /// The one way, where the admin chose.
    fixed: Option<Method>,
    cores: f64,
    /// What all threads together have spent, by [`Doing`], nanoseconds.
    spent: [AtomicU64; 3],
    budget: Mutex<Budget>,
}

struct Budget {
    /// What may be spent on a chunk, against the first rung, and what is spent at least.
    each: f64,
    least: f64,
    /// What earlier chunks left over.
    saved: f64,
    /// The beginning of this window, and what was spent until then.
    since: Instant,
    spent: [u64; 3],
    /// Chunks in this window.
    chunks: u32,
}

/// What a thread does. Waiting for its turn is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    Reading,
    /// Hashing, looking for zeros and compressing.
    Computing,
    /// One thread at a time.
    Writing,
}

/// A thread does something, as long as this lives.
pub struct Busy<'a> {
    effort: &'a Effort,
    doing: Doing,
    begun: Instant,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.effort.took(self.doing, self.begun.elapsed());
    }
}

impl Effort {
    /// `threads` compute at once, 0 for every core.
    pub fn new(level: Level, threads: usize) -> Self {
        let cores = match threads {
            0 => thread::available_parallelism().map_or(1, NonZero::get),
            some => some,
        };
        Self {
            fixed: match level {
                Level::Auto => None,
                Level::Fast => Some(RUNGS[FASTEST].method),
                Level::Small => Some(SMALL),
            },
            cores: u32::try_from(cores).map_or(1.0, f64::from),
            spent: Default::default(),
            budget: Mutex::new(Budget {
                each: RUNGS[FASTEST].cost,
                least: RUNGS[FASTEST].cost,
                saved: 0.0,
                since: Instant::now(),
                spent: [0; 3],
                chunks: 0,
            }),
        }
    }

    /// Spends so much on a chunk on average, against the first rung, even where the processor is the slowest.
    #[must_use]
    pub fn at_least(mut self, each: f64) -> Self {
        let budget = self.budget.get_mut();
        let budget = budget.unwrap_or_else(PoisonError::into_inner);
        budget.least = each.clamp(RUNGS[FASTEST].cost, RUNGS[SMALLEST].cost);
        budget.each = budget.each.max(budget.least);
        self
    }

    /// Hold it while doing that, and nothing else.
    pub fn doing(&self, doing: Doing) -> Busy<'_> {
        Busy {
            effort: self,
            doing,
            begun: Instant::now(),
        }
    }

    /// Makes a member of `raw`, as [`Deflater::member`] does. The caller is [`Doing::Computing`].
    pub fn member(&self, deflater: &mut Deflater, raw: &[u8], out: &mut [u8]) -> usize {
        deflater.member(self.next(), raw, out)
    }

    /// How the next chunk is compressed.
    pub(super) fn next(&self) -> Method {
        self.fixed.unwrap_or_else(|| {
            let mut budget = lock(&self.budget);
            let passed = budget.since.elapsed();
            if passed >= WINDOW && budget.chunks >= ENOUGH {
                self.look(&mut budget, passed);
            }
            budget.chunks += 1;
            RUNGS[budget.take()].method
        })
    }

    /// A window is over.
    fn look(&self, budget: &mut Budget, passed: Duration) {
        let spent = [0, 1, 2].map(|doing: usize| self.spent[doing].load(Ordering::Relaxed));
        let threads = |doing: Doing| {
            let nanos = spent[doing as usize] - budget.spent[doing as usize];
            Duration::from_nanos(nanos).as_secs_f64() / passed.as_secs_f64()
        };
        let used = threads(Doing::Computing) / self.cores;
        let line = threads(Doing::Writing) / WRITING;
        let disk = threads(Doing::Reading) / self.cores / READING;
        budget.adjust(used, line.max(disk));
        budget.since = Instant::now();
        budget.spent = spent;
        budget.chunks = 0;
    }

    /// A thread did that for so long.
    fn took(&self, doing: Doing, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.spent[doing as usize].fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Budget {
    /// `used` is the share of the cores' time that was computed in the last window. `waited` is 1 and more where disk or line
    /// is the slowest, and less the less they are waited for.
    ///
    /// What the disk or the line lets through a second stays about the same, so the share grows as the budget does.
    fn adjust(&mut self, used: f64, waited: f64) {
        let left = TARGET / used.max(f64::EPSILON);
        let factor = if used > FULL {
            SHRINKING
        } else if waited < 1.0 {
            left.min(waited).max(SHRINKING)
        } else {
            left.clamp(SHRINKING, GROWTH)
        };
        self.each = (self.each * factor).clamp(self.least, RUNGS[SMALLEST].cost);
    }

    /// The hardest rung that this chunk may have with what the ones before left over.
    fn take(&mut self) -> usize {
        let purse = self.each + self.saved;
        let rung = RUNGS
            .iter()
            .rposition(|rung| rung.cost <= purse)
            .unwrap_or(FASTEST);
        // A purse is never fuller than one chunk needs, or a pause would be made up for by slow chunks later.
        self.saved = (purse - RUNGS[rung].cost).clamp(0.0, RUNGS[SMALLEST].cost);
        rung
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(each: f64) -> Budget {
        Budget {
            each,
            least: RUNGS[FASTEST].cost,
            saved: 0.0,
            since: Instant::now(),
            spent: [0; 3],
            chunks: 0,
        }
    }

    /// What a line lets through that carries a twentieth of what the cores could compress at their fastest.
    #[test]
    fn where_the_line_is_slow_chunks_are_compressed_as_small_as_can_be() {
        let mut budget = budget(1.0);
        for _ in 0..40 {
            budget.adjust(budget.each * 0.05, 1.1);
        }
        assert!((budget.each - RUNGS[SMALLEST].cost).abs() < 0.01);
        assert_eq!(budget.take(), SMALLEST);
    }

    #[test]
    fn where_the_cores_are_the_slowest_every_chunk_is_compressed_fast() {
        let mut budget = budget(RUNGS[SMALLEST].cost);
        for _ in 0..20 {
            budget.adjust(1.4, 1.1);
        }
        assert!((0..100).all(|_| budget.take() == FASTEST));
    }

    #[test]
    fn what_is_spent_at_least_is_spent_where_the_cores_are_the_slowest() {
        let mut effort = Effort::new(Level::Auto, 1).at_least(1.75);
        let budget = effort.budget.get_mut().unwrap();
        for _ in 0..20 {
            budget.adjust(1.4, 1.1);
        }
        let spent: f64 = (0..1000).map(|_| RUNGS[budget.take()].cost).sum();
        assert!((spent / 1000.0 - 1.75).abs() < 0.02, "{spent}");
    }

    #[test]
    fn in_between_just_the_time_that_is_there_is_spent() {
        let mut budget = budget(1.0);
        for _ in 0..60 {
            budget.adjust(budget.each * 0.2, 1.1);
        }
        assert!((budget.each * 0.2 - TARGET).abs() < 0.02, "{}", budget.each);
        let spent: f64 = (0..1000).map(|_| RUNGS[budget.take()].cost).sum();
        assert!((spent / 1000.0 - budget.each).abs() < 0.02, "{spent}");
    }

    /// Eight cores that a fast disk keeps busy with nine threads: how far above they are cannot be told from the share.
    #[test]
    fn where_cores_are_full_the_budget_falls_as_fast_as_it_may() {
        let mut budget = budget(RUNGS[SMALLEST].cost);
        for _ in 0..5 {
            budget.adjust(9.0 / 8.0, 1.1);
        }
        assert!(budget.each <= RUNGS[FASTEST].cost, "{}", budget.each);
    }

    /// So much later, after so many chunks.
    fn later(effort: &Effort, passed: Duration, chunks: u32) -> f64 {
        lock(&effort.budget).since -= passed;
        for _ in 0..chunks {
            effort.next();
        }
        lock(&effort.budget).each
    }

    #[test]
    fn a_share_that_stands_still_and_zeros_change_nothing() {
        let effort = Effort::new(Level::Auto, 2);
        let pause = Duration::from_secs(5);
        effort.took(Doing::Writing, pause);
        assert!(
            later(&effort, pause, ENOUGH) <= 1.0,
            "too few chunks to tell"
        );
        // However long it was, it is one window.
        assert!(later(&effort, pause, 1) <= GROWTH);
        assert!(later(&effort, pause, ENOUGH - 1) <= GROWTH);
    }

    /// Six threads on two cores that other programs use as well: each gets on slowly, reading and writing too.
    #[test]
    fn cores_that_others_take_are_no_time_that_is_left() {
        let effort = Effort::new(Level::Auto, 2);
        lock(&effort.budget).each = RUNGS[SMALLEST].cost;
        for _ in 0..20 {
            effort.took(Doing::Computing, Duration::from_millis(1200));
            effort.took(Doing::Reading, Duration::from_millis(500));
            effort.took(Doing::Writing, Duration::from_millis(300));
            later(&effort, Duration::from_secs(1), ENOUGH);
        }
        assert!((lock(&effort.budget).each - 1.0).abs() < f64::EPSILON);
    }

    /// A disk that four threads wait for, on two cores, and a share that takes it at once.
    #[test]
    fn a_slow_disk_leaves_time_as_a_slow_line_does() {
        let effort = Effort::new(Level::Auto, 2);
        for _ in 0..20 {
            effort.took(Doing::Computing, Duration::from_millis(100));
            effort.took(Doing::Reading, Duration::from_secs(4));
            effort.took(Doing::Writing, Duration::from_millis(10));
            later(&effort, Duration::from_secs(1), ENOUGH);
        }
        assert!((lock(&effort.budget).each - RUNGS[SMALLEST].cost).abs() < f64::EPSILON);
    }

    #[test]
    fn rungs_are_in_order_and_each_has_its_letter() {
        for rung in &RUNGS {
            assert_eq!(Method::of_letter(rung.method.letter()), Some(rung.method));
        }
        assert!(RUNGS.is_sorted_by(|one, next| one.cost < next.cost));
        assert!((RUNGS[FASTEST].cost - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_chosen_level_is_kept() {
        for (level, method) in [(Level::Fast, Method::Isal(1)), (Level::Small, SMALL)] {
            let effort = Effort::new(level, 1);
            effort.took(Doing::Writing, Duration::from_secs(100));
            assert!((0..50).all(|_| effort.next() == method));
        }
    }
}
