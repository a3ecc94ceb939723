//! A machine whose root is on Btrfs.

use super::common::run;
use super::update_common::Case;
use pitstop_deploy::disk::apart;
use pitstop_deploy::root::Root;
use pitstop_deploy::update::snapshot::{self, Runs};
use pitstop_deploy::update::{Update, Updated, plan};
use pitstop_deploy::wishes::{Changes, Check, Strangers};
use pitstop_imaging::event::{Event, Reporter, Silent};
use pitstop_imaging::image::FileSource;
use pitstop_trees::TreeImage;
use pitstop_trees::btrfs::SNAPSHOTS;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

pub const FSTAB: &str = "LABEL=x / btrfs subvol=@ 0 0\n";

/// A machine whose root is `@`, the default subvolume, and two trees.
pub struct Lab {
    pub case: Case,
    pub device: String,
    _folder: tempfile::TempDir,
}

impl Lab {
    pub fn new(fstab: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("disk");
        File::create(&file).unwrap().set_len(256 << 20).unwrap();
        run(Command::new("mkfs.btrfs").arg("-q").arg(&file));
        let shown = run(Command::new("losetup").args(["-f", "--show"]).arg(&file));
        let device = String::from_utf8(shown.stdout).unwrap().trim().to_owned();
        let case = Case::new(fs::canonicalize(folder.path()).unwrap().join("case"));
        let lab = Self {
            case,
            device,
            _folder: folder,
        };
        for name in ["top", "machine"] {
            fs::create_dir(lab.at(name)).unwrap();
        }
        lab.mount("subvolid=5", "top");
        lab.subvolume(&["create"], &["top/@"]);
        run(Command::new("btrfs")
            .args(["subvolume", "set-default"])
            .arg(lab.at("top/@")));
        lab.mount("subvol=@", "machine");
        for tree in ["a", "b"] {
            for folder in ["etc", "usr", "boot", "var/lib"] {
                fs::create_dir_all(lab.at(tree).join(folder)).unwrap();
            }
            fs::write(lab.at(tree).join("etc/fstab"), fstab).unwrap();
            fs::write(lab.at(tree).join("usr/file"), tree).unwrap();
        }
        fs::write(lab.at("a/usr/gone"), "a").unwrap();
        lab.case.deploy();
        fs::write(lab.at("machine/etc/mine"), "mine").unwrap();
        lab
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.case.at(path)
    }

    pub fn root(&self) -> Root {
        self.case.root()
    }

    pub fn mount(&self, options: &str, at: &str) {
        run(Command::new("mount")
            .args(["-o", options, &self.device])
            .arg(self.at(at)));
    }

    pub fn subvolume(&self, act: &[&str], paths: &[&str]) {
        let paths = paths.iter().map(|path| self.at(path));
        run(Command::new("btrfs")
            .args(["-q", "subvolume"])
            .args(act)
            .args(paths));
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_default()
    }

    /// The number of a subvolume, and of the one that is mounted where none is named.
    pub fn id(&self, path: &str) -> String {
        let shown = run(Command::new("btrfs")
            .args(["inspect-internal", "rootid"])
            .arg(self.at(path)));
        String::from_utf8(shown.stdout).unwrap().trim().to_owned()
    }

    pub fn default_id(&self) -> String {
        let shown = run(Command::new("btrfs")
            .args(["subvolume", "get-default"])
            .arg(self.at("top")));
        let text = String::from_utf8(shown.stdout).unwrap();
        text.split_whitespace().nth(1).unwrap().to_owned()
    }

    pub fn snapshots(&self) -> Vec<String> {
        let Ok(found) = fs::read_dir(self.at("top").join(SNAPSHOTS)) else {
            return Vec::new();
        };
        let names = found.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// Updates to a tree, and does more in the place of the update.
    pub fn update_and(
        &self,
        tree: &str,
        runs: Runs,
        reporter: &dyn Reporter,
        more: impl FnOnce(&Path) -> anyhow::Result<()> + Send,
    ) -> anyhow::Result<(Updated, Option<String>)> {
        let image = self.at(&format!("{tree}.tar.gz"));
        let root = self.root();
        apart(|| {
            snapshot::within(&root, runs, reporter, |place| {
                let source = FileSource::open(&image)?;
                let image = TreeImage::open(&source)?;
                let plan = plan(&Update {
                    image: &image,
                    root: place.root(),
                    changes: Changes::Keep,
                    strangers: Strangers::Keep,
                    check: Check::Quick,
                    local: Vec::new(),
                    exclude: Vec::new(),
                    threads: 2,
                })?;
                let done = plan.run_in(place, reporter)?;
                more(place.root().path())?;
                Ok(done)
            })
        })
    }

    pub fn update(&self, tree: &str) -> Option<String> {
        let done = self.update_and(tree, Runs::No, &Silent, |_| Ok(()));
        let swapped = done.unwrap().1;
        if let Some(path) = &swapped {
            snapshot::refresh(&self.at("machine"), path).unwrap();
        }
        swapped
    }

    pub fn roll_back(&self) -> String {
        let root = self.root();
        let restored = apart(|| snapshot::rollback(&root, &Silent)).unwrap();
        snapshot::refresh(&self.at("machine"), &restored.path).unwrap();
        restored.path
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for at in ["machine", "top"] {
            let _ = Command::new("umount").arg("-l").arg(self.at(at)).status();
        }
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
    }
}

#[derive(Default)]
pub struct Told(pub Mutex<String>);

impl Reporter for Told {
    fn event(&self, event: &Event) {
        if let Event::Message { text, .. } = event {
            let mut told = self.0.lock().unwrap();
            told.push_str(text);
            told.push('\n');
        }
    }
}
