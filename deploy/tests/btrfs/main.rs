//! Updates of a root that is a subvolume of Btrfs: in a snapshot that takes its place, and back. As root.

#[path = "../../../trees/tests/common/mod.rs"]
mod common;
mod lab;
#[path = "../update_common/mod.rs"]
mod update_common;
mod way_back;

use common::run;
use lab::{FSTAB, Lab, Told};
use pitstop_deploy::disk::apart;
use pitstop_deploy::update::snapshot::{self, Runs};
use pitstop_imaging::event::Silent;
use pitstop_trees::btrfs::{SNAPSHOTS, Shelf};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use update_common::is_clean;

#[test]
fn a_root_is_swapped_for_one_that_is_up_to_date_and_back() {
    let lab = Lab::new(FSTAB);
    lab.subvolume(&["create"], &["machine/var/lib/portables"]);
    let old = lab.id("top/@");
    assert_eq!(lab.default_id(), old);
    assert_eq!(lab.update("b"), Some("@".into()));
    // What is mounted is the new one, which has the old one's name and is the default.
    let new = lab.id("top/@");
    assert!(new != old && lab.id("machine") == new && lab.default_id() == new);
    assert_eq!(
        (lab.read("machine/usr/file"), lab.read("machine/etc/mine")),
        ("b".into(), "mine".into())
    );
    assert!(!lab.at("machine/usr/gone").exists() && is_clean(&lab.at("machine")));
    assert_ne!(
        lab.id("machine/var/lib/portables"),
        new,
        "it is a subvolume still"
    );
    assert_eq!(lab.snapshots(), ["old"]);
    assert_eq!(lab.read(&format!("top/{SNAPSHOTS}/old/usr/file")), "a");
    // Nothing changed: what can be gone back to stays.
    assert_eq!(lab.update("b"), None);
    assert_eq!(
        (lab.id("top/@"), lab.snapshots()),
        (new.clone(), vec!["old".to_owned()])
    );
    fs::write(lab.at("machine/etc/mine"), "of the new one").unwrap();
    for (id, file, mine) in [(&old, "a", "mine"), (&new, "b", "of the new one")] {
        lab.roll_back();
        assert_eq!(
            (lab.id("machine"), lab.default_id()),
            (id.clone(), id.clone())
        );
        assert_eq!(
            (lab.read("machine/usr/file"), lab.read("machine/etc/mine")),
            (file.into(), mine.into())
        );
        assert_eq!(lab.snapshots(), ["old"]);
    }
    // Another update keeps the one before it alone.
    assert_eq!(lab.update("a"), Some("@".into()));
    assert_eq!(
        (lab.read("machine/usr/file"), lab.snapshots()),
        ("a".into(), vec!["old".to_owned()])
    );
    assert_eq!(lab.read(&format!("top/{SNAPSHOTS}/old/usr/file")), "b");
}

