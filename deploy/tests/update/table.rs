//! Every cell of the table, for every kind of entry.

use crate::common::{self, Disk};
use crate::update_common::{Case, Loop, Wish, assert_same, is_clean, stamp, timeless};
use pitstop_deploy::update::Act;
use pitstop_deploy::wishes::{Changes, Check, Strangers};
use pitstop_trees::entry::Entry;
use rustix::fs::{CWD, FileType, IFlags, Mode, OFlags, XattrFlags, makedev, mknodat, open};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;

const KINDS: [&str; 11] = [
    "file", "large", "symlink", "folder", "fifo", "device", "link", "mode", "owner", "xattr",
    "flags",
];

/// Makes something of a kind, in one of three states: 0 and 1 are what trees have, 2 is an edit.
fn make(path: &Path, kind: &str, state: u32) {
    let mode = Mode::from_raw_mode(0o640 + state);
    match kind {
        "file" => fs::write(path, format!("{state}").repeat(1 + state as usize)).unwrap(),
        "large" => fs::write(path, vec![u8::try_from(state).unwrap(); 3 << 20]).unwrap(),
        "symlink" => symlink(format!("to-{state}"), path).unwrap(),
        "folder" => {
            fs::create_dir(path).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o750 + state)).unwrap();
        }
        "fifo" => {
            mknodat(CWD, path, FileType::Fifo, mode, 0).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o640 + state)).unwrap();
        }
        "device" => {
            let device = makedev(1, 3 + state);
            mknodat(CWD, path, FileType::CharacterDevice, mode, device).unwrap();
        }
        "link" => {
            fs::write(path, format!("linked {state}")).unwrap();
            let mut other = path.as_os_str().to_owned();
            other.push("-too");
            fs::hard_link(path, other).unwrap();
        }
        _ => {
            fs::write(path, "the same").unwrap();
            attribute(path, kind, state);
        }
    }
    if kind != "folder" {
        stamp(path, 1_000_000_000 + i64::from(state));
    }
    if kind == "flags" {
        set_hard(path, state);
    }
}

fn attribute(path: &Path, kind: &str, state: u32) {
    match kind {
        "mode" => {
            let mode = fs::Permissions::from_mode(0o4750 + state);
            fs::set_permissions(path, mode).unwrap();
        }
        "owner" => lchown(path, Some(1000 + state), Some(2000)).unwrap(),
        "xattr" => {
            let value = format!("{state}");
            let flags = XattrFlags::empty();
            rustix::fs::lsetxattr(path, "user.state", value.as_bytes(), flags).unwrap();
            if state == 0 {
                rustix::fs::lsetxattr(path, "user.only-old", b"", flags).unwrap();
            }
            let capability = &common::CAPABILITY;
            rustix::fs::lsetxattr(path, "security.capability", capability, flags).unwrap();
        }
        _ => {}
    }
}

/// No flag, immutable, or append-only.
fn set_hard(path: &Path, state: u32) {
    let opened = open(path, OFlags::RDONLY, Mode::empty()).unwrap();
    let has = rustix::fs::ioctl_getflags(&opened).unwrap();
    let bit = [IFlags::empty(), IFlags::IMMUTABLE, IFlags::APPEND][state as usize];
    let flags = (has - IFlags::IMMUTABLE - IFlags::APPEND) | bit;
    rustix::fs::ioctl_setflags(&opened, flags).unwrap();
}

