//! `wipe`: erases disks, and puts a record of each on the share.
//!
//! That every disk can do what is asked is known before the first is written. The record is written whether
//! the wipe succeeds or not.

use super::attempts::put;
use super::images::Images;
use super::{Labelled, Prepared, Work, pace};
use crate::plan::{Plan, Wipe};
use crate::wipe::{self, Ready, Wiped};
use anyhow::Context;
use pitstop_imaging::event::{Act, Reporter};
use pitstop_imaging::inventory::Disk;
use pitstop_protocol::job::{Method, Word};
use serde::Serialize;

/// `wipe-sda-20261121T060000Z.toml`
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Record<'a> {
    version: u32,
    /// `ok`, or `failed: …`.
    result: String,
    device: &'a str,
    model: &'a str,
    serial: &'a str,
    wwn: &'a str,
    /// Bytes.
    size: u64,
    method: &'static str,
    /// What did it: `NVMe Format with user data erase`.
    means: &'static str,
    began: String,
    ended: String,
    /// What the device says it did; empty when it failed.
    device_says: String,
    /// What reading a sample of it showed; empty when it failed.
    samples: String,
    /// The version of Pitstop.
    pitstop: &'static str,
}

pub(super) fn plan(work: &mut Work<'_>, method: Method) -> anyhow::Result<Prepared> {
    let (_, selection) = work.select(true)?;
    Ok(Prepared {
        plan: Plan::wipe(work.heading(), selection, method),
        images: Images::default(),
        tree: None,
        ahead: None,
        done: false,
    })
}

pub(super) fn run(work: &Work<'_>, wipes: &[Wipe]) -> anyhow::Result<()> {
    let ready = wipes
        .iter()
        .map(|step| {
            let node = step.disk.node(&work.machine.dev);
            wipe::prepare(&node, &step.disk.identity, step.method)
        })
        .collect::<anyhow::Result<Vec<Ready>>>()?;
    for (number, (step, ready)) in (1..).zip(wipes.iter().zip(ready)) {
        wipe_one(work, number, step, &ready)?;
    }
    Ok(())
}

fn wipe_one(work: &Work<'_>, number: usize, step: &Wipe, ready: &Ready) -> anyhow::Result<()> {
    let disk = &step.disk;
    let reporter = Labelled::new(work.log, Act::Wipe, number, disk);
    reporter.begins();
    let began = pace::now();
    let done = wipe::wipe(ready, &disk.identity, &reporter);
    let recorded = record(work, step, ready, &began, &done);
    let wiped = done.with_context(|| format!("wiping {disk} ({})", step.method))?;
    let path = recorded?;
    reporter.is_done();
    reporter.info(format!(
        "{}: {}; {}; {}; recorded in {path}",
        disk.identity.device,
        ready.means().name(),
        wiped.device_says,
        wiped.samples
    ));
    Ok(())
}

