//! What cannot be done is refused before the first write.

use crate::common::disk_file::DiskFile;
use crate::common::{Golden, MIB, deploy, planned, tree};
use pitstop_deploy::disk::{Deployment, Firmware};
use pitstop_deploy::passphrase::Passphrase;
use pitstop_deploy::wishes::BootWish;
use pitstop_imaging::disk::LoopDevice;
use pitstop_imaging::layout::Layout;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

#[test]
fn what_cannot_be_done_is_refused_with_the_disk_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.tar.gz");
    Golden {
        everything: false,
        ..Golden::gpt("ext4")
    }
    .capture(&image);
    let refused = |size: u64, why: &str, change: &dyn Fn(&mut Deployment)| {
        let disk = DiskFile::new(size);
        let before = [b'x'; 4096];
        let file = fs::File::options().write(true).open(&disk.path).unwrap();
        file.write_all_at(&before, 0).unwrap();
        let error = deploy(&image, &disk.path, |deployment| change(deployment)).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains(why), "{why}: {error}");
        assert_eq!(disk.bytes(0, 4096), before);
        assert_eq!(fs::metadata(&disk.path).unwrap().len(), size);
    };
    let layout = |text: &str| Layout::parse(&format!("version = 1\n{text}")).unwrap();
    refused(50 * MIB, "would be at bytes", &|_| {});
    refused(62 * MIB, "take", &|_| {});
    refused(900 * MIB, "mkfs.ext4: exit status", &|deployment| {
        let mut own = Golden::gpt("ext4").layout();
        own.partitions[2].features = vec!["from_the_future".into()];
        own.partitions[2].size = "fill".into();
        deployment.layout = Some(own);
    });
    let root = "[[partition]]\ntype = \"linux\"\nsize = \"fill\"\nfilesystem = \"ext4\"\n";
    for (layout, why) in [
        (
            layout(&format!("table = \"gpt\"\n{root}")),
            "needs a partition of type bios-boot",
        ),
        (
            layout(&format!("table = \"mbr\"\n{root}")),
            "installed on a disk with a gpt table, and this one gets mbr",
        ),
        (
            layout(&format!(
                "table = \"gpt\"\n[[partition]]\ntype = \"bios-boot\"\nsize = \"1MiB\"\n{root}"
            )),
            "looks for /boot/grub on partition 3, and it is on partition 2 here",
        ),
        (
            layout(&format!(
                "table = \"gpt\"\n{root}[[partition]]\ntype = \"lvm\"\nsize = \"1MiB\"\n"
            )),
            "partition 2 of the layout is for lvm",
        ),
        (
            layout("table = \"gpt\""),
            "no partition of the layout is for the root",
        ),
    ] {
        refused(900 * MIB, why, &|deployment| {
            deployment.layout = Some(layout.clone());
        });
    }
    refused(900 * MIB, "no host name", &|deployment| {
        deployment.hostname = Some("a b".into());
    });
    refused(900 * MIB, "there is no loader", &|deployment| {
        deployment.firmware = Firmware::Uefi;
        deployment.layout = Some(layout(&format!(
            "table = \"gpt\"\n[[partition]]\ntype = \"efi\"\nsize = \"40MiB\"\nfilesystem = \"vfat\"\nmount = \"/efi\"\n{}",
            root.replace("filesystem", "mount = \"/\"\nfilesystem")
        )));
    });
    let plan = planned(&image, &DiskFile::new(900 * MIB).path, |_| {}).unwrap();
    for line in [
        "everything on it is lost",
        "3 linux, 841.0 MiB, ext4: /",
        "by BIOS: the tree's GRUB, as it is",
        "by UEFI: EFI/debian/shimx64.efi on partition 2",
    ] {
        assert!(plan.contains(line), "{line}: {plan}");
    }
}

