//! The end of a run that cannot speak for itself: its worker crashed, or it never came to a job.

use super::MOUNTS;
use crate::execute::attempts;
use crate::execute::log::{LOG, log_line};
use crate::finish::{CrashPolicy, Finish, cancelled};
use crate::load::Rules;
use crate::report;
use pitstop_imaging::event::{Level, Reporter};
use pitstop_imaging::inventory::Machine;
use pitstop_protocol::credentials::Access;
use pitstop_protocol::job::{ActionName, After, CommandLine, Transfer};
use pitstop_protocol::machine::Lease;
use pitstop_protocol::share_url::ShareUrl;
use pitstop_transport::fetch::Listener;
use pitstop_transport::share::{self, Carriers};
use std::path::Path;
use std::time::Duration;

/// The end of a boot that never came to a job: no network card, no DHCP answer.
pub fn failed_before_job(machine: &Machine, rules: &Rules, reason: &str) -> Finish {
    before_any_job(machine, rules).failed(reason)
}

/// The end of a boot for which nobody has a job: the machine holds.
pub fn nothing_to_do(rules: &Rules, reason: &str) -> Finish {
    Finish {
        then: After::Rescue,
        shells: rules.keys.is_none(),
        ..cancelled(&CrashPolicy::default().action, reason, Duration::ZERO)
    }
}

/// The end of a boot whose keys of jobs cannot be read: whose jobs it should do, nobody knows.
pub fn failed_for_good(reason: &str) -> Finish {
    let policy = CrashPolicy {
        signed_only: true,
        ..CrashPolicy::default()
    };
    policy.failed(reason)
}

/// The end of a run whose worker crashed. Writes to the logs on the share as far as they can be reached;
/// run it where a second crash does no harm, and for a limited time.
pub fn after_crash(
    lease: &Lease,
    policy: &CrashPolicy,
    reason: &str,
    reporter: &dyn Reporter,
) -> Finish {
    let finish = policy.failed(reason);
    if let Some(report) = &policy.report
        && let Err(error) = report::after_crash(report, lease, policy.outcome(reason))
    {
        reporter.warn(format!("the crash could not be reported: {error:#}"));
    }
    if let Err(error) = log_crash(lease, policy, &finish) {
        reporter.error(format!(
            "the crash could not be logged on the share: {error:#}"
        ));
    }
    finish
}

fn log_crash(lease: &Lease, policy: &CrashPolicy, finish: &Finish) -> anyhow::Result<()> {
    let Some(url) = &policy.share else {
        return Ok(());
    };
    let url: ShareUrl = url.parse()?;
    let carriers = Carriers::new(lease.address, Path::new(MOUNTS))?;
    let access = match (&url, &policy.credentials) {
        (ShareUrl::Http(server), Some(credentials)) => {
            Some(Access::new(credentials.clone(), [server]))
        }
        _ => None,
    };
    let transfer = Transfer {
        access,
        sign: policy.sign.clone(),
        ..Transfer::default()
    };
    let carriers = carriers.for_job(&transfer, Listener::default())?;
    let share = share::connect(&url, &carriers)?;
    let home = lease.folder();
    let line = log_line(&lease.shown(), Level::Error, &finish.result_line);
    share.append(&format!("{home}/{LOG}"), &line)?;
    share.append(LOG, &line)?;
    if policy.ends_trying(finish) {
        attempts::clear(&*share, &home)?;
    }
    Ok(())
}

/// The host file's defaults; the action where the command line already tells it.
pub(super) fn before_any_job(machine: &Machine, rules: &Rules) -> CrashPolicy {
    let line = CommandLine::parse(&machine.command_line).unwrap_or_else(|error| error.understood);
    let mut policy = CrashPolicy {
        signed_only: rules.keys.is_some(),
        ..CrashPolicy::default()
    };
    if let Some(action) = line.action {
        action.as_str().clone_into(&mut policy.action);
        // Rescue reboots nothing: a person is on the way to the console. Where jobs are signed, no command line asks for one.
        if action == ActionName::Rescue && rules.keys.is_none() {
            policy.on_failure = After::Rescue;
        }
    }
    policy
}
