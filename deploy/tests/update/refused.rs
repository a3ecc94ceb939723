//! What an update refuses, with nothing changed.

use crate::common::{self, Disk};
use crate::update_common::{Case, Loop, Wish, assert_same, is_clean};
use pitstop_deploy::wishes::{Changes, Strangers};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

#[test]
fn an_update_that_is_to_fail_changes_nothing_and_says_why() {
    let disk = Disk::new(256 << 20, &[]);
    let case = Case::new(disk.join("case"));
    fs::write(case.at("a/edited"), "old").unwrap();
    fs::write(case.at("b/edited"), "new").unwrap();
    fs::write(case.at("b/added"), "new").unwrap();
    case.deploy();
    fs::write(case.at("machine/edited"), "mine").unwrap();
    fs::write(case.at("machine/stranger"), "mine").unwrap();
    let before = case.tree("machine");
    let fail = |changes, strangers| {
        let wish = Wish {
            changes,
            strangers,
            ..Wish::default()
        };
        case.update(wish).unwrap_err().to_string()
    };
    let error = fail(Changes::Fail, Strangers::Keep);
    assert!(
        error.contains("/edited (edited on the machine, and changed in the tree)"),
        "{error}"
    );
    let error = fail(Changes::Keep, Strangers::Fail);
    assert!(
        error.contains("/stranger (in no tree of this machine)"),
        "{error}"
    );
    assert_same(&case.tree("machine"), &before);
}

/// As Debian's merge of `/bin` into `/usr` has it: of a `/bin` that stays a folder only the stranger would be left.
#[test]
fn a_folder_that_becomes_a_symlink_is_not_emptied_around_what_stays_in_it() {
    let disk = Disk::new(256 << 20, &[]);
    let case = Case::new(disk.join("case"));
    for folder in ["a/bin", "b/usr/bin"] {
        fs::create_dir_all(case.at(folder)).unwrap();
        fs::write(case.at(folder).join("sh"), "a shell").unwrap();
    }
    symlink("usr/bin", case.at("b/bin")).unwrap();
    case.deploy();
    let stranger = case.at("machine/bin/backup-my-db");
    fs::write(&stranger, "mine").unwrap();
    let wish = |changes, strangers| Wish {
        changes,
        strangers,
        ..Wish::default()
    };
    let refused = |wish| {
        let before = case.tree("machine");
        let error = case.update(wish).unwrap_err().to_string();
        assert!(
            error.contains("/bin (no folder in the tree") && error.contains("exclude"),
            "{error}"
        );
        assert_same(&case.tree("machine"), &before);
    };
    for changes in [Changes::Keep, Changes::Replace, Changes::Fail] {
        refused(wish(changes, Strangers::Keep));
    }
    // Nor is one emptied that stays because it was edited itself.
    fs::remove_file(&stranger).unwrap();
    let mode = |mode| fs::Permissions::from_mode(mode);
    fs::set_permissions(case.at("machine/bin"), mode(0o700)).unwrap();
    refused(Wish::default());
    fs::set_permissions(case.at("machine/bin"), mode(0o755)).unwrap();
    case.update(Wish::default()).unwrap();
    let shell = fs::read_to_string(case.at("machine/bin/sh")).unwrap();
    assert_eq!(shell, "a shell");
}

#[test]
fn a_filesystem_that_is_none_of_the_systems_hides_no_files() {
    let machine = Loop::new("ext4", 64 << 20);
    let folder = Disk::new(256 << 20, &[]);
    let case = Case::new(folder.join("case"));
    fs::create_dir_all(case.at("b/srv/www")).unwrap();
    fs::write(case.at("b/srv/www/index"), "new").unwrap();
    symlink(&machine.path, case.at("machine")).unwrap();
    case.capture("a");
    case.capture("b");
    fs::create_dir(machine.path.join("srv")).unwrap();
    let own = Loop::at("ext4", 32 << 20, machine.path.join("srv"));
    let error = case.update(Wish::default()).unwrap_err().to_string();
    assert!(error.contains("/srv has something mounted"), "{error}");
    assert!(is_clean(&machine.path));
    case.update_to("b", Wish::default(), &["/srv/*"]).unwrap();
    drop(own);
    assert!(!machine.path.join("srv/www").exists());
    fs::remove_dir_all(machine.path.join("var/lib/pitstop")).unwrap();
    case.update(Wish::default()).unwrap();
    assert!(machine.path.join("srv/www/index").exists());
}

