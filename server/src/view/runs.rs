//! Runs.

use crate::refusal::Refusal;
use crate::runs::{self, Filter, Live, Summary, from_logs, is_reported};
use crate::site::Site;
use jiff::Timestamp;
use pitstop_api::{Id, PlannedDisk, Progress, Run, RunDetail};
use std::io;

/// The runs that were reported, and of machines that do not report those that their logs tell of; the newest first.
pub fn runs(site: &Site, filter: &Filter) -> io::Result<Vec<runs::Run>> {
    let known = site.runs.runs();
    let mut runs = known.list(filter)?;
    let mut told = from_logs(&site.share, &runs);
    if filter.last.is_some_and(|last| runs.len() >= last) {
        // Where older runs are left out, one that a log tells of may be among those. What would come behind the last of the
        // list is left out anyway: as a rule that is all of them, and the older ones need not be read.
        told.retain(|run| {
            runs.last()
                .is_some_and(|last| run.summary.run > last.summary.run)
        });
        if !told.is_empty() {
            let all = known.list(&Filter::default())?;
            told.retain(|run| !all.iter().any(|other| is_reported(other, run)));
        }
    }
    runs.extend(told.into_iter().filter(|run| filter.takes(&run.summary)));
    runs.sort_by(|a, b| b.summary.run.cmp(&a.summary.run));
    runs.truncate(filter.last.unwrap_or(usize::MAX));
    Ok(runs)
}

/// One run and its log.
pub fn run(site: &Site, id: &Id) -> Result<RunDetail, Refusal> {
    let failed = |error: &io::Error| Refusal::io(&format!("reading run {id}"), error);
    let runs = site.runs.runs();
    let found = runs.read(id).map_err(|e| failed(&e))?;
    if let Some(run) = found {
        let log = runs.log(id).more().map_err(|e| failed(&e))?;
        let run = Run::from(&run);
        return Ok(RunDetail { run, log });
    }
    // One that only its machine's log tells of.
    let told = site.looks.logs(&site.share);
    let told = told.iter().find(|run| run.summary.run == *id);
    let told = told.ok_or_else(|| Refusal::not_found(format!("run {id}")))?;
    Ok(RunDetail {
        run: Run::from(told),
        log: String::new(),
    })
}

impl From<&runs::Run> for Run {
    fn from(run: &runs::Run) -> Self {
        let Summary {
            version: _,
            run: id,
            job,
            machine,
            address,
            mac,
            peer,
            pitstop,
            host_key: _,
            action,
            began,
            ended,
            verdict,
            reason,
            bytes,
            elapsed_ms,
            read_errors,
            disks,
        } = run.summary.clone();
        let time = |text: &str| text.parse::<Timestamp>().ok();
        Self {
            run: id,
            job,
            state: run.state,
            machine,
            address,
            mac,
            peer,
            pitstop,
            action,
            began: time(&began),
            ended: ended.as_deref().and_then(time),
            verdict,
            reason,
            bytes,
            elapsed_ms,
            read_errors,
            disks: disks
                .into_iter()
                .map(|disk| PlannedDisk {
                    disk: disk.disk,
                    model: disk.model,
                    serial: disk.serial,
                    size: disk.size,
                    will: disk.will,
                    image: disk.image,
                })
                .collect(),
            progress: run.progress.as_ref().map(Progress::from),
        }
    }
}

impl From<&Live> for Progress {
    fn from(live: &Live) -> Self {
        Self {
            step: live.about.step,
            disk: live.about.disk.clone(),
            label: live.about.label.clone(),
            act: live.moved.act,
            done: live.moved.done,
            total: live.moved.total,
            transferred: live.moved.transferred,
            elapsed_ms: live.moved.elapsed_ms,
            percent: live.percent,
            rate: live.rate,
            seconds_left: live.seconds_left,
        }
    }
}
