//! Trees from and to machines of loop devices, through a folder as share.

use super::*;
use crate::execute::broken;
use crate::execute::log::RunLog;
use crate::execute::wait::Watch;
use crate::run::signed::Signer;
use crate::system::fake::{LoopDisk, Part, plant};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::{FileSource, Level};
use pitstop_imaging::inventory::fake::FakeMachine;
use pitstop_imaging::wishes::{Changes, Check, Identity, Initrd, Strangers};
use pitstop_protocol::fake::lease;
use pitstop_protocol::job::{CaptureOptions, ImageProof, Job, UpdateOptions};
use pitstop_transport::share::{DirectoryShare, Share};
use pitstop_trees::{Excludes, Packing};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// A machine and a share.
pub(in crate::execute::tree) struct Bench {
    pub(in crate::execute::tree) root: tempfile::TempDir,
    pub(in crate::execute::tree) fake: FakeMachine,
}

impl Bench {
    pub(in crate::execute::tree) fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
            fake: FakeMachine::new(),
        }
    }

    pub(in crate::execute::tree) fn share(&self) -> DirectoryShare {
        DirectoryShare::open(self.root.path()).unwrap()
    }

    /// Calls `act` with what an action has.
    pub(in crate::execute::tree) fn with<T>(
        &self,
        job: &Job,
        act: impl FnOnce(&mut Work<'_>) -> T,
    ) -> T {
        self.with_share(job, &self.share(), Arc::new(Silent), act)
    }

    /// The same with another share, and what is said.
    pub(in crate::execute::tree) fn with_share<T>(
        &self,
        job: &Job,
        share: &dyn Share,
        reporter: Arc<dyn Reporter>,
        act: impl FnOnce(&mut Work<'_>) -> T,
    ) -> T {
        let machine = self.fake.machine();
        let mut work = Work {
            machine: &machine,
            lease: &lease(),
            job,
            share,
            request: None,
            log: &RunLog::new(reporter, "10.0.2.15".into()),
            watch: &mut Watch::new(&machine, Duration::ZERO),
        };
        act(&mut work)
    }

    /// Plans the action and does it. Returns what the plan said.
    fn done(&self, action: Action) -> anyhow::Result<String> {
        let job = broken::job(action, "m");
        self.with(&job, |work| {
            let prepared = work.plan()?;
            work.walk(&prepared, &|| {})?;
            Ok(prepared.plan.to_string())
        })
    }

    /// Adds a version of `web` with these files.
    pub(in crate::execute::tree) fn add(&self, version: &str, files: &[(&str, &str)]) {
        let folder = tempfile::tempdir().unwrap();
        plant(folder.path(), files);
        let share = self.share();
        let options = pitstop_trees::CaptureOptions {
            packing: Packing {
                level: Level::Fast,
                threads: 1,
            },
            excludes: Excludes::new(&[]).unwrap(),
            keep_identity: false,
            allow_changed: false,
            skipped: Vec::new(),
            meta: pitstop_trees::Meta {
                name: "web".into(),
                version: version.into(),
                ..pitstop_trees::Meta::default()
            },
        };
        trees::add(&share, "web", version, trees::Form::Plain, |out| {
            pitstop_trees::capture(folder.path(), &options, out, &Silent)?.to_toml()
        })
        .unwrap();
    }

    /// The paths of the current version of `web`.
    fn paths(&self) -> Vec<String> {
        let found = trees::find(&self.share(), &"web".parse().unwrap()).unwrap();
        let source = FileSource::open(&self.root.path().join(found)).unwrap();
        let image = TreeImage::open(&source).unwrap();
        let paths = image.index.entries().map(|entry| entry.path.to_string());
        paths.collect()
    }
}

const SYSTEM: &[(&str, &str)] = &[
    ("etc/os-release", "PRETTY_NAME=\"Testix 1\"\n"),
    ("etc/fstab", "LABEL=root / ext4 defaults 0 1\n"),
    ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    ("etc/ssh/ssh_host_rsa_key", "secret"),
    ("etc/motd", "old\n"),
    ("srv/big", "data"),
];

fn system() -> [Part<'static>; 1] {
    [Part {
        size: 16 * MIB,
        filesystem: "ext4",
        label: "root",
        files: SYSTEM,
    }]
}

fn captured(version: Option<&str>) -> Action {
    Action::Capture(CaptureOptions {
        name: "web".into(),
        version: version.map(str::to_owned),
        level: Level::Fast,
        exclude: vec!["/srv/*".into()],
        luks_key: None,
        identity: Identity::New,
        recipients: None,
    })
}

/// A version for whom the job names, which age itself reads, and which nothing takes the place of.
fn encrypts_a_version(bench: &Bench) {
    // Made by age-keygen.
    let secret = "AGE-SECRET-KEY-12NF5JKY0XRZGR2T78WTTK7F32G60DJQPPCMG5J5XXZXX3NUGJ0ESL0GGRD";
    let public = "age128886l35gund023wy4keuzws9ckzy9jccm3st4a2vwwp3vfqf33s2m45wg";
    let mut encrypted = captured(Some("2"));
    if let Action::Capture(options) = &mut encrypted {
        options.recipients = Some(pitstop_age::Recipients::parse(public).unwrap());
    }
    bench.done(encrypted).unwrap();
    let image = bench.root.path().join("trees/web/2.tar.gz.age");
    let key = bench.root.path().join("key");
    fs::write(&key, secret).unwrap();
    let mut age = std::process::Command::new("age");
    let packed = age.arg("-d").arg("-i").arg(&key).arg(&image).output();
    let packed = packed.expect("the package age is installed").stdout;
    fs::write(&image, packed).unwrap();
    let mut tar = std::process::Command::new("tar");
    let listed = tar.arg("-tzf").arg(&image).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains("etc/motd") && !listed.contains("srv/big"),
        "{listed}"
    );
    let again = format!("{:#}", bench.done(captured(Some("2"))).unwrap_err());
    assert!(again.contains("versions are never replaced"), "{again}");
}