fn remove(path: &Path) {
    let mut other = path.as_os_str().to_owned();
    other.push("-too");
    let _ = fs::remove_file(Path::new(&other));
    if path.is_dir() && !path.is_symlink() {
        fs::remove_dir(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

const TREES: [&str; 5] = ["same", "changed", "added", "gone", "unknown"];
const HERE: [&str; 3] = ["old", "edited", "absent"];

/// Every cell for every kind: `changed-edited-file` is edited on the machine and changed in the tree.
fn cells() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let all = TREES
        .into_iter()
        .flat_map(|trees| HERE.map(|here| (trees, here)));
    all.flat_map(|(trees, here)| KINDS.map(|kind| (trees, here, kind)))
}

fn fill(case: &Case) {
    for (trees, here, kind) in cells() {
        let name = format!("{trees}-{here}-{kind}");
        if matches!(trees, "same" | "changed" | "gone") {
            make(&case.at("a").join(&name), kind, 0);
        }
        match trees {
            "same" => make(&case.at("b").join(&name), kind, 0),
            "changed" | "added" => make(&case.at("b").join(&name), kind, 1),
            _ => {}
        }
    }
    case.deploy();
    for (trees, here, kind) in cells() {
        let path = case.at("machine").join(format!("{trees}-{here}-{kind}"));
        let had = matches!(trees, "same" | "changed" | "gone");
        if had && here != "old" {
            remove(&path);
        }
        if here == "edited" {
            make(&path, kind, 2);
        }
    }
}

/// What the table says is there after an update, of a path that may be there before it and in the new tree.
fn wanted<'a>(
    name: &str,
    wish: Wish,
    before: Option<&'a Entry>,
    new: Option<&'a Entry>,
) -> Option<&'a Entry> {
    let by_changes = match wish.changes {
        Changes::Replace => new,
        Changes::Keep | Changes::Fail => before,
    };
    let mut words = name.trim_start_matches('/').split('-');
    match (words.next().unwrap(), words.next()) {
        // The last is the root.
        ("same", Some("old")) | ("gone", Some("edited" | "absent")) | ("", _) => before,
        ("same" | "changed", Some("edited" | "absent")) | ("added", Some("edited")) => by_changes,
        ("changed", Some("old")) | ("added", Some("old" | "absent")) => new,
        ("gone", Some("old")) => None,
        ("unknown", _) => match wish.strangers {
            Strangers::Delete => None,
            Strangers::Keep | Strangers::Fail => before,
        },
        other => panic!("{name}: {other:?}"),
    }
}

fn check_table(folder: &Path, wish: Wish) {
    let case = Case::new(folder.join(format!("{wish:?}").replace([' ', '{', '}', ':', ','], "")));
    fill(&case);
    let (before, new) = (case.tree("machine"), case.tree("b"));
    case.update(wish).unwrap();
    let after = case.tree("machine");
    let mut right: BTreeMap<String, Entry> = BTreeMap::new();
    for path in before.keys().chain(new.keys()) {
        if let Some(entry) = wanted(path, wish, before.get(path), new.get(path)) {
            right.insert(path.clone(), entry.clone());
        }
    }
    assert_same(&timeless(&after), &timeless(&right));
    assert!(is_clean(&case.at("machine")));
    // Once more there is nothing to do, and what was kept is still kept. (What was kept although the tree lost it is a stranger
    // from now on.)
    if wish.changes == Changes::Keep && wish.strangers == Strangers::Keep {
        let (lines, done) = case.update(wish).unwrap();
        let again = lines.iter().find(|line| line.act != Act::Keep);
        assert_eq!((again, done.travelled), (None, 0));
        assert_same(&case.tree("machine"), &after);
    }
}

#[test]
fn every_cell_of_the_table_is_what_it_says_for_every_kind() {
    let disk = Disk::new(1 << 30, &[]);
    for changes in [Changes::Keep, Changes::Replace] {
        for strangers in [Strangers::Keep, Strangers::Delete] {
            for check in [Check::Quick, Check::Full] {
                let wish = Wish {
                    changes,
                    strangers,
                    check,
                };
                check_table(&disk.path, wish);
            }
        }
    }
}

#[test]
fn xfs_and_btrfs_are_updated_as_ext4_is() {
    for kind in ["xfs", "btrfs"] {
        let disk = Loop::new(kind, 1 << 30);
        check_table(&disk.path, Wish::default());
    }
}
