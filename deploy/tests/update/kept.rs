//! What an update leaves alone, and what becomes something else.

use crate::common::{self, Disk};
use crate::update_common::{Case, Loop, Wish, is_clean, stamp};
use pitstop_deploy::update::{Act, Why, adapted};
use pitstop_deploy::wishes::{Changes, Strangers};
use pitstop_imaging::image::FileSource;
use pitstop_trees::TreeImage;
use pitstop_trees::path::TreePath;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::process::Command;

#[test]
fn a_boot_configuration_that_stays_keeps_its_kernels() {
    let disk = Disk::new(256 << 20, &[]);
    let case = Case::new(disk.join("case"));
    for (name, version) in [("a", "6.1"), ("b", "6.2")] {
        for path in [
            format!("boot/vmlinuz-{version}"),
            format!("usr/lib/modules/{version}/x.ko"),
            format!("usr/lib/other-{version}"),
            "boot/grub/grub.cfg".to_owned(),
        ] {
            let path = case.at(name).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("kernel {version}")).unwrap();
        }
    }
    case.deploy();
    let there = |path: &str| case.at("machine").join(path).exists();
    // New identifiers are in it, or a disk of the machine's own.
    fs::write(case.at("machine/boot/grub/grub.cfg"), "6.1 of this disk").unwrap();
    let (lines, _) = case.update(Wish::default()).unwrap();
    for stays in [
        "boot/vmlinuz-6.1",
        "usr/lib/modules/6.1/x.ko",
        "boot/vmlinuz-6.2",
    ] {
        assert!(there(stays), "{stays}");
    }
    assert!(!there("usr/lib/other-6.1"));
    let kept = lines
        .iter()
        .find(|line| line.path.to_string() == "/boot/vmlinuz-6.1");
    assert_eq!(kept.map(|line| line.why), Some(Why::BootStays));
    // Where the configuration is the tree's, kernels go with it.
    let other = Case::new(disk.join("other"));
    for (name, version) in [("a", "6.1"), ("b", "6.2")] {
        fs::create_dir_all(other.at(name).join("boot/grub")).unwrap();
        fs::write(other.at(name).join("boot/grub/grub.cfg"), version).unwrap();
        fs::write(
            other.at(name).join(format!("boot/vmlinuz-{version}")),
            version,
        )
        .unwrap();
    }
    other.deploy();
    other.update(Wish::default()).unwrap();
    assert!(!other.at("machine/boot/vmlinuz-6.1").exists());
}

#[test]
fn what_is_the_machines_own_is_left_alone() {
    let disk = Disk::new(256 << 20, &[]);
    let case = Case::new(disk.join("case"));
    let own = [
        "etc/fstab",
        "etc/crypttab",
        "etc/hostname",
        "etc/machine-id",
        "etc/ssh/ssh_host_ed25519_key",
        "srv/site/data",
    ];
    for (tree, text) in [("a", "old"), ("b", "the golden machine's")] {
        fs::create_dir_all(case.at(tree).join("etc/ssh")).unwrap();
        fs::create_dir_all(case.at(tree).join("srv/site")).unwrap();
        for path in own {
            fs::write(case.at(tree).join(path), text).unwrap();
        }
        fs::write(case.at(tree).join("etc/issue"), text).unwrap();
    }
    case.deploy();
    for path in own {
        fs::write(case.at("machine").join(path), "mine").unwrap();
    }
    let wish = Wish {
        changes: Changes::Replace,
        strangers: Strangers::Delete,
        ..Wish::default()
    };
    fs::write(case.at("machine/srv/site/more"), "mine").unwrap();
    // What the golden machine left out by wish is no stranger here.
    fs::create_dir(case.at("machine/home")).unwrap();
    fs::write(case.at("machine/home/joe"), "mine").unwrap();
    case.capture_without("b", &["/home/*"]);
    case.update_to("b", wish, &["/srv/site"]).unwrap();
    for path in own.iter().chain(&["srv/site/more", "home/joe"]) {
        let text = fs::read_to_string(case.at("machine").join(path)).unwrap();
        assert_eq!(text, "mine", "{path}");
    }
    let issue = fs::read_to_string(case.at("machine/etc/issue")).unwrap();
    assert_eq!(issue, "the golden machine's");
}

