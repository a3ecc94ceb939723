//! What files tell of a job that nobody reported: whether its host file is there, and the machine's log on the share.

use crate::job::{Job, Verdict};
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

/// What the log of a machine says of `action` from `since` on. What a run says that began before that is of another job. Lines
/// are as `payload` writes them: `2026-11-28T21:30:00+00:00: 10.0.2.15: info: pitstop: result ok backup`.
pub fn trace(log: &str, action: &str, since: Timestamp) -> Trace {
    let mut last = Trace::Nothing;
    let mut is_of_another = false;
    for line in log.lines() {
        let Some((time, rest)) = line.split_once(": ") else {
            continue;
        };
        let Ok(time) = time.parse::<Timestamp>() else {
            continue;
        };
        // The log's times are whole seconds.
        let is_new = time.as_second() >= since.as_second();
        let said = rest.splitn(3, ": ").nth(2).unwrap_or_default();
        if said.starts_with("hi from ") {
            is_of_another = !is_new;
            if is_new && said.ends_with(&format!(": {action}")) {
                last = Trace::Begun;
            }
        } else if let Some(result) = said.strip_prefix("pitstop: result ")
            && is_new
            && !is_of_another
        {
            last = ended(result, action).unwrap_or(last);
        }
    }
    last
}

/// How a run of `action` ended; `None` of another's result.
fn ended(result: &str, action: &str) -> Option<Trace> {
    match result.split_once(' ')? {
        ("ok", done) => (done == action).then_some(Trace::Ok),
        ("failed", what) => {
            let (failed, reason) = what.split_once(": ")?;
            // A host file that makes no sense may leave the action unknown.
            let is_it = failed == action || failed == "unknown";
            is_it.then(|| Trace::Failed(reason.to_owned()))
        }
        _ => None,
    }
}

impl Job {
    /// What the files tell that the job does not know yet.
    pub fn seen(&self, evidence: &Evidence) -> Option<Happened> {
        // Where another job took its place, the host file is that one's: its machine alone tells how it goes.
        if !self.state.is_set() || self.superseded_by.is_some() {
            return None;
        }
        if !evidence.is_set {
            return match evidence.trace {
                Trace::Ok => Some(Happened::SeenDone),
                Trace::Nothing | Trace::Begun if !self.is_tracked() => Some(Happened::SeenDone),
                // The machine deletes its file at the end, and somebody may have done so before. It says which, or falls silent.
                Trace::Nothing | Trace::Begun if self.state == State::Running => None,
                Trace::Failed(_) | Trace::Nothing | Trace::Begun => Some(Happened::SeenRemoved),
            };
        }
        // The machine itself tells more, and sooner.
        if self.is_tracked() {
            return self.last_word(evidence);
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

    /// Of a tracked job whose last try crashed: PID 1 wrote the log, and nobody told the server. The machine holds.
    fn last_word(&self, evidence: &Evidence) -> Option<Happened> {
        let is_lost = self.state == State::Waiting && self.verdict == Some(Verdict::Lost);
        match &evidence.trace {
            Trace::Failed(reason) if is_lost && !evidence.is_counted => {
                Some(Happened::SeenFailed {
                    reason: reason.clone(),
                    again: false,
                })
            }
            _ => None,
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
        let before = HI.replace("21:30", "21:29");
        assert_eq!(since(&format!("{before}{OK}")), Trace::Nothing);
        assert_eq!(since(&format!("{before}{OK}{HI}")), Trace::Begun);
        let wrong = FAILED.replace("backup", "unknown");
        assert_eq!(since(&format!("{HI}{wrong}")), failed);
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

    #[test]
    fn a_job_that_never_got_to_work_is_not_done_by_its_files_going() {
        let gone = |trace: Trace| Evidence {
            is_set: false,
            trace,
            is_counted: false,
        };
        let failed = || Trace::Failed("no disk".into());
        let mut job = sample();
        for trace in [Trace::Nothing, Trace::Begun, failed()] {
            assert_eq!(job.seen(&gone(trace)), Some(Happened::SeenRemoved));
        }
        // Nobody kept track, and it was done all the same.
        assert_eq!(job.seen(&gone(Trace::Ok)), Some(Happened::SeenDone));
        job.attempts = 1;
        job.verdict = Some(Verdict::Failed);
        for trace in [Trace::Nothing, Trace::Begun, failed()] {
            assert_eq!(job.seen(&gone(trace)), Some(Happened::SeenRemoved));
        }
        job.state = State::Running;
        job.server = None;
        assert_eq!(job.seen(&gone(Trace::Begun)), Some(Happened::SeenDone));
        assert_eq!(job.seen(&gone(failed())), Some(Happened::SeenRemoved));
    }

    #[test]
    fn a_file_that_goes_while_the_machine_is_at_work_tells_nothing_of_its_work() {
        let gone = |trace: Trace| Evidence {
            is_set: false,
            trace,
            is_counted: false,
        };
        let mut job = sample();
        let run = job.id.clone();
        job.apply(&Happened::Granted { run: run.clone() }, job.set);
        for trace in [Trace::Nothing, Trace::Begun] {
            assert_eq!(job.seen(&gone(trace)), None);
        }
        assert_eq!(job.seen(&gone(Trace::Ok)), Some(Happened::SeenDone));
        job.apply(&Happened::Silent { run: Some(run) }, job.set);
        let seen = job.seen(&gone(Trace::Begun)).unwrap();
        assert_eq!(seen, Happened::SeenRemoved);
        job.apply(&seen, job.set);
        assert_eq!(job.state, State::Cancelled);
        let reason = job.reason.unwrap();
        assert!(
            reason.contains("did not say how its work ended"),
            "{reason}"
        );
    }

    #[test]
    fn a_last_try_that_crashed_is_told_by_the_log() {
        let log = |is_counted| Evidence {
            is_set: true,
            trace: Trace::Failed("the payload crashed".into()),
            is_counted,
        };
        let mut job = sample();
        assert_eq!(job.seen(&log(false)), None, "not lost: it will say so");
        job.verdict = Some(Verdict::Lost);
        assert_eq!(job.seen(&log(true)), None, "it tries again");
        let told = Happened::SeenFailed {
            reason: "the payload crashed".into(),
            again: false,
        };
        assert_eq!(job.seen(&log(false)), Some(told));
    }

    proptest! {
        #[test]
        fn any_log_is_read_without_a_panic(log in "\\PC*") {
            let _ = since(&log);
            let _ = since(&format!("2026-11-28T21:31:00+00:00: {log}"));
        }
    }
}
