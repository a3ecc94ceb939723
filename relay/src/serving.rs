//! What a parent says to a child, and when. Neither sockets nor clocks, as in `hearing`.

use crate::bitmap::Bitmap;
use crate::frame::Frame;
use crate::shelf::{Child, Next, Shelf};
use crate::window::Member;
use pitstop_imaging::image::Chunk;
use std::time::Duration;

/// How often a child hears that its parent lives.
pub const ALIVE: Duration = Duration::from_millis(500);

/// What is to be said to a child.
pub enum Say {
    Member(Member),
    /// The target has it: it is packed again.
    ReadBack(Chunk),
    /// Others go before it.
    Later,
    /// Nothing before there is more than at these news.
    Nothing(u64),
    /// The last word.
    Last(Frame),
}

/// A child, as its parent serves it.
pub struct Serving {
    child: Child,
    leaf: bool,
    /// Something was not there any more.
    lacks: bool,
    /// When it was told something last.
    said: Duration,
}

impl Serving {
    pub fn new(now: Duration, shelf: &Shelf, wanted: Bitmap, leaf: bool) -> Self {
        Self {
            child: shelf.child(wanted),
            leaf,
            lacks: false,
            said: now,
        }
    }

    pub fn is_leaf(&self) -> bool {
        self.leaf
    }

    /// `busy`: children that go before leaves are being sent something.
    pub fn next(&mut self, parent: &Shelf, busy: bool) -> Say {
        if self.leaf && busy {
            return Say::Later;
        }
        match parent.next(&mut self.child) {
            Next::Member(member) => Say::Member(member),
            Next::ReadBack(chunk) => Say::ReadBack(chunk),
            Next::Nothing(news) => Say::Nothing(news),
            Next::End if self.lacks => Say::Last(Frame::Lacks),
            Next::End => Say::Last(Frame::End),
            Next::Lacks => Say::Last(Frame::Lacks),
        }
    }

    /// What was to be read back is not there.
    pub fn lost(&mut self) {
        self.lacks = true;
    }

    pub fn said(&mut self, now: Duration) {
        self.said = now;
    }

    /// Whether a sign of life is due.
    pub fn owes_a_sign(&self, now: Duration) -> bool {
        now.saturating_sub(self.said) >= ALIVE
    }
}
