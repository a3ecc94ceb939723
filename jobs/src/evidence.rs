//! What files tell of a job that nobody reported: whether its host file is there, and the machine's log on the share.

use crate::job::Job;
use crate::state::{Happened, State};
use jiff::Timestamp;

/// The last word of a machine's log about a job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Trace {
    #[default]
    Nothing,
    /// It said hi, and no result.
    Begun,
    Ok,
    Failed(String),
}

/// What lies in the folders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evidence {
    /// The host file is there.
    pub is_set: bool,
    pub trace: Trace,
    /// The count of attempts is there: the machine tries again.
    pub is_counted: bool,
}

/// What the log of a machine says of `action` from `since` on. Lines are as `payload` writes them:
/// `2026-11-28T21:30:00+00:00: 10.0.2.15: info: pitstop: result ok backup`.
pub fn trace(log: &str, action: &str, since: Timestamp) -> Trace {
    let mut last = Trace::Nothing;
    for line in log.lines() {
        let Some((time, rest)) = line.split_once(": ") else {
            continue;
        };
        // The log's times are whole seconds.
        let new = |time: Timestamp| time.as_second() >= since.as_second();
        if !time.parse().is_ok_and(new) {
            continue;
        }
        let mut parts = rest.splitn(3, ": ");
        let said = parts.nth(2).unwrap_or_default();
        if let Some(result) = said.strip_prefix("pitstop: result ") {
            last = match result.split_once(' ') {
                Some(("ok", done)) if done == action => Trace::Ok,
                Some(("failed", what)) => match what.split_once(": ") {
                    Some((failed, reason)) if failed == action || failed == "unknown" => {
                        Trace::Failed(reason.to_owned())
                    }
                    _ => last,
                },
                _ => last,
            };
        } else if said.starts_with("hi from ") && said.ends_with(&format!(": {action}")) {
            last = Trace::Begun;
        }
    }
    last
}

impl Job {
    /// What the files tell that the job does not know yet.
    pub fn seen(&self, evidence: &Evidence) -> Option<Happened> {
        if !self.state.is_set() {
            return None;
        }
        if !evidence.is_set {
            let never_came = self.is_tracked() && self.attempts == 0;
            return Some(match evidence.trace {
                Trace::Nothing if never_came => Happened::SeenRemoved,
                _ => Happened::SeenDone,
            });
        }
        // The machine itself tells more, and sooner.
        if self.is_tracked() {
            return None;
        }
        match &evidence.trace {
            Trace::Nothing => None,
            Trace::Begun => (self.state == State::Waiting).then_some(Happened::SeenRunning),
            Trace::Ok => Some(Happened::SeenDone),
            Trace::Failed(reason) => Some(Happened::SeenFailed {
                reason: reason.clone(),
                again: evidence.is_counted,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::sample;
    use proptest::prelude::*;

    const HI: &str =
        "2026-11-28T21:30:00+00:00: 10.0.2.15: info: hi from 10.0.2.15 (0.2.0): backup\n";
    const OK: &str = "2026-11-28T21:31:00+00:00: 10.0.2.15: info: pitstop: result ok backup\n";
    const FAILED: &str = "2026-11-28T21:32:00+00:00: 10.0.2.15: error: pitstop: result failed backup: sda: no: such\n";

    fn since(log: &str) -> Trace {
        trace(log, "backup", "2026-11-28T21:29:59.5Z".parse().unwrap())
    }

    #[test]
    fn the_last_word_of_the_log_counts() {
        assert_eq!(since(""), Trace::Nothing);
        assert_eq!(since(HI), Trace::Begun);
        assert_eq!(since(&format!("{HI}{OK}noise\n")), Trace::Ok);
        let failed = Trace::Failed("sda: no: such".into());
        assert_eq!(since(&format!("{HI}{FAILED}")), failed);
        assert_eq!(since(&format!("{HI}{FAILED}{HI}")), Trace::Begun);
        let old = trace(OK, "backup", "2026-11-28T21:32:00Z".parse().unwrap());
        assert_eq!(old, Trace::Nothing);
        let other = trace(OK, "restore", Timestamp::UNIX_EPOCH);
        assert_eq!(other, Trace::Nothing);
    }

    #[test]
    fn without_a_server_the_files_tell() {
        let mut job = sample();
        job.server = None;
        let see = |is_set, trace: Trace, is_counted| Evidence {
            is_set,
            trace,
            is_counted,
        };
        assert_eq!(job.seen(&see(true, Trace::Nothing, false)), None);
        assert_eq!(
            job.seen(&see(false, Trace::Nothing, false)),
            Some(Happened::SeenDone)
        );
        assert_eq!(
            job.seen(&see(true, Trace::Failed("x".into()), true)),
            Some(Happened::SeenFailed {
                reason: "x".into(),
                again: true
            })
        );
        // Of a job that the server keeps track of, only the host file is looked at.
        let tracked = sample();
        assert_eq!(
            tracked.seen(&see(true, Trace::Failed("x".into()), true)),
            None
        );
        assert_eq!(
            tracked.seen(&see(false, Trace::Nothing, false)),
            Some(Happened::SeenRemoved)
        );
    }

    proptest! {
        #[test]
        fn any_log_is_read_without_a_panic(log in "\\PC*") {
            let _ = since(&log);
            let _ = since(&format!("2026-11-28T21:31:00+00:00: {log}"));
        }
    }
}
