//! The plan of a job without the run: for an admin who wants to see it first.

use super::Work;
use super::log::RunLog;
use super::wait::Watch;
use crate::plan::Plan;
use pitstop_imaging::event::Reporter;
use pitstop_imaging::inventory::Machine;
use pitstop_protocol::job::Job;
use pitstop_protocol::machine::{BootSource, Lease};
use pitstop_transport::share::Share;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Decides what `machine`, at `address`, would do for `job` with the disks that it has now. Reads disks and
/// share, and writes to neither.
///
/// # Errors
/// What the run would end with before its first write.
pub fn dry_run(
    machine: &Machine,
    address: IpAddr,
    job: &Job,
    share: &dyn Share,
    reporter: Arc<dyn Reporter>,
) -> anyhow::Result<Plan> {
    let lease = Lease {
        interface: String::new(),
        mac: [0; 6],
        address,
        hostname: None,
        boot: BootSource::default(),
    };
    let log = RunLog::new(reporter, address.to_string());
    let mut work = Work {
        machine,
        lease: &lease,
        job,
        share,
        request: None,
        log: &log,
        watch: &mut Watch::new(machine, Duration::ZERO),
    };
    Ok(work.plan()?.plan)
}
