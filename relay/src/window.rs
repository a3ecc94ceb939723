//! The members that came last, in memory: what most children want.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// So many bytes are kept in any case; more only for a child that has not had them yet.
const KEPT: usize = 32 << 20;

/// A member whose chunk is proven.
#[derive(Debug, Clone)]
pub struct Member {
    pub chunk: u64,
    pub bytes: Arc<Vec<u8>>,
}

/// How far a child is in the window. As long as this lives, what comes after its place is kept where there is room.
#[derive(Debug)]
pub struct Cursor(Arc<AtomicU64>);

impl Cursor {
    pub fn place(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn set(&mut self, place: u64) {
        self.0.store(place, Ordering::Relaxed);
    }
}

/// Members in the order in which they were proven; each has a place in it that stays its own.
#[derive(Debug)]
pub struct Window {
    members: VecDeque<Member>,
    /// The place of the oldest.
    start: u64,
    /// What the buffers of all members take.
    bytes: usize,
    kept: usize,
    most: usize,
    cursors: Vec<Weak<AtomicU64>>,
}

impl Window {
    /// Holds at most `most` bytes, and at least one member.
    pub fn new(most: usize) -> Self {
        Self {
            members: VecDeque::new(),
            start: 0,
            bytes: 0,
            kept: KEPT.min(most),
            most,
            cursors: Vec::new(),
        }
    }

    /// Takes in a member; the buffers of those that fell out and that nobody is sending.
    pub fn push(&mut self, member: Member) -> Vec<Vec<u8>> {
        self.bytes += member.bytes.capacity();
        self.members.push_back(member);
        let mut freed = Vec::new();
        if self.bytes <= self.kept {
            return freed;
        }
        self.cursors.retain(|cursor| cursor.strong_count() > 0);
        let cursors = self.cursors.iter().filter_map(Weak::upgrade);
        let wanted = cursors
            .map(|cursor| cursor.load(Ordering::Relaxed))
            .min()
            .unwrap_or(u64::MAX);
        while self.members.len() > 1
            && (self.bytes > self.most || self.bytes > self.kept && self.start < wanted)
        {
            let Some(oldest) = self.members.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes.capacity();
            self.start += 1;
            freed.extend(Arc::into_inner(oldest.bytes));
        }
        freed
    }

    /// A child that begins at `place`.
    pub fn cursor(&mut self, place: u64) -> Cursor {
        let cursor = Arc::new(AtomicU64::new(place));
        self.cursors.push(Arc::downgrade(&cursor));
        Cursor(cursor)
    }

    pub fn start(&self) -> u64 {
        self.start
    }

    /// The place that the next member gets.
    pub fn end(&self) -> u64 {
        self.start + self.members.len() as u64
    }

    pub fn at(&self, place: u64) -> Option<&Member> {
        let at = usize::try_from(place.checked_sub(self.start)?).ok()?;
        self.members.get(at)
    }

    pub fn find(&self, chunk: u64) -> Option<&Member> {
        self.members.iter().find(|member| member.chunk == chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(chunk: u64, length: usize) -> Member {
        let bytes = Arc::new(vec![0; length]);
        Member { chunk, bytes }
    }

    #[test]
    fn the_oldest_go_first_and_places_stay() {
        let mut window = Window::new(10);
        let freed: Vec<_> = (0..5)
            .flat_map(|chunk| window.push(member(chunk, 4)))
            .collect();
        assert_eq!(freed.len(), 3);
        assert_eq!((window.start(), window.end()), (3, 5));
        assert!(window.at(2).is_none() && window.at(5).is_none());
        assert_eq!(window.at(3).map(|member| member.chunk), Some(3));
        assert!(window.find(4).is_some() && window.find(0).is_none());
        // One of them is being sent: its buffer comes back to nobody.
        let sent = window.at(4).cloned();
        assert_eq!(window.push(member(9, 40)).len(), 1);
        assert_eq!((window.start(), window.end(), sent.is_some()), (5, 6, true));
    }

    #[test]
    fn more_is_kept_for_a_child_that_lags_and_for_no_other() {
        const PIECE: usize = 4 << 20;
        let mut window = Window::new(64 << 20);
        let mut cursor = window.cursor(0);
        for chunk in 0..12 {
            window.push(member(chunk, PIECE));
        }
        assert_eq!((window.start(), window.end()), (0, 12));
        cursor.set(10);
        window.push(member(12, PIECE));
        assert_eq!((window.start(), window.end()), (5, 13));
        for chunk in 13..40 {
            window.push(member(chunk, PIECE));
        }
        assert_eq!((window.start(), window.end()), (24, 40));
        // It went away.
        drop(cursor);
        window.push(member(40, PIECE));
        assert_eq!((window.start(), window.end()), (33, 41));
    }
}
