//! Who is read from, who gave what, and how fast: no networks here.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Reads that are remembered. Chunks are proven soon after they came: each thread has one.
const REMEMBERED: usize = 4096;

/// A mirror that gives fewer bytes a second is left out. One that fills itself over a thin line is no faster than that, and still
/// better than another on the same line.
pub const SLOWEST: u64 = 128 << 10;
/// The time that is looked at, of those in which something is waited for.
const LOOKED_AT: Duration = Duration::from_secs(10);

/// Mirrors by their numbers, in their order; `S` is what it takes to read from one.
pub struct Seats<S> {
    begun: bool,
    now: Option<(usize, S)>,
    /// The first that was not asked.
    next: usize,
    count: usize,
    /// Those that will have it soon, and when they are asked again.
    soon: VecDeque<(Instant, usize)>,
    said_soon: BTreeSet<usize>,
    /// Somebody asks: nobody else does meanwhile.
    asking: bool,
    /// The last reads, the newest last; `None` is the share.
    reads: VecDeque<(Range<u64>, Option<usize>)>,
    /// Bytes by mirror, and of the share.
    given: Vec<u64>,
}

/// Who gave a stretch of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Or it is forgotten.
    Share,
    Mirror(usize),
    /// One after the other: nobody can say whose fault it is.
    Several,
}

impl<S: Clone> Seats<S> {
    pub fn new(count: usize) -> Self {
        Self {
            begun: false,
            now: None,
            next: 0,
            count,
            soon: VecDeque::new(),
            said_soon: BTreeSet::new(),
            asking: false,
            reads: VecDeque::new(),
            given: vec![0; count + 1],
        }
    }

    /// Whether it is time to ask, for the first time or again: whoever hears so asks.
    pub fn begin(&mut self, at: Instant) -> bool {
        let first = !std::mem::replace(&mut self.begun, true);
        let again = self.now.is_none() && self.is_due(at) && !self.asking;
        self.asking |= first || again;
        first || again
    }

    fn is_due(&self, at: Instant) -> bool {
        self.soon.front().is_some_and(|(due, _)| *due <= at)
    }

    pub fn now(&self) -> Option<(usize, S)> {
        self.now.clone()
    }

    /// Whether it was this one's turn, which is over now: whoever hears so asks the next.
    pub fn leave(&mut self, number: usize) -> bool {
        let it_is = self.now.as_ref().is_some_and(|(now, _)| *now == number);
        if it_is {
            self.now = None;
            self.asking = true;
        }
        it_is
    }

    /// The next to be asked. After the last one nobody asks any more.
    pub fn next(&mut self, at: Instant) -> Option<usize> {
        let number = self.next;
        if number < self.count {
            self.next += 1;
            return Some(number);
        }
        if self.is_due(at) {
            return self.soon.pop_front().map(|(_, number)| number);
        }
        self.asking = false;
        None
    }

    /// This one has it soon, and is asked again then. Whether that is news.
    pub fn later(&mut self, number: usize, due: Instant) -> bool {
        self.soon.push_back((due, number));
        self.said_soon.insert(number)
    }

    /// Whether one of them will have it soon.
    pub fn awaits(&self) -> bool {
        !self.soon.is_empty()
    }

    pub fn seat(&mut self, number: usize, seat: S) {
        self.now = Some((number, seat));
        self.asking = false;
    }

    /// Notes who gave these bytes.
    pub fn note(&mut self, number: Option<usize>, bytes: Range<u64>) {
        let share = self.count;
        if let Some(given) = self.given.get_mut(number.unwrap_or(share)) {
            *given += bytes.end - bytes.start;
        }
        match self.reads.back_mut() {
            Some((last, who)) if *who == number && last.end == bytes.start => last.end = bytes.end,
            _ => {
                if self.reads.len() >= REMEMBERED {
                    self.reads.pop_front();
                }
                self.reads.push_back((bytes, number));
            }
        }
    }

    /// Who gave these bytes the last time.
    pub fn who_gave(&self, bytes: &Range<u64>) -> Who {
        let mut found: Option<Option<usize>> = None;
        let mut left = bytes.clone();
        // The end came last.
        for (read, who) in self.reads.iter().rev() {
            if left.is_empty() {
                break;
            }
            if read.start < left.end && left.end <= read.end {
                if found.is_some_and(|found| found != *who) {
                    return Who::Several;
                }
                found = Some(*who);
                left.end = read.start.max(left.start);
            }
        }
        match found {
            Some(Some(number)) => Who::Mirror(number),
            Some(None) | None => Who::Share,
        }
    }