fn record(
    work: &Work<'_>,
    step: &Wipe,
    ready: &Ready,
    began: &str,
    done: &anyhow::Result<Wiped>,
) -> anyhow::Result<String> {
    let Disk { identity, .. } = &step.disk;
    let wiped = done.as_ref().ok();
    let record = Record {
        version: 1,
        result: match done {
            Ok(_) => "ok".into(),
            Err(error) => format!("failed: {error:#}"),
        },
        device: &identity.device,
        model: &identity.model,
        serial: &identity.serial,
        wwn: &identity.wwn,
        size: identity.size,
        method: step.method.word(),
        means: ready.means().name(),
        began: began.to_owned(),
        ended: pace::now(),
        device_says: wiped.map_or_else(String::new, |wiped| wiped.device_says.clone()),
        samples: wiped.map_or_else(String::new, |wiped| wiped.samples.clone()),
        pitstop: env!("CARGO_PKG_VERSION"),
    };
    let text = toml::to_string(&record).context("putting the record of the wipe into TOML")?;
    let stamp: String = began.chars().filter(char::is_ascii_alphanumeric).collect();
    let path = format!(
        "{}/wipe-{}-{stamp}.toml",
        work.lease.folder(),
        identity.device.replace('!', "_")
    );
    put(work.share, &path, text.as_bytes())?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execute::broken;
    use crate::execute::log::RunLog;
    use crate::execute::wait::Watch;
    use pitstop_imaging::event::Silent;
    use pitstop_imaging::inventory::fake::{FakeDisk, FakeMachine};
    use pitstop_imaging::inventory::names;
    use pitstop_protocol::fake::lease;
    use pitstop_protocol::job::{Action, DiskSelector};
    use pitstop_transport::share::DirectoryShare;
    use std::fs;
    use std::sync::Arc;
    use std::time::Duration;

    /// Wipes `sda` of a machine with two disks; tells what is on the share then, and whether the disks are zeros.
    fn wiped(method: Method) -> (anyhow::Result<()>, Vec<String>, [bool; 2]) {
        let fake = FakeMachine::new();
        let nodes = ["sda", "sdb"].map(|name| {
            let disk = FakeDisk::new(name, 1 << 20).serial(name).model("M");
            fake.add_with(&disk, &vec![7; 1 << 20])
        });
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        let machine = fake.machine();
        let mut job = broken::job(Action::Wipe { method }, "m");
        job.disks = vec![DiskSelector::Name("sda".into())];
        let mut work = Work {
            machine: &machine,
            lease: &lease(),
            job: &job,
            share: &share,
            request: None,
            log: &RunLog::new(Arc::new(Silent), "10.0.2.15".into()),
            watch: &mut Watch::new(&machine, Duration::ZERO),
        };
        let prepared = work.plan().unwrap();
        let text = prepared.plan.to_string();
        assert!(text.contains("sda is chosen: the job names sda"), "{text}");
        work.publish(&prepared.plan).unwrap();
        let outcome = work.walk(&prepared, &|| {}).map(drop);
        let folder = root.path().join("10.0.2.15");
        let records = names(&folder)
            .unwrap()
            .iter()
            .map(|file| fs::read_to_string(folder.join(file)).unwrap())
            .collect();
        let zeros = nodes.map(|node| fs::read(node).unwrap().iter().all(|byte| *byte == 0));
        (outcome, records, zeros)
    }

    #[test]
    fn the_disk_that_is_named_is_wiped_and_the_record_says_so() {
        let (outcome, files, zeros) = wiped(Method::Zero);
        outcome.unwrap();
        assert_eq!(zeros, [true, false]);
        let plan: serde_json::Value = serde_json::from_str(&files[0]).unwrap();
        assert_eq!(plan["steps"][0]["method"], "zero");
        assert_eq!(plan["steps"][0]["disk"]["serial"], "sda");
        assert_eq!(plan["left-alone"][0]["disk"]["device"], "sdb");
        for part in ["result = \"ok\"", "serial = \"sda\"", "method = \"zero\""] {
            assert!(files[1].contains(part), "{part}: {}", files[1]);
        }
    }

    #[test]
    fn a_disk_that_appears_after_the_plan_is_missed_and_named() {
        let fake = FakeMachine::new();
        let add = |name: &str| {
            let disk = FakeDisk::new(name, 1 << 20).serial(name).model("M");
            fake.add_with(&disk, &vec![7; 1 << 20])
        };
        let first = add("sda");
        let root = tempfile::tempdir().unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        let machine = fake.machine();
        let job = broken::job(
            Action::Wipe {
                method: Method::Zero,
            },
            "m",
        );
        let mut work = Work {
            machine: &machine,
            lease: &lease(),
            job: &job,
            share: &share,
            request: None,
            log: &RunLog::new(Arc::new(Silent), "10.0.2.15".into()),
            watch: &mut Watch::new(&machine, Duration::ZERO),
        };
        let prepared = work.plan().unwrap();
        let late = add("sdb");
        let error = work.walk(&prepared, &|| {}).unwrap_err().to_string();
        assert!(
            error.starts_with("sdb (M, serial sdb, 1.0 MiB) appeared after the plan was made"),
            "{error}"
        );
        assert!(fs::read(first).unwrap().iter().all(|byte| *byte == 0));
        assert!(fs::read(late).unwrap().iter().all(|byte| *byte == 7));
        // A list on the share that does not have it, or disks that the job names, told to leave it alone.
        fs::create_dir_all(root.path().join("10.0.2.15")).unwrap();
        fs::write(root.path().join("10.0.2.15/disk-devices.lst"), "sda\n").unwrap();
        work.walk(&prepared, &|| {}).unwrap();
    }

    #[test]
    fn a_disk_that_cannot_erase_itself_is_not_touched() {
        let (outcome, files, zeros) = wiped(Method::Secure);
        let error = format!("{:#}", outcome.unwrap_err());
        assert!(error.contains("cannot be erased securely"), "{error}");
        assert_eq!(zeros, [false, false]);
        assert_eq!(files.len(), 1, "the plan alone");
    }
}
