//! What a new system has no room or no place for: refused before the first write where it can be known, else told with the numbers.

use crate::common::disk_file::DiskFile;
use crate::common::{MIB, deploy, planned, tree};
use pitstop_deploy::disk::Deployment;
use pitstop_deploy::hooks::Hook;
use pitstop_deploy::overrides::{From, Overlay, Owners};
use pitstop_deploy::wishes::BootWish;
use pitstop_imaging::layout::Layout;
use pitstop_testing::mounts::Mounted;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const ROOT: &str =
    "[[partition]]\ntype = \"linux\"\nsize = \"fill\"\nfilesystem = \"ext4\"\nmount = \"/\"\n";
const ESP: &str = "[[partition]]\ntype = \"efi\"\nsize = \"40MiB\"\nfilesystem = \"vfat\"\nmount = \"/boot/efi\"\n";

/// A small system.
struct System {
    folder: tempfile::TempDir,
    image: PathBuf,
}

impl System {
    /// One with what `more` adds to its folder.
    fn with(more: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("system");
        for path in ["boot/efi", "etc", "run", "sys", "tmp", "usr/bin", "var/lib"] {
            fs::create_dir_all(at.join(path)).unwrap();
        }
        fs::write(at.join("etc/fstab"), "").unwrap();
        fs::write(at.join("usr/bin/sh"), "#!").unwrap();
        let all = fs::Permissions::from_mode(0o755);
        fs::set_permissions(at.join("usr/bin/sh"), all).unwrap();
        symlink("usr/bin", at.join("bin")).unwrap();
        more(&at);
        let image = folder.path().join("image.tar.gz");
        tree::capture_to(&at, &image, &tree::options()).unwrap();
        Self { folder, image }
    }

    /// The error of a deploy that is to leave the disk as it was.
    fn refused(&self, layout: &str, change: impl FnOnce(&mut Deployment)) -> String {
        let disk = DiskFile::new(200 * MIB);
        let error = deploy(&self.image, &disk.path, |deployment| {
            asked(deployment, layout);
            change(deployment);
        });
        assert_eq!(disk.bytes(0, 4096), [0; 4096]);
        format!("{:#}", error.unwrap_err())
    }
}

fn asked(deployment: &mut Deployment, partitions: &str) {
    let text = format!("version = 1\ntable = \"gpt\"\n{partitions}");
    deployment.layout = Some(Layout::parse(&text).unwrap());
    deployment.boot = BootWish::None;
}

#[test]
fn what_the_new_filesystems_do_not_take_is_refused_before_a_byte_is_written() {
    let long = "x/".repeat(1500);
    let system = System::with(|at| symlink(&long, at.join("etc/long")).unwrap());
    for (filesystem, why) in [
        (
            "ext4",
            "has 3000 bytes, and ext4 with blocks of 1024 bytes takes 1023",
        ),
        ("xfs", "has 3000 bytes, and xfs takes 1023"),
    ] {
        let layout = ROOT.replace("ext4", filesystem);
        let layout = layout.replace("\"fill\"", "\"190MiB\"");
        // No XFS is so small.
        let layout = if filesystem == "xfs" {
            layout.replace("190MiB", "350MiB")
        } else {
            layout
        };
        let disk = DiskFile::new(400 * MIB);
        let error = deploy(&system.image, &disk.path, |it| asked(it, &layout)).unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains(why) && error.contains("/etc/long"),
            "{error}"
        );
        assert_eq!(disk.bytes(0, 4096), [0; 4096]);
    }
    let system = System::with(|at| {
        fs::create_dir(at.join("srv")).unwrap();
        fs::write(at.join("etc/one"), "").unwrap();
        fs::hard_link(at.join("etc/one"), at.join("srv/other")).unwrap();
    });
    let srv = ROOT.replace("\"/\"", "\"/srv\"").replace("fill", "50MiB");
    let error = system.refused(&(srv + ROOT), |_| {});
    assert!(
        error.contains("/srv/other and /etc/one of the tree are names of one file"),
        "{error}"
    );
}

