//! The log of a job: what its machine reported, or else wrote on the share.

use super::which::{jobs, one};
use crate::host::{Root, say};
use anyhow::Context;
use pitstop_api::Job as ApiJob;
use pitstop_jobs::Job;
use pitstop_protocol::id::Id;
use pitstop_server::jobs::{OnShare, Which};
use pitstop_server::runs::{Log, Runs};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How long the end of a report is waited for when its job is over.
const LATE: Duration = Duration::from_secs(10);

pub fn print(root: &Root, which: &Which, follow: bool) -> anyhow::Result<()> {
    let job = one(root, which)?;
    let runs = Runs::below(&root.path);
    let mut on_share = OnShare::of(
        &root.path,
        &ApiJob::from(&job),
        matches!(which, Which::Job(_)),
    );
    let mut reported: Option<(Id, Log)> = None;
    let mut over: Option<Instant> = None;
    loop {
        // Asked before the log is read: what was written before the end is printed.
        let (is_over, last) = now(root, &job)?;
        let known = |run: &Id| runs.read(run).is_ok_and(|found| found.is_some());
        if let Some(run) = last.filter(known)
            && reported.as_ref().is_none_or(|(of, _)| *of != run)
        {
            // What the machine reported says more than its log on the share.
            let log = runs.log(&run);
            reported = Some((run, log));
        }
        let ended = if let Some((run, log)) = &mut reported {
            let more = log.more();
            say(&more.with_context(|| format!("reading the run {run}"))?)?;
            log.has_ended()
        } else {
            say(&on_share.more()?)?;
            true
        };
        if !follow {
            return if reported.is_some() {
                Ok(())
            } else {
                on_share.is_there()
            };
        }
        // The last lines of a report may come a moment after the end, or never: of a machine that lost its power.
        let since = *over.get_or_insert_with(Instant::now);
        if is_over && (ended || since.elapsed() > LATE) {
            return Ok(());
        }
        if !is_over {
            over = None;
        }
        sleep(LOOK);
    }
}

/// Whether the job is over, and its last run.
fn now(root: &Root, job: &Job) -> anyhow::Result<(bool, Option<Id>)> {
    let now = jobs(root)?.into_iter().find(|now| now.id == job.id);
    Ok(now.map_or((true, None), |now| {
        (now.state.is_over(), now.runs.last().cloned())
    }))
}
