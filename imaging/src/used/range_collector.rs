//! Gathers the byte ranges to keep, in bounded memory however fragmented a disk is.

use crate::extents::Extents;
use std::ops::Range;

/// Ranges held before small gaps between them are given up: 4 MiB of them.
const RANGES_MAX: usize = 1 << 18;
/// The first gap that is given up when there are too many ranges.
const SLACK_MIN: u64 = 64 << 10;

/// A growing set of ranges. When there are too many, it keeps the smallest gaps too: never less.
#[derive(Debug, Default)]
pub(super) struct RangeCollector {
    ranges: Vec<Range<u64>>,
    slack: u64,
}

impl RangeCollector {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds a range, in any order.
    pub(super) fn add(&mut self, range: Range<u64>) {
        if range.start >= range.end {
            return;
        }
        if let Some(last) = self.ranges.last_mut()
            && range.start >= last.start
            && range.start <= last.end.saturating_add(self.slack)
        {
            last.end = last.end.max(range.end);
            return;
        }
        self.ranges.push(range);
        if self.ranges.len() >= RANGES_MAX {
            self.condense();
        }
    }

    /// Adds blocks of `size` bytes.
    pub(super) fn add_blocks(&mut self, blocks: Range<u64>, size: u64) {
        self.add(blocks.start.saturating_mul(size)..blocks.end.saturating_mul(size));
    }

    pub(super) fn add_all(&mut self, extents: &Extents) {
        for range in extents.iter() {
            self.add(range);
        }
    }

    /// All that was added and lies below `size`.
    pub(super) fn finish(mut self, size: u64) -> Extents {
        self.merge();
        let mut extents = Extents::new();
        for range in self.ranges {
            extents.insert(range.start.min(size)..range.end.min(size));
        }
        extents
    }

    fn condense(&mut self) {
        self.merge();
        while self.ranges.len() > RANGES_MAX / 2 {
            self.slack = self.slack.saturating_mul(2).max(SLACK_MIN);
            self.merge();
        }
    }

    fn merge(&mut self) {
        self.ranges.sort_unstable_by_key(|range| range.start);
        let slack = self.slack;
        self.ranges.dedup_by(|after, before| {
            let close = after.start <= before.end.saturating_add(slack);
            if close {
                before.end = before.end.max(after.end);
            }
            close
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_order_makes_the_same_set() {
        let mut keep = RangeCollector::new();
        keep.add_blocks(10..20, 10);
        keep.add(0..10);
        keep.add(150..400);
        keep.add(5..5);
        let kept: Vec<_> = keep.finish(300).iter().collect();
        assert_eq!(kept, [0..10, 100..300]);
    }

    #[test]
    fn too_many_ranges_keep_more_and_never_less() {
        let mut keep = RangeCollector::new();
        let step = 8192;
        let count = 3 * u64::try_from(RANGES_MAX).unwrap();
        for index in 0..count {
            keep.add(index * step..index * step + 4096);
        }
        assert!(keep.ranges.len() < RANGES_MAX);
        let kept = keep.finish(u64::MAX);
        for index in 0..count {
            let range = index * step..index * step + 4096;
            assert_eq!(kept.within(range.clone()).next(), Some(range));
        }
    }
}
