//! Trying again what is busy for a moment with nobody at work: a program that another thread starts has all open files of
//! this one until it is itself (`execve`(2) closes them), and with them their locks.

use std::thread;
use std::time::{Duration, Instant};

/// Acts again until it is not busy, for `limit` at most. Returns what came of it last.
pub fn patiently<T>(
    limit: Duration,
    mut act: impl FnMut() -> T,
    is_busy: impl Fn(&T) -> bool,
) -> T {
    let began = Instant::now();
    loop {
        // Asked before: however long this program itself was held up, it acts once more after that.
        let is_last = began.elapsed() > limit;
        let done = act();
        if is_last || !is_busy(&done) {
            return done;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_held_up_for_longer_than_the_limit_acts_once_more() {
        let limit = Duration::from_millis(50);
        let mut acts = 0;
        let act = || {
            acts += 1;
            thread::sleep(limit * 2);
            acts
        };
        assert_eq!(patiently(limit, act, |_| true), 2);
    }
}