#[test]
fn the_system_of_a_disk_becomes_a_version_and_none_is_ever_replaced() {
    let bench = Bench::new();
    let disk = LoopDisk::add(&bench.fake, "sda", &system());
    let before = fs::read(&disk.file).unwrap();
    let plan = bench.done(captured(Some("1"))).unwrap();
    assert!(
        plan.contains("\n  tree web@1\n    read Testix 1; the disks are not written"),
        "{plan}"
    );
    assert!(
        fs::read(&disk.file).unwrap() == before,
        "the disk is as it was"
    );
    let paths = bench.paths();
    for (path, there) in [
        ("/etc/os-release", true),
        ("/etc/machine-id", true),
        ("/etc/ssh/ssh_host_rsa_key", false),
        ("/srv", true),
        ("/srv/big", false),
    ] {
        assert_eq!(
            paths.iter().any(|it| it == path),
            there,
            "{path}: {paths:?}"
        );
    }
    let about = fs::read_to_string(bench.root.path().join("trees/web/1.toml")).unwrap();
    let about = pitstop_trees::Meta::from_toml(&about).unwrap();
    assert_eq!(about.consistency, pitstop_trees::Consistency::Offline);
    assert_eq!((about.name.as_str(), about.version.as_str()), ("web", "1"));
    let error = format!("{:#}", bench.done(captured(Some("1"))).unwrap_err());
    assert!(error.contains("versions are never replaced"), "{error}");
    encrypts_a_version(&bench);
    // Without a version it is the time's.
    bench.done(captured(None)).unwrap();
    let current = fs::read_to_string(bench.root.path().join("trees/web/current")).unwrap();
    assert!(
        current.starts_with("20") && current.trim().ends_with('Z'),
        "{current}"
    );
}

#[test]
fn a_system_is_brought_up_to_date_with_files_by_layer() {
    let bench = Bench::new();
    let _disk = LoopDisk::add(&bench.fake, "sda", &system());
    bench.add(
        "2",
        &[
            ("etc/os-release", "PRETTY_NAME=\"Testix 2\"\n"),
            ("etc/motd", "new\n"),
            ("usr/bin/tool", "tool"),
        ],
    );
    plant(bench.root.path(), &[("layers/base/etc/issue", "lab\n")]);
    let update = |overrides: &[&str]| {
        Action::Update(Box::new(UpdateOptions {
            tree: "web".parse().unwrap(),
            changes: Changes::Replace,
            strangers: Strangers::Keep,
            check: Check::Full,
            local: vec!["/srv/**".into()],
            exclude: Vec::new(),
            overrides: overrides.iter().map(|it| (*it).to_owned()).collect(),
            hooks: Vec::new(),
            secrets: None,
            initrd: Initrd::Keep,
        }))
    };
    let error = format!("{:#}", bench.done(update(&["layers/none"])).unwrap_err());
    assert!(
        error.starts_with("there is no folder layers/none"),
        "{error}"
    );
    let plan = bench.done(update(&["layers/base"])).unwrap();
    assert!(plan.contains("tree web@2"), "{plan}");
    assert!(plan.contains("bring Testix 1 up to date with it"), "{plan}");
    assert!(plan.contains("over it: layers/base"), "{plan}");
    let disks = pitstop_imaging::inventory::read(&bench.fake.machine())
        .unwrap()
        .disks;
    let machine = bench.fake.machine();
    let access = crate::system::Access::Read;
    let system = crate::system::mount(&machine, &disks, &disks, access, &Silent).unwrap();
    let text = |path: &str| fs::read_to_string(system.root().join(path)).unwrap_or_default();
    assert_eq!(system.name, "Testix 2");
    assert_eq!(text("etc/motd"), "new\n");
    assert_eq!(text("usr/bin/tool"), "tool");
    assert_eq!(text("etc/issue"), "lab\n");
    assert_eq!(text("srv/big"), "data");
    assert_eq!(
        text("etc/ssh/ssh_host_rsa_key"),
        "secret",
        "it stays itself"
    );
}

