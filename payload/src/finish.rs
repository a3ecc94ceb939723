//! What the machine does when the work is over, well or not. Pure: whoever holds a [`Finish`] carries it out.

use crate::report::Crashed;
use pitstop_imaging::render::one_line;
use pitstop_protocol::credentials::Credentials;
use pitstop_protocol::event::{Outcome, Verdict};
use pitstop_protocol::job::After;
use pitstop_protocol::store::SignAt;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// The end of a run. Configurations are deleted and logs are written by the time there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// For every console, as it is: `pitstop: result ok backup`.
    pub result_line: String,
    /// How long the line stays on the consoles before `then`.
    pub wait: Duration,
    pub then: After,
    /// The root of a tree that the machine goes on in, in place of `then`.
    #[serde(default)]
    pub root: Option<PathBuf>,
    /// Whether the consoles have shells in rescue: not where jobs are signed and none asked for it, lest anybody who can make
    /// a job fail gets one.
    pub shells: bool,
}

/// What to do about a failure, known as early as can be and handed to whoever outlives the worker:
/// a worker that crashes cannot say it any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashPolicy {
    /// `unknown` until the job is known.
    pub action: String,
    /// Failed tries before the machine holds.
    pub attempts: u32,
    /// Whether the machine does signed jobs alone.
    pub signed_only: bool,
    /// Which try this is, from 1; 0 while none could be counted.
    pub attempt: u32,
    pub failure_delay: Duration,
    /// How long a worker that moves nothing and says nothing is waited for.
    pub progress_timeout: Duration,
    pub on_failure: After,
    /// The share's whole URL, once it is proven to be the share. May hold a password: not for logs.
    pub share: Option<String>,
    /// What the job has for the share's server.
    pub credentials: Option<Credentials>,
    /// Who signs for the share, where that is a store.
    pub sign: Option<SignAt>,
    /// Where the run is reported to, if anywhere.
    pub report: Option<Crashed>,
    /// What it means that a part of an image is on a disk, until its restore begins: whatever fails, fails with that.
    pub partly: Option<String>,
}

impl Default for CrashPolicy {
    /// What holds for a machine that has not learnt its job: the host file's defaults.
    fn default() -> Self {
        Self {
            action: "unknown".into(),
            attempts: 3,
            signed_only: false,
            attempt: 0,
            failure_delay: Duration::from_secs(300),
            progress_timeout: Duration::from_secs(30 * 60),
            on_failure: After::Reboot,
            share: None,
            credentials: None,
            sign: None,
            report: None,
            partly: None,
        }
    }
}

impl Finish {
    /// The same, but that the machine holds where it would start again; with `shells` on its consoles or without.
    #[must_use]
    pub fn without_reboot(self, shells: bool) -> Self {
        if self.then != After::Reboot || self.root.is_some() {
            return self;
        }
        Self {
            then: After::Rescue,
            wait: Duration::ZERO,
            shells,
            ..self
        }
    }
}

impl CrashPolicy {
    /// The same, but that a failure makes the machine hold where it would start again.
    #[must_use]
    pub fn without_reboot(self) -> Self {
        match self.on_failure {
            // A shell where jobs are signed is what a signed job asks for, and nobody else.
            After::Reboot if !self.signed_only => Self {
                on_failure: After::Rescue,
                ..self
            },
            _ => self,
        }
    }

    /// Whether a failure now is the last that is tried. A try that could not be counted is at least the first.
    pub fn exhausted(&self) -> bool {
        self.attempt.max(1) >= self.attempts
    }

    /// Whether no further try follows by itself, so that the count of tries can go: whoever starts the
    /// machine again wants it to try afresh.
    pub fn ends_trying(&self, finish: &Finish) -> bool {
        self.exhausted() || finish.then != After::Reboot
    }

    /// Why a run failed, and what that leaves on a disk.
    pub fn told(&self, reason: &str) -> String {
        match &self.partly {
            Some(partly) => format!("{reason}; and {partly}"),
            None => reason.to_owned(),
        }
    }

    /// What is reported of a run that failed for `reason`.
    pub fn outcome(&self, reason: &str) -> Outcome {
        Outcome::new(Verdict::Failed, &self.action, &one_line(&self.told(reason)))
    }

    /// The end of a run that failed for `reason`: wait and try again, or hold after the last try.
    pub fn failed(&self, reason: &str) -> Finish {
        let then = match self.on_failure {
            After::Reboot if self.exhausted() => After::Rescue,
            then => then,
        };
        let wait = match then {
            After::Rescue => Duration::ZERO,
            After::Reboot | After::Poweroff => self.failure_delay,
        };
        Finish {
            result_line: line(&self.outcome(reason)),
            wait,
            then,
            root: None,
            shells: !self.signed_only || self.on_failure == After::Rescue,
        }
    }
}

fn line(outcome: &Outcome) -> String {
    format!("pitstop: {outcome}")
}

