//! Lines with a rate, in order of who came first.

use std::time::Duration;

/// One direction of a port or an uplink, or something else that takes its time for each byte.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Bytes a second.
    rate: u64,
    free: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineId(usize);

#[derive(Debug, Default)]
pub struct Links(Vec<Line>);

impl Links {
    pub fn add(&mut self, rate: u64) -> LineId {
        self.0.push(Line {
            rate,
            free: Duration::ZERO,
        });
        LineId(self.0.len() - 1)
    }

    /// Sends `bytes` along all lines of `way` at once, as packets go, when each is free; when the last byte is there.
    pub fn send(&mut self, now: Duration, bytes: u64, way: &[LineId]) -> Duration {
        let mut end = now;
        for id in way {
            let line = &mut self.0[id.0];
            let takes = Duration::from_nanos(bytes * 1_000_000_000 / line.rate);
            line.free = line.free.max(now) + takes;
            end = end.max(line.free);
        }
        end
    }
}
