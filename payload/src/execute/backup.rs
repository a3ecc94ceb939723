//! `backup` and `backup-again`: disks into images.
//!
//! Every image is written whole as `X.new` before any name changes, so that the images of a machine with
//! several disks are of one run. Then, for each: `X.toml` becomes `X.old.toml`, `X` becomes `X.old`,
//! `X.new` becomes `X`, and `X.toml` is written. A crash at any point leaves the old image whole, as
//! `X` or as `X.old`; what `X.toml` says is inside the image too. A failure removes each `X.new`.

use super::attempts::put;
use super::{Labelled, Prepared, Work, listed_disks};
use crate::event::Reporter;
use crate::image::{self, CaptureOptions, ImageMeta};
use crate::inventory::Disk;
use crate::job::{self, Action};
use crate::plan::select::select;
use crate::plan::{Capture, IMAGE_SUFFIX, OTHER_SUFFIXES, Plan};
use anyhow::{Context, bail};

pub(super) fn plan(work: &mut Work<'_>) -> anyhow::Result<Prepared> {
    let listed = listed_disks(work)?;
    let job = work.job;
    let (_, selection) = work.watch.wait_for(work.machine, |inventory| {
        select(inventory, &job.disks, listed.as_deref(), false)
    })?;
    let existing = selection
        .disks
        .iter()
        .map(|disk| existing_images(work, disk))
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Prepared {
        plan: Plan::capture(work.heading(), selection, &existing)?,
        images: Vec::new(),
    })
}

/// Which files of the folder are already images of a disk of this name.
fn existing_images(work: &Work<'_>, disk: &Disk) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for suffix in [IMAGE_SUFFIX].iter().chain(&OTHER_SUFFIXES) {
        let file = format!("{}{suffix}", disk.identity.device);
        if work.share.stat(&work.image_path(&file))?.is_some() {
            found.push(file);
        }
    }
    Ok(found)
}

pub(super) fn run(work: &Work<'_>, captures: &[Capture]) -> anyhow::Result<()> {
    let mut staged: Vec<ImageMeta> = Vec::new();
    let outcome = captures
        .iter()
        .try_for_each(|capture| {
            staged.push(stage(work, capture)?);
            Ok(())
        })
        .and_then(|()| {
            captures
                .iter()
                .zip(&staged)
                .try_for_each(|(capture, meta)| put_in_place(work, capture, meta))
        });
    let Err(mut error) = outcome else {
        return Ok(());
    };
    for capture in captures {
        let path = new_path(work, capture);
        if let Err(left) = work.share.remove(&path) {
            error = anyhow::anyhow!("{error:#}; and {path} could not be removed: {left:#}");
        }
    }
    Err(error)
}

fn new_path(work: &Work<'_>, capture: &Capture) -> String {
    format!("{}.new", work.image_path(&capture.file))
}

/// Reads the disk into `X.new`, whole and proven to be on the share.
fn stage(work: &Work<'_>, capture: &Capture) -> anyhow::Result<ImageMeta> {
    let disk = &capture.disk;
    let path = new_path(work, capture);
    let options = CaptureOptions {
        exact: work.job.exact,
        level: match work.job.level {
            job::Level::Fast => image::Level::Fast,
            job::Level::Small => image::Level::Small,
        },
        threads: 0,
        read_errors: match work.job.read_errors {
            job::ReadErrors::Fail => image::ReadErrors::Fail,
            job::ReadErrors::Record => image::ReadErrors::Record,
        },
    };
    let reporter = Labelled::new(work.log, disk);
    let mut image = work
        .share
        .create(&path)
        .with_context(|| format!("beginning {path} on {}", work.share.name()))?;
    let meta = image::capture(
        &disk.node(&work.machine.dev),
        &disk.identity,
        &options,
        &mut image,
        &reporter,
    )
    .with_context(|| format!("backing up {disk} to {path} on {}", work.share.name()))?;
    image
        .finish()
        .with_context(|| format!("ending {path} on {}", work.share.name()))?;
    Ok(meta)
}

/// Gives the new image its name; the one before it becomes `.old`.
fn put_in_place(work: &Work<'_>, capture: &Capture, meta: &ImageMeta) -> anyhow::Result<()> {
    let share = work.share;
    let path = work.image_path(&capture.file);
    if work.job.action == Action::Backup && share.stat(&path)?.is_some() {
        bail!(
            "{path} has appeared on {} during the backup: it is kept",
            share.name()
        );
    }
    for old in &capture.replaces {
        keep_as_old(work, old)?;
    }
    let new = new_path(work, capture);
    if let Err(error) = share.rename(&new, &path) {
        let error = error.context(format!("renaming {new} to {path} on {}", share.name()));
        return Err(match put_back(work, capture) {
            Ok(()) => error,
            Err(stuck) => anyhow::anyhow!("{error:#}; and {stuck:#}"),
        });
    }
    let toml = meta.to_toml().context("describing the image in TOML")?;
    put(share, &format!("{path}.toml"), toml.as_bytes())?;
    work.log
        .info(format!("{} is whole and in place", capture.file));
    Ok(())
}

fn keep_as_old(work: &Work<'_>, old: &str) -> anyhow::Result<()> {
    let path = work.image_path(old);
    if work.share.stat(&path)?.is_none() {
        // Somebody took it away meanwhile: then `.old` is all that is left of the time before.
        return Ok(());
    }
    let (toml, old_toml) = (format!("{path}.toml"), format!("{path}.old.toml"));
    if work.share.stat(&toml)?.is_some() {
        rename_kept(work, &toml, &old_toml)?;
    } else {
        // A description of an even older image would be taken for this one's.
        work.share.remove(&old_toml)?;
    }
    rename_kept(work, &path, &format!("{path}.old"))
}