#[test]
fn what_fails_leaves_the_root_as_it_was_and_two_updates_do_not_meet() {
    let lab = Lab::new(FSTAB);
    let old = lab.id("top/@");
    let failed = lab.update_and("b", Runs::No, &Silent, |root| {
        assert_eq!(fs::read_to_string(root.join("usr/file")).unwrap(), "b");
        anyhow::bail!("the hook failed")
    });
    let error = format!("{:#}", failed.unwrap_err());
    assert!(
        error.contains("the root is as it was") && error.contains("the hook failed"),
        "{error}"
    );
    assert_eq!(
        (lab.id("top/@"), lab.snapshots()),
        (old.clone(), Vec::new())
    );
    assert_eq!(lab.read("machine/usr/file"), "a");
    // Nothing is begun where nothing could be changed.
    let set = |ro: &str| {
        let mut set = Command::new("btrfs");
        run(set
            .args(["property", "set", "-f"])
            .arg(lab.at("top/@"))
            .args(["ro", ro]));
    };
    set("true");
    let refused = lab.update_and("b", Runs::No, &Silent, |_| panic!("it was begun"));
    let error = format!("{:#}", refused.unwrap_err());
    assert!(
        error.contains("set read-only: btrfs property set"),
        "{error}"
    );
    assert_eq!(lab.snapshots(), Vec::<String>::new());
    set("false");
    // No room for what is staged.
    fs::write(lab.at("b/usr/large"), vec![7; 64 << 20]).unwrap();
    lab.case.capture("b");
    let fill = |path: PathBuf| {
        let mut dd = Command::new("dd");
        dd.args(["if=/dev/urandom", "bs=1M", "conv=fsync", "status=none"]);
        let _ = dd.arg(format!("of={}", path.display())).output().unwrap();
    };
    fill(lab.at("top/full"));
    let failed = lab.update_and("b", Runs::No, &Silent, |_| Ok(()));
    assert!(failed.is_err());
    fs::remove_file(lab.at("top/full")).unwrap();
    run(Command::new("sync").arg("-f").arg(lab.at("top")));
    assert_eq!(
        (lab.id("top/@"), lab.read("machine/usr/file")),
        (old, "a".into())
    );
    // While another one is at work.
    let held = Shelf::open(Path::new(&lab.device)).unwrap();
    let error = lab
        .update_and("b", Runs::No, &Silent, |_| Ok(()))
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("another capture or update is at work"),
        "{error:#}"
    );
    drop(held);
    assert_eq!(lab.update("b"), Some("@".into()));
}

#[test]
fn a_system_that_runs_is_updated_in_place_and_can_go_back() {
    let lab = Lab::new(FSTAB);
    let id = lab.id("top/@");
    let (_, swapped) = lab.update_and("b", Runs::Yes, &Silent, |_| Ok(())).unwrap();
    assert_eq!((swapped, lab.id("top/@")), (None, id.clone()));
    assert_eq!(
        (lab.read("machine/usr/file"), lab.snapshots()),
        ("b".into(), vec!["old".to_owned()])
    );
    // Once more there is nothing to do, and the way back stays.
    lab.update_and("b", Runs::Yes, &Silent, |_| Ok(())).unwrap();
    assert_eq!(lab.read(&format!("top/{SNAPSHOTS}/old/usr/file")), "a");
    let root = lab.root();
    apart(|| snapshot::rollback(&root, &Silent)).unwrap();
    // It goes on running where it is, and starts in the other one.
    assert_eq!(lab.read("machine/usr/file"), "b");
    assert_eq!(lab.read("top/@/usr/file"), "a");
    assert!(lab.id("machine") == id && lab.default_id() == lab.id("top/@"));
    let error = lab
        .update_and("b", Runs::Yes, &Silent, |_| Ok(()))
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("restart the machine"),
        "{error:#}"
    );
}

#[test]
fn what_a_swap_would_break_is_updated_in_place_and_told() {
    let lab = Lab::new("LABEL=x / btrfs subvolid=256,subvol=/@ 0 0\n");
    let id = lab.id("top/@");
    let update = |tree: &str| {
        let told = Told::default();
        let (_, swapped) = lab.update_and(tree, Runs::No, &told, |_| Ok(())).unwrap();
        assert_eq!((swapped, lab.id("top/@")), (None, id.clone()));
        told.0.into_inner().unwrap()
    };
    let told = update("b");
    assert!(
        told.contains("in place") && told.contains("/etc/fstab names its root by number"),
        "{told}"
    );
    assert_eq!(lab.read("machine/usr/file"), "b");
    fs::write(lab.at("machine/etc/fstab"), FSTAB).unwrap();
    lab.subvolume(&["create"], &["machine/srv"]);
    fs::write(lab.at("machine/srv/data"), "mine").unwrap();
    let told = update("a");
    assert!(
        told.contains("the subvolume /srv lies within its root"),
        "{told}"
    );
    let root = lab.root();
    let error = apart(|| snapshot::rollback(&root, &Silent)).unwrap_err();
    assert!(
        format!("{error:#}").contains("nothing to go back to"),
        "{error:#}"
    );
}