#[test]
fn a_kernel_that_would_wait_for_another_root_is_refused_and_one_that_might_is_told() {
    const OLD: &str = "UUID=11111111-2222-4333-8444-555555555555";
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.tar.gz");
    let disk = DiskFile::new(900 * MIB);
    let golden = |root| Golden {
        everything: false,
        root,
        ..Golden::gpt("ext4")
    };
    for root in [
        "/dev/mapper/vg-root",
        "/dev/sda2",
        "UUID=of-a-disk-that-is-gone",
    ] {
        golden(root).capture(&image);
        let error = planned(&image, &disk.path, |_| {}).unwrap_err().to_string();
        let told =
            format!("/boot/grub/grub.cfg has root={root}, which is not the root of this disk");
        assert!(error.contains(&told), "{error}");
        let none = |deployment: &mut Deployment| deployment.boot = BootWish::None;
        assert!(planned(&image, &disk.path, none).is_ok());
    }
    for (root, told) in [("/dev/sda3", true), ("LABEL=root", false), (OLD, false)] {
        golden(root).capture(&image);
        // New identifiers come to the configuration as well.
        let plan = planned(&image, &disk.path, |it| it.new_ids = root == OLD).unwrap();
        assert_eq!(
            plan.contains("note: /boot/grub/grub.cfg has root="),
            told,
            "{plan}"
        );
    }
}

#[test]
fn a_grub_whose_folder_is_elsewhere_on_its_partition_is_not_taken_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.tar.gz");
    Golden {
        table: "mbr",
        has_boot: true,
        everything: false,
        ..Golden::gpt("ext4")
    }
    .capture(&image);
    // /boot was the first partition, and the root is it now.
    let layout = "version = 1\ntable = \"mbr\"\n[[partition]]\ntype = \"linux\"\nsize = \"fill\"\nfilesystem = \"ext4\"\nmount = \"/\"\n";
    let disk = DiskFile::new(900 * MIB);
    let planned = planned(&image, &disk.path, |deployment| {
        deployment.layout = Some(Layout::parse(layout).unwrap());
    });
    let error = planned.unwrap_err().to_string();
    assert!(
        error.contains(
            "its GRUB looks for /grub on partition 1, and /boot/grub is /boot/grub there now"
        ),
        "{error}"
    );
}

const LUKS: &str = "version = 1\ntable = \"gpt\"\n[[partition]]\ntype = \"bios-boot\"\nsize = \"1MiB\"\n\
    [[partition]]\ntype = \"linux\"\nsize = \"200MiB\"\nfilesystem = \"ext4\"\nmount = \"/boot\"\n\
    [[partition]]\ntype = \"luks\"\nsize = \"fill\"\n\
    [[luks]]\nname = \"system\"\non = 3\nfilesystem = \"ext4\"\nmount = \"/\"\n";

#[test]
fn luks_that_could_not_be_made_or_opened_is_refused_with_the_disk_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.tar.gz");
    Golden {
        everything: false,
        ..Golden::gpt("ext4")
    }
    .capture(&image);
    let key = folder.path().join("key");
    fs::write(&key, "a passphrase\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let passphrase = || Some(Passphrase::open(&key).unwrap());
    let size = 900 * MIB;
    let disk = DiskFile::new(size);
    let before = [b'x'; 4096];
    let file = fs::File::options().write(true).open(&disk.path).unwrap();
    file.write_all_at(&before, 0).unwrap();
    let device = LoopDevice::new(&disk.path, &(0..size), 512).unwrap();
    let layout = |text: &str| Some(Layout::parse(text).unwrap());
    let unused = LUKS.split("[[luks]]").next().unwrap();
    let unused = unused.replace("/boot", "/");
    let no_boot = LUKS.replace("mount = \"/boot\"", "mount = \"/srv\"");
    for (text, passphrase, why) in [
        (LUKS, None, "and there is no passphrase for it"),
        (
            unused.as_str(),
            None,
            "partition 3 of the layout is for luks, and no [[luks]] says",
        ),
        (
            no_boot.as_str(),
            passphrase(),
            "/boot would be on LUKS system, which what starts the system cannot read",
        ),
        (LUKS, passphrase(), "the tree has no cryptsetup: install"),
    ] {
        let error = deploy(&image, device.path(), |deployment| {
            deployment.layout = layout(text);
            deployment.passphrase.clone_from(&passphrase);
        });
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains(why), "{why}: {error}");
        assert_eq!(disk.bytes(0, 4096), before);
    }
    // Nobody would see partitions of it.
    let error = deploy(&image, device.path(), |_| {}).unwrap_err();
    assert!(
        error.to_string().contains("losetup --partscan"),
        "{error:#}"
    );
    assert_eq!(disk.bytes(0, 4096), before);
    device.finish().unwrap();
    for (text, why) in [
        (None, "nothing would be encrypted"),
        (Some(LUKS), "is a file, and arrays, LUKS and volumes"),
    ] {
        let error = deploy(&image, &disk.path, |deployment| {
            deployment.layout = text.and_then(layout);
            deployment.passphrase = passphrase();
        });
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains(why), "{why}: {error}");
    }
    assert_eq!(disk.bytes(0, 4096), before);
}