#[test]
fn a_tree_that_has_to_be_signed_is_refused_without_or_under_another_name() {
    let bench = Bench::new();
    bench.add("1", &[("sbin/init", "old")]);
    bench.add("2", &[("sbin/init", "new")]);
    let at = |path: &str| bench.root.path().join("trees").join(path);
    let admin = Signer::new();
    let opened = |name: &str| {
        let mut job = broken::job(Action::RefreshInfo, "m");
        job.terms.images = ImageProof::By(admin.keys());
        bench.with(&job, |work| {
            Opened::open(work, &name.parse().unwrap()).map(drop)
        })
    };
    let refused = |name: &str, why: &str| {
        let error = format!("{:#}", opened(name).unwrap_err());
        assert!(error.contains(why), "{name}: {error}");
    };
    refused(
        "web",
        "trees/web/2.toml is not signed: there is no trees/web/2.toml.minisig",
    );
    Signer::new().sign(&at("web/2.toml"));
    refused("web", "trees/web/2.toml: it is signed with another key");
    admin.sign(&at("web/1.toml"));
    admin.sign(&at("web/2.toml"));
    opened("web").unwrap();
    opened("web@1").unwrap();

    // All of an old version, signature included, under the name of the new one; and of another tree.
    fs::create_dir(at("db")).unwrap();
    for end in [".tar.gz", ".toml", ".toml.minisig"] {
        for to in ["web/2", "db/1"] {
            fs::copy(at(&format!("web/1{end}")), at(&format!("{to}{end}"))).unwrap();
        }
    }
    refused(
        "web",
        "it is of the tree \"web\", version \"1\", and web@2 is wanted",
    );
    refused("db@1", "and db@1 is wanted");
    // The image alone is another.
    bench.add("3", &[("sbin/init", "evil")]);
    fs::copy(at("web/3.tar.gz"), at("web/1.tar.gz")).unwrap();
    refused("web@1", "trees/web/1.toml: it is of another image");
    // The text is no longer what was signed.
    let text = fs::read_to_string(at("web/3.toml")).unwrap();
    fs::write(at("web/1.toml"), text).unwrap();
    refused("web@1", "was changed after signing");
}

#[test]
fn a_tree_that_is_encrypted_is_passed_on_to_nobody() {
    let bench = Bench::new();
    bench.add("1", &[("sbin/init", "x")]);
    let told = |how: Distribute, at: At| {
        let mut job = broken::job(Action::RefreshInfo, "m");
        job.transfer.distribute = how;
        bench.with(&job, |work| {
            let opened = Opened::open(work, &"web".parse().unwrap()).unwrap();
            Opened { at, ..opened }.distribute(work)
        })
    };
    let http = || HttpClient::new(Settings::default()).unwrap();
    let url = |file: &str| Url::parse(&format!("http://srv:8080/x/{file}?v=1")).unwrap();
    let share = |file: &str| At::Share(format!("trees/web/{file}"));
    let plain = told(Distribute::Swarm, share("1.tar.gz")).unwrap();
    assert_eq!(plain, Distribute::Swarm);
    for is_url in [false, true] {
        let locked = || {
            if is_url {
                At::Elsewhere(http(), url("web.tar.gz.age"))
            } else {
                share("1.tar.gz.age")
            }
        };
        assert_eq!(told(Distribute::Auto, locked()).unwrap(), Distribute::Off);
        let error = told(Distribute::Swarm, locked()).unwrap_err().to_string();
        assert!(
            error.contains("would hand what is in it to other machines"),
            "{error}"
        );
    }
}

#[test]
fn a_tree_that_is_not_the_jobs_is_refused_before_a_disk_is_looked_at() {
    let bench = Bench::new();
    bench.add("1", &[("sbin/init", "x")]);
    let opened = |digests: &[(&str, Digest)], name: &str| {
        let mut job = broken::job(Action::RefreshInfo, "m");
        job.terms.digests = digests
            .iter()
            .map(|(name, digest)| ((*name).to_owned(), *digest))
            .collect();
        bench.with(&job, |work| {
            let opened = Opened::open(work, &name.parse().unwrap());
            opened.map(|it| Digest(it.image.digest()))
        })
    };
    let right = opened(&[], "web").unwrap();
    assert_eq!(opened(&[("web", right)], "web").unwrap(), right);
    let error = format!(
        "{:#}",
        opened(&[("web", Digest([7; 32]))], "web").unwrap_err()
    );
    assert!(
        error.contains("web is not what the job was made for"),
        "{error}"
    );
    let error = format!("{:#}", opened(&[("sda.raw.gz", right)], "web").unwrap_err());
    assert!(error.contains("digests do not name web"), "{error}");
    let error = format!("{:#}", opened(&[], "none").unwrap_err());
    assert!(error.starts_with("there is no tree none"), "{error}");
    assert!(Path::new(&bench.root.path().join("trees/web/1.tar.gz")).exists());
}
