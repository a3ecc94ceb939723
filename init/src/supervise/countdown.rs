//! A wait that is announced, but sparsely.

use pitstop_imaging::units;
use std::time::{Duration, Instant};

/// Says now and then how long it still takes.
#[derive(Debug)]
pub struct Countdown {
    end: Instant,
    act: &'static str,
    /// What was announced last.
    said: Option<Duration>,
}

impl Countdown {
    /// `act` is what comes at the end: `rebooting`.
    pub fn new(act: &'static str, wait: Duration, now: Instant) -> Self {
        Self {
            end: now + wait,
            act,
            said: None,
        }
    }

    pub fn left(&self, now: Instant) -> Duration {
        self.end.saturating_duration_since(now)
    }

    /// The next announcement, where one is due: at the start, each full minute, 30 s and 10 s before the end.
    pub fn due(&mut self, now: Instant) -> Option<String> {
        let left = self.left(now);
        if left.is_zero() {
            return None;
        }
        let mark = mark(left);
        if self.said.is_some_and(|said| said <= mark) {
            return None;
        }
        let shown = if self.said.is_none() { left } else { mark };
        self.said = Some(mark);
        let shown = Duration::from_secs(shown.as_millis().div_ceil(1000).try_into().ok()?);
        Some(format!(
            "{} in {} (Ctrl-Alt-Del: at once)",
            self.act,
            units::duration(shown)
        ))
    }
}

/// The announced time that `left` falls under: full minutes, then 30 s and 10 s.
fn mark(left: Duration) -> Duration {
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    Duration::from_secs(match seconds {
        0..=10 => 10,
        11..=30 => 30,
        _ => seconds.div_ceil(60) * 60,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_minutes_are_announced_seven_times() {
        let start = Instant::now();
        let mut countdown = Countdown::new("rebooting", Duration::from_secs(300), start);
        let said: Vec<String> = (0..3010)
            .filter_map(|tenth| countdown.due(start + Duration::from_millis(tenth * 100)))
            .collect();
        let times: Vec<&str> = said
            .iter()
            .map(|line| line.split(' ').nth(2).unwrap())
            .collect();
        assert_eq!(
            times,
            ["5m00s", "4m00s", "3m00s", "2m00s", "1m00s", "30s", "10s"]
        );
        assert_eq!(said[0], "rebooting in 5m00s (Ctrl-Alt-Del: at once)");
    }

    #[test]
    fn a_short_wait_is_announced_as_it_is() {
        let start = Instant::now();
        let mut countdown = Countdown::new("rebooting", Duration::from_secs(5), start);
        assert!(countdown.due(start).unwrap().contains("in 5s"));
        assert_eq!(countdown.due(start + Duration::from_secs(2)), None);
        let mut none = Countdown::new("rebooting", Duration::ZERO, start);
        assert_eq!(none.due(start), None);
    }
}