#[test]
fn what_the_deploy_adapted_is_the_machines_own_and_what_an_admin_edited_is_not() {
    let disk = Disk::new(256 << 20, &[]);
    let case = Case::new(disk.join("case"));
    // Its configuration is the same in both trees, but for the second one.
    let adapted = ["etc/hosts", "boot/grub/grub.cfg", "etc/issue"];
    for (tree, text) in [("a", "golden"), ("b", "a later golden")] {
        for folder in ["etc", "boot/grub"] {
            fs::create_dir_all(case.at(tree).join(folder)).unwrap();
        }
        for path in adapted {
            fs::write(case.at(tree).join(path), "golden").unwrap();
        }
        fs::write(case.at(tree).join("boot/grub/grub.cfg"), text).unwrap();
        fs::write(case.at(tree).join("etc/motd"), "golden").unwrap();
        fs::write(case.at(tree).join("etc/removed"), "golden").unwrap();
    }
    case.deploy();
    let at = |path: &str| case.at("machine").join(path);
    for path in adapted {
        fs::write(at(path), "of this machine").unwrap();
    }
    fs::remove_file(at("etc/removed")).unwrap();
    fs::write(at("etc/added"), "of this machine").unwrap();
    let source = FileSource::open(&case.at("a.tar.gz")).unwrap();
    let image = TreeImage::open(&source).unwrap();
    adapted::note(&case.root(), &image, []).unwrap();
    // A layer that is laid again, by a symlink of the tree.
    symlink("etc", at("settings")).unwrap();
    fs::write(at("etc/later"), "of this machine").unwrap();
    let later = TreePath::parse(b"settings/later").unwrap();
    adapted::add(&case.root(), &[later].into()).unwrap();
    fs::remove_file(at("settings")).unwrap();

    let wish = |changes| Wish {
        changes,
        strangers: Strangers::Delete,
        ..Wish::default()
    };
    let (lines, _) = case.update(wish(Changes::Fail)).unwrap();
    fs::write(at("etc/motd"), "edited").unwrap();
    let refused = case.update(wish(Changes::Fail)).unwrap_err().to_string();
    assert!(refused.contains("/etc/motd (edited"), "{refused}");
    case.update(wish(Changes::Replace)).unwrap();
    for path in adapted.iter().chain(&["etc/added", "etc/later"]) {
        let text = fs::read_to_string(at(path)).unwrap();
        assert_eq!(text, "of this machine", "{path}");
    }
    assert!(!at("etc/removed").exists());
    assert_eq!(fs::read_to_string(at("etc/motd")).unwrap(), "golden");
    let grub = lines
        .iter()
        .find(|line| line.path.to_string() == "/boot/grub/grub.cfg");
    assert_eq!(grub.map(|line| line.why), Some(Why::MachinesOwn));
}

#[test]
fn files_become_folders_and_folders_files_where_nothing_is_lost() {
    let disk = Disk::new(256 << 20, &[]);
    let case = Case::new(disk.join("case"));
    fs::create_dir_all(case.at("a/plain/sub")).unwrap();
    fs::write(case.at("a/plain/sub/file"), "old").unwrap();
    fs::write(case.at("b/plain"), "a file now").unwrap();
    fs::write(case.at("a/file"), "old").unwrap();
    fs::create_dir(case.at("b/file")).unwrap();
    fs::write(case.at("b/file/in-it"), "new").unwrap();
    // An admin moved a folder to another disk, and left a symlink.
    for tree in ["a", "b"] {
        fs::create_dir(case.at(tree).join("data")).unwrap();
        fs::write(case.at(tree).join("data/x"), tree).unwrap();
    }
    fs::write(case.at("b/data/new"), "new").unwrap();
    case.deploy();
    fs::rename(case.at("machine/data"), case.at("elsewhere")).unwrap();
    symlink(case.at("elsewhere"), case.at("machine/data")).unwrap();
    let (lines, _) = case.update(Wish::default()).unwrap();
    let why = |path: &str| {
        lines
            .iter()
            .find(|line| line.path.to_string() == path)
            .unwrap()
            .why
    };
    let machine = |path: &str| case.at("machine").join(path);
    assert_eq!(fs::read_to_string(machine("plain")).unwrap(), "a file now");
    assert_eq!(fs::read_to_string(machine("file/in-it")).unwrap(), "new");
    assert!(machine("data").is_symlink());
    assert_eq!(fs::read_to_string(case.at("elsewhere/x")).unwrap(), "a");
    assert_eq!(why("/data"), Why::EditedHere);
    assert_eq!(why("/data/new"), Why::Below);
}

#[test]
fn files_of_one_size_and_time_are_told_apart() {
    let disk = Disk::new(256 << 20, &[]);
    let case = Case::new(disk.join("case"));
    for (tree, text) in [("a", "one"), ("b", "two")] {
        for name in ["given", "edited"] {
            fs::write(case.at(tree).join(name), text).unwrap();
            stamp(&case.at(tree).join(name), 1);
        }
    }
    case.deploy();
    fs::write(case.at("machine/edited"), "six").unwrap();
    stamp(&case.at("machine/edited"), 1);
    case.update(Wish::default()).unwrap();
    let read = |name: &str| fs::read_to_string(case.at("machine").join(name)).unwrap();
    assert_eq!((&read("given")[..], &read("edited")[..]), ("two", "six"));
}

