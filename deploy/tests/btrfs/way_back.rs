//! What can be gone back to: when it is there, and that nothing else takes its place.

use super::common::run;
use super::lab::{FSTAB, Lab, Told};
use pitstop_deploy::disk::apart;
use pitstop_deploy::update::snapshot::{self, Runs};
use pitstop_imaging::event::Silent;
use pitstop_testing::mounts::unmount;
use pitstop_trees::btrfs::SNAPSHOTS;
use std::fs;
use std::process::Command;

#[test]
fn the_way_back_is_there_once_an_update_in_place_is_decided_and_no_data_goes_with_it() {
    let lab = Lab::new(FSTAB);
    let kept = format!("top/{SNAPSHOTS}/old");
    lab.subvolume(&["create"], &["machine/var/lib/portables"]);
    let updated = lab.update_and("b", Runs::Yes, &Silent, |_| {
        // What follows, as an initramfs that is made, may be cut off.
        assert_eq!(lab.snapshots(), ["old"]);
        assert_eq!(lab.read(&format!("{kept}/usr/file")), "a");
        Ok(())
    });
    updated.unwrap();
    // A subvolume within it is one still, and what somebody puts there is not removed.
    let within = format!("{kept}/var/lib/portables/mine");
    fs::create_dir(lab.at(&within)).unwrap();
    let id = lab.id(&kept);
    let told = Told::default();
    let (_, swapped) = lab.update_and("a", Runs::No, &told, |_| Ok(())).unwrap();
    assert_eq!(swapped, Some("@".into()));
    let told = told.0.into_inner().unwrap();
    assert!(
        told.contains("subvolumes with files lie within it"),
        "{told}"
    );
    assert_eq!(lab.snapshots(), ["old".to_owned(), format!("old-{id}")]);
    assert_eq!(lab.read(&format!("{kept}/usr/file")), "b");
    let aside = format!("top/{SNAPSHOTS}/old-{id}");
    assert!(lab.at(&aside).join("var/lib/portables/mine").exists());
}

#[test]
fn what_was_kept_of_another_system_is_neither_gone_back_to_nor_removed() {
    let lab = Lab::new(FSTAB);
    assert_eq!(lab.update("b"), Some("@".into()));
    let id = lab.id(&format!("top/{SNAPSHOTS}/old"));
    unmount(&lab.at("machine")).unwrap();
    fs::rename(lab.at("top/@"), lab.at("top/@first")).unwrap();
    lab.subvolume(&["create"], &["top/@"]);
    lab.mount("subvol=@", "machine");
    lab.case.deploy();
    let (root, second) = (lab.root(), lab.id("top/@"));
    let error = apart(|| snapshot::rollback(&root, &Silent)).unwrap_err();
    assert!(
        format!("{error:#}").contains("there is nothing to go back to"),
        "{error:#}"
    );
    assert_eq!(
        (lab.id("top/@"), lab.snapshots()),
        (second.clone(), vec!["old".to_owned()])
    );
    assert_eq!(lab.update("b"), Some("@".into()));
    assert_eq!(lab.snapshots(), ["old".to_owned(), format!("old-{id}")]);
    assert_eq!(lab.id(&format!("top/{SNAPSHOTS}/old")), second);
    let first = format!("top/{SNAPSHOTS}/old-{id}/etc/mine");
    assert_eq!(lab.read(&first), "mine");
}

#[test]
fn what_is_mounted_where_the_other_one_has_no_folder_hinders_nothing() {
    let lab = Lab::new(FSTAB);
    fs::create_dir(lab.at("top/data")).unwrap();
    fs::write(lab.at("top/data/file"), "data").unwrap();
    fs::create_dir(lab.at("machine/run")).unwrap();
    run(Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(lab.at("machine/run")));
    let bind = |on: &str| {
        fs::create_dir(lab.at(on)).unwrap();
        run(Command::new("mount")
            .arg("--bind")
            .args([lab.at("top/data"), lab.at(on)]));
    };
    bind("machine/run/user");
    assert_eq!(lab.update("b"), Some("@".into()));
    assert_eq!(lab.read("machine/run/user/file"), "data");
    bind("machine/later");
    let root = lab.root();
    let restored = apart(|| snapshot::rollback(&root, &Silent)).unwrap();
    let lost = snapshot::refresh(&lab.at("machine"), &restored.path).unwrap();
    assert!(
        lost.len() == 1 && lost[0].contains("machine/later"),
        "{lost:?}"
    );
    assert_eq!(
        (
            lab.read("machine/usr/file"),
            lab.read("machine/run/user/file")
        ),
        ("a".into(), "data".into())
    );
}

#[test]
fn an_update_that_is_begun_anew_may_be_cut_off_in_between() {
    let lab = Lab::new(FSTAB);
    // Its snapshot is removed, and the note that it was under way is not.
    let folder = lab.at("top").join(SNAPSHOTS);
    fs::create_dir(&folder).unwrap();
    let note = format!(
        "version = 1\nroot = \"@\"\nbeside = \"new\"\nold = {}\nnew = 99999\nchanged = 1\ndefault = true\n",
        lab.id("top/@")
    );
    fs::write(folder.join("swap.toml"), note).unwrap();
    assert_eq!(lab.update("b"), Some("@".into()));
    assert_eq!(
        (lab.read("machine/usr/file"), lab.snapshots()),
        ("b".into(), vec!["old".to_owned()])
    );
}

#[test]
fn what_a_hook_has_update_grub_write_names_the_root_and_not_the_snapshot() {
    let lab = Lab::new(FSTAB);
    let written = format!(
        "linux /{SNAPSHOTS}/new/boot/vmlinuz root=LABEL=x rootflags=subvol={SNAPSHOTS}/new\n"
    );
    let updated = lab.update_and("b", Runs::No, &Silent, |root| {
        fs::create_dir(root.join("boot/grub"))?;
        Ok(fs::write(root.join("boot/grub/grub.cfg"), &written)?)
    });
    assert_eq!(updated.unwrap().1, Some("@".into()));
    assert_eq!(
        lab.read("top/@/boot/grub/grub.cfg"),
        "linux /@/boot/vmlinuz root=LABEL=x rootflags=subvol=@\n"
    );
}

#[test]
fn what_a_system_runs_from_until_its_next_start_is_not_removed() {
    let lab = Lab::new(FSTAB);
    assert_eq!(lab.update("b"), Some("@".into()));
    let root = lab.root();
    apart(|| snapshot::rollback(&root, &Silent)).unwrap();
    // The one that starts next is updated before that, where it is mounted besides.
    let (runs, id) = (lab.at("runs"), lab.id("machine"));
    fs::create_dir(&runs).unwrap();
    run(Command::new("mount")
        .arg("--bind")
        .args([&lab.at("machine"), &runs]));
    unmount(&lab.at("machine")).unwrap();
    lab.mount("subvol=@", "machine");
    let told = Told::default();
    let updated = lab.update_and("b", Runs::No, &told, |_| Ok(()));
    assert_eq!(updated.unwrap().1, Some("@".into()));
    assert_eq!(lab.snapshots(), ["old".to_owned(), format!("old-{id}")]);
    let told = told.0.into_inner().unwrap();
    assert!(told.contains("it is mounted"), "{told}");
    assert_eq!(
        (lab.id("runs"), lab.read("runs/usr/file")),
        (id, "b".into())
    );
    unmount(&runs).unwrap();
}