#[test]
fn a_tmpfs_over_files_of_the_tree_is_told_and_one_where_systems_have_one_is_not() {
    let disk = Disk::new(256 << 20, &[]);
    let case = Case::new(disk.join("case"));
    for (tree, text) in [("a", "1"), ("b", "22")] {
        for folder in ["usr/lib", "run"] {
            fs::create_dir_all(case.at(tree).join(folder)).unwrap();
            fs::write(case.at(tree).join(folder).join("file"), text).unwrap();
        }
    }
    case.deploy();
    let covered = ["run", "usr/lib"].map(|folder| case.at("machine").join(folder));
    for folder in &covered {
        common::run(
            Command::new("mount")
                .args(["-t", "tmpfs", "tmpfs"])
                .arg(folder),
        );
    }
    let refused = case.update(Wish::default());
    common::run(Command::new("umount").arg(&covered[1]));
    let done = case.update(Wish::default());
    common::run(Command::new("umount").arg(&covered[0]));
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains("/usr/lib has something mounted (tmpfs)"),
        "{error}"
    );
    done.unwrap();
}

/// As container managers lay their file with name servers over the system's.
#[test]
fn a_file_that_something_is_mounted_over_is_not_replaced() {
    let disk = Disk::new(256 << 20, &[]);
    let case = Case::new(disk.join("case"));
    for (tree, text) in [("a", "1"), ("b", "22")] {
        fs::write(case.at(tree).join("resolv.conf"), text).unwrap();
        fs::write(case.at(tree).join("other"), text).unwrap();
    }
    case.deploy();
    let covered = case.at("machine/resolv.conf");
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let over = memory.path().join("over");
    fs::write(&over, "mine").unwrap();
    common::run(Command::new("mount").arg("--bind").arg(&over).arg(&covered));
    let refused = case.update(Wish::default());
    let left_alone = case.update_to("b", Wish::default(), &["/resolv.conf"]);
    common::run(Command::new("umount").arg(&covered));
    let error = refused.unwrap_err().to_string();
    assert!(
        error.contains("/resolv.conf has something mounted (tmpfs)"),
        "{error}"
    );
    left_alone.unwrap();
    assert!(is_clean(&case.at("machine")));
    assert_eq!(fs::read_to_string(&covered).unwrap(), "1");
    assert_eq!(fs::read_to_string(case.at("machine/other")).unwrap(), "22");
}

#[test]
fn no_room_and_no_inodes_change_nothing() {
    let disk = Disk::new(24 << 20, &["-N", "400", "-m", "0"]);
    let others = Disk::new(256 << 20, &[]);
    let case = Case::new(others.join("case"));
    fs::write(case.at("a/file"), "old").unwrap();
    let noise: Vec<u8> = (0..30u32 << 20)
        .map(|at| u8::try_from(at.wrapping_mul(2_654_435_761) >> 24).unwrap())
        .collect();
    fs::write(case.at("b/large"), noise).unwrap();
    case.deploy();
    fs::create_dir(case.at("many")).unwrap();
    for number in 0..500 {
        fs::write(case.at("many").join(number.to_string()), "x").unwrap();
    }
    case.capture("many");
    let small = Case {
        folder: disk.path.clone(),
    };
    common::extract_to(&case.at("a.tar.gz"), &small.at("machine")).unwrap();
    let before = small.tree("machine");
    for (image, word) in [("b", "has 2"), ("many", "inodes")] {
        let name = format!("{image}.tar.gz");
        // Images are elsewhere; a link does not take room.
        symlink(case.at(&name), small.at(&name)).unwrap();
        let error = small.update_to(image, Wish::default(), &[]).unwrap_err();
        assert!(format!("{error:#}").contains(word), "{error:#}");
        assert_same(&small.tree("machine"), &before);
        assert!(is_clean(&small.at("machine")));
    }
}

#[test]
fn a_record_that_is_damaged_is_told() {
    let disk = Disk::new(256 << 20, &[]);
    let case = Case::new(disk.join("case"));
    case.deploy();
    let index = case.at("machine/var/lib/pitstop/tree/index");
    let mut bytes = fs::read(&index).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&index, bytes).unwrap();
    let error = format!("{:#}", case.update(Wish::default()).unwrap_err());
    assert!(error.contains("is damaged"), "{error}");
}
