//! Machines that are at work. Whoever switches one off cuts that off, and its disk may be left half written.

use super::target::{Lab, Meant, Target, Who, meant};
use super::{Conflict, Machines};
use crate::jobs::Store;
use crate::runs::Runs;
use pitstop_jobs::Job;
use pitstop_power::Act;
use std::fmt::Write as _;
use std::path::Path;

/// So many are told of, at most.
const TOLD: usize = 5;

/// The jobs that `targets` are at work for.
pub(super) fn jobs_of(root: &Path, targets: &[&Target]) -> anyhow::Result<Vec<Job>> {
    let mut jobs = Store::at(root).all()?.jobs;
    let machines = Machines::new(targets.iter().copied());
    jobs.retain(|job| job.may_be_at_work() && machines.whose(job).is_some());
    Ok(jobs)
}

/// Refuses to switch `targets` off while they are at work.
///
/// # Errors
/// [`Conflict`] where one is.
pub(super) fn refuse(root: &Path, targets: &[&Target]) -> anyhow::Result<()> {
    let jobs = jobs_of(root, targets)?;
    if jobs.is_empty() {
        return Ok(());
    }
    let runs = Runs::below(root);
    let told: Vec<String> = jobs.iter().take(TOLD).map(|job| told(&runs, job)).collect();
    let more = match jobs.len().saturating_sub(TOLD) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    Err(Conflict(format!(
        "{}{more}: to be switched off now would cut that off, and a disk may be left half written. Wait for its end (pitstop job \
         wait JOB), or say --force (in the API \"force\": true)",
        told.join("; ")
    ))
    .into())
}

/// Refuses an `act` that would cut off what one of `machines` is at.
///
/// # Errors
/// [`Conflict`] where one is at work.
pub fn refuse_act(root: &Path, machines: &[Who], act: Act) -> anyhow::Result<()> {
    if !matches!(act, Act::Off | Act::Cycle) {
        return Ok(());
    }
    let lab = Lab::read(root)?;
    let mut targets = Vec::new();
    for who in machines {
        for meant in meant(&lab, who)? {
            match (meant, &lab.fleet) {
                // One that no host file can be for has no job either.
                (Meant::Known(machine, name), Some(fleet)) => {
                    targets.extend(Target::of(fleet, machine, name).ok());
                }
                (Meant::Alone(name), _) => targets.push(Target::alone(name)),
                (Meant::Known(..), None) => {}
            }
        }
    }
    refuse(root, &targets.iter().collect::<Vec<_>>())
}

/// What a machine is at, and how far.
fn told(runs: &Runs, job: &Job) -> String {
    let mut told = format!("{} is at work: {}, job {}", job.shown(), job.action, job.id);
    if let Some(id) = job.runs.last() {
        // How far it is only its reports tell.
        let run = runs.read(id).ok().flatten();
        let percent = run.and_then(|run| run.progress?.percent);
        // Writing to a String cannot fail.
        let _ = write!(told, ", run {id}");
        if let Some(percent) = percent {
            let _ = write!(told, ", {percent} % done");
        }
    }
    told
}
