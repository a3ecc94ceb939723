//! Who hears of it when a run or a job ends: the counters, and by webhook and mail those whom `notify.toml` names.

use crate::metrics::Metrics;
use crate::runs::Summary;
use crate::site::Sites;
use jiff::Timestamp;
use pitstop_jobs::Job;
use pitstop_notify::{Event, Notice, Notifier};
use pitstop_protocol::event::Verdict;
use pitstop_protocol::id::Id;
use std::fmt;
use std::sync::Arc;

/// Where ends are told.
pub struct Ends {
    metrics: Arc<Metrics>,
    notifier: Notifier,
    /// Of this server.
    url: String,
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends").finish_non_exhaustive()
    }
}

/// What became of a job, beside what its runs tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEnd {
    GaveUp,
    Silent,
}

/// From now on ends of runs and jobs are told.
///
/// # Errors
/// A thread cannot be started.
pub fn start(sites: &Sites) -> anyhow::Result<()> {
    let site = sites.now()?;
    let journal = Arc::clone(&site.journal);
    let tell = Arc::new(move |line: String| journal.note(&line));
    let notifier = Notifier::start(site.runs.root(), tell)?;
    let metrics = Arc::clone(&site.metrics);
    let ends = Arc::new(Ends::new(metrics, notifier, site.url.clone()));
    site.runs.tell(Arc::clone(&ends));
    site.jobs.tell_ends(ends);
    Ok(())
}

impl Ends {
    fn new(metrics: Arc<Metrics>, notifier: Notifier, url: String) -> Self {
        Self {
            metrics,
            notifier,
            url,
        }
    }

    /// A machine has reported the end of a run.
    pub fn run(&self, summary: &Summary) {
        self.metrics.run(summary);
        let event = match summary.verdict {
            Some(Verdict::Ok) => Event::Done,
            Some(Verdict::Failed) | None => Event::Failed,
            // Somebody withdrew it, and knows.
            Some(Verdict::Cancelled) => return,
        };
        self.notifier.notice(Notice {
            machine: summary.name().to_owned(),
            address: summary.address.clone(),
            mac: summary.mac.clone(),
            action: summary.action.clone(),
            job: summary.job.clone(),
            run: Some(summary.run.clone()),
            reason: summary.reason.clone(),
            bytes: summary.bytes,
            elapsed_ms: summary.elapsed_ms,
            ..self.blank(event)
        });
    }

    /// What a job came to.
    pub fn job(&self, job: &Job, end: JobEnd) {
        let event = match end {
            JobEnd::GaveUp => Event::GaveUp,
            JobEnd::Silent => Event::Silent,
        };
        self.notifier.notice(Notice {
            machine: job.shown().to_owned(),
            action: job.action.to_string(),
            job: Some(job.id.clone()),
            run: job.runs.last().cloned(),
            reason: job.reason.clone().unwrap_or_default(),
            ..self.blank(event)
        });
    }

    fn blank(&self, event: Event) -> Notice {
        let now = Timestamp::now();
        Notice {
            id: Id::new(now, fastrand::u32(..)),
            event,
            time: now,
            machine: String::new(),
            address: String::new(),
            mac: String::new(),
            action: String::new(),
            job: None,
            run: None,
            reason: String::new(),
            bytes: 0,
            elapsed_ms: 0,
            server: self.url.clone(),
        }
    }
}
