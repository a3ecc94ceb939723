//! Waiting for a server that is away: longer each time, with jitter, up to a limit.

use super::HttpClient;
use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// The longest wait between two tries: a server that is back is noticed soon.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// How long a server that has never answered is waited for: its address may be wrong.
const STRANGER: Duration = Duration::from_secs(15);

/// The patience for one piece of work. It is fresh again after each [`progress`](Self::progress).
pub(crate) struct Backoff {
    http: HttpClient,
    /// The first failure since the last progress.
    since: Option<Instant>,
    failures: u32,
}

impl Backoff {
    pub fn new(http: &HttpClient) -> Self {
        Self {
            http: http.clone(),
            since: None,
            failures: 0,
        }
    }

    /// After a failure: waits and says that it may be tried again, or that the time is over. `what` went wrong
    /// is told to people the first time.
    pub fn again(&mut self, what: &dyn Display) -> bool {
        let settings = self.http.settings();
        let limit = if self.http.is_known() {
            settings.retry_for
        } else {
            settings.retry_for.min(STRANGER)
        };
        self.failures += 1;
        let since = *self.since.get_or_insert_with(Instant::now);
        let away = since.elapsed();
        let left = limit.saturating_sub(away);
        if left.is_zero() || self.http.is_away() {
            return false;
        }
        if self.failures == 1
            && let Some(reporter) = &settings.reporter.0
        {
            let limit = pitstop_imaging::units::duration(limit);
            reporter.warn(format!("{what}: trying again for up to {limit}"));
        }
        thread::sleep(jittered(wait_after(away, settings.first_wait)).min(left));
        true
    }

    /// Something was done: the next failure is a first one.
    pub fn progress(&mut self) {
        self.since = None;
        self.failures = 0;
    }

    /// How long was tried, for the error of who gave up; empty after a single try.
    pub fn told(&self) -> String {
        match self.since {
            Some(since) if self.failures > 1 => {
                let time = pitstop_imaging::units::duration(since.elapsed());
                format!(" (given up after {} tries in {time})", self.failures)
            }
            _ => String::new(),
        }
    }
}

/// A server that was away for a minute is noticed within six seconds; one that was away for ten, within one.
fn wait_after(away: Duration, first: Duration) -> Duration {
    (away / 10).min(LONGEST_WAIT).max(first)
}

/// Between half of `wait` and all of it, so that machines that failed together do not come back together.
pub(crate) fn jittered(wait: Duration) -> Duration {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(fastrand::u64(millis / 2..=millis))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::fake::impatient;

    #[test]
    fn patience_ends_and_is_fresh_after_progress() {
        let http = impatient();
        let mut backoff = Backoff::new(&http);
        let begun = Instant::now();
        let mut tries = 0;
        while backoff.again(&"gone") {
            tries += 1;
        }
        assert!(tries >= 1, "{tries}");
        assert!(begun.elapsed() >= http.settings().retry_for);
        assert!(
            backoff.told().contains(" tries in "),
            "{:?}",
            backoff.told()
        );
        assert!(!backoff.again(&"gone"));
        backoff.progress();
        // The first failure after that begins the time anew.
        assert!(backoff.again(&"gone"));
        http.give_up();
        assert!(!backoff.again(&"gone"), "nobody waits for what is gone");
    }

    #[test]
    fn the_wait_is_a_tenth_of_the_time_that_the_server_is_away() {
        let waits = [0, 2, 9, 30, 600].map(Duration::from_secs);
        let waits = waits.map(|away| wait_after(away, Duration::from_secs(1)).as_secs());
        assert_eq!(waits, [1, 1, 1, 3, 15]);
    }

    #[test]
    fn jitter_stays_between_half_and_whole() {
        for _ in 0..100 {
            let wait = jittered(Duration::from_millis(200));
            assert!((100..=200).contains(&wait.as_millis()), "{wait:?}");
        }
    }
}
