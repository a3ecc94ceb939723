//! What the worker tells PID 1: a JSON value a line, on the worker's standard output.

use pitstop_imaging::event::{Event, Reporter};
use pitstop_payload::finish::{CrashPolicy, Finish};
use pitstop_protocol::machine::Lease;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One line of the pipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The network is up.
    Lease(Lease),
    /// What to do if the worker dies from here on.
    Policy(Box<CrashPolicy>),
    /// The worker moves on. Sent at most every [`PULSE`].
    Alive,
    /// The worker is about to die of this.
    Panic(String),
    /// The run is over.
    Finish(Finish),
}

/// Far below the shortest `progress-timeout` of a host file.
const PULSE: Duration = Duration::from_secs(2);

/// Passes events on, and lets PID 1 know that something happens.
pub struct Pulse<R> {
    inner: R,
    last: Mutex<Option<Instant>>,
}

impl<R: Reporter> Pulse<R> {
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            last: Mutex::new(None),
        }
    }
}

impl<R: Reporter> Reporter for Pulse<R> {
    fn event(&self, event: &Event) {
        self.inner.event(event);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= PULSE) {
            *last = Some(Instant::now());
            Report::Alive.send();
        }
    }
}

/// What the process that logs a crash reads on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub struct Crash {
    pub lease: Lease,
    pub policy: CrashPolicy,
    pub reason: String,
}

impl Report {
    /// Sends one report. A PID 1 that is gone takes the machine with it: there is nobody to tell.
    pub fn send(&self) {
        let mut out = std::io::stdout().lock();
        if let Ok(mut line) = serde_json::to_string(self) {
            line.push('\n');
            let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        }
    }
}

/// Cuts a stream of bytes into reports.
#[derive(Debug, Default)]
pub struct Reader {
    pending: Vec<u8>,
}

/// A line longer than this is no report: a worker gone mad must not fill the memory.
const LONGEST: usize = 1 << 20;

impl Reader {
    /// Takes what was read and gives the reports that it completes. Lines that are none are dropped:
    /// a library may print.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Report> {
        self.pending.extend_from_slice(bytes);
        let mut reports = Vec::new();
        while let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            reports.extend(serde_json::from_slice(&line).ok());
        }
        if self.pending.len() > LONGEST {
            self.pending.clear();
        }
        reports
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reports_come_whole_however_the_bytes_come() {
        let policy = Report::Policy(Box::default());
        let mut bytes = b"printed by a library\n".to_vec();
        bytes.extend(serde_json::to_vec(&policy).unwrap());
        bytes.push(b'\n');
        let mut reader = Reader::default();
        let mut reports = Vec::new();
        for byte in &bytes {
            reports.extend(reader.push(&[*byte]));
        }
        assert_eq!(reports, [policy]);
    }

    proptest! {
        #[test]
        fn noise_is_no_report_and_is_not_hoarded(noise in prop::collection::vec(any::<u8>(), 0..4096)) {
            let mut reader = Reader::default();
            prop_assert!(reader.push(&noise).is_empty());
            prop_assert!(reader.pending.len() <= noise.len());
        }
    }

    #[test]
    fn an_endless_line_is_dropped() {
        let mut reader = Reader::default();
        for _ in 0..3 {
            assert!(reader.push(&vec![b'x'; LONGEST]).is_empty());
            assert!(reader.pending.len() <= LONGEST);
        }
    }
}
