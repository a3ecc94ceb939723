//! `backup` and `backup-again`: disks into images.
//!
//! Every image is written whole as `X.new` before any name changes, so that the images of a machine with
//! several disks are of one run, and then [takes its name](names). A crash at any point leaves the old image
//! whole, as `X` or as `X.old`. A failure removes each `X.new` that this run has made, unless another backup has taken over:
//! then they are that one's.

mod names;
mod stage;

use super::images::Images;
use super::owner::{self, Owners};
use super::{Prepared, Work};
use crate::plan::matching::is_of;
use crate::plan::{Capture, ENCRYPTED_SUFFIX, Existing, IMAGE_SUFFIX, Plan, SUFFIXES};
use pitstop_imaging::image::ImageMeta;
use pitstop_imaging::inventory::{Disk, Inventory};
use pitstop_protocol::job::BackupOptions;
use pitstop_transport::share::TakenOver;
use stage::{new_path, stage_again};

pub(super) fn plan(work: &mut Work<'_>, options: &BackupOptions) -> anyhow::Result<Prepared> {
    let suffix = match options.recipients {
        Some(_) => ENCRYPTED_SUFFIX,
        None => IMAGE_SUFFIX,
    };
    let (inventory, selection) = work.select(false)?;
    let owners = Owners::read(work, &inventory)?;
    let existing = selection
        .disks
        .iter()
        .map(|disk| existing_images(work, &owners, &inventory, disk, suffix))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let done = existing.iter().all(|existing| existing.own);
    let plan = if done {
        Plan::done_already(work.heading(), selection)
    } else {
        Plan::capture(work.heading(), selection, suffix, &existing)?
    };
    Ok(Prepared {
        plan,
        images: Images::default(),
        tree: None,
        ahead: None,
        done,
    })
}

/// Which files of the folder are already images of a disk of this name, of which this job makes one that ends in `own`.
fn existing_images(
    work: &Work<'_>,
    owners: &Owners,
    inventory: &Inventory,
    disk: &Disk,
    own: &str,
) -> anyhow::Result<Existing> {
    let mut existing = Existing::default();
    for suffix in SUFFIXES {
        let file = format!("{}{suffix}", disk.identity.device);
        if work.share.stat(&work.image_path(&file))?.is_none() {
            continue;
        }
        let meta = owner::told_by(work, &file)?;
        if suffix == own && is_own(work, inventory, meta.as_ref()) {
            existing.own = true;
            continue;
        }
        owner::check_replaced(work, owners, inventory, &file, meta.as_ref())?;
        existing.before.push(file);
    }
    Ok(existing)
}

/// Whether an earlier try of this job has made the image, of a disk that is here.
fn is_own(work: &Work<'_>, inventory: &Inventory, meta: Option<&ImageMeta>) -> bool {
    let of_request = |meta: &&ImageMeta| {
        let begun = work.request.filter(|request| request.was_begun);
        let origin = meta.origin.as_ref();
        begun.is_some_and(|it| origin.is_some_and(|origin| origin.request == it.id))
    };
    let here = |meta: &ImageMeta| {
        let mut disks = inventory.disks.iter();
        disks.any(|disk| is_of(&meta.disk, &disk.identity))
    };
    meta.filter(of_request).is_some_and(here)
}

