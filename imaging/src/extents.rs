//! Sets of byte ranges on a disk: what is used, what was read badly, what must be written.

use std::ops::Range;

/// Sorted, disjoint, non-empty, never adjacent byte ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extents(Vec<Range<u64>>);

impl Extents {
    pub fn new() -> Self {
        Self::default()
    }

    /// One range; empty when the range is.
    pub fn single(range: Range<u64>) -> Self {
        let mut extents = Self::new();
        extents.insert(range);
        extents
    }

    /// Adds `range`, merging whatever it overlaps or touches. Appending in ascending order costs O(1).
    pub fn insert(&mut self, range: Range<u64>) {
        if range.start >= range.end {
            return;
        }
        match self.0.last_mut() {
            None => self.0.push(range),
            Some(last) if range.start > last.end => self.0.push(range),
            Some(last) if range.start >= last.start => last.end = last.end.max(range.end),
            Some(_) => {
                let from = self.0.partition_point(|held| held.end < range.start);
                let to = self.0.partition_point(|held| held.start <= range.end);
                let merged = if from == to {
                    range
                } else {
                    self.0[from].start.min(range.start)..self.0[to - 1].end.max(range.end)
                };
                self.0.splice(from..to, [merged]);
            }
        }
    }

    /// Adds every range of `other`.
    pub fn union(&mut self, other: &Extents) {
        for range in other.iter() {
            self.insert(range);
        }
    }

    /// The same ranges moved up by `offset` bytes, as when a partition's map becomes the disk's.
    #[must_use]
    pub fn shifted(&self, offset: u64) -> Self {
        let moved = |at: u64| at.saturating_add(offset);
        Self(
            self.0
                .iter()
                .map(|r| moved(r.start)..moved(r.end))
                .collect(),
        )
    }

    /// Only what lies within `bounds`.
    #[must_use]
    pub fn clipped(&self, bounds: Range<u64>) -> Self {
        let mut clipped = Self::new();
        for range in self.within(bounds) {
            clipped.insert(range);
        }
        clipped
    }

    /// What is in none of `others`.
    #[must_use]
    pub fn without(&self, others: &Extents) -> Self {
        let mut left = Self::new();
        for range in self.iter() {
            for part in others.gaps(range).iter() {
                left.insert(part);
            }
        }
        left
    }

    /// What of `bounds` is in none of the ranges.
    #[must_use]
    pub fn gaps(&self, bounds: Range<u64>) -> Self {
        let mut gaps = Self::new();
        let mut at = bounds.start;
        for range in self.within(bounds.clone()) {
            gaps.insert(at..range.start);
            at = range.end;
        }
        gaps.insert(at..bounds.end);
        gaps
    }

    /// The parts of `bounds` that are in the set, ascending.
    pub fn within(&self, bounds: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let from = self.0.partition_point(|held| held.end <= bounds.start);
        self.0[from..]
            .iter()
            .take_while(move |held| held.start < bounds.end)
            .map(move |held| held.start.max(bounds.start)..held.end.min(bounds.end))
    }

    /// Whether any byte of `bounds` is in the set.
    pub fn touches(&self, bounds: Range<u64>) -> bool {
        self.within(bounds).next().is_some()
    }

    /// Bytes in all ranges together.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|r| r.end - r.start).sum()
    }

    /// One past the last byte, 0 when empty.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |r| r.end)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(ranges: &[Range<u64>]) -> Extents {
        let mut extents = Extents::new();
        for range in ranges {
            extents.insert(range.clone());
        }
        extents
    }

    #[test]
    fn touching_ranges_become_one() {
        let extents = set(&[10..20, 30..40, 20..30, 5..5]);
        assert_eq!(extents.iter().collect::<Vec<_>>(), vec![10..40]);
        assert_eq!(extents.total(), 30);
    }

    #[test]
    fn clipping_and_gaps_share_the_bounds_between_them() {
        let extents = set(&[0..10, 20..30]);
        assert_eq!(extents.gaps(5..40), set(&[10..20, 30..40]));
        assert_eq!(extents.clipped(5..25), set(&[5..10, 20..25]));
        assert!(!extents.touches(10..20));
        assert_eq!(extents.shifted(100), set(&[100..110, 120..130]));
    }

    proptest! {
        #[test]
        fn any_order_of_insertion_gives_the_same_bytes(
            ranges in prop::collection::vec((0u64..200, 0u64..40), 0..40)
        ) {
            let mut bitmap = [false; 256];
            let mut extents = Extents::new();
            for (start, length) in ranges {
                extents.insert(start..start + length);
                for at in start..start + length {
                    bitmap[usize::try_from(at).unwrap()] = true;
                }
            }
            let mut previous_end = None;
            for range in extents.iter() {
                prop_assert!(range.start < range.end);
                prop_assert!(previous_end.is_none_or(|end| range.start > end));
                previous_end = Some(range.end);
            }
            for (at, used) in bitmap.iter().enumerate() {
                let at = u64::try_from(at).unwrap();
                prop_assert_eq!(extents.touches(at..at + 1), *used);
            }
            prop_assert_eq!(extents.gaps(0..256).total() + extents.total(), 256);
            let whole = Extents::single(0..256);
            prop_assert_eq!(whole.without(&extents), extents.gaps(0..256));
            prop_assert!(extents.without(&whole).is_empty());
        }
    }
}
