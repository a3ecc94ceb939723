//! How much came to a machine by when, as it said itself.

use std::collections::VecDeque;
use std::time::Duration;

/// Words that are kept to tell the speed.
const KEPT: Duration = Duration::from_secs(8);

/// Sums of bytes at the times they were told, newest last.
#[derive(Debug, Default)]
pub struct Came(VecDeque<(Duration, u64)>);

impl Came {
    pub fn note(&mut self, now: Duration, bytes: u64) {
        if bytes < self.bytes() {
            // No machine unlearns: what it said before is worth nothing.
            self.0.clear();
        }
        // Words may overtake each other on their way.
        let now = self.last().map_or(now, |last| last.max(now));
        self.0.push_back((now, bytes));
        while self.0.len() > 2 && self.0[1].0 + KEPT < now {
            self.0.pop_front();
        }
    }

    /// All that came so far.
    pub fn bytes(&self) -> u64 {
        self.0.back().map_or(0, |(_, bytes)| *bytes)
    }

    /// When it spoke last.
    pub fn last(&self) -> Option<Duration> {
        self.0.back().map(|(at, _)| *at)
    }

    /// Bytes that came between two times; `None` where one of them is not within what it said. Words of two machines come at
    /// different times: only what came within the same time can be compared.
    pub fn between(&self, from: Duration, to: Duration) -> Option<u64> {
        Some(self.by(to)?.saturating_sub(self.by(from)?))
    }

    /// Bytes by then, in a straight line between two words.
    fn by(&self, at: Duration) -> Option<u64> {
        let after = self.0.partition_point(|(time, _)| *time < at);
        let (later, more) = self.0.get(after)?;
        if *later == at {
            return Some(*more);
        }
        let (earlier, less) = self.0.get(after.checked_sub(1)?)?;
        let since = |time: Duration| time.saturating_sub(*earlier).as_micros();
        let (part, whole) = (since(at), since(*later));
        let between = u128::from(more - less) * part / whole.max(1);
        Some(less + u64::try_from(between).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_between_two_words_are_in_a_straight_line() {
        let seconds = Duration::from_secs;
        let mut came = Came::default();
        for (at, bytes) in [(10, 0), (12, 200), (13, 300)] {
            came.note(seconds(at), bytes);
        }
        assert_eq!(came.between(seconds(10), seconds(13)), Some(300));
        assert_eq!(came.between(seconds(11), seconds(12)), Some(100));
        assert_eq!(came.between(seconds(9), seconds(12)), None);
        assert_eq!(came.between(seconds(11), seconds(14)), None);
        came.note(seconds(30), 400);
        assert_eq!(came.0.len(), 2);
        // A word that was late.
        came.note(seconds(29), 500);
        assert_eq!(came.last(), Some(seconds(30)));
        assert_eq!(came.bytes(), 500);
        // As if it had begun anew.
        came.note(seconds(31), 5);
        assert_eq!(
            (came.bytes(), came.between(seconds(30), seconds(31))),
            (5, None)
        );
    }
}