pub(super) fn run(
    work: &Work<'_>,
    captures: &[Capture],
    options: &BackupOptions,
) -> anyhow::Result<()> {
    let mut staged: Vec<ImageMeta> = Vec::new();
    let outcome = (1..)
        .zip(captures)
        .try_for_each(|(number, capture)| {
            staged.push(stage_again(work, number, capture, options)?);
            Ok(())
        })
        .and_then(|()| work.check_none_late())
        .and_then(|()| names::put_in_place(work, captures, &staged, options));
    let Err(mut error) = outcome else {
        return Ok(());
    };
    if TakenOver::behind(&error).is_some() {
        return Err(error);
    }
    // What this run has not come to may be another's.
    for capture in captures.iter().take(staged.len() + 1) {
        let path = new_path(work, capture);
        if let Err(left) = work.share.remove(&path) {
            error = anyhow::anyhow!("{error:#}; and {path} could not be removed: {left:#}");
        }
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::stage::CAPTURES;
    use super::*;
    use crate::execute::broken::{self, BrokenShare};
    use crate::execute::log::RunLog;
    use crate::execute::record;
    use crate::execute::wait::Watch;
    use pitstop_imaging::event::Silent;
    use pitstop_imaging::inventory::fake::{FakeDisk, FakeMachine};
    use pitstop_protocol::fake::lease;
    use pitstop_protocol::image_version::{self, Version};
    use pitstop_protocol::job::Action;
    use pitstop_transport::fetch::fake::{FakeServer, Fault, patient};
    use pitstop_transport::share::{HttpShare, Share};
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
            self.act(Action::BackupAgain(BackupOptions::default()), share)
        }

        fn act(&self, action: Action, share: &dyn Share) -> anyhow::Result<()> {
            let machine = self.fake.machine();
            let options = match &action {
                Action::Backup(options) | Action::BackupAgain(options) => options.clone(),
                other => panic!("{other} is no backup"),
            };
            let job = broken::job(action, "m");
            let mut work = Work {
                machine: &machine,
                lease: &lease(),
                job: &job,
                share,
                request: None,
                log: &RunLog::new(Arc::new(Silent), "10.0.2.15".into()),
                watch: &mut Watch::new(&machine, Duration::ZERO),
            };
            let prepared = plan(&mut work, &options)?;
            let crate::plan::Steps::Capture(captures) = &prepared.plan.steps else {
                panic!("a backup captures");
            };
            run(&work, captures, &options)
        }

        fn files(&self) -> Vec<String> {
            pitstop_imaging::inventory::names(&self.at("m")).unwrap()
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
    fn whoever_is_taken_over_leaves_what_is_the_others() {
        let bench = Bench::new();
        bench.fake.add_with(
            &FakeDisk::new("sdb", 2 << 20).serial("B"),
            &vec![7; 2 * MIB],
        );
        let mut share = BrokenShare::at(bench.root.path());
        share.taken_over = Some("m/sdb.raw.gz.new".into());
        let error = bench.back_up(&share).unwrap_err();
        assert!(TakenOver::behind(&error).is_some(), "{error:#}");
        bench.old_image_is_whole("m/sda.raw.gz");
        let whole = ["sda.raw.gz", "sda.raw.gz.new", "sda.raw.gz.toml"];
        assert_eq!(bench.files(), whole);
        // Who fails for anything else leaves alone what he has not come to.
        fs::write(bench.at("m/sdb.raw.gz.new"), "another's").unwrap();
        share.room = Some(MIB);
        bench.back_up(&share).unwrap_err();
        assert_eq!(
            bench.files(),
            ["sda.raw.gz", "sda.raw.gz.toml", "sdb.raw.gz.new"]
        );
    }

    #[test]
    fn an_upload_that_no_server_takes_up_again_begins_anew_a_few_times() {
        let bench = Bench::new();
        let server = FakeServer::start();
        let share = HttpShare::new(&server.url("/share/"), &patient());
        let put = "PUT /share/m/sda.raw.gz.new.part";
        for _ in 1..CAPTURES {
            server.fail(put, Fault::HangUp(MIB));
        }
        bench.back_up(&share).unwrap();
        assert_eq!(
            server.names(),
            ["/share/m/sda.raw.gz", "/share/m/sda.raw.gz.toml"]
        );
        for _ in 0..CAPTURES {
            server.fail(put, Fault::HangUp(MIB));
        }
        let error = format!("{:#}", bench.back_up(&share).unwrap_err());
        assert!(error.contains("closed the connection"), "{error}");
        // A refusal is an answer: nothing is gained by asking again.
        let before = server.log().len();
        server.fail(put, Fault::Status(507));
        bench.back_up(&share).unwrap_err();
        let puts = server.log()[before..]
            .iter()
            .filter(|line| *line == put)
            .count();
        assert_eq!(puts, 1);
    }

    #[test]
    fn an_image_that_the_share_does_not_give_is_not_replaced_unseen() {
        let bench = Bench::new();
        let mut share = BrokenShare::at(bench.root.path());
        for unread in ["m/sda.raw.gz", "m/sda.raw.gz.toml"] {
            share.unread = Some(unread.into());
            let error = format!("{:#}", bench.back_up(&share).unwrap_err());
            assert!(error.contains(unread), "{error}");
            assert!(error.contains("500 Internal Server Error"), "{error}");
            bench.old_image_is_whole("m/sda.raw.gz");
            assert_eq!(bench.files(), ["sda.raw.gz", "sda.raw.gz.toml"]);
        }
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
    fn an_image_that_cannot_be_kept_keeps_its_description() {
        let bench = Bench::new();
        let mut share = BrokenShare::at(bench.root.path());
        share.rename_from = Some("m/sda.raw.gz".into());
        let error = format!("{:#}", bench.back_up(&share).unwrap_err());
        assert!(
            error.contains("keeping m/sda.raw.gz as m/sda.raw.gz.old"),
            "{error}"
        );
        bench.old_image_is_whole("m/sda.raw.gz");
        assert_eq!(bench.files(), ["sda.raw.gz", "sda.raw.gz.toml"]);
    }

    #[test]
    fn a_disk_that_appears_during_a_backup_fails_it_before_any_image_takes_its_name() {
        let bench = Bench::new();
        let share = BrokenShare::at(bench.root.path());
        let machine = bench.fake.machine();
        let job = broken::job(Action::BackupAgain(BackupOptions::default()), "m");
        let mut work = Work {
            machine: &machine,
            lease: &lease(),
            job: &job,
            share: &share,
            request: None,
            log: &RunLog::new(Arc::new(Silent), "10.0.2.15".into()),
            watch: &mut Watch::new(&machine, Duration::ZERO),
        };
        let prepared = plan(&mut work, &BackupOptions::default()).unwrap();
        let crate::plan::Steps::Capture(captures) = &prepared.plan.steps else {
            panic!("a backup captures");
        };
        bench.fake.add(&FakeDisk::new("sdb", 4096).serial("LATE"));
        let error = run(&work, captures, &BackupOptions::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("sdb (serial LATE, 4.0 KiB) appeared"),
            "{error}"
        );
        let known = record::read(&share, &lease().folder()).unwrap();
        assert!(known.disks.iter().any(|disk| disk.serial == "LATE"));
        bench.old_image_is_whole("m/sda.raw.gz");
        assert_eq!(bench.files(), ["sda.raw.gz", "sda.raw.gz.toml"]);
    }

    #[test]
    fn images_of_several_disks_take_their_names_together_or_not_at_all() {
        let bench = Bench::new();
        bench.fake.add_with(
            &FakeDisk::new("sdb", 2 << 20).serial("B"),
            &vec![7; 2 * MIB],
        );
        let mut share = BrokenShare::at(bench.root.path());
        share.rename_from = Some("m/sdb.raw.gz.new".into());
        let error = format!("{:#}", bench.back_up(&share).unwrap_err());
        assert!(error.contains("renaming m/sdb.raw.gz.new"), "{error}");
        bench.old_image_is_whole("m/sda.raw.gz");
        assert_eq!(bench.files(), ["sda.raw.gz", "sda.raw.gz.toml"]);

        // A first backup leaves nothing that the next one would refuse to replace.
        for file in ["m/sda.raw.gz", "m/sda.raw.gz.toml"] {
            fs::remove_file(bench.at(file)).unwrap();
        }
        bench
            .act(Action::Backup(BackupOptions::default()), &share)
            .unwrap_err();
        assert_eq!(bench.files(), [""; 0]);
        share.rename_from = None;
        bench
            .act(Action::Backup(BackupOptions::default()), &share)
            .unwrap();
        assert_eq!(
            bench.files(),
            [
                "sda.raw.gz",
                "sda.raw.gz.toml",
                "sdb.raw.gz",
                "sdb.raw.gz.toml"
            ]
        );
    }

    #[test]
    fn images_before_the_one_before_are_kept_by_their_time() {
        let bench = Bench::new();
        let versions = || {
            Action::BackupAgain(BackupOptions {
                versions: true,
                ..BackupOptions::default()
            })
        };
        let share = BrokenShare::at(bench.root.path());
        // The first has a description that tells no time.
        for _ in 0..4 {
            bench.act(versions(), &share).unwrap();
        }
        let files = bench.files();
        let dated: Vec<&String> = files
            .iter()
            .filter(|file| matches!(image_version::split(file).1, Version::Dated(_)))
            .collect();
        assert_eq!(dated.len(), 3, "{files:?}");
        for image in &dated {
            assert!(files.contains(&format!("{image}.toml")), "{files:?}");
        }
        let first = dated.iter().find(|image| {
            let bytes = fs::read(bench.at(&format!("m/{image}"))).unwrap();
            bytes == b"the image before"
        });
        bench.old_image_is_whole(&format!("m/{}", first.unwrap()));
        assert_eq!(files.len(), 10, "{files:?}");
        // Without the key the one before takes the place of the one before that.
        bench.back_up(&share).unwrap();
        assert_eq!(bench.files(), files);
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
