//! What a machine has of the image, what it still wants, and what each child gets next.

use crate::bitmap::Bitmap;
use crate::lock;
use crate::window::{Cursor, Member, Window};
use pitstop_imaging::image::{Chunk, Known};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Zeros, or not part of this restore.
    None,
    Wanted,
    /// It came, and is not proven yet.
    Claimed,
    Proven,
}

/// A child that comes late begins with so many members that came last: its own children, which had them from another one
/// before, may lack some of them.
const RECENT: u64 = 16;

/// The chunks of one restore.
pub struct Shelf {
    count: u64,
    /// In the order of the disk.
    chunks: Vec<Chunk>,
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    states: Vec<State>,
    /// Not proven yet.
    left: u64,
    /// Below this chunk none is wanted.
    from: u64,
    window: Window,
    /// Counts what is proven, for those who wait.
    news: u64,
}

/// A child, as far as it was served.
pub struct Child {
    wanted: Bitmap,
    /// Its place in the window.
    cursor: Cursor,
    /// Where the search for older chunks stands; `None` when it is over.
    scan: Option<u64>,
    /// It fell out of the window since that search began.
    missed: bool,
}

/// What a child gets next.
#[derive(Debug)]
pub enum Next {
    Member(Member),
    /// The target has it, the window not.
    ReadBack(Chunk),
    /// Nothing yet; [`Shelf::wait`] with this tells when that changes.
    Nothing(u64),
    /// It has all.
    End,
    /// There will be no more here.
    Lacks,
}

