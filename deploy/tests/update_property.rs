//! Any two trees and any edits: after an update each path is what the table says. As root.

#[path = "../../trees/tests/common/mod.rs"]
mod common;
mod update_common;

use common::Disk;
use pitstop_deploy::update::Act;
use pitstop_deploy::wishes::{Changes, Check, Strangers};
use pitstop_trees::entry::{Entry, Kind};
use pitstop_trees::path::TreePath;
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use update_common::{Case, Wish, assert_same, is_clean, stamp};

const PATHS: [&str; 14] = [
    "a", "a/x", "a/y", "a/x/deep", "b", "b/x", "c", "c/x/y/z", "d", "d/f", "d/g", "e", "e-f", "e/f",
];

/// A change to a folder on the disk.
#[derive(Debug, Clone)]
enum Edit {
    File(usize, u8),
    Symlink(usize, u8),
    Fifo(usize),
    Folder(usize),
    Link(usize, usize),
    Mode(usize, u32),
    Remove(usize),
}

fn edits(most: usize) -> impl Strategy<Value = Vec<Edit>> {
    let path = 0..PATHS.len();
    let one = prop_oneof![
        5 => (path.clone(), 0u8..4).prop_map(|(at, data)| Edit::File(at, data)),
        1 => (path.clone(), 0u8..3).prop_map(|(at, data)| Edit::Symlink(at, data)),
        1 => path.clone().prop_map(Edit::Fifo),
        2 => path.clone().prop_map(Edit::Folder),
        1 => (path.clone(), path.clone()).prop_map(|(at, to)| Edit::Link(at, to)),
        1 => (path.clone(), 0u32..3).prop_map(|(at, mode)| Edit::Mode(at, 0o700 + mode)),
        2 => path.prop_map(Edit::Remove),
    ];
    prop::collection::vec(one, 0..most)
}

fn clear(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Makes room for something at a path: whatever stands in its way goes.
fn prepare(root: &Path, path: &str) {
    let mut at = root.to_owned();
    let names: Vec<&str> = path.split('/').collect();
    for name in &names[..names.len() - 1] {
        at.push(name);
        if fs::symlink_metadata(&at).is_ok_and(|found| !found.is_dir()) {
            clear(&at);
        }
        fs::create_dir_all(&at).unwrap();
    }
    clear(&root.join(path));
}

fn apply(root: &Path, edit: &Edit) {
    let at = |number: &usize| root.join(PATHS[*number]);
    let there = |number: &usize| fs::symlink_metadata(at(number)).ok();
    match edit {
        Edit::File(to, data) => {
            prepare(root, PATHS[*to]);
            // The size says nothing, and the time all.
            fs::write(at(to), format!("data {data}")).unwrap();
            stamp(&at(to), 1_000_000 + i64::from(*data));
        }
        Edit::Symlink(to, data) => {
            prepare(root, PATHS[*to]);
            symlink(format!("to-{data}"), at(to)).unwrap();
            stamp(&at(to), 5_000_000);
        }
        Edit::Fifo(to) => {
            prepare(root, PATHS[*to]);
            let mode = Mode::from_raw_mode(0o644);
            mknodat(CWD, at(to), FileType::Fifo, mode, 0).unwrap();
            stamp(&at(to), 5_000_000);
        }
        Edit::Folder(to) if !there(to).is_some_and(|found| found.is_dir()) => {
            prepare(root, PATHS[*to]);
            fs::create_dir(at(to)).unwrap();
        }
        Edit::Link(to, from) if to != from && there(from).is_some_and(|it| it.is_file()) => {
            let within =
                |one: usize, other: usize| PATHS[one].starts_with(&format!("{}/", PATHS[other]));
            if !within(*to, *from) && !within(*from, *to) {
                prepare(root, PATHS[*to]);
                fs::hard_link(at(from), at(to)).unwrap();
            }
        }
        Edit::Mode(to, mode) if there(to).is_some_and(|found| !found.is_symlink()) => {
            fs::set_permissions(at(to), fs::Permissions::from_mode(*mode)).unwrap();
        }
        Edit::Remove(to) => clear(&at(to)),
        Edit::Folder(_) | Edit::Link(..) | Edit::Mode(..) => {}
    }
}

type Tree = BTreeMap<String, Entry>;

/// Hard links as the files that they are, folders without times, and who is linked with somebody.
fn plain(tree: &Tree) -> (Tree, BTreeSet<String>) {
    let mut linked = BTreeSet::new();
    let mut plain = tree.clone();
    for (path, entry) in tree {
        if let Kind::HardLink(to) = &entry.kind {
            linked.insert(path.clone());
            linked.insert(to.to_string());
            let mut file = tree[&to.to_string()].clone();
            file.path = TreePath::parse_loose(path.as_bytes()).unwrap();
            plain.insert(path.clone(), file);
        }
    }
    for entry in plain.values_mut() {
        if entry.kind == Kind::Folder {
            entry.attributes.mtime = pitstop_trees::entry::Time::default();
        }
    }
    (plain, linked)
}

fn is_folder(tree: &Tree, path: &str) -> Option<bool> {
    tree.get(path).map(|entry| entry.kind == Kind::Folder)
}

fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').skip(1).map(|(at, _)| &path[..at])
}

/// Old tree, new tree, the machine before and after.
struct Four {
    old: Tree,
    new: Tree,
    before: Tree,
    after: Tree,
    linked: BTreeSet<String>,
}

