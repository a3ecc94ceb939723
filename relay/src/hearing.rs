//! What a child makes of its parent's words and of its silence, and when it leaves it. Neither sockets nor clocks: the time
//! comes from who calls, so that a model of a room decides as a machine does.

use crate::frame::Frame;
use crate::message::Fault;
use crate::shelf::Shelf;
use pitstop_imaging::image::Chunk;
use std::time::Duration;

/// A parent that says nothing for so long is gone: each says something twice a second.
pub const SILENCE: Duration = Duration::from_secs(3);
/// A parent that lives and gives nothing is left, if the server has not said something better by then. Who is served after
/// others has more patience.
const NOTHING: Duration = Duration::from_secs(15);
const NOTHING_FOR_LEAF: Duration = Duration::from_secs(90);
/// For each KiB of a member: no line is slower.
const SLOWEST: Duration = Duration::from_millis(15);

/// Who took nothing for so long, as its own disk stood still, may have been given up by its parent: it asks once more.
const STOOD_STILL: Duration = Duration::from_secs(2);
/// For so long after that: what was on its way is read first.
const ASKS_AGAIN: Duration = Duration::from_secs(10);

/// Why a parent sends no more.
#[derive(Debug)]
pub enum Ended {
    /// There is another source now, or an end to everything; or the same one is to be asked again.
    Moved,
    /// All that was asked for was sent.
    Sent,
    Fault(Fault, String),
}

/// What follows of a frame.
#[derive(Debug)]
pub enum Heard {
    /// The member of this chunk follows, which is claimed.
    Member(Chunk, usize),
    GoOn,
    Ended(Ended),
}

/// A parent, as its child hears it.
pub struct Hearing {
    /// When a byte came last, and when a member.
    heard: Duration,
    useful: Duration,
    /// Chunks that were asked for and did not come.
    left: u64,
    /// How long it may give nothing.
    patience: Duration,
    /// When this machine last stood still itself.
    stood_still: Option<Duration>,
}

impl Hearing {
    /// `asked` chunks were asked for just now.
    pub fn new(now: Duration, asked: u64, leaf: bool) -> Self {
        Self {
            heard: now,
            useful: now,
            left: asked,
            patience: if leaf { NOTHING_FOR_LEAF } else { NOTHING },
            stood_still: None,
        }
    }

    /// Bytes came.
    pub fn bytes(&mut self, now: Duration) {
        self.heard = now;
    }

    /// From `from` on nobody listened, as what came had no place yet. What the parent made of that is no fault of it.
    pub fn was_busy(&mut self, from: Duration, now: Duration) {
        self.heard = now;
        self.useful = now;
        if now.saturating_sub(from) >= STOOD_STILL {
            self.stood_still = Some(now);
        }
    }

    /// The connection broke. A parent that is really gone does not answer when it is asked again.
    pub fn hung_up(&self, now: Duration, why: String) -> Ended {
        let is_own = |then: Duration| now.saturating_sub(then) < ASKS_AGAIN;
        if self.stood_still.is_some_and(is_own) {
            Ended::Moved
        } else {
            Ended::Fault(Fault::Silent, why)
        }
    }

    /// None came for a while: whether the parent is gone.
    pub fn is_gone(&self, now: Duration) -> bool {
        now.saturating_sub(self.heard) >= SILENCE
    }

    pub fn frame(&mut self, now: Duration, frame: Frame, here: &Shelf) -> Heard {
        let fault = |fault, what: String| Heard::Ended(Ended::Fault(fault, what));
        match frame {
            Frame::End if self.left > 0 => fault(
                Fault::Wrong,
                "it says that it sent all, and did not".to_owned(),
            ),
            Frame::End => Heard::Ended(Ended::Sent),
            Frame::Lacks => fault(Fault::Lacks, "it does not have the rest".to_owned()),
            Frame::Alive if now.saturating_sub(self.useful) > self.patience => fault(
                Fault::Silent,
                format!("it gave nothing for {} s", self.patience.as_secs()),
            ),
            Frame::Alive => Heard::GoOn,
            Frame::Member { chunk, length } => match here.claim(chunk) {
                Some(chunk) => Heard::Member(chunk, length),
                None => fault(
                    Fault::Wrong,
                    format!("it sent chunk {chunk}, which was not wanted"),
                ),
            },
        }
    }

    /// By when a member that begins now has to be whole.
    pub fn due(now: Duration, length: usize) -> Duration {
        now + NOTHING + SLOWEST * u32::try_from(length >> 10).unwrap_or(0)
    }

    /// A member is whole.
    pub fn member(&mut self, now: Duration) {
        self.useful = now;
        self.left = self.left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_that_gave_up_one_whose_disk_stood_still_is_asked_again() {
        let at = Duration::from_secs;
        let mut hearing = Hearing::new(at(0), 10, false);
        let is_blamed = |hearing: &Hearing, now| {
            matches!(hearing.hung_up(now, "it hung up".into()), Ended::Fault(..))
        };
        hearing.was_busy(at(1), at(2));
        assert!(is_blamed(&hearing, at(2)));
        hearing.was_busy(at(2), at(14));
        assert!(!hearing.is_gone(at(16)), "nobody listened until 14");
        assert!(!is_blamed(&hearing, at(15)));
        assert!(is_blamed(&hearing, at(30)));
    }
}