impl Shelf {
    pub fn new(count: u64, known: &[Known], window: usize) -> Self {
        let mut states = vec![State::None; usize::try_from(count).unwrap_or(0)];
        let mut left = 0;
        for known in known {
            let at = usize::try_from(known.chunk.number).unwrap_or(usize::MAX);
            if let Some(state) = states.get_mut(at) {
                *state = if known.there {
                    State::Proven
                } else {
                    left += 1;
                    State::Wanted
                };
            }
        }
        Self {
            count,
            chunks: known.iter().map(|known| known.chunk).collect(),
            inner: Mutex::new(Inner {
                states,
                left,
                from: 0,
                window: Window::new(window),
                news: 0,
            }),
            changed: Condvar::new(),
        }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// Chunks that are not zeros, and how many of them are not proven yet.
    pub fn progress(&self) -> (u64, u64) {
        (self.chunks.len() as u64, lock(&self.inner).left)
    }

    pub fn is_complete(&self) -> bool {
        lock(&self.inner).left == 0
    }

    /// What is to be asked for: what came already is not.
    pub fn wanted(&self) -> Bitmap {
        let inner = lock(&self.inner);
        let mut wanted = Bitmap::new(self.count);
        for (number, state) in (0..).zip(&inner.states) {
            if *state == State::Wanted {
                wanted.insert(number);
            }
        }
        wanted
    }

    fn chunk(&self, number: u64) -> Option<Chunk> {
        let at = self
            .chunks
            .binary_search_by_key(&number, |chunk| chunk.number);
        at.ok().and_then(|at| self.chunks.get(at)).copied()
    }

    /// A chunk that was sent. `None`: it was not wanted, or came before.
    pub fn claim(&self, number: u64) -> Option<Chunk> {
        let chunk = self.chunk(number)?;
        let mut inner = lock(&self.inner);
        let state = inner.state(number)?;
        (*state == State::Wanted).then(|| {
            *state = State::Claimed;
            chunk
        })
    }

    /// The next chunk in the order of the disk; `None` when none is wanted.
    pub fn claim_next(&self) -> Option<Chunk> {
        let mut inner = lock(&self.inner);
        let start = self
            .chunks
            .partition_point(|chunk| chunk.number < inner.from);
        for chunk in self.chunks.get(start..)? {
            inner.from = chunk.number + 1;
            if let Some(state) = inner.state(chunk.number)
                && *state == State::Wanted
            {
                *state = State::Claimed;
                return Some(*chunk);
            }
        }
        None
    }

    /// What came was something else, or did not come.
    pub fn release(&self, number: u64) {
        let mut inner = lock(&self.inner);
        inner.from = inner.from.min(number);
        if let Some(state) = inner.state(number) {
            *state = State::Wanted;
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// A chunk is proven and on the target: children may have it. What comes back are buffers of members that no child will
    /// have from memory any more.
    pub fn proven(&self, number: u64, member: Vec<u8>) -> Vec<Vec<u8>> {
        let mut inner = lock(&self.inner);
        if let Some(state) = inner.state(number) {
            *state = State::Proven;
            inner.left = inner.left.saturating_sub(1);
        }
        inner.news += 1;
        let freed = inner.window.push(Member {
            chunk: number,
            bytes: Arc::new(member),
        });
        drop(inner);
        self.changed.notify_all();
        freed
    }

    /// Waits until there is more than there was at `news`, or for `most`.
    pub fn wait(&self, news: u64, most: Duration) {
        let inner = lock(&self.inner);
        let waited = self
            .changed
            .wait_timeout_while(inner, most, |inner| inner.news == news && inner.left > 0);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Wakes up those who wait.
    pub fn wake(&self) {
        self.changed.notify_all();
    }

    /// Waits for any change, or for `most`.
    pub fn pause(&self, most: Duration) {
        let inner = lock(&self.inner);
        let waited = self.changed.wait_timeout(inner, most);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes on a child. One that has much of what came last goes on with that; one that comes late begins with what came
    /// just now, so that its own children are not kept waiting, and gets the beginning afterwards.
    pub fn child(&self, wanted: Bitmap) -> Child {
        let mut inner = lock(&self.inner);
        let window = &inner.window;
        let places = window.start()..window.end();
        let lacks = |place: &u64| {
            let member = window.at(*place);
            member.is_some_and(|member| wanted.has(member.chunk))
        };
        let lacking = places.clone().filter(lacks).count() as u64;
        let comes_late = lacking * 2 > places.end - places.start;
        let first = if comes_late {
            places.start.max(places.end.saturating_sub(RECENT))
        } else {
            places.start
        };
        Child {
            cursor: inner.window.cursor(first),
            wanted,
            scan: Some(0),
            missed: false,
        }
    }

    /// What `child` gets next: what came last before what is older, so that it keeps up where it can.
    pub fn next(&self, child: &mut Child) -> Next {
        if child.wanted.is_empty() {
            return Next::End;
        }
        let mut inner = lock(&self.inner);
        if child.cursor.place() < inner.window.start() {
            child.cursor.set(inner.window.start());
            child.missed = true;
        }
        while let Some(member) = inner.window.at(child.cursor.place()) {
            child.cursor.set(child.cursor.place() + 1);
            if child.wanted.take(member.chunk) {
                return Next::Member(member.clone());
            }
        }
        if child.scan.is_none() && child.missed {
            child.scan = Some(0);
            child.missed = false;
        }
        while let Some(from) = child.scan {
            let found = child.wanted.next(from);
            child.scan = found.map(|number| number + 1);
            let Some(number) = found else { continue };
            let is_here = inner.state(number).is_some_and(|it| *it == State::Proven);
            if is_here && let Some(chunk) = self.chunk(number) {
                child.wanted.take(number);
                return match inner.window.find(number) {
                    Some(member) => Next::Member(member.clone()),
                    None => Next::ReadBack(chunk),
                };
            }
        }
        if inner.left == 0 {
            return Next::Lacks;
        }
        Next::Nothing(inner.news)
    }
}

impl Inner {
    fn state(&mut self, number: u64) -> Option<&mut State> {
        self.states.get_mut(usize::try_from(number).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(numbers: &[u64], there: &[u64]) -> Vec<Known> {
        let known = |number: &u64| Known {
            chunk: Chunk {
                number: *number,
                offset: 0,
                size: 1,
                hash: [0; 32],
            },
            there: there.contains(number),
        };
        numbers.iter().map(known).collect()
    }

    fn wants(numbers: &[u64]) -> Bitmap {
        let mut bitmap = Bitmap::new(10);
        for number in numbers {
            bitmap.insert(*number);
        }
        bitmap
    }

    fn got(next: Next) -> String {
        match next {
            Next::Member(member) => format!("member {}", member.chunk),
            Next::ReadBack(chunk) => format!("read back {}", chunk.number),
            Next::Nothing(_) => "nothing".into(),
            Next::End => "end".into(),
            Next::Lacks => "lacks".into(),
        }
    }

    #[test]
    fn a_chunk_is_claimed_once_and_wanted_again_when_it_was_wrong() {
        let shelf = Shelf::new(10, &known(&[1, 3, 5], &[3]), 100);
        assert_eq!(shelf.wanted(), wants(&[1, 5]));
        assert!(shelf.claim(3).is_none() && shelf.claim(2).is_none() && shelf.claim(99).is_none());
        assert!(shelf.claim(5).is_some() && shelf.claim(5).is_none());
        assert_eq!(shelf.claim_next().map(|chunk| chunk.number), Some(1));
        assert!(shelf.claim_next().is_none() && !shelf.is_complete());
        shelf.release(1);
        assert_eq!(shelf.wanted(), wants(&[1]));
        assert_eq!(shelf.claim_next().map(|chunk| chunk.number), Some(1));
        shelf.proven(1, vec![1]);
        shelf.proven(5, vec![5]);
        assert!(shelf.is_complete());
    }

    #[test]
    fn a_late_child_gets_what_comes_now_and_then_the_beginning() {
        let all: Vec<u64> = (0..20).collect();
        let shelf = Shelf::new(20, &known(&all, &[]), 100);
        for number in 0..19 {
            shelf.claim(number);
            shelf.proven(number, vec![0]);
        }
        let mut wanted = Bitmap::new(20);
        for number in 0..20 {
            wanted.insert(number);
        }
        let mut child = shelf.child(wanted);
        shelf.claim(19);
        shelf.proven(19, vec![0]);
        let got: Vec<String> = (0..21).map(|_| got(shelf.next(&mut child))).collect();
        assert_eq!(got[..2], ["member 3", "member 4"]);
        assert_eq!(
            got[16..],
            ["member 19", "member 0", "member 1", "member 2", "end"]
        );
    }

    #[test]
    fn a_child_that_is_too_slow_for_the_window_gets_what_it_missed_from_the_disk() {
        let shelf = Shelf::new(10, &known(&[0, 1, 2, 3, 4], &[]), 1);
        let mut child = shelf.child(wants(&[0, 1, 2, 3]));
        assert_eq!(got(shelf.next(&mut child)), "nothing");
        for number in 0..4 {
            shelf.claim(number);
            shelf.proven(number, vec![0]);
        }
        let all: Vec<String> = (0..5).map(|_| got(shelf.next(&mut child))).collect();
        assert_eq!(
            all,
            [
                "member 3",
                "read back 0",
                "read back 1",
                "read back 2",
                "end"
            ]
        );
    }

    #[test]
    fn what_will_never_be_here_is_said() {
        let shelf = Shelf::new(10, &known(&[0, 1], &[0]), 100);
        let mut child = shelf.child(wants(&[0, 7]));
        assert_eq!(got(shelf.next(&mut child)), "read back 0");
        assert_eq!(got(shelf.next(&mut child)), "nothing");
        shelf.claim(1);
        shelf.proven(1, vec![0]);
        assert_eq!(got(shelf.next(&mut child)), "lacks");
    }
}