/// Fedora's own layout: `/boot` is apart, and what GRUB reads there is in its place on any root.
#[test]
fn a_kernel_that_is_told_of_a_subvolume_wants_a_root_that_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.tar.gz");
    Golden {
        everything: false,
        has_boot: true,
        root: "UUID=11111111-2222-4333-8444-555555555555 rootflags=subvol=@",
        ..Golden::gpt("btrfs")
    }
    .capture(&image);
    let disk = DiskFile::new(900 * MIB);
    // Another test's disk may have the tree's own at this moment, which Btrfs does not suffer.
    planned(&image, &disk.path, |deployment| deployment.new_ids = true).unwrap();
    let other = |deployment: &mut Deployment| {
        let mut layout = Golden {
            has_boot: true,
            ..Golden::gpt("ext4")
        }
        .layout();
        layout.partitions[3].size = "fill".into();
        layout.partitions[3].mount = "/".into();
        deployment.layout = Some(layout);
    };
    let error = planned(&image, &disk.path, other).unwrap_err().to_string();
    assert!(
        error.contains("grub.cfg has rootflags=subvol=@, which is not the root of this disk"),
        "{error}"
    );
    planned(&image, &disk.path, |deployment| {
        other(deployment);
        deployment.boot = BootWish::None;
    })
    .unwrap();
}

#[test]
fn a_mount_point_that_is_no_folder_of_the_tree_is_refused_with_the_disk_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.tar.gz");
    let root = folder.path().join("root");
    for it in ["etc", "srv"] {
        fs::create_dir_all(root.join(it)).unwrap();
    }
    fs::write(root.join("etc/fstab"), "").unwrap();
    symlink("srv", root.join("data")).unwrap();
    tree::capture_to(&root, &image, &tree::options()).unwrap();
    let disk = DiskFile::new(900 * MIB);
    let two = |mount: &str, more: &str| {
        let text = format!(
            "version = 1\ntable = \"gpt\"\n[[partition]]\ntype = \"linux\"\nsize = \"100MiB\"\nfilesystem = \"ext4\"\n\
             mount = \"{mount}\"\n{more}\n[[partition]]\ntype = \"linux\"\nsize = \"fill\"\nfilesystem = \"ext4\"\nmount = \"/\"\n{more}\n"
        );
        let made = planned(&image, &disk.path, |deployment| {
            deployment.layout = Some(Layout::parse(&text).unwrap());
            deployment.boot = BootWish::None;
        });
        made.map(|_| ()).map_err(|error| format!("{error:#}"))
    };
    two("/new/place", "").unwrap();
    let long = format!("/{}", "n".repeat(256));
    let uuid = "uuid = \"11111111-2222-4333-8444-666666666666\"";
    for (mount, more, why) in [
        ("/data/deep", "", "/data is a symlink in the tree, to srv"),
        (
            "/etc/fstab",
            "",
            "/etc/fstab is no folder in the tree: it is a file",
        ),
        ("/a\\u0000b", "", "is no place for a filesystem"),
        (&long, "", "is no place for a filesystem"),
        ("/srv", uuid, "have the same uuid"),
    ] {
        let error = two(mount, more).unwrap_err();
        assert!(error.contains(why), "{mount}: {error}");
    }
}
