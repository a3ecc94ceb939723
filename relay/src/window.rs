//! The members that came last, in memory: what most children want.

use std::collections::VecDeque;
use std::sync::Arc;

/// A member whose chunk is proven.
#[derive(Debug, Clone)]
pub struct Member {
    pub chunk: u64,
    pub bytes: Arc<Vec<u8>>,
}

/// Members in the order in which they were proven; each has a place in it that stays its own.
#[derive(Debug)]
pub struct Window {
    members: VecDeque<Member>,
    /// The place of the oldest.
    start: u64,
    bytes: usize,
    most: usize,
}

impl Window {
    /// Holds at most `most` bytes, and at least one member.
    pub fn new(most: usize) -> Self {
        Self {
            members: VecDeque::new(),
            start: 0,
            bytes: 0,
            most,
        }
    }

    pub fn push(&mut self, member: Member) {
        self.bytes += member.bytes.len();
        self.members.push_back(member);
        while self.bytes > self.most && self.members.len() > 1 {
            if let Some(oldest) = self.members.pop_front() {
                self.bytes -= oldest.bytes.len();
                self.start += 1;
            }
        }
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

    #[test]
    fn the_oldest_go_first_and_places_stay() {
        let mut window = Window::new(10);
        for chunk in 0..5 {
            let bytes = Arc::new(vec![0; 4]);
            window.push(Member { chunk, bytes });
        }
        assert_eq!((window.start(), window.end()), (3, 5));
        assert!(window.at(2).is_none() && window.at(5).is_none());
        assert_eq!(window.at(3).map(|member| member.chunk), Some(3));
        assert!(window.find(4).is_some() && window.find(0).is_none());
        let large = Arc::new(vec![0; 40]);
        window.push(Member {
            chunk: 9,
            bytes: large,
        });
        assert_eq!((window.start(), window.end()), (5, 6));
    }
}