    /// Bytes by mirror, the share as the number behind the last. The one that is read now comes first.
    pub fn given(&self) -> Vec<(usize, u64)> {
        let mut given: Vec<(usize, u64)> = self.given.iter().copied().enumerate().collect();
        let now = self.now.as_ref().map_or(self.count, |(now, _)| *now);
        given.sort_by_key(|(number, _)| *number != now);
        given
    }
}

/// How fast a mirror gives while somebody waits for it.
#[derive(Default)]
pub struct Pace(Mutex<Measured>);

#[derive(Default)]
struct Measured {
    waiting: usize,
    /// Since when the time is not counted yet.
    since: Option<Instant>,
    waited: Duration,
    bytes: u64,
}

impl Measured {
    fn count(&mut self, now: Instant) {
        if self.waiting > 0
            && let Some(since) = self.since
        {
            self.waited += now.saturating_duration_since(since);
        }
        self.since = Some(now);
    }

    fn begin(&mut self, now: Instant) {
        self.count(now);
        self.waiting += 1;
    }

    fn end(&mut self, now: Instant, bytes: usize) -> bool {
        self.count(now);
        self.waiting = self.waiting.saturating_sub(1);
        self.bytes += bytes as u64;
        if self.waited < LOOKED_AT {
            return false;
        }
        let least = SLOWEST.saturating_mul(self.waited.as_secs());
        let slow = self.bytes < least;
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        slow
    }
}

impl Pace {
    pub fn begin(&self) {
        let mut measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        measured.begin(Instant::now());
    }

    /// Whether it has been slow for a while.
    pub fn end(&self, bytes: usize) -> bool {
        let mut measured = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        measured.end(Instant::now(), bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_gave_a_stretch_the_last_time_is_named() {
        let mut seats: Seats<()> = Seats::new(2);
        seats.note(Some(0), 0..100);
        seats.note(Some(0), 100..150);
        seats.note(Some(1), 150..300);
        assert_eq!(seats.who_gave(&(20..120)), Who::Mirror(0));
        assert_eq!(seats.who_gave(&(140..160)), Who::Several);
        assert_eq!(seats.who_gave(&(150..300)), Who::Mirror(1));
        assert_eq!(seats.who_gave(&(400..500)), Who::Share);
        // It was read again, from elsewhere.
        seats.note(Some(1), 90..160);
        assert_eq!(seats.who_gave(&(100..150)), Who::Mirror(1));
        seats.note(None, 100..150);
        assert_eq!(seats.who_gave(&(100..150)), Who::Share);
        assert_eq!(seats.given(), [(2, 50), (0, 150), (1, 220)]);
    }

    #[test]
    fn a_turn_ends_once() {
        let mut seats = Seats::new(2);
        let now = Instant::now();
        assert!(seats.begin(now) && !seats.begin(now));
        assert_eq!(seats.next(now), Some(0));
        seats.seat(0, 'a');
        assert!(seats.leave(0) && !seats.leave(0));
        assert_eq!(
            (seats.now(), seats.next(now), seats.next(now)),
            (None, Some(1), None)
        );
        seats.seat(1, 'b');
        assert!(!seats.leave(0));
        assert_eq!(seats.now(), Some((1, 'b')));
    }

    #[test]
    fn who_has_it_soon_is_asked_again_by_one() {
        let mut seats = Seats::new(2);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(seats.begin(at(0)));
        assert_eq!(seats.next(at(0)), Some(0));
        assert!(seats.later(0, at(5)));
        // While somebody asks the next one, it may be time.
        assert_eq!(seats.next(at(0)), Some(1));
        assert!(!seats.begin(at(6)));
        seats.seat(1, 'b');
        assert!(!seats.begin(at(6)), "one that has it is there");
        assert!(seats.leave(1) && !seats.begin(at(6)));
        assert_eq!(seats.next(at(6)), Some(0));
        assert!(!seats.later(0, at(11)) && seats.awaits());
        assert_eq!(seats.next(at(7)), None);
        assert!(!seats.begin(at(10)));
        assert!(seats.begin(at(11)) && !seats.begin(at(11)));
        assert_eq!(seats.next(at(11)), Some(0));
        seats.seat(0, 'a');
        assert!(!seats.awaits() && !seats.begin(at(99)));
    }

    #[test]
    fn only_time_that_somebody_waits_counts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Measured::default();
        // A minute of writing to the disk, and two who wait at the same time.
        pace.begin(at(0));
        assert!(!pace.end(at(1), 300 << 10));
        pace.begin(at(61));
        pace.begin(at(61));
        assert!(!pace.end(at(66), 0));
        assert!(!pace.end(at(69), 700 << 10));
        pace.begin(at(69));
        assert!(pace.end(at(71), 1000), "1 MiB in 11 seconds");
        pace.begin(at(71));
        assert!(!pace.end(at(82), 3 << 20));
    }
}