#[test]
fn a_subvolume_below_is_a_place_of_its_own() {
    let disk = Loop::new("btrfs", 256 << 20);
    let case = Case::new(disk.path.join("case"));
    for tree in ["a", "b"] {
        fs::create_dir(case.at(tree).join("sub")).unwrap();
        fs::write(case.at(tree).join("sub/file"), tree).unwrap();
        fs::write(case.at(tree).join("file"), tree).unwrap();
    }
    fs::create_dir(case.at("b/sub/new")).unwrap();
    fs::write(case.at("b/sub/new/file"), "new").unwrap();
    case.deploy();
    let (sub, moved) = (case.at("machine/sub"), case.at("machine/moved"));
    fs::rename(&sub, &moved).unwrap();
    common::run(
        Command::new("btrfs")
            .args(["-q", "subvolume", "create"])
            .arg(&sub),
    );
    common::run(
        Command::new("cp")
            .arg("-a")
            .arg(moved.join("file"))
            .arg(&sub),
    );
    fs::remove_dir_all(&moved).unwrap();
    case.update(Wish::default()).unwrap();
    let read = |path: &str| fs::read_to_string(case.at("machine").join(path)).unwrap();
    assert_eq!((&read("file")[..], &read("sub/file")[..]), ("b", "b"));
    assert_eq!(read("sub/new/file"), "new");
    assert!(is_clean(&case.at("machine")));
}

#[test]
fn what_somebody_changes_after_the_plan_stays() {
    let disk = Disk::new(256 << 20, &[]);
    let case = Case::new(disk.join("case"));
    for name in ["changed", "gone", "quiet"] {
        fs::write(case.at("a").join(name), "old").unwrap();
    }
    for name in ["changed", "quiet", "added"] {
        fs::write(case.at("b").join(name), "the tree's").unwrap();
    }
    case.deploy();
    let machine = |name: &str| case.at("machine").join(name);
    case.update_after("b", Wish::default(), &[], || {
        for name in ["changed", "gone", "added"] {
            fs::write(machine(name), "mine").unwrap();
        }
    })
    .unwrap();
    for name in ["changed", "gone", "added"] {
        assert_eq!(fs::read_to_string(machine(name)).unwrap(), "mine", "{name}");
    }
    assert_eq!(fs::read_to_string(machine("quiet")).unwrap(), "the tree's");
    assert!(is_clean(&case.at("machine")));
}

/// What is set on a file is set on all of its names.
#[test]
fn names_of_one_file_part_where_they_part_in_the_tree() {
    let disk = Disk::new(256 << 20, &[]);
    let case = Case::new(disk.join("case"));
    for tree in ["a", "b"] {
        for file in ["parts", "parts-too", "shared"] {
            let path = case.at(tree).join(file);
            if file == "parts-too" && tree == "a" {
                fs::hard_link(case.at("a/parts"), &path).unwrap();
            } else {
                fs::write(&path, "text").unwrap();
                stamp(&path, 1_000_000_000);
            }
        }
    }
    // The first of three names goes, and the others part.
    for (tree, file) in [("a", "gone"), ("b", "left"), ("b", "left-too")] {
        fs::write(case.at(tree).join(file), "same").unwrap();
        stamp(&case.at(tree).join(file), 1_000_000_000);
    }
    for file in ["left", "left-too"] {
        fs::hard_link(case.at("a/gone"), case.at("a").join(file)).unwrap();
    }
    for file in ["b/parts", "b/shared"] {
        chown(case.at(file), Some(1234), None).unwrap();
    }
    case.deploy();
    let machine = |path: &str| case.at("machine").join(path);
    // Somebody's own name of it.
    fs::hard_link(machine("shared"), machine("mine")).unwrap();
    case.update(Wish::default()).unwrap();
    let owner = |path: &str| fs::metadata(machine(path)).unwrap().uid();
    let owners = ["parts", "parts-too", "shared", "mine"].map(owner);
    assert_eq!(owners, [1234, 0, 1234, 0]);
    let inode = |path: &str| fs::metadata(machine(path)).unwrap().ino();
    assert_ne!(inode("parts"), inode("parts-too"));
    assert_ne!(inode("left"), inode("left-too"));
    assert!(!machine("gone").exists());
    let (lines, _) = case.update(Wish::default()).unwrap();
    assert!(lines.iter().all(|line| line.act == Act::Keep), "{lines:?}");
}

#[test]
fn parts_of_a_large_file_that_the_machine_has_do_not_travel() {
    let disk = Disk::new(256 << 20, &[]);
    let case = Case::new(disk.join("case"));
    // No part of it shrinks.
    let mut data = vec![0; 6 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut data);
    let names = ["left-alone", "edited"];
    let write = |tree: &str, name: &str, data: &[u8], time: i64| {
        let path = case.at(tree).join(name);
        fs::write(&path, data).unwrap();
        stamp(&path, time);
    };
    for name in names {
        write("a", name, &data, 1_000_000);
    }
    let was = data.clone();
    data[(6 << 20) - 1] ^= 1;
    for name in names {
        write("b", name, &data, 2_000_000);
    }
    case.deploy();
    // By size and time nobody sees that it was.
    let mut edited = was;
    edited[3 << 20] ^= 1;
    write("machine", "edited", &edited, 1_000_000);
    let (_, done) = case.update(Wish::default()).unwrap();
    for name in names {
        assert!(
            fs::read(case.at("machine").join(name)).unwrap() == data,
            "{name}"
        );
    }
    // Of both the first and the last part, and the one that the machine turned out not to have.
    let parts = done.travelled >> 20;
    assert_eq!(parts, 5, "{}", done.travelled);
}