fn rename_kept(work: &Work<'_>, from: &str, to: &str) -> anyhow::Result<()> {
    work.share
        .rename(from, to)
        .with_context(|| format!("keeping {from} as {to} on {}", work.share.name()))
}

/// The new image did not get its name: the one before it gets its own back.
fn put_back(work: &Work<'_>, capture: &Capture) -> anyhow::Result<()> {
    for old in &capture.replaces {
        let path = work.image_path(old);
        for (from, to) in [
            (format!("{path}.old"), path.clone()),
            (format!("{path}.old.toml"), format!("{path}.toml")),
        ] {
            if work.share.stat(&from)?.is_some() {
                work.share
                    .rename(&from, &to)
                    .with_context(|| format!("{from} could not be named {to} again"))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Silent;
    use crate::execute::broken::{self, BrokenShare};
    use crate::execute::log::RunLog;
    use crate::execute::wait::Watch;
    use crate::inventory::fake::{FakeDisk, FakeMachine};
    use crate::share::Share;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::time::Duration;

    const MIB: usize = 1 << 20;

    struct Bench {
        root: tempfile::TempDir,
        fake: FakeMachine,
    }

    impl Bench {
        /// A machine with a disk, and its image from before with a description.
        fn new() -> Self {
            let bench = Self {
                root: tempfile::tempdir().unwrap(),
                fake: FakeMachine::new(),
            };
            let mut content = vec![0; 2 * MIB];
            blake3::Hasher::new().finalize_xof().fill(&mut content);
            bench
                .fake
                .add_with(&FakeDisk::new("sda", 2 << 20).serial("A"), &content);
            fs::create_dir(bench.root.path().join("m")).unwrap();
            fs::write(bench.at("m/sda.raw.gz"), "the image before").unwrap();
            fs::write(bench.at("m/sda.raw.gz.toml"), "what it is of").unwrap();
            bench
        }

        fn at(&self, path: &str) -> PathBuf {
            self.root.path().join(path)
        }

        fn back_up(&self, share: &dyn Share) -> anyhow::Result<()> {
            let machine = self.fake.machine();
            let job = broken::job(Action::BackupAgain, "m");
            let mut work = Work {
                machine: &machine,
                lease: &FakeMachine::lease(),
                job: &job,
                share,
                log: &RunLog::new(Arc::new(Silent), "10.0.2.15".into()),
                watch: &mut Watch::new(&machine, Duration::ZERO),
            };
            let prepared = plan(&mut work)?;
            let crate::plan::Steps::Capture(captures) = &prepared.plan.steps else {
                panic!("a backup captures");
            };
            run(&work, captures)
        }

        fn files(&self) -> Vec<String> {
            crate::inventory::names(&self.at("m")).unwrap()
        }

        fn old_image_is_whole(&self, at: &str) {
            assert_eq!(fs::read_to_string(self.at(at)).unwrap(), "the image before");
            let toml = Path::new(at).display().to_string() + ".toml";
            assert_eq!(fs::read_to_string(self.at(&toml)).unwrap(), "what it is of");
        }
    }

    #[test]
    fn a_share_that_fills_up_loses_nothing_and_keeps_nothing_half_made() {
        let bench = Bench::new();
        let mut share = BrokenShare::at(bench.root.path());
        share.room = Some(MIB);
        let error = format!("{:#}", bench.back_up(&share).unwrap_err());
        assert!(
            error.starts_with("backing up sda (serial A, 2.0 MiB) to m/sda.raw.gz.new"),
            "{error}"
        );
        assert!(error.contains("507 Insufficient Storage"), "{error}");
        bench.old_image_is_whole("m/sda.raw.gz");
        assert_eq!(bench.files(), ["sda.raw.gz", "sda.raw.gz.toml"]);
    }

    #[test]
    fn a_server_that_goes_away_does_not_hide_the_first_error() {
        let bench = Bench::new();
        let mut share = BrokenShare::at(bench.root.path());
        share.room = Some(MIB);
        share.gone_after = true;
        let error = format!("{:#}", bench.back_up(&share).unwrap_err());
        assert!(error.contains("507 Insufficient Storage"), "{error}");
        assert!(
            error.contains("m/sda.raw.gz.new could not be removed: the server is gone"),
            "{error}"
        );
        bench.old_image_is_whole("m/sda.raw.gz");
    }

    #[test]
    fn a_new_image_that_cannot_take_its_name_gives_the_old_one_its_own_back() {
        let bench = Bench::new();
        let mut share = BrokenShare::at(bench.root.path());
        share.rename_from = Some("m/sda.raw.gz.new".into());
        let error = format!("{:#}", bench.back_up(&share).unwrap_err());
        assert!(
            error.contains("renaming m/sda.raw.gz.new to m/sda.raw.gz"),
            "{error}"
        );
        assert!(error.contains("403 Forbidden"), "{error}");
        bench.old_image_is_whole("m/sda.raw.gz");
        assert_eq!(bench.files(), ["sda.raw.gz", "sda.raw.gz.toml"]);
    }

    #[test]
    fn the_image_before_is_kept_with_its_description() {
        let bench = Bench::new();
        bench.back_up(&BrokenShare::at(bench.root.path())).unwrap();
        bench.old_image_is_whole("m/sda.raw.gz.old");
        assert_eq!(
            bench.files(),
            [
                "sda.raw.gz",
                "sda.raw.gz.old",
                "sda.raw.gz.old.toml",
                "sda.raw.gz.toml"
            ]
        );
    }
}