/// The end of a run that did all it was asked to.
pub fn succeeded(action: &str, then: After) -> Finish {
    Finish {
        result_line: line(&Outcome::new(Verdict::Ok, action, "")),
        wait: Duration::ZERO,
        then,
        root: None,
        shells: true,
    }
}

/// The end of a run that goes on in the tree at `root`.
pub fn entering(action: &str, root: PathBuf) -> Finish {
    Finish {
        root: Some(root),
        ..succeeded(action, After::Reboot)
    }
}

/// The end of a run whose machine has done its work before. A stick that is still plugged in would start the machine again and
/// again: it holds, unless it is to be off.
pub fn through(action: &str, reason: &str, on_success: After) -> Finish {
    let then = match on_success {
        After::Poweroff => After::Poweroff,
        After::Reboot | After::Rescue => After::Rescue,
    };
    Finish {
        then,
        ..cancelled(action, reason, Duration::ZERO)
    }
}

/// The end of a run that never began: the job was withdrawn while the machine waited.
pub fn cancelled(action: &str, reason: &str, wait: Duration) -> Finish {
    Finish {
        result_line: line(&Outcome::new(Verdict::Cancelled, action, &one_line(reason))),
        wait,
        then: After::Reboot,
        root: None,
        shells: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_try_holds_and_the_ones_before_wait_and_reboot() {
        let mut policy = CrashPolicy {
            action: "restore".into(),
            attempt: 2,
            ..CrashPolicy::default()
        };
        let again = policy.failed("the image\nis truncated");
        assert_eq!(
            again.result_line,
            "pitstop: result failed restore: the image is truncated"
        );
        assert_eq!(
            (again.then, again.wait),
            (After::Reboot, Duration::from_secs(300))
        );
        policy.attempt = 3;
        let last = policy.failed("x");
        assert_eq!((last.then, last.wait), (After::Rescue, Duration::ZERO));
    }

    #[test]
    fn what_is_on_a_disk_is_said_however_the_run_fails() {
        let policy = CrashPolicy {
            action: "restore".into(),
            partly: Some("sda does not boot".into()),
            ..CrashPolicy::default()
        };
        assert_eq!(
            policy.failed("killed").result_line,
            "pitstop: result failed restore: killed; and sda does not boot"
        );
    }

    #[test]
    fn where_jobs_are_signed_a_failure_gives_nobody_a_shell() {
        let mut policy = CrashPolicy {
            attempt: 3,
            ..CrashPolicy::default()
        };
        assert!(policy.failed("x").shells);
        policy.signed_only = true;
        let held = policy.failed("x");
        assert_eq!((held.then, held.shells), (After::Rescue, false));
        // The signed job itself asks for it.
        policy.on_failure = After::Rescue;
        assert!(policy.failed("x").shells);
        assert!(succeeded("rescue", After::Rescue).shells);
    }

    #[test]
    fn the_only_try_holds_even_where_it_could_not_be_counted() {
        let policy = CrashPolicy {
            attempts: 1,
            attempt: 0,
            ..CrashPolicy::default()
        };
        assert_eq!(policy.failed("x").then, After::Rescue);
    }

    #[test]
    fn the_admins_wish_to_power_off_is_not_turned_into_a_hold() {
        let policy = CrashPolicy {
            attempt: 3,
            on_failure: After::Poweroff,
            ..CrashPolicy::default()
        };
        assert_eq!(policy.failed("x").then, After::Poweroff);
        assert!(
            policy.ends_trying(&policy.failed("x")),
            "the next start tries afresh"
        );
        assert_eq!(policy.failed("x").wait, Duration::from_secs(300));
    }

    #[test]
    fn a_machine_that_is_not_to_start_again_holds_well_or_not() {
        let held = succeeded("refresh-info", After::Reboot).without_reboot(true);
        assert_eq!((held.then, held.shells), (After::Rescue, true));
        let signed = succeeded("refresh-info", After::Reboot).without_reboot(false);
        assert_eq!((signed.then, signed.shells), (After::Rescue, false));
        let off = succeeded("backup", After::Poweroff);
        assert_eq!(off.clone().without_reboot(true), off);
        let tree = entering("run", "/run/tree".into());
        assert_eq!(tree.clone().without_reboot(true), tree);
        let policy = CrashPolicy::default().without_reboot();
        let failed = policy.failed("x");
        assert_eq!((failed.then, failed.wait), (After::Rescue, Duration::ZERO));
        let signed_only = CrashPolicy {
            signed_only: true,
            ..CrashPolicy::default()
        };
        assert!(!signed_only.without_reboot().failed("x").shells);
    }

    #[test]
    fn the_names_are_the_host_files() {
        assert_eq!(serde_json::to_string(&After::Rescue).unwrap(), "\"rescue\"");
        assert_eq!(
            succeeded("backup", After::Rescue).result_line,
            "pitstop: result ok backup"
        );
    }
}
