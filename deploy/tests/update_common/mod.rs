//! Two trees, and a machine that has the first one: made, edited, brought up to date, compared.

#![allow(dead_code, reason = "shared by several test programs")]

use super::common::{capture_to, entries, extract_to, options, run};
use pitstop_deploy::root::Root;
use pitstop_deploy::update::{Line, Record, Update, Updated, plan};
use pitstop_deploy::wishes::{Changes, Check, Strangers};
use pitstop_imaging::event::Silent;
use pitstop_imaging::image::FileSource;
use pitstop_trees::entry::{Attributes, Entry, Kind};
use pitstop_trees::{CaptureOptions, Excludes, TreeImage};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Gives a path this time of change, a symlink its own.
pub fn stamp(path: &Path, seconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: 5,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    pub changes: Changes,
    pub strangers: Strangers,
    pub check: Check,
}

/// A filesystem in a file, mounted.
pub struct Loop {
    pub path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Loop {
    pub fn new(kind: &str, size: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mnt");
        fs::create_dir(&path).unwrap();
        Self::made(kind, size, path, folder)
    }

    /// The same at a folder that is there.
    pub fn at(kind: &str, size: u64, path: PathBuf) -> Self {
        Self::made(kind, size, path, tempfile::tempdir().unwrap())
    }

    fn made(kind: &str, size: u64, path: PathBuf, folder: tempfile::TempDir) -> Self {
        let file = folder.path().join("disk");
        File::create(&file).unwrap().set_len(size).unwrap();
        let force = if kind == "ext4" { "-qF" } else { "-qf" };
        run(Command::new(format!("mkfs.{kind}")).arg(force).arg(&file));
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&file)
            .arg(&path));
        Self {
            path,
            _folder: folder,
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// Folders `a` and `b`, the images of them, and `machine`.
pub struct Case {
    pub folder: PathBuf,
}

impl Case {
    pub fn new(folder: PathBuf) -> Self {
        for name in ["a", "b"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        Self { folder }
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    pub fn root(&self) -> Root {
        Root::new(self.at("machine"))
    }

    /// Captures both trees; the machine is as the first one, with a record of it.
    pub fn deploy(&self) {
        self.capture("a");
        self.capture("b");
        extract_to(&self.at("a.tar.gz"), &self.at("machine")).unwrap();
        let source = FileSource::open(&self.at("a.tar.gz")).unwrap();
        Record::write(&self.root(), &TreeImage::open(&source).unwrap()).unwrap();
    }

    pub fn capture(&self, name: &str) {
        self.capture_without(name, &[]);
    }

    pub fn capture_without(&self, name: &str, excludes: &[&str]) {
        let excludes: Vec<String> = excludes.iter().map(|it| (*it).to_owned()).collect();
        let options = CaptureOptions {
            keep_identity: true,
            excludes: Excludes::new(&excludes).unwrap(),
            ..options()
        };
        let image = self.at(&format!("{name}.tar.gz"));
        capture_to(&self.at(name), &image, &options).unwrap();
    }

    /// Brings the machine up to date with the second tree.
    pub fn update(&self, wish: Wish) -> anyhow::Result<(Vec<Line>, Updated)> {
        self.update_to("b", wish, &[])
    }

    pub fn update_to(
        &self,
        name: &str,
        wish: Wish,
        local: &[&str],
    ) -> anyhow::Result<(Vec<Line>, Updated)> {
        self.update_after(name, wish, local, || ())
    }

    /// The same, and something is done between plan and update.
    pub fn update_after(
        &self,
        name: &str,
        wish: Wish,
        local: &[&str],
        meanwhile: impl FnOnce(),
    ) -> anyhow::Result<(Vec<Line>, Updated)> {
        let source = FileSource::open(&self.at(&format!("{name}.tar.gz")))?;
        let image = TreeImage::open(&source)?;
        let root = self.root();
        let plan = plan(&Update {
            image: &image,
            root: &root,
            changes: wish.changes,
            strangers: wish.strangers,
            check: wish.check,
            local: local.iter().map(|it| (*it).to_owned()).collect(),
            exclude: Vec::new(),
            threads: 2,
        })?;
        let lines = plan.lines.clone();
        meanwhile();
        Ok((lines, plan.run(&Silent)?))
    }

    /// Everything in a folder, by path, without what Pitstop itself keeps.
    pub fn tree(&self, name: &str) -> BTreeMap<String, Entry> {
        by_path(&self.at(name))
    }
}

pub fn by_path(root: &Path) -> BTreeMap<String, Entry> {
    let own = ["/var/lib/pitstop", "/var/lib", "/var"];
    let entries = entries(root).into_iter();
    let paths = entries.map(|entry| (entry.path.to_string(), entry));
    paths
        .filter(|(path, _)| !own.contains(&path.as_str()))
        .collect()
}

/// What is there, but for the times of folders.
pub fn timeless(tree: &BTreeMap<String, Entry>) -> BTreeMap<String, Entry> {
    let mut tree = tree.clone();
    for entry in tree.values_mut() {
        if entry.kind == Kind::Folder {
            entry.attributes.mtime = Attributes::default().mtime;
        }
    }
    tree
}

/// Fails with every path that is not the same.
pub fn assert_same(is: &BTreeMap<String, Entry>, wanted: &BTreeMap<String, Entry>) {
    let mut wrong = Vec::new();
    for path in is.keys().chain(wanted.keys()) {
        if is.get(path) != wanted.get(path) {
            wrong.push(format!(
                "{path}: {:?}\n  wanted {:?}",
                is.get(path),
                wanted.get(path)
            ));
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether nothing of an update is left there.
pub fn is_clean(root: &Path) -> bool {
    let found = run(Command::new("find")
        .arg(root)
        .args(["-name", ".pitstop-update"]));
    found.stdout.is_empty()
}
