//! Machines without a record of what was put on them.

use crate::common::Disk;
use crate::update_common::{Case, Wish, stamp};
use pitstop_deploy::update::{Record, Why};
use std::fs;

#[test]
fn without_a_record_nothing_is_deleted_and_what_is_older_comes() {
    let disk = Disk::new(256 << 20, &[]);
    let case = Case::new(disk.join("case"));
    for (name, seconds) in [("older", 1_000), ("newer", 9_000), ("gone", 1_000)] {
        fs::write(case.at("a").join(name), "machine's").unwrap();
        stamp(&case.at("a").join(name), seconds);
    }
    for name in ["older", "newer", "added"] {
        fs::write(case.at("b").join(name), "the tree's").unwrap();
        stamp(&case.at("b").join(name), 5_000);
    }
    case.deploy();
    fs::remove_dir_all(case.at("machine/var/lib/pitstop")).unwrap();
    let (lines, _) = case.update(Wish::default()).unwrap();
    let read = |name: &str| fs::read_to_string(case.at("machine").join(name)).unwrap();
    assert_eq!(read("older"), "the tree's");
    assert_eq!(read("added"), "the tree's");
    assert_eq!(read("newer"), "machine's");
    assert_eq!(read("gone"), "machine's");
    let kept = lines.iter().find(|line| line.path.to_string() == "/newer");
    assert_eq!(kept.map(|line| line.why), Some(Why::Unrecorded));
    // Now there is a record, and the tree that follows is compared with it.
    let record = Record::read(&case.root()).unwrap().unwrap();
    assert!(record.index.find(b"added").is_some() && record.index.find(b"gone").is_none());
    fs::remove_file(case.at("b/added")).unwrap();
    case.capture("b");
    case.update(Wish::default()).unwrap();
    assert!(!case.at("machine/added").exists() && case.at("machine/gone").exists());
}

#[test]
fn without_a_record_nothing_that_an_admin_edits_is_lost() {
    let disk = Disk::new(256 << 20, &[]);
    let case = Case::new(disk.join("case"));
    let paths = ["etc/ssh/sshd_config", "boot/grub/grub.cfg", "usr/bin/x"];
    for (name, text, seconds) in [("a", "machine's", 1_000), ("b", "the tree's", 5_000)] {
        for path in paths {
            let path = case.at(name).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            stamp(&path, seconds);
        }
    }
    case.deploy();
    fs::remove_dir_all(case.at("machine/var/lib/pitstop")).unwrap();
    case.update(Wish::default()).unwrap();
    let read = |path: &str| fs::read_to_string(case.at("machine").join(path)).unwrap();
    assert_eq!(
        paths.map(read),
        ["machine's", "machine's", "the tree's"].map(str::to_owned)
    );
}