impl Four {
    fn all(&self) -> [&Tree; 3] {
        [&self.old, &self.new, &self.before]
    }

    /// Whether nothing above a path, and not the path itself, is a folder for one and something else for another.
    fn is_simple(&self, path: &str) -> bool {
        let folders = |at: &str| {
            self.all()
                .iter()
                .filter_map(|tree| is_folder(tree, at))
                .collect()
        };
        let above = ancestors(path).all(|at| {
            let found: Vec<bool> = folders(at);
            found.iter().all(|is| *is)
        });
        let found: Vec<bool> = folders(path);
        above && !self.linked.contains(path) && found.iter().all(|is| !is)
    }

    fn check_kept(&self) {
        let [old, new, before] = self.all();
        for path in old.keys().chain(new.keys()).chain(before.keys()) {
            if !self.is_simple(path) {
                continue;
            }
            let (was, is, here) = (old.get(path), new.get(path), before.get(path));
            let wanted = match (was, is, here) {
                // Changed or new, and as it was given, or not there.
                (_, Some(_), here) if here == was => is,
                // Gone, and as it was given.
                (Some(_), None, here) if here == was => None,
                _ => here,
            };
            assert_eq!(
                self.after.get(path),
                wanted,
                "{path}: {was:?} -> {is:?}, {here:?}"
            );
        }
        // Nothing of the machine's own is lost, whatever it is and wherever.
        for (path, here) in before {
            let is_own = old.get(path) != Some(here) && here.kind != Kind::Folder;
            if is_own && !self.linked.contains(path) {
                assert_eq!(self.after.get(path), Some(here), "{path} was the machine's");
            }
        }
    }

    fn check_replaced(&self) {
        let [old, new, before] = self.all();
        let kept: BTreeSet<&String> = before
            .iter()
            .filter(|(path, here)| {
                !new.contains_key(*path) && old.get(*path).is_some_and(|was| was != *here)
            })
            .map(|(path, _)| path)
            .collect();
        let below = |path: &str| {
            kept.iter()
                .any(|it| ancestors(it).any(|above| above == path))
        };
        for (path, is) in new {
            if is.kind == Kind::Folder || !below(path) {
                assert_eq!(
                    self.after.get(path),
                    Some(is),
                    "{path}, {:?}",
                    before.get(path)
                );
            }
        }
        for path in self.after.keys().filter(|path| !new.contains_key(*path)) {
            assert!(kept.contains(path) || below(path), "{path} is of no tree");
        }
        for path in kept {
            assert_eq!(self.after.get(path), before.get(path), "{path} was edited");
        }
    }
}

static CASES: AtomicU32 = AtomicU32::new(0);

fn check(disk: &Disk, [first, second, here]: &[Vec<Edit>; 3], wish: Wish) {
    let number = CASES.fetch_add(1, Ordering::Relaxed);
    let case = Case::new(disk.join(&number.to_string()));
    for edit in first {
        apply(&case.at("a"), edit);
        apply(&case.at("b"), edit);
    }
    for edit in second {
        apply(&case.at("b"), edit);
    }
    case.deploy();
    for edit in here {
        apply(&case.at("machine"), edit);
    }
    let trees = ["a", "b", "machine"].map(|name| plain(&case.tree(name)));
    let raw_new = case.tree("b");
    let [(old, a), (new, b), (before, m)] = trees;
    let updated = case.update(wish);
    assert!(is_clean(&case.at("machine")));
    let raw = case.tree("machine");
    if let Err(error) = updated {
        // What is in the way of the update is told, and nothing is done.
        let error = error.to_string();
        assert!(error.contains("no folder in the tree"), "{error}");
        assert_eq!(plain(&raw).0, before);
        fs::remove_dir_all(&case.folder).unwrap();
        return;
    }
    let four = Four {
        old,
        new,
        before,
        after: plain(&raw).0,
        linked: a.into_iter().chain(b).chain(m).collect(),
    };
    if wish.changes == Changes::Keep {
        four.check_kept();
    } else {
        four.check_replaced();
        for (path, entry) in &raw_new {
            if let Kind::HardLink(to) = &entry.kind {
                let inode = |path: &str| {
                    let path = case.at("machine").join(path.trim_start_matches('/'));
                    fs::symlink_metadata(path).map(|it| std::os::unix::fs::MetadataExt::ino(&it))
                };
                let joined = inode(path).ok() == inode(&to.to_string()).ok();
                assert!(
                    joined || four.before.contains_key(path),
                    "{path} is no name of {to}"
                );
            }
        }
    }
    // What was kept although the tree lost it is a stranger from now on.
    if wish.strangers == Strangers::Keep {
        let (lines, done) = case.update(wish).unwrap();
        let again = lines.iter().find(|line| line.act != Act::Keep);
        assert_eq!((again, done.travelled), (None, 0));
        assert_same(&case.tree("machine"), &raw);
    }
    fs::remove_dir_all(&case.folder).unwrap();
}

#[test]
fn any_trees_and_edits_come_out_as_the_table_says() {
    let disk = Disk::new(512 << 20, &[]);
    let keep = Wish::default();
    let replace = Wish {
        changes: Changes::Replace,
        strangers: Strangers::Delete,
        check: Check::Full,
    };
    let config = ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let strategy = [edits(14), edits(8), edits(8)];
    let ran = runner.run(&strategy, |edits| {
        for wish in [keep, replace] {
            check(&disk, &edits, wish);
        }
        Ok(())
    });
    ran.unwrap();
}
