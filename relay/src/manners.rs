//! When a machine speaks to the server, and when it may go. Neither sockets nor clocks, as in `hearing`.

use crate::message::Stage;
use std::time::Duration;

/// No server asks for reports more or less often.
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// Between two reports to a server that does not answer.
pub const AWAY: Duration = Duration::from_secs(2);
/// Who has all stays no longer for others, whatever they say.
const STAY: Duration = Duration::from_secs(15 * 60);
/// Who has all leaves after this if no child asks for anything, whatever the plan says: who is to ask may hang.
const UNASKED: Duration = Duration::from_secs(4);

/// How long it is silent after an answer that asked for a word in `beat`.
pub fn silent_for(beat: Duration, stage: Stage, children: usize) -> Duration {
    if stage == Stage::Done && children == 0 {
        // It waits for nothing else than the word to go.
        SHORTEST
    } else {
        beat.clamp(SHORTEST, LONGEST)
    }
}

/// Who has all, and stays for its children.
pub struct Stay {
    since: Duration,
    alone_since: Duration,
}

impl Stay {
    pub fn new(now: Duration) -> Self {
        Self {
            since: now,
            alone_since: now,
        }
    }

    /// Whether it goes; `may_leave`: nobody waits for it, as far as the server knows.
    pub fn is_over(&mut self, now: Duration, children: usize, may_leave: bool) -> bool {
        if now.saturating_sub(self.since) >= STAY {
            return true;
        }
        if children > 0 {
            self.alone_since = now;
            return false;
        }
        may_leave || now.saturating_sub(self.alone_since) > UNASKED
    }
}