#[test]
fn a_fat_that_would_be_full_is_refused_before_a_byte_is_written() {
    let layout = format!("{ESP}{ROOT}");
    // Its holes are none on a FAT.
    let system = System::with(|at| {
        let file = File::create(at.join("boot/efi/large")).unwrap();
        file.set_len(45 * MIB).unwrap();
    });
    let error = system.refused(&layout, |_| {});
    assert!(
        error.contains("/boot/efi of the new system, vfat on partition 1: its files take 45"),
        "{error}"
    );
    let system = System::with(|at| {
        for number in 0..250 {
            let name = format!("boot/efi/an entry takes thirteen letters {number}");
            fs::write(at.join(name), "").unwrap();
        }
    });
    let error = system.refused(&layout, |_| {});
    assert!(
        error.contains("its top folder would have 1000 entries, of which a long name takes several, and there are 512"),
        "{error}"
    );
}

#[test]
fn a_hook_that_nothing_in_the_tree_runs_is_refused_before_a_byte_is_written() {
    let system = System::with(|_| {});
    let hook = |script: &[u8]| Hook {
        name: "10-join".into(),
        script: script.into(),
    };
    let bash = || hook(b"#!/bin/bash\n");
    let error = system.refused(ROOT, |it| it.hooks = vec![bash()]);
    assert!(
        error.contains("the hook 10-join is run by /bin/bash, which "),
        "{error}"
    );
    let dynamic = fs::read("/usr/bin/env").unwrap();
    let error = system.refused(ROOT, |it| it.hooks = vec![hook(&dynamic)]);
    assert!(error.contains("the hook 10-join is run by /lib"), "{error}");
    // The one before may install it.
    let disk = DiskFile::new(200 * MIB);
    let plan = planned(&system.image, &disk.path, |it| {
        asked(it, ROOT);
        it.hooks = vec![hook(b"#!/bin/sh\n"), bash()];
    });
    let plan = plan.unwrap();
    assert!(
        plan.contains("note: the hook 10-join is run by /bin/bash"),
        "{plan}"
    );
}

#[test]
fn a_disk_in_a_file_where_there_is_no_room_for_the_tree_is_refused_before_a_byte_is_written() {
    let system = System::with(|at| {
        fs::write(at.join("etc/large"), vec![b'x'; 9 << 20]).unwrap();
    });
    let folder = tempfile::tempdir().unwrap();
    let _small = Mounted::new(&["-t", "tmpfs", "-o", "size=8M", "none"], folder.path());
    let disk = folder.path().join("disk");
    File::create(&disk).unwrap().set_len(200 * MIB).unwrap();
    let error = deploy(&system.image, &disk, |it| asked(it, ROOT)).unwrap_err();
    let error = format!("{error:#}");
    let told = format!(
        "and the filesystem that {} is on has 8.0 MiB free",
        disk.display()
    );
    assert!(error.contains(&told), "{error}");
    let mut first = [1; 4096];
    let file = File::open(&disk).unwrap();
    file.read_exact_at(&mut first, 0).unwrap();
    assert_eq!(first, [0; 4096]);
}

#[test]
fn a_system_that_becomes_full_is_told_with_its_mount_point_and_the_numbers() {
    let system = System::with(|_| {});
    let layer = system.folder.path().join("layer");
    fs::create_dir(&layer).unwrap();
    fs::write(layer.join("large"), vec![b'x'; 40 << 20]).unwrap();
    let disk = DiskFile::new(40 * MIB);
    let error = deploy(&system.image, &disk.path, |it| {
        asked(it, ROOT);
        it.overrides = vec![Overlay {
            name: "layer".into(),
            from: From::Folder(layer.clone()),
            owners: Owners::Root,
        }];
    });
    let error = format!("{:#}", error.unwrap_err());
    for told in [
        "the new system has no room left: / (ext4 on partition 1) has ",
        " inodes free, and of the tree it takes ",
        "files: ",
    ] {
        assert!(error.contains(told), "{told}: {error}");
    }
    // What is around a disk in a file may be full as well.
    let folder = tempfile::tempdir().unwrap();
    let _small = Mounted::new(&["-t", "tmpfs", "-o", "size=12M", "none"], folder.path());
    let path = folder.path().join("disk");
    File::create(&path).unwrap().set_len(200 * MIB).unwrap();
    let error = deploy(&system.image, &path, |it| {
        asked(it, ROOT);
        it.overrides = vec![Overlay {
            name: "layer".into(),
            from: From::Folder(layer.clone()),
            owners: Owners::Root,
        }];
    });
    let error = format!("{:#}", error.unwrap_err());
    let told = format!("the filesystem that {} is on has ", path.display());
    assert!(error.contains(&told), "{error}");
}
