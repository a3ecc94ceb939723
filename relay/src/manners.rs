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
/// Who stays longer says why: on its screen nothing moves, and nobody is to switch it off.
const QUIET: Duration = Duration::from_secs(5);

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
    is_told: bool,
}

impl Stay {
    pub fn new(now: Duration) -> Self {
        Self {
            since: now,
            alone_since: now,
            is_told: false,
        }
    }

    /// What people are told of it, once.
    pub fn word(&mut self, now: Duration, children: usize) -> Option<String> {
        if self.is_told || children == 0 || now.saturating_sub(self.since) < QUIET {
            return None;
        }
        self.is_told = true;
        Some(format!(
            "all data is written; machines still have it from this one ({children} now): it stays for them before it goes on, {} minutes \
             at most",
            STAY.as_secs() / 60
        ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stays_long_for_others_says_so_once() {
        let seconds = Duration::from_secs;
        let mut stay = Stay::new(seconds(100));
        assert_eq!(stay.word(seconds(104), 2), None);
        assert_eq!(stay.word(seconds(106), 0), None);
        let word = stay.word(seconds(107), 3).unwrap();
        assert!(
            word.contains("(3 now)") && word.contains("15 minutes"),
            "{word}"
        );
        assert_eq!(stay.word(seconds(108), 3), None);
    }
}
