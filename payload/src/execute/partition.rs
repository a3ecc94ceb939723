//! `partition`: disks as a layout says. What is right already is left alone.

use super::images::Images;
use super::{Labelled, Prepared, Work};
use crate::plan::{Arrange, Plan};
use anyhow::Context;
use pitstop_imaging::event::{Act, Reporter};
use pitstop_imaging::layout::Layout;
use pitstop_imaging::layout::apply::{apply, check_free, compare};
use pitstop_protocol::digest::Digest;
use std::io::Read;

/// Far more than a layout of 128 partitions.
const MOST_BYTES: u64 = 1 << 20;

pub(super) fn plan(work: &mut Work<'_>, file: &str) -> anyhow::Result<Prepared> {
    let layout = read(work, file)?;
    let (_, selection) = work.select(true)?;
    let steps = selection
        .disks
        .into_iter()
        .map(|disk| {
            let node = disk.node(&work.machine.dev);
            let changes =
                compare(&layout, &node).with_context(|| format!("putting {file} on {disk}"))?;
            Ok(Arrange {
                disk,
                file: file.to_owned(),
                changes,
            })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Prepared {
        plan: Plan::arrange(work.heading(), steps, selection.left_alone),
        images: Images::default(),
        tree: None,
        ahead: None,
        done: false,
    })
}

pub(super) fn read(work: &Work<'_>, file: &str) -> anyhow::Result<Layout> {
    let path = work.image_path(file);
    let doing = || format!("reading {path} on {}", work.share.name());
    let mut text = String::new();
    work.share
        .open(&path)
        .with_context(doing)?
        .take(MOST_BYTES)
        .read_to_string(&mut text)
        .with_context(doing)?;
    let digest = Digest::of(text.as_bytes());
    let checked = work.job.terms.check_digest(file, Some(digest));
    checked.map_err(anyhow::Error::msg).with_context(doing)?;
    Layout::parse(&text).with_context(doing)
}

pub(super) fn run(work: &Work<'_>, steps: &[Arrange]) -> anyhow::Result<()> {
    // A disk that is held would else be found when those before it are written.
    for step in steps.iter().filter(|step| !step.changes.is_empty()) {
        check_free(&step.changes, &step.disk.node(&work.machine.dev))
            .with_context(|| format!("putting {} on {}", step.file, step.disk))?;
    }
    for (number, step) in (1..).zip(steps) {
        let disk = &step.disk;
        let reporter = Labelled::new(work.log, Act::Partition, number, disk);
        reporter.begins();
        let done = apply(&step.changes, &disk.node(&work.machine.dev), &reporter)
            .with_context(|| format!("putting {} on {disk}", step.file))?;
        reporter.is_done();
        reporter.info(format!(
            "{}: {}, {} filesystems made; it reads back as {} says",
            disk.identity.device,
            if done.table_written {
                "new table"
            } else {
                "table left alone"
            },
            done.filesystems_made.len(),
            step.file
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execute::broken;
    use crate::execute::log::RunLog;
    use crate::execute::wait::Watch;
    use pitstop_imaging::event::Silent;
    use pitstop_imaging::inventory::fake::{FakeDisk, FakeMachine};
    use pitstop_protocol::fake::lease;
    use pitstop_protocol::job::Action;
    use pitstop_transport::share::DirectoryShare;
    use std::fs;
    use std::sync::Arc;
    use std::time::Duration;

    /// What the plan says and how the run ends, one after the other, on one disk.
    fn twice(layout: &str) -> Vec<anyhow::Result<String>> {
        let fake = FakeMachine::new();
        fake.add_with(&FakeDisk::new("sda", 8 << 20), &vec![0; 8 << 20]);
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("m")).unwrap();
        fs::write(root.path().join("m/layout.toml"), layout).unwrap();
        let share = DirectoryShare::open(root.path()).unwrap();
        let machine = fake.machine();
        let layout = "layout.toml".into();
        let job = broken::job(Action::Partition { layout }, "m");
        let once = || {
            let mut work = Work {
                machine: &machine,
                lease: &lease(),
                job: &job,
                share: &share,
                request: None,
                log: &RunLog::new(Arc::new(Silent), "10.0.2.15".into()),
                watch: &mut Watch::new(&machine, Duration::ZERO),
            };
            let prepared = work.plan()?;
            work.walk(&prepared, &|| {})?;
            Ok(prepared.plan.to_string())
        };
        vec![once(), once()]
    }

    #[test]
    fn a_layout_is_made_once_and_found_right_after_that() {
        let plans =
            twice("version = 1\ntable = \"gpt\"\n[[partition]]\ntype = \"lvm\"\nsize = \"fill\"\n");
        let first = plans[0].as_ref().unwrap();
        assert!(
            first.contains("make a new gpt table on sda (8.0 MiB) as layout.toml says"),
            "{first}"
        );
        assert!(
            first.contains("partition 1: lvm, 6.0 MiB at byte 1048576"),
            "{first}"
        );
        let second = plans[1].as_ref().unwrap();
        assert!(
            second.contains("says already; it is not written"),
            "{second}"
        );
    }

    #[test]
    fn a_layout_that_does_not_fit_ends_before_the_first_write() {
        let plans = twice(
            "version = 1\ntable = \"mbr\"\n[[partition]]\ntype = \"linux\"\nsize = \"1GiB\"\n",
        );
        for plan in plans {
            let error = format!("{:#}", plan.unwrap_err());
            assert!(error.contains("there is room from"), "{error}");
        }
    }
}
